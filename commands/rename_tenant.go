package commands

import (
	"context"

	"ledgerline/domain"
)

// RenameTenant shows a tenant under another name.
type RenameTenant struct {
	ID   domain.TenantID `json:"id" validate:"required,id"`
	Name string          `json:"name" validate:"required,max=200,text"`
}

// RenameTenant errors: ErrInvalid, domain.ErrTenantUnknown, domain.ErrTenantDeleted.
func (s *Service) RenameTenant(ctx context.Context, in RenameTenant) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(t domain.Tenant) ([]domain.Event, error) { return t.Rename(in.Name) })
}
