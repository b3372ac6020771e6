package wire_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins/wire"
)

func TestCiscoLines(t *testing.T) {
	got, err := wire.Parse("cisco-cnf", []byte("# comment\nimage_version: P0S3-8-12-00\nline1_password: \" a: b#'c \"\nproxy_register: 1\nempty: \"\"\n"))
	want := []wire.Entry{{Key: "image_version", Value: "P0S3-8-12-00"}, {Key: "line1_password", Value: " a: b#'c "}, {Key: "proxy_register", Value: "1"}, {Key: "empty"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"", "no colon\n", ": a\n", "a b: c\n", "a: \"x\n", "a: \"x\"y\"\n", "a: b\rc: d\n"} {
		if _, err := wire.Parse("cisco-cnf", []byte(bad)); !errors.Is(err, wire.ErrSyntax) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzCisco(f *testing.F) {
	for _, s := range []string{"plain", "a\r\nb: c", `"`, "#", "\u2028x: y", "\x00", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		escaped := wire.Escape("cisco-cnf", s)
		got, err := wire.Parse("cisco-cnf", []byte("first: \""+escaped+"\"\nlast: 1\n"))
		if err != nil || len(got) != 2 || got[0].Key != "first" || got[1].Key != "last" || got[0].Value != escaped {
			t.Fatalf("%q gives %v %v", s, got, err)
		}
	})
}
