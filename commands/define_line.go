package commands

import (
	"context"

	"ledgerline/domain"
)

// DefineLine makes a SIP account. An empty ID makes a new one; Settings are further keys of one
// sip_lines entry (registrar_ip, transport, label …).
type DefineLine struct {
	ID           domain.LineID       `json:"id" validate:"omitempty,id"`
	TenantID     domain.TenantID     `json:"tenant_id" validate:"required,id"`
	UserID       domain.UserID       `json:"user_id" validate:"omitempty,id"`
	Number       string              `json:"number" validate:"max=64,text"`
	DisplayName  string              `json:"display_name" validate:"max=200,text"`
	Username     string              `json:"username" validate:"required,max=128,text"`
	AuthUsername string              `json:"auth_username" validate:"max=128,text"`
	Password     string              `json:"password" validate:"required,max=256,text"`
	Settings     domain.LineSettings `json:"settings" validate:"-"`
}

// DefineLine answers the line's id. Errors: ErrInvalid, domain.ErrSettings, domain.ErrTenantUnknown,
// domain.ErrTenantDeleted, domain.ErrUserUnknown, domain.ErrUserRemoved, domain.ErrUserOfOtherTenant, domain.ErrLineExists.
func (s *Service) DefineLine(ctx context.Context, in DefineLine) (domain.LineID, Outcome, error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	settings, err := clean(in.Settings)
	if err != nil {
		return "", Outcome{}, err
	}
	if err := s.liveTenant(ctx, in.TenantID); err != nil {
		return "", Outcome{}, err
	}
	if in.UserID != "" {
		user, _, err := load[domain.User](ctx, s.Log, in.UserID.Stream())
		if err != nil {
			return "", Outcome{}, err
		}
		if err := user.Live(in.TenantID); err != nil {
			return "", Outcome{}, err
		}
	}
	if in.ID == "" {
		in.ID = domain.LineID(newID())
	}
	out, err := decide(ctx, s, in.ID.Stream(), func(l domain.Line) ([]domain.Event, error) {
		if l.Exists {
			return nil, domain.ErrLineExists
		}
		spec, err := s.lineSpec(ctx, in.ID, l, in.Number, in.DisplayName, in.Username, in.AuthUsername, settings)
		if err != nil {
			return nil, err
		}
		password, err := s.secret(ctx, in.ID.Subject(), in.Password)
		if err != nil {
			return nil, err
		}
		return l.Define(in.ID, in.TenantID, in.UserID, spec, password)
	})
	return in.ID, out, err
}
