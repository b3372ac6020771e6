package main

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"ledgerline/adapters/phonehttp"
	"ledgerline/adapters/sysclient"
	"ledgerline/adapters/sysclient/wire"
	"ledgerline/commands"
	"ledgerline/domain"
)

// openSysclients makes the Devices side of innovaphone's sysclient protocol, which the phone plane hands its connections to.
func (e *engine) openSysclients() error {
	s, err := sysclient.New(sysclient.Options{Service: e.service, Sightings: e.sightings, Metrics: e.metrics, Registered: e.registered, Presence: e.users.Presence, Client: func(ctx context.Context) sysclient.Client {
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

// pageCmd shows a page of a connected device's own web server.
func (a *app) pageCmd() *cobra.Command {
	return &cobra.Command{Use: "page ID PATH", Short: "Fetch a page of the connected device's own web server (innovaphone); recorded", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !strings.HasPrefix(args[1], "/") {
				return usageError("PATH must begin with /")
			}
			page, err := a.call(cmd.Context(), http.MethodGet, "/devices/"+url.PathEscape(args[0])+"/passthrough"+args[1], nil, nil)
			if err != nil {
				return err
			}
			_, err = a.out.Write(page.body)
			return err
		}}
}
