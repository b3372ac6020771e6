package commands

import (
	"context"
	"fmt"

	"ledgerline/domain"
)

// DestroyKey destroys a subject's key and records it.
type DestroyKey struct {
	Subject domain.Subject
}

// DestroyKey first destroys, then records: repeating it after a crash between the two is harmless. With a device's
// key goes what is kept of where it was seen.
func (s *Service) DestroyKey(ctx context.Context, in DestroyKey) (Outcome, error) {
	if err := s.Vault.Erase(ctx, in.Subject); err != nil {
		return Outcome{}, fmt.Errorf("erase %s: %w", in.Subject, err)
	}
	if stream := in.Subject.Stream(); stream.Category() == "device" && s.Whereabouts != nil {
		d, _, err := load[domain.Device](ctx, s.Log, stream)
		if err != nil {
			return Outcome{}, err
		}
		if err := s.Whereabouts.Forget(ctx, domain.DeviceID(stream.ID()), d.MAC); err != nil {
			return Outcome{}, fmt.Errorf("forget where %s was seen: %w", stream, err)
		}
	}
	return decide(ctx, s, in.Subject.Stream(), func(k domain.Keyed) ([]domain.Event, error) {
		if k.Destroyed[in.Subject] {
			return nil, nil
		}
		return []domain.Event{domain.KeyDestroyed{Subject: in.Subject}}, nil
	})
}
