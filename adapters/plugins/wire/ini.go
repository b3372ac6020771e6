package wire

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// ini is [section] lines and name=value below them, as Alcatel's IP Touch (UTF-8), Zenitel (UTF-8) and Thomson (Latin-1)
// phones read; names before the first section are nobody's. None of them has quotes or an escape: a value runs to
// the end of its line.
const (
	iniLines  = "ini"
	iniLatin1 = "ini-latin1"
)

func init() {
	formats[iniLines] = format{escape: flatten, parse: parseINI}
	formats[iniLatin1] = format{escape: escapeLatin1, parse: parseLatin1INI, finish: func(text []byte, _ string) ([]byte, error) { return latin1(text), nil }}
}

func parseINI(data []byte) ([]Entry, error) {
	var out []Entry
	section := ""
	err := lines(data, "", func(n int, line string) error {
		if inner, ok := strings.CutPrefix(line, "["); ok {
			name, closed := strings.CutSuffix(inner, "]")
			if !closed || !isWord(name) {
				return fmt.Errorf("%w: line %d is no [section]", ErrSyntax, n)
			}
			section = name + "/"
			return nil
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || !isWord(name) {
			return fmt.Errorf("%w: line %d is not name=value", ErrSyntax, n)
		}
		out = append(out, Entry{section + name, strings.TrimSpace(value)})
		return nil
	})
	return out, err
}

// isWord tells whether s is of ASCII letters, digits and underscores, and not empty.
func isWord(s string) bool {
	return s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// escapeLatin1 is flatten; a character ISO-8859-1 does not have becomes a question mark.
func escapeLatin1(s string) string {
	s = flatten(s)
	if isPlain(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r > 0xff {
			return '?'
		}
		return r
	}, s)
}

// latin1 writes UTF-8 text that escapeLatin1 has seen in ISO-8859-1, one byte a character.
func latin1(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		out, text = append(out, byte(min(r, 0xff))), text[n:]
	}
	return out
}

func parseLatin1INI(data []byte) ([]Entry, error) {
	var text strings.Builder
	for _, c := range data {
		text.WriteRune(rune(c))
	}
	return parseINI([]byte(text.String()))
}
