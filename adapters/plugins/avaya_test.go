package plugins_test

import (
	"testing"

	"ledgerline/commands"
)

// byClass checks what DHCP classes show: plugin and model.
func byClass(t *testing.T, plugin string, models map[string]string) {
	t.Helper()
	set := loadBuiltin(t)
	for class, model := range models {
		if got, ok := set.RecognizeDHCP(class, ""); !ok || got.Plugin != plugin || got.Model != model {
			t.Errorf("class %q: %+v %v", class, got, ok)
		}
	}
}

func TestAvayaIsRecognised(t *testing.T) {
	const j179 = "Mozilla/4.0 (compatible; MSIE 6.0) AVAYA/J179-4.1.3.0.6 (MAC:c81fea83e85a)"
	recognised(t, "avaya", "Avaya", map[commands.Asked]commands.Recognition{
		{Path: "J100Supgrade.txt", UserAgent: j179}:                               {Model: "J179", Fw: "4.1.3.0.6", MAC: "c81fea83e85a", File: "J100Supgrade.txt"},
		{Path: "46xxsettings.txt", UserAgent: j179}:                               {Model: "J179", Fw: "4.1.3.0.6", MAC: "c81fea83e85a", File: "46xxsettings.txt"},
		{Path: "C81FEA83E85A.cfg"}:                                                {MAC: "c81fea83e85a", File: "c81fea83e85a.cfg"},
		{Path: "SIP002400AABBCC.cfg", UserAgent: "AVAYA/SIP12x0\x17/04.00.04.00"}: {Fw: "04.00.04.00", MAC: "002400aabbcc", File: "SIP002400AABBCC.cfg"},
		{Path: "1230SIP.cfg", UserAgent: "AVAYA/SIP12x0\xff/04.01.13.00"}:         {Model: "1230IP", Fw: "04.01.13.00", File: "1230SIP.cfg"},
		{Path: "1220.cfg"}: {Model: "1220IP", File: "1220SIP.cfg"},
	}, commands.Asked{Path: "001565aabbcc.cfg"}, commands.Asked{UserAgent: "AVAYA/J179"}, commands.Asked{Path: "SIP002400.cfg"}, commands.Asked{Path: "1240SIP.cfg"})
	byClass(t, "avaya", map[string]string{"ccp.avaya.com": "", "Nortel-SIP-Phone-A": ""})
}
