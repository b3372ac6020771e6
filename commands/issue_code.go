package commands

import (
	"context"
	"time"

	"ledgerline/domain"
)

// IssueCode makes a code that brings a phone to a tenant and category.
type IssueCode struct {
	TenantID   domain.TenantID   `json:"tenant_id" validate:"required,id"`
	CategoryID domain.CategoryID `json:"category_id" validate:"required,id"`
	UserID     domain.UserID     `json:"user_id" validate:"omitempty,id"`
	Purpose    string            `json:"purpose" validate:"required,oneof=self_service rollout administrative"`
	// MAC, when set, is the only phone that may redeem the code.
	MAC domain.MAC `json:"mac"`
}

// IssuedCode is what the issuer is told, once.
type IssuedCode struct {
	ID         domain.CodeID `json:"id"`
	Code       string        `json:"code"`
	ValidUntil time.Time     `json:"valid_until"`
}

// IssueCode draws the digits, or has the registry elsewhere draw them. Errors: ErrNoDevicesURL, ErrRegistry, ErrInvalid, domain.ErrTenantUnknown, domain.ErrTenantDeleted, those of
// domain.Category.Takes, domain.ErrNotProvisioning, domain.ErrUserUnknown, domain.ErrUserOfOtherTenant, domain.ErrTooManyCodes.
func (s *Service) IssueCode(ctx context.Context, in IssueCode) (IssuedCode, Outcome, error) {
	if err := check(in); err != nil {
		return IssuedCode{}, Outcome{}, err
	}
	if in.MAC != "" {
		mac, err := domain.ParseMAC(string(in.MAC))
		if err != nil {
			return IssuedCode{}, Outcome{}, &InvalidError{"mac", domain.ErrBadMAC.Error()}
		}
		in.MAC = mac
	}
	if err := s.assignable(ctx, domain.Device{}, AssignDevice{TenantID: in.TenantID, CategoryID: in.CategoryID, UserID: in.UserID}); err != nil {
		return IssuedCode{}, Outcome{}, err
	}
	if _, err := s.provisioning(ctx, in.TenantID, in.CategoryID); err != nil {
		return IssuedCode{}, Outcome{}, err
	}
	if err := s.roomForCode(ctx, in); err != nil {
		return IssuedCode{}, Outcome{}, err
	}
	now := s.now()
	issued := domain.CodeIssued{CodeID: domain.CodeID(newID()), TenantID: in.TenantID, CategoryID: in.CategoryID, UserID: in.UserID,
		Purpose: in.Purpose, Epoch: domain.Epoch(now), IssuedAt: now, ValidUntil: now.Add(s.ttl(in.Purpose)), MAC: in.MAC}
	if s.Registry != nil {
		issued.Registry = s.Registry.URL()
	}
	draw := func(try int) (string, error) { return s.drawCode(ctx, &issued, try) }
	digits, out, err := s.placeCode(ctx, issued.Epoch, draw, func(c domain.Code, digits string) ([]domain.Event, error) {
		issued.Digits = domain.NewSecret(issued.Epoch, digits, "")
		return c.Issue(issued)
	})
	if err != nil {
		return IssuedCode{}, out, err
	}
	return IssuedCode{issued.CodeID, digits, issued.ValidUntil}, out, nil
}

// roomForCode is nil while the tenant and the user have fewer live codes than they may have: each makes guessing one easier.
// As the views have it: of codes issued side by side, one too many may pass.
func (s *Service) roomForCode(ctx context.Context, in IssueCode) error {
	if in.Purpose == "rollout" || s.CodesPerTenant == 0 && s.CodesPerUser == 0 {
		return nil
	}
	ofTenant, ofUser, err := s.Candidates.CodesAlive(ctx, domain.Position{}, in.TenantID, in.UserID)
	if err == nil && (s.CodesPerTenant > 0 && ofTenant >= s.CodesPerTenant || s.CodesPerUser > 0 && ofUser >= s.CodesPerUser) {
		err = domain.ErrTooManyCodes
	}
	return err
}
