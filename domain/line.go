package domain

import (
	"encoding/json"
	"errors"
	"strings"
)

// LineDefined: a user has a SIP account. Where the account is used is recorded at the devices only.
type LineDefined struct {
	LineID   LineID   `json:"line_id"`
	TenantID TenantID `json:"tenant_id"`
	UserID   UserID   `json:"user_id,omitempty"`
	LineSpec
	// Password is the SIP password, sealed under the line's key.
	Password Secret `json:"password"`
}

// LineSpec is what can be changed of a line without touching its password.
type LineSpec struct {
	Number       Personal     `json:"number,omitzero"`       // directory number
	DisplayName  Personal     `json:"display_name,omitzero"` // empty: the user's
	Username     string       `json:"username"`
	AuthUsername string       `json:"auth_username,omitempty"` // empty: Username
	Settings     LineSettings `json:"settings,omitempty"`
}

// LineSettings are further keys of one sip_lines entry (registrar_ip, transport, label …), with the schema
// of such an entry.
type LineSettings map[string]any

// AsFirst is a Settings with these as its first line; nil for none.
func (l LineSettings) AsFirst() Settings { return l.whole() }

// whole is AsFirst.
func (l LineSettings) whole() Settings {
	if len(l) == 0 {
		return nil
	}
	return Settings{"sip_lines": map[string]any{"1": map[string]any(l)}}
}

// lineOf is the first line of a Settings; nil when it has none.
func lineOf(s Settings) LineSettings {
	entry, _ := s.Get("sip_lines.1").(map[string]any)
	if len(entry) == 0 {
		return nil
	}
	return entry
}

// Clean is Settings.Clean for a line.
func (l LineSettings) Clean() (LineSettings, error) {
	s, err := l.whole().Clean()
	return lineOf(s), err
}

// MapSecrets is Settings.MapSecrets for a line; pointers begin at the line.
func (l LineSettings) MapSecrets(fn func(pointer string, v any) (any, error)) (LineSettings, error) {
	s, err := l.whole().MapSecrets(fromLine(fn))
	return lineOf(s), err
}

// MapPersonal is Settings.MapPersonal for a line; pointers begin at the line.
func (l LineSettings) MapPersonal(fn func(pointer string, v any) (any, error)) (LineSettings, error) {
	s, err := l.whole().MapPersonal(fromLine(fn))
	return lineOf(s), err
}

func fromLine(fn func(string, any) (any, error)) func(string, any) (any, error) {
	return func(pointer string, v any) (any, error) { return fn(strings.TrimPrefix(pointer, "/sip_lines/1"), v) }
}

// Get is Settings.Get for a line.
func (l LineSettings) Get(path string) any { return Settings(l).Get(path) }

// Redacted is Settings.Redacted for a line.
func (l LineSettings) Redacted() LineSettings { return lineOf(l.whole().Redacted()) }

// Equal is Settings.Equal for lines.
func (l LineSettings) Equal(m LineSettings) bool { return Settings(l).Equal(Settings(m)) }

// MarshalJSON writes sealed values as Settings does.
func (l LineSettings) MarshalJSON() ([]byte, error) { return json.Marshal(Settings(l)) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (l *LineSettings) UnmarshalJSON(b []byte) error { return (*Settings)(l).UnmarshalJSON(b) }

// LineAmended: the line is now as described, whole, but for its password.
type LineAmended struct{ LineSpec }

// LineSecretRotated: the line has a new SIP password.
type LineSecretRotated struct {
	Password Secret `json:"password"`
}

// LineProvisioningExtensionSet: whoever dials this number from a phone that nobody has configured gets the line on
// that phone. Hash finds the line within its tenant, Extension is the sealed copy that can be shown again. Both
// empty: the number was taken away.
type LineProvisioningExtensionSet struct {
	Extension     Secret `json:"extension,omitzero"`
	ExtensionHash string `json:"extension_hash,omitempty"`
}

// LineRemoved: the account is gone; devices that carried it are regenerated without it.
type LineRemoved struct{}

func (LineDefined) EventType() string                  { return "line.defined" }
func (LineAmended) EventType() string                  { return "line.amended" }
func (LineSecretRotated) EventType() string            { return "line.secret_rotated" }
func (LineRemoved) EventType() string                  { return "line.removed" }
func (LineProvisioningExtensionSet) EventType() string { return "line.provisioning_extension_set" }

var lineEvents = []entry{of[LineDefined](), of[LineAmended](), of[LineSecretRotated](), of[LineRemoved](), of[LineProvisioningExtensionSet](),
	of[LineRemoteAuthorizationSet](), of[LineRemoteAuthorizationCleared]()}

// Line is what a line stream adds up to.
type Line struct {
	ID       LineID
	TenantID TenantID
	UserID   UserID
	LineSpec
	Password Secret
	// Extension is the number to dial on a new phone, ExtensionHash finds it; empty for none.
	Extension     Secret
	ExtensionHash string
	// Remote is the line's account on a border gateway; zero GatewayID for none. Gateways are all it has been on, in order.
	Remote   LineRemote
	Gateways []GatewayID
	Exists   bool
	Removed  bool
}

// Stream is where the line's facts stand.
func (id LineID) Stream() StreamID { return Stream("line", string(id)) }

// Subject is the owner of the line's data key.
func (id LineID) Subject() Subject { return Subject(id.Stream()) }

// Apply returns the line after e.
func (l Line) Apply(e Event) Line {
	switch e := e.(type) {
	case LineDefined:
		l.ID, l.TenantID, l.UserID, l.LineSpec, l.Password, l.Exists, l.Removed = e.LineID, e.TenantID, e.UserID, e.LineSpec, e.Password, true, false
	case LineAmended:
		l.LineSpec = e.LineSpec
	case LineSecretRotated:
		l.Password = e.Password
	case LineProvisioningExtensionSet:
		l.Extension, l.ExtensionHash = e.Extension, e.ExtensionHash
	case LineRemoteAuthorizationSet:
		l.Remote, l.Gateways = e.LineRemote, withGateway(l.Gateways, e.GatewayID)
	case LineRemoteAuthorizationCleared:
		l.Remote = LineRemote{}
	case LineRemoved:
		l.Removed = true
	}
	return l
}

var (
	ErrLineUnknown = errors.New("no such line")
	ErrLineExists  = errors.New("line exists already")
	ErrLineRemoved = errors.New("line was removed")
	// ErrExtensionTaken: another line of the tenant has this number to dial.
	ErrExtensionTaken = errors.New("provisioning extension belongs to another line")
)

// Live is nil for a line that can be used.
func (l Line) Live() error {
	switch {
	case !l.Exists:
		return ErrLineUnknown
	case l.Removed:
		return ErrLineRemoved
	}
	return nil
}

// Define makes the line.
func (l Line) Define(id LineID, tenant TenantID, user UserID, spec LineSpec, password Secret) ([]Event, error) {
	if l.Exists {
		return nil, ErrLineExists
	}
	return []Event{LineDefined{id, tenant, user, spec, password}}, nil
}

// Amend changes the line; an unchanged description is no news.
func (l Line) Amend(spec LineSpec) ([]Event, error) {
	if err := l.Live(); err != nil {
		return nil, err
	}
	if l.Username == spec.Username && l.AuthUsername == spec.AuthUsername && l.Number.Same(spec.Number.Sealed) &&
		l.DisplayName.Same(spec.DisplayName.Sealed) && l.Settings.Equal(spec.Settings) {
		return nil, nil
	}
	return []Event{LineAmended{spec}}, nil
}

// Rotate replaces the password; the same password again is no news.
func (l Line) Rotate(password Secret) ([]Event, error) {
	if err := l.Live(); err != nil || l.Password.Same(password.Sealed) {
		return nil, err
	}
	return []Event{LineSecretRotated{password}}, nil
}

// SetExtension replaces the number to dial on a new phone; a zero one takes it away.
func (l Line) SetExtension(extension Secret, hash string) ([]Event, error) {
	if err := l.Live(); err != nil || l.ExtensionHash == hash {
		return nil, err
	}
	return []Event{LineProvisioningExtensionSet{extension, hash}}, nil
}

// Remove ends the line. Removing again is no news.
func (l Line) Remove() ([]Event, error) {
	if !l.Exists {
		return nil, ErrLineUnknown
	}
	if l.Removed {
		return nil, nil
	}
	return []Event{LineRemoved{}}, nil
}

// Owner is the tenant the line belongs to; empty before its first event.
func (l Line) Owner() TenantID { return l.TenantID }
