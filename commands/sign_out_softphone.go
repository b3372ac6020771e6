package commands

import (
	"context"

	"ledgerline/domain"
)

// SignOutSoftphone signs one app of a user out, or all of them with an empty InstallID.
type SignOutSoftphone struct {
	ID        domain.SoftphoneID `json:"id" validate:"required,id"`
	InstallID string             `json:"install_id" validate:"omitempty,id"`
}

// SignOutSoftphone errors: ErrInvalid, domain.ErrSoftphoneUnknown, domain.ErrInstallUnknown.
func (s *Service) SignOutSoftphone(ctx context.Context, in SignOutSoftphone) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(p domain.Softphone) ([]domain.Event, error) { return p.SignOut(in.InstallID) })
}
