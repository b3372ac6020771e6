package commands

import (
	"context"

	"ledgerline/domain"
)

// NoteLease is what a DHCP server tells of a lease it gave.
type NoteLease struct {
	MAC   domain.MAC `validate:"required,len=12"`
	IP    string     `validate:"required,ip"`
	Class string     `validate:"max=1024"` // vendor class, option 60
}

// NoteLease makes a phone known that a plugin recognises by its vendor class, within the cap on unknown phones, and
// notes for any where it is. Anything else that asks for an address is nobody's business. Errors: ErrInvalid.
func (s *Service) NoteLease(ctx context.Context, in NoteLease) error {
	if err := check(in); err != nil {
		return err
	}
	row, found, err := s.Shelf.ByMAC(ctx, in.MAC)
	if err != nil {
		return err
	}
	if !found {
		// It may be a device of a moment ago, which the view does not know of yet.
		d, _, err := s.DeviceOfMAC(ctx, in.MAC)
		if err != nil {
			return err
		}
		row.Device, found = d.ID, d.Live() == nil
	}
	who, known := s.Recognizer.RecognizeDHCP(in.Class, in.MAC)
	if !found && !known {
		return nil
	}
	if !found {
		if row, found, err = s.discover(ctx, who); err != nil || !found {
			return unlessNoFile(err)
		}
	}
	if s.Sightings != nil {
		s.Sightings.Seen(Sighting{Device: row.Device, MAC: in.MAC, IP: in.IP, Transport: "dhcp", Path: "lease", At: s.now()})
	}
	return nil
}
