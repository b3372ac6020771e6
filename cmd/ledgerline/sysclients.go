package main

import (
	"context"

	"ledgerline/adapters/phonehttp"
	"ledgerline/adapters/sysclient"
	"ledgerline/adapters/sysclient/wire"
	"ledgerline/commands"
	"ledgerline/domain"
)

// openSysclients makes the Devices side of innovaphone's sysclient protocol, which the phone plane hands its connections to.
func (e *engine) openSysclients() error {
	s, err := sysclient.New(sysclient.Options{Service: e.service, Sightings: e.sightings, Metrics: e.metrics, Registered: e.registered, Client: func(ctx context.Context) sysclient.Client {
		c := phonehttp.ClientOf(ctx)
		return sysclient.Client{IP: c.IP, Trusted: c.Trusted, Secure: c.Secure, MAC: c.MAC}
	}})
	if err != nil {
		return err
	}
	e.sysclients, e.service.Sysclients, e.service.SysclientCipher = s, s, wire.Encrypt
	e.onClose(func() error { s.Close(); return nil })
	return nil
}

// registered has a device that has just authenticated get its jobs.
func (e *engine) registered(ctx context.Context, device domain.DeviceID, f domain.SysclientFacts) error {
	_, err := e.service.RegisterDevice(ctx, commands.Registration{Device: device, Product: f.Product, Version: f.Version, FwBuild: f.FwBuild, BcBuild: f.BcBuild, Foreign: f.Foreign})
	return err
}
