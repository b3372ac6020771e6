package commands

import (
	"context"
	"fmt"
	"slices"

	"ledgerline/domain"
)

// RevealConfig hands out the very bytes of a file, secrets and all. That it was done, by whom and why, is a fact.
type RevealConfig struct {
	ID   domain.DeviceID `json:"id" validate:"required,id"` // one life
	Path string          `json:"path" validate:"required,max=500"`
	At   domain.Position `json:"at"` // as the device could fetch it then
}

// RevealConfig records the reveal before it answers. Errors: ErrInvalid, domain.ErrNoStream, ErrNoConfig, ErrNoBlob,
// domain.ErrErased.
func (s *Service) RevealConfig(ctx context.Context, in RevealConfig) (PastFile, []byte, Outcome, error) {
	if err := check(in); err != nil {
		return PastFile{}, nil, Outcome{}, err
	}
	past, err := s.ConfigAt(ctx, in.ID, in.At)
	if err != nil {
		return PastFile{}, nil, Outcome{}, err
	}
	i := slices.IndexFunc(past.Files, func(f PastFile) bool { return f.Path == in.Path || slices.Contains(f.Aliases, in.Path) })
	if i < 0 {
		return PastFile{}, nil, Outcome{}, fmt.Errorf("%s of %s: %w", in.Path, in.ID, ErrNoBlob)
	}
	f := past.Files[i]
	data, err := s.Blobs.Get(ctx, in.ID.Subject(), f.MAC)
	if err != nil {
		return f, nil, Outcome{}, fmt.Errorf("read %s of %s: %w", in.Path, in.ID, err)
	}
	out, err := decide(ctx, s, in.ID.Stream(), func(d domain.Device) ([]domain.Event, error) {
		return []domain.Event{domain.DeviceConfigRevealed{Path: f.Path, MAC: f.MAC, Regenerated: past.Revision}}, nil
	})
	return f, data, out, err
}
