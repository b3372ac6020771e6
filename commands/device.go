package commands

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"ledgerline/domain"
)

// lives bounds how many lives of one device are looked through.
const lives = 10_000

// CurrentDevice finds the present life of a device: the last one begun, whether it is over or not.
func (s *Service) CurrentDevice(ctx context.Context, id domain.DeviceID) (domain.Device, domain.DeviceID, error) {
	var last domain.Device
	lastID := id
	for range lives {
		d, _, err := load[domain.Device](ctx, s.Log, id.Stream())
		if err != nil {
			return d, id, err
		}
		if !d.Exists {
			return last, lastID, nil
		}
		if !d.Deleted {
			return d, id, nil
		}
		last, lastID, id = d, id, id.NextLife()
	}
	return last, lastID, nil
}

// liveID is the id of the present life of a device, for a command that works on it.
func (s *Service) liveID(ctx context.Context, id domain.DeviceID) (domain.DeviceID, error) {
	d, current, err := s.CurrentDevice(ctx, id)
	if err != nil {
		return "", err
	}
	return current, d.Live()
}

// onDevice decides over the present life of a device.
func (s *Service) onDevice(ctx context.Context, id domain.DeviceID, ask func(domain.Device) ([]domain.Event, error)) (Outcome, error) {
	current, err := s.liveID(ctx, id)
	if err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, current.Stream(), ask)
}

// deviceSecret draws a path secret of 128 bits, with the hash it is found by.
func (s *Service) deviceSecret(ctx context.Context, id domain.DeviceID) (domain.Secret, string, error) {
	var raw [16]byte
	if _, err := io.ReadFull(s.random(), raw[:]); err != nil {
		return domain.Secret{}, "", fmt.Errorf("draw a device secret: %w", err)
	}
	clear := base64.RawURLEncoding.EncodeToString(raw[:])
	hash, err := s.lookup(ctx, "device-secret", clear)
	if err != nil {
		return domain.Secret{}, "", err
	}
	secret, err := s.secret(ctx, id.Subject(), clear)
	return secret, hash, err
}

// DiscoverDevice makes a phone known, in the master tenant and unconfigured. MAC or ID names it; the id of
// a phone with a MAC is its MAC unless ID names another. Where the last life is over, the next one begins.
type DiscoverDevice struct {
	ID       domain.DeviceID `json:"id" validate:"omitempty,id"`
	MAC      domain.MAC      `json:"mac" validate:"required_without=ID"`
	Vendor   string          `json:"vendor" validate:"max=64,text"`
	Model    string          `json:"model" validate:"max=64,text"`
	Firmware string          `json:"firmware" validate:"max=64,text"`
	Plugin   string          `json:"plugin" validate:"omitempty,id"`
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
	facts := domain.DeviceFacts{Vendor: in.Vendor, Model: in.Model, Firmware: in.Firmware, Plugin: in.Plugin, PluginVersion: in.Version}
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
		if err := s.claimMAC(ctx, in.MAC, id); err != nil {
			return "", Outcome{}, err
		}
		out, err := decide(ctx, s, id.Stream(), func(d domain.Device) ([]domain.Event, error) {
			events, err := d.Discover(id, in.MAC, facts, in.Added)
			if err != nil || in.TenantID == "" {
				return events, err
			}
			for _, e := range events {
				d = d.Apply(e)
			}
			assigned, err := s.assign(ctx, d, AssignDevice{ID: id, TenantID: in.TenantID, CategoryID: in.CategoryID, UserID: in.UserID})
			return append(events, assigned...), err
		})
		if errors.Is(err, domain.ErrDeviceDeleted) {
			continue // deleted meanwhile: the next life begins
		}
		return id, out, err
	}
	return "", Outcome{}, ErrBusy
}

func (s *Service) claimMAC(ctx context.Context, mac domain.MAC, id domain.DeviceID) error {
	if mac == "" {
		return nil
	}
	hash, err := s.lookup(ctx, claimMAC, string(mac))
	if err != nil {
		return err
	}
	_, err = decide(ctx, s, domain.ClaimStream(claimMAC, hash), func(c domain.Claim) ([]domain.Event, error) {
		return c.Share(claimMAC, id.Stream(), s.now()), nil
	})
	return err
}

// DeviceOfMAC is the device a phone with this MAC is: the latest assigned of those that carry it (D20).
// For a MAC nobody carries it is the id such a phone would get, with a zero Device.
func (s *Service) DeviceOfMAC(ctx context.Context, mac domain.MAC) (domain.Device, domain.DeviceID, error) {
	hash, err := s.lookup(ctx, claimMAC, string(mac))
	if err != nil {
		return domain.Device{}, "", err
	}
	claim, _, err := load[domain.Claim](ctx, s.Log, domain.ClaimStream(claimMAC, hash))
	if err != nil {
		return domain.Device{}, "", err
	}
	var found domain.Device
	for _, t := range claim.Holders {
		d, _, err := load[domain.Device](ctx, s.Log, t.Holder)
		if err != nil {
			return d, "", err
		}
		if d.Live() == nil && d.MAC == mac && (!found.Exists || d.Assigned() || !found.Assigned()) {
			found = d
		}
	}
	if found.Exists {
		return found, found.ID, nil
	}
	return s.CurrentDevice(ctx, domain.DeviceID(mac))
}

// AssignDevice gives a device to a tenant, category and user.
type AssignDevice struct {
	ID         domain.DeviceID   `json:"id" validate:"required,id"`
	TenantID   domain.TenantID   `json:"tenant_id" validate:"required,id"`
	CategoryID domain.CategoryID `json:"category_id" validate:"omitempty,id"`
	UserID     domain.UserID     `json:"user_id" validate:"omitempty,id"`
	CodeID     domain.CodeID     `json:"-"`
}

// AssignDevice errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceOfOtherTenant, those of
// domain.Category.Takes, domain.ErrTenantUnknown, domain.ErrTenantDeleted, domain.ErrUserUnknown, domain.ErrUserOfOtherTenant.
func (s *Service) AssignDevice(ctx context.Context, in AssignDevice) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	current, err := s.liveID(ctx, in.ID)
	if err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, current.Stream(), func(d domain.Device) ([]domain.Event, error) {
		return s.assign(ctx, d, in)
	})
}

func (s *Service) assign(ctx context.Context, d domain.Device, in AssignDevice) ([]domain.Event, error) {
	if err := s.assignable(ctx, d, in); err != nil {
		return nil, err
	}
	to := domain.DeviceAssigned{TenantID: in.TenantID, CategoryID: in.CategoryID, UserID: in.UserID, CodeID: in.CodeID}
	if !d.Assigned() {
		var err error
		if to.Secret, to.SecretHash, err = s.deviceSecret(ctx, d.ID); err != nil {
			return nil, err
		}
	}
	return d.Assign(to)
}

// assignable is nil when the device may go where in says; RedeemCode asks it before it uses a code up.
func (s *Service) assignable(ctx context.Context, d domain.Device, in AssignDevice) error {
	if d.Exists {
		if err := d.CanAssign(in.TenantID); err != nil {
			return err
		}
	}
	if err := s.liveTenant(ctx, in.TenantID); err != nil {
		return err
	}
	if in.CategoryID != "" {
		c, _, err := load[domain.Category](ctx, s.Log, in.CategoryID.Stream())
		if err != nil {
			return err
		}
		if err := c.Takes(in.TenantID, d.Plugin, d.Model); err != nil {
			return err
		}
	}
	if in.UserID != "" {
		u, _, err := load[domain.User](ctx, s.Log, in.UserID.Stream())
		if err != nil {
			return err
		}
		return u.Live(in.TenantID)
	}
	return nil
}

// ConfigureDevice sets an operator's own wishes for one device, whole.
type ConfigureDevice struct {
	ID          domain.DeviceID  `json:"id" validate:"required,id"`
	Parents     []domain.LayerID `json:"parents" validate:"max=100,unique,dive,id"`
	Settings    domain.Settings  `json:"settings" validate:"-"`
	Description string           `json:"description" validate:"max=500,text"`
}

// ConfigureDevice errors: ErrInvalid, domain.ErrSettings, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, domain.ErrLayerParent.
func (s *Service) ConfigureDevice(ctx context.Context, in ConfigureDevice) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	settings, err := clean(in.Settings)
	if err != nil {
		return Outcome{}, err
	}
	return s.onDevice(ctx, in.ID, func(d domain.Device) ([]domain.Event, error) {
		for _, p := range in.Parents {
			if err := s.usableLayer(ctx, p, d.TenantID); err != nil {
				return nil, fmt.Errorf("%q: %w", p, domain.ErrLayerParent)
			}
		}
		sealed, err := protect(ctx, s, d.ID.Subject(), settings, d.Settings)
		if err != nil {
			return nil, err
		}
		return d.Configure(domain.DeviceSpec{Parents: in.Parents, Settings: sealed, Description: in.Description})
	})
}

// ResetDevice brings a device back to the unconfigured state; its tenant stays.
type ResetDevice struct {
	ID domain.DeviceID `json:"id" validate:"required,id"`
}

// ResetDevice errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted.
func (s *Service) ResetDevice(ctx context.Context, in ResetDevice) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return s.onDevice(ctx, in.ID, domain.Device.Reset)
}

// ReopenMACPath lets a phone fetch by its MAC alone again, from trusted networks.
type ReopenMACPath struct {
	ID domain.DeviceID `json:"id" validate:"required,id"`
}

// ReopenMACPath errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted.
func (s *Service) ReopenMACPath(ctx context.Context, in ReopenMACPath) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return s.onDevice(ctx, in.ID, domain.Device.ReopenMACPath)
}

// DeleteDevice ends a device's present life.
type DeleteDevice struct {
	ID domain.DeviceID `json:"id" validate:"required,id"`
}

// DeleteDevice errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted.
func (s *Service) DeleteDevice(ctx context.Context, in DeleteDevice) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return s.endLife(ctx, in.ID, "")
}

// MoveDevice ends a device's life in its tenant and begins the next one in another: the only way out of a
// tenant (D20). The reaction continue-move begins the new life.
type MoveDevice struct {
	ID       domain.DeviceID `json:"id" validate:"required,id"`
	TenantID domain.TenantID `json:"tenant_id" validate:"required,id"`
}

// MoveDevice errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, domain.ErrSameTenant,
// domain.ErrTenantUnknown, domain.ErrTenantDeleted.
func (s *Service) MoveDevice(ctx context.Context, in MoveDevice) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	if err := s.liveTenant(ctx, in.TenantID); err != nil {
		return Outcome{}, err
	}
	return s.endLife(ctx, in.ID, in.TenantID)
}

func (s *Service) endLife(ctx context.Context, id domain.DeviceID, movedTo domain.TenantID) (Outcome, error) {
	return s.onDevice(ctx, id, func(d domain.Device) ([]domain.Event, error) { return d.Delete(movedTo) })
}

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

// ReleaseMAC takes an ended life off its MAC's claim.
func (s *Service) ReleaseMAC(ctx context.Context, id domain.DeviceID) error {
	d, _, err := load[domain.Device](ctx, s.Log, id.Stream())
	if err != nil || !d.Deleted || d.MAC == "" {
		return err
	}
	return s.releaseValue(ctx, claimMAC, string(d.MAC), id.Stream())
}

// ReplaceDevice puts another phone in the place of a broken one: same tenant, category, user, lines, keys
// and layers under the new MAC. The reaction take-over makes the new one what the old one was.
type ReplaceDevice struct {
	ID  domain.DeviceID `json:"id" validate:"required,id"`
	MAC domain.MAC      `json:"mac" validate:"required"`
}

// ReplaceDevice answers the id of the replacement. Errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted,
// domain.ErrReplaceSelf, domain.ErrReplacementInUse.
func (s *Service) ReplaceDevice(ctx context.Context, in ReplaceDevice) (domain.DeviceID, Outcome, error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	mac, err := domain.ParseMAC(string(in.MAC))
	if err != nil {
		return "", Outcome{}, &InvalidError{"mac", domain.ErrBadMAC.Error()}
	}
	by, byID, err := s.DeviceOfMAC(ctx, mac)
	if err != nil {
		return "", Outcome{}, err
	}
	if by.Deleted {
		by, byID = domain.Device{}, byID.NextLife()
	}
	out, err := s.onDevice(ctx, in.ID, func(d domain.Device) ([]domain.Event, error) { return d.Replace(by, byID, mac) })
	return byID, out, err
}

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
