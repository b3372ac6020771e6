package commands

import (
	"context"

	"ledgerline/domain"
)

// ReopenMACPath lets a phone fetch by its MAC alone again, from trusted networks.
type ReopenMACPath struct {
	ID domain.DeviceID `json:"id" validate:"required,id"`
}

// ReopenMACPath errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted.
func (s *Service) ReopenMACPath(ctx context.Context, in ReopenMACPath) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return s.onDevice(ctx, in.ID, domain.Device.ReopenMACPath)
}
