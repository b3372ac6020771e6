package commands

import (
	"context"
	"errors"

	"ledgerline/domain"
)

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
