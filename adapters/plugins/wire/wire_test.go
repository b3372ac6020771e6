package wire_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins/wire"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		format, data string
		want         []wire.Entry
	}{
		{"yealink", "#!version:1.0.0.1\n# comment\n\na.b = c = d # e\nempty =\n", []wire.Entry{{"a.b", "c = d # e"}, {"empty", ""}}},
		{"yealink-boot", "#!version:1.0.0.1\ninclude:config \"a.cfg\"\ninclude:config <b.cfg>\noverwrite_mode = 1\n",
			[]wire.Entry{{"include:config", "a.cfg"}, {"include:config", "b.cfg"}, {"overwrite_mode", "1"}}},
		{"xml", `<?xml version="1.0"?><settings><p><user idx="1" perm="R">a &amp; b</user><user idx="2"/></p><f url="x"/></settings>`,
			[]wire.Entry{{"settings/p/user[idx=1]@perm", "R"}, {"settings/p/user[idx=1]", "a & b"}, {"settings/p/user[idx=2]", ""}, {"settings/f@url", "x"}, {"settings/f", ""}}},
	} {
		got, err := wire.Parse(c.format, []byte(c.data))
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", c.format, err, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ format, data string }{
		{"yealink", ""}, {"yealink", "a = b\n"}, {"yealink", "#!version:1\nno equals\n"}, {"yealink", "#!version:1\na b = c\n"}, {"yealink", "#!version:1\na = b\rc = d\n"},
		{"yealink", "#!version:1\na = \xff\n"}, {"yealink", "#!version:1\na = \x00\n"}, {"yealink", "#!version:1\n = b\n"},
		{"yealink-boot", "#!version:1\ninclude:config a.cfg\n"}, {"yealink-boot", "#!version:1\nhello\n"},
		{"xml", ""}, {"xml", "<a>"}, {"xml", "<a></b>"}, {"xml", "<a/><b/>"}, {"xml", "<a>&evil;</a>"}, {"xml", "<!DOCTYPE a><a/>"}, {"xml", "<a><b/>text</a>"},
		{"xml", `<a b="1" b="2"/>`}, {"xml", "text<a/>"}, {"xml", strings.Repeat("<a>", 40) + strings.Repeat("</a>", 40)}, {"xml", "<a>\xff</a>"}, {"word", "x"},
	} {
		if got, err := wire.Parse(c.format, []byte(c.data)); !errors.Is(err, wire.ErrSyntax) {
			t.Errorf("%s %q: %v %v", c.format, c.data, got, err)
		}
	}
}

func TestFileName(t *testing.T) {
	if got := wire.FileName("a/ä b{c}..\n.cfg"); got != "a/__b_c_..__.cfg" && got != "a/__b_c_.._.cfg" {
		t.Errorf("got %q", got)
	}
}

// Whatever text is escaped into a file, the file has the same keys, and where nothing had to be dropped the text comes back.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"plain", "a\r\nb = c", "<&>\"'", "]]>", "\x00", "\xff", "\u2028", "  x  ", "#!", "\ufffe", "\U000e0001"} {
		f.Add(s)
	}
	frames := map[string][2]string{
		"yealink":      {"#!version:1.0.0.1\nkey = ", "\nlast = 1\n"},
		"yealink-boot": {"#!version:1.0.0.1\ninclude:config \"", "\"\nlast = 1\n"},
		"xml":          {`<s><key a="1">`, `</key><last b="1"></last></s>`},
	}
	keys := map[string][]string{"yealink": {"key", "last"}, "yealink-boot": {"include:config", "last"}, "xml": {"s/key", "s/key@a", "s/last", "s/last@b"}}
	f.Fuzz(func(t *testing.T, s string) {
		for format, frame := range frames {
			escaped := wire.Escape(format, s)
			entries, err := wire.Parse(format, []byte(frame[0]+escaped+frame[1]))
			if err != nil {
				t.Fatalf("%s: %q: %v", format, s, err)
			}
			if diff := cmp.Diff(keys[format], wire.Keys(entries)); diff != "" {
				t.Fatalf("%s: %q changes the keys: %s", format, s, diff)
			}
		}
		attr, err := wire.Parse("xml", []byte(`<s a="`+wire.Escape("xml", s)+`"/>`))
		if err != nil || len(attr) != 2 {
			t.Fatalf("%q in an attribute: %v %v", s, attr, err)
		}
		if wire.Escape("yealink", s) == s && attr[0].Value != s {
			t.Fatalf("%q came back as %q", s, attr[0].Value)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"#!version:1\na = b\n", "<a b='1'><c/></a>", "#!version:1\ninclude:config <x>\n", "<a>&#0;</a>", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, format := range wire.Formats() {
			if _, err := wire.Parse(format, []byte(s)); err != nil && !errors.Is(err, wire.ErrSyntax) {
				t.Fatalf("%s: %v", format, err)
			}
		}
	})
}
