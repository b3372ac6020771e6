package commands

import (
	"context"

	"ledgerline/domain"
)

// ResetDevice brings a device back to the unconfigured state; its tenant stays.
type ResetDevice struct {
	ID domain.DeviceID `json:"id" validate:"required,id"`
}

// ResetDevice errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted.
func (s *Service) ResetDevice(ctx context.Context, in ResetDevice) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return s.onDevice(ctx, in.ID, domain.Device.Reset)
}
