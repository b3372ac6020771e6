package commands

import (
	"context"

	"ledgerline/domain"
)

// RemoveLayer ends a layer; whoever names it as a parent goes on without it.
type RemoveLayer struct {
	ID domain.LayerID `json:"id" validate:"required,id"`
}

// RemoveLayer errors: ErrInvalid, domain.ErrLayerUnknown.
func (s *Service) RemoveLayer(ctx context.Context, in RemoveLayer) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(l domain.Layer) ([]domain.Event, error) { return l.Remove() })
}
