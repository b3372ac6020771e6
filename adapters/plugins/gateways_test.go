package plugins_test

import (
	"testing"

	"ledgerline/commands"
)

func TestPattonIsRecognised(t *testing.T) {
	recognised(t, "patton", "Patton", map[commands.Asked]commands.Recognition{
		// wazo_patton, plugin of the original
		{Path: "00a0ba08933c.cfg", UserAgent: "SmartNode (Model:SN4112/JS/EUI; Serial:00A0BA08933C; Software Version:R6.2 2012-09-11 H323 SIP FXS FXO; Hardware Version:4.4)"}: {Model: "SN4112", Fw: "6.2", MAC: "00a0ba08933c", File: "00a0ba08933c.cfg"},
		{Path: "00A0BA08933C.cfg"}: {MAC: "00a0ba08933c", File: "00a0ba08933c.cfg"},
	}, commands.Asked{Path: "001122334455.cfg"}, commands.Asked{UserAgent: "SmartNode (Model:x)"}, commands.Asked{Path: "00a0ba0893.cfg"})
	dhcp(t, "patton", map[string]string{"SN4112": "SN4112", "SmartNode SN4324/JS": "SN4324"}, "00a0ba08933c")
}

func TestAlgoIsRecognised(t *testing.T) {
	recognised(t, "algo", "Algo", map[commands.Asked]commands.Recognition{
		{Path: "algom0022ee010203.conf"}:                                            {MAC: "0022ee010203", File: "algom0022ee010203.conf"},
		{Path: "algo0022EE010203.conf"}:                                             {MAC: "0022ee010203", File: "algo0022ee010203.conf"},
		{Path: "algom0022ee010203.conf", UserAgent: "Algo-8180 3.4.2 0022ee010203"}: {Model: "8180", Fw: "3.4.2", MAC: "0022ee010203", File: "algom0022ee010203.conf"},
	}, commands.Asked{Path: "algo.conf"}, commands.Asked{Path: "algom0022ee0102.conf"})
	dhcp(t, "algo", map[string]string{"Algo 8301": "8301", "Algo": ""}, "0022ee010203")
}

func Test2NIsRecognised(t *testing.T) {
	recognised(t, "2n", "2N", map[commands.Asked]commands.Recognition{
		{Path: "7c1eb3010203.xml"}: {MAC: "7c1eb3010203", File: "7c1eb3010203.xml"},
		{Path: "7C1EB3010203.xml", UserAgent: "2N IP Solo/2.50.0.76.2 7c-1e-b3-01-02-03"}: {Model: "IP Solo", Fw: "2.50.0.76.2", MAC: "7c1eb3010203", File: "7c1eb3010203.xml"},
	}, commands.Asked{Path: "000413aabbcc.xml"})
	dhcp(t, "2n", map[string]string{"2N IP Verso": ""}, "7c1eb3010203")
}

func TestYeastarIsRecognised(t *testing.T) {
	recognised(t, "yeastar-ta", "Yeastar", map[commands.Asked]commands.Recognition{
		{Path: "cfgf4b549010203.xml"}: {MAC: "f4b549010203", File: "cfgf4b549010203.xml"},
		{Path: "cfgF4B549010203.xml", UserAgent: "Yeastar TA400 41.19.0.50 f4b549010203"}: {Model: "TA400", Fw: "41.19.0.50", MAC: "f4b549010203", File: "cfgf4b549010203.xml"},
	}, commands.Asked{Path: "cfg000b82112233.xml"})
	dhcp(t, "yeastar-ta", map[string]string{"Yeastar TA800": "TA800", "NeoGate": ""}, "f4b549010203")
}

func TestVTechIsRecognised(t *testing.T) {
	recognised(t, "vtech", "VTech", map[commands.Asked]commands.Recognition{
		{Path: "0011a0010203.cfg"}: {MAC: "0011a0010203", File: "0011a0010203.cfg"},
		{Path: "0011A0010203.cfg", UserAgent: "Vtech Vesa VCS754 2.0.3.2-0 0011a0010203"}: {Model: "VCS754", Fw: "2.0.3.2", MAC: "0011a0010203", File: "0011a0010203.cfg"},
	}, commands.Asked{Path: "001565112233.cfg"})
	dhcp(t, "vtech", map[string]string{"Vtech Vesa VCS754": "VCS754", "VTech": ""}, "0011a0010203")
}

func TestObihaiIsRecognised(t *testing.T) {
	recognised(t, "obihai", "Obihai", map[commands.Asked]commands.Recognition{
		{Path: "9cadef010203.xml", UserAgent: "OBIHAI/OBi1062-5.1.11.4858"}: {Model: "OBi1062", Fw: "5.1.11.4858", MAC: "9cadef010203", File: "9cadef010203.xml"},
		{Path: "9CADEF010203.xml"}: {MAC: "9cadef010203", File: "9cadef010203.xml"},
		{Path: "obi302.xml"}:       {Model: "OBi302", File: "obi.xml"},
	}, commands.Asked{Path: "000413aabbcc.xml"})
	dhcp(t, "obihai", map[string]string{"OBIHAI/OBi302": "OBi302"}, "9cadef010203")
}
