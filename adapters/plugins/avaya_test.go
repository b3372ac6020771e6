package plugins_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins"
	"ledgerline/commands"
)

// saysOf checks what requests show of a family's phones: plugin and vendor are filled in.
func saysOf(t *testing.T, set *plugins.Set, plugin, vendor string, cases []heard) {
	t.Helper()
	for _, c := range cases {
		c.want.Plugin, c.want.Vendor = plugin, vendor
		got, ok := set.Recognize(c.asked)
		if diff := cmp.Diff(c.want, got); !ok || diff != "" {
			t.Errorf("%+v: %v\n%s", c.asked, ok, diff)
		}
	}
}

type heard struct {
	asked commands.Asked
	want  commands.Recognition
}

// byClass checks what DHCP classes show: plugin and model.
func byClass(t *testing.T, set *plugins.Set, plugin string, models map[string]string) {
	t.Helper()
	for class, model := range models {
		if got, ok := set.RecognizeDHCP(class, ""); !ok || got.Plugin != plugin || got.Model != model {
			t.Errorf("class %q: %+v %v", class, got, ok)
		}
	}
}

// strangers are not taken for phones of any family.
func strangers(t *testing.T, set *plugins.Set, plugin string, asked ...commands.Asked) {
	t.Helper()
	for _, a := range asked {
		if got, ok := set.Recognize(a); ok && got.Plugin == plugin {
			t.Errorf("%+v recognised as %+v", a, got)
		}
	}
}

func TestAvayaIsRecognised(t *testing.T) {
	set := loadBuiltin(t)
	const j179 = "Mozilla/4.0 (compatible; MSIE 6.0) AVAYA/J179-4.1.3.0.6 (MAC:c81fea83e85a)"
	saysOf(t, set, "avaya", "Avaya", []heard{
		{commands.Asked{Path: "J100Supgrade.txt", UserAgent: j179}, commands.Recognition{Model: "J179", Fw: "4.1.3.0.6", MAC: "c81fea83e85a", File: "J100Supgrade.txt"}},
		{commands.Asked{Path: "46xxsettings.txt", UserAgent: j179}, commands.Recognition{Model: "J179", Fw: "4.1.3.0.6", MAC: "c81fea83e85a", File: "46xxsettings.txt"}},
		{commands.Asked{Path: "C81FEA83E85A.cfg"}, commands.Recognition{MAC: "c81fea83e85a", File: "c81fea83e85a.cfg"}},
		{commands.Asked{Path: "SIP002400AABBCC.cfg", UserAgent: "AVAYA/SIP12x0\x17/04.00.04.00"}, commands.Recognition{Fw: "04.00.04.00", MAC: "002400aabbcc", File: "SIP002400AABBCC.cfg"}},
		{commands.Asked{Path: "1230SIP.cfg", UserAgent: "AVAYA/SIP12x0\xff/04.01.13.00"}, commands.Recognition{Model: "1230IP", Fw: "04.01.13.00", File: "1230SIP.cfg"}},
		{commands.Asked{Path: "1220.cfg"}, commands.Recognition{Model: "1220IP", File: "1220SIP.cfg"}},
	})
	byClass(t, set, "avaya", map[string]string{"ccp.avaya.com": "", "Nortel-SIP-Phone-A": ""})
	strangers(t, set, "avaya", commands.Asked{Path: "001565aabbcc.cfg"}, commands.Asked{UserAgent: "AVAYA/J179"}, commands.Asked{Path: "SIP002400.cfg"}, commands.Asked{Path: "1240SIP.cfg"})
}
