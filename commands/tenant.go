package commands

import (
	"context"

	"ledgerline/domain"
)

// liveTenant is nil when things can be made below the tenant.
func (s *Service) liveTenant(ctx context.Context, id domain.TenantID) error {
	t, _, err := s.tenants.now(ctx, s.Log, id.Stream())
	if err != nil {
		return err
	}
	return t.Live()
}
