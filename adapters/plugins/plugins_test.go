package plugins_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins"
	"ledgerline/commands"
	"ledgerline/domain"
)

// demo is a small package of an imagined vendor.
func demo(name, version string, change map[string]string) fstest.MapFS {
	files := map[string]string{
		"plugin.yaml": `
name: ` + name + `
version: ` + version + `
vendor: Demo
description: imagined
ouis: ["02aabb"]
recognize:
  - user_agent: '^Demo (?P<model>\S+) (?P<fw>\S+)'
  - path: '^(?P<mac>[0-9a-f]{12})\.cfg$'
    oui: true
fw_line: '^(\d+)\.'
fw_lines: [1]
files:
  - {path: '{mac}.cfg', template: a.tmpl, format: yealink, role: device, content_type: text/plain}
  - {path: '{mac}.cfg', template: guest.tmpl, format: yealink, role: guest, content_type: text/plain}
tables: {word: {a: b}}
`,
		"models.csv": "model,aliases,accounts,keys,exp_modules,exp_keys\n*,,1,0,0,0\nD1,D-one,2,3,1,4\n",
		"a.tmpl":     "#!version:1\nname = {{get \"X_name\"}}\nmodel = {{.Name}}\n",
		"guest.tmpl": "#!version:1\nguest = 1\n",
	}
	maps.Copy(files, change)
	out := fstest.MapFS{}
	for n, text := range files {
		if text != "" {
			out[n] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	return out
}

func loadDemo(t testing.TB, fsys ...fs.FS) *plugins.Set {
	t.Helper()
	set, err := plugins.Load(fsys...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestLoadRefusesDamage(t *testing.T) {
	manifest := func(old, with string) map[string]string {
		return map[string]string{"plugin.yaml": strings.Replace(string(demo("demo", "1.0.0", nil)["plugin.yaml"].Data), old, with, 1)}
	}
	for name, change := range map[string]map[string]string{
		"unknown field":        manifest("vendor: Demo", "vendor: Demo\nsurprise: 1"),
		"bad name":             manifest("name: demo", "name: ../demo"),
		"bad version":          manifest("1.0.0", "1.0"),
		"bad oui":              manifest("02aabb", "02AABB"),
		"no vendor":            manifest("vendor: Demo", "vendor: ''"),
		"unknown role":         manifest("role: device", "role: boss"),
		"unknown format":       manifest("format: yealink", "format: word"),
		"path climbs":          manifest("path: '{mac}.cfg'", "path: '../{mac}.cfg'"),
		"no files":             manifest("files:", "files: []\nignored:"),
		"two kinds in a rule":  manifest("oui: true", "query: x"),
		"bad expression":       manifest("^Demo", "^(Demo"),
		"fw_line has no group": manifest(`'^(\d+)\.'`, "'1'"),
		"template missing":     manifest("a.tmpl", "b.tmpl"),
		"template broken":      {"a.tmpl": "{{if}}"},
		"unknown function":     {"a.tmpl": `{{env "HOME"}}`},
		"no models":            {"models.csv": ""},
		"no unknown model":     {"models.csv": "model,accounts\nD1,1\n"},
		"model twice":          {"models.csv": "model,aliases,accounts\n*,,1\nD1,,1\nd-1,,1\n"},
		"count is no number":   {"models.csv": "model,accounts\n*,many\n"},
		"yaml broken":          {"plugin.yaml": "name: ["},
		"firmware broken":      {"firmware.yaml": "pictures: []"},
		"file too large":       {"a.tmpl": strings.Repeat("x", 1<<20+1)},
	} {
		if _, err := plugins.Load(demo("demo", "1.0.0", change)); !errors.Is(err, plugins.ErrPackage) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := plugins.Load(demo("demo", "1.0.0", nil), demo("demo", "1.0.0", nil)); !errors.Is(err, plugins.ErrPackage) {
		t.Errorf("the same version twice: %v", err)
	}
}

func TestNewestVersionCountsAndOldOnesStay(t *testing.T) {
	old := demo("demo", "1.9.0", map[string]string{"a.tmpl": "#!version:1\nold = 1\n"})
	set := loadDemo(t, demo("demo", "1.10.0", nil), old)
	for version, want := range map[string]string{"": "name = \nmodel = \n", "1.10.0": "name = \nmodel = \n", "1.9.0": "old = 1\n"} {
		out := render(t, set, commands.Render{Plugin: commands.PluginRef{Name: "demo", Version: version}, MAC: "02aabb000001"})
		if got := strings.ReplaceAll(string(out.Files[0].Data), " \n", "\n"); got != "#!version:1\n"+strings.ReplaceAll(want, " \n", "\n") {
			t.Errorf("version %q gave %q", version, got)
		}
	}
	if _, err := set.Render(context.Background(), commands.Render{Plugin: commands.PluginRef{Name: "demo", Version: "2.0.0"}}); !errors.Is(err, commands.ErrNoPlugin) {
		t.Errorf("got %v", err)
	}
	if ref, ok := set.Associate(commands.Recognition{Vendor: "demo", Model: "d_one"}); !ok || ref.Version != "1.10.0" {
		t.Errorf("associated with %v, %v", ref, ok)
	}
}

func TestTemplatesCannotWorkWithoutEnd(t *testing.T) {
	for name, text := range map[string]string{
		"huge output":       `#!{{range seq 1 9999}}{{range seq 1 9999}}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{{end}}{{end}}`,
		"huge number":       `#!{{range 2000000000}}{{end}}`,
		"nested loops":      `#!{{range seq 1 9999}}{{range seq 1 9999}}{{end}}{{end}}`,
		"huge sequence":     `#!{{range seq 1 100000000}}{{end}}`,
		"endless recursion": `#!{{define "r"}}{{template "r" .}}{{end}}{{template "r" .}}`,
		"division by zero":  `#!{{div 1 0}}`,
	} {
		set := loadDemo(t, demo("demo", "1.0.0", map[string]string{"a.tmpl": text}))
		_, err := set.Render(context.Background(), commands.Render{Plugin: commands.PluginRef{Name: "demo"}, MAC: "02aabb000001"})
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if name != "endless recursion" && name != "division by zero" && !errors.Is(err, plugins.ErrBudget) {
			t.Errorf("%s: %v is no ErrBudget", name, err)
		}
	}
}

func TestRenderRefusesSealedSettings(t *testing.T) {
	set := loadDemo(t, demo("demo", "1.0.0", nil))
	for _, v := range []any{domain.NewSecret("device-1", "pw", ""), map[string]any{"a": domain.NewPersonal("user-1", "Ann", "")}} {
		_, err := set.Render(context.Background(), commands.Render{Plugin: commands.PluginRef{Name: "demo"}, MAC: "02aabb000001", Settings: domain.Settings{"X_name": v}})
		if !errors.Is(err, plugins.ErrSealedSettings) {
			t.Errorf("%T: %v", v, err)
		}
	}
}

func TestRenderStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := loadDemo(t, demo("demo", "1.0.0", nil)).Render(ctx, commands.Render{Plugin: commands.PluginRef{Name: "demo"}, MAC: "02aabb000001"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestWarnings(t *testing.T) {
	set := loadDemo(t, demo("demo", "1.0.0", map[string]string{"a.tmpl": `#!version:1
{{range .Lines}}{{if .Used}}user{{.N}} = {{.Get "username"}}{{.Get "registrar_ip"}}{{end}}{{end}}
{{with .Zone}}zone = {{.Signed}}{{end}}
w = {{pick "locale" "word" .Language}}{{warn "x" "by hand"}}{{warn "x" "by hand"}}`}))
	out := render(t, set, commands.Render{Plugin: commands.PluginRef{Name: "demo"}, MAC: "02aabb000001", Model: "d1", Settings: domain.Settings{
		"timezone": "Asia/Gaza", "locale": "fr_FR", "vlan_enabled": true, "vlan_id": 3, "syslog_ip": "h", "sip_proxy_ip": "p", "sip_srtp_mode": "required", "X_y": 1,
		"sip_lines": map[string]any{"1": map[string]any{"username": "u", "proxy_ip": "q", "label": "L"}, "2": map[string]any{"enabled": false, "label": "L"},
			"3": map[string]any{"username": "u"}, "10": map[string]any{"username": "u"}},
		"funckeys": map[string]any{"4": map[string]any{"type": "dnd"}, "8": map[string]any{"type": "dnd"}, "1-5": map[string]any{"type": "dnd"}, "2": map[string]any{"type": "dnd", "line": 3}},
	}})
	var got []string
	for _, w := range out.Warnings {
		got = append(got, w.Setting+" ("+w.Model+"): "+w.Text)
	}
	want := []string{
		"timezone (D1): Asia/Gaza changes its clock by a calendar no yearly rule can say; the standard rule is used",
		"sip_lines.3 (D1): the D1 has 2 lines; this one is left out",
		"sip_lines.10 (D1): the D1 has 2 lines; this one is left out",
		"funckeys.2.line (D1): the D1 has 2 lines; line 1 is used",
		"funckeys.8 (D1): the D1 has 3 keys and 1 expansion module of 4 keys; this one is left out",
		"funckeys.1-5 (D1): the D1 has 3 keys and 1 expansion module of 4 keys; this one is left out",
		`locale (D1): the D1 has nothing for "fr"; it is left out`,
		"x (D1): by hand",
		"sip_lines.1.label (D1): the D1 does not have this setting; it is left out",
		"sip_srtp_mode (D1): the D1 does not have this setting; it is left out",
		"vlan_enabled (D1): the D1 does not have this setting; it is left out",
		"vlan_id (D1): the D1 does not have this setting; it is left out",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestUnknownModelRendersAsAnyOther(t *testing.T) {
	set := loadDemo(t, demo("demo", "1.0.0", nil))
	out := render(t, set, commands.Render{Plugin: commands.PluginRef{Name: "demo"}, MAC: "02aabb000001", Model: "D 99"})
	if len(out.Files) != 1 || len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0].Text, "D 99 is not a model") {
		t.Errorf("%+v", out)
	}
}

func TestFunctions(t *testing.T) {
	for text, want := range map[string]string{
		`{{hostport "h" "1"}} {{hostport "2001:db8::1" "5060"}} {{hostport "h" ""}} {{hostport "" "1"}}`:         "h:1 [2001:db8::1]:5060 h",
		`{{add 1 2}} {{sub 1 2}} {{mul 3 4}} {{div 7 2}} {{mod 7 2}} {{int "12"}} {{seq 2 4}}`:                   "3 -1 12 3 1 12 [2 3 4]",
		`{{bit true}} {{onoff false}} {{yesno true}} {{choose false 1 2}} {{default "d" ""}}`:                    "1 off yes 2 d",
		`{{upper "a"}} {{lower "B"}} {{replace "a" "o" "banana"}} {{keep "0123" "a1b2"}}`:                        "A b bonono 12",
		`{{position (split "," "a,b") "b"}} {{contains (split "," "a") "b"}} {{join "+" (split "," "a,b")}}`:     "1 false a+b",
		`{{scheme "HTTPS://h/p"}} {{noscheme "https://h/p"}} {{cut "a" "ab"}} {{hasPrefix "a" "ab"}}`:            "https h/p b true",
		`{{table "word" "a"}} {{table "word" "z"}}{{col "none"}}{{len (entries "word")}} {{fw 1}}`:               "b 1 false",
		`{{get "vlan_id"}} {{get "codecs"}} {{on "lldp_enabled"}} {{onOr "cdp_enabled" true}} {{has "vlan_id"}}`: "5 g722,pcma true true true",
	} {
		set := loadDemo(t, demo("demo", "1.0.0", map[string]string{"a.tmpl": "#!version:1\nx = " + text}))
		out := render(t, set, commands.Render{Plugin: commands.PluginRef{Name: "demo"}, MAC: "02aabb000001",
			Settings: domain.Settings{"vlan_id": 5, "codecs": []any{"g722", "pcma"}, "lldp_enabled": true}})
		if got := strings.TrimSpace(strings.TrimPrefix(string(out.Files[0].Data), "#!version:1\nx =")); got != want {
			t.Errorf("%s\ngives %q, want %q", text, got, want)
		}
	}
}

func TestZoneForms(t *testing.T) {
	set := loadDemo(t, demo("demo", "1.0.0", map[string]string{"a.tmpl": "#!version:1\n{{with .Zone}}z = {{.Signed}} {{.POSIX}} {{.DST}} {{.Start.Month}}/{{.Start.Week}}/{{.Start.SundayOne}}{{end}}"}))
	for zone, want := range map[string]string{
		"Asia/Kolkata": "+5:30 IST-5:30 false 0/0/1", "UTC": "0 UTC0 false 0/0/1", "America/St_Johns": "-3:30 NST3:30NDT,M3.2.0,M11.1.0 true 3/2/1",
		"Europe/Dublin": "0 GMT0IST,M3.5.0/1,M10.5.0 true 3/5/1", "America/Sao_Paulo": "-3 STD3 false 0/0/1", "Australia/Lord_Howe": "+10:30 STD-10:30DST-11,M10.1.0,M4.1.0 true 10/1/1",
	} {
		out := render(t, set, commands.Render{Plugin: commands.PluginRef{Name: "demo"}, MAC: "02aabb000001", Settings: domain.Settings{"timezone": zone}})
		if got := strings.TrimSpace(strings.TrimPrefix(string(out.Files[0].Data), "#!version:1\nz = ")); got != want {
			t.Errorf("%s: %s, want %s", zone, got, want)
		}
	}
	out := render(t, set, commands.Render{Plugin: commands.PluginRef{Name: "demo"}, MAC: "02aabb000001", Settings: domain.Settings{"timezone": "Europe/Paris", "dst_enabled": false}})
	if got := string(out.Files[0].Data); got != "#!version:1\nz = +1 CET-1 false 0/0/1\n" {
		t.Errorf("without daylight saving: %q", got)
	}
}

// Requests as phones make them, and what they show. Sources: vendors/*.md.
func TestRecognize(t *testing.T) {
	set := loadBuiltin(t)
	for _, c := range []struct {
		asked commands.Asked
		want  commands.Recognition
	}{
		{commands.Asked{Path: "0015651a2b3c.cfg", UserAgent: "Yealink SIP-T54W 96.86.0.70 00:15:65:1a:2b:3c"},
			commands.Recognition{Plugin: "yealink", Vendor: "Yealink", Model: "T54W", Fw: "96.86.0.70", MAC: "0015651a2b3c", File: "0015651a2b3c.cfg"}},
		{commands.Asked{Path: "y000000000096.cfg", UserAgent: "yealink SIP-T54W 96.86.0.70 00:15:65:1a:2b:3c"},
			commands.Recognition{Plugin: "yealink", Vendor: "Yealink", Model: "T54W", Fw: "96.86.0.70", MAC: "0015651a2b3c", File: "y000000000000.cfg"}},
		{commands.Asked{Path: "y000000000000.boot", UserAgent: "Yealink SIP-T46S 66.86.0.15 80:5e:c0:11:22:33"},
			commands.Recognition{Plugin: "yealink", Vendor: "Yealink", Model: "T46S", Fw: "66.86.0.15", MAC: "805ec0112233", File: "805ec0112233.boot"}},
		{commands.Asked{Path: "001565AABBCC.boot", UserAgent: "Yealink SIP-T56A 58.83.0.15 001565aabbcc"},
			commands.Recognition{Plugin: "yealink", Vendor: "Yealink", Model: "T56A", Fw: "58.83.0.15", MAC: "001565aabbcc", File: "001565aabbcc.boot"}},
		{commands.Asked{Path: "001565aabbcc.cfg", UserAgent: "Yealink W60B 77.85.0.20 00:15:65:aa:bb:cc"},
			commands.Recognition{Plugin: "yealink", Vendor: "Yealink", Model: "W60B", Fw: "77.85.0.20", MAC: "001565aabbcc", File: "001565aabbcc.cfg"}},
		{commands.Asked{Path: "001565aabbcc.cfg", UserAgent: "Yealink-T46G 28.71.0.81 28.1.0.128.0.0.0"},
			commands.Recognition{Plugin: "yealink", Vendor: "Yealink", Model: "T46G", Fw: "28.71.0.81", MAC: "001565aabbcc", File: "001565aabbcc.cfg"}},
		{commands.Asked{Path: "001565aabbcc.cfg", UserAgent: "Yealink SIP VP-T49G 51.80.0.100 00:15:65:aa:bb:cc"},
			commands.Recognition{Plugin: "yealink", Vendor: "Yealink", Model: "T49G", Fw: "51.80.0.100", MAC: "001565aabbcc", File: "001565aabbcc.cfg"}},
		{commands.Asked{Path: "001565aabbcc.cfg", UserAgent: "VP530P 23.70.0.40 00:15:65:aa:bb:cc"},
			commands.Recognition{Plugin: "yealink", Vendor: "Yealink", Model: "VP530", Fw: "23.70.0.40", MAC: "001565aabbcc", File: "001565aabbcc.cfg"}},
		{commands.Asked{Path: "y000000000053.cfg", UserAgent: "Yealink SIP-T99X 200.90.0.1 24:9a:d8:00:00:01"},
			commands.Recognition{Plugin: "yealink", Vendor: "Yealink", Model: "T99X", Fw: "200.90.0.1", MAC: "249ad8000001", File: "y000000000000.cfg"}},
		{commands.Asked{Path: "001565aabbcc.cfg"},
			commands.Recognition{Plugin: "yealink", Vendor: "Yealink", MAC: "001565aabbcc", File: "001565aabbcc.cfg"}},
		{commands.Asked{Path: "y000000000096.cfg", UserAgent: "curl/8", ClientMAC: "001565aabbcc"},
			commands.Recognition{Plugin: "yealink", Vendor: "Yealink", MAC: "001565aabbcc", File: "y000000000000.cfg"}},
		// a proved MAC wins over a claimed one
		{commands.Asked{Path: "001565aabbcc.cfg", UserAgent: "Yealink SIP-T54W 96.86.0.70 00:15:65:aa:bb:cc", ClientMAC: "0015651a2b3c"},
			commands.Recognition{Plugin: "yealink", Vendor: "Yealink", Model: "T54W", Fw: "96.86.0.70", MAC: "0015651a2b3c", File: "001565aabbcc.cfg"}},
	} {
		got, ok := set.Recognize(c.asked)
		if diff := cmp.Diff(c.want, got); !ok || diff != "" {
			t.Errorf("%+v: %v\n%s", c.asked, ok, diff)
		}
	}
	for _, a := range []commands.Asked{{}, {Path: "index.html", UserAgent: "Mozilla/5.0"}, {Path: "a4badb000001.cfg"}, {Path: "../y000000000000.cfg"}, {Path: "000000000000.cfg"},
		{UserAgent: strings.Repeat("Yealink SIP-T54W 1.1.1.1 ", 1000)}} {
		if got, ok := set.Recognize(a); ok {
			t.Errorf("%.60q recognised as %+v", a.Path+a.UserAgent, got)
		}
	}
}

func TestUserAgentBeatsPathAndNamesBreakTies(t *testing.T) {
	set := loadDemo(t, demo("demo", "1.0.0", nil), demo("elder", "1.0.0", nil), plugins.Builtin())
	got, ok := set.Recognize(commands.Asked{Path: "001565aabbcc.cfg", UserAgent: "Demo D1 1.0"})
	if !ok || got.Plugin != "elder" {
		t.Errorf("got %+v", got)
	}
}

func TestRecognizeDHCP(t *testing.T) {
	got, ok := loadBuiltin(t).RecognizeDHCP("yealink", "001565aabbcc")
	if !ok || got.Plugin != "yealink" || got.MAC != "001565aabbcc" {
		t.Errorf("%+v %v", got, ok)
	}
	if got, ok := loadBuiltin(t).RecognizeDHCP("MSFT 5.0", "001565aabbcc"); ok {
		t.Errorf("MSFT recognised as %+v", got)
	}
}

func TestAssociate(t *testing.T) {
	set := loadDemo(t, demo("a", "1.0.0", map[string]string{"models.csv": "model,accounts\n*,1\nD2,1\n"}), demo("b", "1.0.0", nil), demo("c", "1.0.0", map[string]string{"models.csv": "model,accounts\n*,1\n"}))
	for _, c := range []struct {
		r    commands.Recognition
		want string
	}{
		{commands.Recognition{Vendor: "DEMO", Model: "D2", Fw: "1.2"}, "a"},
		{commands.Recognition{Vendor: "Demo", Model: "D1"}, "b"},
		{commands.Recognition{Vendor: "Demo", Model: "D9"}, "c"},
		{commands.Recognition{Vendor: "Demo"}, "c"},
		{commands.Recognition{Plugin: "a"}, "a"},
		{commands.Recognition{Vendor: "Other", Plugin: "a"}, ""},
		{commands.Recognition{}, ""},
	} {
		if got, ok := set.Associate(c.r); got.Name != c.want || ok != (c.want != "") {
			t.Errorf("%+v: %v %v", c.r, got, ok)
		}
	}
}

func FuzzRecognize(f *testing.F) {
	set := loadBuiltin(f)
	f.Add("0015651a2b3c.cfg", "", "Yealink SIP-T54W 96.86.0.70 00:15:65:1a:2b:3c")
	f.Add("y000000000096.cfg", "mac=001565aabbcc", "yealink")
	f.Add("../../etc/passwd", "%00%zz", "\xff\x00")
	f.Fuzz(func(t *testing.T, path, query, agent string) {
		r, ok := set.Recognize(commands.Asked{Path: path, Query: query, UserAgent: agent})
		if !ok {
			return
		}
		if r.MAC != "" {
			if m, err := domain.ParseMAC(string(r.MAC)); err != nil || m != r.MAC {
				t.Fatalf("MAC %q", r.MAC)
			}
		}
		if r.Plugin == "" || r.Vendor == "" {
			t.Fatalf("%+v", r)
		}
	})
}
