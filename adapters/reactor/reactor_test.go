package reactor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
)

// do is what a reaction of a test does.
type do func(ctx context.Context, r domain.Recorded) error

// row is a reaction to layer.removed whose key is the stream.
func row(name string, hold bool, f do) commands.Reaction {
	return commands.Reaction{Name: name, On: []string{"layer.removed"}, Key: byStream, Hold: hold,
		Do: func(ctx context.Context, _ *commands.Service, r domain.Recorded, _ domain.Event) error {
			return f(ctx, r)
		}}
}

// rig is a log and a store that outlive the reactors over them.
type rig struct {
	t     testing.TB
	log   *memLog
	store *memStore
	opt   Options
	logs  bytes.Buffer
	logTo io.Writer // one for all reactors over logs
}

func newRig(t testing.TB, rows ...commands.Reaction) *rig {
	g := &rig{t: t, log: newMemLog(), store: newMemStore(), opt: Options{Reactions: rows, Grace: time.Second, Backoff: func(n int) time.Duration { return time.Duration(n) * time.Second }}}
	g.logTo = zerolog.SyncWriter(&g.logs)
	return g
}

// run starts a reactor; stop ends it and reports what Run said.
func (g *rig) run() (r *Reactor, stop func()) {
	g.t.Helper()
	o := g.opt
	o.Log, o.Store = g.log, g.store
	r, err := New(o)
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(zerolog.New(g.logTo).WithContext(g.t.Context()))
	done := make(chan error, 1)
	if err := r.Prepare(ctx); err != nil {
		g.t.Fatal(err)
	}
	go func() { done <- r.Run(ctx) }()
	return r, func() {
		g.t.Helper()
		cancel()
		if err := <-done; err != nil {
			g.t.Errorf("run: %v", err)
		}
	}
}

func (g *rig) settle(r *Reactor) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Hour)
	defer cancel()
	if _, err := r.Settle(ctx); err != nil {
		g.t.Fatal(err)
	}
}

// journal notes what happens, from many goroutines.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(format string, a ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, a...))
}

func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	lines := j.lines
	j.lines = nil
	return lines
}

func want(t testing.TB, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

var errNo = errors.New("the gateway says no")

// A new reaction on a log that has events must be told where to begin; on a new log it need not be.
func TestFirstPosition(t *testing.T) {
	for _, c := range []struct {
		name  string
		from  From
		empty bool
		saved bool
		err   error
		sees  []string
	}{
		{name: "empty log", empty: true, sees: []string{"later"}},
		{name: "old log", err: ErrNoPosition},
		{name: "old log, head", from: FromHead, sees: []string{"later"}},
		{name: "old log, start", from: FromStart, sees: []string{"earlier", "later"}},
		{name: "saved position, head", from: FromHead, saved: true, sees: []string{"earlier", "later"}},
		{name: "unknown word", from: "tail", err: ErrBadFrom},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var j journal
				g := newRig(t, row("mend", false, func(_ context.Context, r domain.Recorded) error { j.note("%s", r.Stream.ID()); return nil }))
				g.opt.From = c.from
				if !c.empty {
					g.log.put(t, "layer-earlier")
				}
				if c.saved {
					g.store.states["mend"] = commands.ReactorState{}
				}
				o := g.opt
				o.Log, o.Store = g.log, g.store
				r, err := New(o)
				if err == nil {
					err = r.Prepare(t.Context())
				}
				if !errors.Is(err, c.err) {
					t.Fatalf("got %v, want %v", err, c.err)
				}
				if c.err != nil {
					if c.err == ErrNoPosition && (!strings.Contains(err.Error(), "mend") || !strings.Contains(err.Error(), "--reactor-from=")) {
						t.Errorf("%q names neither reaction nor flag", err)
					}
					if len(g.store.states) != 0 {
						t.Error("a position was saved all the same")
					}
					return
				}
				g.log.put(t, "layer-later") // after Prepare: the log is not empty any more
				r, stop := g.run()
				g.settle(r)
				stop()
				want(t, "seen", set(c.sees), set(j.take()))
			})
		})
	}
}

// Run refuses by itself too, and tells those who wait.
func TestRunRefusesWithoutPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, row("mend", false, nil), row("push", false, nil))
		e := g.log.put(t, "layer-a")
		r, err := New(Options{Log: g.log, Store: g.store, Reactions: g.opt.Reactions})
		if err != nil {
			t.Fatal(err)
		}
		waits := make(chan error, 1)
		go func() { waits <- r.WaitFor(t.Context(), e.Position) }()
		err = r.Run(t.Context())
		if !errors.Is(err, ErrNoPosition) || !strings.Contains(err.Error(), "mend") || !strings.Contains(err.Error(), "push") {
			t.Errorf("run: %v", err)
		}
		if err := <-waits; !errors.Is(err, ErrClosed) {
			t.Errorf("wait: %v", err)
		}
	})
}

// A table without rows is always level.
func TestEmptyTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		r, stop := g.run()
		g.log.put(t, "layer-a")
		g.settle(r)
		stop()
	})
}

// A replay finds its event where the row says, or says that it does not.
func TestReplayOfAnotherEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, row("mend", false, func(context.Context, domain.Recorded) error { t.Error("ran"); return nil }))
		e := commands.Parked{Reaction: "mend", EventID: uuid.New(), Position: domain.At(5), Stream: "layer-a", Key: "layer-a", Attempts: 1}
		gone := commands.Parked{Reaction: "mend", EventID: uuid.New(), Position: domain.At(6), Stream: "layer-none", Key: "layer-none", Attempts: 1}
		g.store.Park(t.Context(), e)
		g.store.Park(t.Context(), gone)
		g.opt.From = FromHead
		g.log.put(t, "layer-a")
		r, stop := g.run()
		defer stop()
		g.settle(r)
		if err := r.Replay(t.Context(), "mend", e.EventID); err == nil {
			t.Error("replayed an event with another id")
		}
		if err := r.Replay(t.Context(), "mend", gone.EventID); !errors.Is(err, domain.ErrNoStream) {
			t.Errorf("replay from a stream that is not there: %v", err)
		}
		want(t, "parked", 2, len(g.store.why("mend")))
	})
}

// Of what waits in a stream the last is carried out, and what is moot is not; a restart repeats and loses nothing.
func TestLatestAndMoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		under, release := make(chan struct{}, 10), make(chan struct{})
		mend := row("mend", false, func(ctx context.Context, r domain.Recorded) error {
			under <- struct{}{}
			select {
			case <-release:
			case <-ctx.Done():
				return ctx.Err()
			}
			j.note("%s %d", r.Stream.ID(), r.Revision)
			return nil
		})
		mend.Latest = true
		mend.Moot = func(r domain.Recorded, _ domain.Event) bool { return r.Stream == "layer-moot" }
		g := newRig(t, mend)
		_, stop := g.run()
		put := func(streams ...domain.StreamID) {
			for _, s := range streams {
				g.log.put(t, s)
			}
		}
		put("layer-a")
		<-under
		put("layer-a", "layer-moot", "layer-a", "layer-a", "layer-moot")
		synctest.Wait()
		stop() // while the first is under way, and with the last still to come
		want(t, "handled before the restart", []string(nil), j.take())
		close(release)
		var r *Reactor
		r, stop = g.run()
		g.settle(r)
		ran := j.take()
		if len(ran) == 0 || ran[len(ran)-1] != "a 3" || slices.ContainsFunc(ran, func(s string) bool { return strings.HasPrefix(s, "moot") }) {
			t.Errorf("ran %v", ran)
		}
		stop()
		state := g.store.states["mend"]
		r, stop = g.run()
		g.settle(r)
		want(t, "after all is done", []string(nil), j.take())
		stop()
		want(t, "its position", state, g.store.states["mend"])
	})
}

func TestNewRefusesBadTables(t *testing.T) {
	good := row("mend", false, nil)
	heldAndLatest := row("mend", true, nil)
	heldAndLatest.Latest = true
	for name, rows := range map[string][]commands.Reaction{
		"two of a name": {good, good},
		"held, latest":  {heldAndLatest},
		"no name":       {{On: good.On, Key: good.Key, Do: good.Do}},
		"no events":     {{Name: "x", Key: good.Key, Do: good.Do}},
		"no key":        {{Name: "x", On: good.On, Do: good.Do}},
		"nothing to do": {{Name: "x", On: good.On, Key: good.Key}},
	} {
		if _, err := New(Options{Reactions: rows}); !errors.Is(err, ErrBadReaction) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The command runs as caused by the event, logs with the reaction's fields, and one line tells of the run.
func TestRunCarriesCauseAndLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, row("mend", false, func(ctx context.Context, r domain.Recorded) error {
			want(t, "actor", "system:mend", commands.CallerFrom(ctx).Actor)
			zerolog.Ctx(ctx).Info().Msg("inside")
			if _, ok := ctx.Deadline(); !ok {
				t.Error("an attempt has no end")
			}
			return nil
		}))
		r, stop := g.run()
		g.log.put(t, "layer-a")
		g.settle(r)
		stop()
		lines := strings.Split(strings.TrimSpace(g.logs.String()), "\n")
		want(t, "lines", []string{
			`{"level":"info","reaction":"mend","correlation_id":"corr-1","message":"inside"}`,
			`{"level":"info","reaction":"mend","correlation_id":"corr-1","outcome":"done","event_type":"layer.removed","stream":"layer-a","revision":0,"position":"10","attempt":1,"elapsed_ms":0,"message":"reaction run"}`,
		}, lines)
	})
}

// A failing message comes again when due, n seconds after the n-th attempt here, and after its last
// attempt stands parked. Other keys go on meanwhile; its own key waits, and goes on after (no hold).
func TestRetryThenPark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		var j journal
		g := newRig(t, row("mend", false, func(_ context.Context, r domain.Recorded) error {
			j.note("%v %s@%d", time.Since(begun), r.Stream.ID(), r.Revision)
			if r.Stream.ID() == "a" && r.Revision == 0 {
				return errNo
			}
			return nil
		}))
		g.opt.Attempts, g.opt.Lanes = 3, 1
		r, stop := g.run()
		bad := g.log.put(t, "layer-a")
		g.log.put(t, "layer-a")
		g.log.put(t, "layer-b")
		g.settle(r)
		want(t, "runs", []string{"0s a@0", "0s b@0", "1s a@0", "3s a@0", "3s a@1"}, j.take())
		rows, err := r.List(t.Context(), "mend")
		if err != nil {
			t.Fatal(err)
		}
		want(t, "parked", []commands.Parked{{Reaction: "mend", EventID: bad.ID, Position: bad.Position, Stream: "layer-a", Type: "layer.removed",
			Key: "layer-a", Reason: errNo.Error(), Attempts: 3, At: begun.Add(3 * time.Second).UTC()}}, rows)
		want(t, "status", []Status{{Reaction: "mend", Position: domain.At(30), Read: domain.At(30), Parked: 1, Handled: 2, Retried: 2, ParkedTotal: 1}}, r.Status())
		stop()
		want(t, "saved", commands.ReactorState{Position: domain.At(30)}, g.store.state("mend"))
	})
}

// While somebody outside is away a message is tried beyond its attempts, and goes well when they are back.
func TestAwayIsNeverParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		g := newRig(t, row("mend", true, func(context.Context, domain.Recorded) error {
			if time.Since(begun) < 40*time.Second {
				return fmt.Errorf("ask: %w: no route", commands.ErrAway)
			}
			return nil
		}))
		g.opt.Attempts = 3
		r, stop := g.run()
		defer stop()
		g.log.put(t, "layer-a")
		g.settle(r)
		want(t, "parked", []string(nil), g.store.why("mend"))
		want(t, "after", 45*time.Second, time.Since(begun))
	})
}

// What no retry can cure is parked at once.
func TestPermanentIsParkedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		g := newRig(t, row("mend", false, func(context.Context, domain.Recorded) error {
			return fmt.Errorf("render: %w: no such model", commands.ErrPermanent)
		}))
		r, stop := g.run()
		defer stop()
		g.log.put(t, "layer-a")
		g.settle(r)
		want(t, "parked", []string{"layer-a@0 1"}, g.store.why("mend"))
		want(t, "after", time.Duration(0), time.Since(begun))
	})
}

// With hold, later events of the key are kept behind the parked one, in the store, not in memory; they
// follow in order once it is replayed. Other keys never notice.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		broken := true
		g := newRig(t, row("push", true, func(_ context.Context, r domain.Recorded) error {
			if broken && r.Stream.ID() == "a" && r.Revision == 0 {
				return errNo
			}
			j.note("%s@%d", r.Stream.ID(), r.Revision)
			return nil
		}))
		g.opt.Attempts = 2
		r, stop := g.run()
		var as []domain.Recorded
		for range 3 {
			as = append(as, g.log.put(t, "layer-a"))
		}
		g.log.put(t, "layer-b")
		g.settle(r)
		want(t, "ran", []string{"b@0"}, j.take())
		want(t, "parked", []string{"layer-a@0 2", "layer-a@1 0", "layer-a@2 0"}, g.store.why("push"))
		stop()

		r, stop = g.run() // the hold outlives a restart
		g.log.put(t, "layer-a")
		g.settle(r)
		want(t, "parked after restart", []string{"layer-a@0 2", "layer-a@1 0", "layer-a@2 0", "layer-a@3 0"}, g.store.why("push"))
		if err := r.Replay(t.Context(), "push", as[1].ID); !errors.Is(err, ErrHeld) {
			t.Errorf("replay of a held message: %v", err)
		}
		if err := r.Replay(t.Context(), "push", as[0].ID); !errors.Is(err, ErrParkedAgain) {
			t.Errorf("replay while it still fails: %v", err)
		}
		want(t, "parked again", []string{"layer-a@0 4", "layer-a@1 0", "layer-a@2 0", "layer-a@3 0"}, g.store.why("push"))
		broken = false
		if err := r.Replay(t.Context(), "push", as[0].ID); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		g.log.put(t, "layer-a") // no longer held
		g.settle(r)
		want(t, "ran", []string{"a@0", "a@1", "a@2", "a@3", "a@4"}, j.take())
		want(t, "parked at last", []string(nil), g.store.why("push"))
		if err := r.Replay(t.Context(), "push", as[0].ID); !errors.Is(err, ErrNotParked) {
			t.Errorf("replay of what is not parked: %v", err)
		}
		stop()
		if err := r.Replay(t.Context(), "push", as[0].ID); !errors.Is(err, ErrClosed) {
			t.Errorf("replay after the end: %v", err)
		}
	})
}

// Discarding the head lets the key go on; discarding a held message takes only that one out. A follower
// that fails holds the rest again.
func TestDiscard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g := newRig(t, row("push", true, func(_ context.Context, r domain.Recorded) error {
			if r.Revision == 0 || r.Revision == 3 {
				return commands.ErrPermanent
			}
			j.note("%d", r.Revision)
			return nil
		}))
		r, stop := g.run()
		defer stop()
		var as []domain.Recorded
		for range 6 {
			as = append(as, g.log.put(t, "layer-a"))
		}
		g.settle(r)
		for _, i := range []int{1, 0} {
			if err := r.Discard(t.Context(), "push", as[i].ID); err != nil {
				t.Errorf("discard %d: %v", i, err)
			}
		}
		synctest.Wait()
		want(t, "ran", []string{"2"}, j.take())
		want(t, "parked", []string{"layer-a@3 1", "layer-a@4 0", "layer-a@5 0"}, g.store.why("push"))
		if err := r.Discard(t.Context(), "push", as[3].ID); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		want(t, "ran after", []string{"4", "5"}, j.take())
		if err := r.Discard(t.Context(), "push", as[3].ID); !errors.Is(err, ErrNotParked) {
			t.Errorf("discard twice: %v", err)
		}
		if err := r.Discard(t.Context(), "pull", uuid.New()); !errors.Is(err, ErrNoReaction) {
			t.Errorf("unknown reaction: %v", err)
		}
	})
}

// A crash between taking the head out of the store and queueing what it held: the next start goes on.
func TestHeldFollowsAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g := newRig(t, row("push", true, func(_ context.Context, r domain.Recorded) error {
			if r.Revision == 0 {
				return commands.ErrPermanent
			}
			j.note("%d", r.Revision)
			return nil
		}))
		r, stop := g.run()
		head := g.log.put(t, "layer-a")
		g.log.put(t, "layer-a")
		g.log.put(t, "layer-a")
		g.settle(r)
		stop()
		if err := g.store.Unpark(t.Context(), "push", head.ID); err != nil {
			t.Fatal(err)
		}
		_, stop = g.run()
		synctest.Wait()
		stop()
		want(t, "ran", []string{"1", "2"}, j.take())
		want(t, "parked", []string(nil), g.store.why("push"))
	})
}

func TestReplayAll(t *testing.T) {
	for _, hold := range []bool{false, true} {
		t.Run(fmt.Sprintf("hold=%v", hold), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var j journal
				broken := true
				g := newRig(t, row("push", hold, func(_ context.Context, r domain.Recorded) error {
					if broken || r.Stream.ID() == "c" {
						return commands.ErrPermanent
					}
					j.note("%s@%d", r.Stream.ID(), r.Revision)
					return nil
				}))
				r, stop := g.run()
				defer stop()
				for _, s := range []domain.StreamID{"layer-a", "layer-a", "layer-a", "layer-c"} {
					g.log.put(t, s)
				}
				g.settle(r)
				broken = false
				n, err := r.ReplayAll(t.Context(), "push")
				if n != 3 || !errors.Is(err, ErrParkedAgain) {
					t.Errorf("replayed %d, %v", n, err)
				}
				want(t, "ran", []string{"a@0", "a@1", "a@2"}, j.take())
				want(t, "parked", []string{"layer-c@0 2"}, g.store.why("push"))
			})
		})
	}
}

// A panic is an error like any other: retried, parked, and its value (which may be a secret) shown nowhere.
func TestPanicIsRetriedAndParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, row("mend", false, func(_ context.Context, r domain.Recorded) error {
			switch r.Revision {
			case 0:
				panic("hunter2")
			case 1:
				var none []int
				_ = none[int(r.Revision)]
			}
			return nil
		}))
		g.opt.Attempts = 2
		r, stop := g.run()
		for range 3 {
			g.log.put(t, "layer-a")
		}
		g.settle(r)
		rows, _ := r.List(t.Context(), "")
		var reasons []string
		for _, p := range rows {
			reasons = append(reasons, p.Reason)
		}
		stop()
		want(t, "reasons", []string{"panic: string", "panic: runtime error: index out of range [1] with length 0"}, reasons)
		if logs := g.logs.String(); strings.Contains(logs, "hunter2") || !strings.Contains(logs, "reactor_test.go") {
			t.Errorf("logs show the value, or no stack:\n%s", logs)
		}
	})
}

// An event that cannot be decoded, or whose key panics, is parked and delays nobody.
func TestBrokenEventIsParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		r1 := row("mend", false, func(_ context.Context, r domain.Recorded) error { j.note("%s", r.Stream.ID()); return nil })
		r1.On = []string{"layer.defined", "layer.removed"}
		r1.Key = func(r domain.Recorded, e domain.Event) string { return string(e.(domain.LayerRemoved).EventType()) }
		g := newRig(t, r1)
		r, stop := g.run()
		defer stop()
		g.log.putType(t, "layer-torn", "layer.defined", `{"layer_id":`)
		g.log.putType(t, "layer-other", "layer.defined", `{}`)
		g.log.put(t, "layer-good")
		g.settle(r)
		want(t, "ran", []string{"good"}, j.take())
		want(t, "parked", []string{"layer-torn@0 1", "layer-other@0 1"}, g.store.why("mend"))
	})
}

// An attempt that takes too long has its context ended; that counts as an attempt.
func TestTimeoutOfAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		g := newRig(t, row("mend", false, func(ctx context.Context, _ domain.Recorded) error { <-ctx.Done(); return ctx.Err() }))
		g.opt.Attempts, g.opt.Timeout = 2, 10*time.Second
		r, stop := g.run()
		defer stop()
		g.log.put(t, "layer-a")
		g.settle(r)
		want(t, "parked", []string{"layer-a@0 2"}, g.store.why("mend"))
		want(t, "after", 21*time.Second, time.Since(begun))
	})
}

// At shutdown what is under way may finish and counts; what does not finish within the grace has its context
// ended, is not parked, not counted, and comes again after the restart. So does what waits for a retry.
func TestShutdownWithWorkInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		var second bool
		g := newRig(t, row("mend", false, func(ctx context.Context, r domain.Recorded) error {
			j.note("%s", r.Stream.ID())
			switch {
			case second:
			case r.Stream.ID() == "quick":
				time.Sleep(500 * time.Millisecond)
			case r.Stream.ID() == "failing":
				return errNo
			case r.Stream.ID() == "stubborn":
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}))
		g.opt.Attempts = 2
		_, stop := g.run()
		g.log.put(t, "layer-quick")
		g.log.put(t, "layer-stubborn")
		g.log.put(t, "layer-failing")
		synctest.Wait()
		g.opt.Attempts = 1 // had the interruption counted, it would be parked at once
		begun := time.Now()
		stop()
		want(t, "shutdown took", time.Second, time.Since(begun))
		want(t, "parked", []string(nil), g.store.why("mend"))
		want(t, "saved", commands.ReactorState{Position: domain.At(10)}, g.store.state("mend"))
		if n := strings.Count(g.logs.String(), `"outcome":"interrupted"`); n != 1 {
			t.Errorf("%d lines tell of an interruption", n)
		}
		j.take()
		second = true
		r, stop := g.run()
		g.settle(r)
		stop()
		want(t, "again after restart", map[string]bool{"stubborn": true, "failing": true}, set(j.take()))
	})
}

// A handler that ignores its context does not keep the program from ending. In real time: the router
// waits under a mutex, which the fake clock does not see through.
func TestShutdownAbandonsTheDeaf(t *testing.T) {
	release, begun, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	g := newRig(t, row("mend", false, func(context.Context, domain.Recorded) error {
		close(begun)
		<-release
		close(ended)
		return nil
	}))
	g.opt.Grace = 10 * time.Millisecond
	_, stop := g.run()
	g.log.put(t, "layer-a")
	<-begun
	stop()
	want(t, "saved", commands.ReactorState{}, g.store.state("mend"))
	close(release)
	<-ended
}

func set(lines []string) map[string]bool {
	m := map[string]bool{}
	for _, l := range lines {
		m[l] = true
	}
	return m
}

// When the store refuses to park, the message is not lost and not run again: parking is tried again.
func TestParkingIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs, refused := 0, 0
		g := newRig(t, row("mend", false, func(context.Context, domain.Recorded) error { runs++; return commands.ErrPermanent }))
		g.store.before = func(op string) (bool, error) {
			if op == "park" && refused < 3 {
				refused++
				return false, domain.ErrReadOnly
			}
			return true, nil
		}
		r, stop := g.run()
		defer stop()
		g.log.put(t, "layer-a")
		g.settle(r)
		want(t, "runs", 1, runs)
		want(t, "parked", []string{"layer-a@0 1"}, g.store.why("mend"))
	})
}

// A log that drops its subscription costs time and no event.
func TestLogDropsSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g := newRig(t, row("mend", false, func(_ context.Context, r domain.Recorded) error { j.note("%d", r.Revision); return nil }))
		r, stop := g.run()
		defer stop()
		var all []string
		for i := range 20 {
			g.log.put(t, "layer-a")
			all = append(all, fmt.Sprint(i))
			if i%4 == 0 {
				synctest.Wait()
				g.log.drop()
			}
		}
		g.settle(r)
		want(t, "ran", all, j.take())
	})
}

// So does one that cannot be read for a while.
func TestLogCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		begun := time.Now()
		g := newRig(t, row("mend", false, func(_ context.Context, r domain.Recorded) error { j.note("%d", r.Revision); return nil }))
		g.opt.From = FromStart
		for range 6 {
			g.log.put(t, "layer-a")
		}
		g.log.failing = 4
		r, stop := g.run()
		defer stop()
		synctest.Wait()
		if err := r.WaitFor(t.Context(), domain.At(60)); err != nil {
			t.Error(err)
		}
		want(t, "ran", []string{"0", "1", "2", "3", "4", "5"}, j.take())
		want(t, "after", 1500*time.Millisecond, time.Since(begun)) // 100, 200, 400, 800 ms
	})
}

// Level reactions share one reader; each event reaches all who want it without another read of the log.
func TestOneReaderForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rows []commands.Reaction
		var mu sync.Mutex
		ran := map[string]int{}
		for _, name := range []string{"one", "two", "three"} {
			rows = append(rows, row(name, false, func(context.Context, domain.Recorded) error {
				mu.Lock()
				defer mu.Unlock()
				ran[name]++
				return nil
			}))
		}
		g := newRig(t, rows...)
		_, stop := g.run()
		defer stop()
		synctest.Wait()
		reads := g.log.reads
		for range 50 {
			g.log.put(t, "layer-a")
			g.log.putType(t, "layer-a", "layer.amended", "{}")
			synctest.Wait()
		}
		want(t, "ran", map[string]int{"one": 50, "two": 50, "three": 50}, ran)
		want(t, "subscriptions", 1, g.log.subs)
		want(t, "reads", reads, g.log.reads)
	})
}

// A reaction whose window is full delays no other, and catches up by itself when it can go on.
func TestFullWindowDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var slow, quick journal
		g := newRig(t,
			row("slow", false, func(_ context.Context, r domain.Recorded) error { <-gate; slow.note("%d", r.Revision); return nil }),
			row("quick", false, func(_ context.Context, r domain.Recorded) error { quick.note("%d", r.Revision); return nil }))
		g.opt.Window, g.opt.Lanes = 8, 2
		r, stop := g.run()
		defer stop()
		var all []string
		for i := range 100 {
			g.log.put(t, "layer-a")
			all = append(all, fmt.Sprint(i))
		}
		synctest.Wait()
		want(t, "quick ran", all, quick.take())
		if st := r.Status()[0]; st.Pending != 8 || st.InFlight != 1 {
			t.Errorf("slow reads ahead without bound: %+v", st)
		}
		close(gate)
		g.settle(r)
		want(t, "slow ran", all, slow.take())
	})
}

// Positions are written at most every 200 ms or 500 messages, and at the end.
func TestPositionsAreWrittenNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, row("mend", false, func(context.Context, domain.Recorded) error { return nil }))
		r, stop := g.run()
		saves := func() int { g.store.mu.Lock(); defer g.store.mu.Unlock(); return g.store.saves }
		base := saves()
		for range 100 {
			g.log.put(t, "layer-a")
			time.Sleep(10 * time.Millisecond)
		}
		g.settle(r)
		time.Sleep(time.Second)
		if n := saves() - base; n < 4 || n > 6 {
			t.Errorf("%d writes in a second of steady work", n)
		}
		want(t, "saved", commands.ReactorState{Position: domain.At(1000)}, g.store.state("mend"))
		base = saves()
		for range 5 { // mere reading is written less often
			g.log.putType(t, "layer-a", "layer.amended", "{}")
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Second)
		if n := saves() - base; n < 1 || n > 2 {
			t.Errorf("%d writes for events nobody wants", n)
		}
		base = saves()
		for range 1200 {
			g.log.put(t, "layer-a")
		}
		g.settle(r)
		if n := saves() - base; n < 1 || n > 3 {
			t.Errorf("%d writes for 1200 messages at once", n)
		}
		stop()
		head, _ := g.log.Head(t.Context())
		want(t, "saved at the end", commands.ReactorState{Position: head}, g.store.state("mend"))
		base = saves()
		_, stop = g.run()
		synctest.Wait()
		stop()
		want(t, "writes of a run without events", base, saves())
	})
}

// WaitFor answers when all reactions are there, and no later than its context or the end.
func TestWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		g := newRig(t, row("quick", false, func(context.Context, domain.Recorded) error { return nil }),
			row("slow", false, func(context.Context, domain.Recorded) error { <-gate; return nil }))
		r, stop := g.run()
		e := g.log.put(t, "layer-a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.WaitFor(ctx, e.Position); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while slow is at it: %v", err)
		}
		close(gate)
		if err := r.WaitFor(t.Context(), e.Position); err != nil {
			t.Error(err)
		}
		later := make(chan error, 1)
		go func() { later <- r.WaitFor(t.Context(), domain.At(1_000_000)) }()
		synctest.Wait()
		stop()
		if err := <-later; !errors.Is(err, ErrClosed) {
			t.Errorf("at the end: %v", err)
		}
		if err := r.Run(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("run twice: %v", err)
		}
	})
}

// Settle follows reactions to the end of what they record, also when the log ends with events of the store.
func TestSettleFollowsChains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g *rig
		g = newRig(t, row("chain", false, func(_ context.Context, r domain.Recorded) error {
			time.Sleep(time.Second)
			if r.Revision < 5 {
				g.log.put(t, r.Stream)
			} else {
				g.log.put(t, "$stats")
			}
			return nil
		}))
		r, stop := g.run()
		g.log.put(t, "layer-a")
		p, err := r.Settle(t.Context())
		if err != nil || p != domain.At(60) {
			t.Errorf("settled at %s, %v", p, err)
		}
		stop()
		r, stop = g.run() // a start behind such an event sees that it is level
		defer stop()
		head, _ := g.log.Head(t.Context())
		if err := r.WaitFor(t.Context(), head); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := g.log.reads; n > 20 {
			t.Errorf("%d reads of the log to become level", n)
		}
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		gate := make(chan struct{})
		g := newRig(t, row("mend", false, func(_ context.Context, r domain.Recorded) error {
			switch r.Stream.ID() {
			case "bad":
				return commands.ErrPermanent
			case "slow":
				<-gate
			}
			return nil
		}))
		g.opt.Registerer = reg
		_, stop := g.run()
		g.log.put(t, "layer-a")
		g.log.put(t, "layer-bad")
		g.log.put(t, "layer-slow")
		g.log.put(t, "layer-slow")
		synctest.Wait()
		if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP ledgerline_reaction_handled_total Messages a reaction has handled.
# TYPE ledgerline_reaction_handled_total counter
ledgerline_reaction_handled_total{reaction="mend"} 1
# HELP ledgerline_reaction_in_flight Messages under way.
# TYPE ledgerline_reaction_in_flight gauge
ledgerline_reaction_in_flight{reaction="mend"} 1
# HELP ledgerline_reaction_lag_events Messages read and not handled yet (at most the window).
# TYPE ledgerline_reaction_lag_events gauge
ledgerline_reaction_lag_events{reaction="mend"} 2
# HELP ledgerline_reaction_lag_position Distance from what is handled to the end of the log, in the store's positions.
# TYPE ledgerline_reaction_lag_position gauge
ledgerline_reaction_lag_position{reaction="mend"} 20
# HELP ledgerline_reaction_parked Messages standing parked.
# TYPE ledgerline_reaction_parked gauge
ledgerline_reaction_parked{reaction="mend"} 1
# HELP ledgerline_reaction_parked_total Messages a reaction has parked, those held behind others too.
# TYPE ledgerline_reaction_parked_total counter
ledgerline_reaction_parked_total{reaction="mend"} 1
# HELP ledgerline_reaction_retried_total Attempts that failed and were put back.
# TYPE ledgerline_reaction_retried_total counter
ledgerline_reaction_retried_total{reaction="mend"} 0
`)); err != nil {
			t.Error(err)
		}
		close(gate)
		stop()
	})
}

// A publisher refuses what the log could not keep, and all after its end.
func TestPublisherRefuses(t *testing.T) {
	k := kit{newMemLog(), newMemStore(), 1, byStream}
	pub, _ := k.one(t)
	if err := pub.Publish("topic-a", newMessage(t.Context(), domain.Recorded{}), newMessage(t.Context(), domain.Recorded{ID: uuid.New()})); err != nil {
		t.Error(err)
	}
	bad := newMessage(t.Context(), domain.Recorded{})
	bad.UUID = "one"
	if err := pub.Publish("topic-a", bad); err == nil {
		t.Error("published a message without a proper id")
	}
	pub.Close()
	if err := pub.Publish("topic-a", newMessage(t.Context(), domain.Recorded{})); !errors.Is(err, ErrClosed) {
		t.Errorf("published after the end: %v", err)
	}
}
