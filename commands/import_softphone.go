package commands

import (
	"context"
	"slices"

	"ledgerline/domain"
)

// ImportSoftphone replaces what one level says with what XML of the vendor says: an account its nodes, BLF and rewriting,
// any other document its quick dials and dial actions. Of CloudID, Category and Softphone exactly one is set. A secret
// node given as "[redacted]" stays as it was.
type ImportSoftphone struct {
	CloudID   domain.CloudID         `json:"cloud_id" validate:"omitempty,id"`
	Category  domain.CategoryID      `json:"category_id" validate:"omitempty,id"`
	Softphone domain.SoftphoneID     `json:"softphone_id" validate:"omitempty,id"`
	XML       domain.SoftphoneImport `json:"-" validate:"-"`
}

// ImportSoftphone answers warnings, with their places in the XML. Errors: ErrInvalid, *DocumentError, domain.ErrErased,
// domain.ErrCloudIDUnknown, domain.ErrCategoryUnknown, domain.ErrCategoryRetired, domain.ErrSoftphoneUnknown, domain.ErrSoftphoneRemoved.
func (s *Service) ImportSoftphone(ctx context.Context, in ImportSoftphone) (found []domain.SoftphoneFinding, out Outcome, err error) {
	if err := check(in); err != nil {
		return nil, Outcome{}, err
	}
	if slices.ContainsFunc(in.XML.Findings, func(f domain.SoftphoneFinding) bool { return f.Error }) {
		return nil, Outcome{}, &DocumentError{in.XML.Findings}
	}
	// onto makes the layer of a level that says before.
	onto := func(subject domain.Subject, before domain.SoftphoneLayer, context domain.SoftphoneContext) (domain.SoftphoneLayer, error) {
		old, err := s.softphoneDocument(ctx, before)
		if err != nil {
			return domain.SoftphoneLayer{}, err
		}
		layer, all, err := s.softphoneLayer(ctx, subject, in.XML.Onto(old), old, context)
		found = in.XML.Locate(all)
		if refused, ok := err.(*DocumentError); ok {
			refused.Findings = found
		}
		return layer, err
	}
	switch {
	case in.CloudID != "" && in.Category == "" && in.Softphone == "":
		out, err = decide(ctx, s, in.CloudID.Stream(), func(c domain.Cloud) ([]domain.Event, error) {
			if !c.Exists {
				return nil, domain.ErrCloudIDUnknown
			}
			spec := c.CloudIDSpec
			var err error
			if spec.SoftphoneLayer, err = onto(domain.Subject(c.TenantID.Stream()), c.SoftphoneLayer, domain.SoftphoneContext{Policy: c.Policy}); err != nil {
				return nil, err
			}
			return c.Amend(spec)
		})
	case in.Category != "" && in.CloudID == "" && in.Softphone == "":
		out, err = decide(ctx, s, in.Category.Stream(), func(c domain.Category) ([]domain.Event, error) {
			if !c.Exists {
				return nil, domain.ErrCategoryUnknown
			}
			layer, err := onto(domain.Subject(c.TenantID.Stream()), c.Softphone, domain.SoftphoneContext{Open: true})
			if err != nil {
				return nil, err
			}
			return c.SetSoftphone(layer)
		})
	case in.Softphone != "" && in.CloudID == "" && in.Category == "":
		out, err = decide(ctx, s, in.Softphone.Stream(), func(p domain.Softphone) ([]domain.Event, error) {
			if err := p.Live(); err != nil {
				return nil, err
			}
			below, err := s.belowSoftphone(ctx, p.CloudID, p.CategoryID)
			if err != nil {
				return nil, err
			}
			spec := p.SoftphoneSpec
			if spec.SoftphoneLayer, err = onto(p.UserID.Subject(), p.SoftphoneLayer, below.context()); err != nil {
				return nil, err
			}
			return p.Amend(spec)
		})
	default:
		return nil, Outcome{}, &InvalidError{"softphone_id", "exactly one of cloud_id, category_id and softphone_id is required"}
	}
	return found, out, err
}
