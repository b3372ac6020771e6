package commands

import (
	"context"
	"strings"

	"ledgerline/domain"
)

// CreateTenant makes a tenant. ID may be chosen (a platform's UUID) or left empty for a new one; Domain
// is unique among live tenants.
type CreateTenant struct {
	ID     domain.TenantID `json:"id" validate:"omitempty,id"`
	Name   string          `json:"name" validate:"required,max=200,text"`
	Domain string          `json:"domain" validate:"omitempty,max=253,fqdn"`
}

// CreateTenant answers the tenant's id. Errors: ErrInvalid, domain.ErrTenantExists, domain.ErrTenantDeleted,
// domain.ErrDomainTaken.
func (s *Service) CreateTenant(ctx context.Context, in CreateTenant) (domain.TenantID, Outcome, error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	if in.ID == "" {
		in.ID = domain.TenantID(newID())
	}
	in.Domain = strings.ToLower(in.Domain)
	if in.Domain != "" {
		if err := s.take(ctx, claimDomain, in.Domain, in.ID.Stream(), domain.ErrDomainTaken); err != nil {
			return "", Outcome{}, err
		}
	}
	out, err := decide(ctx, s, in.ID.Stream(), func(t domain.Tenant) ([]domain.Event, error) {
		return t.Create(in.ID, in.Name, in.Domain)
	})
	return in.ID, out, err
}

// EnsureMaster makes the master tenant on the first start; later it is no news.
func (s *Service) EnsureMaster(ctx context.Context) error {
	_, err := decide(ctx, s, domain.Master.Stream(), func(t domain.Tenant) ([]domain.Event, error) {
		if t.Exists {
			return nil, nil
		}
		return t.Create(domain.Master, "master", "")
	})
	return err
}
