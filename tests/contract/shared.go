package contract

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ledgerline/commands"
	"ledgerline/domain"
)

// SharedUnderTest is one handle on a store, as one replica has it.
type SharedUnderTest struct {
	Log    commands.Log
	Groups commands.Groups
}

// SharedGroups holds an implementation of commands.Groups to its contract. open gives another handle on the same
// store each time. The store may hold other events.
func SharedGroups(t *testing.T, open func(t *testing.T) SharedUnderTest) {
	a, b := open(t), open(t)
	ctx := within(t)
	group, kind := name("group"), "probe.g"+uuid.NewString()[:8]
	put := func(n int, kind string) []uuid.UUID {
		t.Helper()
		ids := make([]uuid.UUID, n)
		for i := range ids {
			e := event(kind, "{}")
			ids[i] = e.ID
			_, err := a.Log.Append(ctx, stream("notice"), domain.NoStream, []domain.NewEvent{e})
			ok(t, err)
		}
		return ids
	}
	before := put(3, kind)
	after, err := a.Log.Head(ctx)
	ok(t, err)

	if err := a.Groups.Consume(ctx, group, 4, nil); !errors.Is(err, domain.ErrNoStream) {
		t.Fatalf("a group nobody made: %v", err)
	}
	for range 2 { // made again is no error
		ok(t, a.Groups.EnsureGroup(ctx, group, []string{kind}, after))
	}
	put(5, "probe.other")
	want := put(40, kind)

	// Two consumers share; a message that is refused comes again; one whose consumer leaves goes to the other.
	var mu sync.Mutex
	tries, done, running, most := map[uuid.UUID]int{}, map[uuid.UUID]int{}, map[string]int{}, 0
	level := make(chan struct{})
	left := make(chan struct{})
	consume := func(ctx context.Context, who string, u SharedUnderTest, deaf bool) error {
		return u.Groups.Consume(ctx, group, 3, func(ctx context.Context, r domain.Recorded) error {
			mu.Lock()
			running[who]++
			most = max(most, running[who])
			tries[r.ID]++
			again := tries[r.ID] == 1 && r.ID[15]%3 == 0
			mu.Unlock()
			if deaf {
				<-ctx.Done()
			}
			mu.Lock()
			defer mu.Unlock()
			running[who]--
			if deaf || again {
				return errors.New("not now")
			}
			if done[r.ID]++; len(done) == len(want) {
				select {
				case <-level:
				default:
					close(level)
				}
			}
			return nil
		})
	}
	leaving, leave := context.WithCancel(ctx)
	go func() {
		defer close(left)
		if err := consume(leaving, "deaf", b, true); !errors.Is(err, context.Canceled) {
			t.Errorf("a consumer that left: %v", err)
		}
	}()
	until(t, ctx, "the deaf consumer has messages", func() bool { mu.Lock(); defer mu.Unlock(); return running["deaf"] > 0 })
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- consume(working, "a", a, false) }()
	until(t, ctx, "messages of others are done", func() bool { mu.Lock(); defer mu.Unlock(); return len(done) > 10 })
	leave()
	<-left
	select {
	case <-level:
	case <-ctx.Done():
		t.Fatalf("%d of %d messages done", len(done), len(want))
	}
	until(t, ctx, "the store notes that all are done", func() bool {
		at, err := b.Groups.GroupPosition(ctx, group)
		ok(t, err)
		return after.Before(at)
	})
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a consumer that was stopped: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, id := range want {
		if done[id] == 0 {
			t.Errorf("%s was never done", id)
		}
		delete(done, id)
	}
	delete(done, before[2]) // it stands at the position itself
	for _, id := range before {
		if done[id] != 0 {
			t.Errorf("%s is older than the group", id)
		}
	}
	if len(done) != 0 {
		t.Errorf("done, and not of the group: %v", fmt.Sprint(done))
	}
	if most > 3 {
		t.Errorf("%d at once, want at most 3", most)
	}
}

// until asks again until done, or fails at the end of ctx.
func until(t *testing.T, ctx context.Context, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not in time: %s", what)
		}
	}
}
