package plugins_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins"
	"ledgerline/commands"
	"ledgerline/domain"
)

// Programs say what text/template says, and leave none of the built-in templates to it. A failure that names a template
// alone means it is slow, not wrong: program.go has to learn what it uses.
func TestProgramsMeanWhatTextTemplateSays(t *testing.T) {
	eachPackage(t, func(t *testing.T, set *plugins.Set, p *plugins.Package) {
		compiled, interpreted := plugins.Compiled(set), plugins.Interpreted(set)
		rich := []domain.Settings{full(harmless), full(func(path string) string { return hostile[len(path)%len(hostile)] })}
		some := someModels(p)
		for _, m := range append(p.Models, plugins.Model{Name: "NEW-1"}, plugins.Model{}) {
			given := []domain.Settings{nil, oneLine()}
			if slices.Contains(some, m.Name) {
				given = append(given, rich...)
			}
			for _, guest := range []bool{false, true} {
				for _, s := range given {
					r := request(p, m.Name, "", s, guest)
					if want, got := render(t, interpreted, r), render(t, compiled, r); !reflect.DeepEqual(want, got) {
						t.Fatalf("%s %s guest %v (-text/template +program):\n%s", p.Name, m.Name, guest, cmp.Diff(want, got))
					}
				}
			}
		}
	})
}

// Snippets of what templates may say, also what programs leave to text/template, and what is wrong: the same bytes,
// warnings and errors.
func TestProgramsAndTextTemplateAgree(t *testing.T) {
	for _, text := range []string{
		`{{$x := 1}}{{if true}}{{$x = 2}}{{$x := 3}}{{$x}}{{end}}{{$x}}`,
		`{{range $i, $k := .Keys}}{{$i}}{{$k.N}}{{.Type}}{{else}}none{{end}}`,
		`{{range $k := .Keys}}{{$k.Setting}}{{end}}{{range .Expansion}}x{{else}}none{{end}}`,
		`{{range $k, $v := entries "word"}}{{$k}}={{$v}}{{end}}{{range entries "none"}}x{{end}}`,
		`{{range $i, $s := split "," "a,b"}}{{$i}}{{$s}}{{.}}{{end}}{{range 3}}{{.}}{{end}}{{range seq 1 3}}{{if eq . 2}}{{break}}{{end}}{{.}}{{end}}`,
		`{{with get "vlan_id"}}{{.}}{{$.Name}}{{else}}no{{end}}{{with .Zone}}{{.Name}}{{else}}no zone{{end}}`,
		`{{with $x := get "locale"}}{{$x}}{{.}}{{end}}{{if $y := get "none"}}{{else}}{{$y}}no{{end}}`,
		`{{"a" | printf "%s-%s" "b"}}{{get "locale" | lower | replace "_" "-"}}{{1 | add 2}}`,
		`{{or "" "x" "y"}}{{and 1 0 2}}{{or false 0}}{{not ""}}{{and true (get "none")}}{{true | and "a"}}`,
		`{{eq 1 2 1}}{{eq "a" "b"}}{{ne true false}}{{lt 1 2}}{{ge "b" "a"}}{{le 2 2}}{{gt 1 2}}{{eq 1.5 1.5}}`,
		`{{len "abc"}}{{len .Lines}}{{len .Keys}}{{len (items "codecs")}}{{index (items "codecs") 0}}{{(index .Lines 0).N}}{{index (entries "word") "a"}}{{slice "abc" 1 2}}{{slice "abc" 1}}`,
		`{{print 1 "a" 2 3}}{{print .Zone.Start}}{{printf "%d %v %s" 1 true .MAC}}{{urlquery "a b" 1}}{{html "<"}}{{println 1}}`,
		`{{.MAC}}{{.MAC.Upper}}{{.MAC.Colons}}{{.ID}}{{.FwLine}}{{.Guest}}{{.Lines | len}}{{items "codecs"}}`,
		`{{.Zone.Start.Month}}/{{.Zone.Start.ISOWeekday}}{{.Zone.Rule.HasDST}}{{.Zone.Signed}}{{.Zone.POSIX}}{{.Zone.DST}}`,
		`{{range .Lines}}{{.N}}{{.Used}}{{.Get "username"}}{{.Has "x"}}{{.On "enabled"}}{{.Items "codecs"}}{{.Pointer "a"}}{{.Standby}}{{(.At 7).N}}{{end}}`,
		`{{(.Servers 1).List | len}}{{with index .Lines 0}}{{($.Servers 1).Of .}}{{.StandsInFor}}{{if .StandsInFor}}x{{end}}{{end}}`,
		`{{template "t" 1}}{{template "t" .Name}}{{define "t"}}{{$x := 5}}{{print .}}{{$x}}{{$}}{{end}}`,
		`{{template "t"}}{{define "t"}}x{{end}}`, `{{block "b" .Name}}{{.}}{{end}}`,
		`{{warn "a" "b"}}{{pick "locale" "word" "zz"}}{{warn "a" "b"}}{{choose true 1 "b"}}{{choose false 1 nil}}`,
		"{{- /* comment */ -}}\n  {{if false}}\n{{end}}\n a \n\n{{`raw`}} {{'a'}} {{0x10}} {{1e3}} {{-3}} {{010}}",
		// wrong ones
		`{{.None}}`, `{{.Zone.None}}`, `{{add "a" 1}}`, `{{upper .MAC}}`, `{{index .Lines 99}}`, `{{index (items "codecs") -1}}`, `{{eq 1 "a"}}`, `{{eq .Lines .Keys}}`, `{{lt true false}}`,
		`{{div 1 0}}`, `{{get}}`, `{{get "a" "b"}}`, `{{.Name "x"}}`, `{{warn "before" "it fails"}}{{.Zone.Rule.None}}`, `{{len 1}}`, `{{slice "a" 5 9}}`, `{{printf 1}}`, `{{range .Name}}{{end}}`,
		`{{template "r" .}}{{define "r"}}{{template "r" .}}{{end}}`, `{{range seq 1 9999}}{{range seq 1 9999}}{{end}}{{end}}`, `{{(index .Lines 1).StandsInFor.N}}`,
		`{{range seq 1 9999}}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{{.}}{{.}}{{end}}`,
	} {
		set := loadDemo(t, demo("demo", "1.0.0", map[string]string{"a.tmpl": "#!version:1\nx = " + text}))
		r := commands.Render{Plugin: commands.PluginRef{Name: "demo"}, Model: "D1", MAC: "02aabb000001", Settings: domain.Settings{
			"vlan_id": 5, "codecs": []any{"g722", "pcma"}, "locale": "fr_FR", "timezone": "Europe/Paris",
			"sip_lines": map[string]any{"1": map[string]any{"username": "u", "proxy_ip": "h", "codecs": []any{"g729"}}},
			"funckeys":  map[string]any{"2": map[string]any{"type": "blf", "value": "7", "label": "B"}}}}
		want, wantErr := plugins.Interpreted(set).Render(context.Background(), r)
		got, err := set.Render(context.Background(), r)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-text/template +program):\n%s", text, diff)
		}
		if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
			t.Errorf("%s\nfails with      %v\ninterpreted with %v", text, err, wantErr)
		}
	}
}

// The budget ends both at the same step.
func TestProgramsCountTheSameSteps(t *testing.T) {
	const most = 400_000
	work := `#!{{range seq 1 1990}}{{range seq 1 100}}{{""}}{{end}}{{end}}`
	taken := 1 + 1990*(1+100*2)
	for _, more := range []int{0, 1} {
		set := loadDemo(t, demo("demo", "1.0.0", map[string]string{"a.tmpl": work + strings.Repeat(`{{""}}`, most-taken+more)}))
		r := commands.Render{Plugin: commands.PluginRef{Name: "demo"}, MAC: "02aabb000001"}
		_, compiled := plugins.Compiled(set).Render(context.Background(), r)
		_, interpreted := plugins.Interpreted(set).Render(context.Background(), r)
		if (compiled == nil) != (more == 0) || (interpreted == nil) != (more == 0) || more > 0 && !errors.Is(interpreted, plugins.ErrBudget) {
			t.Errorf("%d steps: program %v, text/template %v", most+more, compiled, interpreted)
		}
	}
}
