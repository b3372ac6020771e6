package phonehttp

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// budget bounds with how many different identities one source may miss within an hour. It counts
// identities, not misses: a phone asks for many optional files on every boot. Volatile; safe for
// concurrent use.
type budget struct {
	limit int // identities per source and hour
	seed  maphash.Seed

	mu      sync.Mutex
	sources map[netip.Prefix]*misses
	known   map[uint64]struct{} // identities that have had a file; two generations
	older   map[uint64]struct{}
}

type misses struct {
	since      time.Time
	identities map[uint64]struct{}
}

const (
	budgetWindow  = time.Hour
	budgetSources = 50_000
	knownAtMost   = 200_000
)

func newBudget(limit int) *budget {
	return &budget{limit: limit, seed: maphash.MakeSeed(), sources: make(map[netip.Prefix]*misses), known: make(map[uint64]struct{})}
}

// identity is the hash of what a request shows of itself; the secrets in it are not kept.
func (b *budget) identity(parts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(b.seed)
	for _, p := range parts {
		h.WriteString(p)
		h.WriteByte(0)
	}
	return h.Sum64()
}

// spent tells whether the source may no longer try identity.
func (b *budget) spent(from netip.Prefix, identity uint64, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.sources[from]
	return m != nil && now.Sub(m.since) < budgetWindow && len(m.identities) >= b.limit && !b.knows(identity)
}

// missed counts a miss. trips is true when it is the one that spends the budget.
func (b *budget) missed(from netip.Prefix, identity uint64, now time.Time) (trips bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.knows(identity) {
		return false
	}
	m := b.sources[from]
	if m == nil || now.Sub(m.since) >= budgetWindow {
		if m == nil {
			b.makeRoom(now)
		}
		m = &misses{since: now, identities: make(map[uint64]struct{})}
		b.sources[from] = m
	}
	if _, again := m.identities[identity]; again || len(m.identities) >= b.limit {
		return false
	}
	m.identities[identity] = struct{}{}
	return len(m.identities) == b.limit
}

// hit remembers an identity that had a file: it is never held up.
func (b *budget) hit(from netip.Prefix, identity uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m := b.sources[from]; m != nil && len(m.identities) < b.limit {
		delete(m.identities, identity)
	}
	if b.knows(identity) {
		return
	}
	if len(b.known) >= knownAtMost/2 {
		b.older, b.known = b.known, make(map[uint64]struct{})
	}
	b.known[identity] = struct{}{}
}

func (b *budget) knows(identity uint64) bool {
	if _, ok := b.known[identity]; ok {
		return true
	}
	_, ok := b.older[identity]
	return ok
}

// makeRoom forgets sources whose hour is over; failing that, any one.
func (b *budget) makeRoom(now time.Time) {
	if len(b.sources) < budgetSources {
		return
	}
	for p, m := range b.sources {
		if now.Sub(m.since) >= budgetWindow {
			delete(b.sources, p)
		}
	}
	for p := range b.sources {
		if len(b.sources) < budgetSources {
			return
		}
		delete(b.sources, p)
	}
}
