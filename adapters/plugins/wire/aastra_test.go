package wire_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins/wire"
)

func TestAastraLines(t *testing.T) {
	const text = "# comment\nsip line1 password: \" a#\"b: c \"\n!call waiting: 1\nvmail:\ndst [start|end] relative date: 1\n"
	want := []wire.Entry{{Key: "sip line1 password", Value: ` a#"b: c `}, {Key: "call waiting", Value: "1"}, {Key: "vmail"}, {Key: "dst [start|end] relative date", Value: "1"}}
	got, err := wire.Parse("aastra", []byte(text))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"", "no colon\n", ": a\n", "Name: a\n", "a=b: c\n", "a: b\rc: d\n", "a: \xff\n"} {
		if got, err := wire.Parse("aastra", []byte(bad)); !errors.Is(err, wire.ErrSyntax) {
			t.Errorf("%q: %v %v", bad, got, err)
		}
	}
}

func FuzzAastra(f *testing.F) {
	for _, s := range []string{"plain", "a\r\nb: c", `"`, "#", "\u2028x: y", "\x00", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := wire.Parse("aastra", []byte("first: \""+wire.Escape("aastra", s)+"\"\nlast: 1\n"))
		if err != nil || len(got) != 2 || got[0].Key != "first" || got[1].Key != "last" {
			t.Fatalf("%q gives %v %v", s, got, err)
		}
		if wire.Escape("aastra", s) == s && got[0].Value != s {
			t.Fatalf("%q comes back as %q", s, got[0].Value)
		}
	})
}
