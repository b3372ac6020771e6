package commands

import (
	"context"
	"errors"
	"time"

	"ledgerline/domain"
)

// EraseCode takes a code back, if it is alive, and tells when its digits are gone for good. They are sealed, and found,
// under the key of the day the code was issued on, which the other codes of that day share (D19): ExpireCodes destroys
// it when the last of them is dead.
type EraseCode struct {
	ID domain.CodeID `json:"id" validate:"required,id"`
}

// CodeErasure is how the erasure of a code stands.
type CodeErasure struct {
	Destroyed bool // its digits are gone
	// By is when they are at the latest, and Alive the number of codes of that day they wait for; zero when Destroyed.
	By    time.Time
	Alive int
}

// EraseCode errors: ErrInvalid, domain.ErrCodeUnknown.
func (s *Service) EraseCode(ctx context.Context, in EraseCode) (CodeErasure, Outcome, error) {
	out, err := s.RevokeCode(ctx, RevokeCode(in))
	if err != nil && !errors.Is(err, domain.ErrCodeRedeemed) && !errors.Is(err, domain.ErrCodeExpired) {
		return CodeErasure{}, Outcome{}, err
	}
	head, err := s.Log.Head(ctx)
	if err != nil {
		return CodeErasure{}, Outcome{}, err
	}
	ref, _, err := s.Candidates.CodeByID(ctx, head, in.ID)
	if err != nil {
		return CodeErasure{}, Outcome{}, err
	}
	c, h, err := load[domain.Code](ctx, s.Log, ref.Stream)
	if err != nil {
		return CodeErasure{}, Outcome{}, err
	}
	if len(out.Events) == 0 {
		out = Outcome{Stream: ref.Stream, Revision: h.revision, Position: h.position}
	}
	keyed, _, err := load[domain.Keyed](ctx, s.Log, c.Epoch.Stream())
	if err != nil || keyed.Destroyed[c.Epoch] {
		return CodeErasure{Destroyed: keyed.Destroyed[c.Epoch]}, out, err
	}
	alive, err := s.Candidates.LiveCodes(ctx, head, c.Epoch, s.now())
	if err != nil {
		return CodeErasure{}, Outcome{}, err
	}
	const day = 24 * time.Hour
	by := c.IssuedAt.UTC().Truncate(day).Add(day) // the key is needed while new codes are issued under it
	if alive > 0 {
		by = by.Add(domain.MaxCodeTTL)
	}
	if now := s.now(); by.Before(now) {
		by = now
	}
	return CodeErasure{By: by.Add(domain.RepeatWindow + scheduled).Truncate(time.Second), Alive: alive}, out, nil
}

// scheduled is how often ExpireCodes runs at least.
const scheduled = time.Minute
