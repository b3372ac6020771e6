package plugins_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins"
	"ledgerline/adapters/plugins/wire"
	"ledgerline/commands"
	"ledgerline/domain"
)

// firstMAC is an address of the family's own.
func firstMAC(p *plugins.Package) domain.MAC {
	return domain.MAC(p.OUIs[0] + "aabbcc")
}

// Families whose phones have a browser offer an unconfigured phone the form; where the phone asks next is recognised as its own, and
// whatever stands in the URL brings no element of its own.
func TestCodeEntry(t *testing.T) {
	set := loadBuiltin(t)
	with := []string{}
	for _, p := range set.Packages() {
		if p.CodeEntry == nil {
			continue
		}
		with = append(with, p.Name)
		mac := firstMAC(p)
		const base = "http://prov.example.net/"
		offered := 0
		for _, m := range p.Models {
			url := base + "enter/" + p.Name + "/" + string(mac)
			r := commands.Render{Plugin: p.Ref(), Model: m.Name, MAC: mac, ID: domain.DeviceID(mac), BaseURL: base, Guest: true}
			guest, configured := render(t, set, r), commands.Rendered{}
			r.Guest, r.Settings = false, full(harmless)
			configured = render(t, set, r)
			holds := func(out commands.Rendered) bool {
				return slices.ContainsFunc(out.Files, func(f commands.File) bool { return strings.Contains(string(f.Data), url) })
			}
			if holds(guest) {
				offered++
			}
			if holds(configured) {
				t.Errorf("%s %s: a configured phone is asked for a code", p.Name, m.Name)
			}
		}
		if offered == 0 {
			t.Errorf("%s: no model is offered the form", p.Name)
		}
		keys := map[string][]string{}
		for _, action := range append([]string{"http://prov.example.net/enter/x"}, hostile...) {
			for what, in := range map[string]commands.EntryPage{"ask": {}, "refused": {Refused: true}, "done": {Done: true}} {
				in.Plugin, in.MAC, in.Action = p.Name, mac, action
				page, err := set.EntryPage(in)
				if err != nil {
					t.Fatalf("%s: %v", p.Name, err)
				}
				if who, ok := set.Recognize(commands.Asked{Path: page.File}); !ok || who.MAC != mac || page.ContentType == "" {
					t.Errorf("%s: %s is recognised as %+v", p.Name, page.File, who)
				}
				entries, err := wire.Parse(p.CodeEntry.Format, page.Data)
				if err != nil {
					t.Fatalf("%s %s: %v\n%s", p.Name, what, err, page.Data)
				}
				if keys[what] == nil {
					keys[what] = wire.Keys(entries)
				} else if diff := cmp.Diff(keys[what], wire.Keys(entries)); diff != "" {
					t.Errorf("%s %s: %q changes the page:\n%s", p.Name, what, action, diff)
				}
			}
		}
	}
	if want := []string{"aastra-mitel", "cisco-mpp", "cisco-spa", "polycom", "snom", "yealink"}; !slices.Equal(want, with) {
		t.Errorf("families with code entry: %v, want %v", with, want)
	}
	for what, in := range map[string]commands.EntryPage{"no such family": {Plugin: "none", MAC: "001565aabbcc"}, "a family without": {Plugin: "gigaset", MAC: "7c2f80aabbcc"},
		"no address": {Plugin: "yealink"}, "a model without browser": {Plugin: "yealink", MAC: "001565aabbcc", UserAgent: "Yealink W70B 146.85.0.1 00:15:65:aa:bb:cc"}} {
		if page, err := set.EntryPage(in); !errors.Is(err, commands.ErrNoFile) {
			t.Errorf("%s: %v %s", what, err, page.Data)
		}
	}
}

func TestCodeEntryIsChecked(t *testing.T) {
	for what, section := range map[string]string{
		"no form":     "code_entry: {done: a.tmpl, content_type: text/xml, format: xml}",
		"no template": "code_entry: {ask: none.tmpl, done: a.tmpl, content_type: text/xml, format: xml}",
		"no format":   "code_entry: {ask: a.tmpl, done: a.tmpl, content_type: text/xml, format: word}",
	} {
		fsys := demo("demo", "1.0.0", nil)
		file := fsys["plugin.yaml"]
		file.Data = append(file.Data, section+"\n"...)
		if _, err := plugins.Load(fsys); !errors.Is(err, plugins.ErrPackage) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
