package reactor

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Whatever is added, released, finished and put back in whatever order: of a key one at a time, in order
// of position, none before it is due, none lost, and of those that may go the oldest first.
func TestLanesKeepOrderPerKey(t *testing.T) {
	epoch := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		var l lanes
		now, last := epoch, uint64(0)
		queued := map[string][]*work{} // the model: all that is not finished, oldest first
		busy := map[string]*work{}
		eligible := func() (oldest *work) {
			for key, q := range queued {
				if w := q[0]; busy[key] == nil && !w.due.After(now) && (oldest == nil || w.rec.Position.Before(oldest.rec.Position)) {
					oldest = w
				}
			}
			return oldest
		}
		pick := func() *work {
			for _, key := range []string{"a", "b", "c"} {
				if busy[key] != nil && rapid.Bool().Draw(t, "this") {
					return busy[key]
				}
			}
			return nil
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				last++
				w := &work{rec: domain.Recorded{Position: domain.At(last)}, key: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")}
				queued[w.key] = append(queued[w.key], w)
				l.add(w)
			},
			"overtake": func(t *rapid.T) {
				last++
				w := &work{rec: domain.Recorded{Position: domain.At(last)}, key: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")}
				q := queued[w.key]
				var want *work
				if i := len(q) - 1; i >= 0 && q[i] != busy[w.key] && q[i].due.IsZero() {
					want = q[i]
				}
				if got := l.overtake(w); got != want {
					t.Fatalf("overtook %v, want %v", got, want)
				}
				if want != nil {
					q[len(q)-1] = w
				}
			},
			"next": func(t *rapid.T) {
				want := eligible()
				got, due := l.next(now)
				if got != want {
					t.Fatalf("released %v, want %v", got, want)
				}
				if got != nil {
					busy[got.key] = got
					return
				}
				for key, q := range queued {
					if busy[key] == nil && (due.IsZero() || q[0].due.Before(due)) {
						t.Fatalf("told to come back at %v, %s is due %v", due, key, q[0].due)
					}
				}
			},
			"finish": func(t *rapid.T) {
				if w := pick(); w != nil {
					l.finish(w)
					delete(busy, w.key)
					if queued[w.key] = queued[w.key][1:]; len(queued[w.key]) == 0 {
						delete(queued, w.key)
					}
				}
			},
			"again": func(t *rapid.T) {
				if w := pick(); w != nil {
					l.again(w, now.Add(time.Duration(rapid.IntRange(1, 5).Draw(t, "seconds"))*time.Second))
					delete(busy, w.key)
				}
			},
			"pass": func(t *rapid.T) { now = now.Add(time.Second) },
		})
	})
}

// A replay is older than what waits: it goes before that, but not before what is under way.
func TestLanesPutReplayInItsPlace(t *testing.T) {
	at := func(n uint64) *work { return &work{key: "a", rec: domain.Recorded{Position: domain.At(n)}} }
	var l lanes
	l.add(at(5))
	under, _ := l.next(time.Now())
	l.add(at(6))
	l.add(at(2))
	l.add(at(1))
	l.again(under, time.Now().Add(time.Hour)) // 5 failed; it keeps its place at the head of the lane
	if w, _ := l.next(time.Now()); w != nil {
		t.Fatalf("released %s while the head of the lane is not due", w.rec.Position)
	}
	var order []string
	for now := time.Now().Add(2 * time.Hour); len(order) < 4; {
		w, _ := l.next(now)
		order = append(order, w.rec.Position.String())
		l.finish(w)
	}
	if d := cmp.Diff([]string{"5", "1", "2", "6"}, order); d != "" {
		t.Error(d)
	}
	// An idle lane that waits for its head lets an older replay go first.
	l.add(at(9))
	w, _ := l.next(time.Now())
	l.again(w, time.Now().Add(time.Hour))
	l.add(at(3))
	if w, _ := l.next(time.Now()); w == nil || w.rec.Position != domain.At(3) {
		t.Errorf("released %v, want the replay", w)
	}
}

// The window's low and done set say exactly what is handled, whatever order messages finish in.
func TestWindowTellsWhatIsHandled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		var open, all []*mark
		handled := map[domain.Position]bool{}
		read := domain.Position{}
		t.Repeat(map[string]func(*rapid.T){
			"message": func(t *rapid.T) { read.Commit += 3; m := w.add(read); open, all = append(open, m), append(all, m) },
			"other":   func(t *rapid.T) { read.Commit += 2; handled[read] = true; w.skip(read) },
			"finish": func(t *rapid.T) {
				if len(open) == 0 {
					return
				}
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				handled[open[i].at] = true
				low := w.low
				if moved := w.finish(open[i]); moved != low.Before(w.low) {
					t.Fatalf("finish says moved=%v, low went from %s to %s", moved, low, w.low)
				}
				open = append(open[:i:i], open[i+1:]...)
			},
			"": func(t *rapid.T) {
				var first domain.Position // the oldest unhandled message
				for _, m := range open {
					if first.IsZero() || m.at.Before(first) {
						first = m.at
					}
				}
				state := commands.ReactorState{Position: w.low, Done: w.done()}
				if !first.IsZero() && !state.Position.Before(first) || first.IsZero() && state.Position != read {
					t.Fatalf("low is %s; read to %s, first unhandled %s", state.Position, read, first)
				}
				done := map[domain.Position]bool{}
				for _, p := range state.Done {
					if done[p] = true; !handled[p] || !state.Position.Before(p) {
						t.Fatalf("%s in the done set above %s", p, state.Position)
					}
				}
				for _, m := range all {
					if handled[m.at] && state.Position.Before(m.at) && !done[m.at] {
						t.Fatalf("%s is handled and neither below %s nor in the done set", m.at, state.Position)
					}
				}
			},
		})
	})
}

func TestBackoffGrows(t *testing.T) {
	for n := 1; n < 100; n++ {
		most := time.Minute
		if n <= 9 {
			most = 100 * time.Millisecond << (n - 1)
		}
		for range 50 {
			if d := Backoff(n); d < most/2 || d > most {
				t.Fatalf("delay %v after attempt %d, want %v to %v", d, n, most/2, most)
			}
		}
	}
	seen := map[string]bool{}
	for range 100 {
		seen[fmt.Sprint(Backoff(8))] = true
	}
	if len(seen) < 2 {
		t.Error("no jitter")
	}
}
