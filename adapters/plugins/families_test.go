package plugins_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/commands"
	"ledgerline/domain"
)

// What phones were heard to say, and what is not theirs.
func TestFamiliesAreRecognised(t *testing.T) {
	set := loadBuiltin(t)
	for _, c := range []struct {
		path, agent                  string
		plugin, model, fw, mac, file string
	}{
		{path: "000000000000.cfg", agent: "FileTransport PolycomVVX-VVX_400-UA/4.1.4.7430 Type/Application", plugin: "polycom", model: "VVX400", fw: "4.1.4.7430", file: "000000000000.cfg"},
		{path: "0004f2aabbcc.cfg", agent: "FileTransport PolycomSoundStationIP-SSIP_6000-UA/5.0.3.1667 Type/Updater", plugin: "polycom", model: "SSIP6000", mac: "0004f2aabbcc", file: "0004f2aabbcc.cfg"},
		{path: "0004f2aabbcc-phone.cfg", agent: "FileTransport PolycomSoundPointIP-SPIP_335-UA/3.2.1.0078", plugin: "polycom", model: "SPIP335", mac: "0004f2aabbcc", file: "0004f2aabbcc-phone.cfg"},
		{path: "common.cfg", agent: "FileTransport PolycomVVX-VVX_411-UA/6.4.6.2453 (SN:64167f1a2b3c) Type/Application", plugin: "polycom", model: "VVX411", fw: "6.4.6.2453", mac: "64167f1a2b3c", file: "common.cfg"},
		{path: "482567aabbcc-user.cfg", agent: "FileTransport PolyEdge-Edge_E350-UA/8.1.2.1234 Type/Application", plugin: "polycom", model: "Edge E350", fw: "8.1.2.1234", mac: "482567aabbcc", file: "482567aabbcc-user.cfg"},
		{path: "1400E91BE241.cfg", agent: "Mitel6915 MAC:14-00-E9-1B-E2-41 V:6.4.0.140-SIP", plugin: "aastra-mitel", model: "6915", fw: "6.4.0.140", mac: "1400e91be241", file: "1400E91BE241.cfg"},
		{path: "Aastra/aastra.cfg", agent: "Aastra6731i MAC:00-08-5D-23-74-29 V:3.2.0.70-SIP", plugin: "aastra-mitel", model: "6731i", fw: "3.2.0.70", mac: "00085d237429", file: "aastra.cfg"},
		{path: "Aastra/6863i.cfg", agent: "Aastra57i MAC:00-08-5D-13-CA-05 V:3.0.1.2024-SIP", plugin: "aastra-mitel", model: "6757i", fw: "3.0.1.2024", mac: "00085d13ca05", file: "6863i.cfg"},
		{path: "00085D237429.cfg", plugin: "aastra-mitel", mac: "00085d237429", file: "00085D237429.cfg"},
		{path: "Fanvil/0c383e112233.cfg", agent: "Fanvil X6U Pro 2.12.16.17 0c383e112233", plugin: "fanvil", model: "X6U-Pro", fw: "2.12.16.17", mac: "0c383e112233", file: "0c383e112233.cfg"},
		{path: "f0X3sghw1.100.cfg", agent: "Fanvil X3SG 2.4.12 00a859aabbcc", plugin: "fanvil", model: "X3SG", fw: "2.4.12", mac: "00a859aabbcc", file: "f0X3sghw1.100.cfg"},
		{path: "Fanvil/F0V0V6400000.cfg", plugin: "fanvil", model: "V64", file: "F0V0V6400000.cfg"},
		{path: "cfg001fc11c22a9.xml", agent: "Htek UC903 2.0.4.2 00:1f:c1:1c:22:a9", plugin: "htek", model: "UC903", fw: "2.0.4.2", mac: "001fc11c22a9", file: "cfg001fc11c22a9.xml"},
		{path: "cfg0010.xml", plugin: "htek", model: "UC926", file: "cfg0010.xml"},
		{path: "cfg001FC11C22A9.cfg", plugin: "htek", mac: "001fc11c22a9", file: "cfg001fc11c22a9.xml"},
		{path: "64167F1A2B3C.cfg", plugin: "polycom", mac: "64167f1a2b3c", file: "64167f1a2b3c.cfg"},
	} {
		got, ok := set.Recognize(commands.Asked{Path: c.path, UserAgent: c.agent})
		want := commands.Recognition{Plugin: c.plugin, Vendor: got.Vendor, Model: c.model, Fw: c.fw, MAC: domain.MAC(c.mac), File: c.file}
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("%q %q: %v\n%s", c.path, c.agent, ok, diff)
		}
	}
	for class, want := range map[string]commands.Recognition{
		"AastraIPPhone6865i": {Plugin: "aastra-mitel", Vendor: "Aastra", Model: "6865i"},
		"MitelIPPhone6930":   {Plugin: "aastra-mitel", Vendor: "Aastra", Model: "6930"},
		"Polycom-VVX400":     {Plugin: "polycom", Vendor: "Polycom", Model: "VVX400"},
	} {
		if got, ok := set.RecognizeDHCP(class, ""); !ok || !cmp.Equal(want, got) {
			t.Errorf("class %q is %+v %v", class, got, ok)
		}
	}
	for _, a := range []commands.Asked{
		{Path: "0015651a2b3-user.cfg"}, {Path: "001122334455-user.cfg"}, {UserAgent: "FileTransport Polycom"}, {Path: "common.cfg"},
	} {
		if got, ok := set.Recognize(a); ok {
			t.Errorf("%+v recognised as %+v", a, got)
		}
	}
}
