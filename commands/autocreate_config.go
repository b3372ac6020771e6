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
}

// AutocreateConfig does nothing for a device that is configured in any way, and where there is no mould.
func (s *Service) AutocreateConfig(ctx context.Context, in AutocreateConfig) (Outcome, error) {
	d, _, err := load[domain.Device](ctx, s.Log, in.ID.Stream())
	if err != nil || !d.Bare() {
		return Outcome{}, err
	}
	layer, _, err := s.AutocreateLayer(ctx, AutocreateLayer{TenantID: d.TenantID})
	if err != nil {
		if errors.Is(err, ErrNoMould) {
			err = nil
		}
		return Outcome{}, err
	}
	out, err := decide(ctx, s, in.ID.Stream(), func(d domain.Device) ([]domain.Event, error) {
		if !d.Bare() {
			return nil, nil
		}
		return standOn(d, layer)
	})
	if err == nil && recorded(out, "device.configured") {
		return out, nil
	}
	return out, errors.Join(unlessGone(err), s.dropCopy(ctx, in.ID, layer, err))
}

// standOn puts a device on its copy of the mould.
func standOn(d domain.Device, copied domain.LayerID) ([]domain.Event, error) {
	spec := d.DeviceSpec
	spec.Parents, spec.Autocreated = []domain.LayerID{copied}, true
	return d.Configure(spec)
}

// dropCopy removes a copy of the mould that the device does not stand on after all: somebody was faster, or the device is
// gone. err is what became of the append that was to name it; while that is not known the copy stays, which harms nobody.
func (s *Service) dropCopy(ctx context.Context, id domain.DeviceID, layer domain.LayerID, err error) error {
	if errors.Is(err, domain.ErrOutcomeUnknown) {
		return nil
	}
	d, _, err := load[domain.Device](ctx, s.Log, id.Stream())
	if err != nil || slices.Contains(d.Parents, layer) {
		return err
	}
	_, err = s.RemoveLayer(ctx, RemoveLayer{ID: layer})
	return err
}

// recorded tells whether an outcome has an event of that type.
func recorded(out Outcome, kind string) bool {
	return slices.ContainsFunc(out.Events, func(r domain.Recorded) bool { return r.Type == kind })
}
