package wire_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins/wire"
)

func TestKeyValue(t *testing.T) {
	got, err := wire.Parse("key-value", []byte("# comment\na.b_c = d = e # f\n\nempty =\n"))
	want := []wire.Entry{{Key: "a.b_c", Value: "d = e # f"}, {Key: "empty"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"", "a\n", "= b\n", "a b = c\n", "a = b\rc = d\n", "a = \xff\n"} {
		if got, err := wire.Parse("key-value", []byte(bad)); !errors.Is(err, wire.ErrSyntax) {
			t.Errorf("%q: %v %v", bad, got, err)
		}
	}
}
