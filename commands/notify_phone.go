package commands

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ledgerline/domain"
)

// NotifyPhone carries out a recorded request: it tells the phone, and records what came of it. Between the two the
// program may die; then the phone is told again, which does it no harm.
type NotifyPhone struct {
	ID     domain.DeviceID // one life
	SyncID string
	At     domain.Position // of the request
}

const (
	// shelfWait is how long the message waits for the phone plane to know that the phone is expected.
	shelfWait = 2 * time.Second
	// notifyTime bounds all attempts of one request.
	notifyTime = 30 * time.Second
)

// NotifyPhone does nothing for a request that is not the device's latest or was carried out before. Errors:
// domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, and those of the ports.
func (s *Service) NotifyPhone(ctx context.Context, in NotifyPhone) error {
	d, _, err := load[domain.Device](ctx, s.Log, in.ID.Stream())
	if err != nil {
		return err
	}
	if err := d.Live(); err != nil {
		return err
	}
	if d.Sync.SyncID != in.SyncID || !d.Sync.Pending() {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, shelfWait)
	err = s.Shelf.WaitFor(wait, in.At)
	cancel()
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // a phone plane that lags longer than that misses at most a fetch of unchanged files
	}
	attempts, err := s.notify(ctx, d)
	if err != nil {
		return fmt.Errorf("notify %s: %w", in.ID, err)
	}
	_, err = decide(ctx, s, in.ID.Stream(), func(d domain.Device) ([]domain.Event, error) {
		return d.NoteAttempts(in.SyncID, attempts), nil
	})
	return err
}

// notify tells the phone in the way of its family.
func (s *Service) notify(ctx context.Context, d domain.Device) ([]domain.DeviceSyncOutcome, error) {
	not := func(why string) ([]domain.DeviceSyncOutcome, error) {
		return []domain.DeviceSyncOutcome{{Outcome: domain.OutcomeNotSent, Detail: why}}, nil
	}
	if s.Notifier == nil {
		return not("this server has no way to notify phones")
	}
	method, err := s.Renderer.SyncMethod(PluginRef{d.Plugin, d.PluginVersion}, d.Model)
	switch {
	case errors.Is(err, ErrNoPlugin):
		return not("its plugin is not installed")
	case err != nil:
		return nil, err
	case method.Event == "":
		return not("phones of this family cannot be told to fetch")
	}
	running, err := s.runningAccounts(ctx, d)
	if err != nil {
		return nil, err
	}
	n := Notification{Device: d.ID, MAC: d.MAC, Event: method.Event, ContentType: method.ContentType, Body: method.Body, Accounts: running}
	if d.Sync.Reboot && method.Reboot != "" {
		n.Event = method.Reboot
	}
	if s.Whereabouts != nil {
		seen, err := s.Whereabouts.Where(ctx, d.ID)
		if err != nil {
			return nil, err
		}
		for _, at := range seen {
			n.Seen = append(n.Seen, at.IP)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, notifyTime)
	defer cancel()
	attempts, err := s.Notifier.Notify(ctx, n)
	for i := range attempts {
		if _, clear, pending := attempts[i].To.Pending(); pending {
			attempts[i].To = domain.NewPersonal(d.ID.Subject(), clear, "")
		}
	}
	return attempts, err
}

// accounts are the SIP accounts of a phone, from its merged settings.
func accounts(settings domain.Settings) (out []SIPAccount) {
	localPort, _ := settings["sip_local_port"].(int)
	for _, line := range settings.Lines() {
		text := func(key string) string { t, _ := line[key].(string); return t }
		port := func(key string) int { p, _ := line[key].(int); return p }
		if on, ok := line["enabled"].(bool); text("username") == "" || ok && !on {
			continue
		}
		out = append(out, SIPAccount{Username: text("username"), AuthUsername: text("auth_username"), Password: text("password"), Transport: text("transport"),
			Registrar: text("registrar_ip"), RegistrarPort: port("registrar_port"), Proxy: text("outbound_proxy_ip"), ProxyPort: port("outbound_proxy_port"), LocalPort: localPort})
	}
	return out
}
