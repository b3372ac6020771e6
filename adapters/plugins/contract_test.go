package plugins_test

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins"
	"ledgerline/adapters/plugins/wire"
	"ledgerline/commands"
	"ledgerline/domain"
)

// full is settings with a value for everything in the schema, as much of it as fits one phone.
func full(text func(path string) string) domain.Settings {
	s := domain.Settings{}
	for _, d := range domain.Schema() {
		if strings.Contains(d.Path, "*") || d.Kind == domain.KindObject {
			continue
		}
		s[d.Path] = sample(d, d.Path, text)
	}
	lines := map[string]any{}
	for n := 1; n <= 3; n++ {
		lines[strconv.Itoa(n)] = below("sip_lines.*.", n, text)
	}
	keys := map[string]any{}
	for i, d := range keyTypes() {
		k := below("funckeys.*.", i+1, text)
		k["type"], k["line"] = d, 1
		keys[strconv.Itoa(i+1)] = k
	}
	keys["1-3"] = map[string]any{"type": "blf", "value": text("funckeys.1-3.value"), "label": text("funckeys.1-3.label")}
	s["sip_lines"], s["funckeys"] = lines, keys
	s["X_free"] = text("X_free")
	return s
}

func keyTypes() []string {
	for _, d := range domain.Schema() {
		if d.Path == "funckeys.*.type" {
			return d.Values
		}
	}
	return nil
}

func below(prefix string, n int, text func(string) string) map[string]any {
	m := map[string]any{}
	for _, d := range domain.Schema() {
		if name, ok := strings.CutPrefix(d.Path, prefix); ok {
			m[name] = sample(d, strings.Replace(d.Path, "*", strconv.Itoa(n), 1), text)
		}
	}
	return m
}

func sample(d domain.SettingDef, path string, text func(string) string) any {
	switch d.Kind {
	case domain.KindBool:
		return true
	case domain.KindInt:
		return min(max(d.Min, 3), d.Max)
	case domain.KindEnum:
		return d.Values[len(d.Values)-1]
	case domain.KindList:
		return []any{d.Values[0], d.Values[1]}
	case domain.KindPEMs:
		return []any{"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----"}
	case domain.KindPEM:
		return "-----BEGIN X-----\nMA==\n-----END X-----"
	case domain.KindZone:
		return "Australia/Lord_Howe"
	case domain.KindLocale:
		return "de_CH"
	case domain.KindClock:
		return "03:30"
	}
	if path == "tone_country" {
		return "FR"
	}
	return text(path)
}

func harmless(path string) string { return "v-" + strings.ReplaceAll(path, ".", "-") }

// hostile text tries to end the line, the value, the element, or the file.
var hostile = []string{
	"a\r\nfeatures.evil = 1", "a\nevil = 1\n", "a\revil=1", "\x00evil\x00", `"evil"='x'`, "</value><evil>1</evil><value>", "a&b;&lt;&evil;", "#evil", ";evil=1", "%evil%NULL%",
	"]]>", "<!--", "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>", "\u2028evil = 1", "\u0085evil = 1", "a\tb", "{{.BaseURL}}", "$mac", "\xff\xfe", "\ufffe", "   ",
	"/../../evil", "a=b=c", "évîl 漢字 🙂", "-->", "'\"><x y=\"", "\\", "\x1b[2J", "%s%n",
}

func render(t testing.TB, set *plugins.Set, r commands.Render) commands.Rendered {
	t.Helper()
	out, err := set.Render(context.Background(), r)
	if err != nil {
		t.Fatalf("%s %s %s: %v", r.Plugin.Name, r.Model, r.Fw, err)
	}
	return out
}

// request is one device of a package's model.
func request(p *plugins.Package, model, fw string, s domain.Settings, guest bool) commands.Render {
	return commands.Render{Plugin: p.Ref(), Model: model, Fw: fw, MAC: "001565aabbcc", ID: "001565aabbcc", Settings: s,
		BaseURL: "https://prov.example.net/d/0a1b2c/", Guest: guest}
}

// formats finds the format of a rendered file by its path in the table.
func keysOf(t testing.TB, p *plugins.Package, out commands.Rendered, guest bool) map[string][]string {
	t.Helper()
	keys := map[string][]string{}
	for _, f := range out.Files {
		entries, err := parseBack(p, f.Path, f.Data, guest)
		if err != nil {
			t.Fatalf("%s: %s: %v\n%s", p.Name, f.Path, err, f.Data)
		}
		keys[f.Path] = wire.Keys(entries)
	}
	return keys
}

// parseBack tries the formats of the package: a path belongs to the one whose parser takes it.
func parseBack(p *plugins.Package, path string, data []byte, guest bool) ([]wire.Entry, error) {
	var errs []string
	for _, format := range p.FormatsOf(path) {
		entries, err := wire.Parse(format, data)
		if err == nil {
			return entries, nil
		}
		errs = append(errs, err.Error())
	}
	return nil, fmt.Errorf("%s", strings.Join(errs, "; "))
}

// eachModel runs over every model of every package, with and without a firmware version of each line known.
func eachPackage(t *testing.T, f func(t *testing.T, set *plugins.Set, p *plugins.Package)) {
	set := loadBuiltin(t)
	if len(set.Packages()) == 0 {
		t.Fatal("no built-in package")
	}
	for _, p := range set.Packages() {
		t.Run(p.Name, func(t *testing.T) { f(t, set, p) })
	}
}

func TestEveryModelRendersAndParsesBack(t *testing.T) {
	eachPackage(t, func(t *testing.T, set *plugins.Set, p *plugins.Package) {
		for _, m := range append(p.Models, plugins.Model{Name: "NEW-1"}, plugins.Model{}) {
			for _, guest := range []bool{false, true} {
				for _, s := range []domain.Settings{nil, full(harmless)} {
					out := render(t, set, request(p, m.Name, "", s, guest))
					keys := keysOf(t, p, out, guest)
					checkRepeats(t, p, m.Name, keys)
					checkTable(t, p, out, guest)
				}
			}
		}
	})
}

// No key stands twice in a file, but those the package names.
func checkRepeats(t *testing.T, p *plugins.Package, model string, keys map[string][]string) {
	t.Helper()
	for path, all := range keys {
		for i := 1; i < len(all); i++ {
			if all[i] == all[i-1] && !slices.Contains(p.Repeated, all[i]) {
				t.Errorf("%s %s: %s has %s twice", p.Name, model, path, all[i])
			}
		}
	}
}

// What the phone fetches first is there: something to boot from, and a device or guest file of its own.
func checkTable(t *testing.T, p *plugins.Package, out commands.Rendered, guest bool) {
	t.Helper()
	own := 0
	for _, f := range out.Files {
		if len(f.Data) == 0 || len(f.Skeleton) == 0 || f.ContentType == "" {
			t.Errorf("%s: %s is empty or without type", p.Name, f.Path)
		}
		if strings.Contains(strings.ReplaceAll(strings.ToLower(f.Path), "_", ""), "001565aabbcc") {
			own++
		}
	}
	if own == 0 {
		t.Errorf("%s: no file of the phone's own (guest %v)", p.Name, guest)
	}
}

func TestNoTextBringsASetting(t *testing.T) {
	eachPackage(t, func(t *testing.T, set *plugins.Set, p *plugins.Package) {
		for _, m := range someModels(p) {
			want := keysOf(t, p, render(t, set, request(p, m, "", full(harmless), false)), false)
			for _, evil := range hostile {
				out := render(t, set, request(p, m, "", full(func(path string) string { return evil + path }), false))
				if got := keysOf(t, p, out, false); !reflect.DeepEqual(want, got) {
					t.Errorf("%s %s: %q changes the keys:\n%s", p.Name, m, evil, cmp.Diff(want, got))
				}
				noControls(t, p, out)
			}
		}
	})
}

func noControls(t *testing.T, p *plugins.Package, out commands.Rendered) {
	t.Helper()
	for _, f := range out.Files {
		if i := bytes.IndexFunc(f.Data, func(r rune) bool { return r < 0x20 && r != '\n' && r != '\t' || r == 0x7f }); i >= 0 {
			t.Errorf("%s: %s holds control character %#x", p.Name, f.Path, f.Data[i])
		}
	}
}

// someModels is one model for each distinct row of abilities.
func someModels(p *plugins.Package) []string {
	seen := map[string]bool{}
	var names []string
	for _, m := range p.Models {
		key := fmt.Sprint(m.Columns["kind"], m.Columns["fw_line"] < "81", m.Keys > 0, m.ExpKeys > 0)
		if !seen[key] {
			seen[key] = true
			names = append(names, m.Name)
		}
	}
	return names
}

func TestBytesAreStableAndSkeletonsHoldNoSecret(t *testing.T) {
	eachPackage(t, func(t *testing.T, set *plugins.Set, p *plugins.Package) {
		s := full(harmless)
		secrets := append(secretsOf(t, s), "0a1b2c")
		for _, m := range someModels(p) {
			first := render(t, set, request(p, m, "", s, false))
			for range 5 {
				if again := render(t, set, request(p, m, "", full(harmless), false)); !reflect.DeepEqual(first, again) {
					t.Fatalf("%s %s changes from render to render:\n%s", p.Name, m, cmp.Diff(first, again))
				}
			}
			for _, f := range first.Files {
				for _, secret := range secrets {
					if bytes.Contains(f.Skeleton, []byte(secret)) {
						t.Errorf("%s %s: skeleton of %s holds a secret", p.Name, m, f.Path)
					}
				}
			}
			for _, w := range first.Warnings {
				for _, secret := range secrets {
					if strings.Contains(w.Text, secret) {
						t.Errorf("%s %s: the warning about %s holds a secret", p.Name, m, w.Setting)
					}
				}
			}
		}
	})
}

func TestGuestsGetNoSecret(t *testing.T) {
	eachPackage(t, func(t *testing.T, set *plugins.Set, p *plugins.Package) {
		s := full(harmless)
		secrets := secretsOf(t, s)
		for _, m := range p.Models {
			for _, f := range render(t, set, request(p, m.Name, "", s, true)).Files {
				for _, secret := range secrets {
					if bytes.Contains(f.Data, []byte(secret)) {
						t.Errorf("%s %s: guest file %s holds %s", p.Name, m.Name, f.Path, secret)
					}
				}
			}
		}
	})
}

// secretsOf are the clear texts of the credentials in s.
func secretsOf(t *testing.T, s domain.Settings) []string {
	t.Helper()
	var secrets []string
	_, err := s.MapSecrets(func(_ string, v any) (any, error) {
		if text, ok := v.(string); ok {
			secrets = append(secrets, text)
		}
		return v, nil
	})
	if err != nil || len(secrets) < 8 {
		t.Fatalf("%d secrets, %v", len(secrets), err)
	}
	return secrets
}

// Renderers share executors; a race or a mix-up between phones shows here.
func TestRendersDoNotMix(t *testing.T) {
	eachPackage(t, func(t *testing.T, set *plugins.Set, p *plugins.Package) {
		names := someModels(p)
		want := map[string]commands.Rendered{}
		for _, m := range names {
			want[m] = render(t, set, request(p, m, "", full(harmless), false))
		}
		for i := range 8 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				m := names[i%len(names)]
				if got := render(t, set, request(p, m, "", full(harmless), false)); !reflect.DeepEqual(want[m], got) {
					t.Error(cmp.Diff(want[m], got))
				}
			})
		}
	})
}
