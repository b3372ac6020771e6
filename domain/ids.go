package domain

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Ids are parsed once, at the edge, and normalised from then on. New ones are UUIDv7 without dashes.
type (
	TenantID   string
	CategoryID string
	CodeID     string
	// DeviceID names one life of a device: the 12 hex digits of its MAC, or an id its creator chose;
	// after a deletion the next life is "<id>.2", then "<id>.3" (D20).
	DeviceID string
	LineID   string
	UserID   string
	LayerID  string
	APIKeyID string
	// RolloutID names a rollout; without dots.
	RolloutID string
	// SoftphoneID names one user's Cloud Softphone; CloudID is what its vendor calls a provider's configuration, in
	// lower case.
	SoftphoneID string
	CloudID     string
	// ServerID names a Devices server that a registry draws codes for; TokenID a token of automatic provisioning.
	ServerID string
	TokenID  string
)

// Master is the tenant where unknown devices land. It always exists.
const Master TenantID = "master"

// ErrBadID: an id is empty, longer than 64 characters, or has a character outside A-Z a-z 0-9 _ - .
var ErrBadID = errors.New("must be 1 to 64 characters of A-Z a-z 0-9 _ - . and begin with a letter or digit")

// CheckID tells whether s can be used as an id.
func CheckID(s string) error {
	if s == "" || len(s) > 64 {
		return ErrBadID
	}
	for i, c := range []byte(s) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '-' && c != '.') {
			return ErrBadID
		}
	}
	return nil
}

// IDFrom is the textual id of a UUID: 32 lower-case hex digits, no dashes.
func IDFrom(u uuid.UUID) string { return hex.EncodeToString(u[:]) }

// MAC is a hardware address as 12 lower-case hex digits; empty for none.
type MAC string

// ErrBadMAC: text is not a hardware address.
var ErrBadMAC = errors.New("is not a MAC address (12 hex digits, optionally separated by : - or .)")

// ParseMAC reads the usual spellings: 0015651A2B3C, 00:15:65:1a:2b:3c, 00-15-65-…, 0015.651a.2b3c.
// Separators must be of one kind and evenly placed. The all-zero and the broadcast address are refused.
func ParseMAC(s string) (MAC, error) {
	text := strings.TrimSpace(s)
	if len(text) > 17 {
		return "", fmt.Errorf("%.20q %w", s, ErrBadMAC)
	}
	digits := text
	switch {
	case len(text) == 17 && (text[2] == ':' || text[2] == '-'):
		digits = unseparate(text, 2, text[2])
	case len(text) == 14 && text[4] == '.':
		digits = unseparate(text, 4, '.')
	}
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != 6 {
		return "", fmt.Errorf("%.20q %w", s, ErrBadMAC)
	}
	m := MAC(hex.EncodeToString(b))
	if m == "000000000000" || m == "ffffffffffff" {
		return "", fmt.Errorf("%.20q %w", s, ErrBadMAC)
	}
	return m, nil
}

// unseparate removes sep after every n characters; anything else comes back unchanged and fails to decode.
func unseparate(s string, n int, sep byte) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if (i+1)%(n+1) == 0 {
			if s[i] != sep {
				return s
			}
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Colons is the address with colons: "00:15:65:1a:2b:3c".
func (m MAC) Colons() string {
	if len(m) != 12 {
		return string(m)
	}
	return string(m[0:2] + ":" + m[2:4] + ":" + m[4:6] + ":" + m[6:8] + ":" + m[8:10] + ":" + m[10:12])
}

// Upper is the address as 12 upper-case hex digits.
func (m MAC) Upper() string { return strings.ToUpper(string(m)) }

// OUI is the vendor's part: the first six digits.
func (m MAC) OUI() string {
	if len(m) != 12 {
		return ""
	}
	return string(m[:6])
}

// Life splits a device id into the id its creator knows and the number of its life, 1 for the first:
// "0015651a2b3c.2" is the second life of "0015651a2b3c".
func (d DeviceID) Life() (base DeviceID, life int) {
	i := strings.LastIndexByte(string(d), '.')
	if i < 0 {
		return d, 1
	}
	n, err := strconv.Atoi(string(d[i+1:]))
	if err != nil || n < 2 {
		return d, 1
	}
	return d[:i], n
}

// NextLife is the id of the life after this one.
func (d DeviceID) NextLife() DeviceID {
	_, n := d.Life()
	return d.InLife(n + 1)
}

// InLife is the id of the device's life number n; its first is the id itself.
func (d DeviceID) InLife(n int) DeviceID {
	base, _ := d.Life()
	if n < 2 {
		return base
	}
	return base + DeviceID("."+strconv.Itoa(n))
}
