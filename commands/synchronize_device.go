package commands

import (
	"context"

	"ledgerline/domain"
)

// SynchronizeDevice asks a phone to fetch its files again: the request is recorded, a reaction carries it out
// (notify_phone.go), and what came of it is recorded too.
type SynchronizeDevice struct {
	ID     domain.DeviceID `json:"id" validate:"required,id"`
	Reboot bool            `json:"reboot"` // restart as well
	// Trigger is domain.SyncAsked when empty.
	Trigger string `json:"trigger" validate:"omitempty,oneof=asked dialled"`
}

// errNoFiles is the answer to whoever wants to synchronize a device that has nothing to fetch.
var errNoFiles = &InvalidError{"id", "names a device that no plugin serves: there is nothing it could fetch"}

// SynchronizeDevice answers the id under which outcomes follow. The device's files are made first, so that it is
// known what the phone should have afterwards. Errors: ErrInvalid (also for a device no plugin serves),
// domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, and those of RegenerateConfig.
func (s *Service) SynchronizeDevice(ctx context.Context, in SynchronizeDevice) (syncID string, out Outcome, err error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	if in.Trigger == "" {
		in.Trigger = domain.SyncAsked
	}
	id, err := s.liveID(ctx, in.ID)
	if err != nil {
		return "", Outcome{}, err
	}
	if _, _, err := s.RegenerateConfig(ctx, RegenerateConfig{ID: id}); err != nil {
		return "", Outcome{}, err
	}
	syncID = newID()
	out, err = decide(ctx, s, id.Stream(), func(d domain.Device) ([]domain.Event, error) {
		if d.Live() == nil && d.Plugin == "" {
			return nil, errNoFiles
		}
		return d.RequestSync(domain.DeviceSyncRequested{SyncID: syncID, Trigger: in.Trigger, Reboot: in.Reboot})
	})
	return syncID, out, err
}
