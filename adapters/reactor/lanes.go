package reactor

import (
	"container/heap"
	"slices"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// task is what a work asks of its lane.
type task int

const (
	deliver task = iota // hand a message out for the first time, or again after a failure
	replay              // hand a parked message out again
	discard             // forget a parked message
)

// work is one thing to be done in the lane of its key. Only the lane that has it under way changes it.
type work struct {
	task     task
	rec      domain.Recorded
	event    domain.Event
	key      string
	broken   error // the event or its key cannot be read: parked without being handed out
	moot     bool  // there is nothing to do
	attempts int   // made so far; for a replay on top of earlier
	earlier  int
	due      time.Time
	mark     *mark            // its place in the window; nil for a replay or discard
	verdict  *commands.Parked // the row to park it with, once that is decided
	answer   chan error       // buffered; nil if nobody waits for the outcome
}

// tell answers whoever waits for the outcome.
func (w *work) tell(err error) {
	if w.answer != nil {
		w.answer <- err
		w.answer = nil
	}
}

// lanes orders work: first in, first out per key by position, keys side by side, the oldest first. It
// knows no goroutines and no clock; its owner locks it. The zero value is empty and ready.
type lanes struct {
	keys    map[string]*lane
	ready   laneHeap // idle lanes whose head may go, oldest position first
	waiting laneHeap // idle lanes whose head is not due yet, earliest due first
}

type lane struct {
	queue []*work
	busy  bool      // queue[0] is under way
	in    *laneHeap // where the lane stands while idle
	at    int       // and its index there
}

// add queues w behind everything of its key that is older.
func (l *lanes) add(w *work) {
	if l.keys == nil {
		l.keys = map[string]*lane{}
		l.ready.less = func(a, b *lane) bool { return a.queue[0].rec.Position.Before(b.queue[0].rec.Position) }
		l.waiting.less = func(a, b *lane) bool { return a.queue[0].due.Before(b.queue[0].due) }
	}
	k := l.keys[w.key]
	if k == nil {
		k = &lane{}
		l.keys[w.key] = k
	}
	i := len(k.queue)
	for i > 0 && !(k.busy && i == 1) && w.rec.Position.Before(k.queue[i-1].rec.Position) {
		i--
	}
	k.queue = slices.Insert(k.queue, i, w)
	if !k.busy && i == 0 {
		l.place(k)
	}
}

// overtake puts w in the place of the last work of its key, if that waits untried, is older and of the same stream, and
// returns that; else nil, and w is still to be added.
func (l *lanes) overtake(w *work) *work {
	k := l.keys[w.key]
	if k == nil || w.broken != nil {
		return nil
	}
	i := len(k.queue) - 1
	last := k.queue[i]
	if i == 0 && k.busy || last.task != deliver || last.attempts > 0 || !last.due.IsZero() || last.broken != nil || last.rec.Stream != w.rec.Stream || !last.rec.Position.Before(w.rec.Position) {
		return nil
	}
	k.queue[i] = w
	if i == 0 {
		l.place(k)
	}
	return last
}

// next releases the oldest work that may go now; its key is busy until finish or again. Without one, due
// is the time at which there will be (zero: not before something is added or finished).
func (l *lanes) next(now time.Time) (w *work, due time.Time) {
	for l.waiting.Len() > 0 && !l.waiting.lanes[0].queue[0].due.After(now) {
		k := l.waiting.lanes[0]
		k.queue[0].due = time.Time{}
		l.place(k)
	}
	if l.ready.Len() > 0 {
		k := heap.Pop(&l.ready).(*lane)
		k.busy = true
		return k.queue[0], time.Time{}
	}
	if l.waiting.Len() > 0 {
		return nil, l.waiting.lanes[0].queue[0].due
	}
	return nil, time.Time{}
}

// finish takes w, which is under way, out of its lane.
func (l *lanes) finish(w *work) {
	k := l.keys[w.key]
	k.busy = false
	k.queue[0] = nil
	if k.queue = k.queue[1:]; len(k.queue) == 0 {
		delete(l.keys, w.key)
		return
	}
	l.place(k)
}

// again puts w, which is under way, back to the head of its lane; it is not released before due.
func (l *lanes) again(w *work, due time.Time) {
	w.due = due
	k := l.keys[w.key]
	k.busy = false
	l.place(k)
}

// place moves an idle lane to the heap its head belongs to.
func (l *lanes) place(k *lane) {
	if k.in != nil {
		heap.Remove(k.in, k.at)
	}
	if k.queue[0].due.IsZero() {
		heap.Push(&l.ready, k)
	} else {
		heap.Push(&l.waiting, k)
	}
}

// laneHeap is a heap of idle lanes that know their index.
type laneHeap struct {
	lanes []*lane
	less  func(a, b *lane) bool
}

func (h *laneHeap) Len() int           { return len(h.lanes) }
func (h *laneHeap) Less(i, j int) bool { return h.less(h.lanes[i], h.lanes[j]) }
func (h *laneHeap) Swap(i, j int) {
	h.lanes[i], h.lanes[j] = h.lanes[j], h.lanes[i]
	h.lanes[i].at, h.lanes[j].at = i, j
}
func (h *laneHeap) Push(x any) {
	k := x.(*lane)
	k.in, k.at = h, len(h.lanes)
	h.lanes = append(h.lanes, k)
}
func (h *laneHeap) Pop() any {
	last := len(h.lanes) - 1
	k := h.lanes[last]
	h.lanes[last] = nil
	h.lanes, k.in = h.lanes[:last], nil
	return k
}

// window tells how far the log is handled: low is the highest position with everything up to it handled,
// and marks are the messages after it, in position order, handled or not.
type window struct {
	low   domain.Position
	marks []*mark
}

type mark struct {
	at      domain.Position
	through domain.Position // everything read up to here is handled once this and all before it are
	done    bool
}

// skip takes note that the log was read up to p without finding a message.
func (w *window) skip(p domain.Position) {
	if n := len(w.marks); n > 0 {
		w.marks[n-1].through = p
	} else if w.low.Before(p) {
		w.low = p
	}
}

// add opens a mark for the message at p, which is after every other.
func (w *window) add(p domain.Position) *mark {
	m := &mark{at: p, through: p}
	w.marks = append(w.marks, m)
	return m
}

// finish takes note that m is handled; it tells whether low has moved.
func (w *window) finish(m *mark) bool {
	m.done = true
	n := 0
	for n < len(w.marks) && w.marks[n].done {
		w.low = w.marks[n].through
		w.marks[n] = nil
		n++
	}
	w.marks = w.marks[n:]
	return n > 0
}

// done lists the handled messages above low.
func (w *window) done() []domain.Position {
	var ps []domain.Position
	for _, m := range w.marks {
		if m.done {
			ps = append(ps, m.at)
		}
	}
	return ps
}
