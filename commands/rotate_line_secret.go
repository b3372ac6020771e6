package commands

import (
	"context"

	"ledgerline/domain"
)

// RotateLineSecret gives a line a new SIP password.
type RotateLineSecret struct {
	ID       domain.LineID `json:"id" validate:"required,id"`
	Password string        `json:"password" validate:"required,max=256,text"`
}

// RotateLineSecret errors: ErrInvalid, domain.ErrLineUnknown, domain.ErrLineRemoved, domain.ErrErased.
func (s *Service) RotateLineSecret(ctx context.Context, in RotateLineSecret) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(l domain.Line) ([]domain.Event, error) {
		if err := l.Live(); err != nil {
			return nil, err
		}
		password, err := s.secret(ctx, in.ID.Subject(), in.Password)
		if err != nil {
			return nil, err
		}
		return l.Rotate(password)
	})
}
