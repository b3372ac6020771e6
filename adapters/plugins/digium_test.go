package plugins_test

import (
	"testing"

	"ledgerline/commands"
)

func TestDigiumIsRecognised(t *testing.T) {
	recognised(t, "digium-sangoma", "Digium", map[commands.Asked]commands.Recognition{
		{Path: "Digium/000fd3aabbcc.cfg", UserAgent: "Digium D65 2_8_1"}:   {Model: "D65", Fw: "2_8_1", MAC: "000fd3aabbcc", File: "000fd3aabbcc.cfg"},
		{Path: "Digium/000000000000.cfg", UserAgent: "Digium D40 1_4_0_0"}: {Model: "D40", Fw: "1_4_0_0", File: "000000000000.cfg"},
		{Path: "Digium/00501EAABBCC.cfg"}:                                  {MAC: "00501eaabbcc", File: "00501eaabbcc.cfg"},
		{Path: "000fd3aabbcc.cfg"}:                                         {MAC: "000fd3aabbcc", File: "000fd3aabbcc.cfg"},
		{Path: "000fd3aabbcc-contacts.xml"}:                                {MAC: "000fd3aabbcc", File: "000fd3aabbcc-contacts.xml"},
		{Path: "Digium/000fd3aabbcc.cfg", UserAgent: "Sangoma P325 4.8.0"}: {Model: "P325", Fw: "4.8.0", MAC: "000fd3aabbcc", File: "000fd3aabbcc.cfg"},
	}, commands.Asked{Path: "000000000000.cfg"}, commands.Asked{Path: "001565aabbcc.cfg"}, commands.Asked{UserAgent: "Sangoma S500 fw 1.2"})
	byClass(t, "digium-sangoma", map[string]string{"digium_D40_1_1_0_0_48178": "D40", "digium_D70_1_0_5_46476": "D70"})
}

func TestThomsonIsRecognised(t *testing.T) {
	recognised(t, "technicolor-thomson", "Technicolor", map[commands.Asked]commands.Recognition{
		{Path: "ST2022S.inf", UserAgent: "THOMSON ST2022 hw2 fw4.68 00-14-7F-E1-FC-6D"}:              {Model: "ST2022", Fw: "4.68", MAC: "00147fe1fc6d", File: "boot.inf"},
		{Path: "ST2030S_00147FE147B3.txt", UserAgent: "THOMSON ST2030 hw5 fw2.74 00-14-7F-E1-47-B3"}: {Model: "ST2030", Fw: "2.74", MAC: "00147fe147b3", File: "00147FE147B3.txt"},
		{Path: "comconf.txt", UserAgent: "Thomson TB30 hw1 fw1.74.0 00-1F-9F-84-F1-80"}:              {Model: "TB30", Fw: "1.74.0", MAC: "001f9f84f180", File: "comconf.txt"},
		{Path: "TB30S_001f9f84f180.txt"}: {Model: "TB30", MAC: "001f9f84f180", File: "001F9F84F180.txt"},
	}, commands.Asked{Path: "ST2030S.txt"}, commands.Asked{Path: "00147FE147B3.txt"}, commands.Asked{UserAgent: "Thomson ST2030"})
	byClass(t, "technicolor-thomson", map[string]string{"Thomson ST2030S": "ST2030", "Thomson TB30S": "TB30"})
}

func TestZenitelIsRecognised(t *testing.T) {
	recognised(t, "zenitel", "Zenitel", map[commands.Asked]commands.Recognition{
		{Path: "ipst_config.cfg"}:                   {Model: "IP station", File: "ipst_config.cfg"},
		{Path: "ipst_config_00_13_cb_03_04_ab.cfg"}: {Model: "IP station", MAC: "0013cb0304ab", File: "ipst_config_00_13_cb_03_04_ab.cfg"},
	}, commands.Asked{Path: "ipst_config_0013cb.cfg"}, commands.Asked{Path: "ipst_config_00-13-cb-03-04-ab.cfg"})
}
