package commands

import (
	"context"

	"ledgerline/domain"
)

// AssignDevice gives a device to a tenant, category and user.
type AssignDevice struct {
	ID         domain.DeviceID   `json:"id" validate:"required,id"`
	TenantID   domain.TenantID   `json:"tenant_id" validate:"required,id"`
	CategoryID domain.CategoryID `json:"category_id" validate:"omitempty,id"`
	UserID     domain.UserID     `json:"user_id" validate:"omitempty,id"`
	CodeID     domain.CodeID     `json:"-"`
	TokenID    domain.TokenID    `json:"-"`
}

// AssignDevice errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceOfOtherTenant, those of
// domain.Category.Takes, domain.ErrTenantUnknown, domain.ErrTenantDeleted, domain.ErrUserUnknown, domain.ErrUserOfOtherTenant.
func (s *Service) AssignDevice(ctx context.Context, in AssignDevice) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	current, err := s.liveID(ctx, in.ID)
	if err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, current.Stream(), func(d domain.Device) ([]domain.Event, error) {
		return s.assign(ctx, d, in)
	})
}
