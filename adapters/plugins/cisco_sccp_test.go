package plugins_test

import (
	"testing"

	"ledgerline/commands"
)

func TestCiscoCallManagerPhonesAreRecognised(t *testing.T) {
	recognised(t, "cisco-sccp", "Cisco", map[commands.Asked]commands.Recognition{
		{Path: "SEP001AA1AABBCC.cnf.xml"}:   {MAC: "001aa1aabbcc", File: "SEP001AA1AABBCC.cnf.xml"},
		{Path: "CTLSEP001AA1AABBCC.tlv"}:    {MAC: "001aa1aabbcc", File: "CTLSEP001AA1AABBCC.tlv"},
		{Path: "ITLSEP001AA1AABBCC.tlv"}:    {MAC: "001aa1aabbcc", File: "ITLSEP001AA1AABBCC.tlv"},
		{Path: "ITLFile.tlv"}:               {File: "ITLFile.tlv"},
		{Path: "XMLDefault.cnf.xml"}:        {File: "XMLDefault.cnf.xml"},
		{Path: "SIP000A8AAABBCC.cnf"}:       {MAC: "000a8aaabbcc", File: "SIP000A8AAABBCC.cnf"},
		{Path: "SIPDefault.cnf"}:            {File: "SIPDefault.cnf"},
		{Path: "gk000a8aaabbcc"}:            {MAC: "000a8aaabbcc", File: "gk000a8aaabbcc"},
		{Path: "Communicator/ringlist.xml"}: {Model: "CIPC", File: "Communicator/ringlist.xml"},
		{Path: `Communicator\LdrAnnex.xml`}: {Model: "CIPC", File: `Communicator\LdrAnnex.xml`},
	}, commands.Asked{Path: "sep001aa1aabbcc.cnf.xml"}, commands.Asked{Path: "SEP001AA1.cnf.xml"}, commands.Asked{Path: "gk"})
	byClass(t, "cisco-sccp", map[string]string{"Cisco Systems, Inc. IP Phone CP-7941G\x00": "7941G", "Cisco Systems, Inc. IP Phone 7912": "7912G", "Cisco Systems, Inc. IP Phone CP-7961G-GE\x00": "7961G",
		"Cisco Systems, Inc.": "", "Cisco Systems Inc. Wireless Phone 7921": "7921G", "Cisco Systems, Inc. IP Phone CP-8945": "8945", "Cisco Systems, Inc. IP Phone CP-9951\x00": "9951"})
}

// Who resets a phone: its call manager under SCCP, a NOTIFY of its own kind under SIP.
func TestCiscoCallManagerPhonesAreToldByModel(t *testing.T) {
	set := loadBuiltin(t)
	for model, want := range map[string]string{"7912G": "", "CIPC": "", "7960G": "check-sync", "8945": "service-control"} {
		got, err := set.SyncMethod(commands.PluginRef{Name: "cisco-sccp"}, model)
		if err != nil || got.Event != want || (want == "service-control") != (got.Body != "") {
			t.Errorf("%s: %+v %v", model, got, err)
		}
	}
}
