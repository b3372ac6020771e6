package reactor

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// memLeases is commands.Leases in memory. While down it answers nobody; lost makes it forget to answer the
// next saves, which it carries out all the same.
type memLeases struct {
	mu   sync.Mutex
	l    commands.Lease
	at   domain.Revision
	down map[string]bool // holders that cannot reach it
	lost int
}

func newMemLeases() *memLeases { return &memLeases{at: domain.NoStream, down: map[string]bool{}} }

// seenBy is the leases as one replica reaches them.
type seenBy struct {
	*memLeases
	holder string
}

var errDown = errors.New("store is down")

func (s seenBy) LoadLease(context.Context, string) (commands.Lease, domain.Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down[s.holder] {
		return commands.Lease{}, 0, errDown
	}
	return s.l, s.at, nil
}

func (s seenBy) SaveLease(_ context.Context, _ string, at domain.Revision, l commands.Lease) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.down[s.holder]:
		return errDown
	case at != s.at:
		return domain.ErrConflict
	}
	s.l, s.at = l, at+1
	if s.lost > 0 {
		s.lost--
		return domain.ErrOutcomeUnknown
	}
	return nil
}

func (m *memLeases) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// replica starts a reactor over one log, store and lease with others.
func (g *rig) replica(leases *memLeases, holder string) (r *Reactor, stop func()) {
	g.opt.Leases, g.opt.Holder, g.opt.LeaseTTL = seenBy{leases, holder}, holder, 9*time.Second
	return g.run()
}

// TestOneReplicaRuns: one of two has the lease and keeps it; when it stops it gives it back, and when it can
// no longer reach the store the other goes on once the lease has lapsed. Whichever it is, every event is handled.
func TestOneReplicaRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handled := map[domain.Position]int{}
		var mu sync.Mutex
		g := newRig(t, row("push", false, func(_ context.Context, r domain.Recorded) error {
			mu.Lock()
			defer mu.Unlock()
			handled[r.Position]++
			return nil
		}))
		leases := newMemLeases()
		anna, stopAnna := g.replica(leases, "anna")
		time.Sleep(time.Second)
		bert, stopBert := g.replica(leases, "bert")
		leads := func(what string, a, b bool) {
			t.Helper()
			synctest.Wait()
			if anna.Leads() != a || bert.Leads() != b {
				t.Fatalf("%s: anna leads %v, bert %v", what, anna.Leads(), bert.Leads())
			}
		}
		g.log.put(t, "layer-1")
		time.Sleep(time.Minute)
		leads("both have run for a minute", true, false)
		if err := bert.Replay(t.Context(), "push", domain.Recorded{}.ID); !errors.Is(err, ErrElsewhere) {
			t.Errorf("replay on the one that does not lead: %v", err)
		}

		leases.set(func() { leases.lost = 2 })
		time.Sleep(time.Minute)
		leads("two answers were lost", true, false)

		leases.set(func() { leases.down["anna"] = true })
		g.log.put(t, "layer-2")
		time.Sleep(12 * time.Second)
		leads("anna cannot renew", false, true)

		leases.set(func() { leases.down["anna"] = false })
		time.Sleep(time.Minute)
		leads("anna is back", false, true)

		stopBert()
		time.Sleep(2 * time.Second)
		if !anna.Leads() {
			t.Error("anna waits for a lease that was given back")
		}
		g.log.put(t, "layer-3")
		g.settle(anna)
		stopAnna()
		for p, n := range handled {
			if n != 1 {
				t.Errorf("event at %s was handled %d times", p, n)
			}
		}
		if len(handled) != 3 {
			t.Errorf("%d events handled, want 3", len(handled))
		}
	})
}

// TestSleeperWakes: a holder that slept through its end goes on until it notices, at the latest with its next
// renewal; it does not take the lease back.
func TestSleeperWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, row("push", false, func(context.Context, domain.Recorded) error { return nil }))
		leases := newMemLeases()
		anna, stop := g.replica(leases, "anna")
		defer stop()
		time.Sleep(4 * time.Second)
		leases.set(func() { leases.l, leases.at = commands.Lease{Holder: "bert", TTL: time.Hour}, leases.at+1 })
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if anna.Leads() {
			t.Error("anna still leads after a renewal was refused")
		}
		time.Sleep(50 * time.Minute)
		if l, _, err := (seenBy{leases, "nobody"}).LoadLease(t.Context(), leaseName); err != nil || l.Holder != "bert" || anna.Leads() {
			t.Error("anna took a lease that had not lapsed")
		}
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if !anna.Leads() {
			t.Error("anna does not take a lease nobody has renewed for an hour")
		}
	})
}

// TestReplicasBeginAtOnce: where one has begun and appended between another's two looks, the other goes on from
// what was saved instead of refusing.
func TestReplicasBeginAtOnce(t *testing.T) {
	g := newRig(t, row("push", false, func(context.Context, domain.Recorded) error { return nil }))
	o := g.opt
	o.Log, o.Store = g.log, &lateStore{memStore: g.store, meanwhile: func() {
		if err := g.store.SaveReactor(t.Context(), "push", commands.ReactorState{}); err != nil {
			t.Error(err)
		}
		g.log.put(t, "layer-1")
	}}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// lateStore lets something happen behind the first look.
type lateStore struct {
	*memStore
	meanwhile func()
}

func (s *lateStore) LoadReactor(ctx context.Context, name string) (commands.ReactorState, bool, error) {
	state, found, err := s.memStore.LoadReactor(ctx, name)
	if s.meanwhile != nil {
		s.meanwhile()
		s.meanwhile = nil
	}
	return state, found, err
}
