package reactor

import (
	"context"
	"slices"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

const (
	saveEvery  = 500                    // messages handled after which the position is written
	saveWithin = 200 * time.Millisecond // after the first of them, at the latest
	saveIdle   = 5 * time.Second        // and when nothing was read but events nobody wants
)

// save writes the position: saveWithin after the first handled message or at once when saveEvery are, and
// saveIdle after mere reading; and once more at the end.
func (s *subscription) save() {
	var timer *time.Timer
	var at time.Time
	set := func(d time.Duration) {
		if due := time.Now().Add(d); timer == nil || due.Before(at) {
			if timer != nil {
				timer.Stop()
			}
			timer, at = time.NewTimer(d), due
		}
	}
	for {
		var ring <-chan time.Time
		if timer != nil {
			ring = timer.C
		}
		now := false
		select {
		case <-s.last:
			if timer != nil {
				timer.Stop()
			}
			ctx, cancel := context.WithTimeout(context.WithoutCancel(s.msgs), max(s.cfg.Grace, time.Second))
			defer cancel()
			s.store(ctx)
			return
		case <-ring:
			timer, now = nil, true
		case <-s.dirty:
			s.mu.Lock()
			handled, skipped := s.unsaved, s.skipped
			s.mu.Unlock()
			switch {
			case handled >= saveEvery:
				now = true
			case handled > 0:
				set(saveWithin)
			case skipped:
				set(saveIdle)
			}
		}
		if now {
			if timer != nil {
				timer.Stop()
				timer = nil
			}
			if !s.store(s.msgs) {
				set(time.Second)
			}
		}
	}
}

// store writes the present state if it is not written yet; false if that failed.
func (s *subscription) store(ctx context.Context) bool {
	s.mu.Lock()
	handled, skipped := s.unsaved, s.skipped
	state := s.state()
	s.unsaved, s.skipped = 0, false
	s.mu.Unlock()
	if handled == 0 && !skipped {
		return true
	}
	if err := s.cfg.Store.SaveReactor(ctx, s.feed.Name, state); err != nil {
		s.log.Error().Err(err).Stringer("position", state.Position).Msg("reaction cannot save its position")
		s.mu.Lock()
		s.unsaved, s.skipped = s.unsaved+handled, s.skipped || skipped
		s.mu.Unlock()
		return false
	}
	return true
}

// state is what would be saved now; s.mu is held.
func (s *subscription) state() commands.ReactorState {
	state := commands.ReactorState{Position: s.window.low, Done: s.window.done()}
	for p := range s.passed {
		state.Done = append(state.Done, p)
	}
	slices.SortFunc(state.Done, domain.Position.Compare)
	return state
}
