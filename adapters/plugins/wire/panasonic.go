package wire

import (
	"fmt"
	"strings"
)

// panasonicLines is Panasonic's standard format: NAME="value" on each line, under a first line that says so.
const panasonicLines = "panasonic"

// panasonicHead begins every file; a phone drops one without.
const panasonicHead = "# Panasonic SIP Phone Standard Format File #"

func init() { formats[panasonicLines] = format{escape: escapePanasonic, parse: parsePanasonic} }

// escapePanasonic is flatten; a double quote would end the value, and the format has no other way to write one, so it becomes
// a single one.
func escapePanasonic(s string) string { return strings.ReplaceAll(flatten(s), `"`, "'") }

func parsePanasonic(data []byte) ([]Entry, error) {
	var out []Entry
	err := lines(data, panasonicHead, func(n int, line string) error {
		name, value, ok := strings.Cut(line, `="`)
		value, closed := strings.CutSuffix(value, `"`)
		if !ok || !closed || strings.Contains(value, `"`) || name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			return fmt.Errorf(`%w: line %d is not NAME="value"`, ErrSyntax, n)
		}
		out = append(out, Entry{name, value})
		return nil
	})
	return out, err
}
