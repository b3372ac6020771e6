package commands

import (
	"context"

	"ledgerline/domain"
)

// RevokeAPIKey ends a key.
type RevokeAPIKey struct {
	ID domain.APIKeyID `json:"id" validate:"required,id"`
}

// RevokeAPIKey errors: ErrInvalid, domain.ErrAPIKeyUnknown.
func (s *Service) RevokeAPIKey(ctx context.Context, in RevokeAPIKey) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(k domain.APIKey) ([]domain.Event, error) { return k.Revoke() })
}
