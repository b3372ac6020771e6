// Package wire is the app protocol between innovaphone Users and Devices: JSON objects over a websocket, with a login by
// digest. It holds what both sides need: the login and its digest, devices and categories.
//
// SHA-256 of a password with a challenge is what the apps speak; it replaces no TLS.
//
// Not here: connections (usersapp), rules (commands).
package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
)

// MaxMessage bounds one message, in bytes: larger values are split over several.
const MaxMessage = 64 << 10

// Login is AppLogin. Info is kept as it was sent, for the digest is of its very text.
type Login struct {
	MT     string          `json:"mt"`
	App    string          `json:"app"`
	Domain string          `json:"domain"`
	SIP    string          `json:"sip"`
	GUID   string          `json:"guid"`
	DN     string          `json:"dn"`
	Info   json.RawMessage `json:"info,omitempty"`
	Digest string          `json:"digest"`
	PBXObj string          `json:"pbxObj,omitempty"`
}

// Sum is the digest of the login for a challenge and password: lower-case hex of SHA-256 over
// "app:domain:sip:guid:dn:info:challenge:password", where info and its colon are left out when there is none.
func (l Login) Sum(challenge, password string) string {
	parts := []string{l.App, l.Domain, l.SIP, l.GUID, l.DN}
	if len(l.Info) > 0 {
		var compact bytes.Buffer
		if json.Compact(&compact, l.Info) == nil {
			parts = append(parts, compact.String())
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(append(parts, challenge, password), ":")))
	return hex.EncodeToString(sum[:])
}

// Device is a device in the words of the protocol. Domain and id are text here.
type Device struct {
	ID        string `json:"id"`
	HWID      string `json:"hwId"`
	Name      string `json:"name"`
	DomainID  string `json:"domainId"`
	Product   string `json:"product"`
	Version   string `json:"version"`
	Type      string `json:"type"`
	PBXActive bool   `json:"pbxActive"`
	Online    bool   `json:"online"`
}

// Category is a category in the words of the protocol; Config tells that codes may lead to it.
type Category struct {
	ID       string `json:"id"`
	DomainID string `json:"domainId,omitempty"`
	Name     string `json:"name"`
	Config   bool   `json:"config"`
}

// Config is a device configuration, without its values; for no categories it is for all devices of the domain. That there
// are these fields is known, their names are not.
type Config struct {
	ID         string   `json:"id"`
	DomainID   string   `json:"domainId"`
	Type       string   `json:"type"`
	Name       string   `json:"name"`
	Categories []string `json:"categories"`
}
