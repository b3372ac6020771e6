// Package contract holds the suites every implementation of a port must pass, whatever store is behind
// it. The rows and their numbers are those of the event log's reference (sections Append, Read,
// Catch-up, Durability): A9, R3, S8, D2 …
//
// An adapter's own test calls Log and ReactorStore with a function that opens a fresh one. What only that
// adapter can do (damage its file, fill its disk) is tested beside it.
package contract

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"ledgerline/commands"
	"ledgerline/domain"
)

// LogUnderTest is one freshly opened log.
type LogUnderTest struct {
	Log commands.Log
	// Reopen closes the log and opens the same one again; nil where that means nothing (then S11 and D2
	// look at the running log).
	Reopen func(t *testing.T) commands.Log
	// Shared tells that the store is not empty and that others may write to it: then nothing is
	// asserted about the whole log but what concerns the streams of the test.
	Shared bool
}

// patience bounds every wait; a correct log never uses it up.
const patience = 60 * time.Second

// Log runs the suite; open is called for each fact.
func Log(t *testing.T, open func(t *testing.T) LogUnderTest) {
	for _, section := range [][]fact{appending, reading, catchingUp, lasting} {
		for _, f := range section {
			t.Run(f.name, func(t *testing.T) {
				u := open(t)
				f.check(h{T: t, LogUnderTest: u, ctx: within(t)})
			})
		}
	}
}

type fact struct {
	name  string
	check func(h)
}

// h is one test and the log it looks at.
type h struct {
	*testing.T
	LogUnderTest
	ctx context.Context
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// ids of the shapes that occur: a MAC, a UUID with dashes, one without, a second life.
func stream(category string) domain.StreamID { return domain.Stream(category, uuid.NewString()) }

func event(kind string, data string) domain.NewEvent {
	return domain.NewEvent{ID: uuid.Must(uuid.NewV7()), Type: kind, Data: []byte(data),
		Metadata: []byte(`{"actor":"cli:root","recorded_at":"2026-11-02T09:30:00Z"}`)}
}

func some(n int) []domain.NewEvent {
	list := make([]domain.NewEvent, n)
	for i := range list {
		list[i] = event("tenant.renamed", fmt.Sprintf(`{"name":"Gemeinde Süderbrarup %d"}`, i))
	}
	return list
}

// must appends or fails the test.
func (h h) must(s domain.StreamID, expected domain.Revision, events ...domain.NewEvent) domain.Position {
	h.Helper()
	p, err := h.Log.Append(h.ctx, s, expected, events)
	if err != nil {
		h.Fatalf("append %d events to %s at %d: %v", len(events), s, expected, err)
	}
	return p
}

// refused appends and wants the error.
func (h h) refused(want error, s domain.StreamID, expected domain.Revision, events ...domain.NewEvent) {
	h.Helper()
	if _, err := h.Log.Append(h.ctx, s, expected, events); !errors.Is(err, want) {
		h.Fatalf("append to %s at %d: got error %v, want %v", s, expected, err, want)
	}
}

// read is the stream from revision from; a missing stream is none.
func (h h) read(s domain.StreamID, from domain.Revision) []domain.Recorded {
	h.Helper()
	list, err := collect(h.Log.Read(h.ctx, s, from))
	if err != nil && !errors.Is(err, domain.ErrNoStream) {
		h.Fatalf("read %s: %v", s, err)
	}
	return list
}

func collect(seq iter.Seq2[domain.Recorded, error]) ([]domain.Recorded, error) {
	var list []domain.Recorded
	for r, err := range seq {
		if err != nil {
			return list, err
		}
		list = append(list, r)
	}
	return list, nil
}

// holds wants exactly these events in the stream, with dense revisions and growing positions.
func (h h) holds(s domain.StreamID, want ...domain.NewEvent) []domain.Recorded {
	h.Helper()
	got := h.read(s, 0)
	if len(got) != len(want) {
		h.Fatalf("%s holds %d events, want %d", s, len(got), len(want))
	}
	for i, r := range got {
		if r.Stream != s || r.Revision != domain.Revision(i) || r.ID != want[i].ID || r.Type != want[i].Type {
			h.Fatalf("event %d is %s revision %d id %s type %s, want %s id %s type %s", i, r.Stream, r.Revision, r.ID, r.Type, s, want[i].ID, want[i].Type)
		}
		if !bytes.Equal(r.Data, want[i].Data) || !bytes.Equal(r.Metadata, want[i].Metadata) {
			h.Fatalf("event %d of %s came back with other bytes", i, s)
		}
		if i > 0 && !got[i-1].Position.Before(r.Position) {
			h.Fatalf("event %d of %s is at %s, the one before at %s", i, s, r.Position, got[i-1].Position)
		}
	}
	return got
}

// head is the present end of the log.
func (h h) head() domain.Position {
	h.Helper()
	p, err := h.Log.Head(h.ctx)
	if err != nil {
		h.Fatalf("head: %v", err)
	}
	return p
}

// all is the log behind after, restricted to categories that begin with prefix.
func (h h) all(after domain.Position, prefix string) []domain.Recorded {
	h.Helper()
	list, err := collect(h.Log.ReadAll(h.ctx, after))
	if err != nil {
		h.Fatalf("read all: %v", err)
	}
	return slices.DeleteFunc(list, func(r domain.Recorded) bool { return !strings.HasPrefix(string(r.Stream), prefix) })
}

// together runs n functions at once and waits for them.
func together(n int, do func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

var appending = []fact{
	{"A1 no-stream on a new stream is written", func(h h) {
		s, events := stream("tenant"), some(1)
		h.must(s, domain.NoStream, events...)
		h.holds(s, events...)
	}},
	{"A2 no-stream on an existing stream is a conflict", func(h h) {
		s, events := stream("tenant"), some(1)
		h.must(s, domain.NoStream, events...)
		h.refused(domain.ErrConflict, s, domain.NoStream, some(1)...)
		h.holds(s, events...)
	}},
	{"A3 the exact revision is written", func(h h) {
		s, events := stream("device"), some(4)
		for i, e := range events {
			h.must(s, domain.Revision(i-1), e)
		}
		h.holds(s, events...)
	}},
	{"A4 a revision too low, with other ids, is a conflict", func(h h) {
		s, events := stream("device"), some(3)
		h.must(s, domain.NoStream, events...)
		h.refused(domain.ErrConflict, s, 0, some(1)...)
		h.refused(domain.ErrConflict, s, 1, some(2)...)
		h.holds(s, events...)
	}},
	{"A5 a revision too high is a conflict", func(h h) {
		s, events := stream("device"), some(1)
		h.refused(domain.ErrConflict, s, 0, some(1)...)
		h.must(s, domain.NoStream, events...)
		h.refused(domain.ErrConflict, s, 1, some(1)...)
		h.holds(s, events...)
	}},
	{"A6 stream-exists on a missing stream is a conflict, on an existing one is written", func(h h) {
		s, events := stream("line"), some(2)
		h.refused(domain.ErrConflict, s, domain.StreamExists, events[1])
		h.must(s, domain.NoStream, events[0])
		h.must(s, domain.StreamExists, events[1])
		h.holds(s, events...)
	}},
	{"A7 any on a missing and on an existing stream is written", func(h h) {
		s, events := stream("line"), some(2)
		h.must(s, domain.Any, events[0])
		h.must(s, domain.Any, events[1])
		h.holds(s, events...)
	}},
	{"A8 several events get dense revisions and growing positions, all or nothing", func(h h) {
		s, events := stream("layer"), some(25)
		h.must(s, domain.NoStream, events[:20]...)
		h.refused(domain.ErrConflict, s, 5, some(20)...)
		h.holds(s, events[:20]...)
		h.must(s, 19, events[20:]...)
		h.holds(s, events...)
	}},
	{"A9 the same ids at the same exact revision answer as the first time", func(h h) {
		s, events := stream("device"), some(6)
		h.must(s, domain.NoStream, events[0])
		p := h.must(s, 0, events[1:4]...)
		if again := h.must(s, 0, events[1:4]...); again != p {
			h.Fatalf("the repetition answered %s, the first time %s", again, p)
		}
		h.must(s, 3, events[4:]...)
		if again := h.must(s, 0, events[1:4]...); again != p {
			h.Fatalf("later, the repetition answered %s, the first time %s", again, p)
		}
		h.holds(s, events...)
	}},
	{"A10 the same ids with no-stream answer as the first time, for ever", func(h h) {
		s, events := stream("device"), some(3)
		p := h.must(s, domain.NoStream, events[:2]...)
		h.must(s, 1, events[2])
		for range 300 {
			h.must(stream("noise"), domain.NoStream, some(1)...)
		}
		if again := h.must(s, domain.NoStream, events[:2]...); again != p {
			h.Fatalf("the repetition answered %s, the first time %s", again, p)
		}
		h.holds(s, events...)
	}},
	{"A11 the same ids with any or stream-exists, at once, answer as the first time", func(h h) {
		s, events := stream("device"), some(4)
		for _, expected := range []domain.Revision{domain.Any, domain.StreamExists} {
			pair := events[:2]
			if expected == domain.StreamExists {
				pair = events[2:]
			}
			p := h.must(s, expected, pair...)
			if again := h.must(s, expected, pair...); again != p {
				h.Fatalf("the repetition answered %s, the first time %s", again, p)
			}
		}
		h.holds(s, events...)
	}},
	{"A12 half old, half new ids are a conflict", func(h h) {
		s, events := stream("device"), some(3)
		h.must(s, domain.NoStream, events...)
		fresh := some(2)
		h.refused(domain.ErrConflict, s, domain.NoStream, events[0], fresh[0])
		h.refused(domain.ErrConflict, s, 0, events[1], fresh[0], events[2])
		h.refused(domain.ErrConflict, s, domain.NoStream, append(slices.Clone(events), fresh[0])...)
		h.refused(domain.ErrConflict, s, domain.NoStream, events[1], events[0])
		h.holds(s, events...)
	}},
	{"A13 the same id in another stream is a fact of its own", func(h h) {
		a, b, events := stream("device"), stream("device"), some(2)
		h.must(a, domain.NoStream, events...)
		h.must(b, domain.NoStream, events...)
		h.must(domain.Stream("tenant", "any-"+uuid.NewString()), domain.Any, events...)
		h.holds(a, events...)
		h.holds(b, events...)
	}},
	{"A14 no events succeed and move nothing", func(h h) {
		s, events := stream("device"), some(1)
		if p := h.must(s, domain.NoStream); !p.IsZero() {
			h.Fatalf("appending nothing answered %s", p)
		}
		h.must(s, domain.NoStream, events...)
		h.must(s, 0)
		h.holds(s, events...)
	}},
	{"A15 an append over the limit is too big, writes nothing, and the log goes on", func(h h) {
		s := stream("layer")
		half := strings.Repeat("x", domain.MaxAppend/2)
		h.refused(domain.ErrTooBig, s, domain.NoStream, event("layer.defined", `"`+half+half+`"`))
		h.refused(domain.ErrTooBig, s, domain.NoStream, event("layer.defined", `"`+half+`"`), event("layer.amended", `"`+half+`"`))
		if got := h.read(s, 0); len(got) != 0 {
			h.Fatalf("%d events of the refused append are there", len(got))
		}
		events := some(1)
		h.must(s, domain.NoStream, events...)
		h.holds(s, events...)
	}},
	{"A16 empty, unicode and 500 KiB payloads and names with slash, percent, dash and umlaut come back unchanged", func(h h) {
		big := event("layer.defined", `{"settings":"`+strings.Repeat("Ü", 250<<10)+`"}`)
		bare := domain.NewEvent{ID: uuid.New(), Type: "tenant.deleted", Data: []byte(`{}`)}
		for _, id := range []string{"0015651a2b3c", "0015651a2b3c.2", "018f3a1c-9b7d-7e21-a4c5-d6e7f8091a2b", "a/b%2Fc%", "Ämter & Söhne 電話", "x\ty", "q'\"\\;--"} {
			s := domain.Stream("device", id+uuid.NewString())
			events := []domain.NewEvent{event("device.discovered", `{"n":"\u0000 ☎ \ud83d\ude00"}`), bare}
			h.must(s, domain.NoStream, events...)
			h.holds(s, events...)
		}
		s := stream("layer")
		h.must(s, domain.NoStream, big)
		h.holds(s, big)
	}},
	{"A17 the answer is the position a read shows for the last event", func(h h) {
		s, events := stream("device"), some(3)
		p := h.must(s, domain.NoStream, events...)
		got := h.holds(s, events...)
		if got[2].Position != p {
			h.Fatalf("append answered %s, the read shows %s", p, got[2].Position)
		}
		if head := h.head(); head != p && !h.Shared || head.Before(p) {
			h.Fatalf("head is %s after an append that answered %s", head, p)
		}
	}},
	{"A18 of 64 writers at one exact revision exactly one wins, each time", func(h h) {
		s := stream("code")
		const rounds = 10
		for round := range rounds {
			var won, lost sync.Map
			together(64, func(i int) {
				e := event("code.issued", fmt.Sprintf(`{"writer":%d}`, i))
				if _, err := h.Log.Append(h.ctx, s, domain.Revision(round-1), []domain.NewEvent{e}); err == nil {
					won.Store(e.ID, i)
				} else {
					lost.Store(i, err)
				}
			})
			winners := 0
			won.Range(func(id, _ any) bool {
				winners++
				got := h.read(s, domain.Revision(round))
				if len(got) != 1 || got[0].ID != id {
					h.Errorf("revision %d is not the winner's", round)
				}
				return true
			})
			lost.Range(func(i, err any) bool {
				if !errors.Is(err.(error), domain.ErrConflict) {
					h.Errorf("writer %v: %v, want a conflict", i, err)
				}
				return true
			})
			if winners != 1 {
				h.Fatalf("%d of 64 writers won revision %d", winners, round)
			}
		}
	}},
	{"A19 64 writers on 64 streams lose no write", func(h h) {
		const writers, each = 64, 10
		streams, events := make([]domain.StreamID, writers), make([][]domain.NewEvent, writers)
		for w := range writers {
			streams[w], events[w] = stream("user"), some(each)
		}
		together(writers, func(w int) {
			for i, e := range events[w] {
				if _, err := h.Log.Append(h.ctx, streams[w], domain.Revision(i-1), []domain.NewEvent{e}); err != nil {
					h.Errorf("writer %d, event %d: %v", w, i, err)
					return
				}
			}
		})
		for w := range writers {
			h.holds(streams[w], events[w]...)
		}
	}},
	{"A20 after a cancelled append a retry with the same ids settles it", func(h h) {
		for i := range 50 {
			s, events := stream("device"), some(2)
			ctx, cancel := context.WithCancel(h.ctx)
			go cancel()
			if i == 0 {
				cancel()
			}
			_, err := h.Log.Append(ctx, s, domain.NoStream, events)
			cancel()
			if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, domain.ErrOutcomeUnknown) {
				h.Fatalf("cancelled append: %v", err)
			}
			if got := len(h.read(s, 0)); got != 0 && got != len(events) {
				h.Fatalf("%d of %d events were written", got, len(events))
			}
			h.must(s, domain.NoStream, events...)
			h.holds(s, events...)
		}
	}},
}

var reading = []fact{
	{"R1 a stream is read from the start or the middle, inclusive", func(h h) {
		s, events := stream("device"), some(5)
		h.must(s, domain.NoStream, events...)
		for from := range events {
			got := h.read(s, domain.Revision(from))
			if len(got) != len(events)-from || got[0].ID != events[from].ID {
				h.Fatalf("from %d: %d events", from, len(got))
			}
		}
	}},
	{"R3 from beyond the end nothing comes, without an error", func(h h) {
		s := stream("device")
		p := h.must(s, domain.NoStream, some(2)...)
		for _, from := range []domain.Revision{2, 3, 1 << 40} {
			if got, err := collect(h.Log.Read(h.ctx, s, from)); len(got) != 0 || err != nil {
				h.Fatalf("from %d: %d events, error %v", from, len(got), err)
			}
		}
		if got := h.all(p, string(s)); len(got) != 0 {
			h.Fatalf("behind the last event of the log there are %d more of the stream", len(got))
		}
	}},
	{"R4 a stream never written says no such stream, once", func(h h) {
		calls := 0
		for _, err := range h.Log.Read(h.ctx, stream("device"), 0) {
			if calls++; !errors.Is(err, domain.ErrNoStream) {
				h.Fatalf("got %v, want %v", err, domain.ErrNoStream)
			}
		}
		if calls != 1 {
			h.Fatalf("the iteration went on %d times", calls)
		}
	}},
	{"R5 the whole log is read behind a position, exclusive, in position order", func(h h) {
		before := h.head()
		a, b := stream("r5"), stream("r5")
		first := h.must(a, domain.NoStream, some(2)...)
		h.must(b, domain.NoStream, some(2)...)
		h.must(a, 1, some(1)...)
		got := h.all(before, "r5-")
		order := []domain.StreamID{a, a, b, b, a}
		if len(got) != len(order) {
			h.Fatalf("%d events, want %d", len(got), len(order))
		}
		for i, r := range got {
			if r.Stream != order[i] || i > 0 && !got[i-1].Position.Before(r.Position) {
				h.Fatalf("event %d is of %s at %s", i, r.Stream, r.Position)
			}
		}
		if rest := h.all(first, "r5-"); len(rest) != 3 || rest[0].ID != got[2].ID {
			h.Fatalf("behind %s there are %d events, want 3", first, len(rest))
		}
	}},
	{"R6 streams that begin with $ are left out of the whole log", func(h h) {
		before := h.head()
		if h.Shared {
			for _, r := range h.all(before, "$") {
				h.Fatalf("event of %s", r.Stream)
			}
			return
		}
		s := stream("device")
		p := h.must(s, domain.NoStream, some(1)...)
		h.must("$internal", domain.Any, some(3)...)
		if got, err := collect(h.Log.ReadAll(h.ctx, before)); err != nil || len(got) != 1 || got[0].Stream != s {
			h.Fatalf("read all: %d events, error %v", len(got), err)
		}
		if h.head() != p {
			h.Fatal("head counts an event that ReadAll does not show")
		}
	}},
	{"R7 id, type, data and metadata come back byte for byte, also in the whole log", func(h h) {
		before := h.head()
		s := stream("r7")
		events := []domain.NewEvent{
			event("device.configured", "{ \"b\":1,\n\t\"a\": 1.0, \"a\":2e3 }"), // order, spaces and duplicates are the writer's
			{ID: uuid.MustParse("018F3A1C-9B7D-7E21-A4C5-D6E7F8091A2B"), Type: "Größe.v2", Data: []byte(`null`), Metadata: []byte(`{"$causationId":"x","k":"ß"}`)},
		}
		h.must(s, domain.NoStream, events...)
		if diff := cmp.Diff(h.holds(s, events...), h.all(before, "r7-")); diff != "" {
			h.Fatalf("the stream and the whole log differ:\n%s", diff)
		}
	}},
	{"R8 a reader that stops early leaves nothing behind", func(h h) {
		before, s := h.head(), stream("device")
		for i := range 3 {
			h.must(s, domain.Revision(i*100-1), some(100)...)
		}
		for range 200 { // more often than there can be connections
			for _, err := range h.Log.Read(h.ctx, s, 0) {
				if err != nil {
					h.Fatal(err)
				}
				break
			}
			for _, err := range h.Log.ReadAll(h.ctx, before) {
				if err != nil {
					h.Fatal(err)
				}
				break
			}
			func() {
				defer func() { _ = recover() }()
				for range h.Log.Subscribe(h.ctx, before) {
					panic("in the middle of an event")
				}
			}()
		}
		h.must(s, 299, some(1)...)
	}},
	{"R9 10 000 events come in order", func(h h) {
		before, s := h.head(), stream("r9")
		var want []domain.NewEvent
		for i := range 100 {
			batch := some(100)
			h.must(s, domain.Revision(i*100-1), batch...)
			want = append(want, batch...)
		}
		got := h.holds(s, want...)
		if diff := cmp.Diff(ids(got), ids(h.all(before, "r9-"))); diff != "" {
			h.Fatalf("the whole log tells another order:\n%s", diff)
		}
	}},
	{"R12 a read whose context has ended says so", func(h h) {
		s := stream("device")
		h.must(s, domain.NoStream, some(3)...)
		ctx, cancel := context.WithCancel(h.ctx)
		cancel()
		if _, err := collect(h.Log.Read(ctx, s, 0)); !errors.Is(err, context.Canceled) {
			h.Fatalf("read: %v", err)
		}
		if _, err := collect(h.Log.ReadAll(ctx, domain.Position{})); !errors.Is(err, context.Canceled) {
			h.Fatalf("read all: %v", err)
		}
	}},
}

func ids(list []domain.Recorded) []string {
	out := make([]string, len(list))
	for i, r := range list {
		out[i] = r.ID.String()
	}
	return out
}

// wholeLog is a hash over everything a reader can see behind a position, restricted to a prefix.
func (h h) wholeLog(after domain.Position, prefix string) [32]byte {
	h.Helper()
	sum := sha256.New()
	for _, r := range h.all(after, prefix) {
		leaf := domain.LeafHash(r)
		fmt.Fprintf(sum, "%s %x\n", r.Position, leaf)
	}
	return [32]byte(sum.Sum(nil))
}
