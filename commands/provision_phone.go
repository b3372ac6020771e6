package commands

import (
	"context"
	"errors"

	"ledgerline/domain"
)

// ProvisionPhone is innovaphone Users that has a phone of another make provisioned for a user: somebody typed its MAC there,
// and the code is never typed on the phone (reference "innovaphone provisioning" §1.7). The phone comes to the code's tenant
// and category, and gets a line of the user's account.
type ProvisionPhone struct {
	Code        string     `json:"code" validate:"required,max=64"`
	MAC         domain.MAC `json:"mac" validate:"required"`
	Username    string     `json:"username" validate:"required,max=128,text"`
	Password    string     `json:"-" validate:"required,max=256,text"`
	DisplayName string     `json:"display_name" validate:"max=200,text"`
	// Proxy is the host of the telephone system, for a line that is made for this; empty: the settings say it.
	Proxy string `json:"proxy" validate:"omitempty,max=253,hostname_rfc1123|ip"`
}

// ErrQuarantined: a code that leads to quarantine gives a phone no line before somebody has confirmed it. Users, which is given
// none of these codes, is not who confirms.
var ErrQuarantined = errors.New("the code leads to quarantine")

// ProvisionPhone answers the device. Repeated, after a crash at any point of it for instance, it goes on where it was: the
// device that redeemed the code may do so again for a while, the tenant's line of that user name is found by it, and gets
// the password if it had another. Errors: ErrInvalid, ErrQuarantined, ErrBusy, those of RedeemCode and of DefineLine.
func (s *Service) ProvisionPhone(ctx context.Context, in ProvisionPhone) (domain.DeviceID, error) {
	if err := check(in); err != nil {
		return "", err
	}
	caller := CallerFrom(ctx)
	caller.Confirmed = true // the telephone system's administrators vouch for it
	ctx = WithCaller(ctx, caller)
	digits, err := domain.NormalizeCode(in.Code, s.codeLength())
	if err != nil {
		return "", err
	}
	stream, found, err := s.findCode(ctx, digits)
	var code domain.Code
	if err == nil && found {
		code, _, err = load[domain.Code](ctx, s.Log, stream)
	}
	if err != nil {
		return "", err
	}
	if code.Quarantine && caller.redeems(code.TenantID) {
		return "", ErrQuarantined
	}
	redeemed, out, err := s.RedeemCode(ctx, RedeemCode{Code: in.Code, MAC: in.MAC})
	if err == nil {
		err = s.settleRedemption(ctx, out)
	}
	if err != nil {
		return "", err
	}
	line, err := s.accountOf(ctx, code.TenantID, code.UserID, in)
	if err != nil {
		return "", err
	}
	_, err = s.AssociateLine(ctx, AssociateLine{DeviceID: redeemed.DeviceID, LineID: line})
	return redeemed.DeviceID, err
}

// accountOf is the tenant's line of the user name, with the password; one is made when there is none. Where the code is a
// user's, it is that user's line.
func (s *Service) accountOf(ctx context.Context, tenant domain.TenantID, user domain.UserID, in ProvisionPhone) (domain.LineID, error) {
	head, err := s.Log.Head(ctx)
	if err != nil {
		return "", err
	}
	lines, err := s.Candidates.LinesByUsername(ctx, head, tenant, in.Username)
	if err != nil {
		return "", err
	}
	for _, id := range lines {
		l, _, err := load[domain.Line](ctx, s.Log, id.Stream())
		if err != nil {
			return "", err
		}
		if l.Live() != nil || user != "" && l.UserID != user {
			continue
		}
		_, err = s.RotateLineSecret(ctx, RotateLineSecret{ID: id, Password: in.Password})
		return id, err
	}
	define := DefineLine{TenantID: tenant, UserID: user, Username: in.Username, Password: in.Password, DisplayName: in.DisplayName}
	if in.Proxy != "" {
		define.Settings = domain.LineSettings{"proxy_ip": in.Proxy}
	}
	id, _, err := s.DefineLine(ctx, define)
	return id, err
}
