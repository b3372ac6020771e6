package commands

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"ledgerline/domain"
)

type noteKey struct{}

// noting returns a context whose commands hand every event they record to note.
func noting(ctx context.Context, note func([]domain.Recorded)) context.Context {
	if outer, ok := ctx.Value(noteKey{}).(func([]domain.Recorded)); ok {
		inner := note
		note = func(r []domain.Recorded) { inner(r); outer(r) }
	}
	return context.WithValue(ctx, noteKey{}, note)
}

// Settle carries out, here and now, the reactions to events and to what they lead to. The reactor does so
// anyway; whoever comes second records nothing, and goes on from what the other recorded. For a caller that needs the
// end of the story in its answer: a phone that just redeemed its code, a dry run.
func (s *Service) Settle(ctx context.Context, events []domain.Recorded) error {
	const deepest = 100 // longer than any chain of causes there is; a loop in the table ends here
	if len(events) == 0 {
		return nil
	}
	depths := make(map[string]int, len(events)) // of the events of the story, by id
	queue := slices.Clone(events)
	read := events[0].Position // how far the log was read for what the reactor recorded
	var ids [][]byte           // of the story: whatever follows from it has its correlation id
	for _, r := range events {
		depths[r.ID.String()] = 0
		m, err := r.Meta()
		if err != nil {
			return err
		}
		if id := []byte(m.CorrelationID); !slices.ContainsFunc(ids, func(known []byte) bool { return bytes.Equal(known, id) }) {
			ids = append(ids, id)
		}
		if r.Position.Before(read) {
			read = r.Position
		}
	}
	for {
		for len(queue) > 0 {
			r := queue[0]
			depth := depths[r.ID.String()]
			if queue = queue[1:]; depth == deepest {
				return errors.New("reactions do not come to an end")
			}
			born, err := s.react(ctx, r)
			if err != nil {
				return err
			}
			for _, b := range born {
				depths[b.ID.String()] = depth + 1
			}
			queue = append(queue, born...)
		}
		if s.planning {
			return nil // nobody else writes to an overlay
		}
		for r, err := range s.Log.ReadAll(ctx, read) {
			if err != nil {
				return err
			}
			read = r.Position
			if !slices.ContainsFunc(ids, func(id []byte) bool { return bytes.Contains(r.Metadata, id) }) {
				continue // most of what others do meanwhile: decoding it is what costs
			}
			m, err := r.Meta()
			if err != nil {
				return err
			}
			if _, ours := depths[r.ID.String()]; ours {
				continue
			}
			if depth, follows := depths[m.CausationID]; follows && m.Reaction != "" {
				depths[r.ID.String()] = depth + 1
				queue = append(queue, r)
			}
		}
		if len(queue) == 0 {
			return nil
		}
	}
}

// react carries out the reactions to one event and answers what they recorded.
func (s *Service) react(ctx context.Context, r domain.Recorded) (born []domain.Recorded, err error) {
	var mu sync.Mutex
	for _, row := range Reactions {
		if !slices.Contains(row.On, r.Type) {
			continue
		}
		e, err := r.Event()
		if err != nil {
			return nil, err
		}
		noted := noting(WithCause(ctx, r, row.Name), func(more []domain.Recorded) {
			mu.Lock()
			defer mu.Unlock()
			born = append(born, more...)
		})
		if err := row.Do(noted, s, r, e); err != nil {
			return nil, err
		}
	}
	return born, nil
}
