package commands

import (
	"context"

	"ledgerline/domain"
)

// RetireCategory closes a category for new devices.
type RetireCategory struct {
	ID domain.CategoryID `json:"id" validate:"required,id"`
}

// RetireCategory errors: ErrInvalid, domain.ErrCategoryUnknown.
func (s *Service) RetireCategory(ctx context.Context, in RetireCategory) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(c domain.Category) ([]domain.Event, error) { return c.Retire() })
}
