package wire_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins/wire"
)

func TestProperties(t *testing.T) {
	_, err := wire.Parse("properties", []byte("# a comment\n! another\na.b=c\\=d \\u00e9\\ud83d\\ude42\nSIP\\:x\\ y = 1:2\nempty=\n"))
	want := []wire.Entry{{Key: "a.b", Value: "c=d é🙂"}, {Key: "SIP:x y", Value: ""}}
	if !errors.Is(err, wire.ErrSyntax) { // a blank ends a key for Java; nothing here writes one
		t.Fatalf("%v", err)
	}
	got, err := wire.Parse("properties", []byte("# a comment\n! another\na.b=c\\=d \\u00e9\\ud83d\\ude42\nSIP\\:x\\ y=\n"))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"", "a\n", "=b\n", "a=\\u12\n", "a=\\uzzzz\n", "a=b\\\n", "a=\xe9\n", "a=\x01\n"} {
		if got, err := wire.Parse("properties", []byte(bad)); !errors.Is(err, wire.ErrSyntax) {
			t.Errorf("%q: %v %v", bad, got, err)
		}
	}
}

// Java reads back the very text, in keys and in values.
func FuzzProperties(f *testing.F) {
	for _, s := range []string{"plain", "a\r\nb=c", `\`, `\u0041`, "#!:=", " x ", "é🙂", "\xff", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		escaped := wire.Escape("properties", s)
		entries, err := wire.Parse("properties", []byte("k"+escaped+"="+escaped+"\nlast=1\n"))
		if err != nil || len(entries) != 2 || entries[1] != (wire.Entry{Key: "last", Value: "1"}) {
			t.Fatalf("%q: %v %v", s, entries, err)
		}
		if wire.Holds("properties", s) && (entries[0].Value != s || entries[0].Key != "k"+s) {
			t.Fatalf("%q came back as %q", s, entries[0])
		}
	})
}
