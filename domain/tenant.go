package domain

import (
	"errors"
	"strings"
)

// TenantCreated: a tenant exists. Domain is its name towards the outside ("example.com"), unique while
// the tenant lives; the master tenant has none.
type TenantCreated struct {
	TenantID TenantID `json:"tenant_id"`
	Name     string   `json:"name"`
	Domain   string   `json:"domain,omitempty"`
}

// TenantRenamed: the tenant is shown under another name.
type TenantRenamed struct {
	Name string `json:"name"`
}

// TenantProvisioningKeySet: phones may fetch below /t/<key>/. KeyHash finds the tenant, Key is the
// sealed copy that can be printed again. Both empty: the key was taken away.
type TenantProvisioningKeySet struct {
	Key     Secret `json:"key,omitzero"`
	KeyHash string `json:"key_hash,omitempty"`
}

// TenantResyncsStopped: so many phones in a row could not be told to fetch after a change, or were told and did not,
// that no more are told until somebody has looked. The last of them is named.
type TenantResyncsStopped struct {
	Failures int      `json:"failures"`
	DeviceID DeviceID `json:"device_id"`
}

// TenantResyncsResumed: somebody has looked, and phones are told again.
type TenantResyncsResumed struct{}

// TenantDeleted: nothing stood below the tenant any more, and it is gone.
type TenantDeleted struct{}

func (TenantCreated) EventType() string            { return "tenant.created" }
func (TenantRenamed) EventType() string            { return "tenant.renamed" }
func (TenantProvisioningKeySet) EventType() string { return "tenant.provisioning_key_set" }
func (TenantResyncsStopped) EventType() string     { return "tenant.resyncs_stopped" }
func (TenantResyncsResumed) EventType() string     { return "tenant.resyncs_resumed" }
func (TenantDeleted) EventType() string            { return "tenant.deleted" }

var tenantEvents = []entry{of[TenantCreated](), of[TenantRenamed](), of[TenantProvisioningKeySet](), of[TenantDeleted](),
	of[TenantResyncsStopped](), of[TenantResyncsResumed]()}

// Tenant is what a tenant stream adds up to. The settings of a tenant are those of the layer
// TenantLayer(id), if it is defined.
type Tenant struct {
	ID      TenantID
	Name    string
	Domain  string
	Key     Secret
	KeyHash string
	// UsersKey is the password innovaphone Users of the domain logs in with; zero for none. UsersDomain is the domain name
	// that goes with the master tenant's.
	UsersKey    Secret
	UsersDomain string
	// Stopped: phones are not told of changes by themselves until somebody resumes it.
	Stopped bool
	Exists  bool
	Deleted bool
}

// BaseLayer holds the settings below everything else, for all tenants; it belongs to the master tenant.
const BaseLayer LayerID = "base"

// TenantLayer is the id of the layer with a tenant's own settings.
func TenantLayer(t TenantID) LayerID { return LayerID("tenant." + string(t)) }

// Stream is where the tenant's facts stand.
func (id TenantID) Stream() StreamID { return Stream("tenant", string(id)) }

// Apply returns the tenant after e.
func (t Tenant) Apply(e Event) Tenant {
	switch e := e.(type) {
	case TenantCreated:
		t.ID, t.Name, t.Domain, t.Exists, t.Deleted = e.TenantID, e.Name, e.Domain, true, false
	case TenantRenamed:
		t.Name = e.Name
	case TenantProvisioningKeySet:
		t.Key, t.KeyHash = e.Key, e.KeyHash
	case TenantUsersKeySet:
		t.UsersKey, t.UsersDomain = e.Key, e.Domain
	case TenantResyncsStopped:
		t.Stopped = true
	case TenantResyncsResumed:
		t.Stopped = false
	case TenantDeleted:
		t.Deleted = true
	}
	return t
}

var (
	ErrTenantUnknown  = errors.New("no such tenant")
	ErrTenantExists   = errors.New("tenant exists already")
	ErrTenantDeleted  = errors.New("tenant is deleted")
	ErrMasterTenant   = errors.New("the master tenant cannot be deleted")
	ErrTenantOccupied = errors.New("tenant is not empty")
	ErrDomainTaken    = errors.New("domain name belongs to another tenant")
	ErrKeyTaken       = errors.New("provisioning key belongs to another tenant")
	ErrBadKey         = errors.New("provisioning key must be 8 to 256 characters, each a-z, A-Z, 0-9 or one of - . $ ~")
)

// Live is nil for a tenant that things can be done with.
func (t Tenant) Live() error {
	switch {
	case !t.Exists:
		return ErrTenantUnknown
	case t.Deleted:
		return ErrTenantDeleted
	}
	return nil
}

// Create makes the tenant. Creating it again with the same name and domain is no news.
func (t Tenant) Create(id TenantID, name, domainName string) ([]Event, error) {
	switch {
	case t.Deleted:
		return nil, ErrTenantDeleted
	case t.Exists && t.Name == name && t.Domain == domainName:
		return nil, nil
	case t.Exists:
		return nil, ErrTenantExists
	}
	return []Event{TenantCreated{TenantID: id, Name: name, Domain: domainName}}, nil
}

// Rename shows the tenant under another name.
func (t Tenant) Rename(name string) ([]Event, error) {
	if err := t.Live(); err != nil || t.Name == name {
		return nil, err
	}
	return []Event{TenantRenamed{Name: name}}, nil
}

// SetKey replaces the provisioning key; a zero key takes it away.
func (t Tenant) SetKey(key Secret, hash string) ([]Event, error) {
	if err := t.Live(); err != nil || t.KeyHash == hash {
		return nil, err
	}
	return []Event{TenantProvisioningKeySet{Key: key, KeyHash: hash}}, nil
}

// StopResyncs keeps further phones from being told of changes. Stopping again is no news.
func (t Tenant) StopResyncs(failures int, last DeviceID) ([]Event, error) {
	if err := t.Live(); err != nil || t.Stopped {
		return nil, err
	}
	return []Event{TenantResyncsStopped{failures, last}}, nil
}

// ResumeResyncs lets phones be told of changes again; no news when they are.
func (t Tenant) ResumeResyncs() ([]Event, error) {
	if err := t.Live(); err != nil || !t.Stopped {
		return nil, err
	}
	return []Event{TenantResyncsResumed{}}, nil
}

// Delete ends the tenant; what stands below it is checked by the command.
func (t Tenant) Delete() ([]Event, error) {
	if err := t.Live(); err != nil {
		return nil, err
	}
	if t.ID == Master {
		return nil, ErrMasterTenant
	}
	return []Event{TenantDeleted{}}, nil
}

// CheckProvisioningKey tells whether key can stand in a URL path as a tenant's key.
func CheckProvisioningKey(key string) error {
	if len(key) < 8 || len(key) > 256 {
		return ErrBadKey
	}
	for _, c := range []byte(key) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-$~.", c) >= 0) {
			return ErrBadKey
		}
	}
	return nil
}

// Owner is the tenant the tenant belongs to; empty before its first event.
func (t Tenant) Owner() TenantID { return t.ID }
