package commands

import (
	"context"

	"ledgerline/domain"
)

func (s *Service) userSpec(ctx context.Context, id domain.UserID, name, email string) (spec domain.UserSpec, err error) {
	if spec.DisplayName, err = s.personal(ctx, id.Subject(), name); err != nil {
		return spec, err
	}
	spec.Email, err = s.personal(ctx, id.Subject(), email)
	return spec, err
}
