package commands

import (
	"context"

	"ledgerline/domain"
)

// AmendLine describes a line anew, whole, but for its password.
type AmendLine struct {
	ID           domain.LineID       `json:"id" validate:"required,id"`
	Number       string              `json:"number" validate:"max=64,text"`
	DisplayName  string              `json:"display_name" validate:"max=200,text"`
	Username     string              `json:"username" validate:"required,max=128,text"`
	AuthUsername string              `json:"auth_username" validate:"max=128,text"`
	Settings     domain.LineSettings `json:"settings" validate:"-"`
}

// AmendLine errors: ErrInvalid, domain.ErrSettings, domain.ErrLineUnknown, domain.ErrLineRemoved, domain.ErrErased.
func (s *Service) AmendLine(ctx context.Context, in AmendLine) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	settings, err := clean(in.Settings)
	if err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(l domain.Line) ([]domain.Event, error) {
		if err := l.Live(); err != nil {
			return nil, err
		}
		spec, err := s.lineSpec(ctx, in.ID, l, in.Number, in.DisplayName, in.Username, in.AuthUsername, settings)
		if err != nil {
			return nil, err
		}
		return l.Amend(spec)
	})
}
