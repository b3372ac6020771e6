package eventstoredb

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"ledgerline/commands"
	"ledgerline/domain"
)

// What reactions have done lives in streams "reactor-<name>", who may run them in "lease-<name>": of each the
// server keeps the last event only ($maxCount 1). Parked messages stand in one stream that is folded, and cut
// when most of it is past (D1, D8). None of it is history.
const (
	reactorPrefix = "reactor-"
	leasePrefix   = "lease-"
	parkedStream  = domain.StreamID("reactor-$parked")

	typeSaved    = "reactor.saved"
	typeLease    = "lease.taken"
	typeParked   = "message.parked"
	typeUnpark   = "message.unparked"
	typeStanding = "messages.standing" // all that stands parked; what is before it counts no more
	savedAtMost  = 1                   // $maxCount
	cutAbove     = 512                 // events in the stream of parked messages
)

// LoadReactor implements commands.ReactorStore.
func (s *Store) LoadReactor(ctx context.Context, name string) (state commands.ReactorState, found bool, err error) {
	stream := domain.StreamID(reactorPrefix + name)
	at, err := s.last(ctx, stream, &state)
	if err != nil {
		return commands.ReactorState{}, false, fmt.Errorf("load reactor %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved[stream] = at
	return state, at != domain.NoStream, nil
}

// SaveReactor implements commands.ReactorStore. domain.ErrConflict also when another replica has saved since
// this one loaded or saved: it runs the reaction now.
func (s *Store) SaveReactor(ctx context.Context, name string, state commands.ReactorState) error {
	if err := s.save(ctx, domain.StreamID(reactorPrefix+name), state); err != nil {
		return fmt.Errorf("save reactor %s: %w", name, err)
	}
	return nil
}

func (s *Store) save(ctx context.Context, stream domain.StreamID, state commands.ReactorState) error {
	if err := s.bound(ctx, stream); err != nil {
		return err
	}
	s.mu.Lock()
	at, known := s.saved[stream]
	s.mu.Unlock()
	if !known {
		var err error
		if at, err = s.last(ctx, stream, new(commands.ReactorState)); err != nil {
			return err
		}
	}
	if err := s.note(ctx, stream, at, typeSaved, state); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved[stream] = at + 1
	return nil
}

// LoadLease implements commands.Leases.
func (s *Store) LoadLease(ctx context.Context, name string) (l commands.Lease, at domain.Revision, err error) {
	if at, err = s.last(ctx, domain.StreamID(leasePrefix+name), &l); err != nil {
		return commands.Lease{}, at, fmt.Errorf("load lease %s: %w", name, err)
	}
	return l, at, nil
}

// SaveLease implements commands.Leases.
func (s *Store) SaveLease(ctx context.Context, name string, at domain.Revision, l commands.Lease) error {
	stream := domain.StreamID(leasePrefix + name)
	err := s.bound(ctx, stream)
	if err == nil {
		err = s.note(ctx, stream, at, typeLease, l)
	}
	if err != nil {
		return fmt.Errorf("save lease %s: %w", name, err)
	}
	return nil
}

// last reads the last event of a stream into v and answers its revision; NoStream, and v as it was, if there
// is none.
func (s *Store) last(ctx context.Context, stream domain.StreamID, v any) (domain.Revision, error) {
	last, err := repeated(ctx, s, func(ctx context.Context, c *esdb.Client) (last domain.Recorded, err error) {
		last.Revision = domain.NoStream
		list, err := c.ReadStream(ctx, string(stream), esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1)
		if err != nil {
			return last, err
		}
		defer list.Close()
		err = each(list, func(r domain.Recorded) bool {
			last = r
			return false
		})
		return last, err
	})
	if errors.Is(err, domain.ErrNoStream) {
		return domain.NoStream, nil
	}
	if err == nil && last.Revision != domain.NoStream {
		err = json.Unmarshal(last.Data, v)
	}
	return last.Revision, err
}

// bound tells the server to keep only the last event of stream, once per process.
func (s *Store) bound(ctx context.Context, stream domain.StreamID) error {
	s.mu.Lock()
	done := s.bounded[stream]
	s.mu.Unlock()
	if done {
		return nil
	}
	_, err := repeated(ctx, s, func(ctx context.Context, c *esdb.Client) (*esdb.WriteResult, error) {
		var m esdb.StreamMetadata
		m.SetMaxCount(savedAtMost)
		return c.SetStreamMetadata(ctx, string(stream), esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, m)
	})
	if err != nil && !errors.Is(err, domain.ErrConflict) { // a conflict: somebody has done so before
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bounded[stream] = true
	return nil
}

// Park implements commands.ReactorStore.
func (s *Store) Park(ctx context.Context, p commands.Parked) error {
	if err := s.note(ctx, parkedStream, domain.Any, typeParked, p); err != nil {
		return fmt.Errorf("park event %s for %s: %w", p.EventID, p.Reaction, err)
	}
	return nil
}

// Unpark implements commands.ReactorStore.
func (s *Store) Unpark(ctx context.Context, name string, event uuid.UUID) error {
	if err := s.note(ctx, parkedStream, domain.Any, typeUnpark, commands.Parked{Reaction: name, EventID: event}); err != nil {
		return fmt.Errorf("unpark event %s of %s: %w", event, name, err)
	}
	return nil
}

// Parked implements commands.ReactorStore.
func (s *Store) Parked(ctx context.Context, name string) ([]commands.Parked, error) {
	all, read, at, err := s.standing(ctx)
	if err != nil {
		return nil, fmt.Errorf("list parked messages: %w", err)
	}
	if read > cutAbove && len(all) < read/2 {
		s.cut(ctx, all, at)
	}
	return slices.DeleteFunc(all, func(p commands.Parked) bool { return name != "" && p.Reaction != name }), nil
}

// standing folds the stream of parked messages: what stands, oldest first, how many events that took, and
// the last one's revision.
func (s *Store) standing(ctx context.Context) (list []commands.Parked, read int, at domain.Revision, err error) {
	type key struct {
		reaction string
		event    uuid.UUID
	}
	kept := map[key]commands.Parked{}
	for r, err := range s.Read(ctx, parkedStream, 0) {
		if errors.Is(err, domain.ErrNoStream) {
			break
		}
		if err != nil {
			return nil, read, at, err
		}
		read, at = read+1, r.Revision
		var some []commands.Parked
		if r.Type == typeStanding {
			clear(kept)
			err = json.Unmarshal(r.Data, &some)
		} else {
			some = make([]commands.Parked, 1)
			err = json.Unmarshal(r.Data, &some[0])
		}
		if err != nil {
			return nil, read, at, err
		}
		for _, p := range some {
			if k := (key{p.Reaction, p.EventID}); r.Type == typeUnpark {
				delete(kept, k)
			} else {
				kept[k] = p
			}
		}
	}
	for _, p := range kept {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b commands.Parked) int {
		return cmp.Or(a.Position.Compare(b.Position), cmp.Compare(a.Reaction, b.Reaction))
	})
	return list, read, at, nil
}

// cut writes down what stands and lets the server drop what is before. Whoever parks meanwhile makes it a
// conflict, and a later listing tries again; nothing is lost by not cutting.
func (s *Store) cut(ctx context.Context, all []commands.Parked, at domain.Revision) {
	if err := s.note(ctx, parkedStream, at, typeStanding, append([]commands.Parked{}, all...)); err != nil {
		return
	}
	_, _ = call(ctx, s, func(ctx context.Context, c *esdb.Client) (*esdb.WriteResult, error) {
		var m esdb.StreamMetadata
		m.SetTruncateBefore(uint64(at + 1))
		return c.SetStreamMetadata(ctx, string(parkedStream), esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, m)
	})
}

// note appends one bookkeeping event. One whose outcome is unknown is repeated a few times: at an exact
// revision by append; else here, where one too many does no harm.
func (s *Store) note(ctx context.Context, stream domain.StreamID, at domain.Revision, kind string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	events := []domain.NewEvent{{ID: uuid.Must(uuid.NewV7()), Type: kind, Data: data}}
	for attempt := 1; ; attempt++ {
		_, err = s.append(ctx, stream, at, events)
		if at != domain.Any || !errors.Is(err, domain.ErrOutcomeUnknown) || attempt >= attempts || !pause(ctx, attempt) {
			return err
		}
	}
}
