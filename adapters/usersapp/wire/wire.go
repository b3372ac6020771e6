// Package wire is the app protocol between innovaphone Users and Devices: JSON objects over a websocket, with a login by
// digest. It holds what both sides need: the digest, the message frame, and the hiding of fields.
//
// SHA-256 of a password with a challenge, and RC4 without integrity, are what the apps speak; they replace no TLS.
//
// Not here: connections (usersapp), rules (commands).
package wire

import (
	"bytes"
	"crypto/rc4"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
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

// SessionKey is what hidden fields of a connection are hidden under.
func SessionKey(challenge, password string) string {
	sum := sha256.Sum256([]byte("innovaphoneAppSessionKey:" + challenge + ":" + password))
	return hex.EncodeToString(sum[:])
}

// ErrHidden: a field is not what Hide makes.
var ErrHidden = errors.New("is not a hidden field")

// Hide is hex of RC4 of text under "<seed>:<session key>".
func Hide(seed, sessionKey, text string) (string, error) {
	b, err := stream(seed, sessionKey, []byte(text))
	return hex.EncodeToString(b), err
}

// Show is the text that Hide hid; with another key it is other text, not an error. Errors: ErrHidden.
func Show(seed, sessionKey, hidden string) (string, error) {
	b, err := hex.DecodeString(hidden)
	if err != nil {
		return "", ErrHidden
	}
	b, err = stream(seed, sessionKey, b)
	return string(b), err
}

func stream(seed, key string, in []byte) ([]byte, error) {
	if len(seed)+1+len(key) > 256 { // the most RC4 takes
		return nil, ErrHidden
	}
	c, err := rc4.NewCipher([]byte(seed + ":" + key))
	if err != nil {
		return nil, ErrHidden
	}
	out := make([]byte, len(in))
	c.XORKeyStream(out, in)
	return out, nil
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
