package plugins_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"

	"ledgerline/adapters/plugins"
	"ledgerline/adapters/plugins/tz"
	"ledgerline/domain"
)

// shown is one rendering a golden case holds.
type shown struct {
	model    plugins.Model
	guest    bool
	most     bool            // no model of the family has more places for keys
	settings domain.Settings // as a template sees them
	given    domain.Settings
}

func (s shown) text(path string) string { v, _ := s.settings.Get(path).(string); return v }
func (s shown) on(path string) bool     { v, _ := s.settings.Get(path).(bool); return v }

// lines are the numbers of the lines in use, in order.
func (s shown) lines() []int {
	var out []int
	all, _ := s.settings["sip_lines"].(map[string]any)
	for name, line := range all {
		if m, ok := line.(map[string]any); ok && m["enabled"] != false {
			n, _ := strconv.Atoi(name)
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

func (s shown) line(n int, key string) string {
	return s.text("sip_lines." + strconv.Itoa(n) + "." + key)
}

// some tells whether a line the model has answers yes.
func (s shown) some(yes func(n int) bool) bool {
	return !s.guest && slices.ContainsFunc(s.lines(), func(n int) bool { return n <= s.model.Accounts && yes(n) })
}

func (s shown) someLine(key, value string) bool {
	return s.some(func(n int) bool { return s.line(n, key) == value })
}

func (s shown) keyTypes() map[string]bool {
	out := map[string]bool{}
	keys, _ := s.settings["funckeys"].(map[string]any)
	for _, k := range keys {
		if m, ok := k.(map[string]any); ok {
			t, _ := m["type"].(string)
			out[t] = true
		}
	}
	return out
}

// features are what the golden cases of a family have to show (issue "Plugins", Shown by); each looks at all of them.
var features = []struct {
	name  string
	shown func([]shown) bool
}{
	{"one line", any1(func(s shown) bool { return !s.guest && len(s.lines()) == 1 })},
	{"many lines", any1(func(s shown) bool { return !s.guest && len(s.lines()) > 1 && s.lines()[1] <= s.model.Accounts })},
	{"line gap", any1(func(s shown) bool {
		return s.some(func(n int) bool { return n > 1 && !slices.Contains(s.lines(), n-1) })
	})},
	{"keys of every kind", everyKey},
	{"TLS and SRTP", any1(func(s shown) bool {
		return s.some(func(n int) bool { return s.line(n, "transport") == "tls" && s.line(n, "srtp_mode") == "required" })
	})},
	{"TCP and optional SRTP", any1(func(s shown) bool {
		return s.some(func(n int) bool { return s.line(n, "transport") == "tcp" && s.line(n, "srtp_mode") == "preferred" })
	})},
	{"VLAN", any1(func(s shown) bool { return !s.guest && s.on("vlan_enabled") })},
	{"six time zones", sixZones},
	{"four locales", func(all []shown) bool { return len(distinct(all, "locale")) >= 4 }},
	{"Unicode names", any1(func(s shown) bool {
		return s.some(func(n int) bool {
			return len(s.line(n, "display_name")) >= utf8.RuneCountInString(s.line(n, "display_name"))+4
		})
	})},
	{"passwords with XML characters", any1(func(s shown) bool {
		return s.some(func(n int) bool {
			return strings.Contains(s.line(n, "password"), "<") && strings.Contains(s.line(n, "password"), "&") && strings.Contains(s.line(n, "password"), `"`)
		})
	})},
	{"outbound proxy", any1(func(s shown) bool { return s.some(func(n int) bool { return s.line(n, "outbound_proxy_ip") != "" }) })},
	{"backup registrar", any1(func(s shown) bool { return s.some(func(n int) bool { return s.line(n, "backup_registrar_ip") != "" }) })},
	{"voicemail and MWI", any1(func(s shown) bool {
		return s.some(func(n int) bool {
			return s.line(n, "voicemail") != "" && s.on("sip_lines."+strconv.Itoa(n)+".subscribe_mwi")
		})
	})},
	{"phonebook", any1(func(s shown) bool { return !s.guest && s.text("phonebook_url") != "" })},
	{"DTMF modes", func(all []shown) bool {
		return any1(func(s shown) bool { return s.someLine("dtmf_mode", "RTP-in-band") })(all) &&
			any1(func(s shown) bool { return s.someLine("dtmf_mode", "RTP-out-of-band") })(all) &&
			any1(func(s shown) bool { return s.someLine("dtmf_mode", "SIP-INFO") })(all)
	}},
	{"syslog and DNS", any1(func(s shown) bool { return !s.guest && s.on("syslog_enabled") && s.on("dns_enabled") })},
	{"eight lines on a smaller phone", any1(func(s shown) bool { return !s.guest && len(s.lines()) >= 8 && s.model.Accounts < 8 })},
	{"no settings at all", any1(func(s shown) bool { return !s.guest && len(s.given) == 0 })},
	{"a phone nobody has configured", any1(func(s shown) bool { return s.guest })},
}

// everyKey: a key of each kind, on a model with a place for all of them or with as many as any of the family.
func everyKey(all []shown) bool {
	return any1(func(s shown) bool {
		return !s.guest && (s.places() >= len(keyTypes()) || s.most) &&
			!slices.ContainsFunc(keyTypes(), func(kind string) bool { return kind != "none" && !s.keyTypes()[kind] })
	})(all)
}

// places is how many keys the model and its modules have.
func (s shown) places() int { return s.model.Keys + s.model.ExpModules*s.model.ExpKeys }

func any1(yes func(shown) bool) func([]shown) bool {
	return func(all []shown) bool { return slices.ContainsFunc(all, yes) }
}

func distinct(all []shown, path string) []string {
	seen := map[string]bool{}
	for _, s := range all {
		if v := s.text(path); v != "" {
			seen[v] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// sixZones: among six zones one off the hour and one with summer in January.
func sixZones(all []shown) bool {
	half, south := false, false
	names := distinct(all, "timezone")
	for _, name := range names {
		z, err := tz.Lookup(name)
		if err != nil {
			continue
		}
		r := z.Rule.Normal()
		half = half || r.StdOffset%3600 != 0
		south = south || r.HasDST && r.Start.In(0).Month > r.End.In(0).Month
	}
	return len(names) >= 6 && half && south
}

// lacks are the features a family does not have to show: it has only one of what is counted, or its models all have more lines.
var lacks = map[string][]string{
	"algo":    {"eight lines on a smaller phone"}, // each has eleven
	"zenitel": {"many lines", "line gap"},         // each has one
}

// Every family has a golden case for every feature: what it cannot do is shown too, as a warning.
func TestEveryFamilyShowsEveryFeature(t *testing.T) {
	set := loadBuiltin(t)
	for _, p := range set.Packages() {
		t.Run(p.Name, func(t *testing.T) {
			all := allShown(t, p)
			for _, f := range features {
				if has, exempt := f.shown(all), slices.Contains(lacks[p.Name], f.name); !has && !exempt {
					t.Errorf("no golden case shows %s", f.name)
				} else if has && exempt {
					t.Errorf("a golden case shows %s: it need not be excused", f.name)
				}
			}
		})
	}
}

// allShown reads every golden case of a package, each wish laid over its settings.
func allShown(t *testing.T, p *plugins.Package) []shown {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("builtin", p.Name, "testdata", "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for _, m := range p.Models {
		most = max(most, shown{model: m}.places())
	}
	var all []shown
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		archive := txtar.Parse(data)
		r := goldenInput(t, p.Name, archive)
		model, _ := p.Model(r.Model)
		add := func(given domain.Settings) {
			s := shown{model: model, guest: r.Guest, settings: given.FillDefaults(), given: given}
			s.most = s.places() == most
			all = append(all, s)
		}
		add(r.Settings)
		for _, f := range archive.Files {
			if wish, ok := strings.CutSuffix(f.Name, ".json"); ok && strings.HasPrefix(wish, "with/") {
				add(layOver(t, wish, r.Settings, f.Data))
			}
		}
	}
	return all
}
