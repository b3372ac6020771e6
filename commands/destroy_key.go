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

// DestroyKey first destroys, then records: repeating it after a crash between the two is harmless.
func (s *Service) DestroyKey(ctx context.Context, in DestroyKey) (Outcome, error) {
	if err := s.Vault.Erase(ctx, in.Subject); err != nil {
		return Outcome{}, fmt.Errorf("erase %s: %w", in.Subject, err)
	}
	return decide(ctx, s, in.Subject.Stream(), func(k domain.Keyed) ([]domain.Event, error) {
		if k.Destroyed[in.Subject] {
			return nil, nil
		}
		return []domain.Event{domain.KeyDestroyed{Subject: in.Subject}}, nil
	})
}
