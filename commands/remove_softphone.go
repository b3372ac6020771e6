package commands

import (
	"context"

	"ledgerline/domain"
)

// RemoveSoftphone ends a softphone and signs its apps out; its user name is free again.
type RemoveSoftphone struct {
	ID domain.SoftphoneID `json:"id" validate:"required,id"`
}

// RemoveSoftphone errors: ErrInvalid, domain.ErrSoftphoneUnknown.
func (s *Service) RemoveSoftphone(ctx context.Context, in RemoveSoftphone) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	hash := ""
	out, err := decide(ctx, s, in.ID.Stream(), func(p domain.Softphone) ([]domain.Event, error) {
		hash = p.UsernameHash
		return p.Remove()
	})
	if err != nil {
		return out, err
	}
	return out, s.release(ctx, claimSoftphone, hash, in.ID.Stream())
}
