package wire_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins/wire"
)

// Whatever text a setting has, the binary form holds that setting and no other.
func FuzzFinish(f *testing.F) {
	for _, s := range []string{"plain", "a&P2=evil&gnkey=", "100%", "p+q r", "\x00", "\xff", "é🙂", "<P2>evil</P2>", "\r\n\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		escaped := wire.Escape("grandstream-binary", s)
		data, err := wire.Finish("grandstream-binary", []byte("<gs_provision><config><P34>"+escaped+"</P34><P1>x</P1></config></gs_provision>"), "000b82aabbcc")
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		entries, err := wire.Parse("grandstream-binary", data)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if diff := cmp.Diff([]string{"P1", "P34"}, wire.Keys(entries)); diff != "" {
			t.Fatalf("%q changes the keys: %s", s, diff)
		}
	})
}
