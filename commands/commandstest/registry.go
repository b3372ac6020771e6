package commandstest

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"ledgerline/domain"
)

// Registry is a commands.Registry in memory. Bound phones are what Bind said.
type Registry struct {
	Faults *Faults // may be nil
	Now    func() time.Time

	mu    sync.Mutex
	drawn map[string]string // digits by key
	leads map[string]string // where live digits lead
	bound map[string]time.Time
}

// URL implements commands.Registry.
func (r *Registry) URL() string { return "https://registry.test" }

// Draw implements commands.Registry.
func (r *Registry) Draw(_ context.Context, key, url string, ttl time.Duration) (digits string, until time.Time, err error) {
	err = r.Faults.around(Call{Method: "Draw"}, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.drawn == nil {
			r.drawn, r.leads, r.bound = map[string]string{}, map[string]string{}, map[string]time.Time{}
		}
		if r.drawn[key] == "" {
			r.drawn[key] = fmt.Sprintf("9000%08d", len(r.drawn)+1)
			r.leads[r.drawn[key]] = url
		}
		digits = r.drawn[key]
		return nil
	})
	return digits, r.Now().Add(ttl), err
}

// Release implements commands.Registry.
func (r *Registry) Release(_ context.Context, digits string) error {
	return r.Faults.around(Call{Method: "Release"}, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.leads, digits)
		return nil
	})
}

// Bound implements commands.Registry.
func (r *Registry) Bound(_ context.Context, digits string, mac domain.MAC) (at time.Time, err error) {
	err = r.Faults.around(Call{Method: "Bound"}, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		var ok bool
		if at, ok = r.bound[digits+string(mac)]; !ok {
			return domain.ErrCodeRefused
		}
		return nil
	})
	return at, err
}

// Bind binds digits to a phone, now.
func (r *Registry) Bind(digits string, mac domain.MAC) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bound[digits+string(mac)] = r.Now()
}

// Leads is where live digits lead.
func (r *Registry) Leads() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.leads)
}
