package contract

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
)

// Wire runs the rows that the port of the log has no words for (backwards, links, truncation, deletion,
// filters, checkpoints) against a server, with the official client. The server need not be empty.
func Wire(t *testing.T, open func(t *testing.T) WireUnderTest) { runWire(t, wireFacts, open) }

func runWire(t *testing.T, facts []wireFact, open func(t *testing.T) WireUnderTest) {
	for _, f := range facts {
		t.Run(f.name, func(t *testing.T) {
			u := open(t)
			f.check(wire{T: t, WireUnderTest: u, ctx: within(t), id: strings.ReplaceAll(uuid.NewString(), "-", "")})
		})
	}
}

// drain reads a list to its end: "data data …". What else is in the whole log than this test's is left out.
func (w wire) drain(list *esdb.ReadStream, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer list.Close()
	var words []string
	for {
		e, err := list.Recv()
		if errors.Is(err, io.EOF) {
			return strings.Join(words, " "), nil
		}
		if err != nil {
			return strings.Join(words, " "), err
		}
		if o := e.OriginalEvent(); strings.Contains(o.StreamID, w.id) {
			words = append(words, string(o.Data))
		}
	}
}

// reads wants the stream to read like this; gone, that the first receive says code.
func (w wire) reads(stream, want string) {
	w.Helper()
	got, err := w.drain(w.Client.ReadStream(w.ctx, stream, esdb.ReadStreamOptions{}, math.MaxUint64))
	if err != nil || got != want {
		w.Fatalf("%s reads %q, %v; want %q", stream, got, err, want)
	}
}

func (w wire) gone(stream string, want esdb.ErrorCode) {
	w.Helper()
	if got, err := w.drain(w.Client.ReadStream(w.ctx, stream, esdb.ReadStreamOptions{}, 9)); code(err) != want || got != "" {
		w.Fatalf("%s reads %q, %v; want code %d", stream, got, err, want)
	}
}

func (w wire) append(stream string, at esdb.ExpectedRevision, events ...esdb.EventData) (*esdb.WriteResult, error) {
	return w.Client.AppendToStream(w.ctx, stream, esdb.AppendToStreamOptions{ExpectedRevision: at}, events...)
}

// meta sets a stream's metadata at a revision of it.
func (w wire) meta(stream string, at esdb.ExpectedRevision, change func(*esdb.StreamMetadata)) error {
	var m esdb.StreamMetadata
	change(&m)
	_, err := w.Client.SetStreamMetadata(w.ctx, stream, esdb.AppendToStreamOptions{ExpectedRevision: at}, m)
	return err
}

// says is what a subscription says until n words of this test have come: e<data> for an event, level, c for
// a checkpoint if those are wanted, dropped.
func (w wire) says(sub *esdb.Subscription, n int, checkpoints bool) string {
	w.Helper()
	var words []string
	for len(words) < n && w.ctx.Err() == nil {
		switch m := sub.Recv(); {
		case m.SubscriptionDropped != nil:
			return strings.Join(append(words, "dropped"), " ")
		case m.EventAppeared != nil && !strings.Contains(m.EventAppeared.OriginalEvent().StreamID, w.id):
		case m.EventAppeared != nil && strings.HasPrefix(m.EventAppeared.Event.EventType, "$"):
			words = append(words, "e"+m.EventAppeared.Event.EventType)
		case m.EventAppeared != nil:
			words = append(words, "e"+string(m.EventAppeared.Event.Data))
		case m.CaughtUp != nil:
			words = append(words, "level")
		case m.CheckPointReached != nil && checkpoints:
			words = append(words, "c")
		}
	}
	return strings.Join(words, " ")
}

func (w wire) tells(sub *esdb.Subscription, want string) {
	w.Helper()
	if got := w.says(sub, len(strings.Fields(want)), false); got != want {
		w.Fatalf("the subscriber was told %q, want %q", got, want)
	}
}

func (w wire) follow(stream string, from esdb.StreamPosition) *esdb.Subscription {
	w.Helper()
	s, err := w.Client.SubscribeToStream(w.ctx, stream, esdb.SubscribeToStreamOptions{From: from})
	w.ok(err)
	w.Cleanup(func() { _ = s.Close() })
	return s
}

func (w wire) followAll(from esdb.AllPosition, window, interval int, f *esdb.SubscriptionFilter) *esdb.Subscription {
	w.Helper()
	s, err := w.Client.SubscribeToAll(w.ctx, esdb.SubscribeToAllOptions{From: from, Filter: f, MaxSearchWindow: window, CheckpointInterval: interval})
	w.ok(err)
	w.Cleanup(func() { _ = s.Close() })
	return s
}

func position(r *esdb.WriteResult) esdb.Position {
	return esdb.Position{Commit: r.CommitPosition, Prepare: r.PreparePosition}
}

var wireFacts = []wireFact{
	{"R1, R2, R3 a stream is read both ways, from start, end and middle, inclusive, as many as asked for", func(w wire) {
		s := w.stream("r1")
		w.put(s, upTo(5)...)
		for _, c := range []struct {
			name  string
			o     esdb.ReadStreamOptions
			count uint64
			want  string
		}{
			{"forwards", esdb.ReadStreamOptions{}, 99, "0 1 2 3 4"},
			{"forwards, two", esdb.ReadStreamOptions{}, 2, "0 1"},
			{"forwards from 3", esdb.ReadStreamOptions{From: esdb.Revision(3)}, 99, "3 4"},
			{"forwards from beyond", esdb.ReadStreamOptions{From: esdb.Revision(5)}, 99, ""},
			{"forwards from the end", esdb.ReadStreamOptions{From: esdb.End{}}, 99, ""},
			{"backwards", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 99, "4 3 2 1 0"},
			{"backwards from 2", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.Revision(2)}, 99, "2 1 0"},
			{"backwards from beyond", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.Revision(77)}, 2, "4 3"},
			{"R11 the last in one step", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1, "4"},
		} {
			if got, err := w.drain(w.Client.ReadStream(w.ctx, s, c.o, c.count)); err != nil || got != c.want {
				w.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
			}
		}
	}},
	{"R4 a missing stream is told on the first receive", func(w wire) {
		for _, d := range []esdb.Direction{esdb.Forwards, esdb.Backwards} {
			list, err := w.Client.ReadStream(w.ctx, w.stream("r4"), esdb.ReadStreamOptions{Direction: d, From: esdb.End{}}, 1)
			w.ok(err)
			_, err = list.Recv()
			w.wants("receive", err, esdb.ErrorCodeResourceNotFound)
			list.Close()
		}
	}},
	{"R5 the whole log is read forwards inclusive and backwards exclusive", func(w wire) {
		a, b := w.stream("r5a"), w.stream("r5b")
		var at []esdb.Position
		for i := range 6 {
			at = append(at, position(w.put([]string{a, b}[i%2], i)))
		}
		got, err := w.drain(w.Client.ReadAll(w.ctx, esdb.ReadAllOptions{From: at[2]}, math.MaxUint64))
		if err != nil || got != "2 3 4 5" {
			w.Errorf("forwards: %q, %v", got, err)
		}
		list, err := w.Client.ReadAll(w.ctx, esdb.ReadAllOptions{Direction: esdb.Backwards, From: at[3]}, 4000)
		w.ok(err)
		defer list.Close()
		for want := 2; want >= 0; { // the log behind may be long: only so far
			e, err := list.Recv()
			w.ok(err)
			if o := e.OriginalEvent(); strings.Contains(o.StreamID, w.id) {
				if string(o.Data) != fmt.Sprint(want) {
					w.Fatalf("backwards: %s, want %d", o.Data, want)
				}
				want--
			}
		}
	}},
	{"R8 an iterator that is closed ends", func(w wire) {
		s := w.stream("r8")
		w.put(s, upTo(200)...)
		for range 30 {
			list, err := w.Client.ReadStream(w.ctx, s, esdb.ReadStreamOptions{}, 200)
			w.ok(err)
			_, err = list.Recv()
			w.ok(err)
			list.Close()
			for n := 0; err == nil; n++ { // the client hands out at most what it had received
				if _, err = list.Recv(); n > 300 {
					w.Fatal("a closed iterator goes on")
				}
			}
		}
		w.reads(s, strings.Trim(fmt.Sprint(upTo(200)), "[]"))
	}},
	{"R10 a link is resolved, dangling, or left as it is", func(w wire) {
		s, target := w.stream("r10"), w.stream("r10target")
		w.put(target, 7, 8)
		link := func(data string) esdb.EventData {
			return esdb.EventData{EventID: uuid.New(), EventType: "$>", ContentType: esdb.ContentTypeBinary, Data: []byte(data)}
		}
		_, err := w.append(s, esdb.NoStream{}, link("1@"+target), link("9@"+target), link("0@"+w.stream("r10none")))
		w.ok(err)
		for _, resolve := range []bool{true, false} {
			list, err := w.Client.ReadStream(w.ctx, s, esdb.ReadStreamOptions{ResolveLinkTos: resolve}, 9)
			w.ok(err)
			for i := range 3 {
				e, err := list.Recv()
				w.ok(err)
				switch {
				case !resolve:
					if e.Link != nil || e.Event == nil || e.Event.EventType != "$>" {
						w.Errorf("unresolved %d: %+v", i, e)
					}
				case i == 0:
					if e.Link == nil || e.Event == nil || string(e.Event.Data) != "8" || e.OriginalEvent().EventNumber != 0 {
						w.Errorf("resolved: %+v", e)
					}
				case e.Event != nil || e.Link == nil:
					w.Errorf("dangling %d: %+v", i, e)
				}
			}
			list.Close()
		}
	}},
	{"T1, T3, T5, T6, T7 $maxCount and $tb hide from the stream and not from the log; metadata is written whole, at its revision", func(w wire) {
		s := w.stream("t1")
		first := position(w.put(s, upTo(5)...))
		_, err := w.Client.GetStreamMetadata(w.ctx, s, esdb.ReadStreamOptions{})
		w.wants("metadata never set", err, esdb.ErrorCodeResourceNotFound)
		w.ok(w.meta(s, esdb.NoStream{}, func(m *esdb.StreamMetadata) { m.SetMaxCount(2) }))
		w.reads(s, "3 4")
		w.put(s, 5)
		w.reads(s, "4 5")
		if got, err := w.drain(w.Client.ReadStream(w.ctx, s, esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 9)); err != nil || got != "5 4" {
			w.Errorf("backwards: %q, %v", got, err)
		}
		w.wants("metadata at a stale revision", w.meta(s, esdb.NoStream{}, func(m *esdb.StreamMetadata) { m.SetMaxCount(9) }), esdb.ErrorCodeWrongExpectedVersion)
		w.ok(w.meta(s, esdb.Revision(0), func(m *esdb.StreamMetadata) { m.SetTruncateBefore(5); m.AddCustomProperty("why", "test") }))
		w.reads(s, "5")
		m, err := w.Client.GetStreamMetadata(w.ctx, s, esdb.ReadStreamOptions{})
		if w.ok(err); m.TruncateBefore() == nil || *m.TruncateBefore() != 5 || m.MaxCount() != nil || fmt.Sprint(m.CustomProperty("why")) != "test" {
			w.Errorf("metadata came back as %+v", m)
		}
		if got, err := w.drain(w.Client.ReadAll(w.ctx, esdb.ReadAllOptions{From: first}, math.MaxUint64)); err != nil || !strings.HasPrefix(got, "4 ") || !strings.HasSuffix(got, "}") {
			w.Errorf("the whole log: %q, %v", got, err)
		}
	}},
	{"T2, T4 what is older than $maxAge is hidden; when all is, the end is clean", func(w wire) {
		s := w.stream("t2")
		w.put(s, 0, 1)
		w.ok(w.meta(s, esdb.NoStream{}, func(m *esdb.StreamMetadata) { m.SetMaxAge(time.Hour) }))
		w.reads(s, "0 1")
		w.ok(w.meta(s, esdb.Revision(0), func(m *esdb.StreamMetadata) { m.SetMaxAge(time.Second) }))
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			got, err := w.drain(w.Client.ReadStream(w.ctx, s, esdb.ReadStreamOptions{}, 9))
			if w.ok(err); got == "" {
				return
			}
			<-tick.C
		}
	}},
	{"T8, T9, T10 a deleted stream is not found, goes on counting when written to, and its old events stay hidden", func(w wire) {
		s := w.stream("t8")
		w.put(s, 0, 1, 2)
		del := func(r esdb.ExpectedRevision) error {
			_, err := w.Client.DeleteStream(w.ctx, s, esdb.DeleteStreamOptions{ExpectedRevision: r})
			return err
		}
		for _, r := range []esdb.ExpectedRevision{esdb.Revision(1), esdb.Revision(3)} {
			if err := del(r); err == nil || code(err) == esdb.ErrorCodeStreamDeleted {
				w.Errorf("deleted at %v: %v", r, err)
			}
		}
		w.reads(s, "0 1 2")
		w.ok(del(esdb.Revision(2)))
		w.gone(s, esdb.ErrorCodeResourceNotFound)
		_, err := w.append(s, esdb.StreamExists{}, wireEvent("9"))
		w.wants("stream exists on a deleted one", err, esdb.ErrorCodeStreamDeleted)
		r, err := w.append(s, esdb.NoStream{}, wireEvent("3"))
		if w.ok(err); r.NextExpectedVersion != 3 {
			w.Errorf("the first after the deletion is at %d", r.NextExpectedVersion)
		}
		w.put(s, 4)
		w.reads(s, "3 4")
	}},
	{"T11 a tombstoned stream is gone for appends, reads and subscriptions", func(w wire) {
		s := w.stream("t11")
		w.put(s, 0, 1)
		sub := w.follow(s, esdb.Revision(0))
		w.tells(sub, "e1 level")
		if _, err := w.Client.TombstoneStream(w.ctx, s, esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Revision(0)}); err == nil {
			w.Error("a wrong revision was taken")
		}
		_, err := w.Client.TombstoneStream(w.ctx, s, esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Revision(1)})
		w.ok(err)
		w.gone(s, esdb.ErrorCodeStreamDeleted)
		for _, r := range []esdb.ExpectedRevision{esdb.Any{}, esdb.NoStream{}, esdb.Revision(1), esdb.StreamExists{}} {
			_, err := w.append(s, r, wireEvent("2"))
			w.wants(fmt.Sprintf("append at %T", r), err, esdb.ErrorCodeStreamDeleted)
		}
		if sub, err := w.Client.SubscribeToStream(w.ctx, s, esdb.SubscribeToStreamOptions{}); err == nil {
			w.tells(sub, "dropped")
		}
		if got := w.says(sub, 2, false); !strings.HasSuffix(got, "dropped") && got != "e$streamDeleted" {
			w.Errorf("the subscriber was told %q", got)
		}
	}},
	{"S1, S2, S3, S4 a stream is followed from the start, behind a revision, from the end, or before it exists", func(w wire) {
		s, none := w.stream("s1"), w.stream("s4")
		w.put(s, 0, 1, 2)
		start, after, end, missing := w.follow(s, esdb.Start{}), w.follow(s, esdb.Revision(1)), w.follow(s, esdb.End{}), w.follow(none, esdb.Start{})
		w.tells(start, "e0 e1 e2 level")
		w.tells(after, "e2 level")
		w.tells(end, "level")
		w.tells(missing, "level")
		w.put(s, 3, 4)
		w.put(none, 60)
		w.tells(start, "e3 e4")
		w.tells(after, "e3 e4")
		w.tells(end, "e3 e4")
		w.tells(missing, "e60")
	}},
	{"S1, S2, S3 the whole log is followed behind a position, exclusive, or from the end", func(w wire) {
		s := w.stream("s1")
		p := position(w.put(s, 0))
		w.put(s, 1, 2)
		after, end := w.followAll(p, 0, 0, nil), w.followAll(esdb.End{}, 0, 0, nil)
		w.tells(after, "e1 e2 level")
		w.tells(end, "level")
		w.put(s, 3)
		w.tells(after, "e3")
		w.tells(end, "e3")
	}},
	{"S5 foreign events never come through a filter", func(w wire) {
		p := position(w.put(w.stream("s5device"), 0))
		w.put(w.stream("s5code"), 1)
		w.put(w.stream("s5tenant"), 2)
		e := wireEvent("3")
		e.EventType = "s5" + w.id + ".defined"
		_, err := w.append(w.stream("s5layer"), esdb.Any{}, e)
		w.ok(err)
		w.put(w.stream("s5code"), 4)
		for name, c := range map[string]struct {
			f    esdb.SubscriptionFilter
			want string
		}{
			"stream prefixes": {esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"s5device" + w.id, "s5code" + w.id}}, "e1 e4 level"},
			"stream pattern":  {esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Regex: "^s5(code|layer)" + w.id}, "e1 e3 e4 level"},
			"type prefix":     {esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{"s5" + w.id}}, "e3 level"},
			"type pattern":    {esdb.SubscriptionFilter{Type: esdb.EventFilterType, Regex: `^s5` + w.id + `\.def`}, "e3 level"},
		} {
			sub := w.followAll(p, 5, 5, &c.f)
			if got := w.says(sub, len(strings.Fields(c.want)), false); got != c.want {
				w.Errorf("%s: %q, want %q", name, got, c.want)
			}
		}
	}},
	{"S6 checkpoints come while nothing matches, never go back, and resuming behind one loses nothing", func(w wire) {
		s := w.stream("s6")
		p := position(w.put(s, 0))
		for i := range 10 {
			w.put(s, slices.Repeat([]int{i}, 10)...)
		}
		match := w.stream("s6match")
		w.put(match, 77)
		f := &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{match}}
		sub := w.followAll(p, 1, 10, f)
		var points []esdb.Position
		seen := 0 // checkpoints before the event
		for done := false; !done; {
			switch m := sub.Recv(); {
			case m.CheckPointReached != nil:
				if n := *m.CheckPointReached; len(points) > 0 && n.Commit < points[len(points)-1].Commit {
					w.Fatalf("checkpoint %v follows %v", n, points)
				}
				points = append(points, *m.CheckPointReached)
			case m.EventAppeared != nil:
				seen = len(points)
			case m.CaughtUp != nil:
				done = true
			case m.SubscriptionDropped != nil:
				w.Fatal(m.SubscriptionDropped.Error)
			}
		}
		if seen < 5 || len(points) <= seen {
			w.Fatalf("%d checkpoints, %d of them before the event", len(points), seen)
		}
		for i, p := range points {
			want := "e77 level"
			if i >= seen {
				want = "level"
			}
			if got := w.says(w.followAll(p, 32, 100, f), len(strings.Fields(want)), false); got != want {
				w.Errorf("behind checkpoint %d: %q, want %q", i, got, want)
			}
		}
	}},
}
