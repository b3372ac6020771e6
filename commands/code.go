package commands

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"ledgerline/domain"
)

// IssueCode makes a code that brings a phone to a tenant and category.
type IssueCode struct {
	TenantID   domain.TenantID   `json:"tenant_id" validate:"required,id"`
	CategoryID domain.CategoryID `json:"category_id" validate:"required,id"`
	UserID     domain.UserID     `json:"user_id" validate:"omitempty,id"`
	Purpose    string            `json:"purpose" validate:"required,oneof=self_service rollout administrative"`
	// MAC, when set, is the only phone that may redeem the code.
	MAC domain.MAC `json:"mac"`
}

// IssuedCode is what the issuer is told, once.
type IssuedCode struct {
	ID         domain.CodeID `json:"id"`
	Code       string        `json:"code"`
	ValidUntil time.Time     `json:"valid_until"`
}

// IssueCode draws the digits. Errors: ErrInvalid, domain.ErrTenantUnknown, domain.ErrTenantDeleted, those of
// domain.Category.Takes, domain.ErrNotProvisioning, domain.ErrUserUnknown, domain.ErrUserOfOtherTenant.
func (s *Service) IssueCode(ctx context.Context, in IssueCode) (IssuedCode, Outcome, error) {
	if err := check(in); err != nil {
		return IssuedCode{}, Outcome{}, err
	}
	if in.MAC != "" {
		mac, err := domain.ParseMAC(string(in.MAC))
		if err != nil {
			return IssuedCode{}, Outcome{}, &InvalidError{"mac", domain.ErrBadMAC.Error()}
		}
		in.MAC = mac
	}
	if err := s.assignable(ctx, domain.Device{}, AssignDevice{TenantID: in.TenantID, CategoryID: in.CategoryID, UserID: in.UserID}); err != nil {
		return IssuedCode{}, Outcome{}, err
	}
	category, _, err := load[domain.Category](ctx, s.Log, in.CategoryID.Stream())
	if err != nil {
		return IssuedCode{}, Outcome{}, err
	}
	if category.Kind != domain.Provisioning {
		return IssuedCode{}, Outcome{}, domain.ErrNotProvisioning
	}
	now := s.now()
	issued := domain.CodeIssued{CodeID: domain.CodeID(newID()), TenantID: in.TenantID, CategoryID: in.CategoryID, UserID: in.UserID,
		Purpose: in.Purpose, Epoch: domain.Epoch(now), IssuedAt: now, ValidUntil: now.Add(s.ttl(in.Purpose)), MAC: in.MAC}
	for range attempts {
		digits, err := drawDigits(s.random(), s.codeLength())
		if err != nil {
			return IssuedCode{}, Outcome{}, err
		}
		if _, found, err := s.findCode(ctx, digits); err != nil || found {
			if err != nil {
				return IssuedCode{}, Outcome{}, err
			}
			continue // alive in an older epoch: draw again
		}
		stream, err := s.codeStream(ctx, issued.Epoch, digits)
		if err != nil {
			return IssuedCode{}, Outcome{}, err
		}
		issued.Digits = domain.NewSecret(issued.Epoch, digits, "")
		out, err := decide(ctx, s, stream, func(c domain.Code) ([]domain.Event, error) { return c.Issue(issued) })
		if errors.Is(err, domain.ErrCodeExists) {
			continue
		}
		return IssuedCode{issued.CodeID, digits, issued.ValidUntil}, out, err
	}
	return IssuedCode{}, Outcome{}, fmt.Errorf("draw a code: %w", ErrBusy)
}

func (s *Service) ttl(purpose string) time.Duration {
	ttl := domain.CodeTTL[purpose]
	if own, ok := s.CodeTTL[purpose]; ok {
		ttl = own
	}
	return min(ttl, domain.MaxCodeTTL)
}

func (s *Service) codeLength() int {
	if s.CodeLength == 16 {
		return 16
	}
	return 12
}

// drawDigits draws uniformly: a byte of 250 or more is thrown away, what is left is ten times 25.
func drawDigits(r io.Reader, n int) (string, error) {
	digits := make([]byte, 0, n)
	var pool [32]byte
	for {
		if _, err := io.ReadFull(r, pool[:]); err != nil {
			return "", fmt.Errorf("draw digits: %w", err)
		}
		for _, b := range pool {
			if b >= 250 {
				continue
			}
			if digits = append(digits, '0'+b%10); len(digits) == n {
				return string(digits), nil
			}
		}
	}
}

// codeStream is where a code of these digits, issued in epoch, stands.
func (s *Service) codeStream(ctx context.Context, epoch domain.Subject, digits string) (domain.StreamID, error) {
	if err := s.ownKeys.ensure(ctx, s, epoch); err != nil {
		return "", err
	}
	sum, err := s.Vault.Hash(ctx, epoch, "code", []byte(digits))
	if err != nil {
		return "", fmt.Errorf("hash a code: %w", err)
	}
	return domain.CodeStream(hex.EncodeToString(sum)), nil
}

// findCode looks the digits up in every epoch a live code can be of; all are tried, so that the time
// taken tells nothing. found is false for digits that no epoch knows, and for ambiguous ones: alive in two.
func (s *Service) findCode(ctx context.Context, digits string) (stream domain.StreamID, found bool, err error) {
	now := s.now()
	var best domain.Code
	alive := 0
	for _, epoch := range domain.LiveEpochs(now) {
		if !s.ownKeys.known(ctx, s, epoch) {
			continue
		}
		at, err := s.codeStream(ctx, epoch, digits)
		if errors.Is(err, domain.ErrErased) {
			continue
		}
		if err != nil {
			return "", false, err
		}
		c, _, err := load[domain.Code](ctx, s.Log, at)
		if err != nil {
			return "", false, err
		}
		if !c.Exists {
			continue
		}
		if c.Dead(now) == nil {
			alive++
		}
		if !best.Exists || c.Dead(now) == nil {
			best, stream, found = c, at, true
		}
	}
	return stream, found && alive < 2, nil
}

// RedeemCode uses a code up for a phone. Code is what a human typed, or a program sent.
type RedeemCode struct {
	Code string     `json:"code" validate:"required"`
	MAC  domain.MAC `json:"mac" validate:"required"`
	// Facts the phone showed along the way; they make it known if it is not yet.
	Vendor   string `json:"vendor" validate:"max=64,text"`
	Model    string `json:"model" validate:"max=64,text"`
	Firmware string `json:"firmware" validate:"max=64,text"`
	Plugin   string `json:"plugin" validate:"omitempty,id"`
}

// Redeemed is what came of a redemption.
type Redeemed struct {
	DeviceID domain.DeviceID
	TenantID domain.TenantID
	// Position is where the phone's files must have caught up to.
	Position domain.Position
}

// RedeemCode answers domain.ErrCodeRefused alike for unknown, expired, used, revoked and foreign-bound codes,
// ErrGuesses when the source must wait, and what AssignDevice would refuse before the code is used up. The
// device is assigned by the reaction assign-redeemed-device.
func (s *Service) RedeemCode(ctx context.Context, in RedeemCode) (Redeemed, Outcome, error) {
	if err := check(in); err != nil {
		return Redeemed{}, Outcome{}, err
	}
	mac, err := domain.ParseMAC(string(in.MAC))
	if err != nil {
		return Redeemed{}, Outcome{}, &InvalidError{"mac", domain.ErrBadMAC.Error()}
	}
	caller := CallerFrom(ctx)
	if !caller.Confirmed {
		if err := s.guard.Allow(caller.IP, mac, s.now()); err != nil {
			return Redeemed{}, Outcome{}, err
		}
	}
	digits, err := domain.NormalizeCode(in.Code, s.codeLength())
	if err != nil {
		return Redeemed{}, Outcome{}, s.wrongCode(caller, mac, "")
	}
	stream, found, err := s.findCode(ctx, digits)
	if err != nil {
		return Redeemed{}, Outcome{}, err
	}
	if !found {
		return Redeemed{}, Outcome{}, s.wrongCode(caller, mac, "")
	}
	var device domain.DeviceID
	var code domain.Code
	out, err := decide(ctx, s, stream, func(c domain.Code) ([]domain.Event, error) {
		code = c
		if len(caller.Tenants) > 0 && !slices.Contains(caller.Tenants, c.TenantID) {
			return nil, domain.ErrCodeUnknown
		}
		if c.RedeemedBy == mac {
			device = c.DeviceID
			return c.Redeem(mac, device, s.now())
		}
		if _, err := c.Redeem(mac, "", s.now()); err != nil {
			return nil, err // before the phone is made known: a refusal leaves no trace of it
		}
		if !caller.Confirmed && c.Purpose == "rollout" && s.guard.Exhausted(s.now()) {
			return nil, &GuessError{exhaustedRetry}
		}
		d, err := s.redeemer(ctx, mac, in)
		if err != nil {
			return nil, err
		}
		if err := s.assignable(ctx, d, AssignDevice{TenantID: c.TenantID, CategoryID: c.CategoryID, UserID: c.UserID}); err != nil {
			return nil, err
		}
		device = d.ID
		return c.Redeem(mac, device, s.now())
	})
	switch {
	case errors.Is(err, domain.ErrCodeExpired), errors.Is(err, domain.ErrCodeRedeemed), errors.Is(err, domain.ErrCodeRevoked),
		errors.Is(err, domain.ErrCodeBound), errors.Is(err, domain.ErrCodeUnknown):
		return Redeemed{}, Outcome{}, s.wrongCode(caller, mac, stream)
	case err != nil:
		return Redeemed{}, Outcome{}, err
	}
	return Redeemed{DeviceID: device, TenantID: code.TenantID, Position: out.Position}, out, nil
}

// redeemer is the device the phone is; one not known yet is made known first.
func (s *Service) redeemer(ctx context.Context, mac domain.MAC, in RedeemCode) (domain.Device, error) {
	d, _, err := s.DeviceOfMAC(ctx, mac)
	if err != nil || d.Live() == nil {
		return d, err
	}
	_, _, err = s.DiscoverDevice(ctx, DiscoverDevice{MAC: mac, Vendor: in.Vendor, Model: in.Model, Firmware: in.Firmware, Plugin: in.Plugin, Added: "auto"})
	if err != nil {
		return d, err
	}
	d, _, err = s.DeviceOfMAC(ctx, mac)
	return d, err
}

// exhaustedRetry is what a phone is told to wait while the instance's budget of wrong codes is spent.
const exhaustedRetry = time.Hour

// wrongCode counts a refused code against its source; a known code that is dead is a denial on its own
// stream, one event per hour (D27). While the instance's budget is spent the answer is the one a good
// rollout code gets, or it would tell a guesser which code is good.
func (s *Service) wrongCode(caller Caller, mac domain.MAC, known domain.StreamID) error {
	if known != "" {
		s.denials.add(known, s.now())
	}
	if caller.Confirmed {
		return domain.ErrCodeRefused
	}
	s.guard.Wrong(caller.IP, mac, s.now())
	if s.guard.Exhausted(s.now()) {
		return &GuessError{exhaustedRetry}
	}
	return domain.ErrCodeRefused
}

// RevokeCode takes an unused code back.
type RevokeCode struct {
	ID domain.CodeID `json:"id" validate:"required,id"`
}

// RevokeCode errors: ErrInvalid, domain.ErrCodeUnknown, domain.ErrCodeRedeemed, domain.ErrCodeExpired.
func (s *Service) RevokeCode(ctx context.Context, in RevokeCode) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	head, err := s.Log.Head(ctx)
	if err != nil {
		return Outcome{}, err
	}
	ref, ok, err := s.Candidates.CodeByID(ctx, head, in.ID)
	if err != nil {
		return Outcome{}, err
	}
	if !ok {
		return Outcome{}, domain.ErrCodeUnknown
	}
	return decide(ctx, s, ref.Stream, func(c domain.Code) ([]domain.Event, error) { return c.Revoke(s.now()) })
}

// ExpireCodes records the expiry of codes whose time is over, and destroys the keys of epochs whose last
// code is dead: that deletes the digits, and what could find them, for good (D19). Run on a schedule.
func (s *Service) ExpireCodes(ctx context.Context) (expired int, err error) {
	const batch = 500
	var errs []error
	now := s.now()
	for {
		head, err := s.Log.Head(ctx)
		if err != nil {
			return expired, err
		}
		due, err := s.Candidates.DueCodes(ctx, head, now, batch)
		if err != nil {
			return expired, err
		}
		before := expired
		for _, ref := range due {
			out, err := decide(ctx, s, ref.Stream, func(c domain.Code) ([]domain.Event, error) { return c.Expire(now), nil })
			if ctx.Err() != nil {
				return expired, ctx.Err()
			}
			if err != nil {
				errs = append(errs, err) // one code that cannot be decided keeps no other alive
			}
			expired += len(out.Events)
		}
		if len(due) < batch || expired == before {
			break
		}
	}
	return expired, errors.Join(append(errs, s.destroyEpochs(ctx, now))...)
}

// epochs is what is known of past code epochs. Volatile: after a restart their idle time begins again.
type epochs struct {
	mu     sync.Mutex
	idle   map[domain.Subject]time.Time // since when an epoch is known to have no live code
	looked bool                         // the long way back has been looked through
}

// How many days destroyEpochs looks back: usually a little more than codes can live, the first time as far
// as a program that stood still may have to.
const (
	epochDays    = 16
	allEpochDays = 1000
)

// destroyEpochs erases the keys of past days without a live code. A phone may repeat its redemption for a
// while (D17), so an epoch must have been idle that long.
func (s *Service) destroyEpochs(ctx context.Context, now time.Time) error {
	s.epochs.mu.Lock()
	defer s.epochs.mu.Unlock()
	head, err := s.Log.Head(ctx)
	if err != nil {
		return err
	}
	days := epochDays
	if !s.epochs.looked {
		days = allEpochDays
	}
	for day := 1; day <= days; day++ {
		if err := s.retireEpoch(ctx, head, domain.Epoch(now.AddDate(0, 0, -day)), now); err != nil {
			return err
		}
	}
	s.epochs.looked = s.epochs.looked || len(s.epochs.idle) == 0 // what is not destroyed yet may be from long ago
	return nil
}

// retireEpoch destroys the key of an epoch that has been idle for long enough.
func (s *Service) retireEpoch(ctx context.Context, head domain.Position, epoch domain.Subject, now time.Time) error {
	keyed, h, err := load[domain.Keyed](ctx, s.Log, epoch.Stream())
	if err != nil || h.revision == domain.NoStream || keyed.Destroyed[epoch] {
		return err
	}
	live, err := s.Candidates.LiveCodes(ctx, head, epoch)
	if err != nil {
		return err
	}
	since, idle := s.epochs.idle[epoch]
	switch {
	case live > 0:
		delete(s.epochs.idle, epoch)
		return nil
	case !idle:
		if s.epochs.idle == nil {
			s.epochs.idle = make(map[domain.Subject]time.Time)
		}
		s.epochs.idle[epoch] = now
		return nil
	case now.Sub(since) < domain.RepeatWindow:
		return nil
	}
	if _, err := s.DestroyKey(ctx, DestroyKey{Subject: epoch}); err != nil {
		return err
	}
	delete(s.epochs.idle, epoch)
	return nil
}
