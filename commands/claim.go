package commands

import (
	"context"
	"errors"

	"ledgerline/domain"
)

// take claims a value for holder alone (D13). taken is the error when somebody else holds it.
func (s *Service) take(ctx context.Context, kind, value string, holder domain.StreamID, taken error) error {
	hash, err := s.lookup(ctx, kind, value)
	if err != nil {
		return err
	}
	_, err = decide(ctx, s, domain.ClaimStream(kind, hash), func(c domain.Claim) ([]domain.Event, error) {
		return c.Take(kind, holder, func(other domain.StreamID) bool { return s.orphaned(ctx, kind, hash, other) }, s.now())
	})
	if errors.Is(err, domain.ErrClaimed) {
		return taken
	}
	return err
}

// orphaned tells whether a holder never came to be what it claimed for: its stream does not exist, or
// shows another value.
func (s *Service) orphaned(ctx context.Context, kind, hash string, holder domain.StreamID) bool {
	if kind == claimExtension {
		l, _, err := load[domain.Line](ctx, s.Log, holder)
		return err == nil && (l.Live() != nil || l.ExtensionHash != hash)
	}
	if kind == claimSoftphone {
		p, _, err := load[domain.Softphone](ctx, s.Log, holder)
		return err == nil && (p.Live() != nil || p.UsernameHash != hash)
	}
	t, _, err := load[domain.Tenant](ctx, s.Log, holder)
	if err != nil {
		return false
	}
	if t.Live() != nil {
		return true
	}
	switch kind {
	case claimDomain:
		held, err := s.lookup(ctx, kind, t.Domain)
		return err == nil && held != hash
	case claimKey:
		return t.KeyHash != hash
	}
	return false
}

// Kinds of claims.
const (
	claimDomain = "domain"
	claimKey    = "provisioning_key"
	claimMAC    = "mac"
	// claimExtension is of "<tenant>/<digits>".
	claimExtension = "extension"
	// claimSoftphone is of a softphoneName.
	claimSoftphone = "softphone"
)

// release ends holder's claim of a value found by its hash.
func (s *Service) release(ctx context.Context, kind, hash string, holder domain.StreamID) error {
	_, err := decide(ctx, s, domain.ClaimStream(kind, hash), func(c domain.Claim) ([]domain.Event, error) {
		return c.Release(holder), nil
	})
	return err
}

// releaseValue is release for a value in clear text; empty text has no claim.
func (s *Service) releaseValue(ctx context.Context, kind, value string, holder domain.StreamID) error {
	if value == "" {
		return nil
	}
	hash, err := s.lookup(ctx, kind, value)
	if err != nil {
		return err
	}
	return s.release(ctx, kind, hash, holder)
}
