package contract

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ledgerline/commands"
	"ledgerline/domain"
)

// follow subscribes behind after and hands on what concerns prefix, until ctx ends. The channel is
// unbuffered: how fast it is emptied is how fast the subscriber is.
func (h h) follow(ctx context.Context, after domain.Position, prefix string) (events <-chan domain.Recorded, ended <-chan error) {
	out, end := make(chan domain.Recorded), make(chan error, 1)
	go func() {
		defer close(out)
		for r, err := range h.Log.Subscribe(ctx, after) {
			if err != nil {
				end <- err
				return
			}
			if !strings.HasPrefix(string(r.Stream), prefix) {
				continue
			}
			select {
			case out <- r:
			case <-ctx.Done():
				end <- ctx.Err()
				return
			}
		}
		end <- errors.New("subscription ended without an error")
	}()
	return out, end
}

// take receives n events.
func (h h) take(events <-chan domain.Recorded, n int) []domain.Recorded {
	h.Helper()
	list := make([]domain.Recorded, 0, n)
	for len(list) < n {
		select {
		case r, more := <-events:
			if !more {
				h.Fatalf("subscription ended after %d of %d events", len(list), n)
			}
			list = append(list, r)
		case <-h.ctx.Done():
			h.Fatalf("%d of %d events came", len(list), n)
		}
	}
	return list
}

// same wants what a subscriber got to be exactly what the log holds behind after.
func (h h) same(got []domain.Recorded, after domain.Position, prefix string) {
	h.Helper()
	want := h.all(after, prefix)
	if len(got) != len(want) {
		h.Fatalf("the subscriber saw %d events, the log holds %d", len(got), len(want))
	}
	for i := range want {
		if got[i].Position != want[i].Position || domain.LeafHash(got[i]) != domain.LeafHash(want[i]) {
			h.Fatalf("event %d: the subscriber saw revision %d of %s at %s, the log holds revision %d of %s at %s", i,
				got[i].Revision, got[i].Stream, got[i].Position, want[i].Revision, want[i].Stream, want[i].Position)
		}
	}
}

var catchingUp = []fact{
	{"S1 a subscription begins behind its position, exclusive", func(h h) {
		start, s := h.head(), stream("s1")
		var at []domain.Position
		for i, e := range some(5) {
			at = append(at, h.must(s, domain.Revision(i-1), e))
		}
		for i, after := range append([]domain.Position{start}, at[:4]...) {
			ctx, cancel := context.WithCancel(h.ctx)
			events, _ := h.follow(ctx, after, "s1-")
			if got := h.take(events, 5-i); got[0].Revision != domain.Revision(i) {
				h.Fatalf("behind %s the first is revision %d, want %d", after, got[0].Revision, i)
			}
			cancel()
		}
	}},
	{"S2 history first, then what is written live", func(h h) {
		start, s := h.head(), stream("s2")
		h.must(s, domain.NoStream, some(700)...)
		events, _ := h.follow(h.ctx, start, "s2-")
		got := h.take(events, 700)
		for i := range 5 {
			h.must(s, domain.Revision(699+i), some(1)...)
			got = append(got, h.take(events, 1)...)
		}
		h.same(got, start, "s2-")
	}},
	{"S4 a subscription at the end waits for the first event", func(h h) {
		start := h.head()
		events, _ := h.follow(h.ctx, start, "s4-")
		s := stream("s4")
		h.must(s, domain.NoStream, some(2)...)
		h.same(h.take(events, 2), start, "s4-")
	}},
	{"S7 a slow reader loses nothing, gets nothing twice, keeps the order", func(h h) {
		start, s := h.head(), stream("s7")
		events, _ := h.follow(h.ctx, start, "s7-")
		got := []domain.Recorded(nil)
		for i := range 40 { // each round writes fifty and reads one: the reader falls ever further behind
			h.must(s, domain.Revision(i*50-1), some(50)...)
			got = append(got, h.take(events, 1)...)
		}
		got = append(got, h.take(events, 2000-len(got))...)
		h.same(got, start, "s7-")
	}},
	{"S8 8 writers during the catch-up leave no gap at the seam", func(h h) {
		const writers, each = 8, 1250
		start := h.head()
		h.must(stream("s8"), domain.NoStream, some(500)...)
		events, _ := h.follow(h.ctx, start, "s8-")
		written := make(chan struct{})
		go func() {
			defer close(written)
			together(writers, func(int) {
				s := stream("s8")
				for i := 0; i < each; i += 10 {
					if _, err := h.Log.Append(h.ctx, s, domain.Revision(i-1), some(10)); err != nil {
						h.Error(err)
						return
					}
				}
			})
		}()
		got := h.take(events, 500+writers*each)
		<-written
		h.same(got, start, "s8-")
	}},
	{"S9 dropped and resumed behind the last handled, nothing is lost and nothing comes twice", func(h h) {
		start, s := h.head(), stream("s9")
		after, got := start, []domain.Recorded(nil)
		for i := range 10 {
			h.must(s, domain.Revision(i*30-1), some(30)...)
			ctx, cancel := context.WithCancel(h.ctx)
			events, _ := h.follow(ctx, after, "s9-")
			got = append(got, h.take(events, 17)...)
			cancel()
			after = got[len(got)-1].Position
		}
		events, _ := h.follow(h.ctx, after, "s9-")
		h.same(append(got, h.take(events, 300-len(got))...), start, "s9-")
	}},
	{"S10 a cancelled subscription ends with the context's error and frees everything", func(h h) {
		s := stream("s10")
		h.must(s, domain.NoStream, some(3)...)
		start := h.head()
		before := runtime.NumGoroutine()
		for range 20 {
			ctx, cancel := context.WithCancel(h.ctx)
			_, ended := h.follow(ctx, start, "s10-")
			cancel()
			select {
			case err := <-ended:
				if !errors.Is(err, context.Canceled) {
					h.Fatalf("ended with %v", err)
				}
			case <-h.ctx.Done():
				h.Fatal("a cancelled subscription did not end")
			}
		}
		eventually(h, func() bool { return runtime.NumGoroutine() <= before+2 }, func() string {
			return fmt.Sprintf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		})
	}},
	{"S11 after a restart of the log a subscription resumes behind the last handled", func(h h) {
		start, s := h.head(), stream("s11")
		h.must(s, domain.NoStream, some(20)...)
		ctx, cancel := context.WithCancel(h.ctx)
		events, _ := h.follow(ctx, start, "s11-")
		got := h.take(events, 7)
		cancel()
		if h.Reopen != nil {
			h.Log = h.Reopen(h.T)
		}
		events, _ = h.follow(h.ctx, got[6].Position, "s11-")
		got = append(got, h.take(events, 13)...)
		h.must(s, 19, some(3)...)
		h.same(append(got, h.take(events, 3)...), start, "s11-")
	}},
}

var lasting = []fact{
	{"D2 reopened, the log is what it was, and repeats are still known", func(h h) {
		start := h.head()
		s, events := stream("d2"), some(4)
		first := h.must(s, domain.NoStream, events[:2]...)
		together(8, func(int) {
			if _, err := h.Log.Append(h.ctx, stream("d2"), domain.NoStream, some(25)); err != nil {
				h.Error(err)
			}
		})
		before, head := h.wholeLog(start, "d2-"), h.head()
		if h.Reopen != nil {
			h.Log = h.Reopen(h.T)
		}
		if h.wholeLog(start, "d2-") != before || !h.Shared && h.head() != head {
			h.Fatal("the reopened log is another one")
		}
		if again := h.must(s, domain.NoStream, events[:2]...); again != first {
			h.Fatalf("the repetition answered %s, the first time %s", again, first)
		}
		h.must(s, 1, events[2:]...)
		h.holds(s, events...)
		if got := h.all(head, "d2-"); len(got) != 2 || got[0].ID != events[2].ID {
			h.Fatal("what was written after the restart does not follow what was there")
		}
	}},
}

// eventually waits until ok; it is for things that end on their own a moment later.
func eventually(h h, ok func() bool, state func() string) {
	h.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			h.Fatal(state())
		}
	}
}

// ReactorUnderTest is one freshly opened store.
type ReactorUnderTest struct {
	Store  commands.ReactorStore
	Reopen func(t *testing.T) commands.ReactorStore // as in LogUnderTest
}

// ReactorStore runs the suite of the port of that name.
func ReactorStore(t *testing.T, open func(t *testing.T) ReactorUnderTest) {
	for _, f := range []struct {
		name  string
		check func(*testing.T, ReactorUnderTest)
	}{
		{"P1 a state never saved is not found", func(t *testing.T, u ReactorUnderTest) {
			if state, found, err := u.Store.LoadReactor(within(t), name("none")); err != nil || found || !state.Position.IsZero() {
				t.Fatalf("%v %v %v", state, found, err)
			}
		}},
		{"P2 the last state saved is the one loaded, also after a restart", func(t *testing.T, u ReactorUnderTest) {
			ctx, a, b := within(t), name("regenerate-config"), name("push-sip-user")
			want := commands.ReactorState{Position: domain.Position{Commit: 1 << 40, Prepare: 1<<40 - 7}, Done: []domain.Position{domain.At(1<<40 + 1), {Commit: 1<<40 + 9, Prepare: 5}}}
			ok(t, u.Store.SaveReactor(ctx, a, commands.ReactorState{Position: domain.At(3)}))
			ok(t, u.Store.SaveReactor(ctx, b, commands.ReactorState{}))
			ok(t, u.Store.SaveReactor(ctx, a, want))
			if u.Reopen != nil {
				u.Store = u.Reopen(t)
			}
			got, found, err := u.Store.LoadReactor(ctx, a)
			if ok(t, err); !found {
				t.Fatal("not found")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
			if got, found, err := u.Store.LoadReactor(ctx, b); err != nil || !found || !got.Position.IsZero() {
				t.Fatalf("an empty state came back as %v %v %v", got, found, err)
			}
		}},
		{"P3 parked messages are listed by name or all, oldest first, and parking again replaces", func(t *testing.T, u ReactorUnderTest) {
			ctx, a, b := within(t), name("notify"), name("push")
			list := []commands.Parked{parked(a, 900), parked(b, 5), parked(a, 12)}
			for _, p := range list {
				ok(t, u.Store.Park(ctx, p))
			}
			list[0].Attempts, list[0].Reason = 11, "gateway: connection refused"
			ok(t, u.Store.Park(ctx, list[0]))
			if u.Reopen != nil {
				u.Store = u.Reopen(t)
			}
			is(t, u.Store, a, list[2], list[0])
			is(t, u.Store, b, list[1])
			all, err := u.Store.Parked(ctx, "")
			ok(t, err)
			all = slices.DeleteFunc(all, func(p commands.Parked) bool { return p.Reaction != a && p.Reaction != b })
			if diff := cmp.Diff([]commands.Parked{list[1], list[2], list[0]}, all); diff != "" {
				t.Fatal(diff)
			}
		}},
		{"P4 unparking removes one, and one that is not there is no error", func(t *testing.T, u ReactorUnderTest) {
			ctx, a, b := within(t), name("notify"), name("push")
			p, q := parked(a, 1), parked(a, 2)
			other := p
			other.Reaction = b
			for _, m := range []commands.Parked{p, q, other} {
				ok(t, u.Store.Park(ctx, m))
			}
			ok(t, u.Store.Unpark(ctx, a, p.EventID))
			ok(t, u.Store.Unpark(ctx, a, p.EventID))
			ok(t, u.Store.Unpark(ctx, name("none"), p.EventID))
			is(t, u.Store, a, q)
			is(t, u.Store, b, other)
		}},
		{"P5 many savers at once lose nothing", func(t *testing.T, u ReactorUnderTest) {
			ctx := within(t)
			names := make([]string, 8)
			for i := range names {
				names[i] = name("many")
			}
			together(len(names), func(i int) {
				for n := range uint64(20) {
					if err := u.Store.SaveReactor(ctx, names[i], commands.ReactorState{Position: domain.At(n)}); err != nil {
						t.Error(err)
					}
				}
			})
			for _, n := range names {
				if got, found, err := u.Store.LoadReactor(ctx, n); err != nil || !found || got.Position != domain.At(19) {
					t.Fatalf("%v %v %v", got, found, err)
				}
			}
		}},
	} {
		t.Run(f.name, func(t *testing.T) { f.check(t, open(t)) })
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, s commands.ReactorStore, name string, want ...commands.Parked) {
	t.Helper()
	got, err := s.Parked(within(t), name)
	ok(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

// name is a reaction's name no other test uses.
func name(base string) string { return base + "-" + string(stream("x").ID()) }

func parked(name string, at uint64) commands.Parked {
	e := event("device.assigned", "{}")
	return commands.Parked{Reaction: name, EventID: e.ID, Position: domain.At(at), Stream: stream("device"), Revision: 3, Type: e.Type,
		Key: "0015651a2b3c", Reason: "timeout", Attempts: 10, At: time.Date(2026, 11, 2, 9, 30, 0, 123456789, time.UTC)}
}
