package commands

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"ledgerline/domain"
)

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

// redeemer is the device the phone is; one not known yet is made known first.
func (s *Service) redeemer(ctx context.Context, mac domain.MAC, in RedeemCode) (domain.Device, error) {
	if in.Port != "" {
		return s.port(ctx, mac, in)
	}
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
		s.budgets().denials.add(known, s.now())
	}
	if caller.Confirmed {
		return domain.ErrCodeRefused
	}
	s.Guard().Wrong(caller.IP, mac, s.now())
	if s.Guard().Exhausted(s.now()) {
		return &GuessError{exhaustedRetry}
	}
	return domain.ErrCodeRefused
}

// epochs is what is known of past code epochs. Volatile: after a restart their idle time begins again.
type epochs struct {
	mu     sync.Mutex
	idle   map[domain.Subject]time.Time // since when an epoch is known to have no live code
	looked bool                         // the long way back has been looked through
}

// How many days destroyEpochs looks back: usually a little more than codes and notices can live, the first time as far
// as a program that stood still may have to.
const (
	epochDays    = 40
	allEpochDays = 1000
)

// destroyEpochs erases the keys of past days without a live code, and of past days' notices without one that waits. A phone may repeat its redemption for a
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
		past := now.AddDate(0, 0, -day)
		for _, epoch := range []domain.Subject{domain.Epoch(past), domain.NoticeEpoch(past)} {
			if err := s.retireEpoch(ctx, head, epoch, now); err != nil {
				return err
			}
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
	live, err := s.Candidates.LiveCodes(ctx, head, epoch, now)
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
