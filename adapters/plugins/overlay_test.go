package plugins_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"ledgerline/adapters/plugins"
	"ledgerline/adapters/plugins/wire"
	"ledgerline/commands"
)

// In every family an administrator's own parameter changes what the template wrote, and nothing else; its value is in no
// skeleton.
func TestOwnParametersInEveryFamily(t *testing.T) {
	eachPackage(t, func(t *testing.T, set *plugins.Set, p *plugins.Package) {
		tried := 0
		for _, m := range someModels(p) {
			s := full(harmless)
			for _, f := range render(t, set, request(p, m, "", s, false)).Files {
				if plugins.BootFile(p, request(p, m, "", s, false), f.Path) {
					continue // it names files, and takes no parameters
				}
				before, err := parseBack(p, f.Path, f.Data, false)
				if err != nil {
					t.Fatal(err)
				}
				for i := 0; i < len(before); i += 1 + len(before)/3 {
					key := before[i].Key
					s["X_parameters"] = map[string]any{p.Name: map[string]any{key: "a\nb=<c>&\"own"}}
					out := render(t, set, request(p, m, "", s, false))
					changed := false
					for _, g := range out.Files {
						if bytes.Contains(g.Skeleton, []byte("own\"")) || bytes.Contains(g.Skeleton, []byte("b=<c>")) {
							t.Errorf("%s: the skeleton of %s shows the value of %s", m, g.Path, key)
						}
						after, err := parseBack(p, g.Path, g.Data, false)
						if err != nil {
							t.Errorf("%s: with %s: %s: %v", m, key, g.Path, err)
						}
						changed = changed || slices.ContainsFunc(after, func(e wire.Entry) bool { return e.Key == key && strings.Contains(e.Value, "own") })
						if g.Path == f.Path && len(after) != len(before) {
							t.Errorf("%s: with %s %s has %d settings, not %d", m, key, g.Path, len(after), len(before))
						}
					}
					tried++
					if told := slices.ContainsFunc(out.Warnings, func(w commands.Warning) bool { return w.Setting == "X_parameters" }); changed == told {
						t.Errorf("%s: %s changed %v, told %v", m, key, changed, told)
					}
				}
			}
		}
		if tried == 0 {
			t.Error("no parameter was tried")
		}
	})
}

// Own parameters go by plugin and model, the model's over the plugin's; those no file has are added, with a warning; guests
// have none; what cannot be a name is left out.
func TestOwnParameters(t *testing.T) {
	set := loadBuiltin(t)
	p, err := set.Package(commands.PluginRef{Name: "yealink"})
	if err != nil {
		t.Fatal(err)
	}
	s := full(harmless)
	s["X_parameters"] = map[string]any{
		"yealink":            map[string]any{"features.own": 1, "lang.gui": "Klingon", "bad name\n": "x"},
		"yealink/SIP-T46S":   map[string]any{"features.own": "model"},
		"yealink/T19P_E2":    map[string]any{"features.own": "other"},
		"snom":               map[string]any{"features.snom": "x"},
		"yealink/No-Such-00": map[string]any{"features.own": "unknown"},
	}
	out := render(t, set, request(p, "T46S", "", s, false))
	var text strings.Builder
	for _, f := range out.Files {
		text.Write(f.Data)
	}
	for _, want := range []string{"\nfeatures.own = model\n", "\nlang.gui = Klingon\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(text.String(), "features.snom") || strings.Contains(text.String(), "bad name") || strings.Count(text.String(), "lang.gui") != 1 {
		t.Error("more than was asked for")
	}
	told := 0
	for _, w := range out.Warnings {
		if w.Setting == "X_parameters" {
			told++
		}
	}
	if told != 2 {
		t.Errorf("warned of %d: %v", told, out.Warnings)
	}
	for _, f := range render(t, set, request(p, "T46S", "", s, true)).Files {
		if bytes.Contains(f.Data, []byte("features.own")) {
			t.Error("a guest has it")
		}
	}
}
