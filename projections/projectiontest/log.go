// Package projectiontest helps to test what reads the log: a log in memory, and World, which grows valid
// histories through the rules of domain. It is ordinary code without promises to production: nothing is
// durable, and what looks sealed is not encrypted.
package projectiontest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/google/uuid"

	"ledgerline/domain"
)

// Log is a log in memory, safe for concurrent use. The zero value is empty.
type Log struct {
	mu     sync.Mutex
	events []domain.Recorded
	heads  map[domain.StreamID]domain.Revision
	grown  chan struct{} // closed when events are added or readers are cut
	cut    int           // how many times subscriptions have been dropped
}

// ErrDropped is how subscriptions end after Drop.
var ErrDropped = errors.New("subscription dropped")

// Append adds events to stream, recorded at at for tenant, and returns the position of the last.
func (l *Log) Append(stream domain.StreamID, tenant domain.TenantID, at time.Time, events ...domain.Event) domain.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	meta, err := json.Marshal(domain.Metadata{Actor: "system:test", TenantID: tenant, RecordedAt: at})
	if err != nil {
		panic(err)
	}
	for _, e := range events {
		data, err := json.Marshal(e)
		if err != nil {
			panic(fmt.Sprintf("marshal %s: %v", e.EventType(), err))
		}
		if u, unknown := e.(domain.Unknown); unknown {
			data = u.Data
		}
		if l.heads == nil {
			l.heads = make(map[domain.StreamID]domain.Revision)
		}
		rev, ok := l.heads[stream]
		if ok {
			rev++
		}
		l.heads[stream] = rev
		n := uint64(len(l.events) + 1)
		id := uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "%s@%d of %d", stream, rev, at.UnixNano()))
		l.events = append(l.events, domain.Recorded{Stream: stream, Revision: rev, Position: domain.At(10 * n), ID: id, Type: e.EventType(), Data: data, Metadata: meta})
	}
	l.wake()
	return domain.At(10 * uint64(len(l.events)))
}

func (l *Log) wake() {
	if l.grown != nil {
		close(l.grown)
	}
	l.grown = nil
}

// Len is the number of events.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.events)
}

// Prefix is a log of the first n events.
func (l *Log) Prefix(n int) *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &Log{events: l.events[:n:n], heads: make(map[domain.StreamID]domain.Revision)}
	for _, r := range p.events {
		p.heads[r.Stream] = r.Revision
	}
	return p
}

// Extend adds the events of other that l does not have yet; l must be a prefix of other.
func (l *Log) Extend(other *Log, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range other.events[len(l.events):n] {
		l.events = append(l.events, r)
		l.heads[r.Stream] = r.Revision
	}
	l.wake()
}

// Drop ends every running subscription with ErrDropped.
func (l *Log) Drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut++
	l.wake()
}

// Stream yields the events of one stream from its start.
func (l *Log) Stream(id domain.StreamID) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for r, err := range l.ReadAll(context.Background(), domain.Position{}) {
			if r.Stream == id && !yield(r, err) {
				return
			}
		}
	}
}

// ReadAll yields every event after position after up to the present end.
func (l *Log) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		events, _, _ := l.rest(after)
		for _, r := range events {
			if err := ctx.Err(); err != nil {
				yield(domain.Recorded{}, err)
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Subscribe is ReadAll that waits for more, until ctx ends or Drop is called.
func (l *Log) Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		_, _, began := l.rest(after)
		for {
			events, grown, cut := l.rest(after)
			if cut != began {
				yield(domain.Recorded{}, ErrDropped)
				return
			}
			for _, r := range events {
				if !yield(r, nil) {
					return
				}
				after = r.Position
			}
			if len(events) > 0 {
				continue
			}
			select {
			case <-grown:
			case <-ctx.Done():
				yield(domain.Recorded{}, ctx.Err())
				return
			}
		}
	}
}

// rest is what stands behind after, a channel that is closed when there is more, and the count of drops.
func (l *Log) rest(after domain.Position) ([]domain.Recorded, <-chan struct{}, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown == nil {
		l.grown = make(chan struct{})
	}
	n := min(int(after.Commit/10), len(l.events))
	return l.events[n:], l.grown, l.cut
}

// Head is the position of the last event.
func (l *Log) Head(context.Context) (domain.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return domain.At(10 * uint64(len(l.events))), nil
}
