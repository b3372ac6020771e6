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

// AssociateUserLines puts on a device the lines of its user that are on no device yet, in creation order
// (D17); without any it records that the device waits for one. At is the position the choice must know of.
type AssociateUserLines struct {
	DeviceID domain.DeviceID // one life
	At       domain.Position
}

// AssociateUserLines errors: domain.ErrDeviceUnknown, domain.ErrDeviceDeleted.
func (s *Service) AssociateUserLines(ctx context.Context, in AssociateUserLines) (Outcome, error) {
	return decide(ctx, s, in.DeviceID.Stream(), func(d domain.Device) ([]domain.Event, error) {
		if err := d.Live(); err != nil {
			return nil, err
		}
		if d.UserID == "" || len(d.Lines) > 0 || !d.Assigned() {
			return nil, nil
		}
		lines, err := s.Candidates.LinesOfUser(ctx, in.At, d.UserID)
		if err != nil {
			return nil, err
		}
		var events []domain.Event
		for _, c := range lines {
			if len(c.Devices) > 0 {
				continue
			}
			more, err := s.associate(ctx, d, c.Line, 0)
			if err != nil {
				continue // removed meanwhile, or of another tenant: not a line for this device
			}
			for _, e := range more {
				events, d = append(events, e), d.Apply(e)
			}
		}
		if len(events) == 0 {
			return d.AwaitLine(), nil
		}
		return events, nil
	})
}
