package main

import (
	"context"

	"ledgerline/adapters/phonehttp"
	"ledgerline/adapters/sysclient"
)

// openSysclients makes the Devices side of innovaphone's sysclient protocol, which the phone plane hands its connections to.
func (e *engine) openSysclients() error {
	s, err := sysclient.New(sysclient.Options{Service: e.service, Sightings: e.sightings, Metrics: e.metrics, Client: func(ctx context.Context) sysclient.Client {
		c := phonehttp.ClientOf(ctx)
		return sysclient.Client{IP: c.IP, Trusted: c.Trusted, Secure: c.Secure, MAC: c.MAC}
	}})
	if err != nil {
		return err
	}
	e.sysclients, e.service.Sysclients = s, s
	e.onClose(func() error { s.Close(); return nil })
	return nil
}
