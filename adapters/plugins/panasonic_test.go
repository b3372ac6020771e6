package plugins_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/commands"
)

func TestPanasonicIsRecognised(t *testing.T) {
	set := loadBuiltin(t)
	for _, c := range []struct {
		asked commands.Asked
		want  commands.Recognition
	}{
		{commands.Asked{Path: "Config0080F0C8C381.cfg", UserAgent: "Panasonic_KX-UT113/01.133 (0080f0c8c381)"},
			commands.Recognition{Model: "KX-UT113", Fw: "01.133", MAC: "0080f0c8c381", File: "Config0080F0C8C381.cfg"}},
		{commands.Asked{Path: "KX-UT136.cfg", UserAgent: "Panasonic_KX-UT136/01.133 (0080f0c8c381)"},
			commands.Recognition{Model: "KX-UT136", Fw: "01.133", MAC: "0080f0c8c381", File: "panasonic.cfg"}},
		{commands.Asked{Path: "KX-TGP600.cfg"}, commands.Recognition{Model: "KX-TGP600", File: "panasonic.cfg"}},
		{commands.Asked{Path: "bcc342aabbcc.cfg"}, commands.Recognition{MAC: "bcc342aabbcc", File: "ConfigBCC342AABBCC.cfg"}},
	} {
		c.want.Plugin, c.want.Vendor = "panasonic", "Panasonic"
		got, ok := set.Recognize(c.asked)
		if diff := cmp.Diff(c.want, got); !ok || diff != "" {
			t.Errorf("%+v: %v\n%s", c.asked, ok, diff)
		}
	}
	for _, a := range []commands.Asked{{Path: "KX-UT1.cfg"}, {Path: "Config0080F0.cfg"}, {UserAgent: "Panasonic TV"}} {
		if got, ok := set.Recognize(a); ok {
			t.Errorf("%+v recognised as %+v", a, got)
		}
	}
	if got, ok := set.RecognizeDHCP("Panasonic", "0080f0c8c381"); !ok || got.Plugin != "panasonic" {
		t.Errorf("%+v %v", got, ok)
	}
}
