package commands

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/google/uuid"

	"ledgerline/domain"
)

// Log is the append-only log: the only truth. Implemented by adapters/ledger and adapters/eventstoredb;
// tests/contract holds both to every sentence here. Safe for concurrent use.
type Log interface {
	// Append writes all events to the end of stream, or none. expected is the revision of the stream's
	// last event, or NoStream, Any, StreamExists. It returns the position of the last event written, and
	// returns only after the events are durable. Appending no events succeeds and answers the zero position.
	//
	// Repeating an append with the same ids at the same expected revision answers as the first time did
	// and writes nothing. Errors: domain.ErrConflict, domain.ErrTooBig, domain.ErrOutcomeUnknown (repeat
	// with the same ids and revision to learn), domain.ErrReadOnly. If ctx ends, the events are either
	// written or not; a repeat settles it.
	Append(ctx context.Context, stream domain.StreamID, expected domain.Revision, events []domain.NewEvent) (domain.Position, error)

	// Read yields the events of stream from revision from (inclusive) to its present end. A stream that
	// was never written yields domain.ErrNoStream and stops; a from beyond the end yields nothing.
	// The iteration stops after the first error.
	Read(ctx context.Context, stream domain.StreamID, from domain.Revision) iter.Seq2[domain.Recorded, error]

	// ReadAll yields every event after position after (exclusive; the zero position means from the start)
	// up to the present end of the log, in position order. Streams that begin with "$" are left out.
	ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error]

	// Subscribe is ReadAll that waits for more at the end: history, then live, without a gap at the seam,
	// nothing twice, in position order. It ends with an error only: ctx's own, or the reason of a drop.
	Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error]

	// Head is the position of the last event that ReadAll shows (zero for an empty log).
	Head(ctx context.Context) (domain.Position, error)
}

// ReactorStore keeps what reactions have done, beside the log and as durable as it (D1): it is not
// disposable, for losing it would send every notice again.
type ReactorStore interface {
	// LoadReactor returns the state saved under name; found is false when none was ever saved.
	LoadReactor(ctx context.Context, name string) (state ReactorState, found bool, err error)
	// SaveReactor replaces the state of name, durably.
	SaveReactor(ctx context.Context, name string, state ReactorState) error
	// Park keeps a message that could not be handled. Parking the same name and event again replaces it.
	Park(ctx context.Context, p Parked) error
	// Parked lists what is parked, oldest position first; an empty name lists all.
	Parked(ctx context.Context, name string) ([]Parked, error)
	// Unpark removes one parked message; removing one that is not there is no error.
	Unpark(ctx context.Context, name string, event uuid.UUID) error
}

// ReactorState is how far a reaction has come: everything up to Position is done or parked, and of
// what follows the events named in Done.
type ReactorState struct {
	Position domain.Position   `json:"position"`
	Done     []domain.Position `json:"done,omitempty"`
}

// Parked is a message whose retries are spent. Replay hands the event at Position to its reaction again.
type Parked struct {
	Reaction string          `json:"reaction"`
	EventID  uuid.UUID       `json:"event_id"`
	Position domain.Position `json:"position"`
	Stream   domain.StreamID `json:"stream"`
	Revision domain.Revision `json:"revision"`
	Type     string          `json:"event_type"`
	Key      string          `json:"key"`
	Reason   string          `json:"reason"`   // the last error's text; never holds a secret
	Attempts int             `json:"attempts"` // 0: never tried, held behind an earlier one of its key
	At       time.Time       `json:"at"`
}

// Leases keeps which replica may do what only one at a time should (D8). It is a courtesy that saves work
// done twice, not a lock: a replica that slept through the end of its lease goes on until it notices.
// Implemented by stores that several replicas share.
type Leases interface {
	// LoadLease returns what was last saved under name and its revision; domain.NoStream when nothing was.
	LoadLease(ctx context.Context, name string) (Lease, domain.Revision, error)
	// SaveLease replaces what was saved at revision at, durably. domain.ErrConflict when that is no longer the
	// last; domain.ErrOutcomeUnknown when it may or may not have been saved.
	SaveLease(ctx context.Context, name string, at domain.Revision, l Lease) error
}

// Lease is who holds it. Whoever else has seen the same revision for as long as TTL, by its own clock, may
// take it; an empty Holder has given it back.
type Lease struct {
	Holder string        `json:"holder"`
	TTL    time.Duration `json:"ttl_ns"`
}

// Groups hands events to whichever replica has room, in no order, each at least once (D8). Implemented by
// stores that several replicas share.
type Groups interface {
	// EnsureGroup makes the group unless there is one: over events of these types recorded after a position; the
	// event at that position may come too.
	EnsureGroup(ctx context.Context, name string, types []string, after domain.Position) error
	// Consume calls handle for events of the group, at most lanes at once, until ctx ends or the store drops it;
	// it returns why, when no handle runs any more. What handle answers nil for is done; anything else comes
	// again, here or elsewhere. domain.ErrNoStream when there is no such group.
	Consume(ctx context.Context, name string, lanes int, handle func(context.Context, domain.Recorded) error) error
	// GroupPosition is up to where everything is done, as last noted by the store; zero when it has noted nothing.
	GroupPosition(ctx context.Context, name string) (domain.Position, error)
}

// Vault holds one data key per subject, outside the log, and everything done with it (D2). The keys
// derived from a data key for sealing, fingerprints, hashes and macs are different keys. Safe for
// concurrent use. All methods but Ensure answer domain.ErrErased when the key has been destroyed.
type Vault interface {
	// Ensure makes sure subject has a live data key and returns its id. created tells that this call made
	// it. A destroyed key is not made again: domain.ErrErased.
	Ensure(ctx context.Context, subject domain.Subject) (keyID string, created bool, err error)
	// Seal encrypts clear under subject's key (making one if there is none). aad becomes Sealed.AAD.
	Seal(ctx context.Context, subject domain.Subject, clear, aad string) (domain.Sealed, error)
	// Open decrypts. domain.ErrErased when the key was destroyed, ErrForged when it does not authenticate.
	Open(ctx context.Context, s domain.Sealed) (string, error)
	// Hash is HMAC-SHA-256 of value under a key derived from subject's key for purpose ("fingerprint",
	// "claim", "code", "mac" …); 32 bytes.
	Hash(ctx context.Context, subject domain.Subject, purpose string, value []byte) ([]byte, error)
	// Erase destroys subject's key and forgets every copy in memory. Erasing twice is no error.
	Erase(ctx context.Context, subject domain.Subject) error
}

// ErrForged: sealed content does not authenticate under its key.
var ErrForged = errors.New("sealed content does not authenticate")

// Blobs keeps the bytes of every file ever generated, once, compressed and sealed under the subject's
// key (D4). Safe for concurrent use.
type Blobs interface {
	// Put stores data under (subject, mac); storing it again is no error and writes nothing.
	Put(ctx context.Context, subject domain.Subject, mac string, data []byte) error
	// PutAll is Put for several of one subject at the price of one: all are durable, or none is and an error says why.
	PutAll(ctx context.Context, subject domain.Subject, blobs map[string][]byte) error
	// Get returns what was stored. ErrNoBlob if there is none, domain.ErrErased if its key was destroyed.
	Get(ctx context.Context, subject domain.Subject, mac string) ([]byte, error)
	// Erase removes bytes for good: those stored under the macs, or all of the subject's when none is named.
	// That there were some stays: Get answers domain.ErrErased. Erasing what is not there is no error.
	Erase(ctx context.Context, subject domain.Subject, macs ...string) error
}

// ErrNoBlob: nothing is stored under that subject and mac.
var ErrNoBlob = errors.New("no such blob")

// Renderer turns settings into the files one device may fetch: adapters/plugins. Pure: equal Render
// values give equal bytes, whatever the clock, the environment or the order of maps. Safe for concurrent use.
type Renderer interface {
	// Render returns the files in a fixed order and warnings for wishes the model cannot honour.
	// Errors: ErrNoPlugin, ErrNoModel never (an unknown model renders as the family's default).
	Render(ctx context.Context, r Render) (Rendered, error)
	// SyncMethod is how a plugin's phones of a model are told to fetch again; the zero value when they cannot be. ErrNoPlugin.
	SyncMethod(p PluginRef, model string) (SyncMethod, error)
	// Associate chooses the plugin for a phone by vendor, model and firmware; ok is false when none fits.
	Associate(r Recognition) (plugin PluginRef, ok bool)
}

// ErrNoPlugin: no installed plugin has that name and version.
var ErrNoPlugin = errors.New("no such plugin")

// PluginRef names one installed version of a plugin, e.g. {"yealink", "1.0.0"}.
type PluginRef struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Render is all that a device's files follow from.
type Render struct {
	Plugin PluginRef       // Version empty means the one new devices get
	MAC    domain.MAC      // zero for a device that has none
	Model  string          // as the vendor prints it ("T54W"), empty if unknown
	Fw     string          // firmware version, empty if unknown
	ID     domain.DeviceID // for file names of devices without MAC
	// Settings are merged, validated and opened: secrets are plain text here.
	Settings domain.Settings
	// BaseURL is where this phone fetches its files, with its secret path, ending in "/".
	BaseURL string
	// Guest asks for the autoprovisioning files of a phone nobody has configured yet.
	Guest bool
}

// Rendered is the outcome of a Render.
type Rendered struct {
	Plugin   PluginRef // with the version really used
	Renderer string    // version of the renderer's own code
	TZData   string    // version of the time zone data used
	Files    []File
	Warnings []Warning
}

// File is one generated file.
type File struct {
	// Path is relative to the phone's base, without a leading slash: "001565aabbcc.cfg".
	Path string
	// Aliases are other names a phone may ask the same bytes under.
	Aliases     []string
	ContentType string
	Data        []byte
	// Skeleton is Data with every secret replaced by a fixed placeholder of the same place.
	Skeleton []byte
}

// Warning is a wish that the model cannot honour, and what was done instead.
type Warning struct {
	Setting string `json:"setting"` // "sip_lines.3"
	Model   string `json:"model"`
	Text    string `json:"text"` // "the T19P has 1 line; lines 2 to 9 are left out"
}

// Asked is what a phone shows of itself in one request.
type Asked struct {
	Path      string // below the phone's base, no leading slash
	Query     string
	UserAgent string
	// ClientMAC is the MAC a client certificate proved; zero otherwise.
	ClientMAC domain.MAC
}

// Recognition is what a plugin read from an Asked. Empty fields were not shown.
type Recognition struct {
	Plugin string // the plugin that recognised it
	Vendor string
	Model  string
	Fw     string
	MAC    domain.MAC
	// Serial and UUID are what some phones show beside, or instead of, their MAC.
	Serial string
	UUID   string
	// File is the path as the plugin's file table names it.
	File string
}

// Recognizer reads who is asking: adapters/plugins. Safe for concurrent use.
type Recognizer interface {
	// Recognize returns ok false when no installed plugin knows such a request.
	Recognize(a Asked) (Recognition, bool)
	// RecognizeDHCP reads who asks for an address from the vendor class (option 60).
	RecognizeDHCP(class string, mac domain.MAC) (Recognition, bool)
}

// Candidates selects for commands what no single stream can tell (D14): a view that has caught up to
// at least position at. Each candidate is then decided from its own stream. It is the only way for a
// command to see a view.
type Candidates interface {
	// LinesOfUser lists the user's lines in creation order, removed ones too, each with the devices that carry it.
	LinesOfUser(ctx context.Context, at domain.Position, user domain.UserID) ([]domain.LineCandidate, error)
	// LinesByUsername lists the tenant's live lines with that SIP user name, by id.
	LinesByUsername(ctx context.Context, at domain.Position, tenant domain.TenantID, username string) ([]domain.LineID, error)
	// DevicesOfLine lists the live devices that carry the line.
	DevicesOfLine(ctx context.Context, at domain.Position, line domain.LineID) ([]domain.DeviceID, error)
	// DevicesEverOfLine lists the lives of devices, ended ones too, that carry the line or once did.
	DevicesEverOfLine(ctx context.Context, at domain.Position, line domain.LineID) ([]domain.DeviceID, error)
	// DevicesAwaiting lists the devices assigned to the user that wait for a line.
	DevicesAwaiting(ctx context.Context, at domain.Position, user domain.UserID) ([]domain.DeviceID, error)
	// StaleDevices lists up to limit live devices, ordered by id and after after, whose current files were
	// made from an older revision of stream than rev (a layer, tenant, category, user or line).
	StaleDevices(ctx context.Context, at domain.Position, stream domain.StreamID, rev domain.Revision, after domain.DeviceID, limit int) ([]domain.DeviceID, error)
	// TenantsWaiting lists the tenants with devices of which a paced sync waits.
	TenantsWaiting(ctx context.Context, at domain.Position) ([]domain.TenantID, error)
	// WaitingSyncs lists up to limit devices of the tenant of which a paced sync waits, ordered by id and after after.
	WaitingSyncs(ctx context.Context, at domain.Position, tenant domain.TenantID, after domain.DeviceID, limit int) ([]domain.WaitingSync, error)
	// UsersOf lists up to limit users of the tenant that were not removed, ordered by id and after after.
	UsersOf(ctx context.Context, at domain.Position, tenant domain.TenantID, after domain.UserID, limit int) ([]domain.UserID, error)
	// DueNotices lists up to limit codes whose notices were stored at or before a time and wait still.
	DueNotices(ctx context.Context, at domain.Position, before time.Time, limit int) ([]domain.CodeID, error)
	// DevicesUnderLayer lists the live devices that name the layer as a parent of their own.
	DevicesUnderLayer(ctx context.Context, at domain.Position, layer domain.LayerID) ([]domain.DeviceID, error)
	// LayersOfRole lists the layers that exist and have the role, by id.
	LayersOfRole(ctx context.Context, at domain.Position, role string) ([]domain.LayerID, error)
	// DueCodes lists up to limit live codes whose validity ends at or before now.
	DueCodes(ctx context.Context, at domain.Position, now time.Time, limit int) ([]domain.CodeRef, error)
	// CodeByID finds the stream of a code; ok is false when there is none.
	CodeByID(ctx context.Context, at domain.Position, id domain.CodeID) (ref domain.CodeRef, ok bool, err error)
	// TenantOfJob finds whose job it is; ok is false when there is no such job.
	TenantOfJob(ctx context.Context, at domain.Position, id domain.JobID) (tenant domain.TenantID, ok bool, err error)
	// DevicesOfJob lists up to limit live devices among whose own jobs it is and has failed, ordered by id and after after.
	DevicesOfJob(ctx context.Context, at domain.Position, id domain.JobID, after domain.DeviceID, limit int) ([]domain.DeviceID, error)
	// LiveCodes counts what the key of epoch is needed for: codes that are not dead yet (issued, not expired, revoked or
	// redeemed), those of softphones that can be used after now, and codes whose notice still waits.
	LiveCodes(ctx context.Context, at domain.Position, epoch domain.Subject, now time.Time) (int, error)
	// CodesAlive counts the codes that are not dead yet and not a rollout's: the tenant's, and those of the user (none for "").
	CodesAlive(ctx context.Context, at domain.Position, tenant domain.TenantID, user domain.UserID) (ofTenant, ofUser int, err error)
	// CodesDrawn counts the codes drawn for a Devices server elsewhere that are not dead yet, and that no phone was led by.
	CodesDrawn(ctx context.Context, at domain.Position, server domain.ServerID) (int, error)
	// DevicesOfPlugin lists up to q.Limit live devices that q selects, by id and after q.After.
	DevicesOfPlugin(ctx context.Context, at domain.Position, q domain.PluginDevices) ([]domain.DeviceID, error)
	// Gateways lists the gateways that were not removed, by id.
	Gateways(ctx context.Context, at domain.Position) ([]domain.GatewayID, error)
	// RemoteLines lists up to limit lines that have remote credentials on a gateway, ordered by id and after after.
	RemoteLines(ctx context.Context, at domain.Position, gateway domain.GatewayID, after domain.LineID, limit int) ([]domain.LineID, error)
	// SIPUsersOn lists every SIP user a gateway ever was to hold, or only the pending ones, the longest untouched first.
	SIPUsersOn(ctx context.Context, at domain.Position, gateway domain.GatewayID, pending bool) ([]domain.SIPUserRef, error)
	// ChildrenOf names what still stands under a tenant ("devices", "lines", "users", "categories", "layers") with counts.
	ChildrenOf(ctx context.Context, at domain.Position, tenant domain.TenantID) (map[string]int, error)
}

// Shelf is what the phone plane serves from: the read model of devices and their files. Lookups answer
// from the present state of the view and never wait.
type Shelf interface {
	// ByMAC is the live device that carries the address; of several the latest assigned.
	ByMAC(ctx context.Context, mac domain.MAC) (Shelved, bool, error)
	// BySecret is the live device whose path secret hashes to hash.
	BySecret(ctx context.Context, hash string) (Shelved, bool, error)
	// BySign is the live device with this serial number or, failing that, this UUID; ok is false when there is none,
	// or more than one.
	BySign(ctx context.Context, serial, uuid string) (Shelved, bool, error)
	// TenantByKey is the live tenant whose provisioning key hashes to hash.
	TenantByKey(ctx context.Context, hash string) (domain.TenantID, bool, error)
	// HasMould tells whether a layer has the role autocreate.
	HasMould() bool
	// Stale tells whether a stream among inputs has moved on since.
	Stale(inputs []domain.Input) bool
	// WaitFor returns when the view has caught up with at, or with ctx's error.
	WaitFor(ctx context.Context, at domain.Position) error
}

// Shelved is a device and the files it may fetch.
type Shelved struct {
	Device   domain.DeviceID
	MAC      domain.MAC
	TenantID domain.TenantID
	Model    string
	Fw       string
	Vendor   string
	Plugin   string
	Serial   string
	UUID     string
	// Assigned: the device has, or will have, files of its own; false for one that gets guest files.
	Assigned bool
	// Bare: nobody has said anything of the device yet, and it has no copy of a mould.
	Bare          bool
	MACPathClosed bool
	SecretHash    string
	Guest         bool // Files are guest files
	Files         []domain.GeneratedFile
	Inputs        []domain.Input
	GeneratedAt   time.Time
	// Gateway is the border gateway the phone stands behind, if any.
	Gateway domain.DeviceGatewaySet
	// Revision is of the device's stream; Dirty tells that a fact about the device itself, recorded after
	// the files were made, may change them.
	Revision domain.Revision
	Dirty    bool
	// Syncing: the phone was asked to fetch, and it is to be noted that it does.
	Syncing bool
}

// Sightings notes, volatile and outside the log (D25), which phones were seen when.
type Sightings interface {
	// Seen notes a request; it never blocks and never fails.
	Seen(s Sighting)
}

// Whereabouts tells where phones were seen last, and forgets it: adapters/sightings.
type Whereabouts interface {
	// Where are the latest sightings of the device, newest first; none when it has not been seen lately.
	Where(ctx context.Context, device domain.DeviceID) ([]Sighting, error)
	// At are the latest sightings at an address, newest first, those of strangers among them; at most 100.
	At(ctx context.Context, ip string) ([]Sighting, error)
	// Forget deletes what is kept of a device and of an address, either of them empty for none.
	Forget(ctx context.Context, device domain.DeviceID, mac domain.MAC) error
}

// Sighting is one request of a phone. Device is empty for an unknown identity.
type Sighting struct {
	Device    domain.DeviceID
	MAC       domain.MAC
	IP        string
	UserAgent string
	Transport string
	Path      string // route pattern, never a secret
	At        time.Time
}

// SyncMethod is how a family of phones is told to fetch again.
type SyncMethod struct {
	Method      string `json:"method"` // "sip-notify"
	Event       string `json:"event"`  // the Event header: "check-sync"
	Reboot      string `json:"reboot"` // the Event header that makes the phone restart as well
	ContentType string `json:"content_type,omitempty"`
	Body        string `json:"body,omitempty"`
}

// Notifier tells a phone to fetch its files again: adapters/sipnotify. Safe for concurrent use.
type Notifier interface {
	// Notify tries one way after the other until somebody takes the message, and answers what came of each, the
	// last one deciding. A phone that cannot be reached is an attempt with its outcome; an error is ours (the
	// context ended, no socket), and the call will be repeated. It comes back within 30 seconds.
	Notify(ctx context.Context, n Notification) ([]domain.DeviceSyncOutcome, error)
}

// Notification is a message to one phone.
type Notification struct {
	Device domain.DeviceID
	MAC    domain.MAC
	// Event is the value of the Event header; Body, with its type, is empty for most vendors.
	Event       string
	ContentType string
	Body        string
	// Accounts are the SIP accounts the phone may be registered with, the first to be tried first.
	Accounts []SIPAccount
	// Seen are the addresses the phone last asked from, newest first.
	Seen []string
}

// SIPAccount is where and as whom a phone registers. Ports are 0 for the transport's own.
type SIPAccount struct {
	Username, AuthUsername string
	Password               string
	Transport              string // udp, tcp, tls; empty means udp
	Registrar              string // host
	RegistrarPort          int
	Proxy                  string // outbound proxy, empty for none
	ProxyPort              int
	LocalPort              int // the phone's own SIP port, 0 if unknown
}
