package domain

import (
	"errors"
	"slices"
)

// LayerDefined: a named bundle of settings exists. Ids are unique per instance; a layer of the master
// tenant can be a parent for all.
type LayerDefined struct {
	LayerID  LayerID  `json:"layer_id"`
	TenantID TenantID `json:"tenant_id"`
	LayerSpec
}

// LayerSpec is what can be changed of a layer.
type LayerSpec struct {
	Name string `json:"name,omitempty"`
	// Parents are merged first, in order, a later one over an earlier one.
	Parents  []LayerID `json:"parents,omitempty"`
	Settings Settings  `json:"settings"`
	// Bulk holds the settings instead, as one secret, where there are too many secrets to seal each alone
	// (SettingsBulk): a DECT system with a thousand lines.
	Bulk Secret `json:"bulk,omitzero"`
	// Role is what the server itself uses the layer for: RoleAutocreate, or empty. Other roles of a wazo-provd
	// config are kept.
	Role string `json:"role,omitempty"`
	// Transient: the layer goes when the last device leaves it.
	Transient bool `json:"transient,omitempty"`
	// Undeletable: the layer cannot be removed until this is amended.
	Undeletable bool `json:"undeletable,omitempty"`
	// Extra is a JSON object of further keys of a wazo-provd config, kept for who put them there.
	Extra Secret `json:"extra,omitzero"`
}

// RoleAutocreate is the role of the mould of which every new phone gets a copy.
const RoleAutocreate = "autocreate"

// Same tells whether both describe the same layer.
func (s LayerSpec) Same(t LayerSpec) bool {
	return s.Name == t.Name && slices.Equal(s.Parents, t.Parents) && s.Settings.Equal(t.Settings) && s.Bulk.Same(t.Bulk.Sealed) &&
		s.Role == t.Role && s.Transient == t.Transient && s.Undeletable == t.Undeletable && s.Extra.Same(t.Extra.Sealed)
}

// LayerAmended: the layer is now as described, whole.
type LayerAmended struct{ LayerSpec }

// LayerRemoved: the layer is gone; whoever names it as a parent goes on without it.
type LayerRemoved struct{}

func (LayerDefined) EventType() string { return "layer.defined" }
func (LayerAmended) EventType() string { return "layer.amended" }
func (LayerRemoved) EventType() string { return "layer.removed" }

var layerEvents = []entry{of[LayerDefined](), of[LayerAmended](), of[LayerRemoved]()}

// Layer is what a layer stream adds up to. A removed layer can be defined again.
type Layer struct {
	ID       LayerID
	TenantID TenantID
	LayerSpec
	Exists bool
}

// Stream is where the layer's facts stand.
func (id LayerID) Stream() StreamID { return Stream("layer", string(id)) }

// Subject is the owner of the layer's data key.
func (id LayerID) Subject() Subject { return Subject(id.Stream()) }

// Apply returns the layer after e.
func (l Layer) Apply(e Event) Layer {
	switch e := e.(type) {
	case LayerDefined:
		l.ID, l.TenantID, l.LayerSpec, l.Exists = e.LayerID, e.TenantID, e.LayerSpec, true
	case LayerAmended:
		l.LayerSpec = e.LayerSpec
	case LayerRemoved:
		l.Exists, l.LayerSpec = false, LayerSpec{}
	}
	return l
}

var (
	ErrLayerUnknown       = errors.New("no such layer")
	ErrLayerExists        = errors.New("layer exists already")
	ErrLayerOfOtherTenant = errors.New("layer belongs to another tenant")
	ErrLayerCycle         = errors.New("layer would be its own ancestor")
	ErrLayerUndeletable   = errors.New("layer is marked as not to be removed")
	ErrLayerParent        = errors.New("parent layer does not exist or belongs to another tenant")
)

// Define makes the layer. The ancestry is checked by the command, which can read other streams.
func (l Layer) Define(id LayerID, tenant TenantID, spec LayerSpec) ([]Event, error) {
	switch {
	case l.Exists:
		return nil, ErrLayerExists
	case l.ID != "" && l.TenantID != tenant:
		return nil, ErrLayerOfOtherTenant
	}
	return []Event{LayerDefined{id, tenant, spec}}, nil
}

// Amend changes the layer; an unchanged description is no news.
func (l Layer) Amend(spec LayerSpec) ([]Event, error) {
	if !l.Exists {
		return nil, ErrLayerUnknown
	}
	if l.LayerSpec.Same(spec) {
		return nil, nil
	}
	return []Event{LayerAmended{spec}}, nil
}

// Remove ends the layer. Removing one that is not there is ErrLayerUnknown.
func (l Layer) Remove() ([]Event, error) {
	switch {
	case !l.Exists:
		return nil, ErrLayerUnknown
	case l.Undeletable:
		return nil, ErrLayerUndeletable
	}
	return []Event{LayerRemoved{}}, nil
}

// Owner is the tenant the layer belongs to; empty before its first event.
func (l Layer) Owner() TenantID { return l.TenantID }
