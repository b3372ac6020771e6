package commands

import (
	"sync"

	"ledgerline/domain"
)

// told are the categories of streams that what an app is told follows from.
var told = map[string]bool{"cloudid": true, "category": true, "softphone": true, "user": true, "line": true, "tenant": true}

// heads are the revisions of streams this process has written which the views may not have come to yet: with them, what is
// kept of an answer is known to be old from the moment a change is acknowledged. The zero value is ready; safe for
// concurrent use.
type heads struct {
	mu    sync.RWMutex
	at    map[domain.StreamID]domain.Revision
	prune int
}

const headsPruned = 4096

// note takes in what was appended. seen tells whether the views have come to a revision, so that it need not be kept here.
func (h *heads) note(stream domain.StreamID, r domain.Revision, seen func(domain.StreamID, domain.Revision) bool) {
	if !told[stream.Category()] {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at == nil {
		h.at, h.prune = make(map[domain.StreamID]domain.Revision), headsPruned
	}
	h.at[stream] = r
	if len(h.at) < h.prune {
		return
	}
	for s, r := range h.at {
		if seen(s, r) {
			delete(h.at, s)
		}
	}
	h.prune = max(headsPruned, 2*len(h.at))
}

func (h *heads) newer(inputs []domain.Input) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, in := range inputs {
		if r, ok := h.at[in.Stream]; ok && r > in.Revision {
			return true
		}
	}
	return false
}

// SoftphoneCurrent tells whether an answer to an app still holds: whether none of its inputs has moved on. A change made by
// this process counts from its acknowledgement on, one of another replica from when the views have come to it. An answer
// without inputs never holds.
func (s *Service) SoftphoneCurrent(inputs []domain.Input) bool {
	return len(inputs) > 0 && !s.heads.newer(inputs) && (s.Shelf == nil || !s.Shelf.Stale(inputs))
}
