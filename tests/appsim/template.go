package appsim

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strings"
)

// lookup answers for a placeholder: a name, or a node of the account. hashed tells that only a hash of the value is sent.
type lookup func(name string, node, hashed bool) (text string, known bool)

// expand fills the placeholders of a template: %name%, %account[node]%, %sha1(...)%. One that is not known is left as it
// stands, or emptied. encode is applied to each value, once.
func (a *App) expand(template string, value lookup, encode func(string) string) string {
	var b strings.Builder
	for i := 0; i < len(template); {
		text, n, known := placeholder(template[i:], value, false)
		switch {
		case n == 0:
			b.WriteByte(template[i])
			i++
			continue
		case known:
			b.WriteString(encode(text))
		case !a.EmptyUnknown:
			b.WriteString(template[i : i+n])
		}
		i += n
	}
	return b.String()
}

// placeholder reads the one that s begins with; n is 0 when there is none.
func placeholder(s string, value lookup, hashed bool) (text string, n int, known bool) {
	if s == "" || s[0] != '%' {
		return "", 0, false
	}
	end := 1
	for end < len(s) && (s[end] == '_' || 'a' <= s[end]|0x20 && s[end]|0x20 <= 'z' || '0' <= s[end] && s[end] <= '9') {
		end++
	}
	name := s[1:end]
	if name == "" || end == len(s) {
		return "", 0, false
	}
	switch s[end] {
	case '%':
		text, known = value(name, false, hashed)
		return text, end + 1, known
	case '[':
		node, _, closed := strings.Cut(s[end+1:], "]%")
		if !closed || name != "account" || strings.Contains(node, "%") {
			return "", 0, false
		}
		text, known = value(node, true, hashed)
		return text, end + 1 + len(node) + 2, known
	case '(':
		var inner strings.Builder
		for i := end + 1; i < len(s); {
			if strings.HasPrefix(s[i:], ")%") {
				if name != "sha1" {
					return "", i + 2, false
				}
				sum := sha1.Sum([]byte(inner.String())) // the vendor's choice
				return hex.EncodeToString(sum[:]), i + 2, true
			}
			if v, n, known := placeholder(s[i:], value, true); n > 0 && known {
				inner.WriteString(v)
				i += n
			} else {
				inner.WriteByte(s[i])
				i++
			}
		}
	}
	return "", 0, false
}

// percent is RFC 3986: a blank is %20.
func percent(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("appsim: " + err.Error()) // a string
	}
	return string(b[1 : len(b)-1])
}

func raw(s string) string { return s }
