package commands

import (
	"context"
	"errors"
	"sync"

	"ledgerline/domain"
)

// layerCache keeps layers as their streams added up to. A stream only ever grows, so a state kept is brought up to date
// by reading what stands behind it: what many devices share is decoded once, and still decided from the stream. Two
// generations, the older dropped when the newer is full. The zero value is ready; safe for concurrent use.
type layerCache struct {
	mu         sync.Mutex
	newer, old map[domain.LayerID]layerAt
}

type layerAt struct {
	layer    domain.Layer // values are never changed after Apply
	revision domain.Revision
}

const layersKept = 500

func (c *layerCache) get(id domain.LayerID) (layerAt, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.newer[id]
	if !ok {
		v, ok = c.old[id]
	}
	return v, ok
}

func (c *layerCache) put(id domain.LayerID, v layerAt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.newer == nil || len(c.newer) >= layersKept {
		c.old, c.newer = c.newer, make(map[domain.LayerID]layerAt)
	}
	c.newer[id] = v
}

// layerNow is the layer as its stream has it now, and the revision that stands at.
func (s *Service) layerNow(ctx context.Context, id domain.LayerID) (domain.Layer, domain.Revision, error) {
	kept, ok := s.layers.get(id)
	if !ok {
		l, h, err := load[domain.Layer](ctx, s.Log, id.Stream())
		if err == nil && h.revision != domain.NoStream {
			s.layers.put(id, layerAt{l, h.revision})
		}
		return l, h.revision, err
	}
	before := kept.revision
	for r, err := range s.Log.Read(ctx, id.Stream(), kept.revision+1) {
		if err != nil && !errors.Is(err, domain.ErrNoStream) {
			return kept.layer, kept.revision, err
		}
		e, decodeErr := r.Event()
		_, unknown := e.(domain.Unknown)
		if err != nil || decodeErr != nil || unknown {
			// Not what a stream that grows looks like: read it whole, for its own error.
			l, h, err := load[domain.Layer](ctx, s.Log, id.Stream())
			return l, h.revision, err
		}
		kept = layerAt{kept.layer.Apply(e), r.Revision}
	}
	if kept.revision != before {
		s.layers.put(id, kept)
	}
	return kept.layer, kept.revision, nil
}
