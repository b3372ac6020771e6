package wire_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"ledgerline/adapters/plugins/wire"
)

// frames is, for every format, a file with one value in it at VALUE and a setting behind that has to stay what it is.
var frames = map[string]string{
	"yealink":            "#!version:1.0.0.1\nkey = xVALUEx\nlast = 1\n",
	"yealink-boot":       "#!version:1.0.0.1\ninclude:config \"xVALUEx\"\nlast = 1\n",
	"xml":                `<s><key a="1">xVALUEx</key><last b="1">1</last></s>`,
	"aastra":             "key: xVALUEx\nlast: 1\n",
	"grandstream-binary": "<gs_provision><config><P34>xVALUEx</P34><P1>1</P1></config></gs_provision>",
	"gigaset":            `<?xml version="1.0" encoding="ISO-8859-1"?><ProviderFrame><Provider><SYMB_ITEM ID="key" class="symb_item" value='"xVALUEx"'/><LAST value="1"/></Provider></ProviderFrame>`,
	"panasonic":          "# Panasonic SIP Phone Standard Format File #\nKEY=\"xVALUEx\"\nLAST=\"1\"\n",
	"avaya":              "##\nSET KEY \"xVALUEx\"\nSET LAST 1\n",
	"avaya-1200":         "KEY xVALUEx\nLAST 1\n",
	"cisco-cnf":          "key: \"xVALUEx\"\nlast: 1\n",
	"ini":                "[s]\nkey=xVALUEx\nlast=1\n",
	"ini-latin1":         "[s]\nkey=xVALUEx\nlast=1\n",
	"key-value":          "key = xVALUEx\nlast = 1\n",
	"properties":         "key=xVALUEx\nlast=1\n",
	"patton":             "cli version 3.20\nkey \"xVALUEx\"\nlast 1\n",
	"obihai":             `<ParameterList><Object><Name>A.</Name><ParameterValueStruct><Name>Key</Name><Value>xVALUEx</Value></ParameterValueStruct><ParameterValueStruct><Name>Last</Name><Value>1</Value></ParameterValueStruct></Object></ParameterList>`,
}

// Every format there is: whatever text a setting has, the file has the same settings, and text the format holds comes back as it was.
func FuzzEveryFormat(f *testing.F) {
	if names := slices.Sorted(maps.Keys(frames)); !slices.Equal(names, wire.Formats()) {
		f.Fatalf("frames for %v, formats are %v", names, wire.Formats())
	}
	for _, s := range []string{"plain", "a\r\nb = c", `"`, `'`, `\`, `\u0041`, "<&>", "]]>", "&amp;", "#", ";", "%41", "\x00", "\xff", "\u2028", "é漢🙂", " x ", ""} {
		f.Add(s)
	}
	want := map[string][]string{}
	for format, frame := range frames {
		want[format] = wire.Keys(read(f, format, frame, "harmless"))
	}
	f.Fuzz(func(t *testing.T, s string) {
		for format, frame := range frames {
			if format == "avaya-1200" && len(wire.Escape(format, s)) > 64 {
				continue // lines there have a limit
			}
			entries := read(t, format, frame, s)
			if got := wire.Keys(entries); !slices.Equal(got, want[format]) {
				t.Fatalf("%s: %q changes the keys to %v", format, s, got)
			}
			held := wire.Holds(format, s)
			if back := slices.ContainsFunc(entries, func(e wire.Entry) bool { return e.Value == "x"+s+"x" }); held && !back {
				t.Fatalf("%s: %q comes back as %v", format, s, entries)
			}
		}
	})
}

func read(t testing.TB, format, frame, s string) []wire.Entry {
	t.Helper()
	file, err := wire.Finish(format, []byte(strings.Replace(frame, "VALUE", wire.Escape(format, s), 1)), "000b82aabbcc")
	if err != nil {
		t.Fatalf("%s: %q: %v", format, s, err)
	}
	entries, err := wire.Parse(format, file)
	if err != nil {
		t.Fatalf("%s: %q: %v", format, s, err)
	}
	return entries
}
