package plugins_test

import (
	"testing"

	"ledgerline/commands"
)

func TestAlcatelLucentIsRecognised(t *testing.T) {
	recognised(t, "alcatel-lucent", "Alcatel-Lucent", map[commands.Asked]commands.Recognition{
		{Path: "sipconfig-00809faabbcc.txt", UserAgent: "Alcatel IP Touch 4028/2.01.20"}: {Model: "4028", Fw: "2.01.20", MAC: "00809faabbcc", File: "sipconfig-00809faabbcc.txt"},
		{Path: "sipconfig.txt", UserAgent: "Alcatel IP Touch 4068/2.01.20"}:              {Model: "4068", Fw: "2.01.20", File: "sipconfig.txt"},
		{Path: "lanpbx.cfg"}: {File: "sipconfig.txt"},
		{Path: "config.8028s-GE.xml", UserAgent: "ALE 8028s-GE 1.51.52.2204 487a55023075"}:  {Model: "8028s", Fw: "1.51.52.2204", MAC: "487a55023075", File: "config.model.xml"},
		{Path: "config.3c28a620089e.xml", UserAgent: "ALE M3-CE 2.11.01.1604 3c28a620089e"}: {Model: "M3", Fw: "2.11.01.1604", MAC: "3c28a620089e", File: "config.3c28a620089e.xml"},
		{Path: "config.M7.xml"}: {Model: "M7", File: "config.model.xml"},
		{Path: "x", Query: "mac=48:7a:55:02:30:75", UserAgent: "ALE H3 2.13.02.1608 487a55023075"}: {Model: "H3", Fw: "2.13.02.1608", MAC: "487a55023075", File: "x"},
	}, commands.Asked{Path: "config.xml"}, commands.Asked{Path: "sipconfig-0080.txt"}, commands.Asked{UserAgent: "ALE M3-CE"}, commands.Asked{Path: "config.X9.xml"})
	byClass(t, "alcatel-lucent", map[string]string{"alcatel.noe.0": "", "alcatel.sip.0": "", "aledevice": "", "ictouch.0": "", "alcatel.ictouch.0": ""})
}

// An IP Touch cannot be told to fetch; the others are.
func TestAlcatelLucentIsToldByModel(t *testing.T) {
	set := loadBuiltin(t)
	for model, want := range map[string]string{"4028": "", "M3": "check-sync", "8028s": "check-sync", "": "check-sync"} {
		if got, err := set.SyncMethod(commands.PluginRef{Name: "alcatel-lucent"}, model); err != nil || got.Event != want {
			t.Errorf("%s: %+v %v", model, got, err)
		}
	}
}
