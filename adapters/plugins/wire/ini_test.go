package wire_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins/wire"
)

func TestINI(t *testing.T) {
	const text = "APPLICATION_TYPE=APPL_SIP\n# comment\n[sip]\n nick_name= Ann = #1; \nsip_id=\n\n[call]\nspeeddial_1_c1=7\n"
	want := []wire.Entry{{Key: "APPLICATION_TYPE", Value: "APPL_SIP"}, {Key: "sip/nick_name", Value: "Ann = #1;"}, {Key: "sip/sip_id"}, {Key: "call/speeddial_1_c1", Value: "7"}}
	got, err := wire.Parse("ini", []byte(text))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"", "[sip\n", "[]\n", "[a b]\n", "no equals\n", "=x\n", "a b=x\n", "a=b\rc=d\n", "a=\xff\n"} {
		for _, format := range []string{"ini", "ini-latin1"} {
			if _, err := wire.Parse(format, []byte(bad)); !errors.Is(err, wire.ErrSyntax) && (format == "ini" || !strings.Contains(bad, "\xff")) {
				t.Errorf("%s %q: %v", format, bad, err)
			}
		}
	}
}

// One byte a character, and a question mark for what Latin-1 does not have.
func TestINIInLatin1(t *testing.T) {
	file, err := wire.Finish("ini-latin1", []byte("[sip]\nname="+wire.Escape("ini-latin1", "Zoë €\u0085漢")+"\n"), "")
	if err != nil || string(file) != "[sip]\nname=Zo\xeb ? ?\n" {
		t.Fatalf("%q %v", file, err)
	}
	got, err := wire.Parse("ini-latin1", file)
	if diff := cmp.Diff([]wire.Entry{{Key: "sip/name", Value: "Zoë ? ?"}}, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func FuzzINI(f *testing.F) {
	for _, s := range []string{"plain", "a\r\nb=c", "[x]", "#", ";", "\u2028x=y", "\x00", "\xff", "é漢"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, format := range []string{"ini", "ini-latin1"} {
			file, err := wire.Finish(format, []byte("[s]\nfirst=x"+wire.Escape(format, s)+"y\nlast=1\n"), "")
			if err != nil {
				t.Fatal(err)
			}
			got, err := wire.Parse(format, file)
			if err != nil || len(got) != 2 || got[0].Key != "s/first" || got[1].Key != "s/last" {
				t.Fatalf("%s: %q gives %v %v", format, s, got, err)
			}
			if wire.Holds(format, s) && got[0].Value != "x"+s+"y" {
				t.Fatalf("%s: %q comes back as %q", format, s, got[0].Value)
			}
		}
	})
}
