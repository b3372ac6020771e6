package commands

import (
	"context"
	"errors"
	"net/netip"

	"ledgerline/domain"
)

// AmendDevice says anew what a device is and which layer configures it, whole: wazo-provd's device document.
type AmendDevice struct {
	ID domain.DeviceID `validate:"required,id"`
	// New: the device must not be there yet, and begins with this. Otherwise it must be there.
	New bool
	// TenantID is where a device goes that is in the master tenant. One that has left it stays where it is.
	TenantID domain.TenantID `validate:"required,id"`
	MAC      domain.MAC      `validate:"omitempty,len=12"`
	domain.DeviceFacts
	Address string `validate:"omitempty,ip"`
	// Config is the layer that configures the device, whether or not it exists. Of a device that has several parents it
	// is the last; naming that one again leaves them as they are.
	Config      domain.LayerID `validate:"omitempty,id"`
	Description string         `validate:"max=500,text"`
	// Extra is a JSON object of what else the document holds.
	Extra string
}

// AmendDevice answers the id of the life that is now. A device named to have a config is assigned to its tenant, and has
// files of its own from then on; one whose config is transient, only once it leaves the master tenant. Errors: ErrInvalid,
// domain.ErrDeviceExists, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, domain.ErrTenantUnknown, domain.ErrTenantDeleted.
func (s *Service) AmendDevice(ctx context.Context, in AmendDevice) (domain.DeviceID, Outcome, error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	if _, life := in.ID.Life(); life > 1 {
		return "", Outcome{}, &InvalidError{"id", "must not end in a dot and a number"}
	}
	if in.Address != "" {
		in.Address = netip.MustParseAddr(in.Address).String()
	}
	for range attempts {
		d, id, err := s.CurrentDevice(ctx, in.ID)
		if err != nil {
			return "", Outcome{}, err
		}
		switch {
		case in.New && d.Live() == nil:
			return "", Outcome{}, domain.ErrDeviceExists
		case !in.New && d.Live() != nil:
			return "", Outcome{}, d.Live()
		case d.Deleted:
			id = id.NextLife()
		}
		if in.MAC != d.MAC || in.New {
			if err := s.claimFor(ctx, in.MAC, id, in.New); err != nil {
				return "", Outcome{}, err
			}
		}
		out, err := decide(ctx, s, id.Stream(), func(d domain.Device) ([]domain.Event, error) {
			if in.New && d.Live() == nil {
				return nil, domain.ErrDeviceExists
			}
			return s.amendDevice(ctx, d, id, in)
		})
		if errors.Is(err, domain.ErrDeviceDeleted) && in.New {
			continue // another life began and ended meanwhile
		}
		if err != nil {
			return id, out, err
		}
		if in.Address != "" && s.Sightings != nil && recorded(out, "device.amended") {
			s.Sightings.Seen(Sighting{Device: id, MAC: in.MAC, IP: in.Address, Transport: "document", Path: "0.2", At: s.now()})
		}
		for _, r := range out.Events {
			if r.Type == "device.configured" && len(d.Parents) > 0 && !in.New {
				return id, out, s.DropTransientLayer(ctx, DropTransientLayer{After: r})
			}
		}
		return id, out, nil
	}
	return "", Outcome{}, ErrBusy
}

func (s *Service) amendDevice(ctx context.Context, d domain.Device, id domain.DeviceID, in AmendDevice) (events []domain.Event, err error) {
	add := func(more []domain.Event, err error) error {
		for _, e := range more {
			events, d = append(events, e), d.Apply(e)
		}
		return err
	}
	if in.New {
		if err := add(d.Discover(id, in.MAC, in.DeviceFacts, "operator")); err != nil {
			return nil, err
		}
	}
	config, err := s.usable(ctx, in.Config)
	if err != nil {
		return nil, err
	}
	tenant := d.TenantID
	if tenant == domain.Master {
		tenant = in.TenantID
	}
	if tenant != d.TenantID || !d.Assigned() && in.Config != "" && !config.Transient {
		if err := s.liveTenant(ctx, tenant); err != nil {
			return nil, err
		}
		to := domain.DeviceAssigned{TenantID: tenant, CategoryID: d.CategoryID, UserID: d.UserID}
		if to.Secret, to.SecretHash, err = s.deviceSecret(ctx, id); err != nil {
			return nil, err
		}
		if err := add(d.Assign(to)); err != nil {
			return nil, err
		}
	}
	amended := domain.DeviceAmended{MAC: in.MAC, DeviceFacts: in.DeviceFacts}
	amended.PluginVersion = d.PluginVersion
	if amended.Plugin != d.Plugin {
		amended.PluginVersion = ""
	}
	if amended.Address, err = s.personal(ctx, id.Subject(), in.Address); err != nil {
		return nil, err
	}
	if amended.Address.Same(d.Address.Sealed) {
		amended.Address = d.Address
	}
	if in.Extra != "" {
		if amended.Extra, err = s.secretUnless(ctx, id.Subject(), in.Extra, d.Extra); err != nil {
			return nil, err
		}
	}
	if err := add(d.Amend(amended)); err != nil {
		return nil, err
	}
	spec := d.DeviceSpec
	spec.Description = in.Description
	if in.Config != LastParent(spec.Parents) {
		spec.Parents = nil
		if in.Config != "" {
			spec.Parents = []domain.LayerID{in.Config}
		}
	}
	spec.Autocreated = config.Exists && config.Transient
	return events, add(d.Configure(spec))
}

// LastParent is the layer that wazo-provd's face shows as a device's config; empty for none.
func LastParent(parents []domain.LayerID) domain.LayerID {
	if len(parents) == 0 {
		return ""
	}
	return parents[len(parents)-1]
}

// usable is the layer, the zero Layer for none.
func (s *Service) usable(ctx context.Context, id domain.LayerID) (domain.Layer, error) {
	if id == "" {
		return domain.Layer{}, nil
	}
	l, _, err := s.layers.now(ctx, s.Log, id.Stream())
	return l, err
}

// Mould is the layer of which new phones of the tenant get a copy: the tenant's own, else the master tenant's. ok is
// false when there is none that has a line 1.
func (s *Service) Mould(ctx context.Context, at domain.Position, tenant domain.TenantID) (mould domain.Layer, settings domain.Settings, ok bool, err error) {
	ids, err := s.Candidates.LayersOfRole(ctx, at, domain.RoleAutocreate)
	if err != nil {
		return mould, nil, false, err
	}
	for _, id := range ids {
		l, _, err := s.layers.now(ctx, s.Log, id.Stream())
		if err != nil {
			return mould, nil, false, err
		}
		if !l.Exists || l.Role != domain.RoleAutocreate || l.TenantID != tenant && l.TenantID != domain.Master {
			continue
		}
		if ok && l.TenantID != tenant {
			continue
		}
		clear, err := s.LayerSettings(ctx, l.LayerSpec)
		if err != nil {
			return mould, nil, false, err
		}
		if line, is := clear.Get("sip_lines.1").(map[string]any); !is || line == nil {
			continue
		}
		if clear, err = s.reveal(ctx, clear); err != nil {
			return mould, nil, false, err
		}
		mould, settings, ok = l, clear, true
		if l.TenantID == tenant {
			break
		}
	}
	return mould, settings, ok, nil
}

// ErrNoMould: there is no layer with the role autocreate, or it has no line 1.
var ErrNoMould = errors.New("no layer with the role autocreate and a line 1")

// AutocreateLayer makes a copy of the mould for one new phone.
type AutocreateLayer struct {
	TenantID domain.TenantID `validate:"required,id"` // whose the copy is
	At       domain.Position // the choice of the mould must know of it
}

// AutocreateLayer answers the copy's id: the mould's and a random one. Errors: ErrNoMould, those of DefineLayer.
func (s *Service) AutocreateLayer(ctx context.Context, in AutocreateLayer) (domain.LayerID, Outcome, error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	mould, settings, ok, err := s.Mould(ctx, in.At, in.TenantID)
	if err != nil {
		return "", Outcome{}, err
	}
	if !ok {
		return "", Outcome{}, ErrNoMould
	}
	id := newID()
	prefix := string(mould.ID)
	return s.DefineLayer(ctx, DefineLayer{ID: domain.LayerID(prefix[:min(len(prefix), 64-len(id))] + id), TenantID: in.TenantID,
		Parents: []domain.LayerID{mould.ID}, Settings: settings, LayerExtra: LayerExtra{Lenient: true, Transient: true}})
}
