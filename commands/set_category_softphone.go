package commands

import (
	"context"

	"ledgerline/domain"
)

// SetCategorySoftphone says what the apps of the category's Cloud Softphones are told, whole, over what their cloud ID
// says. A secret node given as "[redacted]" stays as it was.
type SetCategorySoftphone struct {
	ID       domain.CategoryID        `json:"id" validate:"required,id"`
	Document domain.SoftphoneDocument `json:"document" validate:"-"`
}

// SetCategorySoftphone answers warnings about the document: a dial action that it names may be one of a cloud ID. Errors:
// ErrInvalid, *DocumentError, domain.ErrCategoryUnknown, domain.ErrCategoryRetired, domain.ErrErased.
func (s *Service) SetCategorySoftphone(ctx context.Context, in SetCategorySoftphone) (found []domain.SoftphoneFinding, out Outcome, err error) {
	if err := check(in); err != nil {
		return nil, Outcome{}, err
	}
	out, err = decide(ctx, s, in.ID.Stream(), func(c domain.Category) ([]domain.Event, error) {
		if !c.Exists {
			return nil, domain.ErrCategoryUnknown
		}
		before, err := s.softphoneDocument(ctx, c.Softphone)
		if err != nil {
			return nil, err
		}
		var layer domain.SoftphoneLayer
		if layer, found, err = s.softphoneLayer(ctx, domain.Subject(c.TenantID.Stream()), in.Document, before, domain.SoftphoneContext{Open: true}); err != nil {
			return nil, err
		}
		return c.SetSoftphone(layer)
	})
	return found, out, err
}
