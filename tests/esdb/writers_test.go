package esdb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"

	"ledgerline/commands"
	"ledgerline/domain"
)

const writers = 8

// underWriters has writers append each events to a stream of their own, repeating with the same ids what they have no
// answer for, while disturb is called so many times, evenly spread. Then what is read back must be what was acknowledged,
// in order and once.
func underWriters(ctx context.Context, t *testing.T, log commands.Log, each, disturbances int, disturb func(), readBack func() commands.Log) {
	t.Helper()
	progress := make(chan struct{}, writers*each)
	written := make([][]uuid.UUID, writers)
	stream := func(w int) domain.StreamID { return domain.Stream("device", fmt.Sprint(w)) }
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				events := newEvent()
				for {
					_, err := log.Append(ctx, stream(w), domain.Revision(i-1), events)
					if err == nil {
						break
					}
					if !errors.Is(err, domain.ErrOutcomeUnknown) || ctx.Err() != nil {
						t.Errorf("writer %d, event %d: %v", w, i, err)
						return
					}
				}
				written[w] = append(written[w], events[0].ID)
				progress <- struct{}{}
			}
		})
	}
	for d := range disturbances {
		for range writers * each / (disturbances + 1) {
			select {
			case <-progress:
			case <-ctx.Done():
				t.Fatalf("no progress after %d of %d disturbances", d, disturbances)
			}
		}
		disturb()
	}
	wg.Wait()
	for w := range writers {
		i := 0
		for r, err := range readBack().Read(ctx, stream(w), 0) {
			if err != nil {
				t.Fatal(err)
			}
			if i >= len(written[w]) || r.ID != written[w][i] {
				t.Fatalf("writer %d: revision %d is not what was acknowledged", w, i)
			}
			i++
		}
		if i != each {
			t.Errorf("writer %d: %d events, want %d", w, i, each)
		}
	}
}
