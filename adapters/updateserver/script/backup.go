package script

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// volatileLines begin the lines of a saved configuration that are different every time it is saved (reference §3.4).
var volatileLines = []string{"vars create UPDATE/", "config change UP1 ", "vars create TLS0/TICKET/", "mod cmd FLASHDIR0 add-item "}

// Stable is a saved configuration without the lines that always change, with LF between lines: two of them that are
// equal are of the same configuration.
func Stable(config []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.SplitSeq(config, []byte("\n")) {
		line = bytes.TrimRight(line, "\r")
		if !isVolatile(line) {
			out.Write(line)
			out.WriteByte('\n')
		}
	}
	return bytes.TrimRight(out.Bytes(), "\n")
}

func isVolatile(line []byte) bool {
	for _, begin := range volatileLines {
		if bytes.HasPrefix(bytes.TrimLeft(line, " \t"), []byte(begin)) {
			return true
		}
	}
	return false
}

// secretParts are the places of a saved configuration where secrets stand: the value behind an option or attribute whose
// name says so, the Devices URL (it may hold a token), and every stored variable.
var secretParts = regexp.MustCompile(`(?i)((?:^|\s)/(?:[a-z0-9_-]*(?:pw|pass|key|secret|token|cred|auth|user|login)[a-z0-9_-]*|sysadmin)\s+)(\S+)` +
	`|([a-z0-9_-]*(?:pw|pass|key|secret|token|cred)[a-z0-9_-]*(?:=|%3d)(?:"|%22)?)([^"&\s%]+(?:%[0-9a-f]{2}[^"&\s%]*)*?)(?:"|&|\s|%22|%26|$)` +
	`|(^\s*vars create \S+ \S* *)(.+)`)

// Masker replaces secrets in saved configurations by "[redacted xxxx]". Equal secrets get equal words, so that a
// comparison shows that one has changed; the words of different Maskers have nothing to do with each other.
type Masker struct{ key [32]byte }

// NewMasker draws the key of its words.
func NewMasker() *Masker {
	m := &Masker{}
	_, _ = rand.Read(m.key[:]) // never fails
	return m
}

// Mask returns config without secrets.
func (m *Masker) Mask(config []byte) string {
	lines := strings.Split(string(config), "\n")
	for i, line := range lines {
		lines[i] = m.line(line)
	}
	return strings.Join(lines, "\n")
}

func (m *Masker) line(line string) string {
	var out strings.Builder
	from := 0
	for _, at := range secretParts.FindAllStringSubmatchIndex(line, -1) {
		for group := 4; group < len(at); group += 4 { // the values: groups 2, 4 and 6
			if at[group] < 0 {
				continue
			}
			out.WriteString(line[from:at[group]])
			out.WriteString(m.word(line[at[group]:at[group+1]]))
			from = at[group+1]
		}
	}
	out.WriteString(line[from:])
	return out.String()
}

func (m *Masker) word(secret string) string {
	mac := hmac.New(sha256.New, m.key[:])
	mac.Write([]byte(secret))
	return "[redacted " + hex.EncodeToString(mac.Sum(nil)[:4]) + "]"
}
