// Package wire is the app protocol between innovaphone Users and Devices: JSON objects over a websocket, with a login by
// digest. It holds what both sides need: requests, the login with its digest and session key, devices, domains, categories.
//
// SHA-256 of a password with a challenge is what the apps speak; it replaces no TLS.
//
// What always holds: nothing here panics on foreign bytes; ids are text when they are written, and text or numbers when
// they are read.
//
// Not here: connections (usersapp), rules (commands), the cipher of encrypted fields (the sysclient protocol's, under
// SessionKey).
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

// SessionKey is what fields are hidden with after a login: lower-case hex of SHA-256 over
// "innovaphoneAppSessionKey:challenge:password". A field is hex of RC4 under "<seed>:<session key>".
func SessionKey(challenge, password string) string {
	sum := sha256.Sum256([]byte("innovaphoneAppSessionKey:" + challenge + ":" + password))
	return hex.EncodeToString(sum[:])
}

// Device is a device in the words of the protocol; without a domain it is assigned to none.
type Device struct {
	ID               string `json:"id"`
	HWID             string `json:"hwId"`
	Name             string `json:"name"`
	DomainID         string `json:"domainId,omitempty"`
	Product          string `json:"product"`
	Version          string `json:"version"`
	Type             string `json:"type"` // PHONE, GW, VA, DECT or APP_PLATFORM
	PBXActive        bool   `json:"pbxActive"`
	Online           bool   `json:"online"`
	HasLeaseLicenses bool   `json:"hasLeaseLicenses"`
	Other            bool   `json:"other"`  // not an innovaphone device
	EthIfs           []any  `json:"ethIfs"` // always empty here: where a device is, is not told
}

// Domain is a domain in the words of the protocol. Its categories may come in several domains of the same id, one after the
// other, when they are too many for one message.
type Domain struct {
	ID                   string     `json:"id"`
	Name                 string     `json:"name"`
	HasRentalProducts    bool       `json:"hasRentalProducts"`
	DeployAdminPasswords bool       `json:"deployAdminPasswords"`
	IsInstanceDomain     bool       `json:"isInstanceDomain"`
	Categories           []Category `json:"categories"`
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
