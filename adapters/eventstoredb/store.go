// Package eventstoredb keeps the log on an EventStoreDB server or cluster, over the official client
// (EventStore-Client-Go v4.2.0). It implements commands.Log, commands.ReactorStore,
// commands.Leases and commands.Groups.
//
// Why a layer of its own around the client? Because of how that client is (reference/eventstoredb.md §7):
// calls hang for ever when discovery gives up, ignoring their context; it panics on messages it does not
// know; errors are wrapped so that its own helper misses them; subscription drops carry another kind of
// error; a closed client stays closed. So every call here runs in a goroutine that its caller leaves when
// the context ends, panics become errors, every error is one the port documents, and a dead client is
// replaced at the next call.
//
// What holds: event ids are ours; the size of an append is checked before it is sent; positions are the
// server's pairs, opaque; what the server or this adapter keeps for itself ("$…", "reactor-…", "lease-…") is never
// shown by ReadAll, Subscribe and Head. That an id is unique in its stream is checked by the server only
// where it recognises a repetition: writers give out UUIDs.
//
// A read the server drops goes on behind what it has shown, and gives up after a few attempts without news.
//
// Not here: resubscribing after a drop (the caller does, from its last position), stream deletion.
package eventstoredb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"ledgerline/commands"
	"ledgerline/domain"
)

var (
	_ commands.Log          = (*Store)(nil)
	_ commands.ReactorStore = (*Store)(nil)
	_ commands.Leases       = (*Store)(nil)
	_ commands.Groups       = (*Store)(nil)
)

// Credentials are a user of the server. The zero value means those of the connection string, or none.
type Credentials struct {
	User     string
	Password string
}

const (
	discoverAttempts = 1000 // giving up kills the client; about 100 ms each
	maxCalls         = 1024 // running calls and subscriptions, those left behind included
	checkpointEvery  = 500  // windows of 32 events the server looks through without a sign of life
	attempts         = 4    // of what may be repeated: reads, and appends whose repetition is safe
	ahead            = 64   // events received and not yet looked at, of one read

	stuck = 30 * time.Second // a client this old whose every call is left behind is given up
)

// Store is a connection to the log. Safe for concurrent use.
type Store struct {
	config *esdb.Configuration

	mu      sync.Mutex
	conn    *connection
	bounded map[domain.StreamID]bool            // streams whose $maxCount this process has seen to
	saved   map[domain.StreamID]domain.Revision // of reactor streams, as last seen here
	head    domain.Position                     // of what is shown, when the whole log ended at end
	end     domain.Position
}

// connection is one client. Calls that hang in it for ever keep their tokens, and go with it.
type connection struct {
	client *esdb.Client
	calls  chan struct{} // one token per running call
	since  time.Time
}

func connect(config *esdb.Configuration) (*connection, error) {
	client, err := esdb.NewClient(config)
	return &connection{client: client, calls: make(chan struct{}, maxCalls), since: time.Now()}, err
}

// Open connects with a connection string ("esdb://host:2113?tls=false", "esdb+discover://…") and waits
// until the server answers. Errors: ErrInsecure, ErrDenied, ErrUnavailable, ctx's own. No error text
// holds the password.
func Open(ctx context.Context, connString string, c Credentials) (*Store, error) {
	s, err := newStore(connString, c)
	if err != nil {
		return nil, fmt.Errorf("open EventStoreDB: %w", err)
	}
	if _, err := s.Head(ctx); err != nil {
		return nil, fmt.Errorf("open EventStoreDB at %s: %w", s.config.Address, errors.Join(err, s.Close()))
	}
	return s, nil
}

func newStore(connString string, c Credentials) (*Store, error) {
	config, err := esdb.ParseConnectionString(connString)
	if err != nil {
		// The error repeats the connection string, and that may hold the password.
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err
		}
		if strings.Contains(err.Error(), "@") {
			err = errors.New("malformed")
		}
		return nil, fmt.Errorf("connection string: %w", err)
	}
	if c.User != "" {
		config.Username, config.Password = c.User, c.Password
	}
	if config.DisableTLS && config.Username != "" {
		return nil, ErrInsecure
	}
	config.MaxDiscoverAttempts = max(config.MaxDiscoverAttempts, discoverAttempts)
	config.Logger = esdb.NoopLogging()
	conn, err := connect(config)
	if err != nil {
		return nil, err
	}
	return &Store{config: config, conn: conn, bounded: map[domain.StreamID]bool{}, saved: map[domain.StreamID]domain.Revision{}}, nil
}

// Close lets go of the connection. Reads and subscriptions under way end with an error.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn.client.Close()
}

// Append implements commands.Log. An append whose repetition the server recognises for ever (an exact
// revision, or NoStream) is repeated a few times before its outcome is called unknown.
func (s *Store) Append(ctx context.Context, stream domain.StreamID, expected domain.Revision, events []domain.NewEvent) (domain.Position, error) {
	p, err := s.append(ctx, stream, expected, events)
	if err != nil {
		return domain.Position{}, fmt.Errorf("append to %s: %w", stream, err)
	}
	return p, nil
}

func (s *Store) append(ctx context.Context, stream domain.StreamID, expected domain.Revision, events []domain.NewEvent) (domain.Position, error) {
	if len(events) == 0 {
		return domain.Position{}, nil
	}
	revision, err := expectation(expected)
	if err != nil {
		return domain.Position{}, err
	}
	data, err := eventData(events)
	if err != nil {
		return domain.Position{}, err
	}
	if stream == "" {
		return domain.Position{}, errors.New("stream name must not be empty")
	}
	if err := ctx.Err(); err != nil {
		return domain.Position{}, err
	}
	again := expected != domain.Any && expected != domain.StreamExists
	for attempt := 1; ; attempt++ {
		result, err := call(ctx, s, func(ctx context.Context, c *esdb.Client) (*esdb.WriteResult, error) {
			return c.AppendToStream(ctx, string(stream), esdb.AppendToStreamOptions{ExpectedRevision: revision}, data...)
		})
		if err == nil {
			return domain.Position{Commit: result.CommitPosition, Prepare: result.PreparePosition}, nil
		}
		if err = unsettled(err); !errors.Is(err, domain.ErrOutcomeUnknown) || !again || attempt == attempts || ctx.Err() != nil {
			return domain.Position{}, err
		}
		if !pause(ctx, attempt) {
			return domain.Position{}, err
		}
	}
}

// pause waits before the next attempt; false when ctx ends first.
func pause(ctx context.Context, attempt int) bool {
	select {
	case <-time.After(50 * time.Millisecond << attempt):
		return true
	case <-ctx.Done():
		return false
	}
}

// steady yields what open yields, and opens again where the server went away in between; shown tells how
// far the reading has come. Every event shown makes the attempts count anew.
func steady(ctx context.Context, open func() iter.Seq2[domain.Recorded, error], shown func(domain.Recorded)) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for attempt := 1; ; attempt++ {
			var dropped error
			for r, err := range open() {
				if errors.Is(err, ErrUnavailable) && ctx.Err() == nil {
					dropped = err
					break
				}
				if !yield(r, err) || err != nil {
					return
				}
				shown(r)
				attempt = 0
			}
			if dropped == nil {
				return
			}
			if attempt = max(attempt, 1); attempt >= attempts || !pause(ctx, attempt) {
				yield(domain.Recorded{}, dropped)
				return
			}
		}
	}
}

// repeated is call for what changes nothing, or the same twice: it is repeated while the server is away.
func repeated[T any](ctx context.Context, s *Store, do func(context.Context, *esdb.Client) (T, error)) (T, error) {
	for attempt := 1; ; attempt++ {
		v, err := call(ctx, s, do)
		if !errors.Is(err, ErrUnavailable) || attempt >= attempts || !pause(ctx, attempt) {
			return v, err
		}
	}
}

// Read implements commands.Log. A read the server drops goes on behind what it has shown.
func (s *Store) Read(ctx context.Context, stream domain.StreamID, from domain.Revision) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		at := from
		steady(ctx, func() iter.Seq2[domain.Recorded, error] { return s.read(ctx, stream, at) }, func(r domain.Recorded) { at = r.Revision + 1 })(yield)
	}
}

func (s *Store) read(ctx context.Context, stream domain.StreamID, from domain.Revision) iter.Seq2[domain.Recorded, error] {
	return s.pump(ctx, "read "+string(stream), func(ctx context.Context, c *esdb.Client, emit func(domain.Recorded) bool) error {
		list, err := c.ReadStream(ctx, string(stream), esdb.ReadStreamOptions{From: esdb.Revision(uint64(max(from, 0)))}, math.MaxUint64)
		if err != nil {
			return err
		}
		defer list.Close()
		return each(list, emit)
	})
}

// ReadAll implements commands.Log. It is a subscription that ends at the present end: only
// subscriptions are filtered on the server. One the server drops goes on behind what it has shown.
func (s *Store) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		head, err := s.Head(ctx)
		if err != nil {
			yield(domain.Recorded{}, fmt.Errorf("read log: %w", err))
			return
		}
		at := after
		steady(ctx, func() iter.Seq2[domain.Recorded, error] {
			if !at.Before(head) {
				return func(func(domain.Recorded, error) bool) {}
			}
			return s.follow(ctx, "read log", at, head)
		}, func(r domain.Recorded) { at = r.Position })(yield)
	}
}

// Subscribe implements commands.Log. A drop ends it with ErrUnavailable, ErrDenied or what the server said.
func (s *Store) Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return s.follow(ctx, "subscribe", after, domain.Position{})
}

// follow subscribes to the log behind after, up to and including end, or for ever if end is zero.
func (s *Store) follow(ctx context.Context, what string, after, end domain.Position) iter.Seq2[domain.Recorded, error] {
	return s.pump(ctx, what, func(ctx context.Context, c *esdb.Client, emit func(domain.Recorded) bool) error {
		sub, err := c.SubscribeToAll(ctx, esdb.SubscribeToAllOptions{
			From:               allPosition(after),
			MaxSearchWindow:    32,
			CheckpointInterval: checkpointEvery,
			Filter:             &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Regex: `^[^$]`}, // the same in .NET and RE2
		})
		if err != nil {
			return err
		}
		defer sub.Close()
		for {
			m := sub.Recv()
			at := domain.Position{}
			switch {
			case m.SubscriptionDropped != nil:
				return m.SubscriptionDropped.Error
			case m.EventAppeared != nil:
				r, ok := recorded(m.EventAppeared)
				if at = r.Position; ok && !r.Position.Before(end) && !end.IsZero() && r.Position != end {
					return nil // written after the reading began
				}
				if ok && shown(r) && !emit(r) {
					return nil
				}
			case m.CheckPointReached != nil:
				at = domain.Position(*m.CheckPointReached)
			case m.CaughtUp != nil:
				at = end
			}
			if !end.IsZero() && !at.Before(end) {
				return nil
			}
		}
	})
}

// Head implements commands.Log: the last event that ReadAll would show. What is not shown may stand in great
// numbers at the end of the log, so only what came since the last answer is looked at.
func (s *Store) Head(ctx context.Context) (domain.Position, error) {
	s.mu.Lock()
	head, end := s.head, s.end
	s.mu.Unlock()
	type found struct{ head, end domain.Position }
	f, err := repeated(ctx, s, func(ctx context.Context, c *esdb.Client) (f found, err error) {
		list, err := c.ReadAll(ctx, esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.End{}}, math.MaxUint64)
		if err != nil {
			return f, err
		}
		defer list.Close()
		err = each(list, func(r domain.Recorded) bool {
			if f.end.IsZero() {
				f.end = r.Position
			}
			switch {
			case shown(r):
				f.head = r.Position
			case r.Position == end:
				f.head = head
			default:
				return true
			}
			return false
		})
		return f, err
	})
	if err != nil {
		return domain.Position{}, fmt.Errorf("head of the log: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head, s.end = f.head, f.end
	return f.head, nil
}

// each hands the events of a read to emit until that has enough.
func each(list *esdb.ReadStream, emit func(domain.Recorded) bool) error {
	for {
		e, err := list.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if r, ok := recorded(e); ok && !emit(r) {
			return nil
		}
	}
}

// pump runs source in a goroutine and yields what it emits. Leaving the iteration cancels source's
// context; nobody waits for it.
func (s *Store) pump(ctx context.Context, what string, source func(context.Context, *esdb.Client, func(domain.Recorded) bool) error) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		inner, cancel := context.WithCancel(ctx)
		defer cancel()
		events := make(chan domain.Recorded, ahead)
		ended, err := start(inner, s, func(ctx context.Context, c *esdb.Client) (struct{}, error) {
			defer close(events)
			return struct{}{}, source(ctx, c, func(r domain.Recorded) bool {
				select {
				case events <- r:
					return true
				case <-inner.Done():
					return false
				}
			})
		})
		if err != nil {
			yield(domain.Recorded{}, fmt.Errorf("%s: %w", what, err))
			return
		}
		for {
			select {
			case r, more := <-events:
				if more {
					if !yield(r, nil) {
						return
					}
					continue
				}
				if o := <-ended; o.err != nil {
					yield(domain.Recorded{}, fmt.Errorf("%s: %w", what, cmpOr(ctx.Err(), translate(o.err))))
				}
				return
			case <-ctx.Done():
				yield(domain.Recorded{}, fmt.Errorf("%s: %w", what, ctx.Err()))
				return
			}
		}
	}
}

type outcome[T any] struct {
	value T
	err   error
}

// call runs do and waits for it or for the end of ctx, whichever is first.
func call[T any](ctx context.Context, s *Store, do func(context.Context, *esdb.Client) (T, error)) (T, error) {
	var none T
	done, err := start(ctx, s, do)
	if err != nil {
		return none, err
	}
	select {
	case o := <-done:
		if o.err != nil {
			return none, cmpOr(left(ctx), translate(o.err))
		}
		return o.value, nil
	case <-ctx.Done():
		return none, left(ctx)
	}
}

// left is the error of who leaves a call that was sent: errors.Is finds ctx's own error and errLeft.
func left(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errLeft, ctx.Err())
}

// start runs do in a goroutine, with panics as errors. The client hangs in places whatever its context
// says: the goroutine may outlive its caller, so their number is bounded.
func start[T any](ctx context.Context, s *Store, do func(context.Context, *esdb.Client) (T, error)) (<-chan outcome[T], error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	conn := s.current()
	select {
	case conn.calls <- struct{}{}:
	case <-ctx.Done():
		if time.Since(conn.since) > stuck {
			s.replace(conn)
		}
		return nil, fmt.Errorf("%w: too many calls wait for the server: %w", ErrUnavailable, ctx.Err())
	}
	done := make(chan outcome[T], 1)
	go func() {
		var o outcome[T]
		defer func() {
			if p := recover(); p != nil {
				o.err = fmt.Errorf("the client panicked: %v\n%s", p, debug.Stack())
			}
			if dead(o.err) {
				s.replace(conn)
			}
			<-conn.calls
			done <- o
		}()
		o.value, o.err = do(ctx, conn.client)
	}()
	return done, nil
}

func (s *Store) current() *connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

// replace puts a new client in the place of a dead one, once. The dead one is not closed: it is, or calls
// that hang in it would panic.
func (s *Store) replace(dead *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != dead {
		return
	}
	if fresh, err := connect(s.config); err == nil {
		s.conn = fresh
	}
}

func cmpOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// expectation is a revision as the client writes it.
func expectation(r domain.Revision) (esdb.ExpectedRevision, error) {
	switch {
	case r >= 0:
		return esdb.Revision(uint64(r)), nil
	case r == domain.NoStream:
		return esdb.NoStream{}, nil
	case r == domain.Any:
		return esdb.Any{}, nil
	case r == domain.StreamExists:
		return esdb.StreamExists{}, nil
	}
	return nil, fmt.Errorf("no such expectation: %d", r)
}

// eventData checks and translates events.
func eventData(events []domain.NewEvent) ([]esdb.EventData, error) {
	list, size := make([]esdb.EventData, len(events)), 0
	seen := make(map[uuid.UUID]bool, len(events))
	for i, e := range events {
		if e.ID == uuid.Nil || e.Type == "" {
			return nil, errors.New("an event needs an id and a type")
		}
		if seen[e.ID] {
			return nil, fmt.Errorf("two events of one append have the id %s", e.ID)
		}
		seen[e.ID] = true
		kind := esdb.ContentTypeBinary
		if json.Valid(e.Data) {
			kind = esdb.ContentTypeJson
		}
		list[i] = esdb.EventData{EventID: e.ID, EventType: e.Type, ContentType: kind, Data: e.Data, Metadata: e.Metadata}
		size += len(e.Data) + len(e.Metadata)
	}
	if size > domain.MaxAppend {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", domain.ErrTooBig, size, domain.MaxAppend)
	}
	return list, nil
}

// recorded translates what a read delivers; ok is false for a link whose target is gone.
func recorded(e *esdb.ResolvedEvent) (r domain.Recorded, ok bool) {
	if e.Event == nil {
		return r, false
	}
	return domain.Recorded{
		Stream:   domain.StreamID(e.Event.StreamID),
		Revision: domain.Revision(e.Event.EventNumber),
		Position: domain.Position(e.Event.Position),
		ID:       e.Event.EventID,
		Type:     e.Event.EventType,
		Data:     e.Event.Data,
		Metadata: e.Event.UserMetadata,
	}, true
}

// shown tells whether ReadAll shows the event: not the server's own, nor what this adapter keeps.
func shown(r domain.Recorded) bool {
	return !r.Stream.Internal() && !strings.HasPrefix(r.Type, "$")
}

// allPosition is where a subscription begins behind p.
func allPosition(p domain.Position) esdb.AllPosition {
	if p.IsZero() {
		return esdb.Start{}
	}
	return esdb.Position(p)
}
