package domain

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net/url"
)

// RegistryServerRegistered: a Devices server elsewhere may have codes drawn here. It may stand again, with another name
// or key; the last one holds.
type RegistryServerRegistered struct {
	ServerID ServerID `json:"server_id"`
	Name     string   `json:"name"`
	// PublicKey is the Ed25519 key its requests are signed with, base64 of 32 bytes.
	PublicKey string `json:"public_key"`
}

// RegistryServerRemoved: no code is drawn for it any more. Codes it has live on until they expire.
type RegistryServerRemoved struct{}

func (RegistryServerRegistered) EventType() string { return "registry.server_registered" }
func (RegistryServerRemoved) EventType() string    { return "registry.server_removed" }

var registryEvents = []entry{of[RegistryServerRegistered](), of[RegistryServerRemoved]()}

// RegistryServer is what a stream of a Devices server adds up to.
type RegistryServer struct {
	RegistryServerRegistered
	Exists  bool
	Removed bool
}

// Stream is where the facts about the server stand.
func (id ServerID) Stream() StreamID { return Stream("registry", string(id)) }

// Apply returns the server after e.
func (r RegistryServer) Apply(e Event) RegistryServer {
	switch e := e.(type) {
	case RegistryServerRegistered:
		r.RegistryServerRegistered, r.Exists, r.Removed = e, true, false
	case RegistryServerRemoved:
		r.Removed = true
	}
	return r
}

// Owner is the master tenant: the registry belongs to the instance.
func (r RegistryServer) Owner() TenantID {
	if !r.Exists {
		return ""
	}
	return Master
}

var (
	ErrServerUnknown = errors.New("no such Devices server")
	ErrBadPublicKey  = errors.New("must be an Ed25519 public key, base64 of 32 bytes")
	ErrBadDevicesURL = errors.New("must be a ws:// or wss:// URL of at most 500 characters, without user, query and fragment")
)

// Live is nil while codes are drawn for the server.
func (r RegistryServer) Live() error {
	if !r.Exists || r.Removed {
		return ErrServerUnknown
	}
	return nil
}

// Register makes the server known, or describes it anew. As it is already is no news.
func (r RegistryServer) Register(to RegistryServerRegistered) ([]Event, error) {
	if _, err := ParsePublicKey(to.PublicKey); err != nil {
		return nil, err
	}
	if r.Live() == nil && r.RegistryServerRegistered == to {
		return nil, nil
	}
	return []Event{to}, nil
}

// Remove ends it. Removing again is no news.
func (r RegistryServer) Remove() ([]Event, error) {
	if !r.Exists {
		return nil, ErrServerUnknown
	}
	if r.Removed {
		return nil, nil
	}
	return []Event{RegistryServerRemoved{}}, nil
}

// ParsePublicKey reads an Ed25519 public key: base64 of 32 bytes.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, ErrBadPublicKey
	}
	return b, nil
}

// CheckDevicesURL tells whether a phone can be led to the websocket address.
func CheckDevicesURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || len(text) > 500 || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return ErrBadDevicesURL
	}
	for _, c := range []byte(text) {
		if c <= ' ' || c >= 0x7f {
			return ErrBadDevicesURL
		}
	}
	return nil
}
