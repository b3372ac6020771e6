package domain

import "errors"

// KeyCreated: a subject has a data key in the vault. Stands in the subject's own stream, without material.
type KeyCreated struct {
	Subject Subject `json:"subject"`
	KeyID   string  `json:"key_id"`
}

// KeyDestroyed: the subject's key is gone; what it sealed cannot be read any more, anywhere.
type KeyDestroyed struct {
	Subject Subject `json:"subject"`
}

// SubjectErased: somebody ordered the erasure of these subjects; their keys are destroyed in consequence.
type SubjectErased struct {
	Subjects []Subject `json:"subjects"`
}

// VaultBound: the log's sealed values open with the keys of this vault, wrapped under the master key with this
// fingerprint (D10). Recorded where several replicas may share a log: one with another vault is turned away.
// A later one with the same vault tells that the master key was rotated; with another, that the vault was moved.
type VaultBound struct {
	VaultID           string `json:"vault_id"`
	MasterFingerprint string `json:"master_key_fingerprint"` // 16 hex digits that say nothing about the key
}

func (VaultBound) EventType() string    { return "vault.bound" }
func (KeyCreated) EventType() string    { return "key.created" }
func (KeyDestroyed) EventType() string  { return "key.destroyed" }
func (SubjectErased) EventType() string { return "subject.erased" }

var keyEvents = []entry{of[KeyCreated](), of[KeyDestroyed](), of[SubjectErased](), of[VaultBound]()}

// Stream is where the facts about the subject's key stand.
func (s Subject) Stream() StreamID { return StreamID(s) }

// Keyed is what the key events of a stream add up to.
type Keyed struct {
	Created   map[Subject]bool
	Destroyed map[Subject]bool
}

// Apply returns the keys after e.
func (k Keyed) Apply(e Event) Keyed {
	switch e := e.(type) {
	case KeyCreated:
		k.Created = with(k.Created, e.Subject)
	case KeyDestroyed:
		k.Destroyed = with(k.Destroyed, e.Subject)
	}
	return k
}

// with returns a copy of set that also holds s.
func with[K comparable](set map[K]bool, s K) map[K]bool {
	out := make(map[K]bool, len(set)+1)
	for k := range set {
		out[k] = true
	}
	out[s] = true
	return out
}

// VaultStream is where the log says which vault it belongs to.
const VaultStream StreamID = "settings-vault"

// Bound is the vault a log belongs to; the zero value for one that has not said.
type Bound struct {
	VaultBound
}

// Apply returns the binding after e.
func (b Bound) Apply(e Event) Bound {
	if e, ok := e.(VaultBound); ok {
		return Bound{e}
	}
	return b
}

// ErrForeignVault: the log's sealed values belong to another vault.
var ErrForeignVault = errors.New("log belongs to another vault: several replicas share one vault, in PostgreSQL, under one master key")

// Bind records that the log belongs to a vault, under the master key of now. What is so already is no news.
func (b Bound) Bind(to VaultBound) ([]Event, error) {
	switch {
	case b.VaultBound == to:
		return nil, nil
	case b.VaultID != "" && b.VaultID != to.VaultID:
		return nil, ErrForeignVault
	}
	return []Event{to}, nil
}
