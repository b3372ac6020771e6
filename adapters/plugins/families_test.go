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
		{path: "64167F1A2B3C.cfg", plugin: "polycom", mac: "64167f1a2b3c", file: "64167f1a2b3c.cfg"},
	} {
		got, ok := set.Recognize(commands.Asked{Path: c.path, UserAgent: c.agent})
		want := commands.Recognition{Plugin: c.plugin, Vendor: got.Vendor, Model: c.model, Fw: c.fw, MAC: domain.MAC(c.mac), File: c.file}
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("%q %q: %v\n%s", c.path, c.agent, ok, diff)
		}
	}
	for class, want := range map[string]commands.Recognition{
		"Polycom-VVX400": {Plugin: "polycom", Vendor: "Polycom", Model: "VVX400"},
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
