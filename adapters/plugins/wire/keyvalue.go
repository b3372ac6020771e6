package wire

import (
	"fmt"
	"strings"
)

// keyValue is "key = value" lines with "#" before comments, as Algo and VTech devices read them: no quotes, no escape, a value runs to
// the end of its line.
const keyValue = "key-value"

func init() { formats[keyValue] = format{escape: flatten, parse: parseKeyValue} }

func parseKeyValue(data []byte) ([]Entry, error) {
	var out []Entry
	err := lines(data, "", func(n int, line string) error {
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.ContainsAny(name, " \t#") {
			return fmt.Errorf("%w: line %d is not key = value", ErrSyntax, n)
		}
		out = append(out, Entry{name, strings.TrimSpace(value)})
		return nil
	})
	return out, err
}
