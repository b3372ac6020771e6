package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// gateway is a border gateway in the API's words: no secret, no token.
type gateway struct {
	ID       domain.GatewayID `json:"id"`
	TenantID domain.TenantID  `json:"tenant_id"`
	GatewayBody
	ConsumerID string               `json:"consumer_id,omitempty"`
	Mapping    gatewayMapping       `json:"mapping"`
	Nodes      []domain.GatewayNode `json:"nodes"`
	Token      gatewayToken         `json:"token"`
	Enabled    bool                 `json:"enabled" doc:"the push is on"`
	Paused     bool                 `json:"paused"`
	Stopped    string               `json:"stopped,omitempty" doc:"why the queue stands still: disabled, paused, no_token, or what only a person can mend"`
	StoppedBy  string               `json:"stopped_by,omitempty" doc:"what the gateway said"`
	Braked     bool                 `json:"braked,omitempty" doc:"so much is missing on the gateway that a repair must be confirmed"`
	State      string               `json:"state"`
	projections.Head
}

type gatewayMapping struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
	SHA256  string `json:"sha256"`
}

type gatewayToken struct {
	State       string    `json:"state" doc:"unconfigured, consumer_set, awaiting_verifier, active, expiring_soon, expiry_unknown_working, expired, rejected"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	GrantedAt   time.Time `json:"granted_at,omitzero"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	Temporary   string    `json:"temporary,omitempty" doc:"fingerprint of the temporary token that waits for its verifier"`
}

// GatewayBody is what can be told of a gateway.
type GatewayBody struct {
	Name            string   `json:"name,omitempty"`
	Address         string   `json:"address" doc:"base URL of the gateway's web services"`
	SourceAddresses []string `json:"source_addresses,omitempty" doc:"where requests of phones behind it come from: its internal addresses"`
	ExternalAddress string   `json:"external_address" doc:"what phones behind it get as their SIP server"`
	ExternalPort    int      `json:"external_port,omitempty"`
	Release         string   `json:"release,omitempty" doc:"of its software: 10 or later"`
	CA              string   `json:"ca,omitempty" doc:"PEM certificates its chain may end in"`
	Pins            []string `json:"pins,omitempty" doc:"SHA-256 of public keys, base64 or hex"`
	Adopt           string   `json:"adopt,omitempty" doc:"what becomes of a SIP user made by hand: overwrite (default) or ask"`
	Off             string   `json:"off,omitempty" doc:"what becomes of a SIP user whose flag is cleared: delete (default) or disable"`
	AutoRenew       bool     `json:"auto_renew,omitempty" doc:"renew the token where the mapping says how"`
	ResolveNames    bool     `json:"resolve_names,omitempty" doc:"an ICP configured by name may match by its addresses"`
}

func (b GatewayBody) wish() commands.GatewayWish { return commands.GatewayWish(b) }

func (a *api) gateway(ctx context.Context, row projections.Gateway) (gateway, error) {
	g := row.Gateway
	out := gateway{ID: g.ID, TenantID: g.TenantID, GatewayBody: GatewayBody(g.GatewaySpec), ConsumerID: g.ConsumerID,
		Mapping: gatewayMapping{g.Mapping.Name, g.Mapping.Version, g.Mapping.SHA256}, Nodes: append([]domain.GatewayNode{}, g.Nodes...),
		Enabled: g.Enabled, Paused: g.Paused, Stopped: g.Stopped(), StoppedBy: g.Held.Text, Braked: g.Braked, State: projections.StateLive, Head: row.Head}
	if g.Removed {
		out.State = projections.StateRemoved
	}
	out.Token = gatewayToken{State: g.TokenState(a.when(ctx)), Fingerprint: g.Token.Fingerprint, GrantedAt: g.Token.GrantedAt, ExpiresAt: g.Token.ExpiresAt, Temporary: g.Temporary.Fingerprint}
	return out, nil
}

// sipUser is a record on a gateway in the API's words: no password.
type sipUser struct {
	ID          domain.SIPUserID `json:"id"`
	TenantID    domain.TenantID  `json:"tenant_id"`
	GatewayID   domain.GatewayID `json:"gateway_id"`
	LineID      domain.LineID    `json:"line_id"`
	NodeID      string           `json:"node_id,omitempty"`
	Extension   string           `json:"extension"`
	SetUsername string           `json:"set_username"`
	State       string           `json:"state" doc:"pending, in_sync, parked, removing, removed"`
	MBGID       string           `json:"mbg_id,omitempty" doc:"its id on the gateway"`
	ICPID       string           `json:"icp_id,omitempty"`
	Rev         int              `json:"rev"`
	Settled     int              `json:"settled" doc:"the revision the gateway was last brought to"`
	Why         string           `json:"why" doc:"what made the latest revision"`
	Class       string           `json:"class,omitempty" doc:"why it is parked"`
	Text        string           `json:"text,omitempty"`
	projections.Head
}

func (a *api) sipUser(ctx context.Context, row projections.SIPUser) (sipUser, error) {
	u := row.SIPUser
	extension, err := a.open(ctx, u.Spec.Extension)
	out := sipUser{ID: u.ID, TenantID: u.TenantID, GatewayID: u.GatewayID, LineID: u.LineID, NodeID: u.Spec.NodeID, Extension: extension, SetUsername: u.Spec.SetUsername,
		State: row.State, MBGID: u.MBGID, ICPID: u.ICPID, Rev: u.Rev, Settled: u.Settled, Why: u.Why, Head: row.Head}
	if row.State == domain.SIPUserParked {
		out.Class, out.Text = u.Failed.Class, u.Failed.Text
	}
	return out, err
}

// gatewayStatus is where a gateway stands.
type gatewayStatus struct {
	ID        domain.GatewayID `json:"id"`
	Token     string           `json:"token"`
	DaysLeft  int              `json:"days_left" doc:"of the token; -1: unknown"`
	Checklist []domain.Check   `json:"checklist"`
	Preflight []domain.Check   `json:"preflight"`
	Queue     map[string]int   `json:"queue" doc:"SIP users by state"`
	Stopped   string           `json:"stopped,omitempty"`
	StoppedBy string           `json:"stopped_by,omitempty"`
	Circuit   string           `json:"circuit" doc:"closed, or open while nothing answers"`
	NextAt    time.Time        `json:"next_at,omitzero"`
	LastError string           `json:"last_error,omitempty"`
	Drift     any              `json:"drift,omitempty" doc:"as of the last comparison that found any"`
}

// gateways registers border gateways, the SIP users on them, and which lines and devices are behind them.
func (a *api) gateways() {
	a.gatewayNoun()
	a.gatewayToken()
	a.gatewayWork()
	a.sipUsers()
	a.remote()
}

func (a *api) gatewayNoun() {
	lists(a, op{"GET", "/gateways", "list-gateways", "List border gateways", readers, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		TextFilter
		Removed bool `query:"removed" doc:"removed ones too"`
	}) (projections.Listed[projections.Gateway], error) {
		return projections.ListGateways(ctx, l.views, projections.GatewayFilter{Tenants: l.tenants, Text: in.Text, Removed: in.Removed}, l.page)
	}, a.gateway)
	shows(a, op{"GET", "/gateways/{id}", "get-gateway", "Show a border gateway", readers, 0}, domain.GatewayID.Stream, projections.GatewayByID, projections.GatewayAt,
		func(row projections.Gateway) (domain.TenantID, projections.Head) { return row.TenantID, row.Head }, a.gateway)
	change(a, op{"POST", "/gateways", "register-gateway", "Register a border gateway", operators, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			ID       domain.GatewayID `json:"id,omitempty" doc:"to use instead of a new one; without dots"`
			TenantID domain.TenantID  `json:"tenant_id" doc:"master: for the lines of every tenant"`
			GatewayBody
		}
	}) (commands.Outcome, string, made, error) {
		b := in.Body
		if err := sees(ctx, b.TenantID); err != nil {
			return commands.Outcome{}, "", made{}, err
		}
		id, out, err := s.RegisterGateway(ctx, commands.RegisterGateway{ID: b.ID, TenantID: b.TenantID, GatewayWish: b.wish()})
		return out, "/api/v1/gateways/" + string(id), made{string(id)}, err
	})
	amends(a, op{"PUT", "/gateways/{id}", "amend-gateway", "Describe a border gateway anew, whole", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.GatewayID, b GatewayBody) (commands.Outcome, error) {
		return s.AmendGateway(ctx, commands.AmendGateway{ID: id, GatewayWish: b.wish()})
	})
	removes(a, op{"DELETE", "/gateways/{id}", "remove-gateway", "Forget a border gateway; what stands on it stays there", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.GatewayID) (commands.Outcome, error) {
		return s.RemoveGateway(ctx, commands.RemoveGateway{ID: id})
	})
	type consumer struct {
		ConsumerID string `json:"consumer_id"`
		Secret     string `json:"secret"`
	}
	amends(a, op{"PUT", "/gateways/{id}/consumer", "set-gateway-consumer", "Set whom our requests are signed as", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.GatewayID, b consumer) (commands.Outcome, error) {
		return s.SetGatewayConsumer(ctx, commands.SetGatewayConsumer{ID: id, ConsumerID: b.ConsumerID, Secret: b.Secret})
	})
	type mapping struct {
		Text string `json:"text" doc:"YAML; empty for the generic mapping"`
	}
	amends(a, op{"PUT", "/gateways/{id}/mapping", "select-mapping", "Say how its web services are spoken to", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.GatewayID, b mapping) (commands.Outcome, error) {
		return s.SelectMapping(ctx, commands.SelectMapping{ID: id, Text: b.Text})
	})
	a.gatewayNodes()
}

// NodeNamed is one phone system behind one gateway.
type NodeNamed struct {
	ByID
	Node string `path:"node" maxLength:"64"`
	Planned
	Guarded
}

func (a *api) gatewayNodes() {
	act(a, op{"PUT", "/gateways/{id}/nodes/{node}", "define-node", "Describe a phone system behind the gateway, whole", operators, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		NodeNamed
		Body struct {
			Name            string `json:"name,omitempty"`
			InternalAddress string `json:"internal_address" doc:"must be the IP address of the gateway's ICP for it"`
			ExternalAddress string `json:"external_address,omitempty" doc:"instead of the gateway's"`
			ExternalPort    int    `json:"external_port,omitempty"`
			Type            string `json:"type,omitempty" doc:"mivo250 (6.3 SP1 or later), ct_gateway (5.0.64 or later) or other"`
			Release         string `json:"release,omitempty"`
			ICP             string `json:"icp,omitempty" doc:"the one of several ICPs with its address"`
		}
	}) (commands.Outcome, error) {
		id, b := domain.GatewayID(in.ID), in.Body
		ctx, err := a.changing(ctx, s, in.IfMatch, id.Stream())
		if err != nil {
			return commands.Outcome{}, err
		}
		return s.DefineNode(ctx, commands.DefineNode{ID: id, NodeID: in.Node, Name: b.Name, InternalAddress: b.InternalAddress, ExternalAddress: b.ExternalAddress,
			ExternalPort: b.ExternalPort, Type: b.Type, Release: b.Release, ICP: b.ICP})
	})
	act(a, op{"DELETE", "/gateways/{id}/nodes/{node}", "remove-node", "Take a phone system away from the gateway", operators, 0}, func(ctx context.Context, s *commands.Service, in *NodeNamed) (commands.Outcome, error) {
		id := domain.GatewayID(in.ID)
		ctx, err := a.changing(ctx, s, in.IfMatch, id.Stream())
		if err != nil {
			return commands.Outcome{}, err
		}
		return s.RemoveNode(ctx, commands.RemoveNode{ID: id, NodeID: in.Node})
	})
}

func (a *api) gatewayToken() {
	amends(a, op{"POST", "/gateways/{id}/token/request", "request-gateway-token", "Ask the gateway for a temporary token; its administrator then reads the verifier", operators, 0},
		func(ctx context.Context, s *commands.Service, id domain.GatewayID, _ struct{}) (commands.Outcome, error) {
			return s.RequestGatewayToken(ctx, commands.RequestGatewayToken{ID: id})
		})
	type verifier struct {
		Verifier string `json:"verifier"`
	}
	amends(a, op{"POST", "/gateways/{id}/token/verifier", "submit-verifier", "Hand in the verifier read on the gateway; the token is granted", operators, 0},
		func(ctx context.Context, s *commands.Service, id domain.GatewayID, b verifier) (commands.Outcome, error) {
			return s.SubmitVerifier(ctx, commands.SubmitVerifier{ID: id, Verifier: b.Verifier})
		})
	type renewed struct {
		On time.Time `json:"on" doc:"when Renew was pressed on the gateway"`
	}
	amends(a, op{"POST", "/gateways/{id}/token/renewed", "confirm-renewal", "Say when Renew was pressed on the gateway", operators, 0},
		func(ctx context.Context, s *commands.Service, id domain.GatewayID, b renewed) (commands.Outcome, error) {
			return s.ConfirmRenewal(ctx, commands.ConfirmRenewal{ID: id, On: b.On})
		})
}

func (a *api) gatewayWork() {
	type to struct {
		To string `json:"to" doc:"enabled, disabled, paused or resumed; resumed also lets go what held the queue"`
	}
	amends(a, op{"POST", "/gateways/{id}/switch", "switch-gateway", "Switch the push on or off, pause or resume its queue", operators, 0},
		func(ctx context.Context, s *commands.Service, id domain.GatewayID, b to) (commands.Outcome, error) {
			return s.SwitchGateway(ctx, commands.SwitchGateway{ID: id, To: b.To})
		})
	read(a, op{"GET", "/gateways/{id}/status", "get-gateway-status", "Checklist, token and queue of a border gateway", readers, 0}, a.gatewayStatus)
	read(a, op{"GET", "/gateways/{id}/exchanges", "list-exchanges", "The latest HTTP exchanges with a border gateway, since the start of the server", readers, 0}, func(ctx context.Context, in *struct {
		ByID
		MinPosition string `query:"min_position"`
	}) (*struct {
		Body struct {
			Items []exchange `json:"items"`
		}
	}, error) {
		row, err := a.gatewayRow(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		out := &struct {
			Body struct {
				Items []exchange `json:"items"`
			}
		}{}
		out.Body.Items = []exchange{}
		for _, e := range a.Service.Exchanges(row.ID) {
			out.Body.Items = append(out.Body.Items, exchange{e.At, e.Operation, e.Attempt, e.Method, e.Path, e.Body, e.Status, e.Elapsed.Milliseconds(), e.Class, e.Answer})
		}
		return out, nil
	})
	a.gatewayTests()
}

type exchange struct {
	At        time.Time `json:"at"`
	Operation string    `json:"operation"`
	Attempt   int       `json:"attempt" doc:"of what it is part of, from 1"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Body      string    `json:"body,omitempty" doc:"tells equal bodies from different ones: a hash keyed for this run of the server"`
	Status    int       `json:"status" doc:"0: no answer"`
	ElapsedMS int64     `json:"elapsed_ms"`
	Class     string    `json:"class,omitempty"`
	Answer    string    `json:"answer,omitempty" doc:"beginning of an answer that the mapping does not fit, secrets masked"`
}

// gatewayRow finds a gateway the caller reaches.
func (a *api) gatewayRow(ctx context.Context, id string) (projections.Gateway, error) {
	row, ok, err := projections.GatewayByID(ctx, a.Views, domain.GatewayID(id))
	if err == nil && !ok {
		err = errNotFound
	}
	if err != nil {
		return row, err
	}
	return row, sees(ctx, row.TenantID)
}

func (a *api) gatewayStatus(ctx context.Context, in *struct {
	ByID
	MinPosition string `query:"min_position"`
}) (*one[gatewayStatus], error) {
	row, err := a.gatewayRow(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	counts, err := projections.SIPUserCounts(ctx, a.Views, row.ID)
	if err != nil {
		return nil, err
	}
	g, now := row.Gateway, a.Now()
	out := gatewayStatus{ID: g.ID, Token: g.TokenState(now), DaysLeft: -1, Checklist: g.Checklist(now), Preflight: g.Preflight(), Queue: counts, Stopped: g.Stopped(),
		StoppedBy: g.Held.Text, Circuit: "closed"}
	if g.Usable() && !g.Token.Proven {
		out.DaysLeft = max(int(g.Token.ActAt.Sub(now)/(24*time.Hour)), 0)
	}
	if g.Drift.Users > 0 {
		out.Drift = g.Drift
	}
	for _, p := range a.Service.Pushings() {
		if p.GatewayID == g.ID {
			out.Circuit, out.NextAt, out.LastError = p.Circuit, p.NextAt, p.LastError
		}
	}
	return &one[gatewayStatus]{etag(row.Revision), out}, nil
}

func (a *api) gatewayTests() {
	change(a, op{"POST", "/gateways/{id}/self-test", "self-test-gateway", "Try everything the push needs", operators, 200}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Body struct {
			WithProbe bool `json:"with_probe,omitempty" doc:"also create, read and remove a disabled SIP user"`
		}
	}) (commands.Outcome, string, domain.GatewaySelfTested, error) {
		id := domain.GatewayID(in.ID)
		ctx, err := a.changing(ctx, s, "", id.Stream())
		if err != nil {
			return commands.Outcome{}, "", domain.GatewaySelfTested{}, err
		}
		tested, out, err := s.SelfTestGateway(ctx, commands.SelfTestGateway{ID: id, WithProbe: in.Body.WithProbe})
		return out, "", tested, err
	})
	change(a, op{"POST", "/gateways/{id}/reconcile", "reconcile-gateway", "Compare everything on the gateway with what is wanted, and repair it", operators, 200}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Body struct {
			PlanOnly bool `json:"plan_only,omitempty" doc:"answer the differences, change nothing"`
			Confirm  bool `json:"confirm,omitempty" doc:"repair although more than a fifth is missing"`
		}
	}) (commands.Outcome, string, commands.Reconciled, error) {
		id := domain.GatewayID(in.ID)
		ctx, err := a.changing(ctx, s, "", id.Stream())
		if err != nil {
			return commands.Outcome{}, "", commands.Reconciled{}, err
		}
		done, out, err := s.ReconcileGateway(ctx, commands.ReconcileGateway{ID: id, PlanOnly: in.Body.PlanOnly, Confirm: in.Body.Confirm})
		return out, "", done, err
	})
}

func (a *api) sipUsers() {
	lists(a, op{"GET", "/sipusers", "list-sip-users", "List SIP users on border gateways", readers, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		TextFilter
		Gateway domain.GatewayID `query:"gateway"`
		Line    domain.LineID    `query:"line"`
		State   string           `query:"state" enum:"pending,in_sync,parked,removing,removed"`
		Removed bool             `query:"removed" doc:"removed ones too"`
	}) (projections.Listed[projections.SIPUser], error) {
		return projections.ListSIPUsers(ctx, l.views, projections.SIPUserFilter{Tenants: l.tenants, Gateway: in.Gateway, Line: in.Line, State: in.State, Text: in.Text, Removed: in.Removed}, l.page)
	}, a.sipUser)
	shows(a, op{"GET", "/sipusers/{id}", "get-sip-user", "Show a SIP user, without its passwords", readers, 0}, domain.SIPUserID.Stream, projections.SIPUserByID, projections.SIPUserAt,
		func(row projections.SIPUser) (domain.TenantID, projections.Head) { return row.TenantID, row.Head }, a.sipUser)
	act(a, op{"POST", "/sipusers/{id}/retry", "retry-sip-user", "Try again, writing everything", operators, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Guarded
		Body struct {
			Adopt bool `json:"adopt,omitempty" doc:"take over a SIP user somebody made by hand"`
		}
	}) (commands.Outcome, error) {
		id := domain.SIPUserID(in.ID)
		if !isSIPUser(id.Stream()) {
			return commands.Outcome{}, errNotFound
		}
		if err := a.reaches(ctx, s, id.Stream()); err != nil {
			return commands.Outcome{}, err
		}
		ctx, err := guarded(ctx, in.IfMatch, id.Stream())
		if err != nil {
			return commands.Outcome{}, err
		}
		return s.RetrySIPUser(ctx, commands.RetrySIPUser{ID: id, Adopt: in.Body.Adopt})
	})
}

// isSIPUser tells whether a stream can be a SIP user's: its id is that of a gateway, a dot, and that of a line, and so
// longer than other ids may be.
func isSIPUser(stream domain.StreamID) bool {
	gatewayID, lineID, ok := strings.Cut(stream.ID(), ".")
	return stream.Category() == "sipuser" && ok && domain.CheckID(gatewayID) == nil && domain.CheckID(lineID) == nil
}

// remote registers which lines and devices are behind gateways.
func (a *api) remote() {
	amends(a, op{"PUT", "/lines/{id}/remote", "set-line-remote", "Put a line behind a border gateway, with random credentials of its own", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.LineID, b struct {
		GatewayID    domain.GatewayID `json:"gateway_id"`
		NodeID       string           `json:"node_id,omitempty" doc:"the phone system, if the gateway has several"`
		Availability string           `json:"availability,omitempty" doc:"sip (default), everywhere or webrtc"`
		Renew        bool             `json:"renew,omitempty" doc:"make new credentials"`
	}) (commands.Outcome, error) {
		return s.SetLineRemote(ctx, commands.SetLineRemote{ID: id, GatewayID: b.GatewayID, NodeID: b.NodeID, Availability: b.Availability, Renew: b.Renew})
	})
	removes(a, op{"DELETE", "/lines/{id}/remote", "clear-line-remote", "Take a line from its border gateway", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.LineID) (commands.Outcome, error) {
		return s.ClearLineRemote(ctx, commands.ClearLineRemote{ID: id})
	})
	act(a, op{"PUT", "/devices/{id}/gateway", "place-device", "Say which border gateway a phone stands behind, whatever address it asks from", operators, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Guarded
		Body struct {
			GatewayID domain.GatewayID `json:"gateway_id,omitempty" doc:"empty: behind none"`
			Auto      bool             `json:"auto,omitempty" doc:"let the address of its requests decide again"`
		}
	}) (commands.Outcome, error) {
		ctx, id, err := a.changingDevice(ctx, s, in.ID, in.IfMatch, sees)
		if err != nil {
			return commands.Outcome{}, err
		}
		_, life, err := s.CurrentDevice(ctx, id)
		if err != nil {
			return commands.Outcome{}, err
		}
		return s.PlaceDevice(ctx, commands.PlaceDevice{ID: life, GatewayID: in.Body.GatewayID, Auto: in.Body.Auto})
	})
}

// gatewayProblem is the answer to what is the matter with a gateway; nil for anything else.
func gatewayProblem(err error) *problem {
	var b *commands.BorderError
	switch {
	case errors.As(err, &b):
		p := newProblem(http.StatusConflict, "gateway-"+strings.ReplaceAll(b.Class, "_", "-"), commands.Advice(b.Class, b))
		if b.Class == commands.ClassTransport || b.Class == commands.ClassOverloaded {
			p = newProblem(http.StatusServiceUnavailable, "gateway-"+b.Class, commands.Advice(b.Class, b))
			p.retryAfter = max(int(b.RetryAfter/time.Second), 5)
		}
		return p
	case errors.Is(err, commands.ErrClockSkew):
		return newProblem(http.StatusConflict, "gateway-clock", err.Error())
	}
	return nil
}
