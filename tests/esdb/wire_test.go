package esdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"ledgerline/adapters/esdbserver"
	"ledgerline/domain"
)

// patience bounds every wait; a correct server never uses it up.
const patience = 30 * time.Second

// free are streams that clients may delete in these tests: "probe-…".
func free() esdbserver.Options {
	return esdbserver.Options{Protected: func(s domain.StreamID) bool { return !s.Internal() && s.Category() != "probe" }}
}

// wire is one test with the official client.
type wire struct {
	*testing.T
	ctx context.Context
	*node
	c *esdb.Client
}

func over(t *testing.T, o esdbserver.Options) wire {
	t.Helper()
	n := up(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return wire{t, ctx, n, client(t, "esdb://"+n.address+"?tls=false")}
}

func client(t *testing.T, conn string) *esdb.Client {
	t.Helper()
	config, err := esdb.ParseConnectionString(conn)
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = esdb.NoopLogging()
	c, err := esdb.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func one(kind, data string) esdb.EventData {
	return esdb.EventData{EventID: uuid.New(), EventType: kind, ContentType: esdb.ContentTypeJson, Data: []byte(data), Metadata: []byte(`{"recorded_at":"2026-11-02T09:30:00.1234567Z"}`)}
}

// put appends events whose data are their numbers, at any revision.
func (w wire) put(stream string, numbers ...int) *esdb.WriteResult {
	w.Helper()
	var events []esdb.EventData
	for _, n := range numbers {
		events = append(events, one("probe.sent", fmt.Sprint(n)))
	}
	r, err := w.c.AppendToStream(w.ctx, stream, esdb.AppendToStreamOptions{}, events...)
	if err != nil {
		w.Fatalf("append to %s: %v", stream, err)
	}
	return r
}

// code of an error of the client; -1 for none.
func code(err error) esdb.ErrorCode {
	e := (*esdb.Error)(nil)
	if !errors.As(err, &e) {
		return -1
	}
	return e.Code()
}

// drain reads the list to its end; "data data …" or the error.
func drain(list *esdb.ReadStream, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer list.Close()
	var got []string
	for {
		e, err := list.Recv()
		if errors.Is(err, io.EOF) {
			return strings.Join(got, " "), nil
		}
		if err != nil {
			return strings.Join(got, " "), err
		}
		got = append(got, string(e.Event.Data))
	}
}

func (w wire) reads(stream, want string) {
	w.Helper()
	got, err := drain(w.c.ReadStream(w.ctx, stream, esdb.ReadStreamOptions{}, math.MaxUint64))
	if err != nil || got != want {
		w.Fatalf("%s reads %q, %v; want %q", stream, got, err, want)
	}
}

func (w wire) missing(stream string, want esdb.ErrorCode) {
	w.Helper()
	if got, err := drain(w.c.ReadStream(w.ctx, stream, esdb.ReadStreamOptions{}, 9)); code(err) != want || got != "" {
		w.Fatalf("%s reads %q, %v; want code %d", stream, got, err, want)
	}
}

// TestStreamReads is R1 to R4 and R11.
func TestStreamReads(t *testing.T) {
	w := over(t, free())
	var all []int
	for i := range 1300 {
		all = append(all, i)
	}
	for i := 0; i < len(all); i += 100 {
		w.put("device-long", all[i:i+100]...)
	}
	w.put("device-1", 0, 1, 2, 3, 4)
	for _, c := range []struct {
		name  string
		o     esdb.ReadStreamOptions
		count uint64
		want  string
	}{
		{"forwards", esdb.ReadStreamOptions{}, 99, "0 1 2 3 4"},
		{"forwards, two", esdb.ReadStreamOptions{}, 2, "0 1"},
		{"forwards from 3, inclusive", esdb.ReadStreamOptions{From: esdb.Revision(3)}, 99, "3 4"},
		{"forwards from beyond", esdb.ReadStreamOptions{From: esdb.Revision(5)}, 99, ""},
		{"forwards from the highest there can be", esdb.ReadStreamOptions{From: esdb.Revision(math.MaxUint64 - 1)}, 99, ""},
		{"forwards from the end", esdb.ReadStreamOptions{From: esdb.End{}}, 99, ""},
		{"none", esdb.ReadStreamOptions{}, 0, ""},
		{"backwards", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 99, "4 3 2 1 0"},
		{"the last", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1, "4"},
		{"backwards from 2, inclusive", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.Revision(2)}, 99, "2 1 0"},
		{"backwards from beyond", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.Revision(77)}, 2, "4 3"},
		{"backwards from the start", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.Start{}}, 99, "0"},
		{"no events backwards", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 0, ""},
	} {
		if got, err := drain(w.c.ReadStream(w.ctx, "device-1", c.o, c.count)); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	got, err := drain(w.c.ReadStream(w.ctx, "device-long", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, math.MaxUint64))
	if words := strings.Fields(got); err != nil || len(words) != 1300 || words[0] != "1299" || words[700] != "599" || words[1299] != "0" {
		t.Errorf("the long one backwards: %d events, %v", len(words), err)
	}
	// A server that has not seen the stream finds its end too.
	w.stop()
	w.start()
	c := client(t, "esdb://"+w.address+"?tls=false")
	if got, err := drain(c.ReadStream(w.ctx, "device-long", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 3)); err != nil || got != "1299 1298 1297" {
		t.Errorf("the last three after a restart: %q, %v", got, err)
	}
	for _, d := range []esdb.Direction{esdb.Forwards, esdb.Backwards} {
		if got, err := drain(c.ReadStream(w.ctx, "device-none", esdb.ReadStreamOptions{Direction: d}, 1)); code(err) != esdb.ErrorCodeResourceNotFound {
			t.Errorf("a missing stream: %q, %v", got, err)
		}
	}
}

// TestAllReads is R5: forwards inclusive, backwards exclusive.
func TestAllReads(t *testing.T) {
	w := over(t, free())
	var at []esdb.Position
	var want []string
	for i := range 80 {
		r := w.put(fmt.Sprintf("device-%d", i%3), i)
		at = append(at, esdb.Position{Commit: r.CommitPosition, Prepare: r.PreparePosition})
		want = append(want, fmt.Sprint(i))
		if i%9 == 0 { // system streams are part of the whole, as on a cluster
			r := w.put("$own", 1000)
			at, want = append(at, esdb.Position{Commit: r.CommitPosition, Prepare: r.PreparePosition}), append(want, "1000")
		}
	}
	back := make([]string, len(want))
	for i, s := range want {
		back[len(want)-1-i] = s
	}
	for _, c := range []struct {
		name  string
		o     esdb.ReadAllOptions
		count uint64
		want  []string
	}{
		{"forwards", esdb.ReadAllOptions{}, math.MaxUint64, want},
		{"forwards, three", esdb.ReadAllOptions{}, 3, want[:3]},
		{"forwards from 20, inclusive", esdb.ReadAllOptions{From: at[20]}, math.MaxUint64, want[20:]},
		{"forwards from the end", esdb.ReadAllOptions{From: esdb.End{}}, 5, nil},
		{"forwards from beyond", esdb.ReadAllOptions{From: esdb.Position{Commit: 1 << 40, Prepare: 1 << 40}}, 5, nil},
		{"backwards", esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.End{}}, math.MaxUint64, back},
		{"the last", esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1, back[:1]},
		{"backwards from 20, exclusive", esdb.ReadAllOptions{Direction: esdb.Backwards, From: at[20]}, math.MaxUint64, back[len(want)-20:]},
		{"backwards from beyond", esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.Position{Commit: 1 << 40, Prepare: 1 << 40}}, 2, back[:2]},
		{"backwards from the first", esdb.ReadAllOptions{Direction: esdb.Backwards, From: at[0]}, 5, nil},
		{"backwards from the start", esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.Start{}}, 5, nil},
		{"none", esdb.ReadAllOptions{}, 0, nil},
	} {
		if got, err := drain(w.c.ReadAll(w.ctx, c.o, c.count)); err != nil || got != strings.Join(c.want, " ") {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

// TestWhatAnEventCarries is R7: id, type, bytes, and a creation time whatever there is to take it from.
func TestWhatAnEventCarries(t *testing.T) {
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	o := free()
	o.Clock = func() time.Time { return now }
	w := over(t, o)
	v7 := uuid.MustParse("0192d5a2-1234-7e21-a4c5-d6e7f8091a2b")
	for _, c := range []struct {
		name    string
		e       esdb.EventData
		created time.Time
		kind    string
	}{
		{"recorded_at", one("a.b", `{"x":1}`), time.Date(2026, 11, 2, 9, 30, 0, 123456700, time.UTC), "application/json"},
		{"UUIDv7", esdb.EventData{EventID: v7, EventType: "Größe", Data: []byte{0xb, 0xe}, Metadata: []byte{0xd, 0xe}}, time.UnixMilli(0x0192d5a21234).UTC(), "application/octet-stream"},
		{"neither", esdb.EventData{EventID: uuid.MustParse("38fffbc2-339e-11ea-8c7b-784f43837872"), EventType: "t"}, now, "application/octet-stream"},
	} {
		stream := "device-" + c.name
		if _, err := w.c.AppendToStream(w.ctx, stream, esdb.AppendToStreamOptions{}, c.e); err != nil {
			t.Fatal(c.name, err)
		}
		list, err := w.c.ReadStream(w.ctx, stream, esdb.ReadStreamOptions{}, 1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := list.Recv()
		list.Close()
		if err != nil {
			t.Fatal(c.name, err)
		}
		e := got.Event
		if e.EventID != c.e.EventID || e.EventType != c.e.EventType || string(e.Data) != string(c.e.Data) || string(e.UserMetadata) != string(c.e.Metadata) || e.StreamID != stream {
			t.Errorf("%s came back as %+v", c.name, e)
		}
		if !e.CreatedDate.Equal(c.created) || e.ContentType != c.kind {
			t.Errorf("%s: created %s, %s; want %s, %s", c.name, e.CreatedDate, e.ContentType, c.created, c.kind)
		}
	}
}

// TestWrongVersion: the answer, as the client words it; and idempotent retries of the wire.
func TestWrongVersion(t *testing.T) {
	w := over(t, free())
	e := one("a.b", "1")
	at := func(r esdb.ExpectedRevision, stream string, events ...esdb.EventData) (*esdb.WriteResult, error) {
		return w.c.AppendToStream(w.ctx, stream, esdb.AppendToStreamOptions{ExpectedRevision: r}, events...)
	}
	first, err := at(esdb.NoStream{}, "device-1", e, one("a.b", "2"))
	if err != nil || first.NextExpectedVersion != 1 {
		t.Fatal(first, err)
	}
	for _, r := range []esdb.ExpectedRevision{esdb.NoStream{}, esdb.Any{}, esdb.StreamExists{}} {
		if again, err := at(r, "device-1", e); err != nil || again.NextExpectedVersion != 0 || again.CommitPosition != first.CommitPosition-1 {
			t.Errorf("repeated at %T: %+v, %v", r, again, err)
		}
	}
	for want, err := range map[string]error{
		"expecting 'no_stream' but got '1'": second(at(esdb.NoStream{}, "device-1", one("a.b", "3"))),
		"expecting '5' but got '1'":         second(at(esdb.Revision(5), "device-1", one("a.b", "3"))),
		"expecting '0' but got '1'":         second(at(esdb.Revision(0), "device-1", one("a.b", "3"))),
		"expecting 'stream_exists' but got": second(at(esdb.StreamExists{}, "device-2", one("a.b", "3"))),
		"expecting '0' but got 'no_stream'": second(at(esdb.Revision(0), "device-2", one("a.b", "3"))),
	} {
		if code(err) != esdb.ErrorCodeWrongExpectedVersion || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// Nothing to append: judged, and moves nothing.
	if r, err := at(esdb.Revision(1), "device-1"); err != nil || r.NextExpectedVersion != 1 {
		t.Errorf("no events: %+v, %v", r, err)
	}
	if _, err := at(esdb.Revision(3), "device-1"); code(err) != esdb.ErrorCodeWrongExpectedVersion {
		t.Errorf("no events at a wrong revision: %v", err)
	}
	w.reads("device-1", "1 2")
}

func second[T any](_ T, err error) error { return err }

// TestRefusedAppends: malformed or too big, nothing written, and the client goes on (A15).
func TestRefusedAppends(t *testing.T) {
	w := over(t, free())
	twice := one("a.b", "1")
	for name, events := range map[string][]esdb.EventData{
		"too big":         {one("a.b", strings.Repeat("1", domain.MaxAppend))},
		"too big in sum":  {one("a.b", strings.Repeat("1", domain.MaxAppend/2)), one("a.b", strings.Repeat("1", domain.MaxAppend/2))},
		"far too big":     {one("a.b", strings.Repeat("1", 12<<20)), one("a.b", strings.Repeat("1", 12<<20))},
		"no type":         {one("", "1")},
		"one id twice":    {twice, twice},
		"a forged end":    {one("$streamDeleted", "{}")},
		"forged in probe": {one("a.b", "1"), one("$streamDeleted", "{}")},
	} {
		if _, err := w.c.AppendToStream(w.ctx, "probe-1", esdb.AppendToStreamOptions{}, events...); err == nil || code(err) == esdb.ErrorUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "$all", "$$", "a\x00b"} {
		if _, err := w.c.AppendToStream(w.ctx, name, esdb.AppendToStreamOptions{}, one("a.b", "1")); err == nil {
			t.Errorf("a stream named %q was taken", name)
		}
	}
	w.missing("probe-1", esdb.ErrorCodeResourceNotFound)
	w.put("probe-1", 1)
	w.reads("probe-1", "1")
}

// TestMaxAge is T2 and T4 by the server's clock: an event is as old as its own metadata says.
func TestMaxAge(t *testing.T) {
	o := free()
	o.Clock = func() time.Time { return time.Date(2026, 11, 2, 9, 30, 30, 0, time.UTC) }
	w := over(t, o)
	w.put("probe-1", 0, 1, 2)
	for age, want := range map[time.Duration]string{time.Minute: "0 1 2", 10 * time.Second: ""} {
		var m esdb.StreamMetadata
		m.SetMaxAge(age)
		if _, err := w.c.SetStreamMetadata(w.ctx, "probe-1", esdb.AppendToStreamOptions{}, m); err != nil {
			t.Fatal(err)
		}
		w.reads("probe-1", want)
	}
}

// said is what a subscription says in its next n messages: e<data>, level, c (a checkpoint), dropped.
func (w wire) said(sub *esdb.Subscription, n int) string {
	w.Helper()
	var words []string
	for len(words) < n {
		switch m := sub.Recv(); {
		case m.SubscriptionDropped != nil:
			return strings.Join(append(words, "dropped"), " ")
		case m.EventAppeared != nil && strings.HasPrefix(m.EventAppeared.Event.EventType, "$"):
			words = append(words, "e"+m.EventAppeared.Event.StreamID+"/"+m.EventAppeared.Event.EventType)
		case m.EventAppeared != nil:
			words = append(words, "e"+string(m.EventAppeared.Event.Data))
		case m.CaughtUp != nil:
			words = append(words, "level")
		case m.CheckPointReached != nil:
			words = append(words, "c")
		}
	}
	return strings.Join(words, " ")
}

// TestHistoryStays is D11: nobody deletes, truncates or tombstones a domain stream over the wire.
func TestHistoryStays(t *testing.T) {
	w := over(t, esdbserver.Options{}) // as it is by default
	for _, stream := range []string{"device-0015651a2b3c", "tenant-1", "jobs-1"} {
		w.put(stream, 0, 1)
		if _, err := w.c.DeleteStream(w.ctx, stream, esdb.DeleteStreamOptions{}); code(err) != esdb.ErrorCodeAccessDenied {
			t.Errorf("delete: %v", err)
		}
		if _, err := w.c.TombstoneStream(w.ctx, stream, esdb.TombstoneStreamOptions{}); code(err) != esdb.ErrorCodeAccessDenied {
			t.Errorf("tombstone: %v", err)
		}
		for _, doc := range []string{`{"$tb":2}`, `{"$maxCount":1}`, `{"$maxAge":1,"x":2}`, `{"x":1,"\u0024tb":2}`} {
			if _, err := w.c.AppendToStream(w.ctx, "$$"+stream, esdb.AppendToStreamOptions{}, one("$metadata", doc)); code(err) != esdb.ErrorCodeAccessDenied {
				t.Errorf("metadata %s: %v", doc, err)
			}
		}
		if _, err := w.c.AppendToStream(w.ctx, "$$"+stream, esdb.AppendToStreamOptions{}, one("$metadata", `{"owner":"audit"}`)); err != nil {
			t.Errorf("harmless metadata: %v", err)
		}
		// Even if it is there, written past this server, it hides nothing.
		e := domain.NewEvent{ID: uuid.New(), Type: "$metadata", Data: []byte(`{"$tb":9223372036854775807}`)}
		if _, err := w.ledger.Append(w.ctx, domain.StreamID("$$"+stream), domain.Any, []domain.NewEvent{e}); err != nil {
			t.Fatal(err)
		}
		w.reads(stream, "0 1")
	}
	for _, stream := range []string{"reactor-x", "anything", "device"} {
		w.put(stream, 0, 1)
		if _, err := w.c.DeleteStream(w.ctx, stream, esdb.DeleteStreamOptions{}); err != nil {
			t.Errorf("delete %s, which is not ours: %v", stream, err)
		}
	}
}

// TestStreamSubscriptions is S1 to S4 on one stream.
func TestStreamSubscriptions(t *testing.T) {
	w := over(t, free())
	sub := func(stream string, from esdb.StreamPosition) *esdb.Subscription {
		s, err := w.c.SubscribeToStream(w.ctx, stream, esdb.SubscribeToStreamOptions{From: from})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	w.put("device-1", 0, 1, 2)
	w.put("device-2", 50)
	start, after, end := sub("device-1", esdb.Start{}), sub("device-1", esdb.Revision(1)), sub("device-1", esdb.End{})
	none, meta := sub("device-none", esdb.Start{}), sub("$$probe-1", esdb.End{})
	for s, want := range map[*esdb.Subscription]string{start: "e0 e1 e2 level", after: "e2 level", end: "level", none: "level", meta: "level"} {
		if got := w.said(s, len(strings.Fields(want))); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	w.put("device-2", 51)
	w.put("device-1", 3, 4)
	w.put("device-none", 60)
	if _, err := w.ledger.Append(w.ctx, "device-1", 4, []domain.NewEvent{{ID: uuid.New(), Type: "a.b", Data: []byte("5")}}); err != nil { // past the server
		t.Fatal(err)
	}
	if _, err := w.c.AppendToStream(w.ctx, "$$probe-1", esdb.AppendToStreamOptions{}, one("$metadata", "{}")); err != nil {
		t.Fatal(err)
	}
	for s, want := range map[*esdb.Subscription]string{start: "e3 e4 e5", after: "e3 e4 e5", end: "e3 e4 e5", none: "e60", meta: "e$$probe-1/$metadata"} {
		if got := w.said(s, len(strings.Fields(want))); got != want {
			t.Errorf("live: %q, want %q", got, want)
		}
	}
}

// TestFilters is S5 and where exactly our server's checkpoints come; that resuming behind one loses nothing is
// S6 of the contract.
func TestFilters(t *testing.T) {
	w := over(t, free())
	for i := range 100 {
		w.put(fmt.Sprintf("tenant-%d", i), i)
	}
	w.put("device-1", 100)
	w.put("code-1", 101)
	kind := one("layer.defined", "102")
	if _, err := w.c.AppendToStream(w.ctx, "layer-1", esdb.AppendToStreamOptions{}, kind); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		f    esdb.SubscriptionFilter
		want string
	}{
		"stream prefixes": {esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"device-", "code-"}}, "c c c c e100 e101 c level"},
		"stream pattern":  {esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Regex: "^(device|code)-"}, "c c c c e100 e101 c level"},
		"type prefix":     {esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{"layer."}}, "c c c c e102 c level"},
		"type pattern":    {esdb.SubscriptionFilter{Type: esdb.EventFilterType, Regex: `^layer\.`}, "c c c c e102 c level"},
		"nothing matches": {esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{"none."}}, "c c c c c level"},
	} {
		sub, err := w.c.SubscribeToAll(w.ctx, esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: &c.f, MaxSearchWindow: 5, CheckpointInterval: 5})
		if err != nil {
			t.Fatal(name, err)
		}
		if got := w.said(sub, len(strings.Fields(c.want))); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		_ = sub.Close()
	}
	for name, f := range map[string]esdb.SubscriptionFilter{"a broken pattern": {Type: esdb.StreamFilterType, Regex: "("}} {
		if _, err := w.c.SubscribeToAll(w.ctx, esdb.SubscribeToAllOptions{Filter: &f, MaxSearchWindow: 5, CheckpointInterval: 5}); err == nil {
			t.Errorf("%s was confirmed", name)
		}
	}
}

// TestAllSubscription is S1 to S3 without a filter: there are no checkpoints then.
func TestAllSubscription(t *testing.T) {
	w := over(t, free())
	sub := func(from esdb.AllPosition) *esdb.Subscription {
		s, err := w.c.SubscribeToAll(w.ctx, esdb.SubscribeToAllOptions{From: from})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	empty := sub(esdb.Start{})
	if got := w.said(empty, 1); got != "level" {
		t.Errorf("on an empty log: %q", got)
	}
	p := w.put("device-1", 0)
	w.put("device-2", 1, 2)
	for from, want := range map[esdb.AllPosition]string{
		esdb.Start{}: "e0 e1 e2 level",
		esdb.Position{Commit: p.CommitPosition, Prepare: p.PreparePosition}: "e1 e2 level",
		esdb.End{}: "level",
	} {
		s := sub(from)
		if got := w.said(s, len(strings.Fields(want))); got != want {
			t.Errorf("from %v: %q, want %q", from, got, want)
		}
		defer func() {
			if got := w.said(s, 1); got != "e3" {
				t.Errorf("live, from %v: %q", from, got)
			}
		}()
	}
	w.put("device-1", 3)
	if got := w.said(empty, 4); got != "e0 e1 e2 e3" {
		t.Errorf("on what was an empty log: %q", got)
	}
}

// TestBatchAppend: many appends on one call, failures inside the answers, as other clients use it.
func TestBatchAppend(t *testing.T) {
	w := over(t, free())
	conn, err := grpc.NewClient(w.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	call, err := streams.NewStreamsClient(conn).BatchAppend(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	id := func(id uuid.UUID) *shared.UUID {
		return &shared.UUID{Value: &shared.UUID_String_{String_: id.String()}}
	}
	send := func(correlation uuid.UUID, final bool, options *streams.BatchAppendReq_Options, data ...string) {
		t.Helper()
		m := &streams.BatchAppendReq{CorrelationId: id(correlation), Options: options, IsFinal: final}
		for _, d := range data {
			m.ProposedMessages = append(m.ProposedMessages, &streams.BatchAppendReq_ProposedMessage{Id: id(uuid.New()), Metadata: map[string]string{"type": "a.b"}, Data: []byte(d)})
		}
		if err := call.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	answer := func(correlation uuid.UUID) *streams.BatchAppendResp {
		t.Helper()
		r, err := call.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if r.GetCorrelationId().GetString_() != correlation.String() {
			t.Fatalf("the answer is for %s, want %s", r.GetCorrelationId(), correlation)
		}
		return r
	}
	fresh := func(stream string) *streams.BatchAppendReq_Options {
		return &streams.BatchAppendReq_Options{StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)}, ExpectedStreamPosition: &streams.BatchAppendReq_Options_NoStream{NoStream: &emptypb.Empty{}}}
	}
	a, b := uuid.New(), uuid.New()
	send(a, false, fresh("device-1"), "0", "1") // two appends, their parts mixed
	send(b, true, fresh("device-2"), "9")
	if r := answer(b); r.GetSuccess().GetCurrentRevision() != 0 || r.GetSuccess().GetPosition().GetCommitPosition() == 0 || string(r.GetStreamIdentifier().GetStreamName()) != "device-2" {
		t.Errorf("%v", r)
	}
	send(a, true, nil, "2")
	if r := answer(a); r.GetSuccess().GetCurrentRevision() != 2 {
		t.Errorf("%v", r)
	}
	w.reads("device-1", "0 1 2")
	send(a, true, fresh("device-1"), "3")
	r := answer(a)
	var wrong shared.WrongExpectedVersion
	if details := r.GetError().GetDetails(); len(details) != 1 || details[0].UnmarshalTo(&wrong) != nil || wrong.GetCurrentStreamRevision() != 2 || wrong.GetExpectedNoStream() == nil {
		t.Errorf("a conflict is answered %v", r)
	}
	send(b, true, fresh("device-3"), strings.Repeat("1", domain.MaxAppend+1))
	var big shared.MaximumAppendSizeExceeded
	if details := answer(b).GetError().GetDetails(); len(details) != 1 || details[0].UnmarshalTo(&big) != nil || big.GetMaxAppendSize() != domain.MaxAppend {
		t.Errorf("too big is answered %v", details)
	}
	send(b, true, nil, "1")
	var bad shared.BadRequest
	if details := answer(b).GetError().GetDetails(); len(details) != 1 || details[0].UnmarshalTo(&bad) != nil {
		t.Errorf("an append without options is answered %v", details)
	}
	if err := call.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := call.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the call ended with %v", err)
	}
	w.missing("device-3", esdb.ErrorCodeResourceNotFound)
}

// TestReadOnlyServer: it reads, and refuses every way of writing.
func TestReadOnlyServer(t *testing.T) {
	n := &node{t: t, address: "127.0.0.1:0", dir: t.TempDir()}
	n.start()
	t.Cleanup(func() { n.stop() })
	if _, err := n.ledger.Append(t.Context(), "device-1", domain.NoStream, []domain.NewEvent{{ID: uuid.New(), Type: "a.b", Data: []byte("0")}}); err != nil {
		t.Fatal(err)
	}
	w := wire{t, t.Context(), n, client(t, "esdb://"+n.address+"?tls=false")}
	w.reads("device-1", "0")
	for what, err := range map[string]error{
		"append":    second(w.c.AppendToStream(w.ctx, "device-1", esdb.AppendToStreamOptions{}, one("a.b", "1"))),
		"metadata":  second(w.c.SetStreamMetadata(w.ctx, "device-1", esdb.AppendToStreamOptions{}, esdb.StreamMetadata{})),
		"delete":    second(w.c.DeleteStream(w.ctx, "reactor-1", esdb.DeleteStreamOptions{})),
		"tombstone": second(w.c.TombstoneStream(w.ctx, "reactor-1", esdb.TombstoneStreamOptions{})),
	} {
		if code(err) != esdb.ErrorCodeAccessDenied {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.reads("device-1", "0")
}

// TestNotOffered: what is not here says so.
func TestNotOffered(t *testing.T) {
	w := over(t, free())
	config, err := esdb.ParseConnectionString("esdb://" + w.address + "?tls=false")
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = esdb.NoopLogging()
	c, err := esdb.NewProjectionClient(config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Create(w.ctx, "p", "fromAll()", esdb.CreateProjectionOptions{}); err == nil || !strings.Contains(err.Error(), "not offered") {
		t.Errorf("projections: %v", err)
	}
}

// TestGossip: a client that discovers its cluster finds the one member, at the address it came to or at the
// one the server is told to name, whatever kind of node it prefers; and it finds it again after a restart.
func TestGossip(t *testing.T) {
	for _, advertised := range []bool{false, true} {
		o := free()
		if advertised { // nobody listens there before
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			o.Advertise = listener.Addr().String()
			_ = listener.Close()
		}
		w := over(t, o)
		if advertised {
			w.relay(o.Advertise)
		}
		for i, conn := range []string{
			"esdb://%[1]s,%[1]s?tls=false", "esdb+discover://%s?tls=false", "esdb+discover://%s?tls=false&nodePreference=leader",
			"esdb+discover://%s?tls=false&nodePreference=follower", "esdb+discover://%s?tls=false&nodePreference=random",
		} {
			c := client(t, fmt.Sprintf(conn, w.address)+"&maxDiscoverAttempts=1000")
			if _, err := c.AppendToStream(w.ctx, "device-1", esdb.AppendToStreamOptions{}, one("a.b", fmt.Sprint(i))); err != nil {
				t.Fatal(conn, err)
			}
			v, err := c.GetServerVersion()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&esdb.ServerVersion{Major: 24, Minor: 10}, v); diff != "" {
				t.Error(diff)
			}
			if i > 0 {
				continue
			}
			w.stop()
			w.start()
			w.until(func() bool {
				got, err := drain(c.ReadStream(w.ctx, "device-1", esdb.ReadStreamOptions{}, 1))
				return err == nil && got == "0"
			})
		}
		if w.relayed.Load() > 0 != advertised {
			t.Errorf("advertised %v: %d connections came through", advertised, w.relayed.Load())
		}
	}
}

// relay passes connections at addr on to the node, as a port mapping does.
func (w wire) relay(addr string) {
	w.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = listener.Close() })
	to := w.address
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			w.relayed.Add(1)
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		}
	}()
}
