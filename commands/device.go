package commands

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"ledgerline/domain"
)

// lives bounds how many lives of one device are looked through.
const lives = 10_000

// CurrentDevice finds the present life of a device: the last one begun, whether it is over or not.
func (s *Service) CurrentDevice(ctx context.Context, id domain.DeviceID) (domain.Device, domain.DeviceID, error) {
	var last domain.Device
	lastID := id
	for range lives {
		d, _, err := loadState[domain.Device](ctx, s.Log, id.Stream())
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

// claimFor is claimMAC; for a life that is to begin the key of the device is made meanwhile, which is as durable a step.
func (s *Service) claimFor(ctx context.Context, mac domain.MAC, id domain.DeviceID, begins bool) error {
	var side errgroup.Group
	if begins {
		side.Go(func() error {
			_, _, err := s.Vault.Ensure(ctx, id.Subject())
			return err
		})
	}
	return errors.Join(s.claimMAC(ctx, mac, id), side.Wait())
}

// DeviceOfMAC is the device a phone with this MAC is: the latest assigned of those that carry it (D20).
// For a MAC nobody carries it is the id such a phone would get, with a zero Device.
func (s *Service) DeviceOfMAC(ctx context.Context, mac domain.MAC) (domain.Device, domain.DeviceID, error) {
	hash, err := s.lookup(ctx, claimMAC, string(mac))
	if err != nil {
		return domain.Device{}, "", err
	}
	claim, _, err := loadState[domain.Claim](ctx, s.Log, domain.ClaimStream(claimMAC, hash))
	if err != nil {
		return domain.Device{}, "", err
	}
	var found domain.Device
	for _, t := range claim.Holders {
		d, _, err := loadState[domain.Device](ctx, s.Log, t.Holder)
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

func (s *Service) assign(ctx context.Context, d domain.Device, in AssignDevice) ([]domain.Event, error) {
	if err := s.assignable(ctx, d, in); err != nil {
		return nil, err
	}
	to := domain.DeviceAssigned{TenantID: in.TenantID, CategoryID: in.CategoryID, UserID: in.UserID, CodeID: in.CodeID, TokenID: in.TokenID}
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

func (s *Service) endLife(ctx context.Context, id domain.DeviceID, movedTo domain.TenantID) (Outcome, error) {
	return s.onDevice(ctx, id, func(d domain.Device) ([]domain.Event, error) { return d.Delete(movedTo) })
}

// ReleaseMAC takes a life that ended, or lost its MAC, with the event r off that MAC's claim.
func (s *Service) ReleaseMAC(ctx context.Context, r domain.Recorded) error {
	before, now, err := s.around(ctx, r)
	if err != nil || before.MAC == "" || now.MAC == before.MAC && !now.Deleted {
		return err
	}
	return s.releaseValue(ctx, claimMAC, string(before.MAC), r.Stream)
}

// around is a device as it stood before the event r, and as it stands now.
func (s *Service) around(ctx context.Context, r domain.Recorded) (before, now domain.Device, err error) {
	for past, err := range s.Log.Read(ctx, r.Stream, 0) {
		if err != nil {
			return before, now, fmt.Errorf("load %s: %w", r.Stream, err)
		}
		e, err := past.Event()
		if err != nil {
			return before, now, err
		}
		if past.Revision < r.Revision {
			before = before.Apply(e)
		}
		now = now.Apply(e)
	}
	return before, now, nil
}
