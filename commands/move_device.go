package commands

import (
	"context"

	"ledgerline/domain"
)

// MoveDevice ends a device's life in its tenant and begins the next one in another: the only way out of a
// tenant (D20). The reaction continue-move begins the new life.
type MoveDevice struct {
	ID       domain.DeviceID `json:"id" validate:"required,id"`
	TenantID domain.TenantID `json:"tenant_id" validate:"required,id"`
}

// MoveDevice errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, domain.ErrSameTenant,
// domain.ErrTenantUnknown, domain.ErrTenantDeleted.
func (s *Service) MoveDevice(ctx context.Context, in MoveDevice) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	if err := s.liveTenant(ctx, in.TenantID); err != nil {
		return Outcome{}, err
	}
	return s.endLife(ctx, in.ID, in.TenantID)
}
