package esdb

import (
	"context"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"ledgerline/adapters/eventstoredb"
	"ledgerline/commands"
	"ledgerline/tests/ports"
	"ledgerline/tests/proc"
)

// TestKilledUnderGroups: the event store's process is killed (kill -9) again and again while eight writers
// append and five consumers share two groups, one of the whole log and one of a single stream, acking,
// retrying, parking. Nothing acknowledged is lost or doubled in the log; every event reaches each group;
// what was parked is parked, and comes back when it is replayed.
func TestKilledUnderGroups(t *testing.T) {
	kills, each := 3, 40
	if n, err := strconv.Atoi(os.Getenv("LEDGERLINE_KILLS")); err == nil {
		kills, each = n, 40*max(n/3, 1)
	}
	bin, dir := proc.Binary(t), t.TempDir()
	server, err := proc.LaunchESDB(bin, dir, ports.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Kill() })
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience+time.Duration(kills)*time.Second)
	defer cancel()
	conn := "esdb://" + server.ESDB + "?tls=false&maxDiscoverAttempts=1000"
	store, err := eventstoredb.Open(ctx, conn, eventstoredb.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	c := client(t, conn)
	set := esdb.SubscriptionSettingsDefault()
	set.CheckpointLowerBound, set.CheckpointAfter, set.MaxRetryCount = 1, 100, 1000
	if err := c.CreatePersistentSubscriptionToAll(ctx, "all", esdb.PersistentAllSubscriptionOptions{StartFrom: esdb.Start{}, Settings: &set,
		Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"device-"}}}); err != nil {
		t.Fatal(err)
	}
	if err := c.CreatePersistentSubscription(ctx, "device-0", "one", esdb.PersistentStreamSubscriptionOptions{StartFrom: esdb.Start{}, Settings: &set}); err != nil {
		t.Fatal(err)
	}

	all, one := newTally(writers*each), newTally(each)
	subscribeAll := func() (*esdb.PersistentSubscription, error) {
		return c.SubscribeToPersistentSubscriptionToAll(ctx, "all", esdb.SubscribeToPersistentSubscriptionOptions{BufferSize: 20})
	}
	subscribeOne := func() (*esdb.PersistentSubscription, error) {
		return c.SubscribeToPersistentSubscription(ctx, "device-0", "one", esdb.SubscribeToPersistentSubscriptionOptions{BufferSize: 20})
	}
	consuming, stop := context.WithCancel(ctx)
	var consumers sync.WaitGroup
	for range 3 {
		consumers.Go(func() { all.consume(consuming, subscribeAll) })
	}
	for range 2 {
		consumers.Go(func() { one.consume(consuming, subscribeOne) })
	}
	defer consumers.Wait()
	defer stop()

	slowest := time.Duration(0)
	underWriters(ctx, t, store, each, kills, func() {
		server.Kill()
		if server, err = proc.LaunchESDB(bin, dir, server.ESDB); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, server.Ready)
	}, func() commands.Log { return store })
	for name, tally := range map[string]*tally{"of the whole log": all, "of one stream": one} {
		select {
		case <-tally.full:
		case <-ctx.Done():
			t.Fatalf("the group %s has seen %d of %d events", name, tally.count(), tally.want)
		}
	}
	// What is parked comes back once, on demand: the eighth of it that consumers parked.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for again := true; again; <-tick.C {
		i, err := c.GetPersistentSubscriptionInfoToAll(ctx, "all", esdb.GetPersistentSubscriptionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		again = i.Stats.OutstandingMessagesCount > 0 || i.Stats.RetryBufferCount > 0 || i.Stats.ReadBufferCount+i.Stats.LiveBufferCount > 0 || i.Stats.ParkedMessagesCount < int64(all.parkedCount())
	}
	back := all.replaying()
	if err := c.ReplayParkedMessagesToAll(ctx, "all", esdb.ReplayParkedMessagesOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-back:
	case <-ctx.Done():
		t.Fatalf("%d parked messages did not come back", all.parkedCount())
	}
	t.Logf("%d kills, %d appends acknowledged, 0 lost; deliveries: %d of %d to the group of the log, %d of %d to that of one stream; %d parked and replayed; slowest start %s",
		kills, writers*each, all.deliveries.Load(), all.want, one.deliveries.Load(), one.want, all.parkedBefore, slowest.Round(time.Millisecond))
}

// tally is what the consumers of one group have finished.
type tally struct {
	want       int
	deliveries atomic.Int64
	full, back chan struct{}

	mu           sync.Mutex
	seen, parked map[uuid.UUID]bool
	replay       bool
	parkedBefore int
}

func newTally(want int) *tally {
	return &tally{want: want, full: make(chan struct{}), back: make(chan struct{}), seen: map[uuid.UUID]bool{}, parked: map[uuid.UUID]bool{}}
}

func (y *tally) count() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return len(y.seen)
}

func (y *tally) parkedCount() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return len(y.parked)
}

// replaying makes consumers ack what was parked; the channel says when all of it has come back.
func (y *tally) replaying() <-chan struct{} {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.replay, y.parkedBefore = true, len(y.parked); y.parkedBefore == 0 {
		close(y.back)
	}
	return y.back
}

// consume handles messages until ctx ends: some are given back at first, some are parked, the others acked.
func (y *tally) consume(ctx context.Context, subscribe func() (*esdb.PersistentSubscription, error)) {
	for ctx.Err() == nil {
		sub, err := subscribe()
		if err != nil {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		end := context.AfterFunc(ctx, func() { _ = sub.Close() })
		for dropped := false; !dropped; {
			switch m := sub.Recv(); {
			case m.EventAppeared != nil:
				y.handle(sub, m.EventAppeared)
			case m.SubscriptionDropped != nil:
				dropped = true
			}
		}
		end()
		_ = sub.Close()
	}
}

func (y *tally) handle(sub *esdb.PersistentSubscription, m *esdb.EventAppeared) {
	y.deliveries.Add(1)
	y.mu.Lock()
	defer y.mu.Unlock()
	e := m.Event.OriginalEvent()
	switch id := e.EventID; {
	case y.replay:
		if y.parked[id] {
			if delete(y.parked, id); len(y.parked) == 0 {
				close(y.back)
			}
		}
		_ = sub.Ack(m.Event) // an answer that is lost makes the message come again
	case e.EventNumber%5 == 1 && m.RetryCount == 0:
		_ = sub.Nack("once more", esdb.NackActionRetry, m.Event)
		return
	case e.EventNumber%8 == 3:
		_ = sub.Nack("for later", esdb.NackActionPark, m.Event)
		y.parked[id] = true
	default:
		_ = sub.Ack(m.Event)
	}
	if y.seen[e.EventID] = true; len(y.seen) == y.want && !y.replay {
		select {
		case <-y.full:
		default:
			close(y.full)
		}
	}
}
