package plugins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Report is what came of testing a package.
type Report struct {
	Passed, Failed []string
}

func (r *Report) note(what string, wrong ...string) {
	if len(wrong) == 0 {
		r.Passed = append(r.Passed, what)
		return
	}
	r.Failed = append(r.Failed, what+": "+strings.Join(wrong, "\n      "))
}

// Test runs a package's own cases (testdata/*.txtar) and the Checks over the package in a directory, or in an archive. With
// update, cases are written as they come out, in a directory. Errors are those of loading it.
func Test(ctx context.Context, name string, update bool) (r Report, err error) {
	dir := name
	if info, err := os.Stat(name); err != nil {
		return r, fmt.Errorf("read the package: %w", err)
	} else if !info.IsDir() {
		b, err := os.ReadFile(name)
		if err != nil {
			return r, fmt.Errorf("read the archive: %w", err)
		}
		u, err := unpackAll(b)
		if err != nil {
			return r, err
		}
		if dir, err = os.MkdirTemp("", "ledgerline-plugin-"); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		if _, err := u.load(dir); err != nil {
			return r, err
		}
	}
	p, err := loadPackage(os.DirFS(dir), ".")
	if err != nil {
		return r, err
	}
	set := newSet(p)
	cases, err := filepath.Glob(filepath.Join(dir, "testdata", "*.txtar"))
	if err != nil {
		return r, err
	}
	for _, file := range cases {
		b, err := os.ReadFile(file)
		if err != nil {
			return r, fmt.Errorf("read a case: %w", err)
		}
		what := "case " + strings.TrimSuffix(filepath.Base(file), ".txtar")
		got, err := set.RunCase(ctx, p.Ref(), b)
		switch {
		case err != nil:
			r.note(what, err.Error())
		case bytes.Equal(got, b):
			r.note(what)
		case update:
			if err := os.WriteFile(file, got, 0o644); err != nil {
				return r, fmt.Errorf("write a case: %w", err)
			}
			r.note(what + ", written anew")
		default:
			r.note(what, string(diff.Diff("case", b, "rendered", got)))
		}
	}
	for _, c := range Checks {
		r.note(c.Name, c.Run(ctx, set, p)...)
	}
	return r, ctx.Err()
}

// RunCase renders what a case asks for and answers the case as it comes out: equal to what was given when all is as it was.
func (s *Set) RunCase(ctx context.Context, plugin commands.PluginRef, text []byte) ([]byte, error) {
	archive := txtar.Parse(text)
	r, err := caseInput(plugin, archive)
	if err != nil {
		return nil, err
	}
	rendered, err := s.Render(ctx, r)
	if err != nil {
		return nil, err
	}
	out := &txtar.Archive{Comment: archive.Comment}
	for _, f := range archive.Files {
		if f.Name == "render.yaml" || f.Name == "settings.json" {
			out.Files = append(out.Files, f)
		}
	}
	for _, f := range rendered.Files {
		data := f.Data
		if len(f.Aliases) > 0 {
			data = append([]byte("; also "+strings.Join(f.Aliases, " ")+"\n"), data...)
		}
		out.Files = append(out.Files, txtar.File{Name: "out/" + f.Path, Data: data})
	}
	if len(rendered.Warnings) > 0 {
		var b bytes.Buffer
		for _, w := range rendered.Warnings {
			b.WriteString(w.Setting + ": " + w.Text + "\n")
		}
		out.Files = append(out.Files, txtar.File{Name: "warnings", Data: b.Bytes()})
	}
	more, err := s.variants(ctx, archive, r, rendered)
	out.Files = append(out.Files, more...)
	return txtar.Format(out), err
}

// caseInput reads render.yaml and settings.json of a case.
func caseInput(plugin commands.PluginRef, archive *txtar.Archive) (r commands.Render, err error) {
	var w struct {
		Model   string `yaml:"model"`
		Fw      string `yaml:"firmware"`
		MAC     string `yaml:"mac"`
		ID      string `yaml:"id"`
		BaseURL string `yaml:"base_url"`
		Guest   bool   `yaml:"guest"`
	}
	settings := domain.Settings{}
	files := map[string][]byte{}
	for _, f := range archive.Files {
		files[f.Name] = f.Data
	}
	dec := yaml.NewDecoder(bytes.NewReader(files["render.yaml"]))
	dec.KnownFields(true)
	if err := dec.Decode(&w); err != nil {
		return r, fmt.Errorf("render.yaml: %w", err)
	}
	if b, ok := files["settings.json"]; ok {
		if settings, err = domain.ParseSettings(b); err != nil {
			return r, fmt.Errorf("settings.json: %w", err)
		}
		if err := settings.ValidateMerged(); err != nil && !w.Guest {
			return r, fmt.Errorf("settings.json: %w", err)
		}
	}
	r = commands.Render{Plugin: plugin, Model: w.Model, Fw: w.Fw, ID: domain.DeviceID(w.ID), Settings: settings, BaseURL: w.BaseURL, Guest: w.Guest}
	if w.MAC != "" {
		r.MAC, err = domain.ParseMAC(w.MAC)
	}
	return r, err
}

// variants are the entries with/NAME.json of a case, settings laid over the case's (null: none at all), each followed by
// with/NAME: the lines that then differ.
func (s *Set) variants(ctx context.Context, archive *txtar.Archive, r commands.Render, base commands.Rendered) (out []txtar.File, err error) {
	for _, f := range archive.Files {
		name, ok := strings.CutSuffix(f.Name, ".json")
		if !ok || !strings.HasPrefix(name, "with/") {
			continue
		}
		over := r
		if over.Settings, err = layOver(r.Settings, f.Data); err != nil {
			return out, fmt.Errorf("%s: %w", name, err)
		}
		rendered, err := s.Render(ctx, over)
		if err != nil {
			return out, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, f, txtar.File{Name: name, Data: differences(base, rendered)})
	}
	return out, nil
}

func layOver(base domain.Settings, data []byte) (domain.Settings, error) {
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
		return nil, nil
	}
	over, err := domain.ParseSettings(data)
	if err != nil {
		return nil, err
	}
	merged := domain.Merge(base, over)
	return merged, merged.ValidateMerged()
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
