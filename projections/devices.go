package projections

import (
	"cmp"
	"context"
	"strings"
	"time"

	"ledgerline/domain"
)

// Device is one life of a device as readers see it.
type Device struct {
	ID   domain.DeviceID `json:"id"`
	Life int             `json:"life"` // 1 for the first
	MAC  domain.MAC      `json:"mac,omitempty"`
	domain.DeviceFacts
	// State is domain.Device.Status: autoprov, awaiting_line, assigned, configured, replaced, deleted.
	State       string            `json:"state"`
	TenantID    domain.TenantID   `json:"tenant_id"`
	CategoryID  domain.CategoryID `json:"category_id,omitempty"`
	UserID      domain.UserID     `json:"user_id,omitempty"`
	CodeID      domain.CodeID     `json:"code_id,omitempty"`
	Description string            `json:"description,omitempty"`
	Parents     []domain.LayerID  `json:"parents,omitempty"`
	// Settings are the device's own, secrets sealed.
	Settings    domain.Settings `json:"settings,omitempty"`
	Autocreated bool            `json:"autocreated,omitempty"`
	Bare        bool            `json:"-"`                // domain.Device.Bare
	Added       string          `json:"added"`            // auto, operator
	Remote      string          `json:"remote,omitempty"` // domain.Device.Remote
	// Address and Extra are of the wazo-provd document, sealed.
	Address       domain.Personal        `json:"-"`
	Extra         domain.Secret          `json:"-"`
	Lines         []DeviceLine           `json:"lines"` // by position
	Awaiting      bool                   `json:"awaiting"`
	MACPathClosed bool                   `json:"mac_path_closed"`
	Warnings      []domain.ConfigWarning `json:"warnings,omitempty"` // of the latest files
	MovedTo       domain.TenantID        `json:"moved_to,omitempty"`
	ReplacedBy    domain.DeviceID        `json:"replaced_by,omitempty"`
	// Secret is the sealed path secret, SecretHash its keyed hash; empty for a device not assigned.
	Secret       domain.Secret `json:"-"`
	SecretHash   string        `json:"-"`
	DiscoveredAt time.Time     `json:"discovered_at"`
	AssignedAt   time.Time     `json:"assigned_at,omitzero"`  // of the latest assignment
	DeliveredAt  time.Time     `json:"delivered_at,omitzero"` // when it last got new bytes
	// Sync is the latest request that it fetch its files, SyncAt the time of what last came of it.
	Sync   domain.Sync `json:"-"`
	SyncAt time.Time   `json:"-"`
	// Gateway is the border gateway the phone stands behind, if any.
	Gateway domain.DeviceGatewaySet `json:"gateway,omitzero"`
	// Jobs are those it has, and those it had, the latest last.
	Jobs []domain.JobRun `json:"jobs,omitempty"`
	// Sysclient is what the device is to Devices (innovaphone).
	Sysclient domain.Sysclient `json:"-"`
	Head
}

// DeviceLine is a line at a position of a device; position 1 is the first.
type DeviceLine struct {
	Position int           `json:"position"`
	LineID   domain.LineID `json:"line_id"`
}

// Assigned tells whether the device is to have files of its own, rather than the guest files.
func (d Device) Assigned() bool { return d.SecretHash != "" }

var devices = func() *noun[domain.Device] {
	n := newNoun("device", "devices", 3, []string{"base TEXT NOT NULL", "life INTEGER NOT NULL", "live INTEGER NOT NULL", "known INTEGER NOT NULL", "mac TEXT", "tenant_id TEXT", "category_id TEXT", "user_id TEXT", "state TEXT NOT NULL", "vendor TEXT", "model TEXT", "plugin TEXT", "plugin_version TEXT", "serial TEXT", "uuid TEXT", "description TEXT", "secret_hash TEXT", "assigned_at INTEGER", "sync_waits TEXT"},
		func(key string, d *Doc[domain.Device]) []any {
			base, life := domain.DeviceID(key).Life()
			waits := domain.TenantID("") // the tenant, while a paced sync of a live device waits
			if d.State.Sync.Waiting() && d.State.Live() == nil {
				waits = d.State.TenantID
			}
			return []any{string(base), int64(life), flag(d.State.Live() == nil), flag(d.State.Exists), orNull(d.State.MAC), orNull(d.State.TenantID), orNull(d.State.CategoryID), orNull(d.State.UserID), d.State.Status(), orNull(d.State.Vendor), orNull(d.State.Model), orNull(d.State.Plugin), orNull(d.State.Version()), orNull(d.State.Serial), orNull(d.State.UUID), orNull(d.State.Description), orNull(cmp.Or(d.State.SecretHash, d.State.PastHash)), micros(d.AssignedAt), orNull(waits)}
		},
		"CREATE INDEX devices_base ON devices (base, life)",
		"CREATE INDEX devices_mac ON devices (mac) WHERE mac IS NOT NULL",
		"CREATE INDEX devices_serial ON devices (serial) WHERE serial IS NOT NULL",
		"CREATE INDEX devices_uuid ON devices (uuid) WHERE uuid IS NOT NULL",
		"CREATE INDEX devices_tenant ON devices (tenant_id, key)",
		"CREATE INDEX devices_user ON devices (user_id) WHERE user_id IS NOT NULL",
		"CREATE INDEX devices_secret_hash ON devices (secret_hash) WHERE secret_hash IS NOT NULL",
		"CREATE INDEX devices_plugin ON devices (plugin, key) WHERE live = 1",
		"CREATE INDEX devices_sync_waits ON devices (sync_waits, key) WHERE sync_waits IS NOT NULL",
		"CREATE INDEX device_lines_line ON device_lines (line_id)",
		"CREATE INDEX device_parents_layer ON device_parents (layer_id)",
		"CREATE INDEX device_jobs_job ON device_jobs (job_id, owner)")
	n.schema.Linked = []LinkSchema{{"device_lines", []string{"position INTEGER NOT NULL", "line_id TEXT NOT NULL"}},
		{"device_parents", []string{"layer_id TEXT NOT NULL"}},
		{"device_jobs", []string{"job_id TEXT NOT NULL", "sequence INTEGER NOT NULL", "state TEXT NOT NULL", "reason TEXT NOT NULL", "attempt INTEGER NOT NULL", "pinned INTEGER NOT NULL"}}}
	n.schema.Links = func(_ string, row any) [][][]any {
		d := row.(*Doc[domain.Device])
		if d.State.Live() != nil {
			return [][][]any{nil, nil, nil}
		}
		var lines, parents, jobs [][]any
		for _, p := range d.State.Positions() {
			lines = append(lines, []any{int64(p), string(d.State.Lines[p])})
		}
		for _, id := range d.State.Parents {
			parents = append(parents, []any{string(id)})
		}
		for _, r := range d.State.Jobs.Runs {
			jobs = append(jobs, []any{string(r.JobID), int64(r.Sequence), r.State, r.Reason, int64(r.Attempt), flag(r.Pinned)})
		}
		return [][][]any{lines, parents, jobs}
	}
	n.after = afterDevice
	return n
}()

// afterDevice keeps what the state leaves to events' times, and drops what the configs view keeps.
func afterDevice(_ domain.Device, d *Doc[domain.Device], f *Fact) {
	switch f.Event.(type) {
	case domain.DeviceDiscovered:
		d.Head.CreatedAt = f.At
	case domain.DeviceAssigned:
		d.AssignedAt = f.At
	case domain.DeviceReset:
		// Files of the life before the reset are no files of this one (configs drops them too).
		d.AssignedAt, d.State.Config, d.State.Delivered = time.Time{}, domain.DeviceConfigRegenerated{}, nil
	case domain.DeviceConfigRegenerated:
		c := &d.State.Config
		files := make([]domain.GeneratedFile, len(c.Files))
		for i, file := range c.Files {
			files[i] = domain.GeneratedFile{Path: file.Path, MAC: file.MAC}
		}
		c.Inputs, c.Files = nil, files // Username stays: what is fetched of them shows as Remote
	case domain.DeviceConfigDelivered:
		d.DeliveredAt = f.At
	case domain.DeviceSyncRequested, domain.DeviceSyncOutcome:
		d.SyncAt = f.At
	}
}

func deviceRow(key string, d *Doc[domain.Device]) Device {
	s := d.State
	_, life := domain.DeviceID(key).Life()
	out := Device{ID: domain.DeviceID(key), Life: life, MAC: s.MAC, DeviceFacts: s.DeviceFacts, State: s.Status(), TenantID: s.TenantID,
		CategoryID: s.CategoryID, UserID: s.UserID, CodeID: s.CodeID, Description: s.Description, Parents: s.Parents, Settings: s.Settings,
		Lines: []DeviceLine{}, Awaiting: s.Awaiting, MACPathClosed: s.MACPathClosed, Warnings: s.Config.Warnings, MovedTo: s.MovedTo,
		ReplacedBy: s.ReplacedBy, Autocreated: s.Autocreated, Bare: s.Bare(), Added: s.Added, Remote: s.Remote, Address: s.Address, Extra: s.Extra, Secret: s.Secret,
		SecretHash: s.SecretHash, DiscoveredAt: d.Head.CreatedAt, AssignedAt: d.AssignedAt, DeliveredAt: d.DeliveredAt, Sync: s.Sync, SyncAt: d.SyncAt, Gateway: s.Gateway, Jobs: s.Jobs.Runs, Sysclient: s.Sysclient, Head: d.Head}
	for _, p := range s.Positions() {
		out.Lines = append(out.Lines, DeviceLine{p, s.Lines[p]})
	}
	return out
}

// DeviceByID finds a device by the id its creator knows: its live life, else its latest. The id of a later
// life ("0015651a2b3c.2") finds exactly that one.
func DeviceByID(ctx context.Context, q Querier, id domain.DeviceID) (Device, bool, error) {
	if _, life := id.Life(); life > 1 {
		return DeviceLife(ctx, q, id)
	}
	return one(ctx, q, devices, deviceRow, "base = ? AND known = 1 ORDER BY live DESC, life DESC", string(id))
}

// DeviceLife finds exactly this life of a device, also a first one that has ended.
func DeviceLife(ctx context.Context, q Querier, id domain.DeviceID) (Device, bool, error) {
	return one(ctx, q, devices, deviceRow, "key = ? AND known = 1", string(id))
}

// DevicesByMAC lists the live devices that carry mac, latest assigned first.
func DevicesByMAC(ctx context.Context, q Querier, mac domain.MAC) ([]Device, error) {
	return all(ctx, q, devices, deviceRow, "mac = ? AND live = 1 ORDER BY assigned_at DESC, key LIMIT 500", string(mac))
}

// MACsOf lists the addresses that these devices carry, live or not.
func MACsOf(ctx context.Context, q Querier, ids []domain.DeviceID) (macs []domain.MAC, err error) {
	var c clause
	in(&c, "key", ids)
	err = q.Query(ctx, "SELECT mac FROM devices WHERE "+strings.Join(c.terms, " AND ")+" AND mac <> ''", c.args, func(r Row) error {
		macs = append(macs, domain.MAC(r.Text(0)))
		return nil
	})
	return macs, err
}

// DevicesBySign lists the live devices with this serial number or, if there are none, with this UUID; two at most.
func DevicesBySign(ctx context.Context, q Querier, serial, uuid string) ([]Device, error) {
	for _, sign := range [][2]string{{"serial", serial}, {"uuid", uuid}} {
		if sign[1] == "" {
			continue
		}
		found, err := all(ctx, q, devices, deviceRow, sign[0]+" = ? AND live = 1 ORDER BY key LIMIT 2", sign[1])
		if err != nil || len(found) > 0 {
			return found, err
		}
	}
	return nil, nil
}

// DeviceBySecretHash finds the live device whose path secret hashes to hash; after a reset, and until the next
// assignment, also by the secret it had.
func DeviceBySecretHash(ctx context.Context, q Querier, hash string) (Device, bool, error) {
	return one(ctx, q, devices, deviceRow, "secret_hash = ? AND live = 1", hash)
}

// DeviceFilter narrows a list of devices. Nil Tenants means all. Text is looked for in id, MAC (in any
// spelling), vendor, model and description; empty fields are no condition.
type DeviceFilter struct {
	Tenants  []domain.TenantID
	State    string
	Category domain.CategoryID
	User     domain.UserID
	Line     domain.LineID
	MAC      domain.MAC
	Vendor   string
	Model    string
	Plugin   string
	Text     string
	Ended    bool // deleted and replaced ones too
}

// ListDevices lists devices by id.
func ListDevices(ctx context.Context, q Querier, f DeviceFilter, p Page) (Listed[Device], error) {
	var c clause
	c.is(present(f.Ended || f.State == domain.StateDeleted || f.State == domain.StateReplaced))
	in(&c, "tenant_id", f.Tenants)
	equal(&c, "state", f.State)
	equal(&c, "category_id", f.Category)
	equal(&c, "user_id", f.User)
	equal(&c, "mac", f.MAC)
	equal(&c, "vendor", f.Vendor)
	equal(&c, "model", f.Model)
	equal(&c, "plugin", f.Plugin)
	if f.Line != "" {
		c.is("key IN (SELECT owner FROM device_lines WHERE line_id = ?)", string(f.Line))
	}
	if digits := hexDigits(f.Text); digits != "" {
		c.is("(instr(lower(key), ?) > 0 OR instr(mac, ?) > 0 OR instr(lower(vendor), ?) > 0 OR instr(lower(model), ?) > 0 OR instr(lower(description), ?) > 0)",
			strings.ToLower(f.Text), digits, strings.ToLower(f.Text), strings.ToLower(f.Text), strings.ToLower(f.Text))
	} else {
		c.contains(f.Text, "key", "vendor", "model", "description")
	}
	return list(ctx, q, devices, deviceRow, "key", c, p)
}

// CountDevices is how many live devices a tenant has.
func CountDevices(ctx context.Context, q Querier, tenant domain.TenantID) (n int, err error) {
	err = q.Query(ctx, "SELECT count(*) FROM devices WHERE tenant_id = ? AND live = 1", []any{string(tenant)}, func(r Row) error {
		n = int(r.Int(0))
		return nil
	})
	return n, err
}

// hexDigits is text as (part of) a MAC address, without separators; empty if it cannot be one.
func hexDigits(text string) string {
	digits := strings.NewReplacer(":", "", "-", "", ".", "").Replace(strings.ToLower(text))
	if strings.Trim(digits, "0123456789abcdef") != "" {
		return ""
	}
	return digits
}

// micros is t in microseconds since 1970, NULL for the zero time.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}
