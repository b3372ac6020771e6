package commandstest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// world is what the whole log adds up to, through the states of domain.
type world struct {
	log *Log

	mu         sync.Mutex
	at         domain.Position
	held       bool
	changed    chan struct{}
	revisions  map[domain.StreamID]domain.Revision
	tenants    map[domain.TenantID]domain.Tenant
	categories map[domain.CategoryID]domain.Category
	users      map[domain.UserID]domain.User
	lines      map[domain.LineID]domain.Line
	created    []domain.LineID // lines in creation order
	layers     map[domain.LayerID]domain.Layer
	jobs       map[domain.TenantID]domain.Jobs
	codes      map[domain.StreamID]domain.Code
	notices    map[domain.CodeID]domain.Notice
	devices    map[domain.DeviceID]device
	gateways   map[domain.GatewayID]domain.Gateway
	sipUsers   map[domain.SIPUserID]domain.SIPUser
	touched    map[domain.SIPUserID]domain.Position
	softphones map[domain.SoftphoneID]domain.Softphone
	clouds     map[domain.CloudID]domain.Cloud
}

// device is one life of a device and its files.
type device struct {
	domain.Device
	assigned domain.Position // of the latest assignment
	made     time.Time       // of the files; zero when there are none
	dirty    bool
	carried  []domain.LineID // ever
}

func newWorld(log *Log) *world {
	return &world{log: log, jobs: make(map[domain.TenantID]domain.Jobs), changed: make(chan struct{}), revisions: make(map[domain.StreamID]domain.Revision), tenants: make(map[domain.TenantID]domain.Tenant),
		categories: make(map[domain.CategoryID]domain.Category), users: make(map[domain.UserID]domain.User), lines: make(map[domain.LineID]domain.Line),
		layers: make(map[domain.LayerID]domain.Layer), codes: make(map[domain.StreamID]domain.Code), devices: make(map[domain.DeviceID]device),
		gateways: make(map[domain.GatewayID]domain.Gateway), sipUsers: make(map[domain.SIPUserID]domain.SIPUser), touched: make(map[domain.SIPUserID]domain.Position),
		softphones: make(map[domain.SoftphoneID]domain.Softphone), clouds: make(map[domain.CloudID]domain.Cloud), notices: make(map[domain.CodeID]domain.Notice)}
}

// catchUp folds what the log holds beyond the last call. The caller holds mu.
func (w *world) catchUp(ctx context.Context) error {
	if w.held {
		return nil
	}
	before := w.at
	for r, err := range w.log.ReadAll(ctx, w.at) {
		if err != nil {
			return err
		}
		e, err := r.Event()
		if err != nil {
			return err
		}
		m, err := r.Meta()
		if err != nil {
			return err
		}
		w.apply(r, e, m.RecordedAt)
		w.at = r.Position
	}
	if w.at != before {
		close(w.changed)
		w.changed = make(chan struct{})
	}
	return nil
}

func (w *world) apply(r domain.Recorded, e domain.Event, at time.Time) {
	w.revisions[r.Stream] = r.Revision
	id := r.Stream.ID()
	switch r.Stream.Category() {
	case "tenant":
		fold(w.tenants, domain.TenantID(id), e)
	case "category":
		fold(w.categories, domain.CategoryID(id), e)
	case "user":
		fold(w.users, domain.UserID(id), e)
	case "line":
		if _, ok := e.(domain.LineDefined); ok {
			w.created = append(w.created, domain.LineID(id))
		}
		fold(w.lines, domain.LineID(id), e)
	case "layer":
		fold(w.layers, domain.LayerID(id), e)
	case "gateway":
		fold(w.gateways, domain.GatewayID(id), e)
	case "sipuser":
		fold(w.sipUsers, domain.SIPUserID(id), e)
		w.touched[domain.SIPUserID(id)] = r.Position
	case "softphone":
		fold(w.softphones, domain.SoftphoneID(id), e)
	case "cloudid":
		fold(w.clouds, domain.CloudID(id), e)
	case "jobs":
		fold(w.jobs, domain.TenantID(id), e)
	case "notice":
		fold(w.notices, domain.CodeID(id), e)
	case "code":
		fold(w.codes, r.Stream, e)
	case "device":
		d := w.devices[domain.DeviceID(id)]
		d.Device = d.Apply(e)
		switch e := e.(type) {
		case domain.DeviceAssigned:
			d.assigned, d.dirty = r.Position, true
		case domain.DeviceConfigRegenerated:
			d.made, d.dirty = at, false
		case domain.DeviceReset:
			d.made, d.dirty, d.Config = time.Time{}, true, domain.DeviceConfigRegenerated{}
		case domain.DeviceLineAssociated:
			d.dirty, d.carried = true, append(slices.Clip(d.carried), e.LineID)
		case domain.DeviceDiscovered, domain.DeviceIdentified, domain.DeviceAmended, domain.DevicePluginPinned, domain.DeviceConfigured, domain.DeviceLineDissociated,
			domain.DeviceGatewaySet, domain.DeviceJobsSelected:
			d.dirty = true
		}
		w.devices[domain.DeviceID(id)] = d
	}
}

func fold[K comparable, S domain.State[S]](m map[K]S, k K, e domain.Event) { m[k] = m[k].Apply(e) }

// live are the devices that live and that which is true of, by id.
func (w *world) live(which func(device) bool) []device {
	var found []device
	for _, d := range w.devices {
		if d.Live() == nil && which(d) {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b device) int { return cmp.Compare(a.ID, b.ID) })
	return found
}

func ids(list []device) []domain.DeviceID {
	var out []domain.DeviceID
	for _, d := range list {
		out = append(out, d.ID)
	}
	return out
}

// waitFor returns with mu held once the world has caught up with at, or without it and an error.
func (w *world) waitFor(ctx context.Context, at domain.Position) error {
	for {
		grown := w.log.Changed()
		w.mu.Lock()
		if err := w.catchUp(ctx); err != nil {
			w.mu.Unlock()
			return err
		}
		if !w.at.Before(at) {
			return nil
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-grown:
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Candidates is commands.Candidates folded from a Log.
type Candidates struct{ w *world }

// NewCandidates selects from what stands in log.
func NewCandidates(log *Log) *Candidates { return &Candidates{newWorld(log)} }

// LinesOfUser implements commands.Candidates.
func (c *Candidates) LinesOfUser(ctx context.Context, at domain.Position, user domain.UserID) (found []domain.LineCandidate, err error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return nil, err
	}
	defer c.w.mu.Unlock()
	for _, id := range c.w.created {
		if l := c.w.lines[id]; l.UserID == user {
			found = append(found, domain.LineCandidate{Line: id, Devices: ids(c.w.live(func(d device) bool { return d.PositionOf(id) != 0 }))})
		}
	}
	return found, nil
}

// devices answers the live devices that which is true of.
func (c *Candidates) devices(ctx context.Context, at domain.Position, which func(device) bool) ([]domain.DeviceID, error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return nil, err
	}
	defer c.w.mu.Unlock()
	return ids(c.w.live(which)), nil
}

// LinesByUsername implements commands.Candidates.
func (c *Candidates) LinesByUsername(ctx context.Context, at domain.Position, tenant domain.TenantID, username string) (found []domain.LineID, err error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return nil, err
	}
	defer c.w.mu.Unlock()
	for id, l := range c.w.lines {
		if l.Live() == nil && l.TenantID == tenant && l.Username == username {
			found = append(found, id)
		}
	}
	slices.Sort(found)
	return found, nil
}

// DevicesOfLine implements commands.Candidates.
func (c *Candidates) DevicesOfLine(ctx context.Context, at domain.Position, line domain.LineID) ([]domain.DeviceID, error) {
	return c.devices(ctx, at, func(d device) bool { return d.PositionOf(line) != 0 })
}

// DevicesEverOfLine implements commands.Candidates.
func (c *Candidates) DevicesEverOfLine(ctx context.Context, at domain.Position, line domain.LineID) (found []domain.DeviceID, err error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return nil, err
	}
	defer c.w.mu.Unlock()
	for id, d := range c.w.devices {
		if slices.Contains(d.carried, line) {
			found = append(found, id)
		}
	}
	slices.Sort(found)
	return found, nil
}

// DevicesAwaiting implements commands.Candidates.
func (c *Candidates) DevicesAwaiting(ctx context.Context, at domain.Position, user domain.UserID) ([]domain.DeviceID, error) {
	return c.devices(ctx, at, func(d device) bool { return d.UserID == user && d.Status() == domain.StateAwaitingLine })
}

// StaleDevices implements commands.Candidates.
func (c *Candidates) StaleDevices(ctx context.Context, at domain.Position, stream domain.StreamID, rev domain.Revision, after domain.DeviceID, limit int) ([]domain.DeviceID, error) {
	found, err := c.devices(ctx, at, func(d device) bool {
		return d.ID > after && slices.ContainsFunc(d.Config.Inputs, func(in domain.Input) bool { return in.Stream == stream && in.Revision < rev })
	})
	return found[:min(limit, len(found))], err
}

// DevicesUnderLayer implements commands.Candidates.
func (c *Candidates) DevicesUnderLayer(ctx context.Context, at domain.Position, layer domain.LayerID) ([]domain.DeviceID, error) {
	return c.devices(ctx, at, func(d device) bool { return slices.Contains(d.Parents, layer) })
}

// LayersOfRole implements commands.Candidates.
func (c *Candidates) LayersOfRole(ctx context.Context, at domain.Position, role string) (found []domain.LayerID, err error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return nil, err
	}
	defer c.w.mu.Unlock()
	for id, l := range c.w.layers {
		if l.Exists && l.Role == role {
			found = append(found, id)
		}
	}
	slices.Sort(found)
	return found, nil
}

// DueCodes implements commands.Candidates.
func (c *Candidates) DueCodes(ctx context.Context, at domain.Position, now time.Time, limit int) ([]domain.CodeRef, error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return nil, err
	}
	defer c.w.mu.Unlock()
	var due []domain.Code
	streams := make(map[domain.CodeID]domain.StreamID)
	for stream, code := range c.w.codes {
		if alive(code) && !code.Deadline().After(now) {
			due = append(due, code)
			streams[code.CodeID] = stream
		}
	}
	slices.SortFunc(due, func(a, b domain.Code) int {
		return cmp.Or(a.ValidUntil.Compare(b.ValidUntil), cmp.Compare(a.CodeID, b.CodeID))
	})
	var refs []domain.CodeRef
	for _, code := range due[:min(limit, len(due))] {
		refs = append(refs, domain.CodeRef{ID: code.CodeID, Stream: streams[code.CodeID]})
	}
	return refs, nil
}

// alive tells whether a code has no recorded end yet.
func alive(c domain.Code) bool { return c.Exists && !c.Expired && !c.Revoked && c.RedeemedBy == "" }

// TenantsWaiting implements commands.Candidates.
func (c *Candidates) TenantsWaiting(ctx context.Context, at domain.Position) (tenants []domain.TenantID, err error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return nil, err
	}
	defer c.w.mu.Unlock()
	for _, d := range c.w.live(func(d device) bool { return d.Sync.Waiting() }) {
		tenants = append(tenants, d.TenantID)
	}
	slices.Sort(tenants)
	return slices.Compact(tenants), nil
}

// UsersOf implements commands.Candidates.
func (c *Candidates) UsersOf(ctx context.Context, at domain.Position, tenant domain.TenantID, after domain.UserID, limit int) (found []domain.UserID, err error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return nil, err
	}
	defer c.w.mu.Unlock()
	for id, u := range c.w.users {
		if u.Live(tenant) == nil && id > after {
			found = append(found, id)
		}
	}
	slices.Sort(found)
	return found[:min(limit, len(found))], nil
}

// DueNotices implements commands.Candidates.
func (c *Candidates) DueNotices(ctx context.Context, at domain.Position, before time.Time, limit int) (due []domain.CodeID, err error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return nil, err
	}
	defer c.w.mu.Unlock()
	for code, n := range c.w.notices {
		if n.State == domain.NoticePending && !n.StoredAt.After(before) {
			due = append(due, code)
		}
	}
	slices.Sort(due)
	return due[:min(limit, len(due))], nil
}

// WaitingSyncs implements commands.Candidates.
func (c *Candidates) WaitingSyncs(ctx context.Context, at domain.Position, tenant domain.TenantID, after domain.DeviceID, limit int) (found []domain.WaitingSync, err error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return nil, err
	}
	defer c.w.mu.Unlock()
	for _, d := range c.w.live(func(d device) bool { return d.Sync.Waiting() && d.TenantID == tenant && d.ID > after }) {
		found = append(found, domain.WaitingSync{Device: d.ID, Category: d.CategoryID})
	}
	slices.SortFunc(found, func(a, b domain.WaitingSync) int { return cmp.Compare(a.Device, b.Device) })
	return found[:min(limit, len(found))], nil
}

// CodeByID implements commands.Candidates.
func (c *Candidates) CodeByID(ctx context.Context, at domain.Position, id domain.CodeID) (domain.CodeRef, bool, error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return domain.CodeRef{}, false, err
	}
	defer c.w.mu.Unlock()
	for stream, code := range c.w.codes {
		if code.CodeID == id {
			return domain.CodeRef{ID: id, Stream: stream}, true, nil
		}
	}
	return domain.CodeRef{}, false, nil
}

// CodesAlive implements commands.Candidates.
func (c *Candidates) CodesAlive(ctx context.Context, at domain.Position, tenant domain.TenantID, user domain.UserID) (ofTenant, ofUser int, err error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return 0, 0, err
	}
	defer c.w.mu.Unlock()
	for _, code := range c.w.codes {
		if code.TenantID != tenant || !alive(code) || code.Purpose == "rollout" {
			continue
		}
		ofTenant++
		if user != "" && code.UserID == user {
			ofUser++
		}
	}
	return ofTenant, ofUser, nil
}

// CodesDrawn implements commands.Candidates.
func (c *Candidates) CodesDrawn(ctx context.Context, at domain.Position, server domain.ServerID) (n int, err error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return 0, err
	}
	defer c.w.mu.Unlock()
	for _, code := range c.w.codes {
		if code.Server == server && alive(code) && code.Bound == "" {
			n++
		}
	}
	return n, nil
}

// LiveCodes implements commands.Candidates.
func (c *Candidates) LiveCodes(ctx context.Context, at domain.Position, epoch domain.Subject, now time.Time) (n int, err error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return 0, err
	}
	defer c.w.mu.Unlock()
	for _, code := range c.w.codes {
		if code.Epoch == epoch && alive(code) {
			n++
		}
	}
	for _, notice := range c.w.notices {
		if notice.Epoch == epoch && notice.State == domain.NoticePending {
			n++
		}
	}
	for _, p := range c.w.softphones {
		if of, until := p.OpenCode(); of == epoch && until.After(now) {
			n++
		}
	}
	return n, nil
}

// TenantOfJob implements commands.Candidates.
func (c *Candidates) TenantOfJob(ctx context.Context, at domain.Position, id domain.JobID) (domain.TenantID, bool, error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return "", false, err
	}
	defer c.w.mu.Unlock()
	for tenant, jobs := range c.w.jobs {
		if _, ok := jobs.Job(id); ok {
			return tenant, true, nil
		}
	}
	return "", false, nil
}

// DevicesOfJob implements commands.Candidates.
func (c *Candidates) DevicesOfJob(ctx context.Context, at domain.Position, id domain.JobID, after domain.DeviceID, limit int) ([]domain.DeviceID, error) {
	found, err := c.devices(ctx, at, func(d device) bool {
		return d.ID > after && slices.ContainsFunc(d.Jobs.Runs, func(r domain.JobRun) bool { return r.JobID == id && r.Pinned && r.State == domain.JobFailed })
	})
	return found[:min(limit, len(found))], err
}

// DevicesOfPlugin implements commands.Candidates.
func (c *Candidates) DevicesOfPlugin(ctx context.Context, at domain.Position, q domain.PluginDevices) ([]domain.DeviceID, error) {
	found, err := c.devices(ctx, at, func(d device) bool { return d.ID > q.After && q.Matches(d.Device) })
	return found[:min(len(found), q.Limit)], err
}

// ChildrenOf implements commands.Candidates.
func (c *Candidates) ChildrenOf(ctx context.Context, at domain.Position, tenant domain.TenantID) (map[string]int, error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return nil, err
	}
	defer c.w.mu.Unlock()
	counts := map[string]int{"devices": len(c.w.live(func(d device) bool { return d.TenantID == tenant }))}
	for _, l := range c.w.lines {
		count(counts, "lines", l.TenantID == tenant && l.Live() == nil)
	}
	for _, u := range c.w.users {
		count(counts, "users", u.TenantID == tenant && u.Live(tenant) == nil)
	}
	for _, g := range c.w.categories {
		count(counts, "categories", g.TenantID == tenant && !g.Retired)
	}
	for _, l := range c.w.layers {
		count(counts, "layers", l.TenantID == tenant && l.Exists)
	}
	for _, p := range c.w.softphones {
		count(counts, "softphones", p.TenantID == tenant && p.Live() == nil)
	}
	for _, p := range c.w.clouds {
		count(counts, "clouds", p.TenantID == tenant && p.Exists)
	}
	maps.DeleteFunc(counts, func(_ string, n int) bool { return n == 0 })
	return counts, nil
}

func count(counts map[string]int, kind string, one bool) {
	if one {
		counts[kind]++
	}
}

// Shelf is commands.Shelf folded from a Log. It is always up to date, but between Hold and Release.
type Shelf struct{ w *world }

// NewShelf serves from what stands in log.
func NewShelf(log *Log) *Shelf { return &Shelf{newWorld(log)} }

// Hold lets the shelf fall behind: it shows the log as it is now until Release.
func (s *Shelf) Hold() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	_ = s.w.catchUp(context.Background()) // a log it cannot read shows again on the next look
	s.w.held = true
}

// Release lets the shelf catch up again.
func (s *Shelf) Release() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.held = false
	close(s.w.changed)
	s.w.changed = make(chan struct{})
}

// look finds the best of the live devices that which is true of.
func (s *Shelf) look(ctx context.Context, which func(device) bool) (commands.Shelved, bool, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if err := s.w.catchUp(ctx); err != nil {
		return commands.Shelved{}, false, err
	}
	found := s.w.live(which)
	if len(found) == 0 {
		return commands.Shelved{}, false, nil
	}
	d := slices.MaxFunc(found, func(a, b device) int { return a.assigned.Compare(b.assigned) })
	return commands.Shelved{Device: d.ID, MAC: d.MAC, TenantID: d.TenantID, Model: d.Model, Fw: d.Firmware, Vendor: d.Vendor, Plugin: d.Plugin, Serial: d.Serial, UUID: d.UUID,
		Assigned: d.Assigned(), Bare: d.Bare(), MACPathClosed: d.MACPathClosed, SecretHash: d.SecretHash, Guest: d.Config.Guest, Files: slices.Clone(d.Config.Files),
		Inputs: slices.Clone(d.Config.Inputs), GeneratedAt: d.made, Gateway: d.Gateway, Revision: s.w.revisions[d.ID.Stream()],
		Dirty: d.dirty || d.made.IsZero(), Syncing: d.Sync.Open()}, true, nil
}

// ByMAC implements commands.Shelf.
func (s *Shelf) ByMAC(ctx context.Context, mac domain.MAC) (commands.Shelved, bool, error) {
	return s.look(ctx, func(d device) bool { return mac != "" && d.MAC == mac })
}

// BySecret implements commands.Shelf.
func (s *Shelf) BySecret(ctx context.Context, hash string) (commands.Shelved, bool, error) {
	return s.look(ctx, func(d device) bool { return hash != "" && cmp.Or(d.SecretHash, d.PastHash) == hash })
}

// BySign implements commands.Shelf.
func (s *Shelf) BySign(ctx context.Context, serial, uuid string) (commands.Shelved, bool, error) {
	for _, which := range []func(device) bool{func(d device) bool { return serial != "" && d.Serial == serial }, func(d device) bool { return uuid != "" && d.UUID == uuid }} {
		s.w.mu.Lock()
		err := s.w.catchUp(ctx)
		n := len(s.w.live(which))
		s.w.mu.Unlock()
		if err != nil || n > 1 {
			return commands.Shelved{}, false, err
		}
		if n == 1 {
			return s.look(ctx, which)
		}
	}
	return commands.Shelved{}, false, nil
}

// TenantByKey implements commands.Shelf.
func (s *Shelf) TenantByKey(ctx context.Context, hash string) (domain.TenantID, bool, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if err := s.w.catchUp(ctx); err != nil {
		return "", false, err
	}
	for id, t := range s.w.tenants {
		if hash != "" && t.KeyHash == hash && t.Live() == nil {
			return id, true, nil
		}
	}
	return "", false, nil
}

// HasMould implements commands.Shelf.
func (s *Shelf) HasMould() bool {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	_ = s.w.catchUp(context.Background()) // as in Stale
	for _, l := range s.w.layers {
		if l.Exists && l.Role == domain.RoleAutocreate {
			return true
		}
	}
	return false
}

// Stale implements commands.Shelf.
func (s *Shelf) Stale(inputs []domain.Input) bool {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	_ = s.w.catchUp(context.Background()) // only of a log that cannot be read, which the next look-up reports
	return slices.ContainsFunc(inputs, func(in domain.Input) bool {
		now, known := s.w.revisions[in.Stream]
		return known && now > in.Revision
	})
}

// WaitFor implements commands.Shelf.
func (s *Shelf) WaitFor(ctx context.Context, at domain.Position) error {
	if err := s.w.waitFor(ctx, at); err != nil {
		return err
	}
	s.w.mu.Unlock()
	return nil
}
