package commands

import (
	"context"

	"ledgerline/domain"
)

// DissociateLine takes a line off a device.
type DissociateLine struct {
	DeviceID domain.DeviceID `json:"device_id" validate:"required,id"`
	LineID   domain.LineID   `json:"line_id" validate:"required,id"`
}

// DissociateLine errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, domain.ErrLineNotOnDevice.
func (s *Service) DissociateLine(ctx context.Context, in DissociateLine) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return s.onDevice(ctx, in.DeviceID, func(d domain.Device) ([]domain.Event, error) { return d.Dissociate(in.LineID) })
}
