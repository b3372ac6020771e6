// Package commandstest holds a fake for every port of package commands, all in memory, and wires a Service
// from them. A fake keeps the port's contract to the letter (tests/contract holds Log, Vault and Blobs to it),
// is safe for concurrent use, and fails on demand through Faults.
//
// Fakes, not mocks: what a test asserts is what stands in the log afterwards, not which calls were made.
//
// Not here: anything durable, and any vendor's format: Renderer writes "key = value" lines.
package commandstest

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Call is one call of a port that Faults may refuse: every call that changes something, and Render.
type Call struct {
	Method  string // "Append", "Ensure", "Seal", "Erase", "Put", "Render", "SaveReactor", "Park", "Unpark", "Fetch", "Configure"
	Stream  domain.StreamID
	Events  []domain.NewEvent // of an Append; read-only
	Subject domain.Subject    // of a call of Vault or Blobs
}

// Fault is what becomes of a call. Before: nothing happens but that error. After: the effect is there, and
// the caller gets the error nonetheless. The zero Fault lets the call pass.
type Fault struct{ Before, After error }

// Faults decides over the calls of the fakes that share it. The zero value lets everything pass.
type Faults struct {
	mu   sync.Mutex
	hook func(Call) Fault
}

// Set makes hook decide over each call from now on; nil lets everything pass. The hook runs before the call
// takes effect and outside all locks: it may run commands itself, or block to hold the caller back.
func (f *Faults) Set(hook func(Call) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// around runs do unless the hook refuses it.
func (f *Faults) around(c Call, do func() error) error {
	var fault Fault
	if f != nil {
		f.mu.Lock()
		hook := f.hook
		f.mu.Unlock()
		if hook != nil {
			fault = hook(c)
		}
	}
	if fault.Before != nil {
		return fault.Before
	}
	if err := do(); err != nil {
		return err
	}
	return fault.After
}

// Clock is a clock that moves only when told to.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock is a clock that shows at.
func NewClock(at time.Time) *Clock { return &Clock{now: at} }

// Now is what the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock by d.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// NewRand is a source of the same bytes for the same seed.
func NewRand(seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return &seeded{r: rand.NewChaCha8(key)}
}

type seeded struct {
	mu sync.Mutex
	r  *rand.ChaCha8
}

func (s *seeded) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.Read(p)
}

// Sightings remembers what it is told.
type Sightings struct {
	mu   sync.Mutex
	seen []commands.Sighting
}

// Seen implements commands.Sightings.
func (s *Sightings) Seen(one commands.Sighting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, one)
}

// Forget implements commands.Whereabouts.
func (s *Sightings) Forget(_ context.Context, device domain.DeviceID, mac domain.MAC) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = slices.DeleteFunc(s.seen, func(v commands.Sighting) bool { return device != "" && v.Device == device || mac != "" && v.MAC == mac })
	return nil
}

// Where implements commands.Whereabouts.
func (s *Sightings) Where(_ context.Context, device domain.DeviceID) (out []commands.Sighting, err error) {
	for _, seen := range slices.Backward(s.All()) {
		if seen.Device == device {
			out = append(out, seen)
		}
	}
	return out, nil
}

// At implements commands.Whereabouts: a phone is where it was seen last.
func (s *Sightings) At(_ context.Context, ip string) (out []commands.Sighting, err error) {
	known := map[string]bool{}
	for _, seen := range slices.Backward(s.All()) {
		who := string(seen.Device) + "/" + string(seen.MAC)
		if !known[who] && seen.IP == ip {
			out = append(out, seen)
		}
		known[who] = true
	}
	return out, nil
}

// Notifier is a commands.Notifier that remembers what it was to tell whom. Every phone answers 200 through its proxy, or
// as Answer says.
type Notifier struct {
	Faults *Faults // may be nil
	Answer func(commands.Notification) []domain.DeviceSyncOutcome

	mu   sync.Mutex
	sent []commands.Notification
}

// Notify implements commands.Notifier.
func (n *Notifier) Notify(_ context.Context, m commands.Notification) (attempts []domain.DeviceSyncOutcome, err error) {
	err = n.Faults.around(Call{Method: "Notify", Stream: m.Device.Stream()}, func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.sent = append(n.sent, m)
		return nil
	})
	if err == nil && n.Answer != nil {
		return n.Answer(m), nil
	}
	return []domain.DeviceSyncOutcome{{Outcome: domain.OutcomeAnswered, Status: 200, Method: "sip-notify", Transport: "udp", Route: "proxy", Event: m.Event,
		To: domain.NewPersonal("", "sip:1201@pbx.test", "")}}, err
}

// Sent is what phones were told, in order.
func (n *Notifier) Sent() []commands.Notification {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.sent)
}

// All is what was seen, in order.
func (s *Sightings) All() []commands.Sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// Kit is a Service and the fakes behind it.
type Kit struct {
	Service    *commands.Service
	Log        *Log
	Vault      *Vault
	Blobs      *Blobs
	Renderer   *Renderer
	Candidates *Candidates
	Shelf      *Shelf
	Sightings  *Sightings
	Notifier   *Notifier
	Alerts     *Alerts
	Borders    *Borders
	Sysclients *Sysclients
	Clock      *Clock
	Faults     *Faults

	reacted domain.Position
}

// Start is what the clock of a new Kit shows.
var Start = time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)

// Option changes a Kit before its first command.
type Option func(*Kit)

// Seeded makes codes, secrets and keys of the service the same in every run.
func Seeded(seed uint64) Option { return func(k *Kit) { k.Service.Rand = NewRand(seed) } }

// With changes the service before its first command.
func With(change func(*commands.Service)) Option { return func(k *Kit) { change(k.Service) } }

// NewService wires a Service from fakes; the master tenant exists.
func NewService(tb testing.TB, options ...Option) *Kit {
	tb.Helper()
	f := new(Faults)
	log := NewLog()
	log.Faults = f
	k := &Kit{Log: log, Vault: NewVault(), Blobs: NewBlobs(), Renderer: NewRenderer(), Candidates: NewCandidates(log), Shelf: NewShelf(log),
		Sightings: new(Sightings), Notifier: &Notifier{Faults: f}, Alerts: &Alerts{Faults: f}, Clock: NewClock(Start), Faults: f}
	k.Vault.Faults, k.Blobs.Faults, k.Renderer.Faults, k.Blobs.Vault = f, f, f, k.Vault
	k.Borders = &Borders{Faults: f, Now: k.Clock.Now, ICP: commands.BorderICP{ID: "3", Name: "PBX", Address: "10.1.2.3"}}
	k.Sysclients = &Sysclients{Faults: f}
	k.Service = k.restarted()
	for _, o := range options {
		o(k)
	}
	if err := k.Service.EnsureMaster(tb.Context()); err != nil {
		tb.Fatalf("make the master tenant: %v", err)
	}
	return k
}

// Restart is a new Service over the same stores, as after a crash: nothing volatile is left. It replaces k.Service.
func (k *Kit) Restart() {
	old := k.Service
	k.Service = k.restarted()
	k.Service.Rand, k.Service.PublicURL, k.Service.Base, k.Service.CodeTTL = old.Rand, old.PublicURL, old.Base, old.CodeTTL
	k.Service.Registry, k.Service.DevicesURL = old.Registry, old.DevicesURL
	k.Service.CodeLength, k.Service.DiscoveryCap, k.Service.Borders = old.CodeLength, old.DiscoveryCap, old.Borders
}

func (k *Kit) restarted() *commands.Service {
	return &commands.Service{Log: k.Log, Vault: k.Vault, Blobs: k.Blobs, Renderer: k.Renderer, Recognizer: k.Renderer, Candidates: k.Candidates,
		Shelf: k.Shelf, Sightings: k.Sightings, Whereabouts: k.Sightings, Notifier: k.Notifier, Alerts: k.Alerts, Borders: k.Borders, Sysclients: k.Sysclients,
		SysclientCipher: func(seed, password, clear string) (string, error) {
			return fmt.Sprintf("%s+%x+%x", seed, password, clear), nil
		}, Now: k.Clock.Now, PublicURL: "http://phones.test:8667/"}
}

// React does what the reactor does: every row of the table for every event it has not seen yet, in the
// order of the log, until there are none. It stops at the first error, and begins with that event when
// called again.
func (k *Kit) React(ctx context.Context) error {
	for {
		r, ok := k.Log.next(k.reacted)
		if !ok {
			return nil
		}
		for _, row := range commands.Reactions {
			if !slices.Contains(row.On, r.Type) {
				continue
			}
			e, err := r.Event()
			if err != nil {
				return err
			}
			if err := row.Do(commands.WithCause(ctx, r, row.Name), k.Service, r, e); err != nil {
				return fmt.Errorf("%s on event %d of %s: %w", row.Name, r.Revision, r.Stream, err)
			}
		}
		k.reacted = r.Position
	}
}
