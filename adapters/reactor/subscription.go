package reactor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
)

const maxReason = 1024 // bytes of Parked.Reason

// subscription is one topic being delivered. Its goroutines: a feeder that keeps the window filled, one
// per lane that carries messages, a saver, and one that ends it.
type subscription struct {
	cfg  *Config
	hub  *hub
	feed Feed
	log  *zerolog.Logger

	ctx    context.Context // of the feeder; its end is the end of the subscription
	cancel context.CancelFunc
	msgs   context.Context // of messages and of what is stored for them; ends Grace later
	out    chan *message.Message
	gone   chan struct{}   // hub let go
	dirty  chan struct{}   // there is something to save
	spent  chan struct{}   // Grace is over twice: lanes stop waiting for acks
	last   chan struct{}   // the saver saves once more and ends
	over   context.Context // all is wound up
	finish context.CancelFunc

	abandon context.CancelFunc // ends msgs

	feeding, carrying, saving, sending sync.WaitGroup

	mu       sync.Mutex
	wake     sync.Cond // a lane may find work
	room     sync.Cond // the window is half empty, or closing
	closing  bool
	lanes    lanes
	window   window
	read     domain.Position
	passed   map[domain.Position]struct{} // handled before the restart, not read yet
	parked   map[string][]ref             // by key, oldest first: what stands in the store
	parkedAt map[domain.Position]struct{}
	unsaved  int  // handled since the last save
	skipped  bool // only the position moved
	alarm    *time.Timer
	alarmAt  time.Time
	waiters  []waiter
	stats    Status
}

// ref is what a subscription remembers of a parked message.
type ref struct {
	at   domain.Position
	id   uuid.UUID
	held bool // never tried: parked behind an earlier one
}

type waiter struct {
	at      domain.Position
	reached chan struct{}
}

func newSubscription(ctx context.Context, cfg *Config, h *hub, f Feed, state commands.ReactorState, rows []commands.Parked) *subscription {
	s := &subscription{
		cfg: cfg, hub: h, feed: f,
		out: make(chan *message.Message), gone: make(chan struct{}, 1), dirty: make(chan struct{}, 1), spent: make(chan struct{}), last: make(chan struct{}),
		read: state.Position, window: window{low: state.Position},
		passed: map[domain.Position]struct{}{}, parked: map[string][]ref{}, parkedAt: map[domain.Position]struct{}{},
		stats: Status{Reaction: f.Name},
	}
	s.wake.L, s.room.L = &s.mu, &s.mu
	l := zerolog.Ctx(ctx).With().Str("reaction", f.Name).Logger()
	s.log = &l
	s.msgs, s.abandon = context.WithCancel(l.WithContext(context.WithoutCancel(ctx)))
	s.over, s.finish = context.WithCancel(context.Background())
	s.ctx, s.cancel = context.WithCancel(ctx)
	for _, p := range state.Done {
		if state.Position.Before(p) {
			s.passed[p] = struct{}{}
		}
	}
	for _, p := range rows {
		s.remember(p)
	}
	return s
}

func (s *subscription) start() {
	for range s.cfg.Lanes {
		s.carrying.Go(s.carry)
	}
	s.feeding.Go(s.fill)
	s.saving.Go(s.save)
	go s.end()
}

// end waits for the end of the subscription and winds it up.
func (s *subscription) end() {
	<-s.ctx.Done()
	s.mu.Lock()
	s.closing = true
	s.wake.Broadcast()
	s.room.Broadcast()
	if s.alarm != nil {
		s.alarm.Stop()
	}
	s.mu.Unlock()
	s.sending.Wait()

	done := make(chan struct{})
	go func() { s.carrying.Wait(); close(done) }()
	if !within(done, s.cfg.Grace) {
		s.abandon()
		if !within(done, s.cfg.Grace) {
			s.log.Warn().Int("in_flight", s.status().InFlight).Msg("reaction did not end in time")
		}
	}
	close(s.spent)
	<-done
	close(s.out)
	s.feeding.Wait()
	s.abandon()
	close(s.last)
	s.saving.Wait()
	defer s.finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.lanes.keys {
		for _, w := range k.queue {
			w.tell(ErrClosed)
		}
	}
}

func within(done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// fill keeps the window filled: from the log by itself while behind, from the hub when level.
func (s *subscription) fill() {
	defer s.hub.leave(s)
	s.resume()
	for wait := retryFirst; s.waitRoom(); {
		if err := s.catchUp(); s.ctx.Err() != nil {
			return
		} else if err != nil {
			s.log.Warn().Err(err).Dur("retry_ms", wait).Msg("reaction cannot read the log")
			pause(s.ctx, wait)
			wait = min(2*wait, retryMost)
			continue
		}
		wait = retryFirst
		if s.hub.join(s) {
			select {
			case <-s.ctx.Done():
				return
			case <-s.gone:
			}
		}
	}
}

// resume sets going what was held behind a message that was replayed or discarded just before a restart.
func (s *subscription) resume() {
	s.mu.Lock()
	var heads []ref
	for _, refs := range s.parked {
		if refs[0].held {
			heads = append(heads, refs[0])
		}
	}
	s.mu.Unlock()
	for _, r := range heads {
		s.follow(r)
	}
}

func (s *subscription) letGo() { s.gone <- struct{}{} }

// waitRoom waits until the window is half empty; false at the end.
func (s *subscription) waitRoom() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closing && len(s.window.marks) > s.cfg.Window/2 {
		s.room.Wait()
	}
	return !s.closing
}

// catchUp reads to the present end of the log, or until the window is full.
func (s *subscription) catchUp() error {
	head, err := s.cfg.Log.Head(s.ctx)
	if err != nil {
		return err
	}
	for r, err := range s.cfg.Log.ReadAll(s.ctx, s.readTo()) {
		if err != nil {
			return err
		}
		if !s.take(&found{rec: r}) {
			return nil
		}
	}
	// The end may be an event that is left out of reading; all up to it was seen all the same.
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skip(head)
	return nil
}

func (s *subscription) readTo() domain.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read
}

// take takes one event into the window; false, and nothing taken, when it is full. Called in position
// order; an event taken before is passed over.
func (s *subscription) take(f *found) bool {
	var w *work
	if s.feed.Wants(f.rec) {
		w = s.prepare(f)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := f.rec.Position
	_, parked := s.parkedAt[p]
	switch {
	case !s.read.Before(p):
	case w == nil || w.moot || parked:
		delete(s.passed, p)
		s.skip(p)
	case len(s.window.marks) >= s.cfg.Window:
		return false
	default:
		s.read = p
		w.mark = s.window.add(p)
		if _, ok := s.passed[p]; ok {
			delete(s.passed, p)
			s.advance(w.mark)
			break
		}
		if s.feed.Latest {
			if before := s.lanes.overtake(w); before != nil {
				s.stats.Handled++
				s.advance(before.mark)
				break
			}
		}
		s.lanes.add(w)
		s.wake.Signal()
	}
	return true
}

// prepare decodes an event and finds its key.
func (s *subscription) prepare(f *found) (w *work) {
	w = &work{rec: f.rec, key: string(f.rec.Stream)}
	defer func() {
		if v := recover(); v != nil {
			w.broken = fmt.Errorf("key of %s: %s", f.rec.Type, panicText(v))
		}
	}()
	if w.event, w.broken = f.decode(); w.broken == nil {
		w.key = s.feed.Key(f.rec, w.event)
		w.moot = s.feed.Moot != nil && s.feed.Moot(f.rec, w.event)
	}
	return w
}

// skip takes note that everything up to p was read; s.mu is held.
func (s *subscription) skip(p domain.Position) {
	if !s.read.Before(p) {
		return
	}
	s.read = p
	s.window.skip(p)
	s.moved()
	if !s.skipped {
		s.skipped = true
		s.touch()
	}
}

// advance takes note that the message of m is handled; s.mu is held.
func (s *subscription) advance(m *mark) {
	if m == nil {
		return
	}
	if s.window.finish(m) {
		s.moved()
		if len(s.window.marks) <= s.cfg.Window/2 {
			s.room.Broadcast()
		}
	}
	if s.unsaved++; s.unsaved == 1 || s.unsaved == saveEvery {
		s.touch()
	}
}

// moved tells those who wait for a position; s.mu is held.
func (s *subscription) moved() {
	s.waiters = slices.DeleteFunc(s.waiters, func(w waiter) bool {
		if s.window.low.Before(w.at) {
			return false
		}
		close(w.reached)
		return true
	})
}

func (s *subscription) touch() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

// wait waits until everything up to p is handled. Errors: ctx's own, ErrClosed.
func (s *subscription) wait(ctx context.Context, p domain.Position) error {
	s.mu.Lock()
	if !s.window.low.Before(p) {
		s.mu.Unlock()
		return nil
	}
	w := waiter{p, make(chan struct{})}
	s.waiters = append(s.waiters, w)
	s.mu.Unlock()
	select {
	case <-w.reached:
		return nil
	case <-s.over.Done():
		return fmt.Errorf("wait for reaction %s: %w", s.feed.Name, ErrClosed)
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		s.waiters = slices.DeleteFunc(s.waiters, func(x waiter) bool { return x.reached == w.reached })
		return fmt.Errorf("wait for reaction %s to reach %s: %w", s.feed.Name, p, ctx.Err())
	}
}

// carry is one lane: it carries out released work, one after the other.
func (s *subscription) carry() {
	for w := s.release(); w != nil; w = s.release() {
		s.do(w)
		s.mu.Lock()
		s.stats.InFlight--
		s.mu.Unlock()
	}
}

// release waits for work that may go; nil at the end.
func (s *subscription) release() *work {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closing {
		w, due := s.lanes.next(time.Now())
		if w != nil {
			s.stats.InFlight++
			return w
		}
		if !due.IsZero() && !due.Equal(s.alarmAt) {
			if s.alarm != nil {
				s.alarm.Stop()
			}
			s.alarmAt = due
			s.alarm = time.AfterFunc(time.Until(due), func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.alarmAt = time.Time{}
				s.wake.Broadcast()
			})
		}
		s.wake.Wait()
	}
	return nil
}

// do carries out one work whose lane is ours.
func (s *subscription) do(w *work) {
	head, parked := s.standing(w)
	switch {
	case w.verdict != nil:
		s.park(w)
	case w.task != deliver && !parked:
		s.settle(w, ErrNotParked)
	case w.task == discard:
		s.unpark(w)
	case head != uuid.Nil && w.task == replay:
		s.settle(w, fmt.Errorf("%w: replay or discard %s first", ErrHeld, head))
	case head != uuid.Nil:
		s.condemn(w, fmt.Sprintf("held behind %s of the same key", head))
	case w.broken != nil:
		w.attempts++
		s.condemn(w, w.broken.Error())
	default:
		s.deliver(w)
	}
}

// standing tells which earlier message holds w's key (Nil for none), and whether w itself stands parked.
func (s *subscription) standing(w *work) (head uuid.UUID, parked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, parked = s.parkedAt[w.rec.Position]
	if refs := s.parked[w.key]; s.feed.Hold && len(refs) > 0 && refs[0].at.Before(w.rec.Position) {
		head = refs[0].id
	}
	return head, parked
}

// delivery travels in a message's context: what is delivered, and back the handler's error.
type delivery struct {
	rec   domain.Recorded
	event domain.Event
	err   error // written before the nack
}

type deliveryKey struct{}

func deliveryOf(ctx context.Context) *delivery {
	d, _ := ctx.Value(deliveryKey{}).(*delivery)
	return d
}

// deliver hands w out and waits for what becomes of it.
func (s *subscription) deliver(w *work) {
	d := &delivery{rec: w.rec, event: w.event}
	ctx, cancel := context.WithCancel(context.WithValue(s.msgs, deliveryKey{}, d))
	defer cancel()
	msg := newMessage(ctx, w.rec)
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return
	}
	s.sending.Add(1)
	s.mu.Unlock()
	begun := time.Now()
	select {
	case s.out <- msg:
		s.sending.Done()
	case <-s.ctx.Done():
		s.sending.Done()
		return
	}
	select {
	case <-msg.Acked():
		s.line(w, d, begun, "done").Msg("reaction run")
		s.handled(w)
	case <-msg.Nacked():
		s.failed(w, d, begun)
	case <-s.spent:
	}
}

// newMessage is r as Watermill carries it.
func newMessage(ctx context.Context, r domain.Recorded) *message.Message {
	m := message.NewMessageWithContext(ctx, r.ID.String(), r.Data)
	var meta map[string]any
	if json.Unmarshal(r.Metadata, &meta) == nil {
		for k, v := range meta {
			if text, ok := v.(string); ok {
				m.Metadata[k] = text
			}
		}
	}
	m.Metadata["event_type"] = r.Type
	m.Metadata["stream"] = string(r.Stream)
	m.Metadata["revision"] = strconv.FormatInt(int64(r.Revision), 10)
	m.Metadata["position"] = r.Position.String()
	if id := m.Metadata["$correlationId"]; id != "" {
		middleware.SetCorrelationID(id, m)
	}
	return m
}

// line begins the one log line of a run.
func (s *subscription) line(w *work, d *delivery, begun time.Time, outcome string) *zerolog.Event {
	e := s.log.Info()
	if !e.Enabled() {
		return e
	}
	if m, err := w.rec.Meta(); err == nil && m.CorrelationID != "" {
		e = e.Str("correlation_id", m.CorrelationID)
	}
	e = e.Str("outcome", outcome).Str("event_type", w.rec.Type).Str("stream", string(w.rec.Stream)).
		Int64("revision", int64(w.rec.Revision)).Stringer("position", w.rec.Position).
		Int("attempt", w.attempts+1).Dur("elapsed_ms", time.Since(begun))
	if p := (middleware.RecoveredPanicError{}); errors.As(d.err, &p) {
		e = e.Str("stack", p.Stacktrace)
	}
	if d.err != nil {
		e = e.Str("error", reason(d.err))
	}
	return e
}

// handled ends w well; a replay is no longer parked.
func (s *subscription) handled(w *work) {
	s.mu.Lock()
	s.stats.Handled++
	s.mu.Unlock()
	if w.task == replay {
		s.unpark(w)
		return
	}
	s.settle(w, nil)
}

// failed puts w back, or parks it. At the end of the subscription nothing is counted: w stays unhandled.
func (s *subscription) failed(w *work, d *delivery, begun time.Time) {
	s.mu.Lock()
	closing := s.closing
	s.mu.Unlock()
	permanent := errors.Is(d.err, commands.ErrPermanent)
	switch {
	case closing:
		s.line(w, d, begun, "interrupted").Msg("reaction run")
	case permanent || w.attempts+1 >= s.cfg.Attempts && !errors.Is(d.err, commands.ErrAway):
		s.line(w, d, begun, "parked").Msg("reaction run")
		w.attempts++
		s.condemn(w, reason(d.err))
	default:
		s.line(w, d, begun, "again").Msg("reaction run")
		w.attempts++
		s.mu.Lock()
		s.stats.Retried++
		s.mu.Unlock()
		s.again(w, s.cfg.Backoff(w.attempts))
	}
}

func (s *subscription) again(w *work, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanes.again(w, time.Now().Add(after))
}

// reason is the text kept of an error.
func reason(err error) string {
	if err == nil {
		return "not acknowledged"
	}
	text := err.Error()
	if p := (middleware.RecoveredPanicError{}); errors.As(err, &p) {
		text = panicText(p.V)
	}
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "")
	}
	return text
}

// panicText tells of a panic without showing a value that might be a secret.
func panicText(v any) string {
	if err, ok := v.(error); ok {
		return "panic: " + err.Error()
	}
	return fmt.Sprintf("panic: %T", v)
}

// settle takes w out of its lane and answers.
func (s *subscription) settle(w *work, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanes.finish(w)
	s.advance(w.mark)
	w.tell(err)
}

// status is how the subscription stands.
func (s *subscription) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Position, st.Read, st.Parked = s.window.low, s.read, len(s.parkedAt)
	for _, m := range s.window.marks {
		if !m.done {
			st.Pending++
		}
	}
	return st
}
