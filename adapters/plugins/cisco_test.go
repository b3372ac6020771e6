package plugins_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/commands"
)

// Both families call themselves Cisco, and share the names of files; the model tells them apart.
func TestCiscoIsRecognised(t *testing.T) {
	set := loadBuiltin(t)
	for _, c := range []struct {
		asked commands.Asked
		want  commands.Recognition
	}{
		{commands.Asked{Path: "spa504G.cfg", UserAgent: "Cisco/SPA504G-7.4.9a (002699aabbcc)(CBT141200AB)"},
			commands.Recognition{Plugin: "cisco-spa", Model: "SPA504G", Fw: "7.4.9a", MAC: "002699aabbcc", Serial: "CBT141200AB", File: "spa.cfg"}},
		{commands.Asked{Path: "spa942.cfg", UserAgent: "Linksys/SPA-942-5.1.8 (000e08aabbcc)"},
			commands.Recognition{Plugin: "cisco-spa", Model: "SPA942", Fw: "5.1.8", MAC: "000e08aabbcc", File: "spa.cfg"}},
		{commands.Asked{Path: "spa942.cfg", UserAgent: "Linksys/SPA-942-6.1.5(a) (FM500I123456)"},
			commands.Recognition{Plugin: "cisco-spa", Model: "SPA942", Fw: "6.1.5", Serial: "FM500I123456", File: "spa.cfg"}},
		{commands.Asked{Path: "init.cfg"}, commands.Recognition{Plugin: "cisco-spa", Model: "PAP2T", File: "spa.cfg"}},
		{commands.Asked{Path: "spa599.cfg"}, commands.Recognition{Plugin: "cisco-spa", Model: "599", File: "spa.cfg"}},
		{commands.Asked{Path: "002699AABBCC.xml"}, commands.Recognition{Plugin: "cisco-spa", MAC: "002699aabbcc", File: "002699aabbcc.xml"}},
		{commands.Asked{Path: "ATA503DE5AABBCC.cnf.xml"}, commands.Recognition{Plugin: "cisco-spa", Model: "ATA190", MAC: "503de5aabbcc", File: "ATA503DE5AABBCC.cnf.xml"}},
		{commands.Asked{Path: "SEP002699AABBCC.cnf.xml"}, commands.Recognition{Plugin: "cisco-spa", MAC: "002699aabbcc", File: "SEP002699AABBCC.cnf.xml"}},
		{commands.Asked{Path: "8851-3PCC.xml", UserAgent: "Cisco-CP-8851-3PCC/11.3.1MSR1-3 (d0ec35aabbcc)(FCH2151E000)"},
			commands.Recognition{Plugin: "cisco-mpp", Model: "8851", Fw: "11.3.1MSR1-3", MAC: "d0ec35aabbcc", Serial: "FCH2151E000", File: "cp.xml"}},
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
