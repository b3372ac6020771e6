package commands

import (
	"context"
	"errors"
	"slices"

	"ledgerline/domain"
)

// DropTransientLayer removes the transient layers that a device left with the event After, unless another
// device is still below them.
type DropTransientLayer struct {
	After domain.Recorded // of a device's stream
}

// DropTransientLayer may be repeated.
func (s *Service) DropTransientLayer(ctx context.Context, in DropTransientLayer) error {
	before, now, err := s.around(ctx, in.After)
	if err != nil {
		return err
	}
	for _, id := range before.Parents {
		if now.Live() == nil && slices.Contains(now.Parents, id) {
			continue
		}
		l, _, err := load[domain.Layer](ctx, s.Log, id.Stream())
		if err != nil {
			return err
		}
		if !l.Exists || !l.Transient {
			continue
		}
		others, err := s.Candidates.DevicesUnderLayer(ctx, in.After.Position, id)
		if err != nil {
			return err
		}
		if len(others) > 0 {
			continue
		}
		_, err = decide(ctx, s, id.Stream(), func(l domain.Layer) ([]domain.Event, error) {
			if !l.Transient {
				return nil, nil
			}
			return l.Remove()
		})
		if err != nil && !errors.Is(err, domain.ErrLayerUnknown) && !errors.Is(err, domain.ErrLayerUndeletable) {
			return err
		}
	}
	return nil
}
