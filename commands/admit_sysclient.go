package commands

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"ledgerline/domain"
)

// AdmitSysclient is a device that has just said who it is, and has proved nothing yet.
type AdmitSysclient struct {
	MAC   domain.MAC
	Facts domain.SysclientFacts
	// Code is the provisioning code it shows; empty for none.
	Code string
	// Domain, Token and Category are what its URL names for automatic provisioning; all empty for none.
	Domain, Token, Category string
	// Trusted: it asks from a network whose devices are believed their address, or its certificate proved it.
	Trusted bool
}

// Admission is how a sysclient goes on. No Device: it belongs to nobody, and waits.
type Admission struct {
	// Device is its present life, as far as it is assigned to a tenant that the caller reaches.
	Device   domain.DeviceID
	TenantID domain.TenantID
	// Challenge: it has a password, and is to prove it. Else, with a Password, it is to be given that one: it is in.
	Challenge bool
	Password  string `json:"-"`
	// Refused is why the code it showed, or the tenant it named, was not accepted; nil if it was.
	Refused error
}

// Format keeps every verb of fmt from reaching the password.
func (a Admission) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "%s of %s, challenge %v", a.Device, a.TenantID, a.Challenge)
}

// Sizes of what a sysclient may say of itself.
const (
	maxSysclientText = 64
	maxSysclientName = 128
)

// checkSysclient is nil for facts that can be kept.
func checkSysclient(f domain.SysclientFacts) error {
	if f.Product == "" || f.Version == "" || f.Platform == "" {
		return &InvalidError{"product, version and platform.type", "are required"}
	}
	for _, text := range []string{f.Product, f.Version, f.Platform, f.Major, f.FwBuild, f.BcBuild} {
		if len(text) > maxSysclientText || !plain(text) {
			return &InvalidError{"identity", "must be text of at most 64 characters"}
		}
	}
	if len(f.Name) > maxSysclientName || !plain(f.Name) {
		return &InvalidError{"name", "must be text of at most 128 characters"}
	}
	return nil
}

// AdmitSysclient redeems a code that is news to the device, and says whether the device is in, is to be challenged or
// has to wait. A device that has a password is never let in for less than a code: what its address says, anybody can
// say. Errors: ErrInvalid; a refusal is none, see Admission.Refused.
func (s *Service) AdmitSysclient(ctx context.Context, in AdmitSysclient) (Admission, error) {
	if err := checkSysclient(in.Facts); err != nil {
		return Admission{}, err
	}
	d, _, err := s.DeviceOfMAC(ctx, in.MAC)
	if err != nil {
		return Admission{}, err
	}
	var a Admission
	if in.Code != "" {
		known, err := s.showsKnownCode(ctx, d, in.Code)
		if err != nil {
			return a, err
		}
		if !known {
			if a, err = s.redeemAsSysclient(ctx, in); err != nil || a.Password != "" {
				return a, err
			}
		}
	}
	ours := d.Live() == nil && d.Assigned() && reaches(ctx, d.TenantID)
	if in.Token != "" && !(ours && d.Sysclient.HasPassword()) {
		if token, err := s.admitAsSysclient(ctx, in); err != nil || token.Password != "" || !ours {
			return token, err
		}
	}
	if !ours {
		return a, nil
	}
	a.Device, a.TenantID = d.ID, d.TenantID
	if d.Sysclient.HasPassword() {
		a.Challenge = true
		a.Password, err = s.sysclientPassword(ctx, d)
		return a, err
	}
	if !in.Trusted {
		a.Device, a.TenantID = "", ""
		return a, nil
	}
	a.Password, err = s.GrantSysclient(ctx, GrantSysclient{Device: d.ID, Grant: domain.GrantOperator})
	return a, err
}

// ReadmitSysclient is for a device that was challenged and could not answer. When it has never answered with its
// present password, the message that brought it was lost, and what let the device have it lets it have it again: its
// code while that may be repeated, its token, or that it is trusted. Otherwise the zero Admission.
func (s *Service) ReadmitSysclient(ctx context.Context, in AdmitSysclient) (Admission, error) {
	d, _, err := s.DeviceOfMAC(ctx, in.MAC)
	if err != nil || d.Live() != nil || d.Sysclient.Proved || !reaches(ctx, d.TenantID) {
		return Admission{}, err
	}
	switch {
	case in.Code != "":
		return s.redeemAsSysclient(ctx, in)
	case in.Token != "" && d.Sysclient.Password.Grant == domain.GrantToken:
		return s.admitAsSysclient(ctx, in)
	case in.Trusted && d.Assigned() && d.Sysclient.Password.Grant == domain.GrantOperator:
		password, err := s.GrantSysclient(ctx, GrantSysclient{Device: d.ID, Grant: domain.GrantOperator})
		return Admission{Device: d.ID, TenantID: d.TenantID, Password: password}, err
	}
	return Admission{}, nil
}

// reaches tells whether the caller may have to do with a tenant's devices.
func reaches(ctx context.Context, tenant domain.TenantID) bool {
	of := CallerFrom(ctx).Tenants
	return len(of) == 0 || slices.Contains(of, tenant)
}

// showsKnownCode tells whether the code is the one that gave the device its password.
func (s *Service) showsKnownCode(ctx context.Context, d domain.Device, code string) (bool, error) {
	if d.Live() != nil || d.Sysclient.Password.CodeHash == "" {
		return false, nil
	}
	hash, err := s.sysclientCode(ctx, d.ID, code)
	return subtle.ConstantTimeCompare([]byte(hash), []byte(d.Sysclient.Password.CodeHash)) == 1, err
}

// sysclientCode is the keyed hash of a code a device shows, empty for what is no code.
func (s *Service) sysclientCode(ctx context.Context, id domain.DeviceID, code string) (string, error) {
	digits, err := domain.NormalizeCode(code, s.codeLength())
	if err != nil {
		return "", nil
	}
	sum, err := s.Vault.Hash(ctx, id.Subject(), "sysclient-code", []byte(digits))
	if err != nil {
		return "", fmt.Errorf("hash the code of %s: %w", id, err)
	}
	return hex.EncodeToString(sum)[:32], nil
}

// redeemAsSysclient redeems the code, follows the story until the device is assigned, and gives it its password.
func (s *Service) redeemAsSysclient(ctx context.Context, in AdmitSysclient) (Admission, error) {
	redeem := RedeemCode{Code: in.Code, MAC: in.MAC, Model: in.Facts.Product, Firmware: in.Facts.Version}
	if !in.Facts.Foreign {
		redeem.Vendor = domain.VendorInnovaphone
	}
	redeemed, out, err := s.RedeemCode(ctx, redeem)
	if err != nil {
		if errors.Is(err, domain.ErrCodeRefused) || errors.Is(err, ErrGuesses) || refused(err) {
			return Admission{Refused: err}, nil
		}
		return Admission{}, err
	}
	settle, cancel := context.WithTimeout(ctx, redemptionWait)
	defer cancel()
	// What goes wrong here the reactor tries again; what counts is whether the device was assigned.
	settled := s.settleRedemption(settle, out)
	d, _, err := load[domain.Device](ctx, s.Log, redeemed.DeviceID.Stream())
	if err != nil {
		return Admission{}, err
	}
	if d.Live() != nil || !d.Assigned() || d.TenantID != redeemed.TenantID {
		if settled == nil {
			settled = ErrNotYet
		}
		return Admission{Refused: settled}, nil
	}
	a := Admission{Device: d.ID, TenantID: d.TenantID}
	a.Password, err = s.GrantSysclient(ctx, GrantSysclient{Device: d.ID, Grant: domain.GrantCode, Code: in.Code, Administrative: redeemed.Purpose == "administrative"})
	return a, err
}

// admitAsSysclient puts the device where the token leads, and gives it its password.
func (s *Service) admitAsSysclient(ctx context.Context, in AdmitSysclient) (Admission, error) {
	// A token of another tenant than the path's leads nowhere, before it is used.
	if t, err := s.TenantByDomain(ctx, in.Domain); err == nil && !reaches(ctx, t.ID) {
		return Admission{Refused: domain.ErrTokenRefused}, nil
	}
	admit := AdmitByToken{Domain: in.Domain, Token: in.Token, Category: in.Category, MAC: in.MAC, Model: in.Facts.Product, Firmware: in.Facts.Version}
	if !in.Facts.Foreign {
		admit.Vendor = domain.VendorInnovaphone
	}
	admitted, _, err := s.AdmitByToken(ctx, admit)
	if err != nil {
		if errors.Is(err, domain.ErrTokenRefused) || errors.Is(err, ErrGuesses) || errors.Is(err, ErrInvalid) || refused(err) {
			return Admission{Refused: err}, nil
		}
		return Admission{}, err
	}
	a := Admission{Device: admitted.DeviceID, TenantID: admitted.TenantID}
	a.Password, err = s.GrantSysclient(ctx, GrantSysclient{Device: admitted.DeviceID, Grant: domain.GrantToken})
	return a, err
}

// GrantSysclient gives a device the password it answers challenges with from now on.
type GrantSysclient struct {
	Device domain.DeviceID
	Grant  string // domain.GrantCode, GrantToken or GrantOperator
	Code   string // of GrantCode
	// Administrative: the code asked for the administrator's password as well.
	Administrative bool
}

// GrantSysclient answers the password to send: a new one, or one given for the same reason that the device has not
// proved yet. Errors: domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, domain.ErrNoSysclient, domain.ErrErased.
func (s *Service) GrantSysclient(ctx context.Context, in GrantSysclient) (string, error) {
	clear, err := drawText(s.random(), sysclientAlphabet, 32)
	if err != nil {
		return "", err
	}
	set := domain.DeviceSysclientPasswordSet{Grant: in.Grant, Administrative: in.Administrative}
	if in.Grant == domain.GrantCode {
		if set.CodeHash, err = s.sysclientCode(ctx, in.Device, in.Code); err != nil {
			return "", err
		}
	}
	if set.Password, err = s.secret(ctx, in.Device.Subject(), clear); err != nil {
		return "", err
	}
	var kept *domain.Device
	_, err = decide(ctx, s, in.Device.Stream(), func(d domain.Device) ([]domain.Event, error) {
		kept = nil
		events, err := d.GiveSysclientPassword(set)
		if len(events) == 0 {
			kept = &d
		}
		return events, err
	})
	if err != nil || kept == nil {
		return clear, err
	}
	return s.sysclientPassword(ctx, *kept)
}

// sysclientPassword is the device's password. Errors: domain.ErrErased.
func (s *Service) sysclientPassword(ctx context.Context, d domain.Device) (string, error) {
	clear, err := s.Vault.Open(ctx, d.Sysclient.Password.Password.Sealed)
	if err != nil {
		return "", fmt.Errorf("open the sysclient password of %s: %w", d.ID, err)
	}
	return clear, nil
}

// sysclientAlphabet is what sysclient passwords and seeds are made of, 64 characters.
const sysclientAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!_"

// drawText draws n characters of an alphabet of 64 evenly.
func drawText(r io.Reader, alphabet string, n int) (string, error) {
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return "", fmt.Errorf("draw a password: %w", err)
	}
	for i, b := range raw {
		raw[i] = alphabet[b%64]
	}
	return string(raw), nil
}
