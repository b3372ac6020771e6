package plugins_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/rogpeppe/go-internal/txtar"

	"ledgerline/adapters/plugins"
	"ledgerline/commands"
	"ledgerline/domain"
)

// withs renders a golden case once more for each of its with/<wish>.json, settings laid over settings.json (null: no settings
// at all), and shows under with/<wish> how the files differ: lines gone, lines new, warnings. A wish is a few lines so, and
// shows that it changes nothing else.
func withs(t *testing.T, set *plugins.Set, archive *txtar.Archive, r commands.Render, base commands.Rendered) []txtar.File {
	t.Helper()
	var out []txtar.File
	for _, f := range archive.Files {
		name, ok := strings.CutSuffix(f.Name, ".json")
		if !ok || !strings.HasPrefix(name, "with/") {
			continue
		}
		over := r
		over.Settings = layOver(t, name, r.Settings, f.Data)
		rendered, err := set.Render(context.Background(), over)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, f, txtar.File{Name: name, Data: differences(base, rendered)})
	}
	return out
}

func layOver(t *testing.T, name string, base domain.Settings, data []byte) domain.Settings {
	t.Helper()
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
		return nil
	}
	over, err := domain.ParseSettings(data)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	merged := domain.Merge(base, over)
	if err := merged.ValidateMerged(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return merged
}

// differences are the changed lines of each file, and the warnings that are not the base's.
func differences(base, changed commands.Rendered) []byte {
	was := map[string][]byte{}
	for _, f := range base.Files {
		was[f.Path] = f.Data
	}
	var out bytes.Buffer
	for _, f := range changed.Files {
		if lines := changedLines(was[f.Path], f.Data); lines != "" {
			out.WriteString("of " + f.Path + "\n" + lines)
		}
		delete(was, f.Path)
	}
	for _, f := range base.Files {
		if was[f.Path] != nil {
			out.WriteString("gone " + f.Path + "\n")
		}
	}
	for _, w := range changed.Warnings {
		if slices.Contains(base.Warnings, w) {
			continue
		}
		out.WriteString("! " + w.Setting + ": " + w.Text + "\n")
	}
	return out.Bytes()
}

func changedLines(a, b []byte) string {
	var out strings.Builder
	for line := range strings.Lines(string(diff.Diff("a", a, "b", b))) {
		if (line[0] == '+' || line[0] == '-') && !strings.HasPrefix(line, "+++ ") && !strings.HasPrefix(line, "--- ") {
			out.WriteString(line[:1] + " " + line[1:])
		}
	}
	return out.String()
}
