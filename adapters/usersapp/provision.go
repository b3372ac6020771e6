package usersapp

import (
	"cmp"
	"context"
	"errors"

	"ledgerline/adapters/usersapp/wire"
	"ledgerline/commands"
	"ledgerline/domain"
)

// provisioning is the api an app announces that provisions phones of other makes.
const provisioning = "com.innovaphone.provisioning"

// info tells what this app is, and which apis it announces. The form was seen in other apps, not documented.
func (s *Server) info(r wire.Request) reply {
	apis := map[string]any{"com.innovaphone.devices": reply{}}
	if s.opt.Title != "" && s.opt.Decrypt != nil {
		apis[provisioning] = reply{"title": s.opt.Title}
	}
	return reply{"app": string(r.App), "info": reply{"hidden": true, "apis": apis}, "serviceInfo": reply{"apis": apis}}
}

// phone provisions a phone of another make for a user of the telephone system, and says how that went: Users sends the next
// one only then.
func (c *conn) phone(ctx context.Context, r wire.Request) reply {
	o := c.s.opt
	if o.Title == "" || o.Decrypt == nil {
		return reply{"result": "error", "error": "phones of other makes are not provisioned here"}
	}
	password, err := o.Decrypt(string(r.Seed), c.session, string(r.Password))
	if err != nil {
		return reply{"result": "error", "error": "the password cannot be read"}
	}
	in := commands.ProvisionPhone{Code: string(r.Code), MAC: domain.MAC(cmp.Or(r.MAC, r.HWID)), Username: string(cmp.Or(r.Username, r.UsernameInWhole)), Password: password, DisplayName: string(r.CN)}
	switch o.Proxy {
	case ProxyDNS:
		in.Proxy = string(r.DNS)
	case ProxyDomain:
		in.Proxy = string(r.Domain)
	}
	device, err := c.s.opt.Service.ProvisionPhone(c.caller(ctx), in)
	if err == nil {
		c.log.Info().Str("device_id", string(device)).Str("tenant_id", string(c.tenant)).Str("command", "ProvisionPhone").Msg("users: a phone of another make was provisioned")
		return reply{"result": "ok"}
	}
	var invalid *commands.InvalidError
	why := "try again later"
	switch {
	case errors.As(err, &invalid):
		why = invalid.Error()
	case errors.Is(err, domain.ErrCodeRefused), errors.Is(err, domain.ErrCodeUnknown):
		why = "the code is not accepted"
	case errors.Is(err, commands.ErrQuarantined):
		why = commands.ErrQuarantined.Error()
	case errors.Is(err, domain.ErrDeviceOfOtherTenant):
		why = "the phone cannot join this domain"
	default:
		c.log.Error().Err(err).Str("tenant_id", string(c.tenant)).Msg("users: a phone of another make was not provisioned")
	}
	return reply{"result": "error", "error": why}
}
