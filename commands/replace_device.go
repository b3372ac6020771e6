package commands

import (
	"context"

	"ledgerline/domain"
)

// ReplaceDevice puts another phone in the place of a broken one: same tenant, category, user, lines, keys
// and layers under the new MAC. The reaction take-over makes the new one what the old one was.
type ReplaceDevice struct {
	ID  domain.DeviceID `json:"id" validate:"required,id"`
	MAC domain.MAC      `json:"mac" validate:"required"`
}

// ReplaceDevice answers the id of the replacement. Errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted,
// domain.ErrReplaceSelf, domain.ErrReplacementInUse.
func (s *Service) ReplaceDevice(ctx context.Context, in ReplaceDevice) (domain.DeviceID, Outcome, error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	mac, err := domain.ParseMAC(string(in.MAC))
	if err != nil {
		return "", Outcome{}, &InvalidError{"mac", domain.ErrBadMAC.Error()}
	}
	by, byID, err := s.DeviceOfMAC(ctx, mac)
	if err != nil {
		return "", Outcome{}, err
	}
	if by.Deleted {
		by, byID = domain.Device{}, byID.NextLife()
	}
	out, err := s.onDevice(ctx, in.ID, func(d domain.Device) ([]domain.Event, error) { return d.Replace(by, byID, mac) })
	return byID, out, err
}
