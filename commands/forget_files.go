package commands

import (
	"context"
	"errors"

	"ledgerline/domain"
)

// ForgetFiles removes from Blobs the files that were made from an erased user or line: they are sealed under
// the device's key, which lives on. What the device has now is made anew first, without the erased.
type ForgetFiles struct {
	Subjects []domain.Subject
	At       domain.Position // the choice of devices must know of it
}

// ForgetFiles may be repeated; it records nothing but new files.
func (s *Service) ForgetFiles(ctx context.Context, in ForgetFiles) error {
	for _, subject := range in.Subjects {
		if subject.Stream().Category() != "line" {
			continue
		}
		devices, err := s.Candidates.DevicesEverOfLine(ctx, in.At, domain.LineID(subject.Stream().ID()))
		if err != nil {
			return err
		}
		for _, id := range devices {
			if err := s.regenerate(ctx, id); err != nil && !errors.Is(err, domain.ErrErased) {
				return err
			}
			if err := s.forgetFiles(ctx, id, in.Subjects); err != nil {
				return err
			}
		}
	}
	return nil
}
