package wire

import (
	"fmt"
	"regexp"
	"strings"
)

// patton is the command line of SmartWare as a file: ASCII, one command a line, the commands within a mode indented below
// the one that opens it, "#" before comments.
const patton = "patton"

func init() { formats[patton] = format{escape: escapePatton, parse: parsePatton, holds: isPlain} }

// escapePatton keeps printable ASCII, for the file knows nothing else. A quote or backslash gets a backslash, so that text between
// quotes ends where the template says.
func escapePatton(s string) string {
	var b strings.Builder
	for _, r := range flatten(s) {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x7f:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// parsePatton reads the commands. The key of one is the commands that opened the modes it is in and its own name (pattonName); the value is the
// rest, quotes removed. A command that opens a mode is an entry under its text but for what stands in quotes, which is the value.
func parsePatton(data []byte) ([]Entry, error) {
	type command struct {
		indent int
		mode   string // the text with nothing between its quotes
		words  []string
	}
	var all []command
	err := lines(data, "cli version ", func(n int, _ string) error { return nil })
	if err != nil {
		return nil, err
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimRight(line, " \n")
		text := strings.TrimLeft(line, " ")
		if text == "" || text[0] == '#' {
			continue
		}
		words, err := pattonWords(text)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %v", ErrSyntax, n, err)
		}
		all = append(all, command{len(line) - len(text), pattonQuoted.ReplaceAllString(text, `""`), words})
	}
	var out []Entry
	var modes []command
	for i, c := range all {
		for len(modes) > 0 && modes[len(modes)-1].indent >= c.indent {
			modes = modes[:len(modes)-1]
		}
		path := ""
		for _, m := range modes {
			path += m.mode + "/"
		}
		if i+1 < len(all) && all[i+1].indent > c.indent {
			modes = append(modes, c)
			value := ""
			if strings.HasSuffix(c.mode, `""`) {
				value = c.words[len(c.words)-1]
			}
			out = append(out, Entry{path + c.mode, value})
			continue
		}
		of := pattonName(strings.Fields(c.mode))
		out = append(out, Entry{path + strings.Join(c.words[:of], " "), strings.Join(c.words[of:], " ")})
	}
	return out, nil
}

// pattonName is how many words of a command are its name: those of small letters at its beginning, with a number behind them
// ("codec 1", "fax transmission 1"), but for the last word, which is a value ("dtmf-relay rtp"), save that of a command that may
// be given for several things.
func pattonName(words []string) int {
	n := 1
	for n < len(words)-1 && strings.Trim(words[n], "abcdefghijklmnopqrstuvwxyz-") == "" {
		n++
	}
	if n < len(words) && strings.Trim(words[n], "0123456789") == "" || words[0] == "message-waiting-indication" {
		n++
	}
	return min(n, len(words))
}

var pattonQuoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// pattonWords parts a line at its blanks; what stands in quotes is one word.
func pattonWords(s string) ([]string, error) {
	var out []string
	var word strings.Builder
	in, quoted := false, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c < ' ' || c > '~':
			return nil, fmt.Errorf("byte %d is not printable ASCII", i)
		case c == '\\' && i+1 < len(s):
			i++
			word.WriteByte(s[i])
			in = true
		case c == '"':
			if !quoted && in || quoted && i+1 < len(s) && s[i+1] != ' ' {
				return nil, fmt.Errorf("a quote within a word at byte %d", i)
			}
			in, quoted = true, !quoted
		case c == ' ' && !quoted:
			if in {
				out = append(out, word.String())
				word.Reset()
			}
			in = false
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if in {
		out = append(out, word.String())
	}
	return out, nil
}
