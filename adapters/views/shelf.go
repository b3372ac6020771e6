package views

import (
	"context"
	"sync"
	"sync/atomic"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// Shelf answers commands.Shelf: what the phone plane serves from. Rows found are kept in memory until the
// commit that changes them, so that a fetch of an unchanged file asks no database. Safe for concurrent
// use. Hand OnCommit and OnChange to the runner, then set Runner, before phones are served.
type Shelf struct {
	Views  projections.Querier
	Runner *projections.Runner

	commits atomic.Uint64 // counts commits: a row read across one is not kept
	mu      sync.RWMutex
	pending bool                             // a commit is under way: a row read now may be from before it, and is not kept
	byMAC   map[domain.MAC]*commands.Shelved // rows are never changed
	byHash  map[string]*commands.Shelved
	names   map[domain.DeviceID]names
	tenants map[string]domain.TenantID
	moulds  moulds
	// changed are devices with names of their own, not kept, that changed: which addresses they carry is asked when the
	// next phone comes, and only then rows are served by address again.
	changed   []domain.DeviceID
	unsettled atomic.Int32 // the number of them, and of those being asked about
	settling  sync.Mutex
}

// moulds is whether there is a mould for new phones: asked once per change of a layer.
type moulds struct {
	known, some bool
}

// names is what a device's row is kept under.
type names struct {
	mac  domain.MAC
	hash string
}

// shelfRows bounds the rows kept: about 1 KiB each.
const shelfRows = 50_000

// short is ctx for a query over before it could be interrupted.
func short(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

// OnCommit forgets the rows a commit will change, and keeps none until it is through.
func (s *Shelf) OnCommit(streams []domain.StreamID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = true
	s.drop(streams)
}

// OnChange forgets the rows a commit changed.
func (s *Shelf) OnChange(c projections.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = false
	s.commits.Add(1)
	if c.All {
		s.clear()
	}
	s.drop(c.Streams)
}

func (s *Shelf) drop(streams []domain.StreamID) {
	for _, stream := range streams {
		switch stream.Category() {
		case "device":
			s.forget(domain.DeviceID(stream.ID()))
		case "tenant":
			clear(s.tenants)
		case "layer":
			s.moulds = moulds{}
		}
	}
}

func (s *Shelf) clear() {
	clear(s.byMAC)
	clear(s.byHash)
	clear(s.names)
	clear(s.tenants)
	s.moulds = moulds{}
	s.changed = nil
}

// forget drops a device's row, and the row another device has under the same MAC: which of several carries
// it now is for the next query to say. A device named by its MAC tells which that is; one with a name of
// its own that is not kept has to be asked about.
func (s *Shelf) forget(id domain.DeviceID) {
	n, kept := s.names[id]
	delete(s.names, id)
	delete(s.byHash, n.hash)
	base, _ := id.Life()
	mac, err := domain.ParseMAC(string(base))
	switch {
	case kept:
		delete(s.byMAC, n.mac)
	case err == nil:
		delete(s.byMAC, mac)
	case len(s.byMAC) == 0:
	case len(s.changed) >= changedAtMost:
		clear(s.byMAC)
		s.changed = nil
	default:
		s.changed = append(s.changed, id)
		s.unsettled.Add(1)
	}
}

// changedAtMost bounds one question about changed devices.
const changedAtMost = 500

// settle drops the rows under the addresses that changed devices carry. When it has returned, rows kept by address are
// as true as the views.
func (s *Shelf) settle(ctx context.Context) {
	if s.unsettled.Load() == 0 {
		return
	}
	s.settling.Lock()
	defer s.settling.Unlock()
	n := s.unsettled.Load()
	s.mu.Lock()
	ids := s.changed
	s.changed = nil
	s.mu.Unlock()
	defer s.unsettled.Add(-n)
	if len(ids) == 0 {
		return
	}
	macs, err := projections.MACsOf(short(ctx), s.Views, ids)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		clear(s.byMAC)
	}
	for _, mac := range macs {
		delete(s.byMAC, mac)
	}
}

// ByMAC is the live device that carries the address; of several the latest assigned.
func (s *Shelf) ByMAC(ctx context.Context, mac domain.MAC) (commands.Shelved, bool, error) {
	s.settle(ctx)
	s.mu.RLock()
	row, ok := s.byMAC[mac]
	s.mu.RUnlock()
	if ok {
		return *row, true, nil
	}
	before := s.commits.Load()
	devices, err := projections.DevicesByMAC(short(ctx), s.Views, mac)
	if err != nil || len(devices) == 0 {
		return commands.Shelved{}, false, err
	}
	found, err := s.row(ctx, devices[0])
	if err == nil && len(devices) == 1 {
		s.keep(before, found)
	}
	return found, err == nil, err
}

// BySecret is the live device whose path secret hashes to hash.
func (s *Shelf) BySecret(ctx context.Context, hash string) (commands.Shelved, bool, error) {
	s.mu.RLock()
	row, ok := s.byHash[hash]
	s.mu.RUnlock()
	if ok {
		return *row, true, nil
	}
	before := s.commits.Load()
	d, found, err := projections.DeviceBySecretHash(short(ctx), s.Views, hash)
	if err != nil || !found {
		return commands.Shelved{}, false, err
	}
	live, err := s.row(ctx, d)
	if err == nil {
		s.keep(before, live)
	}
	return live, err == nil, err
}

func (s *Shelf) row(ctx context.Context, d projections.Device) (commands.Shelved, error) {
	row := commands.Shelved{Device: d.ID, MAC: d.MAC, TenantID: d.TenantID, Model: d.Model, Fw: d.Firmware, Vendor: d.Vendor, Plugin: d.Plugin, Serial: d.Serial, UUID: d.UUID,
		Assigned: d.Assigned(), Bare: d.Bare, MACPathClosed: d.MACPathClosed, SecretHash: d.SecretHash, Revision: d.Revision, Dirty: true, Syncing: d.Sync.Open()}
	row.Gateway = d.Gateway
	c, found, err := projections.ConfigByDevice(short(ctx), s.Views, d.ID)
	if err != nil || !found {
		return row, err
	}
	row.Guest, row.Inputs, row.GeneratedAt, row.Dirty = c.Guest, c.Inputs, c.GeneratedAt, c.Outdated
	row.Files = make([]domain.GeneratedFile, len(c.Files))
	for i, f := range c.Files {
		row.Files[i] = f.GeneratedFile
	}
	return row, nil
}

// keep remembers a row unless a commit came between its reading and now. before was taken first.
func (s *Shelf) keep(before uint64, row commands.Shelved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending || s.commits.Load() != before {
		return
	}
	if s.byMAC == nil || len(s.names) >= shelfRows {
		s.byMAC, s.byHash = make(map[domain.MAC]*commands.Shelved), make(map[string]*commands.Shelved)
		s.names = make(map[domain.DeviceID]names)
	}
	s.names[row.Device] = names{row.MAC, row.SecretHash}
	if row.MAC != "" {
		s.byMAC[row.MAC] = &row
	}
	if row.SecretHash != "" {
		s.byHash[row.SecretHash] = &row
	}
}

// BySign is the live device with this serial number or, failing that, this UUID, if there is exactly one.
func (s *Shelf) BySign(ctx context.Context, serial, uuid string) (commands.Shelved, bool, error) {
	devices, err := projections.DevicesBySign(short(ctx), s.Views, serial, uuid)
	if err != nil || len(devices) != 1 {
		return commands.Shelved{}, false, err
	}
	row, err := s.row(ctx, devices[0])
	return row, err == nil, err
}

// TenantByKey is the live tenant whose provisioning key hashes to hash.
func (s *Shelf) TenantByKey(ctx context.Context, hash string) (domain.TenantID, bool, error) {
	s.mu.RLock()
	id, ok := s.tenants[hash]
	s.mu.RUnlock()
	if ok {
		return id, true, nil
	}
	before := s.commits.Load()
	t, found, err := projections.TenantByKeyHash(short(ctx), s.Views, hash)
	if err != nil || !found {
		return "", false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pending && s.commits.Load() == before {
		if s.tenants == nil {
			s.tenants = make(map[string]domain.TenantID)
		}
		s.tenants[hash] = t.ID
	}
	return t.ID, true, nil
}

// HasMould tells whether a layer has the role autocreate; false also while the views cannot tell.
func (s *Shelf) HasMould() bool {
	s.mu.RLock()
	m := s.moulds
	s.mu.RUnlock()
	if m.known {
		return m.some
	}
	before := s.commits.Load()
	found, err := projections.Candidates{Views: s.Views, Wait: s.Runner}.LayersOfRole(context.Background(), domain.Position{}, domain.RoleAutocreate)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pending && s.commits.Load() == before {
		s.moulds = moulds{true, len(found) > 0}
	}
	return len(found) > 0
}

// Stale tells whether a stream among inputs has moved on since.
func (s *Shelf) Stale(inputs []domain.Input) bool { return s.Runner.Freshness().Stale(inputs) }

// WaitFor returns when the views have caught up with at, or with ctx's error.
func (s *Shelf) WaitFor(ctx context.Context, at domain.Position) error {
	return s.Runner.WaitFor(ctx, at)
}
