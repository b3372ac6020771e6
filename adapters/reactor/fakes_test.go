package reactor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"ledgerline/commands"
	"ledgerline/domain"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The kit's own: its multiplier of subscribers keeps forwarding into a channel nobody reads any more.
		goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/internal/subscriber.(*multiplier).Subscribe.func2"),
		goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/internal/subscriber.(*multiplier).Subscribe.func3"))
}

var errDropped = errors.New("subscription dropped")

// memLog is a commands.Log in memory. Positions are ten apart, as those of a real store have gaps.
type memLog struct {
	mu      sync.Mutex
	events  []domain.Recorded
	streams map[domain.StreamID][]domain.Recorded
	more    chan struct{} // closed and replaced at every append
	dropped chan struct{} // closed and replaced by drop
	subs    int           // subscriptions ever made
	reads   int           // calls of ReadAll
	failing int           // so many calls of ReadAll yet to come fail after their first event
}

func newMemLog() *memLog {
	return &memLog{streams: map[domain.StreamID][]domain.Recorded{}, more: make(chan struct{}), dropped: make(chan struct{})}
}

func (l *memLog) Append(ctx context.Context, stream domain.StreamID, expected domain.Revision, events []domain.NewEvent) (domain.Position, error) {
	if err := ctx.Err(); err != nil {
		return domain.Position{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	last := domain.Revision(len(l.streams[stream]) - 1)
	if expected != domain.Any && expected != last && !(expected == domain.StreamExists && last >= 0) {
		return domain.Position{}, domain.ErrConflict
	}
	var p domain.Position
	for _, e := range events {
		last++
		p = domain.At(uint64(len(l.events)+1) * 10)
		r := domain.Recorded{Stream: stream, Revision: last, Position: p, ID: e.ID, Type: e.Type, Data: e.Data, Metadata: e.Metadata}
		l.events = append(l.events, r)
		l.streams[stream] = append(l.streams[stream], r)
	}
	close(l.more)
	l.more = make(chan struct{})
	return p, nil
}

func (l *memLog) Read(_ context.Context, stream domain.StreamID, from domain.Revision) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		l.mu.Lock()
		events := slices.Clone(l.streams[stream])
		l.mu.Unlock()
		if len(events) == 0 {
			yield(domain.Recorded{}, domain.ErrNoStream)
			return
		}
		for _, r := range events[min(int(from), len(events)):] {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// page is what follows after, without the streams of the store, and what tells of more.
func (l *memLog) page(after domain.Position) (page []domain.Recorded, more, dropped chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, found := slices.BinarySearchFunc(l.events, after, func(r domain.Recorded, p domain.Position) int { return r.Position.Compare(p) })
	if found {
		i++
	}
	page = append(page, l.events[i:min(len(l.events), i+1000)]...)
	return page, l.more, l.dropped
}

func (l *memLog) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reads++; l.failing > 0 {
		l.failing--
		return func(yield func(domain.Recorded, error) bool) {
			for r := range l.iterate(ctx, after, false) {
				if !yield(r, nil) {
					return
				}
				break
			}
			yield(domain.Recorded{}, errDropped)
		}
	}
	return l.iterate(ctx, after, false)
}

func (l *memLog) Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	l.mu.Lock()
	l.subs++
	l.mu.Unlock()
	return l.iterate(ctx, after, true)
}

func (l *memLog) iterate(ctx context.Context, after domain.Position, wait bool) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for {
			page, more, dropped := l.page(after)
			for _, r := range page {
				after = r.Position
				if ctx.Err() != nil {
					yield(domain.Recorded{}, ctx.Err())
					return
				}
				if r.Stream[0] != '$' && !yield(r, nil) {
					return
				}
			}
			if len(page) > 0 {
				continue
			}
			if !wait {
				return
			}
			select {
			case <-ctx.Done():
				yield(domain.Recorded{}, ctx.Err())
				return
			case <-dropped:
				yield(domain.Recorded{}, errDropped)
				return
			case <-more:
			}
		}
	}
}

func (l *memLog) Head(context.Context) (domain.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return domain.At(uint64(len(l.events)) * 10), nil
}

// drop breaks every live subscription.
func (l *memLog) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.dropped)
	l.dropped = make(chan struct{})
}

// put records an event of type layer.removed (it has no fields) and returns it.
func (l *memLog) put(t testing.TB, stream domain.StreamID) domain.Recorded {
	t.Helper()
	return l.putType(t, stream, "layer.removed", "{}")
}

func (l *memLog) putType(t testing.TB, stream domain.StreamID, kind, data string) domain.Recorded {
	t.Helper()
	e := domain.NewEvent{ID: uuid.New(), Type: kind, Data: []byte(data), Metadata: []byte(`{"$correlationId":"corr-1","actor":"cli:test","recorded_at":"2026-01-01T00:00:00Z"}`)}
	if _, err := l.Append(t.Context(), stream, domain.Any, []domain.NewEvent{e}); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.streams[stream]
	return s[len(s)-1]
}

var errDead = errors.New("process is dead")

// memStore is a commands.ReactorStore in memory. before, if set, is asked ahead of every write; its error is
// the write's, with (after) or without effect.
type memStore struct {
	mu     sync.Mutex
	states map[string]commands.ReactorState
	parked map[string]commands.Parked
	saves  int
	before func(op string) (kept bool, err error)
}

func newMemStore() *memStore {
	return &memStore{states: map[string]commands.ReactorState{}, parked: map[string]commands.Parked{}}
}

func (s *memStore) write(op string, do func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before != nil {
		kept, err := s.before(op)
		if kept || err == nil {
			do()
		}
		return err
	}
	do()
	return nil
}

func (s *memStore) LoadReactor(_ context.Context, name string) (commands.ReactorState, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.states[name]
	st.Done = slices.Clone(st.Done)
	return st, ok, nil
}

func (s *memStore) SaveReactor(_ context.Context, name string, st commands.ReactorState) error {
	return s.write("save", func() { s.states[name] = st; s.saves++ })
}

func (s *memStore) Park(_ context.Context, p commands.Parked) error {
	return s.write("park", func() { s.parked[p.Reaction+"/"+p.EventID.String()] = p })
}

func (s *memStore) Unpark(_ context.Context, name string, event uuid.UUID) error {
	return s.write("unpark", func() { delete(s.parked, name+"/"+event.String()) })
}

func (s *memStore) Parked(_ context.Context, name string) ([]commands.Parked, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []commands.Parked
	for _, p := range s.parked {
		if name == "" || p.Reaction == name {
			rows = append(rows, p)
		}
	}
	slices.SortFunc(rows, func(a, b commands.Parked) int {
		return cmp.Or(a.Position.Compare(b.Position), cmp.Compare(a.Reaction, b.Reaction))
	})
	return rows, nil
}

func (s *memStore) state(name string) commands.ReactorState {
	st, _, _ := s.LoadReactor(context.Background(), name)
	return st
}

// why lists the parked rows as "revision attempts reason".
func (s *memStore) why(name string) (rows []string) {
	ps, _ := s.Parked(context.Background(), name)
	for _, p := range ps {
		rows = append(rows, fmt.Sprintf("%s@%d %d", p.Stream, p.Revision, p.Attempts))
	}
	return rows
}
