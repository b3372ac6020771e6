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
