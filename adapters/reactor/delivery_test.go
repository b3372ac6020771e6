package reactor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Whatever the lanes, the window, the time a run takes and the attempts that fail: of a key one run at a
// time, each event handled once, in order; keys side by side, never more than lanes; all is handled.
func TestOrderPerKeyWithLanes(t *testing.T) {
	type script struct {
		lanes, window int
		events        []string        // the key of each
		takes         []time.Duration // of each event's runs
		fails         []int           // attempts of each event that fail first
	}
	play := func(t *testing.T, sc script) (faults []string) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			fault := func(format string, a ...any) { faults = append(faults, fmt.Sprintf(format, a...)) }
			busy, attempts, next := map[domain.StreamID]bool{}, map[domain.Position]int{}, map[domain.StreamID]domain.Revision{}
			at := map[domain.Position]int{}
			most := 0
			g := newRig(t, row("mend", false, func(_ context.Context, r domain.Recorded) error {
				mu.Lock()
				if busy[r.Stream] {
					fault("two runs of %s at once", r.Stream)
				}
				if r.Revision != next[r.Stream] {
					fault("%s@%d runs, want %d", r.Stream, r.Revision, next[r.Stream])
				}
				busy[r.Stream] = true
				most = max(most, len(busy))
				attempts[r.Position]++
				i, n := at[r.Position], attempts[r.Position]
				mu.Unlock()
				time.Sleep(sc.takes[i])
				mu.Lock()
				defer mu.Unlock()
				delete(busy, r.Stream)
				if n <= sc.fails[i] {
					return errNo
				}
				next[r.Stream]++
				return nil
			}))
			g.opt.Lanes, g.opt.Window, g.opt.Attempts = sc.lanes, sc.window, 4
			r, stop := g.run()
			for i, key := range sc.events {
				mu.Lock()
				at[g.log.put(t, domain.Stream("layer", key)).Position] = i
				mu.Unlock()
			}
			g.settle(r)
			stop()
			handled := 0
			for _, n := range next {
				handled += int(n)
			}
			if handled != len(sc.events) || most > sc.lanes {
				fault("%d of %d handled, at most %d at once with %d lanes", handled, len(sc.events), most, sc.lanes)
			}
			if st := g.store.state("mend"); len(st.Done) != 0 || int(st.Position.Commit) != 10*len(sc.events) {
				fault("saved %v", st)
			}
		})
		return faults
	}
	rapid.Check(t, func(rt *rapid.T) {
		sc := script{lanes: rapid.IntRange(1, 5).Draw(rt, "lanes"), window: rapid.IntRange(1, 12).Draw(rt, "window")}
		for range rapid.IntRange(1, 40).Draw(rt, "events") {
			sc.events = append(sc.events, rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "key"))
			sc.takes = append(sc.takes, time.Duration(rapid.IntRange(0, 300).Draw(rt, "takes"))*time.Millisecond)
			sc.fails = append(sc.fails, max(0, rapid.IntRange(-6, 3).Draw(rt, "fails")))
		}
		if faults := play(t, sc); len(faults) > 0 {
			rt.Fatal(strings.Join(faults, "\n"))
		}
	})
}

// world is where effects of runs and writes of the store happen until the process dies.
type world struct {
	mu    sync.Mutex
	step  int  // things done so far
	dies  int  // at this one; -1 for never
	after bool // and it still takes effect
	dead  bool
	kill  func()
	ran   []domain.Recorded // effects, in order
}

// do does one thing that lasts; kept tells whether it took effect.
func (w *world) do(effect func()) (kept bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return false, errDead
	}
	w.step++
	if w.step == w.dies {
		w.dead = true
		defer w.kill()
		if !w.after {
			return false, errDead
		}
		effect()
		return true, errDead
	}
	effect()
	return true, nil
}

// The process is killed at every step there is: before or just after each effect of a run and each write of
// the store, while messages are parked and while they are replayed. After the restart everything was handled or
// stands parked, after a last replay everything was handled, in order per key, and of what the store knew to be
// handled or parked nothing ran again unasked.
func TestCrashAtEveryStep(t *testing.T) {
	for _, hold := range []bool{false, true} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("hold=%v/after=%v", hold, after), func(t *testing.T) {
				steps := 0
				for dies := 1; !t.Failed(); dies++ {
					died := false
					synctest.Test(t, func(t *testing.T) { died = crash(t, hold, after, dies) })
					if !died {
						steps = dies - 1
						break
					}
				}
				if !t.Failed() && steps < 17 {
					t.Errorf("only %d steps to die at", steps)
				}
			})
		}
	}
}

func crash(t *testing.T, hold, after bool, dies int) (died bool) {
	w := &world{dies: dies, after: after}
	healed := false // what failed would now succeed
	react := row("push", hold, func(_ context.Context, r domain.Recorded) error {
		time.Sleep(time.Duration(70+r.Position.Commit) * time.Millisecond)
		w.mu.Lock()
		fails := strings.Contains(string(r.Data), "bad") && !healed
		w.mu.Unlock()
		if fails {
			return fmt.Errorf("cannot: %w", commands.ErrPermanent)
		}
		_, err := w.do(func() { w.ran = append(w.ran, r) })
		return err
	})
	g := newRig(t, react)
	g.opt.Lanes, g.opt.Grace = 3, 100*time.Millisecond
	var all []domain.Recorded
	bad := map[domain.Position]bool{}

	o := g.opt
	o.Log, o.Store = g.log, g.store
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, key := range strings.Split("a b c a b b c a a c b a b c", " ") {
		data := "{}"
		if i == 4 {
			data = `{"bad":1}`
		}
		e := g.log.putType(t, domain.Stream("layer", key), "layer.removed", data)
		all, bad[e.Position] = append(all, e), i == 4
	}
	g.store.before = func(string) (bool, error) { return w.do(func() {}) }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.kill = cancel
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	heal := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		healed = true
	}
	if _, err := r.Settle(ctx); err == nil {
		time.Sleep(time.Second) // for the last write
		heal()
		r.ReplayAll(ctx, "push")
		time.Sleep(time.Second)
	}
	cancel()
	<-done
	died = w.dead

	state := g.store.state("push")
	known := map[domain.Position]bool{} // to the store, as handled or parked
	for _, e := range all {
		known[e.Position] = !state.Position.Before(e.Position) || slices.Contains(state.Done, e.Position)
	}
	rows, _ := g.store.Parked(t.Context(), "push")
	parked := map[domain.Position]bool{}
	for _, p := range rows {
		parked[p.Position] = true
		if held := p.Attempts == 0; held == bad[p.Position] || held && !hold {
			t.Errorf("died at %d: parked %+v", dies, p)
		}
	}
	ran := func(p domain.Position) bool {
		return slices.ContainsFunc(w.ran, func(r domain.Recorded) bool { return r.Position == p })
	}
	for p, ok := range known {
		if ok && !ran(p) && !parked[p] {
			t.Errorf("died at %d: the store says %s is handled, it is not", dies, p)
		}
	}
	had := len(w.ran)

	w.mu.Lock()
	w.dead, w.dies = false, -1
	w.mu.Unlock()
	r, stop := g.run()
	g.settle(r)
	for _, e := range w.ran[had:] {
		if known[e.Position] && !parked[e.Position] || parked[e.Position] && !healed {
			t.Errorf("died at %d: %s ran again though the store knew it", dies, e.Position)
		}
	}
	heal()
	if _, err := r.ReplayAll(t.Context(), "push"); err != nil {
		t.Errorf("died at %d: %v", dies, err)
	}
	stop()

	first := map[domain.StreamID][]domain.Position{}
	seen := map[domain.Position]bool{}
	for _, e := range w.ran {
		if !seen[e.Position] && (hold || !bad[e.Position]) {
			first[e.Stream] = append(first[e.Stream], e.Position)
		}
		seen[e.Position] = true
	}
	for s, ps := range first {
		if !slices.IsSortedFunc(ps, domain.Position.Compare) {
			t.Errorf("died at %d: %s in order %v", dies, s, ps)
		}
	}
	for _, e := range all {
		if !seen[e.Position] {
			t.Errorf("died at %d: %s was lost", dies, e.Position)
		}
	}
	if rows := g.store.why("push"); len(rows) > 0 {
		t.Errorf("died at %d: parked at last %v", dies, rows)
	}
	if st := g.store.state("push"); st.Position != all[len(all)-1].Position || len(st.Done) > 0 {
		t.Errorf("died at %d: saved at last %v", dies, st)
	}
	return died
}

// What is handled above the first unhandled message is saved too: after a restart only the gap runs again.
func TestOnlyTheGapRunsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		broken := true
		g := newRig(t, row("mend", false, func(_ context.Context, r domain.Recorded) error {
			if broken && r.Stream.ID() == "bad" {
				return errNo
			}
			j.note("%s", r.Position)
			return nil
		}))
		g.opt.Attempts = 100
		_, stop := g.run()
		for _, key := range []string{"a", "bad", "b", "bad", "c"} {
			g.log.put(t, domain.Stream("layer", key))
		}
		time.Sleep(saveWithin + time.Millisecond)
		at := func(ns ...uint64) (ps []domain.Position) {
			for _, n := range ns {
				ps = append(ps, domain.At(n))
			}
			return ps
		}
		want(t, "saved while running", commands.ReactorState{Position: domain.At(10), Done: at(30, 50)}, g.store.state("mend"))
		stop()
		want(t, "ran", set([]string{"10", "30", "50"}), set(j.take()))
		broken = false
		r, stop := g.run()
		g.settle(r)
		stop()
		want(t, "ran after restart", []string{"20", "40"}, j.take())
		want(t, "saved", commands.ReactorState{Position: domain.At(50)}, g.store.state("mend"))
	})
}

// A restart that ends before it has read as far as the one before forgets nothing of what that had done.
func TestDoneSetOutlivesAShortRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, row("mend", false, func(ctx context.Context, _ domain.Recorded) error { <-ctx.Done(); return ctx.Err() }))
		g.opt.Window = 1
		g.log.putType(t, "layer-a", "layer.amended", "{}")
		for _, s := range []domain.StreamID{"layer-a", "layer-b", "layer-c"} {
			g.log.put(t, s)
		}
		g.store.states["mend"] = commands.ReactorState{Done: []domain.Position{domain.At(30), domain.At(40)}}
		_, stop := g.run()
		synctest.Wait()
		stop()
		want(t, "saved", commands.ReactorState{Position: domain.At(10), Done: []domain.Position{domain.At(30), domain.At(40)}}, g.store.state("mend"))
	})
}

// A message that stands parked is not run again by itself, though the position was not saved after it.
func TestParkedDoesNotRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, row("mend", false, func(context.Context, domain.Recorded) error { return commands.ErrPermanent }))
		r, stop := g.run()
		g.log.put(t, "layer-a")
		g.settle(r)
		stop()
		g.store.states["mend"] = commands.ReactorState{}
		r, stop = g.run()
		g.settle(r)
		want(t, "status", Status{Reaction: "mend", Position: domain.At(10), Read: domain.At(10), Parked: 1}, r.Status()[0])
		stop()
	})
}

// The shared reader may hand out what a subscription has read by itself already.
func TestTakeIgnoresWhatWasRead(t *testing.T) {
	log := newMemLog()
	s := newSubscription(t.Context(), &Config{Log: log, Window: 10}, nil, feedOf(row("mend", false, nil)), commands.ReactorState{}, nil)
	first, second := log.put(t, "layer-a"), log.put(t, "layer-a")
	for _, r := range []domain.Recorded{first, second, first, second} {
		if !s.take(&found{rec: r}) {
			t.Fatal("window is full")
		}
	}
	if n := len(s.window.marks); n != 2 {
		t.Errorf("%d messages in the window, want 2", n)
	}
}
