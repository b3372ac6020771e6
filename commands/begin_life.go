package commands

import (
	"context"

	"ledgerline/domain"
)

// BeginLife begins the next life of a device that was moved, in its new tenant.
type BeginLife struct {
	After domain.DeviceID // the life that ended with a move
}

// BeginLife errors: domain.ErrDeviceUnknown, those of AssignDevice.
func (s *Service) BeginLife(ctx context.Context, in BeginLife) (Outcome, error) {
	old, _, err := load[domain.Device](ctx, s.Log, in.After.Stream())
	if err != nil {
		return Outcome{}, err
	}
	if old.MovedTo == "" {
		return Outcome{}, domain.ErrDeviceUnknown
	}
	id := in.After.NextLife()
	if err := s.claimMAC(ctx, old.MAC, id); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, id.Stream(), func(d domain.Device) ([]domain.Event, error) {
		var events []domain.Event
		if !d.Exists {
			discovered := domain.DeviceDiscovered{DeviceID: id, MAC: old.MAC, DeviceFacts: old.DeviceFacts, Added: "operator"}
			events, d = append(events, discovered), d.Apply(discovered)
		}
		if old.MovedTo == domain.Master || d.Assigned() && d.TenantID == old.MovedTo {
			return events, nil
		}
		if err := s.liveTenant(ctx, old.MovedTo); err != nil {
			return nil, err
		}
		secret, hash, err := s.deviceSecret(ctx, id)
		if err != nil {
			return nil, err
		}
		assigned, err := d.Assign(domain.DeviceAssigned{TenantID: old.MovedTo, Secret: secret, SecretHash: hash})
		return append(events, assigned...), err
	})
}
