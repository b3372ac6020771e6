package commands

import (
	"context"

	"ledgerline/domain"
)

// AssociateLine puts a line on a device. Position 0 means the first free one. A device that is still in
// the master tenant, or was reset, goes to the line's tenant.
type AssociateLine struct {
	DeviceID domain.DeviceID `json:"device_id" validate:"required,id"`
	LineID   domain.LineID   `json:"line_id" validate:"required,id"`
	Position int             `json:"position" validate:"gte=0,lte=1000"`
}

// AssociateLine errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, domain.ErrLineUnknown,
// domain.ErrLineRemoved, domain.ErrLineOfOtherTenant, domain.ErrPositionTaken.
func (s *Service) AssociateLine(ctx context.Context, in AssociateLine) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return s.onDevice(ctx, in.DeviceID, func(d domain.Device) ([]domain.Event, error) {
		return s.associate(ctx, d, in.LineID, in.Position)
	})
}

func (s *Service) associate(ctx context.Context, d domain.Device, id domain.LineID, position int) ([]domain.Event, error) {
	l, _, err := load[domain.Line](ctx, s.Log, id.Stream())
	if err != nil {
		return nil, err
	}
	if err := l.Live(); err != nil {
		return nil, err
	}
	var secret domain.Secret
	var hash string
	if !d.Assigned() {
		if secret, hash, err = s.deviceSecret(ctx, d.ID); err != nil {
			return nil, err
		}
	}
	return d.Associate(id, l.TenantID, position, secret, hash)
}
