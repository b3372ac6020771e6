package commandstest

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Log is commands.Log and commands.ReactorStore in memory. Positions count the events, from 1.
type Log struct {
	Faults *Faults // may be nil

	mu      sync.Mutex
	all     []domain.Recorded
	streams map[domain.StreamID][]int // indexes into all, by revision
	head    domain.Position           // of the last event ReadAll shows
	grown   chan struct{}             // closed at the next append
	states  map[string]commands.ReactorState
	parked  []commands.Parked
}

// NewLog is an empty log.
func NewLog() *Log {
	return &Log{streams: make(map[domain.StreamID][]int), grown: make(chan struct{}), states: make(map[string]commands.ReactorState)}
}

// Append implements commands.Log.
func (l *Log) Append(ctx context.Context, stream domain.StreamID, expected domain.Revision, events []domain.NewEvent) (domain.Position, error) {
	if err := ctx.Err(); err != nil || len(events) == 0 {
		return domain.Position{}, err
	}
	var at domain.Position
	err := l.Faults.around(Call{Method: "Append", Stream: stream, Events: events}, func() (err error) {
		at, err = l.append(stream, expected, events)
		return err
	})
	if err != nil {
		return domain.Position{}, err
	}
	return at, nil
}

func (l *Log) append(stream domain.StreamID, expected domain.Revision, events []domain.NewEvent) (domain.Position, error) {
	size := 0
	for _, e := range events {
		size += len(e.Data) + len(e.Metadata)
	}
	if size > domain.MaxAppend {
		return domain.Position{}, domain.ErrTooBig
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.streams[stream]
	from := int(expected) + 1
	if expected < domain.NoStream {
		from = slices.IndexFunc(own, func(i int) bool { return l.all[i].ID == events[0].ID })
	}
	if from >= 0 && from < len(own) {
		return l.repeated(own[from:], events)
	}
	for i, e := range events {
		known := slices.ContainsFunc(own, func(i int) bool { return l.all[i].ID == e.ID })
		if known || slices.ContainsFunc(events[:i], func(o domain.NewEvent) bool { return o.ID == e.ID }) {
			return domain.Position{}, domain.ErrConflict
		}
	}
	if expected >= domain.NoStream && from != len(own) || expected == domain.StreamExists && len(own) == 0 {
		return domain.Position{}, domain.ErrConflict
	}
	for _, e := range events {
		l.streams[stream] = append(l.streams[stream], len(l.all))
		l.all = append(l.all, domain.Recorded{Stream: stream, Revision: domain.Revision(len(l.streams[stream]) - 1), Position: domain.At(uint64(len(l.all) + 1)),
			ID: e.ID, Type: e.Type, Data: slices.Clone(e.Data), Metadata: slices.Clone(e.Metadata)})
	}
	last := l.all[len(l.all)-1].Position
	if !strings.HasPrefix(string(stream), "$") {
		l.head = last
		close(l.grown)
		l.grown = make(chan struct{})
	}
	return last, nil
}

// repeated answers a retry: the ids that already stand there, or a conflict.
func (l *Log) repeated(own []int, events []domain.NewEvent) (domain.Position, error) {
	for i, e := range events {
		if i >= len(own) || l.all[own[i]].ID != e.ID {
			return domain.Position{}, domain.ErrConflict
		}
	}
	return l.all[own[len(events)-1]].Position, nil
}

// Read implements commands.Log.
func (l *Log) Read(ctx context.Context, stream domain.StreamID, from domain.Revision) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		l.mu.Lock()
		own, known := l.streams[stream]
		all := l.all // entries never change once written
		l.mu.Unlock()
		if !known && ctx.Err() == nil {
			yield(domain.Recorded{}, domain.ErrNoStream)
			return
		}
		for _, i := range own[min(max(0, int(from)), len(own)):] {
			if err := ctx.Err(); err != nil {
				yield(domain.Recorded{}, err)
				return
			}
			if !yield(all[i], nil) {
				return
			}
		}
	}
}

// ReadAll implements commands.Log.
func (l *Log) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return l.from(ctx, after, func(<-chan struct{}) bool { return false })
}

// Subscribe implements commands.Log.
func (l *Log) Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return l.from(ctx, after, func(grown <-chan struct{}) bool {
		select {
		case <-grown:
		case <-ctx.Done():
		}
		return true
	})
}

// from yields what stands behind after; at the end, more tells whether to look again.
func (l *Log) from(ctx context.Context, after domain.Position, more func(grown <-chan struct{}) bool) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		next := after.Commit
		for {
			l.mu.Lock()
			all, grown := l.all, l.grown
			l.mu.Unlock()
			for ; next < uint64(len(all)); next++ {
				if err := ctx.Err(); err != nil {
					yield(domain.Recorded{}, err)
					return
				}
				if r := all[next]; !strings.HasPrefix(string(r.Stream), "$") && !yield(r, nil) {
					return
				}
			}
			if err := ctx.Err(); err != nil {
				yield(domain.Recorded{}, err)
				return
			}
			if !more(grown) {
				return
			}
		}
	}
}

// next is the first event behind after.
func (l *Log) next(after domain.Position) (domain.Recorded, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if after.Commit >= uint64(len(l.all)) {
		return domain.Recorded{}, false
	}
	return l.all[after.Commit], true
}

// Head implements commands.Log.
func (l *Log) Head(ctx context.Context) (domain.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head, ctx.Err()
}

// Events is the whole log.
func (l *Log) Events() []domain.Recorded {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// Changed is closed at the next append.
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.grown
}

// Tamper replaces the data of an event, as an attacker with write access to the store would.
func (l *Log) Tamper(r domain.Recorded, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = slices.Clone(l.all) // readers may hold the old one
	l.all[l.streams[r.Stream][r.Revision]].Data = slices.Clone(data)
}

// LoadReactor implements commands.ReactorStore.
func (l *Log) LoadReactor(ctx context.Context, name string) (commands.ReactorState, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.states[name]
	return s, ok, ctx.Err()
}

// SaveReactor implements commands.ReactorStore.
func (l *Log) SaveReactor(ctx context.Context, name string, state commands.ReactorState) error {
	state.Done = slices.Clone(state.Done)
	return l.change(ctx, "SaveReactor", func() { l.states[name] = state })
}

// Park implements commands.ReactorStore.
func (l *Log) Park(ctx context.Context, p commands.Parked) error {
	return l.change(ctx, "Park", func() {
		l.unpark(p.Reaction, p.EventID)
		l.parked = append(l.parked, p)
		slices.SortStableFunc(l.parked, func(a, b commands.Parked) int { return a.Position.Compare(b.Position) })
	})
}

// Parked implements commands.ReactorStore.
func (l *Log) Parked(ctx context.Context, name string) ([]commands.Parked, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.parked), func(p commands.Parked) bool { return name != "" && p.Reaction != name }), ctx.Err()
}

// Unpark implements commands.ReactorStore.
func (l *Log) Unpark(ctx context.Context, name string, event uuid.UUID) error {
	return l.change(ctx, "Unpark", func() { l.unpark(name, event) })
}

func (l *Log) unpark(name string, event uuid.UUID) {
	l.parked = slices.DeleteFunc(l.parked, func(p commands.Parked) bool { return p.Reaction == name && p.EventID == event })
}

func (l *Log) change(ctx context.Context, method string, do func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.Faults.around(Call{Method: method}, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		do()
		return nil
	})
}
