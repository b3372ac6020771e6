package commands

import (
	"context"
	"errors"
	"sync"

	"ledgerline/domain"
)

// stateCache keeps states as their streams added up to. A stream only ever grows, so a state kept is brought up to date
// by reading what stands behind it: what many devices share is decoded once, and still decided from the stream. Two
// generations, the older dropped when the newer is full. The zero value is ready; safe for concurrent use.
type stateCache[S domain.State[S]] struct {
	mu         sync.Mutex
	newer, old map[domain.StreamID]stateAt[S]
}

type stateAt[S domain.State[S]] struct {
	state    S // values are never changed after Apply
	revision domain.Revision
}

const statesKept = 128 // those many share stay; a state of several KiB each

func (c *stateCache[S]) get(id domain.StreamID) (stateAt[S], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.newer[id]
	if !ok {
		v, ok = c.old[id]
	}
	return v, ok
}

func (c *stateCache[S]) put(id domain.StreamID, v stateAt[S]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.newer == nil || len(c.newer) >= statesKept {
		c.old, c.newer = c.newer, make(map[domain.StreamID]stateAt[S])
	}
	c.newer[id] = v
}

// now is the state of a stream as it is now, and the revision that stands at.
func (c *stateCache[S]) now(ctx context.Context, log Log, id domain.StreamID) (S, domain.Revision, error) {
	kept, ok := c.get(id)
	if !ok {
		state, h, err := loadState[S](ctx, log, id)
		if err == nil && h.revision != domain.NoStream {
			c.put(id, stateAt[S]{state, h.revision})
		}
		return state, h.revision, err
	}
	before := kept.revision
	for r, err := range log.Read(ctx, id, kept.revision+1) {
		if err != nil && !errors.Is(err, domain.ErrNoStream) {
			return kept.state, kept.revision, err
		}
		e, decodeErr := r.Event()
		_, unknown := e.(domain.Unknown)
		if err != nil || decodeErr != nil || unknown {
			// Not what a stream that grows looks like: read it whole, for its own error.
			state, h, err := loadState[S](ctx, log, id)
			return state, h.revision, err
		}
		kept = stateAt[S]{kept.state.Apply(e), r.Revision}
	}
	if kept.revision != before {
		c.put(id, kept)
	}
	return kept.state, kept.revision, nil
}
