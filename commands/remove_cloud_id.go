package commands

import (
	"context"

	"ledgerline/domain"
)

// RemoveCloudID gives a cloud ID back. Apps below it keep what they have, and get nothing new.
type RemoveCloudID struct {
	ID domain.CloudID `json:"id" validate:"required,id"`
}

// RemoveCloudID errors: ErrInvalid, domain.ErrCloudIDUnknown.
func (s *Service) RemoveCloudID(ctx context.Context, in RemoveCloudID) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(c domain.Cloud) ([]domain.Event, error) { return c.Remove() })
}
