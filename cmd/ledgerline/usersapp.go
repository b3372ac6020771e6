package main

import (
	"context"

	"ledgerline/adapters/phonehttp"
	"ledgerline/adapters/sysclient/wire"
	"ledgerline/adapters/usersapp"
	"ledgerline/domain"
)

// openUsers makes the Devices side of innovaphone's app protocol, which the phone plane hands its connections to.
func (e *engine) openUsers() {
	e.users = usersapp.New(usersapp.Options{Service: e.service, Views: e.views, Title: e.cfg.UsersTitle, Decrypt: wire.Decrypt, Proxy: e.cfg.UsersProxy, Passthrough: e.cfg.UsersPassthrough, Client: func(ctx context.Context) usersapp.Client {
		c := phonehttp.ClientOf(ctx)
		return usersapp.Client{IP: c.IP, Private: c.Secure || c.Trusted}
	}, Online: func(id domain.DeviceID) bool { return e.sysclients != nil && e.sysclients.Connected(id) }})
	e.onClose(func() error { e.users.Close(); return nil })
}
