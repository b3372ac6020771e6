package commands

import (
	"context"
	"fmt"
	"slices"

	"ledgerline/domain"
)

// EraseSubject orders that what is sealed for a subject becomes unreadable, for ever and everywhere: a
// user (with the lines that are theirs), a line, a device, a layer, a gateway (consumer secret and tokens), a tenant's
// own key. The history and its proofs stand; the order itself is part of it. Of codes: EraseCode.
type EraseSubject struct {
	Subject domain.Subject `json:"subject" validate:"required"`
}

// EraseSubject records the order; the reaction destroy-keys carries it out. Errors: ErrInvalid, domain.ErrNoStream.
func (s *Service) EraseSubject(ctx context.Context, in EraseSubject) (Outcome, error) {
	stream := in.Subject.Stream()
	if !slices.Contains(erasable, stream.Category()) || domain.CheckID(stream.ID()) != nil {
		return Outcome{}, &InvalidError{"subject", "must be user-, line-, device-, layer-, gateway-, tenant- or code- and an id"}
	}
	// The order is its tenant's business, and stands in its history.
	tenant, err := s.Owner(ctx, stream)
	if err != nil {
		return Outcome{}, err
	}
	if caller := CallerFrom(ctx); caller.TenantID == "" {
		caller.TenantID = tenant
		ctx = WithCaller(ctx, caller)
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

// erasable are the categories of subjects that an operator may erase.
var erasable = []string{"user", "line", "device", "layer", "gateway", "tenant"}

// forgetFiles removes the files of one life of a device that followed from one of the subjects, except those
// it has now.
func (s *Service) forgetFiles(ctx context.Context, id domain.DeviceID, subjects []domain.Subject) error {
	d, h, err := load[domain.Device](ctx, s.Log, id.Stream())
	if err != nil {
		return err
	}
	keep := make(map[string]bool)
	if d.Live() == nil {
		for _, f := range d.Config.Files {
			keep[f.MAC] = true
		}
	}
	var gone []string
	for _, r := range h.events {
		e, err := r.Event()
		if err != nil {
			return err
		}
		c, ok := e.(domain.DeviceConfigRegenerated)
		if !ok || !slices.ContainsFunc(c.Inputs, func(in domain.Input) bool { return slices.Contains(subjects, domain.Subject(in.Stream)) }) {
			continue
		}
		for _, f := range c.Files {
			if !keep[f.MAC] {
				gone = append(gone, f.MAC)
			}
		}
	}
	if len(gone) == 0 {
		return nil
	}
	s.serving.atHand.drop(gone)
	if err := s.Blobs.Erase(ctx, id.Subject(), gone...); err != nil {
		return fmt.Errorf("forget files of %s: %w", id, err)
	}
	return nil
}
