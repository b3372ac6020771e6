package wire

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
)

// properties is a Java properties file (java.util.Properties.load): "key=value" lines in ISO-8859-1, with \uXXXX for what is not
// ASCII and a backslash before what would mean something.
const properties = "properties"

func init() {
	formats[properties] = format{escape: escapeProperties, parse: parseProperties, holds: func(s string) bool { return flatten(s) == s }}
}

// escapeProperties serves keys and values alike: what ends a key, begins a comment or is a backslash gets one
// before it.
func escapeProperties(s string) string {
	s = flatten(s)
	var b strings.Builder
	for _, r := range s {
		switch {
		case strings.ContainsRune(`\:=#! `, r):
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x80:
			b.WriteRune(r)
		default:
			for _, u := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, `\u%04x`, u)
			}
		}
	}
	return b.String()
}

// parseProperties reads what Properties.load would, but for lines that go on behind a backslash, which nothing here writes.
func parseProperties(data []byte) ([]Entry, error) {
	var out []Entry
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimLeft(strings.TrimSuffix(line, "\n"), " \t")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return r >= 0x7f || r < ' ' }); i >= 0 {
			return nil, fmt.Errorf("%w: line %d: byte %d is not printable ASCII", ErrSyntax, n, i)
		}
		key, rest, err := unescapeProperties(line, ":= ")
		if err != nil || key == "" || len(rest) == 0 || rest[0] == ' ' {
			return nil, fmt.Errorf("%w: line %d is not key=value", ErrSyntax, n)
		}
		value, _, err := unescapeProperties(strings.TrimLeft(rest[1:], " "), "")
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %v", ErrSyntax, n, err)
		}
		out = append(out, Entry{key, value})
	}
	if n == 0 {
		return nil, fmt.Errorf("%w: empty", ErrSyntax)
	}
	return out, nil
}

// unescapeProperties reads up to the first unescaped character of ends; rest begins with it.
func unescapeProperties(s, ends string) (text, rest string, err error) {
	var units []uint16
	for i := 0; i < len(s); i++ {
		switch {
		case strings.IndexByte(ends, s[i]) >= 0:
			return string(utf16.Decode(units)), s[i:], nil
		case s[i] != '\\':
			units = append(units, uint16(s[i]))
		case i+1 == len(s):
			return "", "", fmt.Errorf("a backslash at the end")
		case s[i+1] == 'u':
			if i+6 > len(s) {
				return "", "", fmt.Errorf("half a \\u")
			}
			u, err := strconv.ParseUint(s[i+2:i+6], 16, 16)
			if err != nil {
				return "", "", fmt.Errorf("a bad \\u")
			}
			units = append(units, uint16(u))
			i += 5
		default:
			units = append(units, uint16(s[i+1]))
			i++
		}
	}
	return string(utf16.Decode(units)), "", nil
}
