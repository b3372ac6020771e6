package plugins_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"ledgerline/adapters/plugins"
	"ledgerline/commands"
	"ledgerline/domain"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func loadBuiltin(t testing.TB) *plugins.Set {
	t.Helper()
	set, err := plugins.Load(plugins.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// Every testdata/*.txtar of every built-in package: settings in, files and warnings out. -update rewrites.
func TestGolden(t *testing.T) {
	set := loadBuiltin(t)
	names, err := filepath.Glob("builtin/*/testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(name, "builtin/"), ".txtar"), func(t *testing.T) {
			golden(t, set, name)
		})
	}
}

func golden(t *testing.T, set *plugins.Set, name string) {
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	got, err := set.RunCase(t.Context(), commands.PluginRef{Name: filepath.Base(filepath.Dir(filepath.Dir(name)))}, want)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(want, got) {
		t.Errorf("run with -update after reading this (-golden +rendered):\n%s", cmp.Diff(string(want), string(got)))
	}
}

func goldenInput(t *testing.T, plugin string, archive *txtar.Archive) commands.Render {
	t.Helper()
	r, err := plugins.CaseInput(commands.PluginRef{Name: plugin}, archive)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func layOver(t *testing.T, name string, base domain.Settings, data []byte) domain.Settings {
	t.Helper()
	s, err := plugins.LayOver(base, data)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return s
}
