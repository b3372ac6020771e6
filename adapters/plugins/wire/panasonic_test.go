package wire_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins/wire"
)

func TestPanasonic(t *testing.T) {
	const head = "# Panasonic SIP Phone Standard Format File #\n"
	got, err := wire.Parse("panasonic", []byte(head+"# comment\n\nA_1=\""+wire.Escape("panasonic", "x\"\nB=\"é # <&>")+"\"\nB=\"\"\n"))
	want := []wire.Entry{{Key: "A_1", Value: "x' B='é # <&>"}, {Key: "B"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"", "A=\"x\"\n", head + "A=x\n", head + "A=\"x\n", head + "A=\"x\"y\"\n", head + "=\"x\"\n", head + "a=\"x\"\n"} {
		if _, err := wire.Parse("panasonic", []byte(bad)); !errors.Is(err, wire.ErrSyntax) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
