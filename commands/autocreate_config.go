package commands

import (
	"context"
	"errors"
	"slices"

	"ledgerline/domain"
)

// AutocreateConfig gives a device that nobody has said anything of yet its own copy of the mould for new phones.
type AutocreateConfig struct {
	ID domain.DeviceID // one life
	// After is the outcome of the command before, answered when there is nothing to do.
	After Outcome
	// TenantID is whose device it is, when the command before has just made it known; empty: the device is asked.
	TenantID domain.TenantID
}

// AutocreateConfig does nothing for a device that is configured in any way, and where there is no mould.
func (s *Service) AutocreateConfig(ctx context.Context, in AutocreateConfig) (Outcome, error) {
	if in.TenantID == "" {
		d, _, err := load[domain.Device](ctx, s.Log, in.ID.Stream())
		if err != nil || !d.Bare() {
			return in.After, err
		}
		in.TenantID = d.TenantID
	}
	layer, _, err := s.AutocreateLayer(ctx, AutocreateLayer{TenantID: in.TenantID})
	if errors.Is(err, ErrNoMould) {
		return in.After, nil
	}
	if err != nil {
		return in.After, err
	}
	out, err := decide(ctx, s, in.ID.Stream(), func(d domain.Device) ([]domain.Event, error) {
		if !d.Bare() {
			return nil, nil
		}
		spec := d.DeviceSpec
		spec.Parents, spec.Autocreated = []domain.LayerID{layer}, true
		return d.Configure(spec)
	})
	if err != nil || !slices.ContainsFunc(out.Events, func(r domain.Recorded) bool { return r.Type == "device.configured" }) {
		// Somebody was faster, or the device is gone: the copy is nobody's.
		_, gone := s.RemoveLayer(ctx, RemoveLayer{ID: layer})
		return out, errors.Join(unlessGone(err), gone)
	}
	return out, nil
}
