package commands

import (
	"context"

	"ledgerline/domain"
)

// DeleteDevice ends a device's present life.
type DeleteDevice struct {
	ID domain.DeviceID `json:"id" validate:"required,id"`
}

// DeleteDevice errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted.
func (s *Service) DeleteDevice(ctx context.Context, in DeleteDevice) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return s.endLife(ctx, in.ID, "")
}
