package wire

import (
	"fmt"
	"strings"
)

// ciscoLines is the file of Cisco's 7940 and 7960 with SIP software (SIPDefault.cnf and SIP<MAC>.cnf): name: value, the value in
// double quotes when it may hold blanks, "#" begins a comment. There is no way to write a double quote in a value; it becomes a single one.
const ciscoLines = "cisco-cnf"

func init() { formats[ciscoLines] = format{escape: escapeAvaya, parse: parseCisco} }

func parseCisco(data []byte) ([]Entry, error) {
	var out []Entry
	err := lines(data, "", func(n int, line string) error {
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if inner, quoted := strings.CutPrefix(value, `"`); quoted {
			inner, ok = strings.CutSuffix(inner, `"`)
			value = inner
		}
		if !ok || !isWord(name) || strings.Contains(value, `"`) {
			return fmt.Errorf("%w: line %d is not name: value", ErrSyntax, n)
		}
		out = append(out, Entry{name, value})
		return nil
	})
	return out, err
}
