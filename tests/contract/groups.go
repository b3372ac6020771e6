package contract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
)

// WireUnderTest is a server as an official client sees it. It need not be empty, nor alone: every test
// uses names of its own.
type WireUnderTest struct {
	Client *esdb.Client
	// Restart ends the server as a power cut would and starts it again; nil where that cannot be done. The
	// client finds it again.
	Restart func(t *testing.T)
}

// Groups runs the suite of persistent subscriptions (rows G) against a server.
func Groups(t *testing.T, open func(t *testing.T) WireUnderTest) { runWire(t, groupFacts, open) }

type wireFact struct {
	name  string
	check func(wire)
}

// wire is one test and the server it looks at.
type wire struct {
	*testing.T
	WireUnderTest
	ctx context.Context
	id  string // of this test
}

// stream is a name of this test.
func (w wire) stream(base string) string { return base + w.id + "-1" }

// code of an error of the client; -1 for none.
func code(err error) esdb.ErrorCode {
	e := (*esdb.Error)(nil)
	if !errors.As(err, &e) {
		return -1
	}
	return e.Code()
}

func (w wire) wants(what string, err error, want esdb.ErrorCode) {
	w.Helper()
	if code(err) != want {
		w.Errorf("%s: %v, want code %d", what, err, want)
	}
}

func (w wire) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func wireEvent(data string) esdb.EventData {
	return esdb.EventData{EventID: uuid.Must(uuid.NewV7()), EventType: "probe.sent", ContentType: esdb.ContentTypeJson, Data: []byte(data)}
}

// put appends events whose data are their numbers.
func (w wire) put(stream string, numbers ...int) *esdb.WriteResult {
	w.Helper()
	var events []esdb.EventData
	for _, n := range numbers {
		events = append(events, wireEvent(fmt.Sprint(n)))
	}
	r, err := w.Client.AppendToStream(w.ctx, stream, esdb.AppendToStreamOptions{}, events...)
	w.ok(err)
	return r
}

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// settings are the client's own, changed. Messages stay out for long: what comes again does so for its own reason.
func settings(change func(*esdb.PersistentSubscriptionSettings)) *esdb.PersistentSubscriptionSettings {
	s := esdb.SubscriptionSettingsDefault()
	s.MessageTimeout = int32((10 * time.Minute).Milliseconds())
	if change != nil {
		change(&s)
	}
	return &s
}

func (w wire) create(stream string, from esdb.StreamPosition, change func(*esdb.PersistentSubscriptionSettings)) {
	w.Helper()
	w.ok(w.Client.CreatePersistentSubscription(w.ctx, stream, "g", esdb.PersistentStreamSubscriptionOptions{StartFrom: from, Settings: settings(change)}))
}

// consumer receives in the background.
type wireConsumer struct {
	w    wire
	sub  *esdb.PersistentSubscription
	came chan *esdb.EventAppeared
	gone chan error
	once sync.Once
}

func (w wire) join(stream string, buffer uint32) *wireConsumer {
	w.Helper()
	c, err := w.tryJoin(stream, buffer)
	w.ok(err)
	return c
}

func (w wire) tryJoin(stream string, buffer uint32) (*wireConsumer, error) {
	sub, err := w.Client.SubscribeToPersistentSubscription(w.ctx, stream, "g", esdb.SubscribeToPersistentSubscriptionOptions{BufferSize: buffer})
	if err != nil {
		return nil, err
	}
	return w.listen(sub), nil
}

func (w wire) listen(sub *esdb.PersistentSubscription) *wireConsumer {
	c := &wireConsumer{w: w, sub: sub, came: make(chan *esdb.EventAppeared, 10_000), gone: make(chan error, 1)}
	w.Cleanup(c.leave)
	go func() {
		for {
			switch m := sub.Recv(); {
			case m.EventAppeared != nil:
				c.came <- m.EventAppeared
			case m.SubscriptionDropped != nil:
				c.gone <- m.SubscriptionDropped.Error
				return
			}
		}
	}()
	return c
}

func (c *wireConsumer) leave() { c.once.Do(func() { _ = c.sub.Close() }) }

// next is the next message.
func (c *wireConsumer) next() *esdb.EventAppeared {
	c.w.Helper()
	select {
	case m := <-c.came:
		return m
	case err := <-c.gone:
		c.w.Fatalf("consumer was dropped: %v", err)
	case <-c.w.ctx.Done():
		c.w.Fatal("no message came")
	}
	return nil
}

// said are the data of the next n messages, each with "+r" for its r-th retry.
func (c *wireConsumer) said(n int) (words string, list []*esdb.ResolvedEvent) {
	c.w.Helper()
	var texts []string
	for range n {
		m := c.next()
		text := string(m.Event.OriginalEvent().Data)
		if m.RetryCount > 0 {
			text += fmt.Sprintf("+%d", m.RetryCount)
		}
		texts, list = append(texts, text), append(list, m.Event)
	}
	return strings.Join(texts, " "), list
}

// gets wants exactly these messages next.
func (c *wireConsumer) gets(want string) []*esdb.ResolvedEvent {
	c.w.Helper()
	got, list := c.said(len(strings.Fields(want)))
	if got != want {
		c.w.Fatalf("came %q, want %q", got, want)
	}
	return list
}

func (c *wireConsumer) ack(list ...*esdb.ResolvedEvent) {
	c.w.Helper()
	c.w.ok(c.sub.Ack(list...))
}

func (c *wireConsumer) nack(action esdb.NackAction, list ...*esdb.ResolvedEvent) {
	c.w.Helper()
	c.w.ok(c.sub.Nack("because", action, list...))
}

// silent wants that nothing has come.
func (c *wireConsumer) silent() {
	c.w.Helper()
	select {
	case m := <-c.came:
		c.w.Fatalf("came %q", m.Event.OriginalEvent().Data)
	default:
	}
}

func (w wire) info(stream string) *esdb.PersistentSubscriptionInfo {
	w.Helper()
	i, err := w.Client.GetPersistentSubscriptionInfo(w.ctx, stream, "g", esdb.GetPersistentSubscriptionOptions{})
	w.ok(err)
	return i
}

// until polls the group's info.
func (w wire) until(stream, what string, ok func(*esdb.PersistentSubscriptionInfo) bool) {
	w.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		i := w.info(stream)
		if ok(i) {
			return
		}
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			w.Fatalf("%s: %+v", what, *i.Stats)
		}
	}
}

func outstanding(n int64) func(*esdb.PersistentSubscriptionInfo) bool {
	return func(i *esdb.PersistentSubscriptionInfo) bool { return i.Stats.OutstandingMessagesCount == n }
}

func parkedCount(n int64) func(*esdb.PersistentSubscriptionInfo) bool {
	return func(i *esdb.PersistentSubscriptionInfo) bool { return i.Stats.ParkedMessagesCount == n }
}

// parkedStream reads what is parked: the links' data.
func (w wire) parkedStream(stream string) string {
	w.Helper()
	list, err := w.Client.ReadStream(w.ctx, "$persistentsubscription-"+stream+"::g-parked", esdb.ReadStreamOptions{}, 1000)
	w.ok(err)
	defer list.Close()
	var words []string
	for {
		e, err := list.Recv()
		if errors.Is(err, io.EOF) || code(err) == esdb.ErrorCodeResourceNotFound {
			return strings.Join(words, " ")
		}
		w.ok(err)
		words = append(words, string(e.OriginalEvent().Data))
	}
}

var groupFacts = []wireFact{
	{"G1 a group is created once, changed, and removed; what is missing is told", func(w wire) {
		s := w.stream("g1")
		o := esdb.PersistentStreamSubscriptionOptions{StartFrom: esdb.Start{}}
		_, err := w.tryJoin(s, 1)
		w.wants("join none", err, esdb.ErrorCodeResourceNotFound)
		w.wants("update none", w.Client.UpdatePersistentSubscription(w.ctx, s, "g", o), esdb.ErrorCodeResourceNotFound)
		w.wants("delete none", w.Client.DeletePersistentSubscription(w.ctx, s, "g", esdb.DeletePersistentSubscriptionOptions{}), esdb.ErrorCodeResourceNotFound)
		_, err = w.Client.GetPersistentSubscriptionInfo(w.ctx, s, "g", esdb.GetPersistentSubscriptionOptions{})
		w.wants("info of none", err, esdb.ErrorCodeResourceNotFound)
		w.create(s, esdb.Start{}, nil)
		w.wants("create again", w.Client.CreatePersistentSubscription(w.ctx, s, "g", o), esdb.ErrorCodeResourceAlreadyExists)
		c := w.join(s, 1)
		o.Settings = settings(func(s *esdb.PersistentSubscriptionSettings) {
			s.MaxRetryCount, s.ConsumerStrategyName = 3, esdb.ConsumerStrategyPinned
		})
		w.ok(w.Client.UpdatePersistentSubscription(w.ctx, s, "g", o))
		select { // consumers are sent away
		case <-c.gone:
		case <-w.ctx.Done():
			w.Fatal("the consumer stays after an update")
		}
		if i := w.info(s); i.Settings.MaxRetryCount != 3 || i.Settings.ConsumerStrategyName != esdb.ConsumerStrategyPinned {
			w.Errorf("after an update: %+v", *i.Settings)
		}
		w.ok(w.Client.DeletePersistentSubscription(w.ctx, s, "g", esdb.DeletePersistentSubscriptionOptions{}))
		_, err = w.tryJoin(s, 1)
		w.wants("join a removed one", err, esdb.ErrorCodeResourceNotFound)
		o.Settings = settings(func(s *esdb.PersistentSubscriptionSettings) { s.ReadBatchSize, s.HistoryBufferSize = 20, 20 })
		if err := w.Client.CreatePersistentSubscription(w.ctx, s, "g", o); err == nil {
			w.Error("a read batch as large as the buffer is taken")
		}
	}},
	{"G2 a group begins at the start, the end, a revision, or one that is not there yet", func(w wire) {
		for _, c := range []struct {
			name string
			from esdb.StreamPosition
			want string
		}{
			{"start", esdb.Start{}, "0 1 2 3"}, {"end", esdb.End{}, "3 4"}, {"revision", esdb.Revision(1), "1 2 3"}, {"beyond", esdb.Revision(4), "4 5"},
		} {
			s := w.stream("g2" + c.name)
			w.put(s, 0, 1, 2)
			w.create(s, c.from, nil)
			w.put(s, 3, 4, 5)
			w.join(s, 10).gets(c.want)
		}
	}},
	{"G3, G4 a consumer holds as many as its buffer, and an answer makes room", func(w wire) {
		s := w.stream("g3")
		w.put(s, upTo(5)...)
		w.create(s, esdb.Start{}, nil)
		c := w.join(s, 2)
		first := c.gets("0 1")
		w.until(s, "two are out", func(i *esdb.PersistentSubscriptionInfo) bool {
			return outstanding(2)(i) && i.Stats.ReadBufferCount+i.Stats.LiveBufferCount == 3
		})
		c.silent()
		c.ack(first[1])
		second := c.gets("2")
		c.silent()
		c.ack(first[0], second[0])
		c.ack(c.gets("3 4")...)
		w.until(s, "all are done", outstanding(0))
		c.silent()
	}},
	{"G5 what is nacked for a retry comes again, counted", func(w wire) {
		s := w.stream("g5")
		w.put(s, 0)
		w.create(s, esdb.Start{}, nil)
		c := w.join(s, 5)
		c.nack(esdb.NackActionRetry, c.gets("0")...)
		c.nack(esdb.NackActionUnknown, c.gets("0+1")...)
		c.ack(c.gets("0+2")...)
		w.until(s, "done", outstanding(0))
	}},
	{"G6 retries exhausted, a message is parked and the next one comes", func(w wire) {
		s := w.stream("g6")
		w.put(s, 0, 1)
		w.create(s, esdb.Start{}, func(s *esdb.PersistentSubscriptionSettings) { s.MaxRetryCount = 2 })
		c := w.join(s, 1)
		for _, want := range []string{"0", "0+1", "0+2"} {
			c.nack(esdb.NackActionRetry, c.gets(want)...)
		}
		c.ack(c.gets("1")...)
		w.until(s, "one is parked", parkedCount(1))
		if got := w.parkedStream(s); got != "0@"+s {
			w.Errorf("parked: %q", got)
		}
	}},
	{"G7 what is not answered in time comes again, counted", func(w wire) {
		s := w.stream("g7")
		w.put(s, 0)
		w.create(s, esdb.Start{}, func(s *esdb.PersistentSubscriptionSettings) { s.MessageTimeout = 200 })
		c := w.join(s, 3)
		c.gets("0")
		c.ack(c.gets("0+1")...)
		w.until(s, "done", outstanding(0))
	}},
	{"G8, G10 a message is parked or skipped by its consumer, and does not come again", func(w wire) {
		s := w.stream("g8")
		w.put(s, 0, 1, 2, 3)
		w.create(s, esdb.Start{}, nil)
		c := w.join(s, 4)
		list := c.gets("0 1 2 3")
		c.nack(esdb.NackActionPark, list[0], list[2])
		c.nack(esdb.NackActionSkip, list[1])
		c.ack(list[3])
		w.put(s, 4)
		c.ack(c.gets("4")...)
		w.until(s, "two are parked", func(i *esdb.PersistentSubscriptionInfo) bool { return parkedCount(2)(i) && outstanding(0)(i) })
		if got := w.parkedStream(s); got != "0@"+s+" 2@"+s {
			w.Errorf("parked: %q", got)
		}
		c.silent()
	}},
	{"G9 parked messages come again, all or the first, before new ones, and anew counted", func(w wire) {
		s := w.stream("g9")
		w.put(s, upTo(4)...)
		w.create(s, esdb.Start{}, nil)
		c := w.join(s, 10)
		for i, e := range c.gets("0 1 2 3") { // one by one: the order of parking is asserted
			c.nack(esdb.NackActionPark, e)
			w.until(s, "parked", parkedCount(int64(i+1)))
		}
		c.leave()
		w.until(s, "nobody is there", func(i *esdb.PersistentSubscriptionInfo) bool { return len(i.Connections) == 0 })
		w.put(s, 4, 5)
		w.until(s, "new ones wait", func(i *esdb.PersistentSubscriptionInfo) bool {
			return i.Stats.ReadBufferCount+i.Stats.LiveBufferCount == 2
		})
		w.ok(w.Client.ReplayParkedMessages(w.ctx, s, "g", esdb.ReplayParkedMessagesOptions{StopAt: 2}))
		w.until(s, "two wait", func(i *esdb.PersistentSubscriptionInfo) bool {
			return parkedCount(2)(i) && i.Stats.RetryBufferCount == 2
		})
		c = w.join(s, 10)
		list := c.gets("0 1 4 5")
		c.nack(esdb.NackActionPark, list[1])
		c.ack(list[0], list[2], list[3])
		w.until(s, "three are parked", func(i *esdb.PersistentSubscriptionInfo) bool { return parkedCount(3)(i) && outstanding(0)(i) })
		w.ok(w.Client.ReplayParkedMessages(w.ctx, s, "g", esdb.ReplayParkedMessagesOptions{}))
		c.ack(c.gets("2 3 1")...)
		w.until(s, "none is parked", func(i *esdb.PersistentSubscriptionInfo) bool { return parkedCount(0)(i) && outstanding(0)(i) })
		for tick := time.NewTicker(20 * time.Millisecond); w.parkedStream(s) != ""; <-tick.C { // truncated a moment later
			w.ok(w.ctx.Err())
		}
		w.ok(w.Client.ReplayParkedMessages(w.ctx, s, "g", esdb.ReplayParkedMessagesOptions{}))
		w.put(s, 6)
		c.ack(c.gets("6")...)
	}},
	{"G11 what a consumer held when it died goes to another, first and counted", func(w wire) {
		s := w.stream("g11")
		w.put(s, upTo(4)...)
		w.create(s, esdb.Start{}, nil)
		first := w.join(s, 2)
		first.gets("0 1")
		first.leave()
		second := w.join(s, 10)
		got, list := second.said(4)
		words := strings.Fields(got)
		slices.Sort(words)
		if strings.Join(words, " ") != "0+1 1+1 2 3" {
			w.Errorf("came %q", got)
		}
		second.ack(list...)
		w.until(s, "done", outstanding(0))
	}},
	{"G12 consumers share: each message goes to one of them", func(w wire) {
		s := w.stream("g12")
		w.create(s, esdb.Start{}, nil)
		a, b := w.join(s, 10), w.join(s, 10)
		w.put(s, upTo(20)...)
		seen := map[string]int{}
		for _, c := range []*wireConsumer{a, b} {
			got, _ := c.said(10) // ten each: both are full, and nobody answers
			for _, word := range strings.Fields(got) {
				seen[word]++
			}
		}
		if len(seen) != 20 {
			w.Errorf("%d of 20 messages came: %v", len(seen), seen)
		}
		a.silent()
		b.silent()
	}},
	{"G13 the checkpoint survives a restart: what comes again is above it", func(w wire) {
		if w.Restart == nil {
			return
		}
		s := w.stream("g13")
		w.put(s, upTo(100)...)
		w.create(s, esdb.Start{}, func(s *esdb.PersistentSubscriptionSettings) { s.CheckpointLowerBound, s.CheckpointUpperBound = 5, 10 })
		c := w.join(s, 100)
		_, list := c.said(100)
		c.ack(list[:60]...)
		c.nack(esdb.NackActionPark, list[70])
		c.ack(list[80:90]...)
		w.until(s, "a checkpoint is written", func(i *esdb.PersistentSubscriptionInfo) bool {
			r := i.Stats.LastCheckpointedEventRevision
			return r != nil && *r >= 49 && parkedCount(1)(i)
		})
		at := *w.info(s).Stats.LastCheckpointedEventRevision
		c.leave()
		w.Restart(w.T)
		var again *wireConsumer
		for {
			var err error
			if again, err = w.tryJoin(s, 100); err == nil {
				break
			}
			w.ok(w.ctx.Err())
		}
		n := 0
		for first := true; n != 99; first = false {
			m := again.next()
			if _, err := fmt.Sscan(string(m.Event.OriginalEvent().Data), &n); err != nil {
				w.Fatal(err)
			}
			if first && (n <= int(at) || n > 60) {
				w.Fatalf("after a checkpoint at %d the first to come is %d", at, n)
			}
			again.ack(m.Event)
		}
		if got := w.info(s).Stats.ParkedMessagesCount; got < 1 {
			w.Errorf("%d are parked", got)
		}
	}},
	{"G14 there are no more consumers than allowed", func(w wire) {
		s := w.stream("g14")
		w.create(s, esdb.Start{}, func(s *esdb.PersistentSubscriptionSettings) { s.MaxSubscriberCount = 1 })
		first := w.join(s, 1)
		if _, err := w.tryJoin(s, 1); err == nil {
			w.Error("a second consumer gets in")
		}
		first.leave()
		w.until(s, "nobody is there", func(i *esdb.PersistentSubscriptionInfo) bool { return len(i.Connections) == 0 })
		w.join(s, 1)
	}},
	{"G15 the numbers of info add up", func(w wire) {
		s := w.stream("g15")
		w.put(s, upTo(30)...)
		w.create(s, esdb.Start{}, func(s *esdb.PersistentSubscriptionSettings) {
			s.MaxRetryCount, s.CheckpointLowerBound, s.CheckpointUpperBound, s.ExtraStatistics, s.MaxSubscriberCount = 7, 1, 2, true, 9
		})
		c := w.join(s, 8)
		_, list := c.said(8)
		c.ack(list[:4]...)
		c.said(4)
		w.until(s, "12 went out, 4 are done, 18 wait", func(i *esdb.PersistentSubscriptionInfo) bool {
			if len(i.Connections) != 1 || i.Stats.LastCheckpointedEventRevision == nil {
				return false
			}
			o := i.Connections[0]
			return i.EventSource == s && i.GroupName == "g" && outstanding(8)(i) && i.Stats.TotalInFlightMessages == 8 && i.Stats.TotalItems >= 12 && o.InFlightMessages == 8 &&
				o.AvailableSlots == 0 && i.Stats.ReadBufferCount+i.Stats.LiveBufferCount == 18 && *i.Stats.LastCheckpointedEventRevision == 3 &&
				i.Settings.MaxRetryCount == 7 && i.Settings.MaxSubscriberCount == 9 && i.Settings.ExtraStatistics && i.Settings.StartFrom == esdb.Start{}
		})
		list2, err := w.Client.ListPersistentSubscriptionsForStream(w.ctx, s, esdb.ListPersistentSubscriptionsOptions{})
		if err != nil || len(list2) != 1 || list2[0].GroupName != "g" {
			w.Errorf("list: %+v, %v", list2, err)
		}
		all, err := w.Client.ListAllPersistentSubscriptions(w.ctx, esdb.ListPersistentSubscriptionsOptions{})
		if err != nil || !slices.ContainsFunc(all, func(i esdb.PersistentSubscriptionInfo) bool { return i.EventSource == s }) {
			w.Errorf("list all: %d, %v", len(all), err)
		}
	}},
	{"G16 a group over the whole log, with a filter", func(w wire) {
		group, prefix := "g16"+w.id, w.stream("g16")[:len(w.stream("g16"))-1]
		w.put(prefix+"1", 0)
		w.ok(w.Client.CreatePersistentSubscriptionToAll(w.ctx, group, esdb.PersistentAllSubscriptionOptions{StartFrom: esdb.Start{},
			Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{prefix}}}))
		w.Cleanup(func() {
			_ = w.Client.DeletePersistentSubscriptionToAll(context.Background(), group, esdb.DeletePersistentSubscriptionOptions{})
		})
		w.put(w.stream("other"), 99)
		w.put(prefix+"2", 1)
		sub, err := w.Client.SubscribeToPersistentSubscriptionToAll(w.ctx, group, esdb.SubscribeToPersistentSubscriptionOptions{BufferSize: 5})
		w.ok(err)
		c := w.listen(sub)
		list := c.gets("0 1")
		if list[0].OriginalEvent().StreamID != prefix+"1" || list[1].OriginalEvent().StreamID != prefix+"2" {
			w.Errorf("came from %s and %s", list[0].OriginalEvent().StreamID, list[1].OriginalEvent().StreamID)
		}
		c.nack(esdb.NackActionPark, list[0])
		c.ack(list[1])
		for {
			i, err := w.Client.GetPersistentSubscriptionInfoToAll(w.ctx, group, esdb.GetPersistentSubscriptionOptions{})
			w.ok(err)
			if i.EventSource != "$all" || i.GroupName != group {
				w.Fatalf("info: %s %s", i.EventSource, i.GroupName)
			}
			if parkedCount(1)(i) {
				break
			}
		}
		w.ok(w.Client.ReplayParkedMessagesToAll(w.ctx, group, esdb.ReplayParkedMessagesOptions{}))
		c.ack(c.gets("0")...)
		w.put(prefix+"3", 2)
		c.ack(c.gets("2")...)
	}},
	{"G17 removing a group sends its consumers away, and a new one of its name begins anew", func(w wire) {
		s := w.stream("g17")
		w.put(s, 0, 1)
		w.create(s, esdb.Start{}, func(s *esdb.PersistentSubscriptionSettings) { s.CheckpointLowerBound, s.CheckpointUpperBound = 1, 1 })
		c := w.join(s, 5)
		list := c.gets("0 1")
		c.ack(list[0])
		c.nack(esdb.NackActionPark, list[1])
		w.until(s, "both are done", func(i *esdb.PersistentSubscriptionInfo) bool {
			r := i.Stats.LastCheckpointedEventRevision
			return parkedCount(1)(i) && r != nil && *r == 1
		})
		w.ok(w.Client.DeletePersistentSubscription(w.ctx, s, "g", esdb.DeletePersistentSubscriptionOptions{}))
		select {
		case <-c.gone:
		case <-w.ctx.Done():
			w.Fatal("the consumer stays")
		}
		w.create(s, esdb.Start{}, nil)
		w.join(s, 5).gets("0 1")
		if i := w.info(s); i.Stats.ParkedMessagesCount != 0 {
			w.Errorf("%d are parked in the new group", i.Stats.ParkedMessagesCount)
		}
	}},
	{"G18 dispatch to single gives to one until it is full; pinned gives a stream to one", func(w wire) {
		s := w.stream("g18")
		w.create(s, esdb.Start{}, func(s *esdb.PersistentSubscriptionSettings) {
			s.ConsumerStrategyName = esdb.ConsumerStrategyDispatchToSingle
		})
		a, b := w.join(s, 5), w.join(s, 5)
		w.put(s, upTo(5)...)
		w.until(s, "five are out", outstanding(5))
		one, two := a, b
		select {
		case m := <-a.came:
			a.came <- m
		case m := <-b.came:
			b.came <- m
			one, two = b, a
		case <-w.ctx.Done():
			w.Fatal("none came")
		}
		if got, _ := one.said(5); len(strings.Fields(got)) != 5 {
			w.Errorf("came %q", got)
		}
		two.silent()
		w.put(s, 5)
		two.gets("5")

		p := "g18p" + w.id
		w.ok(w.Client.CreatePersistentSubscriptionToAll(w.ctx, p, esdb.PersistentAllSubscriptionOptions{StartFrom: esdb.End{},
			Settings: settings(func(s *esdb.PersistentSubscriptionSettings) { s.ConsumerStrategyName = esdb.ConsumerStrategyPinned }),
			Filter:   &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{p}}}))
		w.Cleanup(func() {
			_ = w.Client.DeletePersistentSubscriptionToAll(context.Background(), p, esdb.DeletePersistentSubscriptionOptions{})
		})
		owner := map[string]int{}
		var consumers []*wireConsumer
		for range 3 {
			sub, err := w.Client.SubscribeToPersistentSubscriptionToAll(w.ctx, p, esdb.SubscribeToPersistentSubscriptionOptions{BufferSize: 1000})
			w.ok(err)
			consumers = append(consumers, w.listen(sub))
		}
		const streams = 40
		for round := range 3 {
			for i := range streams {
				w.put(fmt.Sprintf("%s-%d", p, i), round)
			}
		}
		for range 3 * streams {
			var m *esdb.EventAppeared
			n := 0
			select {
			case m = <-consumers[0].came:
			case m = <-consumers[1].came:
				n = 1
			case m = <-consumers[2].came:
				n = 2
			case <-w.ctx.Done():
				w.Fatalf("not all of %d messages came", 3*streams)
			}
			stream := m.Event.OriginalEvent().StreamID
			if before, is := owner[stream]; is && before != n {
				w.Fatalf("%s went to consumers %d and %d", stream, before, n)
			}
			owner[stream] = n
		}
	}},
	{"G19 links are followed if that was asked for, and answered by the link", func(w wire) {
		s, target := w.stream("g19"), w.stream("g19target")
		w.put(target, 41, 42)
		link := esdb.EventData{EventID: uuid.New(), EventType: "$>", ContentType: esdb.ContentTypeBinary, Data: []byte("1@" + target)}
		_, err := w.Client.AppendToStream(w.ctx, s, esdb.AppendToStreamOptions{}, link)
		w.ok(err)
		w.create(s, esdb.Start{}, func(s *esdb.PersistentSubscriptionSettings) { s.ResolveLinkTos = true })
		c := w.join(s, 5)
		m := c.next()
		if m.Event.Event == nil || m.Event.Link == nil || string(m.Event.Event.Data) != "42" || m.Event.Link.EventID != link.EventID {
			w.Fatalf("came %+v", m.Event)
		}
		c.ack(m.Event)
		w.until(s, "done", outstanding(0))
	}},
}
