package commands

import (
	"context"

	"ledgerline/domain"
)

// DefineCategory makes a category of a tenant, or changes the one that has the ID. An empty ID makes a new one.
type DefineCategory struct {
	ID       domain.CategoryID `json:"id" validate:"omitempty,id"`
	TenantID domain.TenantID   `json:"tenant_id" validate:"required,id"`
	Name     string            `json:"name" validate:"required,max=200,text"`
	Kind     string            `json:"kind" validate:"required,oneof=provisioning plain"`
	Plugin   string            `json:"plugin" validate:"omitempty,id"`
	Models   []string          `json:"models" validate:"max=500,dive,max=64,text"`
	LayerID  domain.LayerID    `json:"layer_id" validate:"omitempty,id"`
	PhoneApp string            `json:"phone_app" validate:"max=200,text"`
}

// DefineCategory answers the category's id. Errors: ErrInvalid, domain.ErrTenantUnknown, domain.ErrTenantDeleted,
// domain.ErrCategoryOfOtherTenant, domain.ErrCategoryRetired, domain.ErrLayerUnknown, domain.ErrLayerOfOtherTenant.
func (s *Service) DefineCategory(ctx context.Context, in DefineCategory) (domain.CategoryID, Outcome, error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	if err := s.liveTenant(ctx, in.TenantID); err != nil {
		return "", Outcome{}, err
	}
	if in.LayerID != "" {
		if err := s.usableLayer(ctx, in.LayerID, in.TenantID); err != nil {
			return "", Outcome{}, err
		}
	}
	if in.ID == "" {
		in.ID = domain.CategoryID(newID())
	}
	spec := domain.CategorySpec{Name: in.Name, Kind: in.Kind, Plugin: in.Plugin, Models: in.Models, LayerID: in.LayerID, PhoneApp: in.PhoneApp}
	out, err := decide(ctx, s, in.ID.Stream(), func(c domain.Category) ([]domain.Event, error) {
		return c.Define(in.ID, in.TenantID, spec)
	})
	return in.ID, out, err
}
