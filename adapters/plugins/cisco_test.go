package plugins_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins"
	"ledgerline/adapters/plugins/tz"
	"ledgerline/commands"
	"ledgerline/domain"
)

// Both families call themselves Cisco, and share the names of files; the model tells them apart.
func TestCiscoIsRecognised(t *testing.T) {
	set := loadBuiltin(t)
	for _, c := range []struct {
		asked commands.Asked
		want  commands.Recognition
	}{
		{commands.Asked{Path: "spa504G.cfg", UserAgent: "Cisco/SPA504G-7.4.9a (002699aabbcc)(CBT141200AB)"},
			commands.Recognition{Plugin: "cisco-spa", Model: "SPA504G", Fw: "7.4.9a", MAC: "002699aabbcc", File: "spa.cfg"}},
		{commands.Asked{Path: "spa942.cfg", UserAgent: "Linksys/SPA-942-5.1.8 (000e08aabbcc)"},
			commands.Recognition{Plugin: "cisco-spa", Model: "SPA942", Fw: "5.1.8", MAC: "000e08aabbcc", File: "spa.cfg"}},
		{commands.Asked{Path: "spa942.cfg", UserAgent: "Linksys/SPA-942-6.1.5(a) (FM500I123456)"},
			commands.Recognition{Plugin: "cisco-spa", Model: "SPA942", Fw: "6.1.5", File: "spa.cfg"}},
		{commands.Asked{Path: "init.cfg"}, commands.Recognition{Plugin: "cisco-spa", Model: "PAP2T", File: "spa.cfg"}},
		{commands.Asked{Path: "spa599.cfg"}, commands.Recognition{Plugin: "cisco-spa", Model: "599", File: "spa.cfg"}},
		{commands.Asked{Path: "002699AABBCC.xml"}, commands.Recognition{Plugin: "cisco-spa", MAC: "002699aabbcc", File: "002699aabbcc.xml"}},
		{commands.Asked{Path: "ATA503DE5AABBCC.cnf.xml"}, commands.Recognition{Plugin: "cisco-spa", Model: "ATA190", MAC: "503de5aabbcc", File: "ATA503DE5AABBCC.cnf.xml"}},
		{commands.Asked{Path: "SEP002699AABBCC.cnf.xml"}, commands.Recognition{Plugin: "cisco-spa", MAC: "002699aabbcc", File: "SEP002699AABBCC.cnf.xml"}},
		{commands.Asked{Path: "8851-3PCC.xml", UserAgent: "Cisco-CP-8851-3PCC/11.3.1MSR1-3 (d0ec35aabbcc)(FCH2151E000)"},
			commands.Recognition{Plugin: "cisco-mpp", Model: "8851", Fw: "11.3.1MSR1-3", MAC: "d0ec35aabbcc", File: "cp.xml"}},
		{commands.Asked{Path: "Cisco/CP-7841-3PCC/a0ecf9aabbcc.cfg", UserAgent: "Cisco-CP-7841-3PCC/12.0.1 (a0ecf9aabbcc)"},
			commands.Recognition{Plugin: "cisco-mpp", Model: "7841", Fw: "12.0.1", MAC: "a0ecf9aabbcc", File: "a0ecf9aabbcc.xml"}},
		{commands.Asked{Path: "ata192.cfg"}, commands.Recognition{Plugin: "cisco-mpp", Model: "ATA192", File: "cp.xml"}},
		{commands.Asked{Path: "d0ec35aabbcc.xml"}, commands.Recognition{Plugin: "cisco-mpp", MAC: "d0ec35aabbcc", File: "d0ec35aabbcc.xml"}},
	} {
		c.want.Vendor = "Cisco"
		got, ok := set.Recognize(c.asked)
		if diff := cmp.Diff(c.want, got); !ok || diff != "" {
			t.Errorf("%+v: %v\n%s", c.asked, ok, diff)
		}
		if ref, ok := set.Associate(got); got.Model != "" && got.Model != "599" && (!ok || ref.Name != c.want.Plugin) {
			t.Errorf("%+v: associated with %v", got, ref)
		}
	}
	for _, a := range []commands.Asked{{Path: "spaghetti.cfg"}, {Path: "ATA503DE5AABB.cnf.xml"}, {Path: "SEP00112233.cnf.xml"}, {UserAgent: "Cisco/X"}, {UserAgent: "Cisco-CP-8851/14.0"}} {
		if got, ok := set.Recognize(a); ok {
			t.Errorf("%+v recognised as %+v", a, got)
		}
	}
	for class, want := range map[string]string{"LINKSYS SPA-942": "SPA942", "LINKSYS SPA8000": "SPA8000", "Cisco SPA504G": "SPA504G", "Cisco SPA525g": "SPA525G", "CISCO SPA122": "SPA122",
		"CISCO ATA190": "ATA190", "Cisco Systems, Inc. IP Phone SPA508G": "SPA508G", "Cisco Systems, Inc. CP-8851-3PCC\x00": "8851", "CISCO ATA191-MPP": "ATA191"} {
		if got, ok := set.RecognizeDHCP(class, "d0ec35aabbcc"); !ok || got.Model != want {
			t.Errorf("class %q is %+v %v, want model %q", class, got, ok, want)
		}
	}
}

// guestValues are the settings of a phone nobody has configured, in the zone; warned tells whether the zone came with a warning.
func guestValues(t *testing.T, set *plugins.Set, plugin, model, zone string) (values map[string]string, warned bool) {
	t.Helper()
	out := render(t, set, commands.Render{Plugin: commands.PluginRef{Name: plugin}, Model: model, MAC: "002699aabbcc", ID: "002699aabbcc", Guest: true,
		Settings: domain.Settings{"timezone": zone}})
	p, err := set.Package(commands.PluginRef{Name: plugin})
	if err != nil {
		t.Fatal(err)
	}
	values = map[string]string{}
	for _, f := range out.Files {
		entries, err := parseBack(p, f.Path, f.Data, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			values[e.Key] = e.Value
		}
	}
	for _, w := range out.Warnings {
		warned = warned || w.Setting == "timezone"
	}
	return values, warned
}

// sameClock looks at the rule and the zone once a month, on the 20th, when no zone changes its clock.
func sameClock(t *testing.T, name, text string) {
	t.Helper()
	z, err := tz.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	rule, err := tz.Parse(text)
	if err != nil {
		t.Errorf("%s: %s: %v", name, text, err)
		return
	}
	for at := int64(1768910400); at < 1830000000; at += 2629800 {
		want, _ := z.Rule.Offset(at)
		if got, _ := rule.Offset(at); got != want {
			t.Errorf("%s at %d: %s is %d s east, want %d", name, at, text, got, want)
			return
		}
	}
}

// The offset and rule a Cisco is given are the zone's own clock, wherever the rule can be said by weeks.
func TestCiscoZones(t *testing.T) {
	set := loadBuiltin(t)
	exact := 0
	for _, name := range zoneNames(t) {
		values, warned := guestValues(t, set, "cisco-spa", "SPA301", name)
		zone := strings.TrimPrefix(values["flat-profile/Time_Zone"], "GMT")
		sign := strings.NewReplacer("+", "-", "-", "+").Replace
		text := "STD" + sign(zone)
		if zone == "" {
			text = "STD0"
		}
		if values["flat-profile/Daylight_Saving_Time_Enable"] == "yes" {
			var from, to [6]int
			var save [2]int
			rule := values["flat-profile/Daylight_Saving_Time_Rule"]
			if _, err := fmt.Sscanf(rule, "start=%d/%d/%d/%d:%d:%d;end=%d/%d/%d/%d:%d:%d;save=%d:%d:0", &from[0], &from[1], &from[2], &from[3], &from[4], &from[5],
				&to[0], &to[1], &to[2], &to[3], &to[4], &to[5], &save[0], &save[1]); err != nil {
				t.Fatalf("%s: %s: %v", name, rule, err)
			}
			var hours, minutes int
			if zone != "" {
				if _, err := fmt.Sscanf(zone[1:], "%d:%d", &hours, &minutes); err != nil {
					t.Fatal(err)
				}
			}
			east := hours*60 + minutes
			if strings.HasPrefix(zone, "-") {
				east = -east
			}
			west := -(east + save[0]*60 + save[1])
			mark := "+"
			if west < 0 {
				mark, west = "-", -west
			}
			text += fmt.Sprintf("DST%s%d:%02d,%s,%s", mark, west/60, west%60, weekRule(from), weekRule(to))
		}
		if !warned {
			exact++
			sameClock(t, name, text)
		}
	}
	if exact < 500 {
		t.Errorf("only %d zones are exact", exact)
	}
}

// weekRule is POSIX's form of month, earliest day (-1 last) and weekday (7 Sunday), hour, minute.
func weekRule(c [6]int) string {
	week := 5
	if c[1] > 0 {
		week = (c[1]-1)/7 + 1
	}
	return fmt.Sprintf("M%d.%d.%d/%d:%02d", c[0], week, c[2]%7, c[3], c[4])
}
