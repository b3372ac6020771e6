package domain

import (
	"errors"
	"slices"
)

// CategoryDefined: a tenant has a category of devices.
type CategoryDefined struct {
	CategoryID CategoryID `json:"category_id"`
	TenantID   TenantID   `json:"tenant_id"`
	CategorySpec
}

// CategorySpec is what can be changed of a category.
type CategorySpec struct {
	Name string `json:"name"`
	// Kind is "provisioning" (codes may lead here) or "plain".
	Kind string `json:"kind"`
	// Plugin, when set, is the only plugin whose devices may enter; Models likewise the only models.
	Plugin string   `json:"plugin,omitempty"`
	Models []string `json:"models,omitempty"`
	// LayerID holds the settings of all devices of the category; empty for none.
	LayerID LayerID `json:"layer_id,omitempty"`
	// PhoneApp names the app of a user's phone that is told about new devices (innovaphone).
	PhoneApp string `json:"phone_app,omitempty"`
}

// CategoryAmended: the category is now as described, whole.
type CategoryAmended struct{ CategorySpec }

// CategoryRetired: no code can lead here any more; devices that are here stay.
type CategoryRetired struct{}

// CategorySoftphoneSet: what the apps of the category's Cloud Softphones are told is now this, whole, between what their
// cloud ID and what the softphone itself says. Its document is sealed under the tenant's key.
type CategorySoftphoneSet struct{ SoftphoneLayer }

func (CategoryDefined) EventType() string      { return "category.defined" }
func (CategoryAmended) EventType() string      { return "category.amended" }
func (CategoryRetired) EventType() string      { return "category.retired" }
func (CategorySoftphoneSet) EventType() string { return "category.softphone_set" }

var categoryEvents = []entry{of[CategoryDefined](), of[CategoryAmended](), of[CategoryRetired](), of[CategorySoftphoneSet]()}

// Provisioning is the kind of category that codes and tokens may lead to.
const Provisioning = "provisioning"

// Category is what a category stream adds up to.
type Category struct {
	ID       CategoryID
	TenantID TenantID
	CategorySpec
	// Softphone is what its Cloud Softphones are told; SoftphoneEver as Ever of a Softphone.
	Softphone     SoftphoneLayer
	SoftphoneEver []SoftphoneEntry
	Exists        bool
	Retired       bool
}

// Stream is where the category's facts stand.
func (id CategoryID) Stream() StreamID { return Stream("category", string(id)) }

// Apply returns the category after e.
func (c Category) Apply(e Event) Category {
	switch e := e.(type) {
	case CategoryDefined:
		c.ID, c.TenantID, c.CategorySpec, c.Exists = e.CategoryID, e.TenantID, e.CategorySpec, true
	case CategoryAmended:
		c.CategorySpec = e.CategorySpec
	case CategorySoftphoneSet:
		c.Softphone, c.SoftphoneEver = e.SoftphoneLayer, ever(c.SoftphoneEver, e.Entries)
	case CategoryRetired:
		c.Retired = true
	}
	return c
}

var (
	ErrCategoryUnknown       = errors.New("no such category")
	ErrCategoryRetired       = errors.New("category is retired")
	ErrCategoryOfOtherTenant = errors.New("category belongs to another tenant")
	ErrNotProvisioning       = errors.New("category is not a provisioning category")
	ErrModelNotAllowed       = errors.New("category does not take this model")
)

// Define makes the category or changes it; an unchanged description is no news.
func (c Category) Define(id CategoryID, tenant TenantID, spec CategorySpec) ([]Event, error) {
	switch {
	case !c.Exists:
		return []Event{CategoryDefined{id, tenant, spec}}, nil
	case c.TenantID != tenant:
		return nil, ErrCategoryOfOtherTenant
	case c.Retired:
		return nil, ErrCategoryRetired
	case c.equal(spec):
		return nil, nil
	}
	return []Event{CategoryAmended{spec}}, nil
}

func (c Category) equal(s CategorySpec) bool {
	return c.Name == s.Name && c.Kind == s.Kind && c.Plugin == s.Plugin && c.LayerID == s.LayerID && c.PhoneApp == s.PhoneApp && slices.Equal(c.Models, s.Models)
}

// SetSoftphone changes what the apps of its Cloud Softphones are told; what is unchanged is no news.
func (c Category) SetSoftphone(layer SoftphoneLayer) ([]Event, error) {
	switch {
	case !c.Exists:
		return nil, ErrCategoryUnknown
	case c.Retired:
		return nil, ErrCategoryRetired
	case c.Softphone.Same(layer):
		return nil, nil
	}
	return []Event{CategorySoftphoneSet{layer}}, nil
}

// Retire closes the category for new devices.
func (c Category) Retire() ([]Event, error) {
	if !c.Exists {
		return nil, ErrCategoryUnknown
	}
	if c.Retired {
		return nil, nil
	}
	return []Event{CategoryRetired{}}, nil
}

// Takes is nil when a device of that plugin and model may enter for tenant. An unknown model (empty)
// passes: the phone has not told yet.
func (c Category) Takes(tenant TenantID, plugin, model string) error {
	switch {
	case !c.Exists:
		return ErrCategoryUnknown
	case c.TenantID != tenant:
		return ErrCategoryOfOtherTenant
	case c.Retired:
		return ErrCategoryRetired
	case c.Plugin != "" && plugin != "" && c.Plugin != plugin:
		return ErrModelNotAllowed
	case len(c.Models) > 0 && model != "" && !slices.Contains(c.Models, model):
		return ErrModelNotAllowed
	}
	return nil
}

// Owner is the tenant the category belongs to; empty before its first event.
func (c Category) Owner() TenantID { return c.TenantID }
