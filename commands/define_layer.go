package commands

import (
	"context"

	"ledgerline/domain"
)

// DefineLayer makes a named bundle of settings. ID is chosen by the caller or made; parents must exist
// and belong to the tenant or to the master tenant.
type DefineLayer struct {
	ID       domain.LayerID   `json:"id" validate:"omitempty,id"`
	TenantID domain.TenantID  `json:"tenant_id" validate:"required,id"`
	Name     string           `json:"name" validate:"max=200,text"`
	Parents  []domain.LayerID `json:"parents" validate:"max=100,unique,dive,id"`
	Settings domain.Settings  `json:"settings" validate:"-"`
	LayerExtra
}

// LayerExtra is what only the wazo-provd face says of a layer. The zero value says nothing: an amendment
// leaves it as it is.
type LayerExtra struct {
	// Lenient takes parents as they are named, whether or not they exist (wazo's rule); what a device may not use
	// is left out when its settings are merged.
	Lenient     bool   `json:"-"`
	Role        string `json:"-" validate:"max=64,text"`
	Transient   bool   `json:"-"`
	Undeletable bool   `json:"-"`
	// Extra is a JSON object.
	Extra string `json:"-"`
}

// DefineLayer answers the layer's id. Errors: ErrInvalid, domain.ErrSettings, domain.ErrTenantUnknown, domain.ErrTenantDeleted,
// domain.ErrLayerExists, domain.ErrLayerOfOtherTenant, domain.ErrLayerParent, domain.ErrLayerCycle.
func (s *Service) DefineLayer(ctx context.Context, in DefineLayer) (domain.LayerID, Outcome, error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	settings, err := clean(in.Settings)
	if err != nil {
		return "", Outcome{}, err
	}
	if err := s.liveTenant(ctx, in.TenantID); err != nil {
		return "", Outcome{}, err
	}
	if in.ID == "" {
		in.ID = domain.LayerID(newID())
	}
	if (in.ID == domain.BaseLayer && in.TenantID != domain.Master) || (isTenantLayer(in.ID) && in.ID != domain.TenantLayer(in.TenantID)) {
		return "", Outcome{}, domain.ErrLayerOfOtherTenant
	}
	if !in.Lenient {
		if err := s.checkParents(ctx, in.ID, in.TenantID, in.Parents); err != nil {
			return "", Outcome{}, err
		}
	}
	out, err := decide(ctx, s, in.ID.Stream(), func(l domain.Layer) ([]domain.Event, error) {
		if l.Exists {
			return nil, domain.ErrLayerExists
		}
		spec, err := s.layerSpec(ctx, in.ID, domain.LayerSpec{Name: in.Name, Parents: in.Parents, Settings: settings}, domain.LayerSpec{}, in.LayerExtra)
		if err != nil {
			return nil, err
		}
		return l.Define(in.ID, in.TenantID, spec)
	})
	return in.ID, out, err
}
