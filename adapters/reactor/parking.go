package reactor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// condemn decides that w is parked, and parks it.
func (s *subscription) condemn(w *work, why string) {
	w.verdict = &commands.Parked{
		Reaction: s.feed.Name, EventID: w.rec.ID, Position: w.rec.Position, Stream: w.rec.Stream, Revision: w.rec.Revision,
		Type: w.rec.Type, Key: w.key, Reason: why, Attempts: w.earlier + w.attempts, At: time.Now().UTC(),
	}
	s.park(w)
}

// park stores w's verdict; only then is w handled. While that fails it is tried again.
func (s *subscription) park(w *work) {
	if err := s.cfg.Store.Park(s.msgs, *w.verdict); err != nil {
		s.log.Error().Err(err).Stringer("position", w.rec.Position).Msg("reaction cannot park a message")
		s.again(w, s.cfg.Backoff(s.cfg.Attempts))
		return
	}
	s.mu.Lock()
	s.stats.ParkedTotal++
	s.remember(*w.verdict)
	s.mu.Unlock()
	s.settle(w, fmt.Errorf("%w: %s", ErrParkedAgain, w.verdict.Reason))
}

// remember notes a row of the store; s.mu is held (but for the first rows).
func (s *subscription) remember(p commands.Parked) {
	s.forget(p.Key, p.Position)
	refs := s.parked[p.Key]
	i, _ := slices.BinarySearchFunc(refs, p.Position, func(r ref, at domain.Position) int { return r.at.Compare(at) })
	s.parked[p.Key] = slices.Insert(refs, i, ref{p.Position, p.EventID, p.Attempts == 0})
	s.parkedAt[p.Position] = struct{}{}
}

func (s *subscription) forget(key string, at domain.Position) {
	delete(s.parkedAt, at)
	refs := slices.DeleteFunc(s.parked[key], func(r ref) bool { return r.at == at })
	if len(refs) == 0 {
		delete(s.parked, key)
	} else {
		s.parked[key] = refs
	}
}

// unpark ends w, which stood parked. What was held behind it follows.
func (s *subscription) unpark(w *work) {
	if err := s.cfg.Store.Unpark(s.msgs, s.feed.Name, w.rec.ID); err != nil {
		s.settle(w, fmt.Errorf("unpark %s: %w", w.rec.ID, err))
		return
	}
	s.mu.Lock()
	s.forget(w.key, w.rec.Position)
	var held []ref
	if refs := s.parked[w.key]; len(refs) > 0 && refs[0].held {
		held = append(held, refs[0])
	}
	s.mu.Unlock()
	for _, r := range held {
		s.follow(r)
	}
	s.settle(w, nil)
}

// follow queues the replay of a message that was held, ahead of what came later. Where that fails the
// message stays parked, the head of its key: it can be replayed by hand, and is at the next start.
func (s *subscription) follow(r ref) {
	rows, err := s.cfg.Store.Parked(s.msgs, s.feed.Name)
	for _, p := range rows {
		if p.EventID == r.id && p.Position == r.at {
			err = s.requeue(s.msgs, replay, p, nil)
		}
	}
	if err != nil && !errors.Is(err, ErrClosed) {
		s.log.Error().Err(err).Stringer("event_id", r.id).Msg("reaction cannot go on with a held message")
	}
}

// requeue queues a task for a parked row. answer, if not nil, gets the outcome.
func (s *subscription) requeue(ctx context.Context, t task, p commands.Parked, answer chan error) error {
	w := &work{task: t, key: p.Key, earlier: p.Attempts, answer: answer,
		rec: domain.Recorded{Stream: p.Stream, Revision: p.Revision, Position: p.Position, ID: p.EventID, Type: p.Type}}
	if t == replay {
		rec, err := lookUp(ctx, s.cfg.Log, p)
		if err != nil {
			return err
		}
		again := s.prepare(&found{rec: rec})
		w.rec, w.event, w.broken = rec, again.event, again.broken
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return ErrClosed
	}
	s.lanes.add(w)
	s.wake.Signal()
	return nil
}

// lookUp reads the event of a parked row.
func lookUp(ctx context.Context, log commands.Log, p commands.Parked) (domain.Recorded, error) {
	for r, err := range log.Read(ctx, p.Stream, p.Revision) {
		if err != nil {
			return r, fmt.Errorf("read event %d of %s: %w", p.Revision, p.Stream, err)
		}
		if r.ID != p.EventID {
			break
		}
		return r, nil
	}
	return domain.Recorded{}, fmt.Errorf("event %d of %s is not %s", p.Revision, p.Stream, p.EventID)
}
