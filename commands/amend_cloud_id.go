package commands

import (
	"context"

	"ledgerline/domain"
)

// AmendCloudID changes what all apps of a cloud ID are told, whole. A secret node given as "[redacted]" stays as it was.
type AmendCloudID struct {
	ID         domain.CloudID           `json:"id" validate:"required,id"`
	Document   domain.SoftphoneDocument `json:"document" validate:"-"`
	FailClosed bool                     `json:"fail_closed"`
	Policy     domain.SoftphonePolicy   `json:"policy" validate:"-"`
}

// AmendCloudID answers warnings about the document. Errors: ErrInvalid, *DocumentError, domain.ErrCloudIDUnknown, domain.ErrErased.
func (s *Service) AmendCloudID(ctx context.Context, in AmendCloudID) (found []domain.SoftphoneFinding, out Outcome, err error) {
	if err := check(in); err != nil {
		return nil, Outcome{}, err
	}
	if field, rule := in.Policy.Check(); field != "" {
		return nil, Outcome{}, &InvalidError{"policy." + field, rule}
	}
	out, err = decide(ctx, s, in.ID.Stream(), func(c domain.Cloud) ([]domain.Event, error) {
		if !c.Exists {
			return nil, domain.ErrCloudIDUnknown
		}
		before, err := s.softphoneDocument(ctx, c.SoftphoneLayer)
		if err != nil {
			return nil, err
		}
		var layer domain.SoftphoneLayer
		if layer, found, err = s.softphoneLayer(ctx, domain.Subject(c.TenantID.Stream()), in.Document, before, domain.SoftphoneContext{Policy: in.Policy}); err != nil {
			return nil, err
		}
		return c.Amend(domain.CloudIDSpec{SoftphoneLayer: layer, FailClosed: in.FailClosed, Policy: in.Policy})
	})
	return found, out, err
}
