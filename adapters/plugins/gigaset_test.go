package plugins_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/commands"
)

func TestGigasetIsRecognised(t *testing.T) {
	set := loadBuiltin(t)
	for _, c := range []struct {
		asked commands.Asked
		want  commands.Recognition
	}{
		{commands.Asked{Path: "7c2f80e0d605.xml", UserAgent: "Gigaset N870 IP PRO/83.V2.11.0+build.a546b91;7C2F80E0D605;Handset=1"},
			commands.Recognition{Model: "N870", Fw: "83.V2.11.0+build.a546b91", MAC: "7c2f80e0d605", File: "7c2f80e0d605.xml"}},
		{commands.Asked{Path: "7C2F80CA21E4.xml", UserAgent: "Gigaset N720 DM PRO/70.108.00.000.000;7C2F80CA21E4"},
			commands.Recognition{Model: "N720", Fw: "70.108.00.000.000", MAC: "7c2f80ca21e4", File: "7c2f80ca21e4.xml"}},
		{commands.Asked{Path: "42/2/master.bin", UserAgent: "N510 IP PRO/42.258.00.000.000"},
			commands.Recognition{Model: "N510", Fw: "42.258.00.000.000", File: "42/2/master.bin"}},
		{commands.Asked{UserAgent: "N720-DM-PRO/70.108.00.000.000;589EC6AABBCC"}, commands.Recognition{Model: "N720", Fw: "70.108.00.000.000", MAC: "589ec6aabbcc"}},
		{commands.Asked{Path: "7C2F80AABBCC.xml"}, commands.Recognition{MAC: "7c2f80aabbcc", File: "7c2f80aabbcc.xml"}},
	} {
		c.want.Plugin, c.want.Vendor = "gigaset", "Gigaset"
		got, ok := set.Recognize(c.asked)
		if diff := cmp.Diff(c.want, got); !ok || diff != "" {
			t.Errorf("%+v: %v\n%s", c.asked, ok, diff)
		}
	}
	for _, a := range []commands.Asked{{Path: "42/2/master.bin"}, {Path: "7C2F80AABB.xml"}, {UserAgent: "N510"}} {
		if got, ok := set.Recognize(a); ok {
			t.Errorf("%+v recognised as %+v", a, got)
		}
	}
	for class, want := range map[string]string{"Gigaset_N720_DM_PRO": "N720", "N510_IP_PRO": "N510", "C470IP": "C470", "C470_IP": "C470", "S675_IP": "S675", "C590_IP": "C590", "C610_IP": "C610"} {
		if got, ok := set.RecognizeDHCP(class, "7c2f80aabbcc"); !ok || got.Plugin != "gigaset" || got.Model != want {
			t.Errorf("class %q is %+v %v, want model %q", class, got, ok, want)
		}
	}
}
