package commands

import (
	"context"
	"errors"

	"ledgerline/domain"
)

// DiscoverDevice makes a phone known, in the master tenant and unconfigured. MAC or ID names it; the id of
// a phone with a MAC is its MAC unless ID names another. Where the last life is over, the next one begins.
type DiscoverDevice struct {
	ID       domain.DeviceID `json:"id" validate:"omitempty,id"`
	MAC      domain.MAC      `json:"mac" validate:"required_without=ID"`
	Vendor   string          `json:"vendor" validate:"max=64,text"`
	Model    string          `json:"model" validate:"max=64,text"`
	Firmware string          `json:"firmware" validate:"max=64,text"`
	Plugin   string          `json:"plugin" validate:"omitempty,id"`
	Serial   string          `json:"serial" validate:"max=128,text"`
	UUID     string          `json:"uuid" validate:"max=128,text"`
	Version  string          `json:"plugin_version" validate:"omitempty,id"`
	Added    string          `json:"added" validate:"required,oneof=auto operator"`
	// TenantID, when set, assigns the device in the same append, as AssignDevice would.
	TenantID   domain.TenantID   `json:"tenant_id" validate:"omitempty,id"`
	CategoryID domain.CategoryID `json:"category_id" validate:"omitempty,id"`
	UserID     domain.UserID     `json:"user_id" validate:"omitempty,id"`
}

// DiscoverDevice answers the id of the life that is now. Discovering a live device notes new facts; with
// Added "operator" it is domain.ErrDeviceExists. Errors: ErrInvalid; with a TenantID those of AssignDevice.
func (s *Service) DiscoverDevice(ctx context.Context, in DiscoverDevice) (domain.DeviceID, Outcome, error) {
	return s.discoverDevice(ctx, in, func(d domain.Device, _ bool) ([]domain.Event, error) {
		if in.TenantID == "" {
			return nil, nil
		}
		return s.assign(ctx, d, AssignDevice{ID: d.ID, TenantID: in.TenantID, CategoryID: in.CategoryID, UserID: in.UserID})
	})
}

// discoverDevice is DiscoverDevice with what is to be recorded of the device in the same append; begins tells that its life
// begins with it.
func (s *Service) discoverDevice(ctx context.Context, in DiscoverDevice, and func(d domain.Device, begins bool) ([]domain.Event, error)) (domain.DeviceID, Outcome, error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	if in.MAC != "" {
		mac, err := domain.ParseMAC(string(in.MAC))
		if err != nil {
			return "", Outcome{}, &InvalidError{"mac", domain.ErrBadMAC.Error()}
		}
		in.MAC = mac
	}
	if in.ID == "" {
		in.ID = domain.DeviceID(in.MAC)
	}
	if mac, err := domain.ParseMAC(string(in.ID)); err == nil {
		if in.MAC != mac {
			return "", Outcome{}, &InvalidError{"id", "is a MAC address, but not the device's"}
		}
		in.ID = domain.DeviceID(mac)
	}
	if _, life := in.ID.Life(); life > 1 {
		return "", Outcome{}, &InvalidError{"id", "must not end in a dot and a number"}
	}
	facts := domain.DeviceFacts{Vendor: in.Vendor, Model: in.Model, Firmware: in.Firmware, Plugin: in.Plugin, PluginVersion: in.Version,
		Serial: in.Serial, UUID: in.UUID}
	if facts.Plugin == "" && s.Renderer != nil {
		if p, ok := s.Renderer.Associate(Recognition{Vendor: in.Vendor, Model: in.Model, Fw: in.Firmware, MAC: in.MAC}); ok {
			facts.Plugin = p.Name
		}
	}
	for range attempts {
		d, id, err := s.CurrentDevice(ctx, in.ID)
		if err != nil {
			return "", Outcome{}, err
		}
		if d.Live() == nil && in.Added == "operator" {
			return "", Outcome{}, domain.ErrDeviceExists
		}
		if d.Deleted {
			id = id.NextLife()
		}
		if err := s.claimFor(ctx, in.MAC, id, d.Live() != nil); err != nil {
			return "", Outcome{}, err
		}
		out, err := decide(ctx, s, id.Stream(), func(d domain.Device) ([]domain.Event, error) {
			begins := !d.Exists
			events, err := d.Discover(id, in.MAC, facts, in.Added)
			if err != nil {
				return nil, err
			}
			for _, e := range events {
				d = d.Apply(e)
			}
			more, err := and(d, begins)
			return append(events, more...), err
		})
		if errors.Is(err, domain.ErrDeviceDeleted) {
			continue // deleted meanwhile: the next life begins
		}
		return id, out, err
	}
	return "", Outcome{}, ErrBusy
}
