package wire_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins/wire"
)

func TestPatton(t *testing.T) {
	got, err := wire.Parse("patton", []byte("cli version 3.20\n# comment\nprofile voip default\n  codec 1 g711alaw64k rx-length 20\nlocation-service L\n  identity \"a b\"\n    authentication outbound\n      authenticate \"x\\\"y\\\\\"\n  domain h\nno shutdown\n"))
	want := []wire.Entry{{Key: "cli version", Value: "3.20"}, {Key: "profile voip default"}, {Key: "profile voip default/codec 1", Value: "g711alaw64k rx-length 20"},
		{Key: "location-service L"}, {Key: `location-service L/identity ""`, Value: "a b"}, {Key: `location-service L/identity ""/authentication outbound`},
		{Key: `location-service L/identity ""/authentication outbound/authenticate`, Value: `x"y\`}, {Key: "location-service L/domain", Value: "h"}, {Key: "no", Value: "shutdown"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"", "a b\n", "cli version 3.20\na \"b\n", "cli version 3.20\na \"b\"c\n", "cli version 3.20\na b\"c\"\n", "cli version 3.20\na é\n", "cli version 3.20\na\tb\n"} {
		if got, err := wire.Parse("patton", []byte(bad)); !errors.Is(err, wire.ErrSyntax) {
			t.Errorf("%q: %v %v", bad, got, err)
		}
	}
}

// Text between quotes stays there; all of it that is ASCII comes back.
func FuzzPatton(f *testing.F) {
	for _, s := range []string{"plain", "a\r\nb", `"`, `\`, `\"`, "é", "\xff", " x ", "#", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		entries, err := wire.Parse("patton", []byte("cli version 3.20\nmode\n  key \""+wire.Escape("patton", s)+"\" word\nlast 1\n"))
		if err != nil || len(entries) != 4 || entries[2].Key != "mode/key" || entries[3].Key != "last 1" {
			t.Fatalf("%q: %v %v", s, entries, err)
		}
		if wire.Holds("patton", s) && entries[2].Value != s+" word" {
			t.Fatalf("%q came back as %q", s, entries[2].Value)
		}
	})
}
