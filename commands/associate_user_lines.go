package commands

import (
	"context"

	"ledgerline/domain"
)

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
