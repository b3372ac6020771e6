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

// configuredBefore tells whether a device had wishes of its own before the event r; nothing else names layers.
func (s *Service) configuredBefore(ctx context.Context, r domain.Recorded) (bool, error) {
	for past, err := range s.Log.Read(ctx, r.Stream, 0) {
		if err != nil || past.Revision >= r.Revision {
			return false, err
		}
		if past.Type == (domain.DeviceConfigured{}).EventType() {
			return true, nil
		}
	}
	return false, nil
}

// DropTransientLayer may be repeated.
func (s *Service) DropTransientLayer(ctx context.Context, in DropTransientLayer) error {
	if configured, err := s.configuredBefore(ctx, in.After); err != nil || !configured {
		return err // the first wishes of a device leave no layer behind
	}
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
