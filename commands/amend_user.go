package commands

import (
	"context"

	"ledgerline/domain"
)

// AmendUser describes a user anew, whole.
type AmendUser struct {
	ID          domain.UserID `json:"id" validate:"required,id"`
	DisplayName string        `json:"display_name" validate:"max=200,text"`
	Email       string        `json:"email" validate:"omitempty,max=254,email"`
}

// AmendUser errors: ErrInvalid, domain.ErrUserUnknown, domain.ErrUserRemoved, domain.ErrErased.
func (s *Service) AmendUser(ctx context.Context, in AmendUser) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(u domain.User) ([]domain.Event, error) {
		if err := u.Live(u.TenantID); err != nil {
			return nil, err
		}
		spec, err := s.userSpec(ctx, in.ID, in.DisplayName, in.Email)
		if err != nil {
			return nil, err
		}
		return u.Amend(spec)
	})
}
