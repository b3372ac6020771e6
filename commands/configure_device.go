package commands

import (
	"context"
	"fmt"
	"slices"

	"ledgerline/domain"
)

// ConfigureDevice sets an operator's own wishes for one device, whole.
type ConfigureDevice struct {
	ID          domain.DeviceID  `json:"id" validate:"required,id"`
	Parents     []domain.LayerID `json:"parents" validate:"max=100,unique,dive,id"`
	Settings    domain.Settings  `json:"settings" validate:"-"`
	Description string           `json:"description" validate:"max=500,text"`
}

// ConfigureDevice errors: ErrInvalid, domain.ErrSettings, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, domain.ErrLayerParent.
func (s *Service) ConfigureDevice(ctx context.Context, in ConfigureDevice) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	settings, err := clean(in.Settings)
	if err != nil {
		return Outcome{}, err
	}
	return s.onDevice(ctx, in.ID, func(d domain.Device) ([]domain.Event, error) {
		for _, p := range in.Parents {
			if err := s.usableLayer(ctx, p, d.TenantID); err != nil {
				return nil, fmt.Errorf("%q: %w", p, domain.ErrLayerParent)
			}
		}
		sealed, err := protect(ctx, s, d.ID.Subject(), settings, d.Settings)
		if err != nil {
			return nil, err
		}
		return d.Configure(domain.DeviceSpec{Parents: in.Parents, Settings: sealed, Description: in.Description,
			Autocreated: d.Autocreated && slices.Equal(d.Parents, in.Parents)})
	})
}
