package commands

import (
	"context"

	"ledgerline/domain"
)

// ResumeResyncs lets a tenant's phones be told of changes again, after failures stopped it.
type ResumeResyncs struct {
	ID domain.TenantID `json:"id" validate:"required,id"`
}

// ResumeResyncs errors: ErrInvalid, domain.ErrTenantUnknown, domain.ErrTenantDeleted.
func (s *Service) ResumeResyncs(ctx context.Context, in ResumeResyncs) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	out, err := decide(ctx, s, in.ID.Stream(), func(t domain.Tenant) ([]domain.Event, error) { return t.ResumeResyncs() })
	if err == nil {
		s.resyncs.forgive(in.ID)
	}
	return out, err
}
