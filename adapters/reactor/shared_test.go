package reactor

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// memGroups is commands.Groups over a memLog: what is not acknowledged comes again, to whoever asks first.
type memGroups struct {
	log *memLog

	mu     sync.Mutex
	groups map[string]*memGroup
	drops  chan struct{} // one more drops a consumer
}

type memGroup struct {
	types  []string
	at     domain.Position
	undone []domain.Recorded
}

func newMemGroups(l *memLog) *memGroups {
	return &memGroups{log: l, groups: map[string]*memGroup{}, drops: make(chan struct{})}
}

func (m *memGroups) EnsureGroup(_ context.Context, name string, types []string, after domain.Position) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.groups[name] == nil {
		m.groups[name] = &memGroup{types: types, at: after}
	}
	return nil
}

// next is a message nobody has.
func (m *memGroups) next(name string) (domain.Recorded, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.groups[name]
	page, _, _ := m.log.page(g.at)
	for _, r := range page {
		g.at = r.Position
		if slices.Contains(g.types, r.Type) {
			g.undone = append(g.undone, r)
		}
	}
	if len(g.undone) == 0 {
		return domain.Recorded{}, false
	}
	r := g.undone[0]
	g.undone = g.undone[1:]
	return r, true
}

func (m *memGroups) Consume(ctx context.Context, name string, lanes int, handle func(context.Context, domain.Recorded) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	for range lanes {
		all.Go(func() {
			for ctx.Err() == nil {
				r, ok := m.next(name)
				if !ok {
					pause(ctx, 100*time.Millisecond)
					continue
				}
				if err := handle(ctx, r); err != nil {
					m.mu.Lock()
					m.groups[name].undone = append(m.groups[name].undone, r)
					m.mu.Unlock()
				}
			}
		})
	}
	err := errDropped
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-m.drops:
	}
	cancel()
	all.Wait()
	return err
}

func (m *memGroups) GroupPosition(_ context.Context, name string) (domain.Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.groups[name].at, nil
}

// TestSharedReactions: two replicas share the messages of a reaction whose order does not matter, only one of
// them runs the ordered ones; what fails is retried, parked, replayed on either; a drop loses nothing.
func TestSharedReactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type replica struct{}
		var mu sync.Mutex
		notified, pushed := map[domain.StreamID]map[any]int{}, 0
		broken := true
		share := row("notify", false, func(ctx context.Context, r domain.Recorded) error {
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case r.Stream == "layer-odd" && broken:
				return errNo
			case r.Stream == "layer-panics" && broken:
				panic("what a value")
			}
			if notified[r.Stream] == nil {
				notified[r.Stream] = map[any]int{}
			}
			notified[r.Stream][ctx.Value(replica{})]++
			return nil
		})
		share.Shared = true
		push := row("push", false, func(context.Context, domain.Recorded) error {
			mu.Lock()
			defer mu.Unlock()
			pushed++
			return nil
		})
		g := newRig(t, share, push)
		g.opt.Attempts, g.opt.Lanes = 3, 2
		leases, groups := newMemLeases(), newMemGroups(g.log)
		var reactors []*Reactor
		for _, name := range []string{"anna", "bert"} {
			o := g.opt
			o.Log, o.Store, o.Groups, o.Leases, o.Holder = g.log, g.store, groups, seenBy{leases, name}, name
			r, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.WithValue(t.Context(), replica{}, name))
			done := make(chan error, 1)
			if err := r.Prepare(ctx); err != nil {
				t.Fatal(err)
			}
			go func() { done <- r.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			reactors = append(reactors, r)
		}
		for i := range 20 {
			g.log.put(t, domain.StreamID("layer-"+string(rune('a'+i))))
			if i == 10 {
				time.Sleep(2500 * time.Millisecond)
				groups.drops <- struct{}{}
			}
		}
		g.log.put(t, "layer-odd")
		g.log.put(t, "layer-panics")
		time.Sleep(time.Minute)
		synctest.Wait()
		by := map[any]int{}
		mu.Lock()
		for s, times := range notified {
			for who, n := range times {
				by[who] += n
			}
			if len(times) != 1 {
				t.Errorf("%s was handled by %v", s, times)
			}
		}
		if len(notified) != 20 || by["anna"] < 3 || by["bert"] < 3 || pushed != 22 {
			t.Errorf("%d streams handled, %v; %d pushed", len(notified), by, pushed)
		}
		broken = false
		mu.Unlock()
		rows, err := reactors[1].List(t.Context(), "notify")
		if err != nil || len(rows) != 2 || rows[0].Attempts != 3 || rows[0].Reason != errNo.Error() || rows[1].Reason != "panic: string" {
			t.Fatalf("parked %+v, %v", rows, err)
		}
		if err := reactors[0].Discard(t.Context(), "notify", rows[1].EventID); err != nil {
			t.Error(err)
		}
		if n, err := reactors[1].ReplayAll(t.Context(), "notify"); n != 1 || err != nil {
			t.Errorf("%d replayed, %v", n, err)
		}
		if err := reactors[1].Replay(t.Context(), "notify", rows[0].EventID); !errors.Is(err, ErrNotParked) {
			t.Errorf("replayed what is not parked: %v", err)
		}
		time.Sleep(noteEvery)
		synctest.Wait()
		if got := g.store.state("notify").Position; got != domain.At(220) {
			t.Errorf("noted position %s", got)
		}
		if st := reactors[0].Status(); len(st) == 0 || st[0].Reaction != "notify" || st[0].Position != domain.At(220) || st[0].Handled+reactors[1].Status()[0].Handled < 20 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestSharedAndHeld: a row cannot be both.
func TestSharedAndHeld(t *testing.T) {
	both := row("notify", true, func(context.Context, domain.Recorded) error { return nil })
	both.Shared = true
	if _, err := New(Options{Reactions: []commands.Reaction{both}}); !errors.Is(err, ErrBadReaction) {
		t.Error(err)
	}
}
