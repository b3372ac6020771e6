package plugins_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"ledgerline/adapters/plugins"
	"ledgerline/commands"
	"ledgerline/domain"
)

// oldFault is what one of the original's faults is looked for with.
type oldFault struct {
	*testing.T
	set *plugins.Set
}

// file renders a device and reads all its files: the settings by name, and the warnings.
func (f oldFault) file(plugin, model string, s domain.Settings) (told, []commands.Warning) {
	f.Helper()
	p, err := f.set.Package(commands.PluginRef{Name: plugin})
	if err != nil {
		f.Fatal(err)
	}
	out := render(f, f.set, request(p, model, "", s, false))
	m := told{}
	for _, file := range out.Files {
		entries, err := parseBack(p, file.Path, file.Data, false)
		if err != nil {
			f.Fatalf("%s %s: %s: %v", plugin, model, file.Path, err)
		}
		for _, e := range entries {
			key := file.Path + " " + e.Key
			for _, again := m[key]; again; _, again = m[key] { // what a file says more than once
				key += "'"
			}
			m[key] = e.Value
		}
	}
	return m, out.Warnings
}

// same tells whether two settings give a model the same files.
func (f oldFault) same(plugin, model string, a, b domain.Settings) bool {
	f.Helper()
	one, _ := f.file(plugin, model, a)
	other, _ := f.file(plugin, model, b)
	return maps.Equal(one, other)
}

// says tells whether a setting has the value, or has it within.
func (m told) says(value string) bool {
	for _, v := range m {
		if strings.Contains(v, value) {
			return true
		}
	}
	return false
}

// with is one line and these settings.
func with(pairs ...any) domain.Settings {
	s := domain.Settings{"sip_proxy_ip": "sip.example.net", "sip_lines": map[string]any{"1": map[string]any{"username": "user1", "auth_username": "auth1", "password": "s3cret", "display_name": "Ann", "number": "1001"}}}
	for i := 0; i < len(pairs); i += 2 {
		s[pairs[i].(string)] = pairs[i+1]
	}
	return s
}

// each runs over the families and models named: "snom D785".
func (f oldFault) each(names []string, look func(plugin, model string)) {
	for _, name := range names {
		plugin, model, _ := strings.Cut(name, " ")
		look(plugin, model)
	}
}

// desks is one model of each family that has lines and keys.
func (f oldFault) desks() []string {
	var out []string
	for _, p := range f.set.Packages() {
		for _, m := range p.Models {
			if m.Accounts > 0 && (m.Keys > 0 || p.Name == "gigaset" || p.Name == "patton") {
				out = append(out, p.Name+" "+m.Name)
				break
			}
		}
	}
	return out
}

// The faults of wazo's output (vendors/wazo-defects.md), one test for each: none is ours. How zones are told is looked at for every
// zone and family in TestEveryZoneIsToldAsGoKnowsIt; what is here is the fault as it was seen.
func TestOldFaults(t *testing.T) {
	set := loadBuiltin(t)
	srtp := func(mode string) domain.Settings { return with("sip_srtp_mode", mode) }
	faults := map[string]func(oldFault){
		"summer time ends on the day it ends on, Sunday": func(f oldFault) {
			for _, c := range [][4]string{
				{"polycom", "VVX150", "daylightSavings.start.dayOfWeek", "1"}, {"aastra-mitel", "6863i", "dst start day", "1"}, {"fanvil", "X3SG", "DST_Start_Wday", "0"},
				{"cisco-spa", "SPA303", "Daylight_Saving_Time_Rule", "start=3/-1/7/2:0:0;end=10/-1/7/3:0:0;save=1:0:0"},
				{"cisco-mpp", "7821", "Daylight_Saving_Time_Rule", "start=3/-1/7/2:0:0;end=10/-1/7/3:0:0;save=1:0:0"},
			} {
				m, _ := f.file(c[0], c[1], with("timezone", "Europe/Paris"))
				for key, v := range m {
					if strings.HasSuffix(key, c[2]) && v != c[3] {
						f.Errorf("%s: %s is %s, want %s", c[0], key, v, c[3])
					}
				}
				if !m.says(c[3]) {
					f.Errorf("%s has no %s", c[0], c[2])
				}
			}
			if m, _ := f.file("patton", "SN4114", with("timezone", "Europe/Paris")); !m.says("last sunday") && !strings.Contains(strings.Join(slices.Collect(maps.Keys(m)), " "), "last sunday") {
				f.Errorf("patton: %v", m)
			}
		},
		"the last week is the last in any year": func(f oldFault) {
			m, _ := f.file("yealink", "T31", with("timezone", "Europe/Paris"))
			if !m.says("10/5/7/3") {
				f.Error("yealink does not say the last Sunday of October")
			}
		},
		"half-hour zones keep their half hour": func(f oldFault) {
			for _, c := range [][3]string{{"yealink", "T31", "+5:30"}, {"fanvil", "X3SG", "22"}, {"snom", "D785", "IND+5.5"}} {
				if m, _ := f.file(c[0], c[1], with("timezone", "Asia/Kolkata")); !m.says(c[2]) {
					f.Errorf("%s does not say %s", c[0], c[2])
				}
			}
		},
		"Grandstream knows more than Paris": func(f oldFault) {
			if m, _ := f.file("grandstream", "GXP1620", with("timezone", "Pacific/Auckland")); !m.says("NZST-12NZDT,M9.5.0,M4.1.0/3") {
				f.Error("no rule for Auckland")
			}
		},
		"an unknown zone leaves the file": func(f oldFault) {
			f.each([]string{"htek UC803", "gigaset N610", "grandstream GXP1620", "yealink T31"}, func(plugin, model string) {
				m, warnings := f.file(plugin, model, with("timezone", "Europe/Atlantis"))
				if !m.says("user1") || !slices.ContainsFunc(warnings, func(w commands.Warning) bool { return w.Setting == "timezone" }) {
					f.Errorf("%s: no file, or no warning: %v", plugin, warnings)
				}
			})
		},
		"names, passwords and URLs are escaped": func(f oldFault) {
			const evil = `p&"w'<]]>`
			f.each([]string{"gigaset N610", "htek UC803", "grandstream GXP1620", "fanvil X3SG", "alcatel-lucent M3", "alcatel-lucent 8028s", "digium-sangoma D65", "cisco-sccp 8945", "cisco-spa SPA122"},
				func(plugin, model string) {
					s := with("admin_password", evil, "user_password", evil, "phonebook_url", "http://dir.example.net/?a=1&b=<2>", "sip_lines", map[string]any{"1": map[string]any{"username": "user1", "password": evil, "display_name": evil}})
					if m, _ := f.file(plugin, model, s); !m.says(evil) {
						f.Errorf("%s: the password did not arrive", plugin)
					}
				})
		},
		"without phonebook every tag closes": func(f oldFault) {
			f.each([]string{"snom D785", "snom D862", "snom D120"}, func(plugin, model string) { f.file(plugin, model, with()) })
		},
		"no raw ampersand in a URL": func(f oldFault) {
			f.each([]string{"htek UC803", "gigaset N510", "gigaset N720"}, func(plugin, model string) {
				f.file(plugin, model, with("X_xivo_phonebook_ip", "dir.example.net", "X_xivo_user_uuid", "12ab", "firmware_url", "http://fw.example.net/?a=1&b=2"))
			})
		},
		"SRTP follows its own mode, not the transport": func(f oldFault) {
			f.each([]string{"yealink T31", "snom D785", "gigaset N610"}, func(plugin, model string) {
				secure := func(transport, mode string) domain.Settings {
					return with("sip_transport", transport, "sip_srtp_mode", mode)
				}
				if f.same(plugin, model, secure("tls", "disabled"), secure("tls", "required")) || f.same(plugin, model, secure("udp", "disabled"), secure("udp", "required")) {
					f.Errorf("%s does not tell the modes apart", plugin)
				}
			})
		},
		"SRTP is set": func(f oldFault) {
			f.each([]string{"cisco-spa SPA303", "cisco-mpp 7821", "grandstream GXP1620", "fanvil X3SG", "htek UC803", "alcatel-lucent M3", "digium-sangoma D65", "panasonic KX-UT136", "avaya J179"}, func(plugin, model string) {
				if f.same(plugin, model, srtp("disabled"), srtp("required")) {
					f.Errorf("%s %s ignores it", plugin, model)
				}
			})
		},
		"the outbound proxy is used, or a warning says it is not": func(f oldFault) {
			f.each(f.desks(), func(plugin, model string) {
				m, warnings := f.file(plugin, model, with("sip_outbound_proxy_ip", "edge.example.net"))
				warned := slices.ContainsFunc(warnings, func(w commands.Warning) bool { return strings.Contains(w.Setting, "outbound_proxy") })
				if !m.says("edge.example.net") && !warned {
					f.Errorf("%s %s: neither", plugin, model)
				}
			})
		},
		"the transport is the one asked for": func(f oldFault) {
			f.each([]string{"digium-sangoma D65", "avaya J179", "panasonic KX-UT136", "cisco-spa SPA303", "cisco-mpp 7821"}, func(plugin, model string) {
				if f.same(plugin, model, with("sip_transport", "udp"), with("sip_transport", "tcp")) {
					f.Errorf("%s %s stays with UDP", plugin, model)
				}
			})
		},
		"the time server is no provisioning server": func(f oldFault) {
			m, _ := f.file("aastra-mitel", "6867i", with("ntp_enabled", true, "ntp_ip", "ntp.example.net"))
			for key, v := range m {
				if strings.Contains(v, "ntp.example.net") && !strings.Contains(key, "time server") || strings.Contains(v, "8667") {
					f.Errorf("%s: %s", key, v)
				}
			}
		},
		"keys need no label and no line": func(f oldFault) {
			f.each(f.desks(), func(plugin, model string) {
				f.file(plugin, model, with("funckeys", map[string]any{"1": map[string]any{"type": "blf", "value": "1002"}, "2": map[string]any{"type": "speeddial", "value": "1003"}, "3": map[string]any{"type": "park", "value": "700"}}))
			})
		},
		"a kind of key the phone lacks is a warning": func(f oldFault) {
			f.each([]string{"cisco-sccp 8945", "zenitel IP station", "avaya J179"}, func(plugin, model string) {
				m, warnings := f.file(plugin, model, with("funckeys", map[string]any{"1": map[string]any{"type": "lock"}, "2": map[string]any{"type": "park", "value": "700"}}))
				if !m.says("user1") || !slices.ContainsFunc(warnings, func(w commands.Warning) bool { return w.Setting == "funckeys.1" }) {
					f.Errorf("%s: %v", plugin, warnings)
				}
			})
		},
		"every plugin runs": func(f oldFault) {
			f.each([]string{"grandstream GXP2000", "fanvil X2", "zenitel IP station"}, func(plugin, model string) {
				if m, _ := f.file(plugin, model, with()); !m.says("user1") {
					f.Errorf("%s %s has no account", plugin, model)
				}
			})
		},
		"Panasonic is told its firmware": func(f oldFault) {
			if m, _ := f.file("panasonic", "KX-UT136", with("firmware_url", "http://fw.example.net/ut136.bin")); !m.says("http://fw.example.net/ut136.bin") {
				f.Error("it is not")
			}
		},
		"VLAN is switched once": func(f oldFault) {
			p, err := f.set.Package(commands.PluginRef{Name: "cisco-mpp"})
			if err != nil {
				f.Fatal(err)
			}
			for _, s := range []domain.Settings{with(), with("vlan_enabled", true, "vlan_id", 7)} {
				for _, file := range render(f, f.set, request(p, "8851", "", s, false)).Files {
					if n := strings.Count(string(file.Data), "<Enable_VLAN>"); n > 1 {
						f.Errorf("%s says Enable_VLAN %d times", file.Path, n)
					}
				}
			}
		},
		"Htek's language and tones are written": func(f oldFault) {
			if f.same("htek", "UC803", with("locale", "fr_FR"), with("locale", "de_DE")) {
				f.Error("French and German are the same")
			}
		},
		"nothing is French by itself": func(f oldFault) {
			f.each([]string{"avaya J179", "patton SN4114", "alcatel-lucent 8028s"}, func(plugin, model string) {
				m, _ := f.file(plugin, model, with("timezone", "America/New_York", "locale", "en_US"))
				for key, v := range m {
					if strings.Contains(v, "Paris") || strings.Contains(v, "French") || v == "FR" || v == "*FR" || strings.Contains(strings.ToLower(key+v), "france") {
						f.Errorf("%s: %s is %s", plugin, key, v)
					}
				}
			})
		},
		"the user's name is not the login's": func(f oldFault) {
			f.each([]string{"grandstream GXP1620", "gigaset N610", "gigaset N510", "alcatel-lucent M3", "alcatel-lucent 8028s", "alcatel-lucent 4028", "panasonic KX-UT136"}, func(plugin, model string) {
				m, _ := f.file(plugin, model, with())
				if !slices.Contains(slices.Collect(maps.Values(m)), "user1") || !slices.Contains(slices.Collect(maps.Values(m)), "auth1") {
					f.Errorf("%s %s mixes them up", plugin, model)
				}
			})
		},
		"no password is the maker's own": func(f oldFault) {
			f.each([]string{"alcatel-lucent 8028s", "alcatel-lucent M3", "gigaset N610"}, func(plugin, model string) {
				m, _ := f.file(plugin, model, with())
				for key, v := range m {
					if v == "123456" || v == "123789" || v == "1001" && strings.Contains(strings.ToLower(key), "pin") {
						f.Errorf("%s: %s is %s", plugin, key, v)
					}
				}
			})
		},
	}
	for name, look := range faults {
		t.Run(name, func(t *testing.T) { look(oldFault{t, set}) })
	}
}
