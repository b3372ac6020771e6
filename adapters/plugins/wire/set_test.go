package wire_test

import (
	"errors"
	"strings"
	"testing"

	"ledgerline/adapters/plugins/wire"
)

// One setting gets its value where it stands, or stands behind the others; the rest of the text is as it was.
func TestSet(t *testing.T) {
	const xml = "<?xml version=\"1.0\"?>\n<settings>\n<phone-settings e=\"2\">\n<lang perm=\"R\">Deutsch</lang>\n<user_name idx=\"1\">101</user_name>\n<empty/>\n</phone-settings>\n</settings>\n"
	for _, c := range []struct {
		name, format, text, key, value, want string
		added                                bool
	}{
		{"a line", "yealink", "#!version:1.0.0.1\na = 1\nb = 2\n", "b", "3", "#!version:1.0.0.1\na = 1\nb = 3\n", false},
		{"a line more", "yealink", "#!version:1.0.0.1\na = 1\n", "b.c", "x\ny = 1", "#!version:1.0.0.1\na = 1\nb.c = x y = 1\n", true},
		{"in its section", "ini", "[net]\na=1\n\n[sip]\na=2\n", "net/b", "3", "[net]\na=1\nb=3\n\n[sip]\na=2\n", true},
		{"a section's own", "ini", "[net]\na=1\n[sip]\na=2\n", "sip/a", "3", "[net]\na=1\n[sip]\na=3\n", false},
		{"a new section", "ini", "[net]\na=1\n", "sip/a", "3", "[net]\na=1\n[sip]\na=3\n", true},
		{"in quotes", "panasonic", "# Panasonic SIP Phone Standard Format File #\nA=\"1\"\n", "A", `x"y`, "# Panasonic SIP Phone Standard Format File #\nA=\"x'y\"\n", false},
		{"a statement", "avaya", "## J100\nSET A 1\n", "B", "x y", "## J100\nSET A 1\nSET B \"x y\"\n", true},
		{"a property", "properties", "a.b=1\n", "c", "é=1", "a.b=1\nc=\\u00e9\\=1\n", true},
		{"an element", "xml", xml, "lang", "<&>", strings.Replace(xml, "Deutsch", "&lt;&amp;&gt;", 1), false},
		{"an element by its number", "xml", xml, "user_name[idx=1]", "102", strings.Replace(xml, "101", "102", 1), false},
		{"an empty element", "xml", xml, "empty", "x", strings.Replace(xml, "<empty/>", "<empty>x</empty>", 1), false},
		{"an element more", "xml", xml, "user_name[idx=2]", "x", strings.Replace(xml, "</phone-settings>", "<user_name idx=\"2\">x</user_name>\n</phone-settings>", 1), true},
		{"an element elsewhere", "xml", xml, "settings/other", "x", strings.Replace(xml, "</settings>", "<other>x</other>\n</settings>", 1), true},
		{"an attribute", "xml", xml, "phone-settings@e", "3", strings.Replace(xml, `e="2"`, `e="3"`, 1), false},
		{"an attribute more", "xml", "<?xml version=\"1.0\"?>\n<polycomConfig\na.b=\"1\"\n/>\n", "polycomConfig@c.d", "2", "<?xml version=\"1.0\"?>\n<polycomConfig\na.b=\"1\" c.d=\"2\"/>\n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, had, err := wire.Set(c.format, []byte(c.text), c.key, c.value)
			if err != nil || string(got) != c.want {
				t.Errorf("%v\n%s\nwant\n%s", err, got, c.want)
			}
			if stood := wire.Has(c.format, []byte(c.text), c.key); had != stood || had != !c.added {
				t.Errorf("had %v, Has %v", had, stood)
			}
		})
	}
	for _, key := range []string{"", "a = 1\nb", "a\nb", "a=b", "#a", " a", "a b", "<x>", "a/b/c@@d"} {
		for format, text := range map[string]string{"yealink": "#!version:1.0.0.1\nx = 1\n", "xml": xml} {
			if format == "yealink" && strings.ContainsAny(key, "<@") {
				continue // odd, but a name
			}
			if out, _, err := wire.Set(format, []byte(text), key, "v"); !errors.Is(err, wire.ErrKey) {
				t.Errorf("%s takes the key %q: %v\n%s", format, key, err, out)
			}
		}
	}
	if _, _, err := wire.Set("patton", []byte("cli version 3.20\n"), "a", "b"); !errors.Is(err, wire.ErrNoSet) {
		t.Errorf("a script takes a setting: %v", err)
	}
}

// Whatever the key and the value, Set changes nothing else, and what it gives out parses.
func FuzzSet(f *testing.F) {
	texts := map[string]string{"yealink": "#!version:1.0.0.1\na = 1\nb.c = 2\n", "ini": "[n]\na=1\n[m]\nb=2\n", "avaya-1200": "# x\n[N]\nA 1\n", "cisco-cnf": "a: \"1\"\n",
		"properties": "a.b=1\n", "aastra": "sip line1 mode: 0\n", "xml": "<a x=\"1\">\n<b i=\"2\">3</b><c/>\n</a>\n"}
	for format := range texts {
		f.Add(format, "a", "v")
		f.Add(format, "b[id=1]@x", "\"'<\n=")
		f.Add(format, "n/a", "\\")
	}
	f.Fuzz(func(t *testing.T, format, key, value string) {
		text, ok := texts[format]
		if !ok {
			return
		}
		out, had, err := wire.Set(format, []byte(text), key, value)
		if err != nil {
			return
		}
		before, _ := wire.Parse(format, []byte(text))
		after, err := wire.Parse(format, out)
		if err != nil {
			t.Fatalf("%q: %v\n%s", key, err, out)
		}
		if more := len(after) - len(before); more < 0 || more > 1 || had && more != 0 {
			t.Fatalf("%q: %d settings more\n%s", key, more, out)
		}
	})
}
