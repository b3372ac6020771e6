package commands

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ledgerline/domain"
)

// DeleteTenant ends a tenant that nothing stands below any more.
type DeleteTenant struct {
	ID domain.TenantID `json:"id" validate:"required,id"`
}

// DeleteTenant errors: ErrInvalid, domain.ErrTenantUnknown, domain.ErrTenantDeleted, domain.ErrMasterTenant,
// domain.ErrTenantOccupied naming what is left.
func (s *Service) DeleteTenant(ctx context.Context, in DeleteTenant) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	head, err := s.Log.Head(ctx)
	if err != nil {
		return Outcome{}, err
	}
	left, err := s.Candidates.ChildrenOf(ctx, head, in.ID)
	if err != nil {
		return Outcome{}, err
	}
	var tenant domain.Tenant
	out, err := decide(ctx, s, in.ID.Stream(), func(t domain.Tenant) ([]domain.Event, error) {
		tenant = t
		events, err := t.Delete()
		if err != nil || len(left) == 0 {
			return events, err
		}
		parts := make([]string, 0, len(left))
		for _, kind := range slices.Sorted(maps.Keys(left)) {
			parts = append(parts, fmt.Sprintf("%d %s", left[kind], kind))
		}
		return nil, fmt.Errorf("%w: %s", domain.ErrTenantOccupied, strings.Join(parts, ", "))
	})
	if err != nil {
		return out, err
	}
	if tenant.KeyHash != "" {
		if err := s.release(ctx, claimKey, tenant.KeyHash, in.ID.Stream()); err != nil {
			return out, err
		}
	}
	return out, s.releaseValue(ctx, claimDomain, tenant.Domain, in.ID.Stream())
}
