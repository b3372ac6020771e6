package esdbserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/google/uuid"

	"ledgerline/domain"
)

// How a group chooses the consumer of a message.
const (
	roundRobin          = "RoundRobin"
	dispatchToSingle    = "DispatchToSingle"
	pinned              = "Pinned"
	pinnedByCorrelation = "PinnedByCorrelation"
)

const (
	maxAhead    = 16 << 20    // bytes of messages a group reads ahead
	tryAgain    = time.Second // before a failed write to the log is repeated
	lastWrite   = 2 * time.Second
	buckets     = 1024 // of streams, for the pinned strategies
	latencyKept = 1000 // latencies a connection's statistics are made of
)

// mark is a place in what a group reads: the revision in its stream, or the position in the whole log.
type mark struct {
	Revision domain.Revision `json:"revision"`
	Position domain.Position `json:"position"`
}

// slot is one event a group has looked at. What is done at the front of its slots can be checkpointed.
type slot struct {
	mark mark
	n    int // events it stands for: one, or a run of events the filter left out
	done bool
}

// message is an event on its way to a consumer.
type message struct {
	event   domain.Recorded // the original one: the link, if it is one
	order   int64           // replayed ones are below zero: they go first
	retries int
	slot    *slot     // in group.slots, or in group.replays for one that was parked
	reason  string    // why it is parked
	holder  *consumer // whose it is while outstanding
	since   time.Time // when it went out
	expires time.Time // zero: never
	key     string    // pinned: what decides the consumer
	size    int
	fresh   bool // size counts as read ahead
}

// group is a persistent subscription at work: a reader that looks ahead, messages on their way, and
// consumers. One goroutine (run) hands messages out and writes; everybody else changes the state under mu
// and wakes it.
type group struct {
	s      *service
	config groupConfig
	match  func(domain.Recorded) bool // nil: everything
	cancel context.CancelFunc
	over   chan struct{} // closed when run and feed have ended
	wake   chan struct{} // there is something to do
	room   chan struct{} // there is room to read ahead

	mu        sync.Mutex
	consumers []*consumer
	turn      int // of the consumers
	ready     []*message
	ahead     int // bytes in ready
	retry     []*message
	out       map[uuid.UUID]*message
	soonest   time.Time // nothing in out runs out of time before; zero: never
	park      []*message
	parkAfter time.Time
	orders    int64
	slots     []*slot
	known     mark // of the last event looked at
	anyKnown  bool
	level     bool
	done      mark // everything up to here is done
	count     int  // events done since the last checkpoint
	saved     mark
	anySaved  bool
	savedAt   time.Time
	saveAfter time.Time
	dropped   error // why consumers are sent away

	replayMu   sync.Mutex      // one replay at a time; taken before mu
	replays    []*slot         // of parked messages, by revision in the parked stream
	replayed   domain.Revision // first parked message that is not in replays
	parkedLow  domain.Revision // first parked message there is
	parkedNext domain.Revision // after the last
	replaying  int64

	total, measured int64
	began           time.Time
}

// consumer is one connection of a group.
type consumer struct {
	id              uuid.UUID
	from, user, via string
	slots           int // messages it takes without an answer
	out             []*message
	held            int
	wake            chan struct{}
	began           time.Time
	total, measured int64
	latency         []time.Duration
}

func nudge(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// join adds a consumer.
func (g *group) join(c *consumer) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dropped != nil {
		return g.dropped
	}
	if limit := g.config.MaxSubscribers; limit > 0 && len(g.consumers) >= limit || len(g.consumers) >= maxConsumers {
		return errTooManyConsumers
	}
	g.consumers = append(g.consumers, c)
	nudge(g.wake)
	return nil
}

// leave takes a consumer away. What it held goes to others, before everything else.
func (g *group) leave(c *consumer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.consumers = slices.DeleteFunc(g.consumers, func(o *consumer) bool { return o == c })
	for _, m := range g.out {
		if m.holder == c {
			g.again(m, "consumer left")
		}
	}
	nudge(g.wake)
}

// ack ends messages, whoever holds them: one that ran out of time and went to another is done all the same.
func (g *group) ack(ids []uuid.UUID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.s.o.Clock()
	for _, id := range ids {
		if m := g.out[id]; m != nil {
			if g.config.ExtraStatistics {
				m.holder.latency = append(m.holder.latency, now.Sub(m.since))
				m.holder.latency = m.holder.latency[max(0, len(m.holder.latency)-latencyKept):]
			}
			g.release(m)
			g.finish(m)
		}
	}
	nudge(g.wake)
}

// nack gives messages of c back.
func (g *group) nack(c *consumer, ids []uuid.UUID, action persistent.ReadReq_Nack_Action, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range ids {
		m := g.out[id]
		if m == nil || m.holder != c {
			continue
		}
		switch action {
		case persistent.ReadReq_Nack_Skip, persistent.ReadReq_Nack_Stop: // it stops nothing: so it is on a cluster
			g.release(m)
			g.finish(m)
		case persistent.ReadReq_Nack_Park:
			g.release(m)
			m.reason = cmp.Or(reason, "parked by the consumer")
			g.park = append(g.park, m)
		default:
			g.again(m, reason)
		}
	}
	nudge(g.wake)
}

// release takes m from its holder.
func (g *group) release(m *message) {
	delete(g.out, m.event.ID)
	m.holder.held--
	m.holder.out = slices.DeleteFunc(m.holder.out, func(o *message) bool { return o == m }) // not sent yet
	m.holder = nil
}

// again gives m another chance, or parks it when it has had them all.
func (g *group) again(m *message, reason string) {
	g.release(m)
	if m.retries >= g.config.MaxRetries {
		m.reason = "retries exhausted"
		if reason != "" {
			m.reason += ": " + reason
		}
		g.park = append(g.park, m)
		return
	}
	m.retries++
	g.retry = append(g.retry, m)
	slices.SortStableFunc(g.retry, func(a, b *message) int { return cmp.Compare(a.order, b.order) })
}

// finish notes that m is done.
func (g *group) finish(m *message) {
	m.slot.done = true
	for len(g.slots) > 0 && g.slots[0].done {
		g.done, g.count = g.slots[0].mark, g.count+g.slots[0].n
		g.slots = g.slots[1:]
	}
}

// looked takes an event from the reader; it waits for room first.
func (g *group) looked(ctx context.Context, r domain.Recorded) error {
	at := mark{r.Revision, r.Position}
	own := g.config.Stream == "" && kept(r.Stream)
	wanted := !own && (g.match == nil || g.match(r))
	for {
		g.mu.Lock()
		if !wanted || len(g.ready) < g.config.HistoryBuffer && g.ahead < maxAhead {
			break
		}
		g.mu.Unlock()
		select {
		case <-g.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer g.mu.Unlock()
	g.known, g.anyKnown, g.level = at, true, false
	if own {
		return nil // what groups write must not make them write
	}
	if !wanted {
		if last := len(g.slots) - 1; last >= 0 && g.slots[last].done {
			g.slots[last].mark, g.slots[last].n = at, g.slots[last].n+1
		} else if last >= 0 {
			g.slots = append(g.slots, &slot{at, 1, true})
		} else {
			g.done, g.count = at, g.count+1
		}
		nudge(g.wake)
		return nil
	}
	g.orders++
	m := &message{event: r, order: g.orders, slot: &slot{mark: at, n: 1}, size: len(r.Data) + len(r.Metadata), key: g.pinKey(r), fresh: true}
	g.slots = append(g.slots, m.slot)
	g.ready, g.ahead = append(g.ready, m), g.ahead+m.size
	nudge(g.wake)
	return nil
}

// pinKey is what decides the consumer under the pinned strategies: the stream, of a link that of its target.
func (g *group) pinKey(r domain.Recorded) string {
	switch g.config.Strategy {
	case pinnedByCorrelation:
		var m struct {
			ID string `json:"$correlationId"`
		}
		if json.Unmarshal(r.Metadata, &m) == nil && m.ID != "" {
			return m.ID
		}
		fallthrough
	case pinned:
		if _, target, ok := strings.Cut(string(r.Data), "@"); ok && r.Type == typeLink {
			return target
		}
		return string(r.Stream)
	}
	return ""
}

// choose is the consumer for m, nil if none has room for it. more tells that others may have for another.
func (g *group) choose(m *message) (c *consumer, more bool) {
	if m.key != "" {
		c := g.owner(m.key)
		if c == nil || c.held >= c.slots {
			return nil, true
		}
		return c, true
	}
	for i := range g.consumers {
		n := (g.turn + i) % len(g.consumers)
		if c := g.consumers[n]; c.held < c.slots {
			if g.turn = n; g.config.Strategy == roundRobin {
				g.turn++
			}
			return c, true
		}
	}
	return nil, false
}

// owner is the consumer of the key's bucket: the one that draws the highest number for it, so that others
// keep theirs when one comes or goes.
func (g *group) owner(key string) (best *consumer) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	bucket, top := h.Sum64()%buckets, uint64(0)
	for _, c := range g.consumers {
		h.Reset()
		fmt.Fprint(h, bucket, c.id)
		if n := h.Sum64(); best == nil || n > top {
			best, top = c, n
		}
	}
	return best
}

// deal hands out what can be handed out.
func (g *group) deal(now time.Time) {
	if len(g.consumers) == 0 {
		return
	}
	g.turn %= len(g.consumers)
	g.retry = g.give(g.retry, now)
	before := len(g.ready)
	g.ready = g.give(g.ready, now)
	if len(g.ready) < before {
		nudge(g.room)
	}
}

// give hands out what it can of the queue and answers the rest, in its order.
func (g *group) give(queue []*message, now time.Time) []*message {
	var kept []*message // passed over: others behind them may go
	for i, m := range queue {
		var c *consumer
		more := true
		if g.out[m.event.ID] == nil { // else another event with its id is out: it waits
			c, more = g.choose(m)
		}
		if c == nil {
			if !more {
				if kept == nil {
					return queue[i:]
				}
				return append(kept, queue[i:]...)
			}
			kept = append(kept, m)
			continue
		}
		m.holder, m.since, m.expires = c, now, time.Time{}
		if g.config.Timeout > 0 {
			if m.expires = now.Add(g.config.Timeout); g.soonest.IsZero() {
				g.soonest = m.expires
			}
		}
		g.out[m.event.ID] = m
		c.out, c.held, c.total = append(c.out, m), c.held+1, c.total+1
		g.total++
		if m.fresh {
			m.fresh, g.ahead = false, g.ahead-m.size
		}
		nudge(c.wake)
	}
	return kept
}

// expire gives back what has been out for too long.
func (g *group) expire(now time.Time) {
	if g.soonest.IsZero() || now.Before(g.soonest) {
		return
	}
	g.soonest = time.Time{}
	for _, m := range g.out {
		if !m.expires.After(now) {
			g.again(m, "no answer in time")
		} else {
			g.soonest = earlier(g.soonest, m.expires)
		}
	}
}

// due tells whether a checkpoint is to be written, or when.
func (g *group) due(now time.Time) (write bool, next time.Time) {
	switch {
	case g.count == 0:
		return false, next
	case now.Before(g.saveAfter):
		return false, g.saveAfter
	case g.config.MaxCheckpoint > 0 && g.count >= g.config.MaxCheckpoint:
		return true, next
	case g.count < g.config.MinCheckpoint:
		return false, next
	}
	if at := g.savedAt.Add(g.config.CheckpointAfter); at.After(now) {
		return false, at
	}
	return true, next
}

// run hands messages out and writes checkpoints and parked messages until ctx ends; then it writes the
// last checkpoint.
func (g *group) run(ctx context.Context) {
	for ctx.Err() == nil {
		now := g.s.o.Clock()
		g.mu.Lock()
		g.expire(now)
		g.deal(now)
		next := g.soonest
		save, at := g.due(now)
		park := slices.Clone(g.park)
		if now.Before(g.parkAfter) {
			park, at = nil, earlier(at, g.parkAfter)
		}
		g.mu.Unlock()
		for _, m := range park {
			g.parkOne(ctx, m)
		}
		g.trimParked(ctx)
		if save {
			g.save(ctx)
		}
		if len(park) > 0 || save {
			continue
		}
		next = earlier(next, at)
		var timer <-chan time.Time
		if !next.IsZero() && next.After(now) {
			timer = time.After(next.Sub(now))
		}
		select {
		case <-g.wake:
		case <-timer:
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
	defer cancel()
	g.trimParked(last)
	g.save(last)
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// save writes a checkpoint.
func (g *group) save(ctx context.Context) {
	g.mu.Lock()
	at, n, gone := g.done, g.count, errors.Is(g.dropped, errDeletedGroup)
	g.mu.Unlock()
	if n == 0 || gone {
		return
	}
	data, _ := json.Marshal(g.config.text(at)) // a string
	_, err := g.s.put(ctx, intake{stream: g.config.checkpoints(), expected: domain.Any, events: []domain.NewEvent{{ID: uuid.Must(uuid.NewV7()), Type: "$SubscriptionCheckpoint", Data: data}}})
	now := g.s.o.Clock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.saveAfter = now.Add(tryAgain)
		g.s.complain(ctx, err, g.config, "checkpoint not written")
		return
	}
	g.saved, g.anySaved, g.savedAt, g.count = at, true, now, g.count-n
}

// parkOne writes one message to the parked stream; it is done then.
func (g *group) parkOne(ctx context.Context, m *message) {
	meta, _ := json.Marshal(struct { // cannot fail
		Added    time.Time `json:"added"`
		Reason   string    `json:"reason"`
		Attempts int       `json:"attempts"`
	}{g.s.o.Clock().UTC(), m.reason[:min(len(m.reason), maxReason)], m.retries + 1})
	data := fmt.Appendf(nil, "%d@%s", m.event.Revision, m.event.Stream)
	w, err := g.s.put(ctx, intake{stream: g.config.parked(), expected: domain.Any, events: []domain.NewEvent{{ID: uuid.Must(uuid.NewV7()), Type: typeLink, Data: data, Metadata: meta}}})
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.parkAfter = g.s.o.Clock().Add(tryAgain)
		g.s.complain(ctx, err, g.config, "message not parked")
		return
	}
	g.parkedNext = max(g.parkedNext, w.revision+1)
	g.park = slices.DeleteFunc(g.park, func(o *message) bool { return o == m })
	g.finish(m)
}

// trimParked truncates the parked stream below what has been replayed and done.
func (g *group) trimParked(ctx context.Context) {
	g.mu.Lock()
	low := g.parkedLow
	for len(g.replays) > 0 && g.replays[0].done {
		low = g.replays[0].mark.Revision + 1
		g.replays = g.replays[1:]
	}
	moved := low > g.parkedLow && !errors.Is(g.dropped, errDeletedGroup)
	g.mu.Unlock()
	if !moved {
		return
	}
	if err := g.s.hide(ctx, g.config.parked(), low); err != nil {
		g.s.complain(ctx, err, g.config, "parked messages not truncated: they will come again")
		return
	}
	g.mu.Lock()
	g.parkedLow = low
	g.mu.Unlock()
}

// replay sends parked messages again, before new ones: all, or those below revision stop of the parked
// stream. Each stays parked until it is done.
func (g *group) replay(ctx context.Context, stop domain.Revision) error {
	g.replayMu.Lock()
	defer g.replayMu.Unlock()
	g.mu.Lock()
	from, end := g.replayed, g.parkedNext
	if stop > end {
		stop = end
	}
	g.replayed = max(from, stop)
	g.mu.Unlock()
	var found []*message
	var err error
	for link, e := range g.s.o.Log.Read(ctx, g.config.parked(), from) {
		if err = e; err != nil || link.Revision >= stop {
			break
		}
		sl := &slot{mark: mark{Revision: link.Revision}, n: 1}
		original, is, e := g.s.target(ctx, link)
		if err = e; err != nil {
			break
		}
		sl.done = !is // its event is gone
		found = append(found, &message{event: original, slot: sl, size: len(original.Data) + len(original.Metadata)})
	}
	if errors.Is(err, domain.ErrNoStream) {
		err = nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range found {
		g.replays = append(g.replays, m.slot)
		if !m.slot.done {
			g.replaying++
			m.order, m.key = g.replaying-1<<62, g.pinKey(m.event)
			g.retry = append(g.retry, m)
		}
	}
	if err != nil { // what is behind stays parked
		g.replayed = from + domain.Revision(len(found))
	}
	slices.SortStableFunc(g.retry, func(a, b *message) int { return cmp.Compare(a.order, b.order) })
	nudge(g.wake)
	return err
}

// drop sends every consumer away.
func (g *group) drop(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dropped = err
	for _, c := range g.consumers {
		nudge(c.wake)
	}
}

// next is what c is to be sent; nil and no error: nothing for now.
func (g *group) next(c *consumer) ([]sending, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dropped != nil {
		return nil, g.dropped
	}
	list := make([]sending, len(c.out))
	for i, m := range c.out {
		list[i] = sending{m.event, m.retries}
	}
	c.out = nil
	return list, nil
}

type sending struct {
	event   domain.Recorded
	retries int
}
