package commands

import (
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
// anyway; whoever comes second records nothing. For a caller that needs the end of the story in its answer:
// a phone that just redeemed its code, a dry run.
func (s *Service) Settle(ctx context.Context, events []domain.Recorded) error {
	const deepest = 100 // longer than any chain of causes there is; a loop in the table ends here
	type step struct {
		domain.Recorded
		depth int
	}
	var queue []step
	for _, r := range events {
		queue = append(queue, step{r, 0})
	}
	for len(queue) > 0 {
		r, depth := queue[0].Recorded, queue[0].depth
		if queue = queue[1:]; depth == deepest {
			return errors.New("reactions do not come to an end")
		}
		for _, row := range Reactions {
			if !slices.Contains(row.On, r.Type) {
				continue
			}
			e, err := r.Event()
			if err != nil {
				return err
			}
			var mu sync.Mutex
			var born []domain.Recorded
			noted := noting(WithCause(ctx, r, row.Name), func(more []domain.Recorded) {
				mu.Lock()
				defer mu.Unlock()
				born = append(born, more...)
			})
			if err := row.Do(noted, s, r, e); err != nil {
				return err
			}
			for _, b := range born {
				queue = append(queue, step{b, depth + 1})
			}
		}
	}
	return nil
}
