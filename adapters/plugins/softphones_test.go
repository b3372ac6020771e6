package plugins_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/commands"
	"ledgerline/domain"
)

// recognised checks what requests show of one family.
func recognised(t *testing.T, plugin, vendor string, cases map[commands.Asked]commands.Recognition, not ...commands.Asked) {
	t.Helper()
	set := loadBuiltin(t)
	for asked, want := range cases {
		want.Plugin, want.Vendor = plugin, vendor
		got, ok := set.Recognize(asked)
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("%+v: %v\n%s", asked, ok, diff)
		}
	}
	for _, asked := range not {
		if got, ok := set.Recognize(asked); ok && got.Plugin == plugin {
			t.Errorf("%+v recognised as %+v", asked, got)
		}
	}
}

func TestLinphoneIsRecognised(t *testing.T) {
	recognised(t, "linphone", "Linphone", map[commands.Asked]commands.Recognition{
		// Linphonec 5.1.65, captured: it does not say who it is
		{Path: "linphone-020000aabb01.xml", UserAgent: "Unknown"}:                                                 {MAC: "020000aabb01", File: "linphone-020000aabb01.xml"},
		{Path: "linphone.xml", UserAgent: "Unknown"}:                                                              {File: "linphone.xml"},
		{Path: "linphone-020000AABB01.xml", UserAgent: "LinphoneAndroid/5.2.5 (Pixel 7) LinphoneSDK/5.3.47"}:      {Model: "Linphone-Android", Fw: "5.2.5", MAC: "020000aabb01", File: "linphone-020000aabb01.xml"},
		{Path: "linphone.xml", UserAgent: "Linphone-Desktop/5.2.6 (desk) Debian/12 Qt/5.15.8 LinphoneSDK/5.3.72"}: {Model: "Linphone-Desktop", Fw: "5.2.6", File: "linphone.xml"},
		{Path: "linphone.xml", UserAgent: "Linphonec/5.1.65"}:                                                     {Model: "Linphone", Fw: "5.1.65", File: "linphone.xml"},
	}, commands.Asked{Path: "linphone-02.xml"}, commands.Asked{Path: "linphone.xml.bak"}, commands.Asked{UserAgent: "Linphone"})
}

func TestJitsiIsRecognised(t *testing.T) {
	recognised(t, "jitsi", "Jitsi", map[commands.Asked]commands.Recognition{
		// wazo_jitsi, plugin of the original
		{Path: "jitsi", Query: "uuid=12ab34cd-0000-4000-8000-000000000001", UserAgent: "Jitsi/1.0-beta1-nightly.build.3408"}: {Model: "Jitsi", Fw: "1.0-beta1-nightly.build.3408", File: "jitsi"},
		{Path: "jitsi", Query: "uuid=12ab34cd&mac=00:1a:4b:0c:0d:0e", UserAgent: "Jitsi/2.10.5550"}:                          {Model: "Jitsi", Fw: "2.10.5550", MAC: "001a4b0c0d0e", File: "jitsi"},
		{Path: "jitsi", Query: "uuid=12ab34cd&mac=00%3A1a%3A4b%3A0c%3A0d%3A0e"}:                                              {MAC: "001a4b0c0d0e", File: "jitsi"},
		{Path: "jitsi-001a4b0c0d0e.properties"}:                                                                              {MAC: "001a4b0c0d0e", File: "jitsi"},
	}, commands.Asked{Path: "x", Query: "mac=00:1a:4b:0c:0d:0e"}, commands.Asked{UserAgent: "Jitsi"}, commands.Asked{Path: "jitsi/x"})
}

// dhcp checks the models vendor classes show.
func dhcp(t *testing.T, plugin string, models map[string]string, mac domain.MAC) {
	t.Helper()
	set := loadBuiltin(t)
	for class, want := range models {
		if got, ok := set.RecognizeDHCP(class, mac); !ok || got.Plugin != plugin || got.Model != want {
			t.Errorf("class %q is %+v %v, want model %q", class, got, ok, want)
		}
	}
}
