package commands

import (
	"context"

	"ledgerline/domain"
)

// TakeOver makes the replacement what the replaced device was.
type TakeOver struct {
	Old domain.DeviceID
}

// TakeOver errors: domain.ErrReplacementInUse, domain.ErrDeviceOfOtherTenant.
func (s *Service) TakeOver(ctx context.Context, in TakeOver) (Outcome, error) {
	old, h, err := load[domain.Device](ctx, s.Log, in.Old.Stream())
	if err != nil {
		return Outcome{}, err
	}
	if old.ReplacedBy == "" {
		return Outcome{}, domain.ErrDeviceUnknown
	}
	var mac domain.MAC
	for _, r := range h.events {
		if e, err := r.Event(); err == nil {
			if replaced, ok := e.(domain.DeviceReplaced); ok {
				mac = replaced.ByMAC
			}
		}
	}
	id := old.ReplacedBy
	if err := s.claimMAC(ctx, mac, id); err != nil {
		return Outcome{}, err
	}
	clear, err := s.reveal(ctx, old.Settings)
	if err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, id.Stream(), func(d domain.Device) ([]domain.Event, error) {
		var events []domain.Event
		if !d.Exists {
			facts := domain.DeviceFacts{}
			if s.Renderer != nil {
				if p, ok := s.Renderer.Associate(Recognition{MAC: mac}); ok {
					facts.Plugin = p.Name
				}
			}
			discovered := domain.DeviceDiscovered{DeviceID: id, MAC: mac, DeviceFacts: facts, Added: "operator"}
			events, d = append(events, discovered), d.Apply(discovered)
		}
		settings, err := protect(ctx, s, id.Subject(), clear, nil)
		if err != nil {
			return nil, err
		}
		secret, hash, err := s.deviceSecret(ctx, id)
		if err != nil {
			return nil, err
		}
		taken, err := d.TakeOver(old, settings, secret, hash)
		return append(events, taken...), err
	})
}
