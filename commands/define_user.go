package commands

import (
	"context"

	"ledgerline/domain"
)

// DefineUser makes a user of a tenant. An empty ID makes a new one.
type DefineUser struct {
	ID          domain.UserID   `json:"id" validate:"omitempty,id"`
	TenantID    domain.TenantID `json:"tenant_id" validate:"required,id"`
	DisplayName string          `json:"display_name" validate:"max=200,text"`
	Email       string          `json:"email" validate:"omitempty,max=254,email"`
}

// DefineUser answers the user's id. Errors: ErrInvalid, domain.ErrTenantUnknown, domain.ErrTenantDeleted,
// domain.ErrUserExists.
func (s *Service) DefineUser(ctx context.Context, in DefineUser) (domain.UserID, Outcome, error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	if err := s.liveTenant(ctx, in.TenantID); err != nil {
		return "", Outcome{}, err
	}
	if in.ID == "" {
		in.ID = domain.UserID(newID())
	}
	out, err := decide(ctx, s, in.ID.Stream(), func(u domain.User) ([]domain.Event, error) {
		if u.Exists {
			return nil, domain.ErrUserExists
		}
		spec, err := s.userSpec(ctx, in.ID, in.DisplayName, in.Email)
		if err != nil {
			return nil, err
		}
		return u.Define(in.ID, in.TenantID, spec)
	})
	return in.ID, out, err
}
