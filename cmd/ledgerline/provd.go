package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"ledgerline/adapters/bus"
	"ledgerline/adapters/provd"
	"ledgerline/domain"
)

// withProvd puts wazo-provd's interface beside the API on the admin listener.
func withProvd(api, provd http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/0.2" || strings.HasPrefix(r.URL.Path, "/0.2/") {
			provd.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// provd makes wazo-provd's interface, and what keeps it going beside requests.
func (e *engine) provd() (http.Handler, []func(context.Context) error, error) {
	var beside []func(context.Context) error
	var authority provd.Authority = provd.Keys{Service: e.service}
	if e.cfg.ProvdAuthURL != "" {
		id, key, err := readCredentials(e.cfg.ProvdCredentials)
		if err != nil {
			return nil, nil, err
		}
		tokens, err := provd.NewTokens(provd.TokenOptions{URL: e.cfg.ProvdAuthURL, ID: id, Key: key, Service: e.service, Views: e.views, Cache: e.cfg.ProvdAuthCache})
		if err != nil {
			return nil, nil, err
		}
		authority = tokens
		beside = append(beside, func(ctx context.Context) error { return ignoreCanceled(tokens.Run(ctx, time.Minute, 24*time.Hour)) })
	}
	o := provd.Options{Service: e.service, Log: e.log, Views: e.views, Wait: e.runner, Authority: authority, Seen: e.seenByDevice, Metrics: e.metrics}
	url, err := secretOf(e.cfg.BusURLFile, e.cfg.secrets.busURL)
	if err != nil {
		return nil, nil, fmt.Errorf("read the URL of the bus: %w", err)
	}
	if url != "" {
		b, err := e.bus(url, authority)
		if err != nil {
			return nil, nil, err
		}
		o.Bus = b.Status
		beside = append(beside, func(ctx context.Context) error { return ignoreCanceled(b.Run(ctx)) })
	}
	h, err := provd.New(o)
	return h, beside, err
}

// bus is the platform's message bus.
func (e *engine) bus(url string, authority provd.Authority) (*bus.Bus, error) {
	return bus.New(bus.Options{URL: url, Exchange: e.cfg.BusExchange, Queue: e.cfg.BusQueue, Log: e.log, Store: e.log, Outside: authority.Outside, Leads: e.reactor.Leads,
		Evict: func(ctx context.Context, id domain.TenantID) error {
			head, err := e.log.Head(ctx)
			if err == nil {
				err = e.runner.WaitFor(ctx, head)
			}
			if err != nil {
				return err
			}
			return provd.Evict(ctx, e.service, e.views, id)
		}})
}

// readCredentials reads a file of the form id:key.
func readCredentials(path string) (id, key string, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", "", fmt.Errorf("read the credentials for the token service: %w", err)
	}
	id, key, ok := strings.Cut(strings.TrimSpace(string(b)), ":")
	if !ok || id == "" || key == "" {
		return "", "", fmt.Errorf("%s must hold id:key", path)
	}
	return id, key, nil
}

// seenByDevice tells where every device was seen last.
func (e *engine) seenByDevice(ctx context.Context) (map[domain.DeviceID]provd.Seen, error) {
	rows, err := e.sightings.Addresses(ctx)
	seen := make(map[domain.DeviceID]provd.Seen, len(rows))
	for _, r := range rows {
		if _, later := seen[r.Device]; !later && r.Transport != "document" { // latest first
			seen[r.Device] = provd.Seen{IP: r.IP, At: r.LastAt}
		}
	}
	return seen, err
}
