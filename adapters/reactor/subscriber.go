package reactor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Errors of this package.
var (
	// ErrNoPosition: nothing was ever saved under the reaction's name and the log is not empty, so
	// neither "react to all of it" nor "only to what comes" can be assumed (decisions D1).
	ErrNoPosition = errors.New("has no saved position and the log is not empty; say --reactor-from=head to skip what was, or --reactor-from=start to react to all of it")
	// ErrBadFrom: a From that is none of the three.
	ErrBadFrom = errors.New(`must be "head", "start" or empty`)
	// ErrClosed: the subscriber or publisher is closed, or the reactor does not run.
	ErrClosed = errors.New("reactor is not running")
	// ErrElsewhere: another replica has the lease, or none has yet.
	ErrElsewhere = errors.New("reactions do not run on this replica now: ask the one that has the lease")
)

// From says where a reaction begins of which no position was ever saved.
type From string

const (
	FromSaved From = ""      // refuse with ErrNoPosition, unless the log is empty
	FromHead  From = "head"  // after what is recorded now
	FromStart From = "start" // with the first event ever
)

// Feed is what one topic of a Subscriber delivers.
type Feed struct {
	// Name names the durable position: two subscriptions of one name go on where the other saved.
	Name string
	// Wants selects the events; Key is what order is kept by. Both are pure, fast, and called by several
	// goroutines. An event whose payload cannot be decoded, or whose Key panics, is parked under its stream.
	Wants func(domain.Recorded) bool
	Key   func(domain.Recorded, domain.Event) string
	// Hold parks later messages of a key behind a parked one.
	Hold bool
	// Moot, if not nil, tells of an event that is wanted and decoded that there is nothing to do: it is passed over. Pure and fast.
	Moot func(domain.Recorded, domain.Event) bool
	// Latest: a message that waits untried gives way to the next one of its key and stream, and counts as handled with it
	// still to come. Not with Hold.
	Latest bool
}

// Config is what a Subscriber works with. Zero values mean the default in parentheses.
type Config struct {
	Log   commands.Log
	Store commands.ReactorStore
	// Feed describes a topic; its error is Subscribe's.
	Feed func(topic string) (Feed, error)
	From From
	// Lanes is how many messages of one topic may be under way at once (4); 1 keeps the order of the log
	// over all keys, as long as nothing fails.
	Lanes int
	// Window is how far, in messages, one topic reads ahead of its oldest unhandled message (1024).
	Window int
	// Attempts is how often a message is tried before it is parked (8).
	Attempts int
	// Backoff is the delay after the n-th failed attempt, n from 1 (Backoff).
	Backoff func(n int) time.Duration
	// Grace is how long messages under way may go on after the end before their context is cancelled, and
	// again how long they are then waited for (5 s).
	Grace time.Duration
}

func (c *Config) setDefaults() error {
	switch c.From {
	case FromSaved, FromHead, FromStart:
	default:
		return fmt.Errorf("reactor from %q: %w", c.From, ErrBadFrom)
	}
	c.Lanes = cmp.Or(max(c.Lanes, 0), 4)
	c.Window = cmp.Or(max(c.Window, 0), 1024)
	c.Attempts = cmp.Or(max(c.Attempts, 0), 8)
	c.Grace = cmp.Or(max(c.Grace, 0), 5*time.Second)
	if c.Backoff == nil {
		c.Backoff = Backoff
	}
	return nil
}

// Backoff is the default delay after the n-th failed attempt (n from 1): 100 ms doubled each time up to a
// minute, less up to half of it at random, so that what failed together does not return together.
func Backoff(n int) time.Duration {
	d := time.Minute
	if n < 10 {
		d = min(d, 100*time.Millisecond<<max(n-1, 0))
	}
	return d - rand.N(d/2+1)
}

// Subscriber is a Watermill subscriber over the log. A topic's messages carry the event's id as UUID, its
// data as payload, and as metadata event_type, stream, revision, position, correlation_id and every text
// field of the event's metadata. Messages of different keys come side by side, up to Lanes; ack means
// handled, nack means again. Contexts of messages carry the values of the subscription's context and end
// on ack, on nack, and Grace after the subscription's end. Safe for concurrent use.
type Subscriber struct {
	cfg Config

	mu     sync.Mutex
	closed bool
	hub    *hub
	stop   context.CancelFunc // ends the hub
	hubOut chan struct{}      // closed when it has ended
	subs   map[*subscription]struct{}
}

// NewSubscriber makes a Subscriber; it reads nothing before the first Subscribe. Error: ErrBadFrom.
func NewSubscriber(c Config) (*Subscriber, error) {
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	return &Subscriber{cfg: c, subs: map[*subscription]struct{}{}}, nil
}

// SubscribeInitialize settles where topic begins, durably, if that was never done. Error: ErrNoPosition.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	f, err := s.cfg.Feed(topic)
	if err != nil {
		return err
	}
	_, err = s.position(context.Background(), f.Name)
	return err
}

// position loads the state of a name, or begins one. Of several replicas that begin at once one does.
func (s *Subscriber) position(ctx context.Context, name string) (commands.ReactorState, error) {
	state, found, err := s.cfg.Store.LoadReactor(ctx, name)
	if err != nil {
		return state, fmt.Errorf("load position of reaction %s: %w", name, err)
	}
	if found {
		return state, nil
	}
	begun, err := s.beginning(ctx, name)
	if err == nil {
		if err = s.cfg.Store.SaveReactor(ctx, name, begun); err != nil {
			err = fmt.Errorf("save first position of reaction %s: %w", name, err)
		}
	}
	if errors.Is(err, ErrNoPosition) || errors.Is(err, domain.ErrConflict) {
		// Another replica may have begun, and appended, in between.
		if state, found, loadErr := s.cfg.Store.LoadReactor(ctx, name); loadErr == nil && found {
			return state, nil
		}
	}
	return begun, err
}

// beginning is where a name starts of which nothing was ever saved.
func (s *Subscriber) beginning(ctx context.Context, name string) (state commands.ReactorState, err error) {
	head, err := s.cfg.Log.Head(ctx)
	switch {
	case err != nil:
		return state, fmt.Errorf("read head of log for reaction %s: %w", name, err)
	case s.cfg.From == FromHead:
		state.Position = head
	case s.cfg.From == FromSaved && !head.IsZero():
		return state, fmt.Errorf("reaction %s %w", name, ErrNoPosition)
	}
	return state, nil
}

// Subscribe begins to deliver topic from its saved position. The channel is closed when ctx ends or the
// subscriber is closed. It logs to the zerolog logger of ctx. Errors: ErrNoPosition, ErrClosed.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	f, err := s.cfg.Feed(topic)
	if err != nil {
		return nil, err
	}
	state, err := s.position(ctx, f.Name)
	if err != nil {
		return nil, err
	}
	rows, err := s.cfg.Store.Parked(ctx, f.Name)
	if err != nil {
		return nil, fmt.Errorf("load parked messages of reaction %s: %w", f.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if err := s.startHub(ctx); err != nil {
		return nil, err
	}
	sub := newSubscription(ctx, &s.cfg, s.hub, f, state, rows)
	s.subs[sub] = struct{}{}
	sub.start()
	context.AfterFunc(sub.over, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subs, sub)
	})
	return sub.out, nil
}

// startHub makes the shared reader run, from the head of now; s.mu is held.
func (s *Subscriber) startHub(ctx context.Context) error {
	if s.hub != nil {
		return nil
	}
	head, err := s.cfg.Log.Head(ctx)
	if err != nil {
		return fmt.Errorf("read head of log: %w", err)
	}
	hubCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.hub = &hub{log: s.cfg.Log, at: head, live: map[*subscription]struct{}{}}
	s.stop, s.hubOut = stop, make(chan struct{})
	go func(h *hub, out chan struct{}) {
		defer close(out)
		h.run(hubCtx)
	}(s.hub, s.hubOut)
	return nil
}

// all lists the subscriptions that are not over.
func (s *Subscriber) all() []*subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	subs := make([]*subscription, 0, len(s.subs))
	for sub := range s.subs {
		subs = append(subs, sub)
	}
	return subs
}

// named is the subscription of that name; nil if there is none.
func (s *Subscriber) named(name string) *subscription {
	for _, sub := range s.all() {
		if sub.feed.Name == name {
			return sub
		}
	}
	return nil
}

// Close ends all subscriptions: nothing more comes out, messages under way get Grace to finish, positions
// are saved. It waits for all of that, at most about twice Grace. Closing again waits too and is no error.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	stop, out := s.stop, s.hubOut
	s.mu.Unlock()
	subs := s.all()
	for _, sub := range subs {
		sub.cancel()
	}
	for _, sub := range subs {
		<-sub.over.Done()
	}
	if stop != nil {
		stop()
		<-out
	}
	return nil
}

// end is how far the shared reader has come.
func (s *Subscriber) end() (p domain.Position) {
	s.mu.Lock()
	h := s.hub
	s.mu.Unlock()
	if h != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		p = h.at
	}
	return p
}
