package wire

import (
	"fmt"
	"strings"
)

// parseAastra reads the "name: value" lines of Aastra and Mitel SIP phones (Administrator Guide, configuration server): names are of
// lower-case letters, digits and blanks, a "!" before one locks it, a value runs to the end of the line and may stand in quotes.
func parseAastra(data []byte) ([]Entry, error) {
	var out []Entry
	err := lines(data, "", func(n int, line string) error {
		name, value, ok := strings.Cut(line, ":")
		name = strings.TrimPrefix(name, "!")
		if !ok || name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789 .-[|]") != "" {
			return fmt.Errorf("%w: line %d is not name: value", ErrSyntax, n)
		}
		value = strings.TrimSpace(value)
		if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1 : len(value)-1]
		}
		out = append(out, Entry{name, value})
		return nil
	})
	return out, err
}
