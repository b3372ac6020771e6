package domain

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Subject names whose data key seals something: "user-<id>", "line-<id>", "device-<id>", "layer-<id>",
// "tenant-<id>", "codeepoch-<yyyy.mm.dd>" … Destroying a subject's key erases the subject (D2).
type Subject string

// ErrErased: the key that sealed this has been destroyed; the content is gone for good.
var ErrErased = errors.New("erased: key destroyed")

// ErrUnsealed: a secret was about to leave the process in clear text. Always a programmer's mistake.
var ErrUnsealed = errors.New("secret is not sealed")

// Erased is what a reader sees in place of content whose key has been destroyed.
const Erased = "[erased]"

// Redacted is what every text form of a secret shows.
const Redacted = "[redacted]"

// Sealed is encrypted content: AES-256-GCM under the data key KeyID, associated data = event id + "#" +
// JSON pointer of the field (D3). Fingerprint is an HMAC-SHA-256 (hex, 32 digits) of the clear text under
// a key of the same subject: equal fingerprints mean an unchanged value, and nothing else.
//
// Between a command and the log a Sealed carries its clear text in memory only: marshalling one that
// has not been sealed yet fails with ErrUnsealed, printing it shows "[redacted]".
type Sealed struct {
	KeyID       string `json:"key_id"`
	Nonce       []byte `json:"nonce"`
	Ciphertext  []byte `json:"ciphertext"`
	Fingerprint string `json:"fingerprint,omitempty"`
	// AAD is the associated data, kept when it differs from "event id#pointer" of where the value stands
	// (a value carried over unchanged into a later event keeps the seal it was made with).
	AAD string `json:"aad,omitempty"`

	subject Subject
	// Of the clear text only a pointer stands here: where fmt does not ask Format (the verb p, a field that
	// is not exported) it prints an address. nil for a value that is sealed.
	clear *string
}

// Secret is a credential: password, key, token. Never readable through the API.
type Secret struct{ Sealed }

// Personal is personal data: display name, e-mail, directory number, address. Readable by those who may.
type Personal struct{ Sealed }

// NewSecret holds clear text that belongs to subject until it is sealed. fingerprint may be empty.
func NewSecret(subject Subject, clear, fingerprint string) Secret {
	return Secret{newSealed(subject, clear, fingerprint)}
}

// NewPersonal is NewSecret for personal data. An empty text stays empty and is never sealed.
func NewPersonal(subject Subject, clear, fingerprint string) Personal {
	if clear == "" {
		return Personal{}
	}
	return Personal{newSealed(subject, clear, fingerprint)}
}

func newSealed(subject Subject, clear, fingerprint string) Sealed {
	return Sealed{subject: subject, clear: &clear, Fingerprint: fingerprint}
}

// Pending returns the subject and clear text of a value not sealed yet.
func (s Sealed) Pending() (subject Subject, clear string, pending bool) {
	if s.clear == nil {
		return "", "", false
	}
	return s.subject, *s.clear, true
}

// IsZero tells whether there is no value at all.
func (s Sealed) IsZero() bool { return s.clear == nil && s.KeyID == "" }

// Same tells whether two values are known to be the same clear text of the same subject.
func (s Sealed) Same(t Sealed) bool {
	if s.IsZero() || t.IsZero() {
		return s.IsZero() && t.IsZero()
	}
	return s.Fingerprint != "" && s.Fingerprint == t.Fingerprint
}

// String is "[redacted]": a sealed value has no text form.
func (s Sealed) String() string { return Redacted }

// GoString is "[redacted]".
func (s Sealed) GoString() string { return Redacted }

// Format keeps every verb of fmt from reaching the clear text.
func (s Sealed) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Redacted)) }

type sealedJSON Sealed

// MarshalJSON writes the sealed form; null for no value; ErrUnsealed while it still holds clear text.
func (s Sealed) MarshalJSON() ([]byte, error) {
	switch {
	case s.clear != nil:
		return nil, ErrUnsealed
	case s.IsZero():
		return []byte("null"), nil
	}
	return json.Marshal(sealedJSON(s))
}
