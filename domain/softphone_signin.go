package domain

import (
	"strings"
)

// SoftphoneSignIn is what a user of Cloud Softphone would type, to be scanned instead. CloudID is spelled as the vendor's
// portal has it; Editable asks for the portal's editable version; an empty Username or Password is asked for by the app.
type SoftphoneSignIn struct {
	CloudID            string
	Editable           bool
	Username, Password string
}

// Text is the sign-in as a QR code says it: csc:[user[:password]@]cloud-id[*]. Everything but the unreserved characters of
// RFC 3986 is percent-encoded in user name and password, so that no "@", ":" or "+" of theirs is taken for a separator.
// (Vendor's documentation of QR codes.)
func (s SoftphoneSignIn) Text() string {
	var b strings.Builder
	b.WriteString("csc:")
	if s.Username != "" {
		percentEncode(&b, s.Username)
		if s.Password != "" {
			b.WriteByte(':')
			percentEncode(&b, s.Password)
		}
		b.WriteByte('@')
	}
	b.WriteString(s.CloudID)
	if s.Editable {
		b.WriteByte('*')
	}
	return b.String()
}

// percentEncode is stricter than net/url's: it leaves the unreserved characters alone and nothing else.
func percentEncode(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		switch c := s[i]; {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
}
