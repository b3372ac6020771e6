package domain

import (
	"errors"
	"slices"
	"time"
)

// APIKeyIssued: whoever shows the key may act in the role, in the tenants. The key itself was shown
// once; Hash is the keyed hash that recognises it.
type APIKeyIssued struct {
	APIKeyID APIKeyID `json:"api_key_id"`
	Name     string   `json:"name"`
	Role     Role     `json:"role"`
	// Tenants the key is bound to; empty means all of the instance.
	Tenants []TenantID `json:"tenants,omitempty"`
	// UserID is the user whose own phones a key of role "user" sees.
	UserID    UserID     `json:"user_id,omitempty"`
	Hash      string     `json:"hash"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// APIKeyRevoked: the key opens nothing any more.
type APIKeyRevoked struct{}

// APIKeyDenied: a known but dead key (revoked, expired, wrong secret) was presented Count times in the
// hour that began at Hour (D27).
type APIKeyDenied struct {
	Hour  time.Time `json:"hour"`
	Count int       `json:"count"`
}

func (APIKeyIssued) EventType() string  { return "apikey.issued" }
func (APIKeyRevoked) EventType() string { return "apikey.revoked" }
func (APIKeyDenied) EventType() string  { return "apikey.denied" }

var apiKeyEvents = []entry{of[APIKeyIssued](), of[APIKeyRevoked](), of[APIKeyDenied]()}

// Role is what a key or a person may do.
type Role string

const (
	Admin    Role = "admin"    // everything, all tenants it is bound to
	Operator Role = "operator" // everything of a tenant but keys and erasure
	Auditor  Role = "auditor"  // read-only, whole history
	Helpdesk Role = "helpdesk" // read, issue codes, regenerate, reset
	OwnUser  Role = "user"     // own phones
)

// Roles lists all roles.
var Roles = []Role{Admin, Operator, Auditor, Helpdesk, OwnUser}

// APIKey is what an API key's stream adds up to.
type APIKey struct {
	APIKeyIssued
	Exists  bool
	Revoked bool
}

// Stream is where the key's facts stand.
func (id APIKeyID) Stream() StreamID { return Stream("apikey", string(id)) }

// Apply returns the key after e.
func (k APIKey) Apply(e Event) APIKey {
	switch e := e.(type) {
	case APIKeyIssued:
		k.APIKeyIssued, k.Exists = e, true
	case APIKeyRevoked:
		k.Revoked = true
	}
	return k
}

var (
	ErrAPIKeyUnknown = errors.New("no such API key")
	ErrAPIKeyExists  = errors.New("API key exists already")
	ErrAPIKeyDead    = errors.New("API key is revoked or expired")
)

// Issue records the key; its stream must be new.
func (k APIKey) Issue(issued APIKeyIssued) ([]Event, error) {
	if k.Exists {
		return nil, ErrAPIKeyExists
	}
	return []Event{issued}, nil
}

// Usable is nil while the key opens something at now.
func (k APIKey) Usable(now time.Time) error {
	switch {
	case !k.Exists:
		return ErrAPIKeyUnknown
	case k.Revoked, k.ExpiresAt != nil && !now.Before(*k.ExpiresAt):
		return ErrAPIKeyDead
	}
	return nil
}

// Revoke ends the key. Revoking again is no news.
func (k APIKey) Revoke() ([]Event, error) {
	if !k.Exists {
		return nil, ErrAPIKeyUnknown
	}
	if k.Revoked {
		return nil, nil
	}
	return []Event{APIKeyRevoked{}}, nil
}

// Sees tells whether the key reaches into tenant.
func (k APIKey) Sees(tenant TenantID) bool {
	return len(k.Tenants) == 0 || slices.Contains(k.Tenants, tenant)
}
