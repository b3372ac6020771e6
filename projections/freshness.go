package projections

import (
	"context"
	"hash/maphash"
	"sync"

	"ledgerline/domain"
)

// shared are the categories of streams whose events can change the files of several devices.
var shared = map[string]bool{"tenant": true, "category": true, "layer": true, "user": true, "line": true, "jobs": true, "cloudid": true, "softphone": true}

// Freshness knows the last revision of every shared input of configuration files, so that whether a file
// is current costs a few map reads and no query. Streams are kept as 64-bit hashes: about 30 bytes each,
// 6 MB for 200,000 lines and users; two streams of one hash (chance 1 in 10^9 for 200,000) can only make a
// file look stale. Safe for concurrent use.
type Freshness struct {
	seed  maphash.Seed
	mu    sync.RWMutex
	heads map[uint64]domain.Revision
}

func newFreshness() *Freshness {
	return &Freshness{seed: maphash.MakeSeed(), heads: make(map[uint64]domain.Revision)}
}

// Stale tells whether one of the inputs has moved on since, as far as the views have come. Streams of other
// categories (the device's own) are passed over.
func (f *Freshness) Stale(inputs []domain.Input) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, in := range inputs {
		head, known := f.heads[maphash.String(f.seed, string(in.Stream))]
		if known && head > in.Revision && shared[in.Stream.Category()] {
			return true
		}
	}
	return false
}

// note takes in committed facts.
func (f *Freshness) note(facts []Fact) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range facts {
		if shared[facts[i].Category] {
			f.heads[maphash.String(f.seed, string(facts[i].Stream))] = facts[i].Revision
		}
	}
}

// load reads the heads from the rows of the generation being served.
func (f *Freshness) load(ctx context.Context, q Querier) error {
	heads := make(map[uint64]domain.Revision)
	for _, t := range []struct{ category, from string }{{"tenant", "key, revision FROM tenants"}, {"category", "key, revision FROM categories"},
		{"layer", "key, revision FROM layers"}, {"user", "key, revision FROM users"}, {"line", "key, revision FROM lines"}, {"cloudid", "key, revision FROM clouds"}, {"softphone", "key, revision FROM softphones"}, {"jobs", "tenant_id, max(revision) FROM jobs GROUP BY tenant_id"}} {
		err := q.Query(ctx, "SELECT "+t.from, nil, func(r Row) error {
			heads[maphash.String(f.seed, t.category+"-"+r.Text(0))] = domain.Revision(r.Int(1))
			return nil
		})
		if err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heads = heads
	return nil
}
