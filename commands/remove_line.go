package commands

import (
	"context"

	"ledgerline/domain"
)

// RemoveLine ends a line; the devices that carry it lose it.
type RemoveLine struct {
	ID domain.LineID `json:"id" validate:"required,id"`
}

// RemoveLine errors: ErrInvalid, domain.ErrLineUnknown.
func (s *Service) RemoveLine(ctx context.Context, in RemoveLine) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(l domain.Line) ([]domain.Event, error) { return l.Remove() })
}
