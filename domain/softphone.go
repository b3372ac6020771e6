package domain

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"
)

// SoftphoneDefined: a user has a Cloud Softphone: whoever signs in below the cloud ID under the user name gets the
// line. All that is personal or secret of it is sealed under the user's key, so that erasing the user erases it.
type SoftphoneDefined struct {
	SoftphoneID SoftphoneID `json:"softphone_id"`
	TenantID    TenantID    `json:"tenant_id"`
	CloudID     CloudID     `json:"cloud_id"`
	UserID      UserID      `json:"user_id"`
	// Username is what is typed into the app; UsernameHash, a keyed hash of cloud ID and user name, finds the softphone.
	Username     Personal `json:"username"`
	UsernameHash string   `json:"username_hash"`
	SoftphoneSpec
}

// SoftphoneSpec is what can be changed of a softphone.
type SoftphoneSpec struct {
	LineID LineID `json:"line_id"`
	// CategoryID, when set, is whose softphone document lies between that of the cloud ID and this one.
	CategoryID CategoryID `json:"category_id,omitempty"`
	SoftphoneLayer
}

// SoftphoneLayer is what one level (a cloud ID, a user) says about apps. Document is a SoftphoneDocument as JSON, one
// secret as a whole, for it holds names, numbers and passwords. Entries names what of it an app keeps until it is told to
// remove it; from them it is known later what to remove.
type SoftphoneLayer struct {
	Document Secret           `json:"document,omitzero"`
	Entries  []SoftphoneEntry `json:"entries,omitempty"`
}

// SoftphoneEntry is a quick dial or dial action that an app merges by its id.
type SoftphoneEntry struct {
	Kind     string `json:"kind"` // quick_dial, dial_action
	ID       string `json:"id"`
	Priority int    `json:"priority,omitempty"` // absent: the app's own for what comes from here, 20
}

// SoftphoneAmended: the softphone is now as described, whole.
type SoftphoneAmended struct{ SoftphoneSpec }

// SoftphonePasswordSet: the user may sign in with this password. Password is the sealed argon2id hash of it.
type SoftphonePasswordSet struct {
	Password Secret `json:"password"`
}

// SoftphoneCodeIssued: the user may sign in once with this code until then. CodeHash is a keyed hash of softphone and
// digits, under the key of Epoch, which is destroyed when the last code of that day is dead (D19); under the lookup key
// where there is no Epoch. An earlier code that was not used is dead.
type SoftphoneCodeIssued struct {
	CodeHash   string    `json:"code_hash"`
	ValidUntil time.Time `json:"valid_until"`
	Epoch      Subject   `json:"epoch,omitempty"`
}

// SoftphoneSignedIn: an app showed the password or the code and got a token of its own; of a code this is the use.
// InstallHash is a keyed hash of what the app calls its installation; empty when it did not tell. A sign-in of the same
// installation before is over.
type SoftphoneSignedIn struct {
	InstallID   string    `json:"install_id"`
	InstallHash string    `json:"install_hash,omitempty"`
	TokenHash   string    `json:"token_hash"`
	Via         string    `json:"via"`                // password, code
	Editable    bool      `json:"editable,omitempty"` // by the portal's editable version of the cloud ID
	At          time.Time `json:"at"`
}

// SoftphoneSignedOut: the token of the installation is worth nothing any more; the app is told so for good.
type SoftphoneSignedOut struct {
	InstallID string `json:"install_id"`
	Cause     string `json:"cause"` // revoked, displaced (by a newer one, beyond MaxInstalls)
}

// SoftphoneServed: an app was told something it had not been told before, or not last. It is recorded before the answer
// leaves, and only when Digest differs from what the app was told last: so an app holds what stands here, or less.
type SoftphoneServed struct {
	// InstallID is the sign-in the answer was for; absent for a call made before there was one. InstallHash as of
	// SoftphoneSignedIn.
	InstallID   string `json:"install_id,omitempty"`
	InstallHash string `json:"install_hash,omitempty"`
	Service     string `json:"service"` // account, global
	// Digest is a keyed hash of what was told, but for the app's token; Inputs are what it followed from.
	Digest string  `json:"digest"`
	Inputs []Input `json:"inputs"`
	// Entries are the quick dials and dial actions told; Removed those the app was told to remove.
	Entries []SoftphoneEntry `json:"entries,omitempty"`
	Removed []SoftphoneEntry `json:"removed,omitempty"`
	At      time.Time        `json:"at"`
}

// SoftphonePushTokenReported: an app told by what push tokens its phone is woken; it tells so at every start, and it is
// recorded when they are not those it told last. Tokens is a SoftphonePush as JSON, sealed under the user's key.
type SoftphonePushTokenReported struct {
	InstallID string    `json:"install_id"`
	Tokens    Secret    `json:"tokens"`
	At        time.Time `json:"at"`
}

// SoftphonePush are the push tokens of an app, in the vendor's terms. One of the tokens at least is not empty.
type SoftphonePush struct {
	Selector     string `json:"selector,omitempty"`      // names the account within the app
	IncomingCall string `json:"incoming_call,omitempty"` // the token by which calls are announced
	Other        string `json:"other,omitempty"`         // the token for everything else
	// AppIncomingCall and AppOther are the apps the tokens are for, as the makers' push services know them.
	AppIncomingCall string `json:"app_incoming_call,omitempty"`
	AppOther        string `json:"app_other,omitempty"`
}

// SoftphoneDenied: wrong passwords or codes were shown for the user Count times in the hour that began at Hour (D27).
type SoftphoneDenied struct {
	Hour  time.Time `json:"hour"`
	Count int       `json:"count"`
}

// SoftphoneRemoved: nobody signs in under the user name any more, and all apps are signed out.
type SoftphoneRemoved struct{}

func (SoftphoneDefined) EventType() string           { return "softphone.defined" }
func (SoftphoneAmended) EventType() string           { return "softphone.amended" }
func (SoftphonePasswordSet) EventType() string       { return "softphone.password_set" }
func (SoftphoneCodeIssued) EventType() string        { return "softphone.code_issued" }
func (SoftphoneSignedIn) EventType() string          { return "softphone.signed_in" }
func (SoftphoneSignedOut) EventType() string         { return "softphone.signed_out" }
func (SoftphoneServed) EventType() string            { return "softphone.served" }
func (SoftphonePushTokenReported) EventType() string { return "softphone.push_token_reported" }
func (SoftphoneDenied) EventType() string            { return "softphone.denied" }
func (SoftphoneRemoved) EventType() string           { return "softphone.removed" }

var softphoneEvents = []entry{of[SoftphoneDefined](), of[SoftphoneAmended](), of[SoftphonePasswordSet](), of[SoftphoneCodeIssued](),
	of[SoftphoneSignedIn](), of[SoftphoneSignedOut](), of[SoftphoneServed](), of[SoftphonePushTokenReported](), of[SoftphoneDenied](), of[SoftphoneRemoved]()}

// MaxInstalls is how many apps one user may be signed in with; one more signs the oldest out. Of those signed out the
// latest goneInstalls are remembered, to be told so.
const (
	MaxInstalls  = 20
	goneInstalls = 100
)

// SoftphoneCodeTTL is how long a sign-in code can be used.
const SoftphoneCodeTTL = 24 * time.Hour

// SoftphoneInstall is one app that has signed in.
type SoftphoneInstall struct {
	SoftphoneSignedIn
	Out string `json:"out,omitempty"` // why its token is dead; empty while it lives
	// Push is what the app reported last; zero when it never did, and when it is signed out.
	Push SoftphonePushTokenReported `json:"push,omitzero"`
}

// Softphone is what a softphone stream adds up to.
type Softphone struct {
	SoftphoneDefined
	// Ever is all that was ever published here, in the order it came: apps are told to remove what is not there any more.
	Ever     []SoftphoneEntry
	Password Secret
	Code     SoftphoneCodeIssued
	// CodeUse is the sign-in that used the code up; zero while it can be used.
	CodeUse  SoftphoneSignedIn
	Installs []SoftphoneInstall // in the order they came
	Served   []SoftphoneHolding `json:"-"` // what apps were told, in the order they first were; no view needs it
	Exists   bool
	Removed  bool
}

// SoftphoneHolding is what one app was told. Install is what it is known by: the keyed hash of what it calls itself, else
// the id of its sign-in, else empty, for all that cannot be told apart.
type SoftphoneHolding struct {
	Install string
	Digests map[string]string // what it was told last, by service
	Entries []SoftphoneHeld
}

// SoftphoneHeld is an entry that an app may hold, with the highest priority it was ever told with.
type SoftphoneHeld struct {
	SoftphoneEntry
	Gone time.Time // since when it is told to remove it; zero while it is told to hold it
}

// TombstoneDays is for how long an app is told to remove what it was told before: an answer that was sent may not have
// been taken, and a backup may bring old entries back.
const TombstoneDays = 30

// maxHoldings bounds how many apps of a softphone are remembered; those told first are forgotten first.
const maxHoldings = MaxInstalls + goneInstalls

// Stream is where the softphone's facts stand.
func (id SoftphoneID) Stream() StreamID { return Stream("softphone", string(id)) }

// Apply returns the softphone after e.
func (p Softphone) Apply(e Event) Softphone {
	switch e := e.(type) {
	case SoftphoneDefined:
		p.SoftphoneDefined, p.Ever, p.Exists, p.Removed = e, ever(nil, e.Entries), true, false
	case SoftphoneAmended:
		p.SoftphoneSpec, p.Ever = e.SoftphoneSpec, ever(p.Ever, e.Entries)
	case SoftphonePasswordSet:
		p.Password = e.Password
	case SoftphoneCodeIssued:
		p.Code, p.CodeUse = e, SoftphoneSignedIn{}
	case SoftphoneSignedIn:
		p.Installs = p.signedIn(e)
		if e.Via == "code" {
			p.CodeUse = e
		}
	case SoftphoneServed:
		p.Served = p.served(e)
	case SoftphonePushTokenReported:
		if i := p.live(e.InstallID); i >= 0 {
			p.Installs = slices.Clone(p.Installs)
			p.Installs[i].Push = e
		}
	case SoftphoneSignedOut:
		p.Installs = p.out(e.Cause, func(i SoftphoneInstall) bool { return i.InstallID == e.InstallID })
	case SoftphoneRemoved:
		p.Installs, p.Removed = p.out("removed", func(SoftphoneInstall) bool { return true }), true
	}
	return p
}

// out is the installs with those that are over marked so; of the dead the latest are kept.
func (p Softphone) out(cause string, over func(SoftphoneInstall) bool) []SoftphoneInstall {
	installs := slices.Clone(p.Installs)
	dead := 0
	for i := len(installs) - 1; i >= 0; i-- {
		if installs[i].Out == "" && over(installs[i]) {
			installs[i].Out, installs[i].Push = cause, SoftphonePushTokenReported{}
		}
		if installs[i].Out != "" {
			if dead++; dead > goneInstalls {
				installs = slices.Delete(installs, i, i+1)
			}
		}
	}
	return installs
}

func (p Softphone) signedIn(e SoftphoneSignedIn) []SoftphoneInstall {
	before := p.out("displaced", func(i SoftphoneInstall) bool { return e.InstallHash != "" && i.InstallHash == e.InstallHash })
	return append(slices.Clip(before), SoftphoneInstall{SoftphoneSignedIn: e})
}

// live is where the installation stands among Installs, if it is signed in; else negative.
func (p Softphone) live(install string) int {
	return slices.IndexFunc(p.Installs, func(i SoftphoneInstall) bool { return i.InstallID == install && i.Out == "" })
}

// ReportPush records by what push tokens an app is woken; the same as before is no news.
func (p Softphone) ReportPush(e SoftphonePushTokenReported) ([]Event, error) {
	i := p.live(e.InstallID)
	switch {
	case p.Live() != nil || i < 0:
		return nil, ErrSoftphoneSignedOut
	case !p.Installs[i].Push.Tokens.IsZero() && p.Installs[i].Push.Tokens.Same(e.Tokens.Sealed):
		return nil, nil
	}
	return []Event{e}, nil
}

// app is what an app is known by in Served.
func app(installID, installHash string) string { return cmp.Or(installHash, installID) }

// Holding is what the app was told so far; the zero SoftphoneHolding when nothing was.
func (p Softphone) Holding(installID, installHash string) SoftphoneHolding {
	return p.holding(app(installID, installHash))
}

func (p Softphone) holding(install string) SoftphoneHolding {
	i := slices.IndexFunc(p.Served, func(h SoftphoneHolding) bool { return h.Install == install })
	if i < 0 {
		return SoftphoneHolding{}
	}
	return p.Served[i]
}

// Held are the entries the app may hold at now, so that it has to be told of those that are gone; what it was told before
// it could be told apart counts too.
func (p Softphone) Held(installID, installHash string, now time.Time) []SoftphoneEntry {
	var out []SoftphoneEntry
	names := []string{app(installID, installHash)}
	if names[0] != "" {
		names = append(names, "")
	}
	for _, name := range names {
		for _, e := range p.holding(name).Entries {
			if !e.over(now) {
				out = append(out, e.SoftphoneEntry)
			}
		}
	}
	return ever(nil, out)
}

// HeldUntil is when what Held answers changes by itself, because an app has been told for long enough to remove something;
// zero for never.
func (p Softphone) HeldUntil(installID, installHash string, now time.Time) (until time.Time) {
	for _, name := range []string{app(installID, installHash), ""} {
		for _, e := range p.holding(name).Entries {
			if end := e.Gone.AddDate(0, 0, TombstoneDays); !e.Gone.IsZero() && !e.over(now) && (until.IsZero() || end.Before(until)) {
				until = end
			}
		}
	}
	return until
}

func (e SoftphoneHeld) over(now time.Time) bool {
	return !e.Gone.IsZero() && !now.Before(e.Gone.AddDate(0, 0, TombstoneDays))
}

// served is Served with what e says.
func (p Softphone) served(e SoftphoneServed) []SoftphoneHolding {
	name := app(e.InstallID, e.InstallHash)
	out := slices.Clone(p.Served)
	i := slices.IndexFunc(out, func(h SoftphoneHolding) bool { return h.Install == name })
	if i < 0 {
		if len(out) >= maxHoldings {
			out = out[1:]
		}
		out = append(out, SoftphoneHolding{Install: name})
		i = len(out) - 1
	}
	h := out[i]
	h.Digests = maps.Clone(h.Digests)
	if h.Digests == nil {
		h.Digests = make(map[string]string)
	}
	h.Digests[e.Service] = e.Digest
	if e.Service == ServiceGlobal {
		h.Entries = held(h.Entries, e)
	}
	out[i] = h
	return out
}

// held is what an app may hold after it was told e.
func held(before []SoftphoneHeld, e SoftphoneServed) []SoftphoneHeld {
	var out []SoftphoneHeld
	at := make(map[SoftphoneEntry]int)
	add := func(h SoftphoneHeld) {
		key := SoftphoneEntry{Kind: h.Kind, ID: h.ID}
		if i, ok := at[key]; ok {
			out[i].Priority, out[i].Gone = higher(out[i].Priority, h.Priority), h.Gone
			return
		}
		at[key] = len(out)
		out = append(out, h)
	}
	present := make(map[SoftphoneEntry]bool)
	for _, n := range e.Entries {
		present[SoftphoneEntry{Kind: n.Kind, ID: n.ID}] = true
	}
	for _, h := range before {
		if h.Gone.IsZero() && !present[SoftphoneEntry{Kind: h.Kind, ID: h.ID}] {
			h.Gone = e.At
		}
		if !h.over(e.At) {
			add(h)
		}
	}
	for _, n := range e.Entries {
		add(SoftphoneHeld{SoftphoneEntry: n})
	}
	for _, n := range e.Removed {
		if _, known := at[SoftphoneEntry{Kind: n.Kind, ID: n.ID}]; !known {
			add(SoftphoneHeld{n, e.At})
		}
	}
	return out
}

// Serve records that an app is told e; what it was told last already is no news.
func (p Softphone) Serve(e SoftphoneServed) ([]Event, error) {
	if err := p.Live(); err != nil || p.Holding(e.InstallID, e.InstallHash).Digests[e.Service] == e.Digest {
		return nil, err
	}
	return []Event{e}, nil
}

// Services of SoftphoneServed.
const (
	ServiceAccount = "account"
	ServiceGlobal  = "global"
)

// ever is everything published so far, each with the highest priority it had, which is what it takes to remove it; of what
// is more than an app can have had, the oldest is forgotten.
func ever(known, now []SoftphoneEntry) []SoftphoneEntry {
	const most = 1000
	out := slices.Clone(known)
	for _, e := range now {
		i := slices.IndexFunc(out, func(k SoftphoneEntry) bool { return k.Kind == e.Kind && k.ID == e.ID })
		if i < 0 {
			out = append(out, e)
		} else {
			out[i].Priority = higher(out[i].Priority, e.Priority)
		}
	}
	return out[max(0, len(out)-most):]
}

// higher is the higher of two priorities; 0 stands for UsualPriority.
func higher(a, b int) int {
	if cmp.Or(b, UsualPriority) > cmp.Or(a, UsualPriority) {
		return b
	}
	return a
}

var (
	ErrSoftphoneUnknown   = errors.New("no such softphone")
	ErrSoftphoneExists    = errors.New("softphone exists already")
	ErrSoftphoneRemoved   = errors.New("softphone was removed")
	ErrSoftphoneNameTaken = errors.New("user name belongs to another softphone of this cloud ID")
	// ErrSoftphoneRefused is what an app is told for an unknown user, a wrong password and a dead code alike.
	ErrSoftphoneRefused = errors.New("user name or password not accepted")
	// ErrSoftphoneSignedOut: the app's token was good once and is dead for good.
	ErrSoftphoneSignedOut = errors.New("signed out")
	ErrInstallUnknown     = errors.New("no such installation")
)

// Live is nil for a softphone that can be used.
func (p Softphone) Live() error {
	switch {
	case !p.Exists:
		return ErrSoftphoneUnknown
	case p.Removed:
		return ErrSoftphoneRemoved
	}
	return nil
}

// Define makes the softphone.
func (p Softphone) Define(e SoftphoneDefined) ([]Event, error) {
	if p.Exists {
		return nil, ErrSoftphoneExists
	}
	return []Event{e}, nil
}

// Amend changes the softphone; an unchanged description is no news.
func (p Softphone) Amend(spec SoftphoneSpec) ([]Event, error) {
	if err := p.Live(); err != nil || p.LineID == spec.LineID && p.CategoryID == spec.CategoryID && p.Same(spec.SoftphoneLayer) {
		return nil, err
	}
	return []Event{SoftphoneAmended{spec}}, nil
}

// Same tells whether both say the same.
func (l SoftphoneLayer) Same(m SoftphoneLayer) bool {
	return l.Document.Same(m.Document.Sealed) && slices.Equal(l.Entries, m.Entries)
}

// SetPassword replaces the password. Apps that are signed in stay so: they have tokens.
func (p Softphone) SetPassword(hash Secret) ([]Event, error) {
	if err := p.Live(); err != nil {
		return nil, err
	}
	return []Event{SoftphonePasswordSet{hash}}, nil
}

// IssueCode lets the user sign in with a code, once.
func (p Softphone) IssueCode(issued SoftphoneCodeIssued) ([]Event, error) {
	if err := p.Live(); err != nil {
		return nil, err
	}
	return []Event{issued}, nil
}

// OpenCode is the epoch of the code that was not used yet, and until when it can be; empty when there is none.
func (p Softphone) OpenCode() (epoch Subject, until time.Time) {
	if p.Live() != nil || p.CodeUse.InstallID != "" {
		return "", time.Time{}
	}
	return p.Code.Epoch, p.Code.ValidUntil
}

// CodeGood tells whether the code can be used at now, or has just been used, within RepeatWindow, by this very
// installation: an app makes two calls to sign in, and repeats one whose answer it did not get.
func (p Softphone) CodeGood(installHash string, now time.Time) bool {
	if used := p.CodeUse; used.InstallID != "" {
		return used.InstallHash == installHash && installHash != "" && now.Before(used.At.Add(RepeatWindow))
	}
	return p.Code.CodeHash != "" && now.Before(p.Code.ValidUntil)
}

// SignIn records that an app has shown what e.Via names. Beyond MaxInstalls the oldest is signed out.
func (p Softphone) SignIn(e SoftphoneSignedIn) ([]Event, error) {
	if p.Live() != nil || e.Via == "code" && !p.CodeGood(e.InstallHash, e.At) {
		return nil, ErrSoftphoneRefused
	}
	events := []Event{e}
	var live []string
	for _, i := range p.signedIn(e) {
		if i.Out == "" {
			live = append(live, i.InstallID)
		}
	}
	for _, id := range live[:max(0, len(live)-MaxInstalls)] {
		events = append(events, SoftphoneSignedOut{id, "displaced"})
	}
	return events, nil
}

// Token is the installation a token's hash belongs to: ErrSoftphoneSignedOut when it is dead, ErrSoftphoneRefused when
// it never was one. Equal tells, in constant time, whether two hashes are equal.
func (p Softphone) Token(hash string, equal func(a, b string) bool) (SoftphoneInstall, error) {
	found, ok := SoftphoneInstall{}, false
	for _, i := range p.Installs {
		if equal(i.TokenHash, hash) {
			found, ok = i, true
		}
	}
	switch {
	case !ok:
		return found, ErrSoftphoneRefused
	case found.Out != "":
		return found, ErrSoftphoneSignedOut
	}
	return found, nil
}

// SignOut ends the sign-in of one installation, or of all with an empty id. One that is over is no news.
func (p Softphone) SignOut(install string) ([]Event, error) {
	if !p.Exists {
		return nil, ErrSoftphoneUnknown
	}
	var events []Event
	known := install == ""
	for _, i := range p.Installs {
		if install != "" && i.InstallID != install {
			continue
		}
		if known = true; i.Out == "" {
			events = append(events, SoftphoneSignedOut{i.InstallID, "revoked"})
		}
	}
	if !known {
		return nil, ErrInstallUnknown
	}
	return events, nil
}

// Remove ends the softphone. Removing again is no news.
func (p Softphone) Remove() ([]Event, error) {
	if !p.Exists {
		return nil, ErrSoftphoneUnknown
	}
	if p.Removed {
		return nil, nil
	}
	return []Event{SoftphoneRemoved{}}, nil
}

// Owner is the tenant the softphone belongs to; empty before its first event.
func (p Softphone) Owner() TenantID { return p.TenantID }

// CloudIDDefined: the tenant's apps are those of this cloud ID. Its document is sealed under the tenant's key.
type CloudIDDefined struct {
	CloudID  CloudID  `json:"cloud_id"`
	TenantID TenantID `json:"tenant_id"`
	// Spelling is how the vendor's portal writes the cloud ID, for what goes there or to an app that asks there; absent: as CloudID.
	Spelling string `json:"spelling,omitempty"`
	CloudIDSpec
}

// CloudIDSpec is what can be changed of a cloud ID.
type CloudIDSpec struct {
	SoftphoneLayer
	// FailClosed: while quick dials and dial actions cannot be told, a sign-in fails, instead of going on without them.
	FailClosed bool            `json:"fail_closed,omitempty"`
	Policy     SoftphonePolicy `json:"policy,omitzero"`
}

// CloudIDAmended: what all apps of the cloud ID are told is now this, whole.
type CloudIDAmended struct{ CloudIDSpec }

// CloudIDRemoved: nobody signs in below the cloud ID any more. It can be defined again, by any tenant.
type CloudIDRemoved struct{}

func (CloudIDDefined) EventType() string { return "cloudid.defined" }
func (CloudIDAmended) EventType() string { return "cloudid.amended" }
func (CloudIDRemoved) EventType() string { return "cloudid.removed" }

var cloudIDEvents = []entry{of[CloudIDDefined](), of[CloudIDAmended](), of[CloudIDRemoved]()}

// Cloud is what a cloud ID's stream adds up to.
type Cloud struct {
	CloudIDDefined
	Ever   []SoftphoneEntry // as of a Softphone, since the tenant has it
	Exists bool
}

// Stream is where the cloud ID's facts stand.
func (id CloudID) Stream() StreamID { return Stream("cloudid", string(id)) }

// Apply returns the cloud ID after e.
func (c Cloud) Apply(e Event) Cloud {
	switch e := e.(type) {
	case CloudIDDefined:
		if c.TenantID != e.TenantID {
			c.Ever = nil
		}
		c.CloudIDDefined, c.Ever, c.Exists = e, ever(c.Ever, e.Entries), true
	case CloudIDAmended:
		c.CloudIDSpec, c.Ever = e.CloudIDSpec, ever(c.Ever, e.Entries)
	case CloudIDRemoved:
		c.Exists, c.CloudIDSpec = false, CloudIDSpec{}
	}
	return c
}

var (
	ErrCloudIDUnknown = errors.New("no such cloud ID")
	ErrCloudIDExists  = errors.New("cloud ID is taken")
	// ErrCloudIDForeign: the cloud ID is another tenant's.
	ErrCloudIDForeign = errors.New("cloud ID belongs to another tenant")
)

// Spelled is the cloud ID as the vendor's portal writes it.
func (c Cloud) Spelled() string { return cmp.Or(c.Spelling, string(c.CloudID)) }

// Of is nil when the cloud ID is in use by tenant.
func (c Cloud) Of(tenant TenantID) error {
	switch {
	case !c.Exists:
		return ErrCloudIDUnknown
	case c.TenantID != tenant:
		return ErrCloudIDForeign
	}
	return nil
}

// Define takes the cloud ID, spelled so on the portal, for a tenant.
func (c Cloud) Define(spelling string, id CloudID, tenant TenantID, spec CloudIDSpec) ([]Event, error) {
	if c.Exists {
		return nil, ErrCloudIDExists
	}
	if spelling == string(id) {
		spelling = ""
	}
	return []Event{CloudIDDefined{id, tenant, spelling, spec}}, nil
}

// Amend changes what apps are told; an unchanged description is no news.
func (c Cloud) Amend(spec CloudIDSpec) ([]Event, error) {
	switch {
	case !c.Exists:
		return nil, ErrCloudIDUnknown
	case c.Same(spec.SoftphoneLayer) && c.FailClosed == spec.FailClosed && c.Policy.Equal(spec.Policy):
		return nil, nil
	}
	return []Event{CloudIDAmended{spec}}, nil
}

// Remove gives the cloud ID back.
func (c Cloud) Remove() ([]Event, error) {
	if !c.Exists {
		return nil, ErrCloudIDUnknown
	}
	return []Event{CloudIDRemoved{}}, nil
}

// Owner is the tenant the cloud ID belongs to; empty before its first event.
func (c Cloud) Owner() TenantID { return c.TenantID }

// EntriesOf names what of a document apps keep until told otherwise, by kind and id.
func (d SoftphoneDocument) EntriesOf() []SoftphoneEntry {
	set := make(map[SoftphoneEntry]int)
	for _, q := range d.QuickDials {
		if !q.Remove {
			set[SoftphoneEntry{Kind: QuickDialKind, ID: q.ID}] = q.Priority
		}
	}
	for _, a := range d.DialActions {
		if !a.Remove {
			set[SoftphoneEntry{Kind: DialActionKind, ID: a.ID}] = a.Priority
		}
	}
	keys := slices.SortedFunc(maps.Keys(set), func(a, b SoftphoneEntry) int {
		if a.Kind != b.Kind {
			if a.Kind > b.Kind {
				return -1 // quick dials first
			}
			return 1
		}
		return cmp.Compare(a.ID, b.ID)
	})
	for i, k := range keys {
		keys[i].Priority = set[k]
	}
	return keys
}
