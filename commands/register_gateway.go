package commands

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"ledgerline/domain"
)

// RegisterGateway makes a border gateway known. An empty ID makes a new one.
type RegisterGateway struct {
	ID       domain.GatewayID `json:"id" validate:"omitempty,id"`
	TenantID domain.TenantID  `json:"tenant_id" validate:"required,id"`
	GatewayWish
}

// GatewayWish is what an operator tells of a gateway; see domain.GatewaySpec.
type GatewayWish struct {
	Name            string   `json:"name" validate:"max=200,text"`
	Address         string   `json:"address" validate:"required,max=300,text"`
	SourceAddresses []string `json:"source_addresses" validate:"max=20,unique"`
	ExternalAddress string   `json:"external_address" validate:"required,max=253,text"`
	ExternalPort    int      `json:"external_port" validate:"gte=0,lte=65535"`
	Release         string   `json:"release" validate:"max=40,text"`
	CA              string   `json:"ca" validate:"max=65536"`
	Pins            []string `json:"pins" validate:"max=10,dive,max=100,text"`
	Adopt           string   `json:"adopt" validate:"omitempty,oneof=overwrite ask"`
	Off             string   `json:"off" validate:"omitempty,oneof=delete disable"`
	AutoRenew       bool     `json:"auto_renew"`
	ResolveNames    bool     `json:"resolve_names"`
}

// spec checks and normalises a wish.
func (w GatewayWish) spec() (domain.GatewaySpec, error) {
	bad := func(field, rule string) error { return &InvalidError{field, rule} }
	u, err := url.Parse(w.Address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		return domain.GatewaySpec{}, bad("address", "must be a URL such as https://192.0.2.10")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return domain.GatewaySpec{}, bad("address", "must begin with https://")
	}
	spec := domain.GatewaySpec{Name: w.Name, Address: strings.TrimSuffix(u.String(), "/"), ExternalAddress: w.ExternalAddress, ExternalPort: w.ExternalPort,
		Release: w.Release, CA: w.CA, Pins: w.Pins, Adopt: w.Adopt, Off: w.Off, AutoRenew: w.AutoRenew, ResolveNames: w.ResolveNames}
	for _, text := range w.SourceAddresses {
		ip, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return spec, bad("source_addresses", "must be IP addresses")
		}
		spec.SourceAddresses = append(spec.SourceAddresses, ip.Unmap().WithZone("").String())
	}
	if rule := hostname(w.ExternalAddress); rule != "" {
		return spec, bad("external_address", rule)
	}
	if _, err := domain.ParseRelease(w.Release); w.Release != "" && err != nil {
		return spec, bad("release", "must be a release such as 11.5 SP1")
	}
	return spec, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// hostname is what is wrong with a host name or address; empty for nothing.
func hostname(s string) string {
	if net.ParseIP(s) != nil {
		return ""
	}
	if s == "" || len(s) > 253 || strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || strings.HasPrefix(s, "-") || strings.HasPrefix(s, ".") {
		return "must be a host name or an IP address"
	}
	return ""
}

// RegisterGateway answers the gateway's id; it speaks the generic mapping until another is selected. Errors: ErrInvalid,
// domain.ErrTenantUnknown, domain.ErrTenantDeleted, domain.ErrGatewayExists.
func (s *Service) RegisterGateway(ctx context.Context, in RegisterGateway) (domain.GatewayID, Outcome, error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	spec, err := in.spec()
	if err != nil {
		return "", Outcome{}, err
	}
	if err := s.liveTenant(ctx, in.TenantID); err != nil {
		return "", Outcome{}, err
	}
	if in.ID == "" {
		in.ID = domain.GatewayID(newID())
	}
	if strings.Contains(string(in.ID), ".") {
		return "", Outcome{}, &InvalidError{"id", "must not hold a dot"} // SIP users are named <gateway>.<line>
	}
	out, err := decide(ctx, s, in.ID.Stream(), func(g domain.Gateway) ([]domain.Event, error) {
		events, err := g.Register(in.ID, in.TenantID, spec)
		if err != nil || s.Borders == nil {
			return events, err
		}
		mapping, err := s.Borders.ReadMapping("")
		return append(events, mapping), err
	})
	return in.ID, out, err
}

// AmendGateway describes a gateway anew, whole.
type AmendGateway struct {
	ID domain.GatewayID `json:"id" validate:"required,id"`
	GatewayWish
}

// AmendGateway errors: ErrInvalid, domain.ErrGatewayUnknown, domain.ErrGatewayRemoved.
func (s *Service) AmendGateway(ctx context.Context, in AmendGateway) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	spec, err := in.spec()
	if err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(g domain.Gateway) ([]domain.Event, error) { return g.Amend(spec) })
}

// RemoveGateway ends our dealings with a gateway; what stands on it stays there.
type RemoveGateway struct {
	ID domain.GatewayID `json:"id" validate:"required,id"`
}

// RemoveGateway errors: ErrInvalid, domain.ErrGatewayUnknown, domain.ErrGatewayEnabled.
func (s *Service) RemoveGateway(ctx context.Context, in RemoveGateway) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(g domain.Gateway) ([]domain.Event, error) { return g.Remove() })
}

// SetGatewayConsumer sets whom our requests are signed as.
type SetGatewayConsumer struct {
	ID         domain.GatewayID `json:"id" validate:"required,id"`
	ConsumerID string           `json:"consumer_id" validate:"required,max=200,text"`
	Secret     string           `json:"secret" validate:"required,max=500,text"`
}

// SetGatewayConsumer errors: ErrInvalid, domain.ErrGatewayUnknown, domain.ErrGatewayRemoved.
func (s *Service) SetGatewayConsumer(ctx context.Context, in SetGatewayConsumer) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(g domain.Gateway) ([]domain.Event, error) {
		secret, err := s.secret(ctx, in.ID.Subject(), in.Secret)
		if err != nil {
			return nil, err
		}
		return g.SetConsumer(in.ConsumerID, secret, shortPrint(in.Secret))
	})
}

// shortPrint tells tokens and secrets apart without showing them: the first 8 hex digits of the SHA-256.
func shortPrint(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:4])
}

// SelectMapping says by which mapping file a gateway is spoken to; an empty Text is the generic mapping.
type SelectMapping struct {
	ID   domain.GatewayID `json:"id" validate:"required,id"`
	Text string           `json:"text" validate:"max=65536"`
}

// SelectMapping errors: ErrInvalid (with the lines), domain.ErrGatewayUnknown, domain.ErrGatewayRemoved.
func (s *Service) SelectMapping(ctx context.Context, in SelectMapping) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	if s.Borders == nil {
		return Outcome{}, ErrNoBorders
	}
	m, err := s.Borders.ReadMapping(in.Text)
	if err != nil {
		return Outcome{}, &InvalidError{"text", "is no mapping: " + err.Error()}
	}
	return decide(ctx, s, in.ID.Stream(), func(g domain.Gateway) ([]domain.Event, error) { return g.SelectMapping(m) })
}

// DefineNode describes a phone system behind a gateway, whole.
type DefineNode struct {
	ID              domain.GatewayID `json:"id" validate:"required,id"`
	NodeID          string           `json:"node_id" validate:"required,id"`
	Name            string           `json:"name" validate:"max=200,text"`
	InternalAddress string           `json:"internal_address" validate:"required,max=64,text"`
	ExternalAddress string           `json:"external_address" validate:"max=253,text"`
	ExternalPort    int              `json:"external_port" validate:"gte=0,lte=65535"`
	Type            string           `json:"type" validate:"omitempty,oneof=mivo250 ct_gateway other"`
	Release         string           `json:"release" validate:"max=40,text"`
	ICP             string           `json:"icp" validate:"max=100,text"`
}

// DefineNode errors: ErrInvalid, domain.ErrGatewayUnknown, domain.ErrGatewayRemoved, domain.ErrTooManyNodes.
func (s *Service) DefineNode(ctx context.Context, in DefineNode) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	ip, ok := parseAddress(in.InternalAddress)
	if !ok {
		return Outcome{}, &InvalidError{"internal_address", "must be an IP address"}
	}
	if in.ExternalAddress != "" {
		if rule := hostname(in.ExternalAddress); rule != "" {
			return Outcome{}, &InvalidError{"external_address", rule}
		}
	}
	n := domain.GatewayNode{NodeID: in.NodeID, Name: in.Name, InternalAddress: ip.String(), ExternalAddress: in.ExternalAddress, ExternalPort: in.ExternalPort,
		Type: in.Type, Release: in.Release, ICP: in.ICP}
	return decide(ctx, s, in.ID.Stream(), func(g domain.Gateway) ([]domain.Event, error) { return g.DefineNode(n) })
}

// RemoveNode takes a phone system away from a gateway.
type RemoveNode struct {
	ID     domain.GatewayID `json:"id" validate:"required,id"`
	NodeID string           `json:"node_id" validate:"required,id"`
}

// RemoveNode errors: ErrInvalid, domain.ErrGatewayUnknown, domain.ErrGatewayRemoved, domain.ErrNodeUnknown.
func (s *Service) RemoveNode(ctx context.Context, in RemoveNode) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(g domain.Gateway) ([]domain.Event, error) { return g.RemoveNode(in.NodeID) })
}

// SwitchGateway changes whether and how the push runs: To is enabled, disabled, paused or resumed. Resuming also lets
// go what held the queue.
type SwitchGateway struct {
	ID domain.GatewayID `json:"id" validate:"required,id"`
	To string           `json:"to" validate:"required,oneof=enabled disabled paused resumed"`
}

// SwitchGateway errors: ErrInvalid, domain.ErrGatewayUnknown, domain.ErrGatewayRemoved, domain.ErrGatewayNoConsumer, domain.ErrGatewayNoMapping.
func (s *Service) SwitchGateway(ctx context.Context, in SwitchGateway) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(g domain.Gateway) ([]domain.Event, error) {
		switch in.To {
		case "enabled", "disabled":
			return g.Switch(in.To == "enabled")
		case "paused":
			return g.Pause(true)
		}
		events, err := g.Pause(false)
		if err != nil {
			return nil, err
		}
		return append(events, g.Free()...), nil
	})
}
