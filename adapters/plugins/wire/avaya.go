package wire

import (
	"fmt"
	"strings"
)

// avayaSettings is the settings file of Avaya's J100 phones ("Installing and Administering Avaya J100 IP Phones", settings file): SET NAME value, the
// value in double quotes when it may hold blanks, and the statements GET, GOTO, IF and "# TAG"; two number signs begin a comment.
// avayaPairs is that of the 1200 series: NAME value below [SECTION]s, "#" begins a comment, and a line of eighty characters is too long.
const (
	avayaSettings = "avaya"
	avayaPairs    = "avaya-1200"
)

// avayaWidth is the longest line a 1200 phone reads.
const avayaWidth = 79

func init() {
	formats[avayaSettings] = format{escape: escapeAvaya, parse: parseAvaya}
	formats[avayaPairs] = format{escape: flatten, parse: parseAvayaPairs}
}

// escapeAvaya is flatten; a double quote would end the value, and the format has no other way to write one, so it becomes a single one.
func escapeAvaya(s string) string { return strings.ReplaceAll(flatten(s), `"`, "'") }

func parseAvaya(data []byte) ([]Entry, error) {
	var out []Entry
	tags, jumps := map[string]bool{}, []string{}
	err := lines(data, "##", func(n int, line string) error {
		word, rest, _ := strings.Cut(line, " ")
		f := strings.Fields(rest)
		switch {
		case word == "SET" && len(f) > 0 && isWord(f[0]):
			value := strings.TrimSpace(strings.TrimPrefix(rest, f[0]))
			if inner, quoted := strings.CutPrefix(value, `"`); quoted {
				inner, closed := strings.CutSuffix(inner, `"`)
				if !closed {
					return fmt.Errorf("%w: the value of line %d does not end", ErrSyntax, n)
				}
				value = inner
			}
			if strings.Contains(value, `"`) {
				return fmt.Errorf("%w: the value of line %d ends within it", ErrSyntax, n)
			}
			out = append(out, Entry{f[0], value})
		case word == "GET" && len(f) == 1:
			out = append(out, Entry{word, f[0]})
		case word == "GOTO" && len(f) == 1 && isWord(f[0]):
			jumps = append(jumps, f[0])
		case word == "IF" && len(f) == 5 && strings.HasPrefix(f[0], "$") && f[1] == "SEQ" && f[3] == "GOTO" && isWord(f[4]):
			jumps = append(jumps, f[4])
		default:
			return fmt.Errorf("%w: line %d is no statement", ErrSyntax, n)
		}
		return nil
	})
	for line := range strings.Lines(string(data)) {
		if tag, ok := strings.CutPrefix(strings.TrimSpace(line), "# "); ok {
			tags[tag] = true
		}
	}
	for _, j := range jumps {
		if !tags[j] && err == nil {
			err = fmt.Errorf("%w: GOTO %s leads nowhere", ErrSyntax, j)
		}
	}
	return out, err
}

func parseAvayaPairs(data []byte) ([]Entry, error) {
	var out []Entry
	section := ""
	err := lines(data, "", func(n int, line string) error {
		if len(line) > avayaWidth {
			return fmt.Errorf("%w: line %d has more than %d bytes", ErrSyntax, n, avayaWidth)
		}
		if inner, ok := strings.CutPrefix(line, "["); ok {
			name, closed := strings.CutSuffix(inner, "]")
			if !closed || !isWord(name) {
				return fmt.Errorf("%w: line %d is no [SECTION]", ErrSyntax, n)
			}
			section = name + "/"
			return nil
		}
		name, value, _ := strings.Cut(line, " ")
		if !isWord(name) {
			return fmt.Errorf("%w: line %d is not NAME value", ErrSyntax, n)
		}
		out = append(out, Entry{section + name, strings.TrimSpace(value)})
		return nil
	})
	return out, err
}
