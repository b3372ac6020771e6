package commands

import (
	"context"
	"strings"

	"ledgerline/domain"
)

// DefineCloudID takes a cloud ID of Cloud Softphone for a tenant, with what all apps below it are told.
type DefineCloudID struct {
	ID         string                   `json:"id" validate:"required,max=64,text"`
	TenantID   domain.TenantID          `json:"tenant_id" validate:"required,id"`
	Document   domain.SoftphoneDocument `json:"document" validate:"-"`
	FailClosed bool                     `json:"fail_closed"`
	Policy     domain.SoftphonePolicy   `json:"policy" validate:"-"`
}

// DefineCloudID answers the id as it is known from now on, in lower case, and warnings about the document. Errors:
// ErrInvalid, *DocumentError, domain.ErrTenantUnknown, domain.ErrTenantDeleted, domain.ErrCloudIDExists.
func (s *Service) DefineCloudID(ctx context.Context, in DefineCloudID) (domain.CloudID, []domain.SoftphoneFinding, Outcome, error) {
	if err := check(in); err != nil {
		return "", nil, Outcome{}, err
	}
	id, editable, ok := domain.ParseCloudID(in.ID)
	if !ok || editable {
		return "", nil, Outcome{}, &InvalidError{"id", cloudIDRule}
	}
	if field, rule := in.Policy.Check(); field != "" {
		return "", nil, Outcome{}, &InvalidError{"policy." + field, rule}
	}
	if err := s.liveTenant(ctx, in.TenantID); err != nil {
		return "", nil, Outcome{}, err
	}
	layer, found, err := s.softphoneLayer(ctx, domain.Subject(in.TenantID.Stream()), in.Document, domain.SoftphoneDocument{}, domain.SoftphoneContext{Policy: in.Policy})
	if err != nil {
		return "", found, Outcome{}, err
	}
	out, err := decide(ctx, s, id.Stream(), func(c domain.Cloud) ([]domain.Event, error) {
		return c.Define(strings.TrimSpace(in.ID), id, in.TenantID, domain.CloudIDSpec{SoftphoneLayer: layer, FailClosed: in.FailClosed, Policy: in.Policy})
	})
	return id, found, out, err
}
