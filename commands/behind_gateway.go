package commands

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"ledgerline/domain"
)

// behind makes a line's entry fit a phone behind a border gateway: it registers there, with the credentials the gateway
// was last brought to, for only they work. served is false for a line the gateway does not hold (yet): its position
// stays empty, and credentials of the inner side never leave for the outside.
func (r *resolver) behind(ctx context.Context, d domain.Device, l domain.Line, entry map[string]any) (served bool, err error) {
	if d.Gateway.GatewayID == "" || l.Remote.GatewayID != d.Gateway.GatewayID {
		return true, nil
	}
	g, err := read[domain.Gateway](ctx, r, d.Gateway.GatewayID.Stream())
	if err != nil {
		return false, err
	}
	u, err := read[domain.SIPUser](ctx, r, domain.SIPUserOf(d.Gateway.GatewayID, l.ID).Stream())
	if err != nil || g.Serves(d.TenantID) != nil || !u.On || !u.Pushed.Enabled {
		return false, err
	}
	host, port := g.External(u.Pushed.NodeID)
	for _, key := range []string{"proxy_ip", "registrar_ip"} {
		entry[key] = host
	}
	for _, key := range []string{"proxy_port", "registrar_port"} {
		if delete(entry, key); port != 0 {
			entry[key] = port
		}
	}
	for _, key := range []string{"backup_proxy_ip", "backup_proxy_port", "backup_registrar_ip", "backup_registrar_port", "outbound_proxy_ip", "outbound_proxy_port",
		"backup_outbound_proxy_ip", "backup_outbound_proxy_port"} {
		delete(entry, key)
	}
	entry["username"], entry["auth_username"], entry["password"] = u.Pushed.SetUsername, u.Pushed.SetUsername, u.Pushed.SetPassword
	return true, nil
}

// place notes which gateway a phone stands behind, by the address its request comes from, and tells whether that is
// news. An operator's word is not overruled.
func (s *Service) place(ctx context.Context, in ServeFile, row Shelved) (moved bool, err error) {
	if !row.Assigned {
		return false, nil
	}
	g, known := s.behind(in.IP)
	if !known || g == row.Gateway.GatewayID || row.Gateway.By == "operator" {
		return false, nil
	}
	out, err := decide(ctx, s, row.Device.Stream(), func(d domain.Device) ([]domain.Event, error) {
		if g != "" {
			now, _, err := load[domain.Gateway](ctx, s.Log, g.Stream())
			if err != nil {
				return nil, err
			}
			if now.Serves(d.TenantID) != nil {
				return nil, nil
			}
		}
		return d.PlaceBehind(g, "source")
	})
	if unlessGone(err) != nil {
		return false, err
	}
	return len(out.Events) > 0, nil
}

// announce hands an event that somebody must act on to the receiver of alerts, and notes that it took it.
func (s *Service) announce(ctx context.Context, r domain.Recorded) error {
	if s.Alerts == nil {
		return nil
	}
	id := domain.GatewayID(r.Stream.ID())
	if r.Stream.Category() == "sipuser" {
		id = GatewayOf(domain.SIPUserID(r.Stream.ID()))
	}
	g, h, err := load[domain.Gateway](ctx, s.Log, id.Stream())
	if err != nil {
		return err
	}
	if CallerFrom(ctx).done(h.events) {
		return nil
	}
	m, err := r.Meta()
	if err != nil {
		return err
	}
	if err := s.Alerts.Send(ctx, Alert{ID: r.ID.String(), Type: r.Type, At: m.RecordedAt.UTC().Truncate(time.Millisecond), TenantID: g.TenantID, Stream: r.Stream, Data: json.RawMessage(r.Data)}); err != nil {
		return errors.Join(errors.New("send alert"), err)
	}
	_, err = decide(ctx, s, id.Stream(), func(domain.Gateway) ([]domain.Event, error) {
		return []domain.Event{domain.GatewayAlertSent{EventID: r.ID.String(), Event: r.Type}}, nil
	})
	return err
}
