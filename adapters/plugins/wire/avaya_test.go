package wire_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins/wire"
)

func TestAvaya(t *testing.T) {
	const text = "## comment\nIF $MODEL4 SEQ J179 GOTO J179_SW\nGOTO GETSET\n# J179_SW\nSET APPNAME \"a b.bin\"\nSET NUMBER 5\nSET NONE\nSET EMPTY \"\"\n# GETSET\nGET 46xxsettings.txt\n"
	want := []wire.Entry{{Key: "APPNAME", Value: "a b.bin"}, {Key: "NUMBER", Value: "5"}, {Key: "NONE"}, {Key: "EMPTY"}, {Key: "GET", Value: "46xxsettings.txt"}}
	got, err := wire.Parse("avaya", []byte(text))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"", "SET A 1\n", "##\nSET\n", "##\nSET A \"x\n", "##\nSET A \"x\"y\"\n", "##\nA 1\n", "##\nGET\n", "##\nGOTO NOWHERE\n", "##\nIF $A SEQ b\n"} {
		if _, err := wire.Parse("avaya", []byte(bad)); !errors.Is(err, wire.ErrSyntax) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestAvayaPairs(t *testing.T) {
	got, err := wire.Parse("avaya-1200", []byte("# comment\n[FW]\nDOWNLOAD_MODE FORCED\nBANNER two words\nEMPTY\n"))
	want := []wire.Entry{{Key: "FW/DOWNLOAD_MODE", Value: "FORCED"}, {Key: "FW/BANNER", Value: "two words"}, {Key: "FW/EMPTY"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"", "[FW\n", "A=1\n", "A " + strings.Repeat("x", 78) + "\n"} {
		if _, err := wire.Parse("avaya-1200", []byte(bad)); !errors.Is(err, wire.ErrSyntax) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzAvaya(f *testing.F) {
	for _, s := range []string{"plain", "a\r\nSET B 1", `"`, "#", "\u2028x=y", "\x00", "\xff", "  "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		escaped := wire.Escape("avaya", s)
		got, err := wire.Parse("avaya", []byte("##\nSET FIRST \""+escaped+"\"\nSET LAST 1\n"))
		if err != nil || len(got) != 2 || got[0].Key != "FIRST" || got[1].Key != "LAST" || got[0].Value != escaped {
			t.Fatalf("%q gives %v %v", s, got, err)
		}
		if escaped = wire.Escape("avaya-1200", s); len(escaped) > 70 {
			return
		}
		got, err = wire.Parse("avaya-1200", []byte("FIRST "+escaped+"\nLAST 1\n"))
		if err != nil || len(got) != 2 || got[0].Key != "FIRST" || got[1].Key != "LAST" {
			t.Fatalf("%q gives %v %v", s, got, err)
		}
	})
}

// What the escaper has to change is not held; what a reader gets back is.
func TestHolds(t *testing.T) {
	for _, c := range []struct {
		format, text string
		want         bool
	}{
		{"xml", `p&"w'<]]>é漢`, true}, {"xml", "a\nb", false}, {"gigaset", "é&<", true}, {"gigaset", `"`, false}, {"avaya", `a"b`, false}, {"avaya", "&amp;'", true},
		{"panasonic", `"`, false}, {"ini", `"#;é漢`, true}, {"ini-latin1", "é", true}, {"ini-latin1", "€", false}, {"yealink", "\x00", false}, {"", "x", true},
	} {
		if got := wire.Holds(c.format, c.text); got != c.want {
			t.Errorf("%s %q: %v", c.format, c.text, got)
		}
	}
}
