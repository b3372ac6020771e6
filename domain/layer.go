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
	if l.Name == spec.Name && slices.Equal(l.Parents, spec.Parents) && l.Settings.Equal(spec.Settings) {
		return nil, nil
	}
	return []Event{LayerAmended{spec}}, nil
}

// Remove ends the layer. Removing one that is not there is ErrLayerUnknown.
func (l Layer) Remove() ([]Event, error) {
	if !l.Exists {
		return nil, ErrLayerUnknown
	}
	return []Event{LayerRemoved{}}, nil
}

// Owner is the tenant the layer belongs to; empty before its first event.
func (l Layer) Owner() TenantID { return l.TenantID }
