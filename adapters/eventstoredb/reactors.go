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

// What reactions have done lives in streams "reactor-<name>" of which the server keeps the last event
// only ($maxCount 1), and parked messages in one stream that is folded (D1). Neither is history.
const (
	reactorPrefix = "reactor-"
	parkedStream  = domain.StreamID("reactor-$parked")

	typeSaved   = "reactor.saved"
	typeParked  = "message.parked"
	typeUnpark  = "message.unparked"
	savedAtMost = 1 // $maxCount
)

// LoadReactor implements commands.ReactorStore.
func (s *Store) LoadReactor(ctx context.Context, name string) (state commands.ReactorState, found bool, err error) {
	data, err := repeated(ctx, s, func(ctx context.Context, c *esdb.Client) (data []byte, err error) {
		list, err := c.ReadStream(ctx, reactorPrefix+name, esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1)
		if err != nil {
			return nil, err
		}
		defer list.Close()
		err = each(list, func(r domain.Recorded) bool {
			data = r.Data
			return false
		})
		return data, err
	})
	if errors.Is(err, domain.ErrNoStream) {
		return state, false, nil
	}
	if err == nil && data != nil {
		err = json.Unmarshal(data, &state)
	}
	if err != nil {
		return commands.ReactorState{}, false, fmt.Errorf("load reactor %s: %w", name, err)
	}
	return state, data != nil, nil
}

// SaveReactor implements commands.ReactorStore.
func (s *Store) SaveReactor(ctx context.Context, name string, state commands.ReactorState) error {
	err := s.bound(ctx, name)
	if err == nil {
		err = s.note(ctx, domain.StreamID(reactorPrefix+name), typeSaved, state)
	}
	if err != nil {
		return fmt.Errorf("save reactor %s: %w", name, err)
	}
	return nil
}

// bound tells the server to keep only the last state of name, once per process.
func (s *Store) bound(ctx context.Context, name string) error {
	s.mu.Lock()
	done := s.bounded[name]
	s.mu.Unlock()
	if done {
		return nil
	}
	_, err := repeated(ctx, s, func(ctx context.Context, c *esdb.Client) (*esdb.WriteResult, error) {
		var m esdb.StreamMetadata
		m.SetMaxCount(savedAtMost)
		return c.SetStreamMetadata(ctx, reactorPrefix+name, esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, m)
	})
	if err != nil && !errors.Is(err, domain.ErrConflict) { // a conflict: somebody has done so before
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bounded[name] = true
	return nil
}

// Park implements commands.ReactorStore.
func (s *Store) Park(ctx context.Context, p commands.Parked) error {
	if err := s.note(ctx, parkedStream, typeParked, p); err != nil {
		return fmt.Errorf("park event %s for %s: %w", p.EventID, p.Reaction, err)
	}
	return nil
}

// Unpark implements commands.ReactorStore.
func (s *Store) Unpark(ctx context.Context, name string, event uuid.UUID) error {
	if err := s.note(ctx, parkedStream, typeUnpark, commands.Parked{Reaction: name, EventID: event}); err != nil {
		return fmt.Errorf("unpark event %s of %s: %w", event, name, err)
	}
	return nil
}

// Parked implements commands.ReactorStore.
func (s *Store) Parked(ctx context.Context, name string) ([]commands.Parked, error) {
	type key struct {
		reaction string
		event    uuid.UUID
	}
	kept := map[key]commands.Parked{}
	for r, err := range s.Read(ctx, parkedStream, 0) {
		if errors.Is(err, domain.ErrNoStream) {
			break
		}
		var p commands.Parked
		if err == nil {
			err = json.Unmarshal(r.Data, &p)
		}
		if err != nil {
			return nil, fmt.Errorf("list parked messages: %w", err)
		}
		switch k := (key{p.Reaction, p.EventID}); {
		case r.Type == typeUnpark:
			delete(kept, k)
		case name == "" || p.Reaction == name:
			kept[k] = p
		}
	}
	var list []commands.Parked
	for _, p := range kept {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b commands.Parked) int {
		return cmp.Or(a.Position.Compare(b.Position), cmp.Compare(a.Reaction, b.Reaction))
	})
	return list, nil
}

// note appends one bookkeeping event.
func (s *Store) note(ctx context.Context, stream domain.StreamID, kind string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = s.append(ctx, stream, domain.Any, []domain.NewEvent{{ID: uuid.Must(uuid.NewV7()), Type: kind, Data: data}})
	return err
}
