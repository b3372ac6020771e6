package esdb

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"ledgerline/adapters/esdbserver"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/contract"
)

// What only the wire shows, and persistent subscriptions, with the official client.
func TestWireContract(t *testing.T) { contract.Wire(t, served) }

func TestGroupsContract(t *testing.T) { contract.Groups(t, served) }

func served(t *testing.T) contract.WireUnderTest {
	n := up(t, esdbserver.Options{})
	return contract.WireUnderTest{Client: client(t, "esdb://"+n.address+"?tls=false"), Restart: func(t *testing.T) {
		n.stop()
		n.start()
	}}
}

// grouped is one test with a group "g" of stream that begins at its start.
func grouped(t *testing.T, o esdbserver.Options, stream string, change func(*esdb.PersistentSubscriptionSettings)) wire {
	w := over(t, o)
	set := esdb.SubscriptionSettingsDefault()
	if change != nil {
		change(&set)
	}
	if err := w.c.CreatePersistentSubscription(w.ctx, stream, "g", esdb.PersistentStreamSubscriptionOptions{StartFrom: esdb.Start{}, Settings: &set}); err != nil {
		t.Fatal(err)
	}
	return w
}

// join subscribes to a group; "" is the whole log.
func (w wire) join(stream, group string) *esdb.PersistentSubscription {
	w.Helper()
	o := esdb.SubscribeToPersistentSubscriptionOptions{BufferSize: 10}
	sub, err := w.c.SubscribeToPersistentSubscriptionToAll(w.ctx, group, o)
	if stream != "" {
		sub, err = w.c.SubscribeToPersistentSubscription(w.ctx, stream, group, o)
	}
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = sub.Close() })
	return sub
}

// hears wants these data next, and answers the events.
func (w wire) hears(sub *esdb.PersistentSubscription, want ...string) (list []*esdb.ResolvedEvent) {
	w.Helper()
	for _, data := range want {
		m := sub.Recv()
		if m.EventAppeared == nil || string(m.EventAppeared.Event.OriginalEvent().Data) != data {
			w.Fatalf("came %+v, want %s", m, data)
		}
		list = append(list, m.EventAppeared.Event)
	}
	return list
}

// TestOneIDTwice: two events with one id, in two streams, both reach a group of the whole log; a cluster
// loses the second.
func TestOneIDTwice(t *testing.T) {
	w := over(t, free())
	if err := w.c.CreatePersistentSubscriptionToAll(w.ctx, "g", esdb.PersistentAllSubscriptionOptions{StartFrom: esdb.Start{}, Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"probe-"}}}); err != nil {
		t.Fatal(err)
	}
	a, b := one("a.b", "1"), one("a.b", "2")
	b.EventID = a.EventID
	for stream, e := range map[string]esdb.EventData{"probe-1": a, "probe-2": b} {
		if _, err := w.c.AppendToStream(w.ctx, stream, esdb.AppendToStreamOptions{}, e); err != nil {
			t.Fatal(err)
		}
	}
	sub, seen := w.join("", "g"), map[string]bool{}
	for len(seen) < 2 {
		m := sub.Recv()
		if m.EventAppeared == nil {
			t.Fatal(m.SubscriptionDropped.Error)
		}
		seen[string(m.EventAppeared.Event.Event.Data)] = true
		if err := sub.Ack(m.EventAppeared.Event); err != nil {
			t.Fatal(err)
		}
	}
}

// deaf is a log that takes no appends to some streams for a while.
type deaf struct {
	commands.Log
	to   string
	shut atomic.Bool
	no   atomic.Int32
}

func (d *deaf) Append(ctx context.Context, s domain.StreamID, r domain.Revision, e []domain.NewEvent) (domain.Position, error) {
	if d.shut.Load() && strings.HasSuffix(string(s), d.to) {
		d.no.Add(1)
		return domain.Position{}, domain.ErrReadOnly
	}
	return d.Log.Append(ctx, s, r, e)
}

// TestParkingThatFails: a message that cannot be parked is not lost: the checkpoint does not pass it, a crash
// brings it back, and when the log takes it, it is parked.
func TestParkingThatFails(t *testing.T) {
	w := grouped(t, free(), "probe-1", func(s *esdb.PersistentSubscriptionSettings) { s.CheckpointLowerBound, s.CheckpointUpperBound = 1, 1 })
	w.stop()
	d := &deaf{to: "-parked"}
	d.shut.Store(true)
	w.startOver(func(l commands.Log) commands.Log { d.Log = l; return d })
	w.c = client(t, "esdb://"+w.address+"?tls=false")
	w.put("probe-1", 0, 1, 2)
	sub := w.join("probe-1", "g")
	list := w.hears(sub, "0", "1", "2")
	if err := sub.Nack("bad", esdb.NackActionPark, list[1]); err != nil {
		t.Fatal(err)
	}
	if err := sub.Ack(list[0], list[2]); err != nil {
		t.Fatal(err)
	}
	info := func(ok func(*esdb.PersistentSubscriptionInfo) bool) *esdb.PersistentSubscriptionInfo {
		t.Helper()
		for {
			i, err := w.c.GetPersistentSubscriptionInfo(w.ctx, "probe-1", "g", esdb.GetPersistentSubscriptionOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if ok(i) {
				return i
			}
		}
	}
	i := info(func(i *esdb.PersistentSubscriptionInfo) bool {
		return d.no.Load() > 0 && i.Stats.TotalInFlightMessages == 0 && i.Stats.LastCheckpointedEventRevision != nil
	})
	if *i.Stats.LastCheckpointedEventRevision != 0 || i.Stats.ParkedMessagesCount != 0 || i.Stats.OutstandingMessagesCount != 1 {
		t.Errorf("while parking fails: %+v", *i.Stats)
	}
	d.shut.Store(false)
	info(func(i *esdb.PersistentSubscriptionInfo) bool {
		return i.Stats.ParkedMessagesCount == 1 && *i.Stats.LastCheckpointedEventRevision == 2
	})
}

// TestReplayedStayParked: messages that are replayed and not yet answered are parked still when the server
// has to start again, and those answered are not.
func TestReplayedStayParked(t *testing.T) {
	w := grouped(t, free(), "probe-1", nil)
	w.put("probe-1", 0, 1, 2)
	sub := w.join("probe-1", "g")
	for _, e := range w.hears(sub, "0", "1", "2") {
		if err := sub.Nack("bad", esdb.NackActionPark, e); err != nil {
			t.Fatal(err)
		}
	}
	parked := func(want int64) {
		t.Helper()
		for {
			i, err := w.c.GetPersistentSubscriptionInfo(w.ctx, "probe-1", "g", esdb.GetPersistentSubscriptionOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if i.Stats.ParkedMessagesCount == want && i.Stats.RetryBufferCount == 0 {
				return
			}
		}
	}
	parked(3)
	if err := w.c.ReplayParkedMessages(w.ctx, "probe-1", "g", esdb.ReplayParkedMessagesOptions{}); err != nil {
		t.Fatal(err)
	}
	list := w.hears(sub, "0", "1", "2")
	if err := sub.Ack(list[0]); err != nil {
		t.Fatal(err)
	}
	w.until(func() bool {
		got, err := drain(w.c.ReadStream(w.ctx, "$persistentsubscription-probe-1::g-parked", esdb.ReadStreamOptions{}, 9))
		return err == nil && got == "1@probe-1 2@probe-1"
	})
	w.stop()
	w.start()
	w.c = client(t, "esdb://"+w.address+"?tls=false")
	parked(2)
	if err := w.c.ReplayParkedMessages(w.ctx, "probe-1", "g", esdb.ReplayParkedMessagesOptions{}); err != nil {
		t.Fatal(err)
	}
	sub = w.join("probe-1", "g")
	if err := sub.Ack(w.hears(sub, "1", "2")...); err != nil {
		t.Fatal(err)
	}
	w.until(func() bool {
		got, err := drain(w.c.ReadStream(w.ctx, "$persistentsubscription-probe-1::g-parked", esdb.ReadStreamOptions{}, 9))
		return err == nil && got == ""
	})
}

func (w wire) until(ok func() bool) {
	w.Helper()
	for !ok() {
		if w.ctx.Err() != nil {
			w.Fatal("it does not come to that")
		}
	}
}

// TestFromTheEnd: the end is where it was when the group was made, whatever restarts lie in between.
func TestFromTheEnd(t *testing.T) {
	w := over(t, free())
	w.put("probe-1", 0, 1)
	if err := w.c.CreatePersistentSubscription(w.ctx, "probe-1", "g", esdb.PersistentStreamSubscriptionOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := w.c.CreatePersistentSubscriptionToAll(w.ctx, "all", esdb.PersistentAllSubscriptionOptions{}); err != nil {
		t.Fatal(err)
	}
	w.put("probe-1", 2)
	w.stop()
	w.start()
	w.c = client(t, "esdb://"+w.address+"?tls=false")
	w.hears(w.join("probe-1", "g"), "2")
	w.hears(w.join("", "all"), "2") // and nothing of what groups keep
	i, err := w.c.GetPersistentSubscriptionInfo(w.ctx, "probe-1", "g", esdb.GetPersistentSubscriptionOptions{})
	if err != nil || i.Settings.StartFrom != (esdb.End{}) {
		t.Errorf("info: %+v, %v", i, err)
	}
}

// TestRestartOfGroups: the subsystem starts again, consumers are told, and go on behind the checkpoint.
func TestRestartOfGroups(t *testing.T) {
	w := grouped(t, free(), "probe-1", nil)
	w.put("probe-1", 0, 1)
	sub := w.join("probe-1", "g")
	if err := sub.Ack(w.hears(sub, "0", "1")...); err != nil {
		t.Fatal(err)
	}
	w.until(func() bool {
		i, err := w.c.GetPersistentSubscriptionInfo(w.ctx, "probe-1", "g", esdb.GetPersistentSubscriptionOptions{})
		return err == nil && i.Stats.OutstandingMessagesCount == 0
	})
	if err := w.c.RestartPersistentSubscriptionSubsystem(w.ctx, esdb.RestartPersistentSubscriptionSubsystemOptions{}); err != nil {
		t.Fatal(err)
	}
	if m := sub.Recv(); m.SubscriptionDropped == nil {
		t.Errorf("the consumer was told %+v", m.EventAppeared)
	}
	w.put("probe-1", 2)
	w.hears(w.join("probe-1", "g"), "2")
}

// TestGroupsAreKept: on a server that takes no writes there are no groups; on another nobody writes, deletes or
// truncates what groups keep.
func TestGroupsAreKept(t *testing.T) {
	w := grouped(t, free(), "probe-1", nil)
	for _, stream := range []string{"$persistentSubscriptionConfig", "$persistentsubscription-probe-1::g-checkpoint", "$persistentsubscription-probe-1::g-parked", "$$$persistentsubscription-probe-1::g-parked"} {
		if _, err := w.c.AppendToStream(w.ctx, stream, esdb.AppendToStreamOptions{}, one("$metadata", `{"$tb":5}`)); code(err) != esdb.ErrorCodeAccessDenied {
			t.Errorf("append to %s: %v", stream, err)
		}
		if _, err := w.c.TombstoneStream(w.ctx, stream, esdb.TombstoneStreamOptions{}); code(err) != esdb.ErrorCodeAccessDenied {
			t.Errorf("tombstone %s: %v", stream, err)
		}
	}
	for _, group := range []string{"", "a::b", strings.Repeat("g", 2000)} {
		if err := w.c.CreatePersistentSubscription(w.ctx, "probe-1", group, esdb.PersistentStreamSubscriptionOptions{}); err == nil {
			t.Errorf("a group named %.10q is taken", group)
		}
	}
	w.stop()
	w.options.Write = false
	w.start()
	c := client(t, "esdb://"+w.address+"?tls=false")
	if err := c.CreatePersistentSubscription(w.ctx, "probe-1", "h", esdb.PersistentStreamSubscriptionOptions{}); code(err) != esdb.ErrorCodeAccessDenied {
		t.Errorf("create: %v", err)
	}
	if _, err := c.SubscribeToPersistentSubscription(w.ctx, "probe-1", "g", esdb.SubscribeToPersistentSubscriptionOptions{}); code(err) != esdb.ErrorCodeAccessDenied {
		t.Errorf("subscribe: %v", err)
	}
}

// TestOtherClientsOfGroups: what the Go client does not send, others do: the strategy by name, times in ticks,
// ids as text.
func TestOtherClientsOfGroups(t *testing.T) {
	w := over(t, free())
	conn, err := grpc.NewClient(w.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := persistent.NewPersistentSubscriptionsClient(conn)
	name := &shared.StreamIdentifier{StreamName: []byte("probe-1")}
	_, err = c.Create(w.ctx, &persistent.CreateReq{Options: &persistent.CreateReq_Options{GroupName: "g",
		StreamOption: &persistent.CreateReq_Options_Stream{Stream: &persistent.CreateReq_StreamOptions{StreamIdentifier: name, RevisionOption: &persistent.CreateReq_StreamOptions_Start{Start: &shared.Empty{}}}},
		Settings: &persistent.CreateReq_Settings{ConsumerStrategy: "PinnedByCorrelation", HistoryBufferSize: 50, ReadBatchSize: 10, LiveBufferSize: 50, MaxRetryCount: 3,
			MessageTimeout: &persistent.CreateReq_Settings_MessageTimeoutTicks{MessageTimeoutTicks: 300_000_000}, CheckpointAfter: &persistent.CreateReq_Settings_CheckpointAfterTicks{CheckpointAfterTicks: 20_000_000}}}})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.GetInfo(w.ctx, &persistent.GetInfoReq{Options: &persistent.GetInfoReq_Options{GroupName: "g", StreamOption: &persistent.GetInfoReq_Options_StreamIdentifier{StreamIdentifier: name}}})
	if err != nil {
		t.Fatal(err)
	}
	if i := answer.GetSubscriptionInfo(); i.NamedConsumerStrategy != "PinnedByCorrelation" || i.MessageTimeoutMilliseconds != 30_000 || i.CheckPointAfterMilliseconds != 2_000 {
		t.Errorf("info: %v", i)
	}
	w.put("probe-1", 0)
	call, err := c.Read(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	send := func(m *persistent.ReadReq) {
		t.Helper()
		if err := call.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	send(&persistent.ReadReq{Content: &persistent.ReadReq_Options_{Options: &persistent.ReadReq_Options{GroupName: "g", BufferSize: 1,
		StreamOption: &persistent.ReadReq_Options_StreamIdentifier{StreamIdentifier: name},
		UuidOption:   &persistent.ReadReq_Options_UUIDOption{Content: &persistent.ReadReq_Options_UUIDOption_String_{String_: &shared.Empty{}}}}}})
	if m, err := call.Recv(); err != nil || m.GetSubscriptionConfirmation().GetSubscriptionId() == "" {
		t.Fatal(m, err)
	}
	m, err := call.Recv()
	if err != nil {
		t.Fatal(err)
	}
	id := m.GetEvent().GetEvent().GetId()
	if _, err := uuid.Parse(id.GetString_()); err != nil {
		t.Errorf("the id came as %v", id)
	}
	send(&persistent.ReadReq{Content: &persistent.ReadReq_Ack_{Ack: &persistent.ReadReq_Ack{Ids: []*shared.UUID{id}}}})
	w.put("probe-1", 1)
	if m, err = call.Recv(); err != nil || string(m.GetEvent().GetEvent().GetData()) != "1" {
		t.Errorf("after an ack: %v, %v", m, err)
	}
	send(&persistent.ReadReq{}) // neither ack nor nack
	if _, err := call.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("an empty answer: %v", err)
	}
}
