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
	const most = 10_000 // more than any single command leads to; a loop in the table ends here
	queue := slices.Clone(events)
	for handled := 0; len(queue) > 0; handled++ {
		if handled == most {
			return errors.New("reactions do not come to an end")
		}
		r := queue[0]
		queue = queue[1:]
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
			queue = append(queue, born...)
		}
	}
	return nil
}
