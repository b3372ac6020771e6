package plugins_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/commands"
)

// Files have Yealink's names: who asks is a Flyingvoice by its User-Agent or its address only.
func TestFlyingvoiceIsRecognised(t *testing.T) {
	set := loadBuiltin(t)
	for _, c := range []struct {
		asked commands.Asked
		want  commands.Recognition
	}{
		{commands.Asked{Path: "y000000000000.boot", UserAgent: "Flyingvoice FIP13G V0.6.24 0021f2aabbcc"},
			commands.Recognition{Model: "FIP13G", Fw: "0.6.24", MAC: "0021f2aabbcc", File: "0021f2aabbcc.boot"}},
		{commands.Asked{Path: "y000000000000.cfg", UserAgent: "Flyingvoice P10W V0.7.1 00:21:f2:aa:bb:cc"},
			commands.Recognition{Model: "P10", Fw: "0.7.1", MAC: "0021f2aabbcc", File: "y000000000000.cfg"}},
		{commands.Asked{Path: "0021f2aabbcc.cfg"}, commands.Recognition{MAC: "0021f2aabbcc", File: "0021f2aabbcc.cfg"}},
		{commands.Asked{Path: "y000000000000.cfg", ClientMAC: "0021f2aabbcc"}, commands.Recognition{MAC: "0021f2aabbcc", File: "y000000000000.cfg"}},
	} {
		c.want.Plugin, c.want.Vendor = "flyingvoice", "Flyingvoice"
		got, ok := set.Recognize(c.asked)
		if diff := cmp.Diff(c.want, got); !ok || diff != "" {
			t.Errorf("%+v: %v\n%s", c.asked, ok, diff)
		}
	}
	if got, ok := set.Recognize(commands.Asked{Path: "y000000000000.cfg"}); !ok || got.Plugin != "yealink" {
		t.Errorf("without an address the common file is %+v", got)
	}
	if got, ok := set.RecognizeDHCP("Flyingvoice FIP13G", "0021f2aabbcc"); !ok || got.Plugin != "flyingvoice" {
		t.Errorf("%+v %v", got, ok)
	}
}
