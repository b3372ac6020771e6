package commands

import (
	"context"

	"ledgerline/domain"
)

// RevokeCode takes an unused code back.
type RevokeCode struct {
	ID domain.CodeID `json:"id" validate:"required,id"`
}

// RevokeCode errors: ErrInvalid, domain.ErrCodeUnknown, domain.ErrCodeRedeemed, domain.ErrCodeExpired.
func (s *Service) RevokeCode(ctx context.Context, in RevokeCode) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	head, err := s.Log.Head(ctx)
	if err != nil {
		return Outcome{}, err
	}
	ref, ok, err := s.Candidates.CodeByID(ctx, head, in.ID)
	if err != nil {
		return Outcome{}, err
	}
	if !ok {
		return Outcome{}, domain.ErrCodeUnknown
	}
	return decide(ctx, s, ref.Stream, func(c domain.Code) ([]domain.Event, error) { return c.Revoke(s.now()) })
}
