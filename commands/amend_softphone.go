package commands

import (
	"context"

	"ledgerline/domain"
)

// AmendSoftphone describes a softphone anew, whole. A secret node given as "[redacted]" stays as it was.
type AmendSoftphone struct {
	ID       domain.SoftphoneID       `json:"id" validate:"required,id"`
	LineID   domain.LineID            `json:"line_id" validate:"required,id"`
	Category domain.CategoryID        `json:"category_id" validate:"omitempty,id"`
	Document domain.SoftphoneDocument `json:"document" validate:"-"`
}

// AmendSoftphone answers warnings about the document. Errors: ErrInvalid, *DocumentError, domain.ErrSoftphoneUnknown,
// domain.ErrSoftphoneRemoved, domain.ErrLineUnknown, domain.ErrLineRemoved, domain.ErrLineOfOtherTenant, those of
// domain.Category.Takes for a new category, domain.ErrErased.
func (s *Service) AmendSoftphone(ctx context.Context, in AmendSoftphone) (found []domain.SoftphoneFinding, out Outcome, err error) {
	if err := check(in); err != nil {
		return nil, Outcome{}, err
	}
	out, err = decide(ctx, s, in.ID.Stream(), func(p domain.Softphone) ([]domain.Event, error) {
		if err := p.Live(); err != nil {
			return nil, err
		}
		if _, err := s.userOfSoftphone(ctx, p.TenantID, in.LineID, p.UserID); err != nil {
			return nil, err
		}
		if in.Category != p.CategoryID {
			if err := s.usableSoftphoneCategory(ctx, p.TenantID, in.Category); err != nil {
				return nil, err
			}
		}
		below, err := s.belowSoftphone(ctx, p.CloudID, in.Category)
		if err != nil {
			return nil, err
		}
		before, err := s.softphoneDocument(ctx, p.SoftphoneLayer)
		if err != nil {
			return nil, err
		}
		var layer domain.SoftphoneLayer
		if layer, found, err = s.softphoneLayer(ctx, p.UserID.Subject(), in.Document, before, below.context()); err != nil {
			return nil, err
		}
		return p.Amend(domain.SoftphoneSpec{LineID: in.LineID, CategoryID: in.Category, SoftphoneLayer: layer})
	})
	return found, out, err
}
