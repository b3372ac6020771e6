package commands

import (
	"context"

	"ledgerline/domain"
)

// RemoveUser ends a user.
type RemoveUser struct {
	ID domain.UserID `json:"id" validate:"required,id"`
}

// RemoveUser errors: ErrInvalid, domain.ErrUserUnknown.
func (s *Service) RemoveUser(ctx context.Context, in RemoveUser) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(u domain.User) ([]domain.Event, error) { return u.Remove() })
}
