package commands

import (
	"context"
	"fmt"
	"slices"

	"ledgerline/domain"
)

// EraseSubject orders that what is sealed for a subject becomes unreadable, for ever and everywhere: a
// user (with the lines that are theirs), a line, a device, a layer, a tenant's own key, a code epoch. The
// history and its proofs stand; the order itself is part of it.
type EraseSubject struct {
	Subject domain.Subject `json:"subject" validate:"required"`
}

// erasable are the categories of subjects that an operator may erase.
var erasable = []string{"user", "line", "device", "layer", "tenant"}

// EraseSubject records the order; the reaction destroy-keys carries it out. Errors: ErrInvalid, domain.ErrNoStream.
func (s *Service) EraseSubject(ctx context.Context, in EraseSubject) (Outcome, error) {
	stream := in.Subject.Stream()
	if !slices.Contains(erasable, stream.Category()) || domain.CheckID(stream.ID()) != nil {
		return Outcome{}, &InvalidError{"subject", "must be user-, line-, device-, layer- or tenant- and an id"}
	}
	subjects := []domain.Subject{in.Subject}
	if stream.Category() == "user" {
		head, err := s.Log.Head(ctx)
		if err != nil {
			return Outcome{}, err
		}
		lines, err := s.Candidates.LinesOfUser(ctx, head, domain.UserID(stream.ID()))
		if err != nil {
			return Outcome{}, err
		}
		for _, l := range lines {
			subjects = append(subjects, l.Line.Subject())
		}
	}
	return decide(ctx, s, stream, func(k domain.Keyed) ([]domain.Event, error) {
		if len(k.Created) == 0 {
			return nil, fmt.Errorf("%s: %w", stream, domain.ErrNoStream)
		}
		if k.Destroyed[in.Subject] {
			return nil, nil
		}
		return []domain.Event{domain.SubjectErased{Subjects: subjects}}, nil
	})
}

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
