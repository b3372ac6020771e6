package domain

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// TokenIssued: whoever connects with the token, its tenant's domain and its category is put into that category without
// a code (automatic provisioning). The token itself was shown once; the stream is named after its keyed hash.
type TokenIssued struct {
	TokenID    TokenID    `json:"token_id"`
	TenantID   TenantID   `json:"tenant_id"`
	CategoryID CategoryID `json:"category_id"`
	TokenSpec
	IssuedAt time.Time `json:"issued_at"`
	// Replaces is the token this one follows; both are good for a while.
	Replaces TokenID `json:"replaces,omitempty"`
}

// TokenSpec is what a token is good for.
type TokenSpec struct {
	Name      string    `json:"name,omitempty"`
	ExpiresAt time.Time `json:"expires_at"`
	// MACPrefixes, when set, are the beginnings of the only MACs that may use it: 1 to 12 lower-case hex digits.
	MACPrefixes []string `json:"mac_prefixes,omitempty"`
	// Networks, when set, are the only networks it may be used from ("192.0.2.0/24").
	Networks []string `json:"networks,omitempty"`
	// MaxUses bounds how many admissions it is good for; 0 means no bound.
	MaxUses int `json:"max_uses,omitempty"`
}

// TokenRotated: By follows this token, which is good until ExpiresAt only.
type TokenRotated struct {
	By        TokenID   `json:"by"`
	ExpiresAt time.Time `json:"expires_at"`
}

// TokenUsed: the device MAC was admitted by the token.
type TokenUsed struct {
	MAC      MAC       `json:"mac"`
	DeviceID DeviceID  `json:"device_id"`
	UsedAt   time.Time `json:"used_at"`
}

// TokenRevoked: the token admits nobody any more. Devices it admitted stay.
type TokenRevoked struct{}

// TokenDenied: the token was shown Count times in the hour that began at Hour where it is not good: dead, used up, or
// by a device, from a place or with a category it is not for (D27).
type TokenDenied struct {
	Hour  time.Time `json:"hour"`
	Count int       `json:"count"`
}

func (TokenIssued) EventType() string  { return "token.issued" }
func (TokenRotated) EventType() string { return "token.rotated" }
func (TokenUsed) EventType() string    { return "token.used" }
func (TokenRevoked) EventType() string { return "token.revoked" }
func (TokenDenied) EventType() string  { return "token.denied" }

var tokenEvents = []entry{of[TokenIssued](), of[TokenRotated](), of[TokenUsed](), of[TokenRevoked](), of[TokenDenied]()}

// Token is what a token's stream adds up to.
type Token struct {
	TokenIssued
	Exists    bool
	Revoked   bool
	RotatedBy TokenID
	Uses      int
	UsedAt    time.Time
}

// Stream is where the token's facts stand. Its id is the keyed hash of the token.
func (id TokenID) Stream() StreamID { return Stream("token", string(id)) }

// Apply returns the token after e.
func (t Token) Apply(e Event) Token {
	switch e := e.(type) {
	case TokenIssued:
		t.TokenIssued, t.Exists = e, true
	case TokenRotated:
		t.RotatedBy, t.ExpiresAt = e.By, e.ExpiresAt
	case TokenUsed:
		t.Uses, t.UsedAt = t.Uses+1, e.UsedAt
	case TokenRevoked:
		t.Revoked = true
	}
	return t
}

// Owner is the tenant the token belongs to; empty before its first event.
func (t Token) Owner() TenantID { return t.TenantID }

var (
	ErrTokenUnknown = errors.New("no such token")
	ErrTokenExists  = errors.New("this token is taken")
	ErrTokenDead    = errors.New("token is revoked, expired or used up")
	ErrTokenForeign = errors.New("token is not for this device, place or category")
	ErrTokenRotated = errors.New("token has been replaced already")
	// ErrTokenRefused is what a device is told for each of the above, and for what never was a token.
	ErrTokenRefused = errors.New("token not accepted")
	ErrMACPrefix    = errors.New("must be 1 to 12 hex digits each")
	ErrNetwork      = errors.New("must be networks such as 192.0.2.0/24")
)

// Issue records the token; its stream must be new.
func (t Token) Issue(issued TokenIssued) ([]Event, error) {
	if t.Exists {
		return nil, ErrTokenExists
	}
	return []Event{issued}, nil
}

// Usable is nil while the token admits somebody at now.
func (t Token) Usable(now time.Time) error {
	switch {
	case !t.Exists:
		return ErrTokenUnknown
	case t.Revoked, !now.Before(t.ExpiresAt), t.MaxUses > 0 && t.Uses >= t.MaxUses:
		return ErrTokenDead
	}
	return nil
}

// Takes is nil when the token is for a device with that MAC, which asks from ip (the zero Addr where that is unknown).
func (t Token) Takes(mac MAC, ip netip.Addr) error {
	if len(t.MACPrefixes) > 0 && !slices.ContainsFunc(t.MACPrefixes, func(p string) bool { return strings.HasPrefix(string(mac), p) }) {
		return ErrTokenForeign
	}
	ip = ip.Unmap().WithZone("")
	if len(t.Networks) > 0 && !slices.ContainsFunc(t.Networks, func(n string) bool {
		p, err := netip.ParsePrefix(n)
		return err == nil && p.Contains(ip)
	}) {
		return ErrTokenForeign
	}
	return nil
}

// Use admits a device.
func (t Token) Use(mac MAC, device DeviceID, ip netip.Addr, now time.Time) ([]Event, error) {
	if err := t.Usable(now); err != nil {
		return nil, err
	}
	if err := t.Takes(mac, ip); err != nil {
		return nil, err
	}
	return []Event{TokenUsed{MAC: mac, DeviceID: device, UsedAt: now}}, nil
}

// Rotate lets by follow the token, which dies at the end of the overlap, or earlier if it was to anyway.
func (t Token) Rotate(by TokenID, overlap time.Duration, now time.Time) ([]Event, error) {
	if err := t.Usable(now); err != nil {
		return nil, err
	}
	if t.RotatedBy != "" {
		return nil, ErrTokenRotated
	}
	end := now.Add(overlap)
	if t.ExpiresAt.Before(end) {
		end = t.ExpiresAt
	}
	return []Event{TokenRotated{By: by, ExpiresAt: end}}, nil
}

// Revoke ends the token. Revoking again is no news.
func (t Token) Revoke() ([]Event, error) {
	if !t.Exists {
		return nil, ErrTokenUnknown
	}
	if t.Revoked {
		return nil, nil
	}
	return []Event{TokenRevoked{}}, nil
}

// Clean normalises what an operator typed, or names the rule it breaks.
func (s TokenSpec) Clean() (TokenSpec, error) {
	prefixes := make([]string, 0, len(s.MACPrefixes))
	for _, p := range s.MACPrefixes {
		p = strings.ToLower(strings.NewReplacer(":", "", "-", "", ".", "").Replace(p))
		if p == "" || len(p) > 12 || strings.Trim(p, "0123456789abcdef") != "" {
			return s, ErrMACPrefix
		}
		prefixes = append(prefixes, p)
	}
	networks := make([]string, 0, len(s.Networks))
	for _, n := range s.Networks {
		p, err := netip.ParsePrefix(n)
		if err != nil {
			return s, ErrNetwork
		}
		networks = append(networks, p.Masked().String())
	}
	s.MACPrefixes, s.Networks = slices.Clip(prefixes), slices.Clip(networks)
	return s, nil
}
