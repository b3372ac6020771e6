package domain

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
)

// DeviceDiscovered: we know of a phone. By its own request (Added "auto") or by an operator ("operator");
// either way it begins in the master tenant, unconfigured.
type DeviceDiscovered struct {
	DeviceID DeviceID `json:"device_id"`
	MAC      MAC      `json:"mac,omitempty"`
	DeviceFacts
	Added string `json:"added"`
}

// DeviceFacts is what a phone shows of itself.
type DeviceFacts struct {
	Vendor   string `json:"vendor,omitempty"`
	Model    string `json:"model,omitempty"`
	Firmware string `json:"firmware,omitempty"`
	// Plugin is the plugin that serves the phone, chosen by association or by an operator; PluginVersion
	// is the version it is pinned to, empty for the one its files were last made with; see Device.Version.
	Plugin        string `json:"plugin,omitempty"`
	PluginVersion string `json:"plugin_version,omitempty"`
	// Serial and UUID are what some phones show instead of, or beside, their MAC.
	Serial string `json:"serial,omitempty"`
	UUID   string `json:"uuid,omitempty"`
}

// DeviceIdentified: the phone showed new facts of itself (a firmware, a model not known before).
type DeviceIdentified struct{ DeviceFacts }

// DeviceAmended: an operator said anew what the device is, whole; unlike DeviceIdentified, which adds what the
// phone showed. What the device is to do stands in DeviceConfigured.
type DeviceAmended struct {
	MAC MAC `json:"mac,omitempty"`
	DeviceFacts
	// Address is the IP address the operator gave; where the phone really is, its requests tell.
	Address Personal `json:"address,omitzero"`
	// Extra is a JSON object of further keys of a wazo-provd device, kept for who put them there.
	Extra Secret `json:"extra,omitzero"`
}

// DeviceAssigned: the device belongs to a tenant and category, and maybe to a user. Leaving the master
// tenant is final. Secret is the path secret under which the phone fetches from now on.
type DeviceAssigned struct {
	TenantID   TenantID   `json:"tenant_id"`
	CategoryID CategoryID `json:"category_id,omitempty"`
	UserID     UserID     `json:"user_id,omitempty"`
	CodeID     CodeID     `json:"code_id,omitempty"`
	// TokenID is the token of automatic provisioning that admitted it.
	TokenID    TokenID `json:"token_id,omitempty"`
	Secret     Secret  `json:"secret,omitzero"`
	SecretHash string  `json:"secret_hash,omitempty"`
	// Replaces is the broken device this one took over from.
	Replaces DeviceID `json:"replaces,omitempty"`
}

// DeviceAwaitingLine: the device's user has no line to put on it yet.
type DeviceAwaitingLine struct {
	UserID UserID `json:"user_id"`
}

// DeviceLineAssociated: the line is at the position (1 is the first) of the device.
type DeviceLineAssociated struct {
	LineID   LineID `json:"line_id"`
	Position int    `json:"position"`
}

// DeviceLineDissociated: the line left the device.
type DeviceLineDissociated struct {
	LineID   LineID `json:"line_id"`
	Position int    `json:"position"`
}

// DevicePluginPinned: the device's files are made by this version of its plugin from now on. From is the version they
// were made with before, empty if there were none. An upgrade reaches a device by this fact and no other way.
type DevicePluginPinned struct {
	Plugin  string `json:"plugin"`
	Version string `json:"version"`
	From    string `json:"from,omitempty"`
}

// DeviceConfigured: an operator's own wishes for this device, whole.
type DeviceConfigured struct{ DeviceSpec }

// DeviceSpec is what an operator sets for one device.
type DeviceSpec struct {
	// Parents are layers between the category's and the device's own settings, in order.
	Parents     []LayerID `json:"parents,omitempty"`
	Settings    Settings  `json:"settings,omitempty"`
	Description string    `json:"description,omitempty"`
	// Autocreated: the parents are a copy of the mould for new phones (RoleAutocreate), and make files of its own
	// for a device that is not assigned to anybody yet.
	Autocreated bool `json:"autocreated,omitempty"`
}

// DeviceReset: back to the unconfigured state; lines and settings are taken off, the tenant stays.
type DeviceReset struct{}

// DeviceReplaced: the device is broken; By takes over its lines, keys and layers. Ends this device.
type DeviceReplaced struct {
	By    DeviceID `json:"by"`
	ByMAC MAC      `json:"by_mac"`
}

// DeviceMACPathReopened: the phone may again fetch by its MAC alone, from trusted networks (D24).
type DeviceMACPathReopened struct{}

// DeviceGatewaySet: the phone stands behind a border gateway (empty: behind none), and its lines there get the
// gateway's address and their remote credentials. By is "source" (its request came from the gateway's address, or
// no longer does) or "operator", which requests do not change any more; empty By gives it back to them.
type DeviceGatewaySet struct {
	GatewayID GatewayID `json:"gateway_id,omitempty"`
	By        string    `json:"by,omitempty"`
}

// DeviceDeleted: this life of the device is over. MovedTo names the tenant where the next one begins.
type DeviceDeleted struct {
	MovedTo TenantID `json:"moved_to,omitempty"`
}

// DeviceConfigRegenerated: these are the files the phone may fetch from now on (D4, D5).
type DeviceConfigRegenerated struct {
	Plugin        string          `json:"plugin"`
	PluginVersion string          `json:"plugin_version"`
	Renderer      string          `json:"renderer"`
	TZData        string          `json:"tzdata"`
	Guest         bool            `json:"guest,omitempty"` // the autoprovisioning files of an unconfigured phone
	Inputs        []Input         `json:"inputs"`
	Files         []GeneratedFile `json:"files"`
	// Username is the SIP user of line 1 in the settings the files were made from.
	Username string          `json:"username,omitempty"`
	Warnings []ConfigWarning `json:"warnings,omitempty"`
}

// Input is one stream the files followed from, with the revision it stood at (NoStream: it did not exist).
type Input struct {
	Stream   StreamID `json:"stream"`
	Revision Revision `json:"revision"`
}

// GeneratedFile is one file. SkeletonSHA256 (hex) is of the file with every secret replaced by a fixed
// placeholder; MAC (hex) is the HMAC-SHA-256 of the real bytes under the device's key.
type GeneratedFile struct {
	Path           string   `json:"path"`
	Aliases        []string `json:"aliases,omitempty"`
	ContentType    string   `json:"content_type"`
	Size           int      `json:"size"`
	SkeletonSHA256 string   `json:"skeleton_sha256"`
	MAC            string   `json:"mac"`
}

// ETag is the entity tag the file is served with: the MAC, truncated, in quotes.
func (f GeneratedFile) ETag() string { return `"` + f.MAC[:min(32, len(f.MAC))] + `"` }

// ConfigWarning is a wish the model could not honour, and what was done instead.
type ConfigWarning struct {
	Setting string `json:"setting"`
	Model   string `json:"model,omitempty"`
	Text    string `json:"text"`
}

// DeviceConfigDelivered: the phone has the file: the body was written whole, the last TFTP block
// acknowledged, or it said it had it (304). Recorded once per file content.
type DeviceConfigDelivered struct {
	Path string `json:"path"`
	MAC  string `json:"mac"` // of the bytes, as in GeneratedFile
	// Via is how the phone proved itself: "mac", "secret", "tenant_key", "code"; Transport is http, https or tftp.
	Via         string    `json:"via"`
	Transport   string    `json:"transport"`
	DeliveredAt time.Time `json:"delivered_at"`
}

// DeviceConfigRevealed: the actor was shown the bytes of a file, secrets and all; Regenerated is the revision
// of the config_regenerated it stands in.
type DeviceConfigRevealed struct {
	Path        string   `json:"path"`
	MAC         string   `json:"mac"`
	Regenerated Revision `json:"regenerated"`
}

// DeviceFileDelivered: the phone has a file of its vendor, firmware or a language: recorded as DeviceConfigDelivered is, once
// per content.
type DeviceFileDelivered struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"` // hex, of the bytes
	Size   int64  `json:"size"`
	// Plugin, Bundle, Kind and Release tell where it is from: see PluginFiles.
	Plugin      string    `json:"plugin"`
	Bundle      string    `json:"bundle"`
	Kind        string    `json:"kind"`
	Release     string    `json:"release,omitempty"`
	Via         string    `json:"via"`
	Transport   string    `json:"transport"`
	DeliveredAt time.Time `json:"delivered_at"`
}

func (DeviceDiscovered) EventType() string        { return "device.discovered" }
func (DeviceIdentified) EventType() string        { return "device.identified" }
func (DeviceAmended) EventType() string           { return "device.amended" }
func (DeviceAssigned) EventType() string          { return "device.assigned" }
func (DeviceAwaitingLine) EventType() string      { return "device.awaiting_line" }
func (DeviceLineAssociated) EventType() string    { return "device.line_associated" }
func (DeviceLineDissociated) EventType() string   { return "device.line_dissociated" }
func (DevicePluginPinned) EventType() string      { return "device.plugin_pinned" }
func (DeviceConfigured) EventType() string        { return "device.configured" }
func (DeviceReset) EventType() string             { return "device.reset" }
func (DeviceReplaced) EventType() string          { return "device.replaced" }
func (DeviceMACPathReopened) EventType() string   { return "device.mac_path_reopened" }
func (DeviceGatewaySet) EventType() string        { return "device.gateway_set" }
func (DeviceDeleted) EventType() string           { return "device.deleted" }
func (DeviceConfigRegenerated) EventType() string { return "device.config_regenerated" }
func (DeviceConfigDelivered) EventType() string   { return "device.config_delivered" }
func (DeviceConfigRevealed) EventType() string    { return "device.config_revealed" }
func (DeviceFileDelivered) EventType() string     { return "device.file_delivered" }

var deviceEvents = []entry{of[DeviceDiscovered](), of[DeviceIdentified](), of[DeviceAmended](), of[DeviceAssigned](), of[DeviceAwaitingLine](),
	of[DeviceLineAssociated](), of[DeviceLineDissociated](), of[DeviceConfigured](), of[DeviceReset](), of[DeviceReplaced](),
	of[DevicePluginPinned](), of[DeviceMACPathReopened](), of[DeviceGatewaySet](), of[DeviceDeleted](), of[DeviceConfigRegenerated](), of[DeviceConfigDelivered](),
	of[DeviceConfigRevealed](), of[DeviceFileDelivered](),
	of[DeviceSyncRequested](), of[DeviceSyncOutcome]()}

// MaxLines bounds the position of a line on a device (a large DECT system).
const MaxLines = 1000

// Device is what a device stream adds up to: one life of one phone.
type Device struct {
	ID  DeviceID
	MAC MAC
	DeviceFacts
	Added      string // by whom it was made known: auto, operator
	Address    Personal
	Extra      Secret
	TenantID   TenantID
	CategoryID CategoryID
	UserID     UserID
	CodeID     CodeID
	DeviceSpec
	Lines      map[int]LineID // by position; never written to after Apply
	Secret     Secret
	SecretHash string
	Awaiting   bool
	Gateway    DeviceGatewaySet
	// Config is the latest regeneration; its Files are empty while there was none. Delivered maps a
	// file's path to the MAC of the bytes the phone last got.
	Config    DeviceConfigRegenerated
	Delivered map[string]string
	// VendorFiles are the files of its vendor the phone last got: SHA-256 by path. A reset leaves them: they are in the phone.
	VendorFiles map[string]string
	// MACPathClosed: the phone has used its secret path, so its MAC alone opens nothing (D24).
	MACPathClosed bool
	Sync          Sync
	Sysclient     Sysclient
	Jobs          DeviceJobs
	// PastHash and PastLines are what a reset took off: the phone may still ask below its old path, and be
	// registered with its old accounts. Gone with the next assignment.
	PastHash  string
	PastLines []LineID
	// Remote is the SIP user of line 1 that the phone really has: of the files it last fetched.
	Remote     string
	Exists     bool
	Deleted    bool
	MovedTo    TenantID
	ReplacedBy DeviceID
}

// Stream is where this life of the device is recorded.
func (id DeviceID) Stream() StreamID { return Stream("device", string(id)) }

// Subject is the owner of the device's data key.
func (id DeviceID) Subject() Subject { return Subject(id.Stream()) }

// Apply returns the device after e.
func (d Device) Apply(e Event) Device {
	switch e := e.(type) {
	case DeviceDiscovered:
		d.ID, d.MAC, d.DeviceFacts, d.Added, d.TenantID, d.Exists = e.DeviceID, e.MAC, e.DeviceFacts, e.Added, Master, true
	case DeviceIdentified:
		d.DeviceFacts = e.DeviceFacts
	case DeviceAmended:
		d.MAC, d.DeviceFacts, d.Address, d.Extra = e.MAC, e.DeviceFacts, e.Address, e.Extra
	case DeviceAssigned:
		d.TenantID, d.CategoryID, d.UserID, d.CodeID, d.Awaiting = e.TenantID, e.CategoryID, e.UserID, e.CodeID, false
		if e.SecretHash != "" {
			d.Secret, d.SecretHash, d.MACPathClosed = e.Secret, e.SecretHash, false
			d.PastHash, d.PastLines = "", nil
		}
	case DeviceAwaitingLine:
		d.Awaiting = true
	case DeviceLineAssociated:
		lines := maps.Clone(d.Lines)
		if lines == nil {
			lines = make(map[int]LineID)
		}
		lines[e.Position] = e.LineID
		d.Lines, d.Awaiting = lines, false
	case DeviceLineDissociated:
		d.Lines = maps.Clone(d.Lines)
		delete(d.Lines, e.Position)
	case DevicePluginPinned:
		d.Plugin, d.PluginVersion = e.Plugin, e.Version
	case DeviceConfigured:
		d.DeviceSpec = e.DeviceSpec
	case DeviceReset:
		if d.SecretHash != "" {
			d.PastHash, d.PastLines = d.SecretHash, nil
			for _, p := range d.Positions() {
				d.PastLines = append(d.PastLines, d.Lines[p])
			}
		}
		d.CategoryID, d.UserID, d.CodeID, d.DeviceSpec, d.Lines = "", "", "", DeviceSpec{}, nil
		d.Secret, d.SecretHash, d.Awaiting, d.MACPathClosed = Secret{}, "", false, false
		d.Config, d.Delivered, d.Sync, d.Gateway = DeviceConfigRegenerated{}, nil, Sync{}, DeviceGatewaySet{}
		d.Sysclient = Sysclient{SysclientFacts: d.Sysclient.SysclientFacts, Port: d.Sysclient.Port}
	case DeviceReplaced:
		d.ReplacedBy, d.Deleted = e.By, true
	case DeviceMACPathReopened:
		d.MACPathClosed = false
	case DeviceScriptDelivered:
		d.MACPathClosed = d.closed(e.Via)
	case DeviceScriptRun:
		d.MACPathClosed = d.closed(e.Via)
	case DeviceConfigBackedUp:
		d.MACPathClosed = d.closed(e.Via)
	case DeviceGatewaySet:
		d.Gateway = e
	case DeviceDeleted:
		d.Deleted, d.MovedTo = true, e.MovedTo
	case DeviceConfigRegenerated:
		d.Config = e
	case DeviceConfigDelivered:
		delivered := maps.Clone(d.Delivered)
		if delivered == nil {
			delivered = make(map[string]string)
		}
		delivered[e.Path] = e.MAC
		d.Delivered = delivered
		d.MACPathClosed = d.closed(e.Via)
		if slices.ContainsFunc(d.Config.Files, func(f GeneratedFile) bool { return f.MAC == e.MAC }) && d.names(e.Path) {
			d.Remote = d.Config.Username
		}
	case DeviceFileDelivered:
		d.VendorFiles = put(d.VendorFiles, e.Path, e.SHA256)
	case DeviceSyncRequested, DeviceSyncOutcome:
		d.Sync = d.Sync.apply(e)
	case DeviceSysclientIdentified, DeviceSysclientPasswordSet, DeviceSysclientProved, DeviceURLChecked, DevicePortAttached:
		d.Sysclient = d.Sysclient.apply(e)
	}
	d.Jobs = d.Jobs.apply(e)
	return d
}

// Bare tells whether nobody has said anything of a live device: it was seen, or written down, and that is all.
func (d Device) Bare() bool {
	return d.Live() == nil && len(d.Parents) == 0 && len(d.Lines) == 0 && len(d.Settings) == 0 && d.UserID == "" && d.CategoryID == "" && d.CodeID == ""
}

// unseparated takes off what stands between the digits of a MAC.
var unseparated = strings.NewReplacer(":", "", "-", "")

// names tells whether a file is the device's alone: its name has the MAC in it, unless none of its files' names has.
func (d Device) names(path string) bool {
	mine := func(path string) bool {
		return d.MAC != "" && strings.Contains(unseparated.Replace(strings.ToLower(path)), string(d.MAC))
	}
	return mine(path) || !slices.ContainsFunc(d.Config.Files, func(f GeneratedFile) bool { return mine(f.Path) })
}

// States of a device, in the words users know.
const (
	StateAutoprov     = "autoprov"      // known, not assigned to anyone: gets the guest file
	StateAwaitingLine = "awaiting_line" // assigned, its user has no line yet
	StateAssigned     = "assigned"      // assigned, its files are not made yet
	StateConfigured   = "configured"    // its own files can be fetched
	StateReplaced     = "replaced"
	StateDeleted      = "deleted"
)

// Status is the device's state in one word.
func (d Device) Status() string {
	switch {
	case d.ReplacedBy != "":
		return StateReplaced
	case d.Deleted:
		return StateDeleted
	case !d.Assigned():
		return StateAutoprov
	case d.Awaiting:
		return StateAwaitingLine
	case len(d.Config.Files) == 0 || d.Config.Guest:
		return StateAssigned
	}
	return StateConfigured
}

// Assigned tells whether the device was assigned, and not reset since.
func (d Device) Assigned() bool { return d.SecretHash != "" }

// Guest tells whether the device gets the guest files rather than files of its own: it is not assigned, and
// has no copy of a mould.
func (d Device) Guest() bool { return !d.Assigned() && !d.Autocreated }

var (
	ErrDeviceUnknown       = errors.New("no such device")
	ErrDeviceExists        = errors.New("device exists already")
	ErrDeviceDeleted       = errors.New("device is deleted")
	ErrDeviceOfOtherTenant = errors.New("device belongs to another tenant; delete it there or move it")
	ErrLineOfOtherTenant   = errors.New("line belongs to another tenant than the device")
	ErrPositionTaken       = errors.New("another line is at this position")
	ErrPosition            = errors.New("position must be 1 to 1000")
	ErrLineNotOnDevice     = errors.New("line is not on this device")
	ErrReplacementInUse    = errors.New("replacement device is in use")
	ErrReplaceSelf         = errors.New("a device cannot replace itself")
	ErrSameTenant          = errors.New("device is in this tenant already")
)

// Version is the version of its plugin that makes the device's files: the one it is pinned to, else the one they were
// last made with, so that no new version comes to a device by itself. Empty: the one new devices get.
func (d Device) Version() string {
	if d.PluginVersion == "" && d.Config.Plugin == d.Plugin {
		return d.Config.PluginVersion
	}
	return d.PluginVersion
}

// Live is nil for a device that things can be done with.
func (d Device) Live() error {
	switch {
	case !d.Exists:
		return ErrDeviceUnknown
	case d.Deleted:
		return ErrDeviceDeleted
	}
	return nil
}

// Discover makes the device known, or notes what it shows anew; an empty fact never overwrites a known
// one, and a plugin once chosen stays.
func (d Device) Discover(id DeviceID, mac MAC, facts DeviceFacts, added string) ([]Event, error) {
	if d.Deleted {
		return nil, ErrDeviceDeleted
	}
	if !d.Exists {
		return []Event{DeviceDiscovered{DeviceID: id, MAC: mac, DeviceFacts: facts, Added: added}}, nil
	}
	return d.Identify(facts), nil
}

// PinPlugin moves the device to a version of the plugin that serves it. As it is already is no news.
func (d Device) PinPlugin(version string) ([]Event, error) {
	if err := d.Live(); err != nil {
		return nil, err
	}
	if d.PluginVersion == version {
		return nil, nil
	}
	return []Event{DevicePluginPinned{Plugin: d.Plugin, Version: version, From: d.Version()}}, nil
}

// Identify notes facts the phone shows that we did not know.
func (d Device) Identify(seen DeviceFacts) []Event {
	known := d.DeviceFacts
	for _, f := range []struct{ known, seen *string }{{&known.Vendor, &seen.Vendor}, {&known.Model, &seen.Model}, {&known.Firmware, &seen.Firmware},
		{&known.Serial, &seen.Serial}, {&known.UUID, &seen.UUID}} {
		if *f.seen != "" {
			*f.known = *f.seen
		}
	}
	if known.Plugin == "" {
		known.Plugin, known.PluginVersion = seen.Plugin, seen.PluginVersion
	}
	if known == d.DeviceFacts {
		return nil
	}
	return []Event{DeviceIdentified{known}}
}

// Amend says anew what the device is; the same again is no news.
func (d Device) Amend(e DeviceAmended) ([]Event, error) {
	if err := d.Live(); err != nil {
		return nil, err
	}
	if d.MAC == e.MAC && d.DeviceFacts == e.DeviceFacts && d.Address.Same(e.Address.Sealed) && d.Extra.Same(e.Extra.Sealed) {
		return nil, nil
	}
	return []Event{e}, nil
}

// PlaceBehind notes which gateway the phone stands behind. What an operator said stays, whatever requests show; the
// same again is no news.
func (d Device) PlaceBehind(g GatewayID, by string) ([]Event, error) {
	if err := d.Live(); err != nil {
		return nil, err
	}
	placed := DeviceGatewaySet{g, by}
	if by == "source" && (d.Gateway.By == "operator" || d.Gateway.GatewayID == g) || placed == d.Gateway {
		return nil, nil
	}
	return []Event{placed}, nil
}

// CanAssign is nil when the device may go to tenant: leaving the master tenant is final.
func (d Device) CanAssign(tenant TenantID) error {
	if err := d.Live(); err != nil {
		return err
	}
	if d.TenantID != Master && d.TenantID != tenant {
		return ErrDeviceOfOtherTenant
	}
	return nil
}

// Assign gives the device to a tenant, category and user. to.Secret is used only for a device that has
// none yet. A device that passes from one user to another first loses the lines it carried. Assigning as it
// is already is no news.
func (d Device) Assign(to DeviceAssigned) ([]Event, error) {
	if err := d.CanAssign(to.TenantID); err != nil {
		return nil, err
	}
	if d.Assigned() {
		if d.TenantID == to.TenantID && d.CategoryID == to.CategoryID && d.UserID == to.UserID && (to.CodeID == "" || d.CodeID == to.CodeID) {
			return nil, nil
		}
		to.Secret, to.SecretHash = Secret{}, ""
	}
	var events []Event
	if d.UserID != "" && to.UserID != "" && d.UserID != to.UserID {
		for _, p := range d.Positions() {
			events = append(events, DeviceLineDissociated{d.Lines[p], p})
		}
	}
	return append(events, to), nil
}

// Associate puts a line at a position; position 0 means the first free one. A device still in the
// master tenant, or reset, is first assigned to the line's tenant, with the secret given.
func (d Device) Associate(line LineID, tenant TenantID, position int, secret Secret, hash string) ([]Event, error) {
	if err := d.Live(); err != nil {
		return nil, err
	}
	if d.TenantID != Master && d.TenantID != tenant {
		return nil, ErrLineOfOtherTenant
	}
	if at := d.PositionOf(line); at != 0 && (position == 0 || position == at) {
		return nil, nil
	}
	var events []Event
	if !d.Assigned() || d.TenantID != tenant {
		assigned, err := d.Assign(DeviceAssigned{TenantID: tenant, CategoryID: d.CategoryID, UserID: d.UserID, Secret: secret, SecretHash: hash})
		if err != nil {
			return nil, err
		}
		events = assigned
	}
	if at := d.PositionOf(line); at != 0 {
		events = append(events, DeviceLineDissociated{line, at})
	}
	if position == 0 {
		for position = 1; d.Lines[position] != ""; position++ {
		}
	}
	if position < 1 || position > MaxLines {
		return nil, ErrPosition
	}
	if d.Lines[position] != "" {
		return nil, ErrPositionTaken
	}
	return append(events, DeviceLineAssociated{line, position}), nil
}

// PositionOf is where the line is on the device; 0 for nowhere.
func (d Device) PositionOf(line LineID) int {
	for p, l := range d.Lines {
		if l == line {
			return p
		}
	}
	return 0
}

// Positions are the positions in use, ascending.
func (d Device) Positions() []int { return slices.Sorted(maps.Keys(d.Lines)) }

// AwaitLine records that the user of the device has no line to offer.
func (d Device) AwaitLine() []Event {
	if d.Awaiting || len(d.Lines) > 0 || d.UserID == "" || d.Live() != nil {
		return nil
	}
	return []Event{DeviceAwaitingLine{d.UserID}}
}

// Dissociate takes a line off the device.
func (d Device) Dissociate(line LineID) ([]Event, error) {
	if err := d.Live(); err != nil {
		return nil, err
	}
	at := d.PositionOf(line)
	if at == 0 {
		return nil, ErrLineNotOnDevice
	}
	return []Event{DeviceLineDissociated{line, at}}, nil
}

// Configure sets the operator's wishes for this device; unchanged ones are no news.
func (d Device) Configure(spec DeviceSpec) ([]Event, error) {
	if err := d.Live(); err != nil {
		return nil, err
	}
	if slices.Equal(d.Parents, spec.Parents) && d.Description == spec.Description && d.Autocreated == spec.Autocreated &&
		d.Settings.Equal(spec.Settings) {
		return nil, nil
	}
	return []Event{DeviceConfigured{spec}}, nil
}

// Reset brings the device back to the unconfigured state within its tenant.
func (d Device) Reset() ([]Event, error) {
	if err := d.Live(); err != nil {
		return nil, err
	}
	if !d.Assigned() && len(d.Lines) == 0 && len(d.Settings) == 0 && len(d.Parents) == 0 && d.Description == "" {
		return nil, nil
	}
	return []Event{DeviceReset{}}, nil
}

// ReopenMACPath lets the phone fetch by its MAC alone again.
func (d Device) ReopenMACPath() ([]Event, error) {
	if err := d.Live(); err != nil || !d.MACPathClosed {
		return nil, err
	}
	return []Event{DeviceMACPathReopened{}}, nil
}

// Replace ends the device in favour of another.
func (d Device) Replace(by Device, byID DeviceID, mac MAC) ([]Event, error) {
	switch {
	case d.ReplacedBy == byID && byID != "":
		return nil, nil
	case d.Live() != nil:
		return nil, d.Live()
	case byID == d.ID:
		return nil, ErrReplaceSelf
	case by.Exists && (by.Assigned() || by.TenantID != Master && by.TenantID != d.TenantID):
		return nil, ErrReplacementInUse
	}
	return []Event{DeviceReplaced{By: byID, ByMAC: mac}}, nil
}

// TakeOver is what happens to the replacement: it becomes what old was. secret seals its own path.
func (d Device) TakeOver(old Device, settings Settings, secret Secret, hash string) ([]Event, error) {
	if err := d.CanAssign(old.TenantID); err != nil {
		return nil, err
	}
	if d.Assigned() {
		return nil, ErrReplacementInUse
	}
	events := []Event{DeviceAssigned{TenantID: old.TenantID, CategoryID: old.CategoryID, UserID: old.UserID, CodeID: old.CodeID,
		Secret: secret, SecretHash: hash, Replaces: old.ID}}
	if len(old.Parents) > 0 || len(old.Settings) > 0 || old.Description != "" {
		events = append(events, DeviceConfigured{DeviceSpec{Parents: old.Parents, Settings: settings, Description: old.Description}})
	}
	for _, p := range old.Positions() {
		events = append(events, DeviceLineAssociated{old.Lines[p], p})
	}
	return events, nil
}

// Delete ends this life of the device. movedTo is the tenant where the next one begins, empty for none.
// Deleting a deleted device is no news.
func (d Device) Delete(movedTo TenantID) ([]Event, error) {
	switch {
	case !d.Exists:
		return nil, ErrDeviceUnknown
	case d.Deleted:
		return nil, nil
	case movedTo != "" && movedTo == d.TenantID:
		return nil, ErrSameTenant
	}
	return []Event{DeviceDeleted{MovedTo: movedTo}}, nil
}

// Regenerate records new files; no news when plugin, files, warnings and the streams they follow from are as they were.
func (d Device) Regenerate(c DeviceConfigRegenerated) ([]Event, error) {
	if err := d.Live(); err != nil {
		return nil, err
	}
	o := d.Config
	if o.Plugin == c.Plugin && o.PluginVersion == c.PluginVersion && o.Guest == c.Guest && slices.Equal(o.Warnings, c.Warnings) && sameStreams(o.Inputs, c.Inputs) &&
		slices.EqualFunc(o.Files, c.Files, func(a, b GeneratedFile) bool {
			return a.Path == b.Path && a.MAC == b.MAC && a.ContentType == b.ContentType && slices.Equal(a.Aliases, b.Aliases)
		}) {
		return nil, nil
	}
	return []Event{DeviceConfigRegenerated(c)}, nil
}

// sameStreams tells whether files followed from the same streams, at whatever revisions. A stream that has come to count
// is on record even while it changes no byte: a later change of it must find the device. Of jobs the revision counts too: it
// is the one the device registered at, and tells whether what it fetches follows from its jobs.
func sameStreams(a, b []Input) bool {
	return slices.EqualFunc(a, b, func(a, b Input) bool {
		return a.Stream == b.Stream && (a.Revision == b.Revision || a.Stream.Category() != "jobs")
	})
}

// closed tells whether the phone's MAC alone opens nothing once it has come via: it has used the secret path it has, not
// the one that a reset took off.
func (d Device) closed(via string) bool {
	return d.MACPathClosed || via == "secret" && d.SecretHash != ""
}

// Deliver records that the phone has these bytes; once per file content, and guest files not at all. With it
// ends an open sync, whatever the file, once the phone has all it was to fetch. under is the hash of the path secret
// the phone asked with, if it did: what it got below a path that is its own no more says nothing of the new one.
func (d Device) Deliver(e DeviceConfigDelivered, under string) []Event {
	if d.Live() != nil {
		return nil
	}
	var events []Event
	own := e.Via != "secret" || under == d.SecretHash
	if !d.Config.Guest && own && (d.Delivered[e.Path] != e.MAC || !d.MACPathClosed && e.Via == "secret") {
		events = append(events, e)
		d = d.Apply(e)
		events = append(events, d.FetchedJobs()...)
	}
	return append(events, d.fetched(e)...)
}

// DeliverFile records that the phone has a file of its vendor; once per content.
func (d Device) DeliverFile(e DeviceFileDelivered) []Event {
	if d.Live() != nil || d.VendorFiles[e.Path] == e.SHA256 {
		return nil
	}
	return []Event{e}
}

// LineCandidate is a line and the live devices that carry it.
type LineCandidate struct {
	Line    LineID
	Devices []DeviceID
}

// Owner is the tenant the device belongs to; empty before its first event.
func (d Device) Owner() TenantID { return d.TenantID }
