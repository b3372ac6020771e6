package plugins_test

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"

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

// wanted is render.yaml of a golden file.
type wanted struct {
	Model   string `yaml:"model"`
	Fw      string `yaml:"firmware"`
	MAC     string `yaml:"mac"`
	ID      string `yaml:"id"`
	BaseURL string `yaml:"base_url"`
	Guest   bool   `yaml:"guest"`
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
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	plugin := filepath.Base(filepath.Dir(filepath.Dir(name)))
	r := goldenInput(t, plugin, archive)
	rendered, err := set.Render(context.Background(), r)
	if err != nil {
		t.Fatal(err)
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
	out.Files = append(out.Files, withs(t, set, archive, r, rendered)...)
	got := txtar.Format(out)
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(txtar.Format(archive)), string(got)); diff != "" {
		t.Errorf("run with -update after reading this (-golden +rendered):\n%s", diff)
	}
}

func goldenInput(t *testing.T, plugin string, archive *txtar.Archive) commands.Render {
	t.Helper()
	var w wanted
	settings := domain.Settings{}
	files := map[string][]byte{}
	for _, f := range archive.Files {
		files[f.Name] = f.Data
	}
	dec := yaml.NewDecoder(bytes.NewReader(files["render.yaml"]))
	dec.KnownFields(true)
	if err := dec.Decode(&w); err != nil {
		t.Fatal(err)
	}
	var err error
	if b, ok := files["settings.json"]; ok {
		if settings, err = domain.ParseSettings(b); err != nil {
			t.Fatal(err)
		}
		if err := settings.ValidateMerged(); err != nil && !w.Guest {
			t.Fatal(err)
		}
	}
	r := commands.Render{Plugin: commands.PluginRef{Name: plugin}, Model: w.Model, Fw: w.Fw, ID: domain.DeviceID(w.ID),
		Settings: settings, BaseURL: w.BaseURL, Guest: w.Guest}
	if w.MAC != "" {
		if r.MAC, err = domain.ParseMAC(w.MAC); err != nil {
			t.Fatal(err)
		}
	}
	return r
}
