package domain

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A gateway is a MiVoice Border Gateway (MBG): teleworkers' phones register to it, and it registers them onward
// to the phone system. Its stream tells what we were told of it, the life of our token, and what stopped or let
// go the queue of pushes; each SIP user on it has a stream of its own (sipuser.go).

// GatewayID names a gateway.
type GatewayID string

// Stream is where the gateway's facts stand.
func (id GatewayID) Stream() StreamID { return Stream("gateway", string(id)) }

// Subject is the owner of the gateway's data key: it seals consumer secret and tokens.
func (id GatewayID) Subject() Subject { return Subject(id.Stream()) }

// GatewayRegistered: we know of a border gateway. The push to it is off until somebody switches it on.
type GatewayRegistered struct {
	GatewayID GatewayID `json:"gateway_id"`
	TenantID  TenantID  `json:"tenant_id"` // master: every tenant's lines may use it
	GatewaySpec
}

// GatewaySpec is what an operator tells of a gateway.
type GatewaySpec struct {
	Name string `json:"name,omitempty"`
	// Address is the base URL of the web services: "https://192.0.2.10".
	Address string `json:"address"`
	// SourceAddresses are where requests of phones behind the gateway come from: its internal addresses.
	SourceAddresses []string `json:"source_addresses,omitempty"`
	// ExternalAddress and ExternalPort are what such phones get as their SIP server; port 0 means 5060 (5061 with TLS).
	ExternalAddress string `json:"external_address"`
	ExternalPort    int    `json:"external_port,omitempty"`
	Release         string `json:"release,omitempty"` // of the gateway's software: "11.5 SP1"
	// CA are PEM certificates its chain may end in, besides the system's; Pins are SHA-256 of public keys (SPKI, base64 or hex).
	CA   string   `json:"ca,omitempty"`
	Pins []string `json:"pins,omitempty"`
	// Adopt says what becomes of a SIP user somebody made by hand for an extension: "overwrite" (empty) or "ask".
	Adopt string `json:"adopt,omitempty"`
	// Off says what becomes of a SIP user whose flag was cleared: "delete" (empty) or "disable".
	Off string `json:"off,omitempty"`
	// AutoRenew lets the engine renew its token where the mapping says how. ResolveNames lets an ICP configured
	// by name match a node by any address of that name.
	AutoRenew    bool `json:"auto_renew,omitempty"`
	ResolveNames bool `json:"resolve_names,omitempty"`
}

// GatewayAmended: the gateway is now as described, whole.
type GatewayAmended struct{ GatewaySpec }

// GatewayConsumerSet: the consumer our requests are signed as. A token of an earlier consumer is of no use.
type GatewayConsumerSet struct {
	ConsumerID string `json:"consumer_id"`
	Secret     Secret `json:"secret"`
	// Fingerprint is the first 8 hex digits of the SHA-256 of the secret.
	Fingerprint string `json:"fingerprint"`
}

// GatewayMappingSelected: this file, kept whole, says how the gateway's web services are spoken to.
type GatewayMappingSelected struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
	SHA256  string `json:"sha256"`
	Text    string `json:"text"`
	// LifetimeMonths is how long a token lives by it.
	LifetimeMonths int `json:"lifetime_months"`
}

// GatewayNodeDefined: a phone system stands behind the gateway, described whole.
type GatewayNodeDefined struct{ GatewayNode }

// GatewayNode is one phone system behind a gateway.
type GatewayNode struct {
	NodeID string `json:"node_id"`
	Name   string `json:"name,omitempty"`
	// InternalAddress must be the IP address of the gateway's ICP for this phone system.
	InternalAddress string `json:"internal_address"`
	// ExternalAddress and ExternalPort override the gateway's for phones of this node.
	ExternalAddress string `json:"external_address,omitempty"`
	ExternalPort    int    `json:"external_port,omitempty"`
	Type            string `json:"type,omitempty"`    // mivo250, ct_gateway, other
	Release         string `json:"release,omitempty"` // "6.3 SP1", "5.0.64"
	// ICP pins the node to one of several ICPs with its address.
	ICP string `json:"icp,omitempty"`
}

// GatewayNodeRemoved: the phone system is no longer behind the gateway.
type GatewayNodeRemoved struct {
	NodeID string `json:"node_id"`
}

// GatewayRemoved: we have nothing to do with the gateway any more; what stands on it stays there.
type GatewayRemoved struct{}

// GatewayTokenRequested: the gateway gave a temporary token; its administrator can now read the verifier.
type GatewayTokenRequested struct {
	Fingerprint string    `json:"fingerprint"` // of the temporary token
	Token       Secret    `json:"token"`
	Secret      Secret    `json:"secret"`
	RequestedAt time.Time `json:"requested_at"`
	// ClockOffsetSeconds is by how much the gateway's clock was ahead of ours.
	ClockOffsetSeconds int `json:"clock_offset_seconds,omitempty"`
}

// GatewayTokenRefused: a step of the exchange was refused. Step is "request" or "verifier"; Tries counts the
// verifiers refused for this temporary token.
type GatewayTokenRefused struct {
	Step  string `json:"step"`
	Class string `json:"class"`
	Text  string `json:"text"`
	Tries int    `json:"tries,omitempty"`
}

// GatewayTokenAbandoned: the temporary token is given up: too old, or too many wrong verifiers.
type GatewayTokenAbandoned struct {
	Reason string `json:"reason"` // too_old, too_many_verifiers
}

// GatewayTokenGranted: we have a final token. ExpiresAt is calendar months after GrantedAt; ActAt, when it is
// acted upon, may be a day earlier.
type GatewayTokenGranted struct {
	Fingerprint string    `json:"fingerprint"`
	Token       Secret    `json:"token"`
	Secret      Secret    `json:"secret"`
	GrantedAt   time.Time `json:"granted_at"`
	ExpiresAt   time.Time `json:"expires_at"`
	ActAt       time.Time `json:"act_at"`
	// Replaces is the fingerprint of the token before, which the administrator should delete on the gateway.
	Replaces string `json:"replaces,omitempty"`
}

// GatewayTokenRenewed: somebody pressed Renew on the gateway, or its API said so; the token lives on.
type GatewayTokenRenewed struct {
	By        string    `json:"by"` // administrator, api
	RenewedAt time.Time `json:"renewed_at"`
	ExpiresAt time.Time `json:"expires_at"`
	ActAt     time.Time `json:"act_at"`
}

// GatewayTokenExpiring: the token's end is near. Once per threshold and end.
type GatewayTokenExpiring struct {
	ThresholdDays int       `json:"threshold_days"`
	DaysLeft      int       `json:"days_left"`
	ActAt         time.Time `json:"act_at"`
}

// GatewayTokenProven: the assumed end has passed and the gateway still takes the token: it was renewed without
// our being told, or never ended. Its end is unknown from here on.
type GatewayTokenProven struct {
	ProvenAt time.Time `json:"proven_at"`
}

// GatewayTokenExpired: the gateway no longer takes the token after its end. Pushes wait, none is lost.
type GatewayTokenExpired struct {
	Class string    `json:"class"`
	At    time.Time `json:"at"`
}

// GatewayTokenRejected: the gateway no longer takes the token before its end: revoked, or its consumer changed.
type GatewayTokenRejected struct {
	Class string    `json:"class"`
	At    time.Time `json:"at"`
}

// GatewayEnabled: the push is switched on; every line with remote credentials on this gateway is swept.
type GatewayEnabled struct{}

// GatewayDisabled: the push is switched off; what stands on the gateway stays.
type GatewayDisabled struct{}

// GatewayPaused: the queue stands still until it is resumed; it goes on growing.
type GatewayPaused struct{}

// GatewayResumed: the queue runs again.
type GatewayResumed struct{}

// GatewayHeld: something only a person can mend stops the queue.
type GatewayHeld struct {
	Class string `json:"class"` // permission, web_services_off, tls_identity, signature, protocol, consumer
	Text  string `json:"text"`
}

// GatewayReleased: what held the queue is mended.
type GatewayReleased struct {
	Class string `json:"class"`
}

// GatewayICPMatched: the gateway's ICP for a node was found.
type GatewayICPMatched struct {
	NodeID  string `json:"node_id"`
	Address string `json:"address"`
	ICPID   string `json:"icp_id"`
	ICPName string `json:"icp_name,omitempty"`
	By      string `json:"by"` // address, name, pin
}

// GatewayICPMatchFailed: no ICP, or more than one, fits the node; nothing of this node can be pushed.
type GatewayICPMatchFailed struct {
	NodeID     string         `json:"node_id"`
	Address    string         `json:"address"`
	Class      string         `json:"class"` // icp_not_found, icp_ambiguous
	Candidates []ICPCandidate `json:"candidates,omitempty"`
}

// ICPCandidate is one ICP the gateway has, with what speaks for a mistake.
type ICPCandidate struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	Address string `json:"address"`
	Hint    string `json:"hint,omitempty"`
}

// GatewaySelfTested: the live check of mapping and permissions was run.
type GatewaySelfTested struct {
	Passed bool    `json:"passed"`
	Checks []Check `json:"checks"`
}

// Check is one line of a checklist.
type Check struct {
	Name  string `json:"name"`
	State string `json:"state"` // ok, warning, failed, waiting, open
	Text  string `json:"text,omitempty"`
}

// GatewayDriftFound: what stands on the gateway is not what we want there. Braked: so much is missing that
// nothing is repaired until somebody says so.
type GatewayDriftFound struct {
	Users    int         `json:"users"` // that should be there
	Missing  int         `json:"missing,omitempty"`
	Drifted  int         `json:"drifted,omitempty"`
	Unwanted int         `json:"unwanted,omitempty"`
	Clashes  int         `json:"clashes,omitempty"` // records of others with one of our names or extensions
	Braked   bool        `json:"braked,omitempty"`
	Items    []DriftItem `json:"items,omitempty"` // the first hundred
}

// DriftItem is one difference.
type DriftItem struct {
	SIPUserID SIPUserID `json:"sip_user_id,omitempty"`
	Kind      string    `json:"kind"` // missing, drifted, unwanted, clash
	MBGID     string    `json:"mbg_id,omitempty"`
	Fields    []string  `json:"fields,omitempty"`
}

// GatewayReconciled: the comparison was carried through; Repairs is how many pushes it asked for.
type GatewayReconciled struct {
	Users   int `json:"users"`
	Foreign int `json:"foreign,omitempty"`
	Repairs int `json:"repairs,omitempty"`
}

// GatewayAlertSent: the receiver of alerts has taken one.
type GatewayAlertSent struct {
	EventID string `json:"event_id"`
	Event   string `json:"event"`
}

func (GatewayRegistered) EventType() string      { return "gateway.registered" }
func (GatewayAmended) EventType() string         { return "gateway.amended" }
func (GatewayConsumerSet) EventType() string     { return "gateway.consumer_set" }
func (GatewayMappingSelected) EventType() string { return "gateway.mapping_selected" }
func (GatewayNodeDefined) EventType() string     { return "gateway.node_defined" }
func (GatewayNodeRemoved) EventType() string     { return "gateway.node_removed" }
func (GatewayRemoved) EventType() string         { return "gateway.removed" }
func (GatewayTokenRequested) EventType() string  { return "gateway.token_requested" }
func (GatewayTokenRefused) EventType() string    { return "gateway.token_refused" }
func (GatewayTokenAbandoned) EventType() string  { return "gateway.token_abandoned" }
func (GatewayTokenGranted) EventType() string    { return "gateway.token_granted" }
func (GatewayTokenRenewed) EventType() string    { return "gateway.token_renewed" }
func (GatewayTokenExpiring) EventType() string   { return "gateway.token_expiring" }
func (GatewayTokenProven) EventType() string     { return "gateway.token_proven" }
func (GatewayTokenExpired) EventType() string    { return "gateway.token_expired" }
func (GatewayTokenRejected) EventType() string   { return "gateway.token_rejected" }
func (GatewayEnabled) EventType() string         { return "gateway.enabled" }
func (GatewayDisabled) EventType() string        { return "gateway.disabled" }
func (GatewayPaused) EventType() string          { return "gateway.paused" }
func (GatewayResumed) EventType() string         { return "gateway.resumed" }
func (GatewayHeld) EventType() string            { return "gateway.held" }
func (GatewayReleased) EventType() string        { return "gateway.released" }
func (GatewayICPMatched) EventType() string      { return "gateway.icp_matched" }
func (GatewayICPMatchFailed) EventType() string  { return "gateway.icp_match_failed" }
func (GatewaySelfTested) EventType() string      { return "gateway.self_tested" }
func (GatewayDriftFound) EventType() string      { return "gateway.drift_found" }
func (GatewayReconciled) EventType() string      { return "gateway.reconciled" }
func (GatewayAlertSent) EventType() string       { return "gateway.alert_sent" }

var gatewayEvents = []entry{of[GatewayRegistered](), of[GatewayAmended](), of[GatewayConsumerSet](), of[GatewayMappingSelected](),
	of[GatewayNodeDefined](), of[GatewayNodeRemoved](), of[GatewayRemoved](), of[GatewayTokenRequested](), of[GatewayTokenRefused](),
	of[GatewayTokenAbandoned](), of[GatewayTokenGranted](), of[GatewayTokenRenewed](), of[GatewayTokenExpiring](), of[GatewayTokenProven](),
	of[GatewayTokenExpired](), of[GatewayTokenRejected](), of[GatewayEnabled](), of[GatewayDisabled](), of[GatewayPaused](), of[GatewayResumed](),
	of[GatewayHeld](), of[GatewayReleased](), of[GatewayICPMatched](), of[GatewayICPMatchFailed](), of[GatewaySelfTested](),
	of[GatewayDriftFound](), of[GatewayReconciled](), of[GatewayAlertSent]()}

// Gateway is what a gateway stream adds up to.
type Gateway struct {
	ID       GatewayID
	TenantID TenantID
	GatewaySpec
	ConsumerID          string
	ConsumerSecret      Secret
	ConsumerFingerprint string
	Mapping             GatewayMappingSelected
	Nodes               []GatewayNode // by id; never written to after Apply
	ICPs                []NodeICP     // by node id; never written to after Apply
	// Temporary is the exchange under way: zero RequestedAt when there is none. Refused is the last refusal of it.
	Temporary GatewayTokenRequested
	Tries     int
	Refused   GatewayTokenRefused
	Token     GatewayToken
	Enabled   bool
	Paused    bool
	Held      GatewayHeld // zero Class: nothing holds the queue
	Braked    bool
	Drift     GatewayDriftFound
	Tested    GatewaySelfTested
	Exists    bool
	Removed   bool
}

// GatewayToken is the final token as far as we know it.
type GatewayToken struct {
	GatewayTokenGranted
	Renewed time.Time // when somebody last pressed Renew; zero for never
	Warned  int       // the smallest threshold warned of for this end, plus one; 0 for none
	Proven  bool      // worked after its assumed end
	Expired bool
	// Rejected: refused before its end.
	Rejected bool
}

// NodeICP is how a node's search for its ICP ended last.
type NodeICP struct {
	NodeID  string
	Matched GatewayICPMatched // zero ICPID: none
	Failed  GatewayICPMatchFailed
}

// Owner is the tenant the gateway belongs to; empty before its first event.
func (g Gateway) Owner() TenantID { return g.TenantID }

// Apply returns the gateway after e.
func (g Gateway) Apply(e Event) Gateway {
	switch e := e.(type) {
	case GatewayRegistered:
		g.ID, g.TenantID, g.GatewaySpec, g.Exists = e.GatewayID, e.TenantID, e.GatewaySpec, true
	case GatewayAmended:
		g.GatewaySpec = e.GatewaySpec
	case GatewayConsumerSet:
		g.ConsumerID, g.ConsumerSecret, g.ConsumerFingerprint = e.ConsumerID, e.Secret, e.Fingerprint
		g.Temporary, g.Tries, g.Refused = GatewayTokenRequested{}, 0, GatewayTokenRefused{}
	case GatewayMappingSelected:
		g.Mapping, g.Tested = e, GatewaySelfTested{}
	case GatewayNodeDefined:
		g.Nodes = slices.DeleteFunc(slices.Clone(g.Nodes), func(n GatewayNode) bool { return n.NodeID == e.NodeID })
		g.Nodes = append(g.Nodes, e.GatewayNode)
		slices.SortFunc(g.Nodes, func(a, b GatewayNode) int { return cmp.Compare(a.NodeID, b.NodeID) })
		g.ICPs = withoutICP(g.ICPs, e.NodeID)
	case GatewayNodeRemoved:
		g.Nodes = slices.DeleteFunc(slices.Clone(g.Nodes), func(n GatewayNode) bool { return n.NodeID == e.NodeID })
		g.ICPs = withoutICP(g.ICPs, e.NodeID)
	case GatewayRemoved:
		g.Removed = true
	case KeyDestroyed:
		if e.Subject == g.ID.Subject() { // nothing can be signed any more
			g.ConsumerID, g.ConsumerSecret, g.ConsumerFingerprint = "", Secret{}, ""
			g.Temporary, g.Tries, g.Refused, g.Token = GatewayTokenRequested{}, 0, GatewayTokenRefused{}, GatewayToken{}
		}
	case GatewayICPMatched:
		g.ICPs = append(withoutICP(g.ICPs, e.NodeID), NodeICP{NodeID: e.NodeID, Matched: e})
	case GatewayICPMatchFailed:
		g.ICPs = append(withoutICP(g.ICPs, e.NodeID), NodeICP{NodeID: e.NodeID, Failed: e})
	case GatewayEnabled:
		g.Enabled = true
	case GatewayDisabled:
		g.Enabled = false
	case GatewayPaused:
		g.Paused = true
	case GatewayResumed:
		g.Paused = false
	case GatewayHeld:
		g.Held = e
	case GatewayReleased:
		g.Held = GatewayHeld{}
	case GatewaySelfTested:
		g.Tested = e
	case GatewayDriftFound:
		g.Drift, g.Braked = e, e.Braked
	case GatewayReconciled:
		g.Braked = false
	}
	return g.applyToken(e)
}

func (g Gateway) applyToken(e Event) Gateway {
	switch e := e.(type) {
	case GatewayTokenRequested:
		g.Temporary, g.Tries, g.Refused = e, 0, GatewayTokenRefused{}
	case GatewayTokenRefused:
		g.Refused, g.Tries = e, e.Tries
	case GatewayTokenAbandoned:
		g.Temporary, g.Tries = GatewayTokenRequested{}, 0
	case GatewayTokenGranted:
		g.Token = GatewayToken{GatewayTokenGranted: e}
		g.Temporary, g.Tries, g.Refused = GatewayTokenRequested{}, 0, GatewayTokenRefused{}
	case GatewayTokenRenewed:
		g.Token.ExpiresAt, g.Token.ActAt, g.Token.Renewed = e.ExpiresAt, e.ActAt, e.RenewedAt
		g.Token.Warned, g.Token.Proven, g.Token.Expired, g.Token.Rejected = 0, false, false, false
	case GatewayTokenExpiring:
		g.Token.Warned = e.ThresholdDays + 1
	case GatewayTokenProven:
		g.Token.Proven = true
	case GatewayTokenExpired:
		g.Token.Expired = true
	case GatewayTokenRejected:
		g.Token.Rejected = true
	}
	return g
}

func withoutICP(icps []NodeICP, node string) []NodeICP {
	return slices.DeleteFunc(slices.Clone(icps), func(n NodeICP) bool { return n.NodeID == node })
}

var (
	ErrGatewayUnknown       = errors.New("no such gateway")
	ErrGatewayExists        = errors.New("gateway exists already")
	ErrGatewayRemoved       = errors.New("gateway was removed")
	ErrGatewayEnabled       = errors.New("the push to this gateway is on; switch it off first")
	ErrGatewayOfOtherTenant = errors.New("gateway belongs to another tenant")
	ErrGatewayNoConsumer    = errors.New("gateway has no consumer yet: set consumer id and secret")
	ErrGatewayNoMapping     = errors.New("gateway has no mapping yet: select one")
	ErrGatewayNoRequest     = errors.New("no temporary token waits for a verifier: request one")
	ErrGatewayNoToken       = errors.New("gateway has no token yet")
	ErrNodeUnknown          = errors.New("gateway has no such node")
	ErrRenewalDate          = errors.New("the day Renew was pressed must lie between the token's grant and today")
	ErrTooManyNodes         = errors.New("a gateway has at most 200 nodes")
)

// Live is nil for a gateway that things can be done with.
func (g Gateway) Live() error {
	switch {
	case !g.Exists:
		return ErrGatewayUnknown
	case g.Removed:
		return ErrGatewayRemoved
	}
	return nil
}

// Serves is nil when lines of tenant may use the gateway.
func (g Gateway) Serves(tenant TenantID) error {
	if err := g.Live(); err != nil {
		return err
	}
	if g.TenantID != tenant && g.TenantID != Master {
		return ErrGatewayOfOtherTenant
	}
	return nil
}

// Register makes the gateway.
func (g Gateway) Register(id GatewayID, tenant TenantID, spec GatewaySpec) ([]Event, error) {
	if g.Exists {
		return nil, ErrGatewayExists
	}
	return []Event{GatewayRegistered{id, tenant, spec}}, nil
}

// Amend changes what is known of the gateway; an unchanged description is no news.
func (g Gateway) Amend(spec GatewaySpec) ([]Event, error) {
	if err := g.Live(); err != nil {
		return nil, err
	}
	if g.GatewaySpec.equal(spec) {
		return nil, nil
	}
	return []Event{GatewayAmended{spec}}, nil
}

func (s GatewaySpec) equal(t GatewaySpec) bool {
	return s.Name == t.Name && s.Address == t.Address && slices.Equal(s.SourceAddresses, t.SourceAddresses) && s.ExternalAddress == t.ExternalAddress &&
		s.ExternalPort == t.ExternalPort && s.Release == t.Release && s.CA == t.CA && slices.Equal(s.Pins, t.Pins) && s.Adopt == t.Adopt &&
		s.Off == t.Off && s.AutoRenew == t.AutoRenew && s.ResolveNames == t.ResolveNames
}

// SetConsumer sets id and secret of the consumer; the same again is no news.
func (g Gateway) SetConsumer(id string, secret Secret, fingerprint string) ([]Event, error) {
	if err := g.Live(); err != nil {
		return nil, err
	}
	if g.ConsumerID == id && g.ConsumerSecret.Same(secret.Sealed) {
		return nil, nil
	}
	return []Event{GatewayConsumerSet{id, secret, fingerprint}}, nil
}

// SelectMapping sets the mapping; the same text again is no news.
func (g Gateway) SelectMapping(m GatewayMappingSelected) ([]Event, error) {
	if err := g.Live(); err != nil || g.Mapping == m {
		return nil, err
	}
	return []Event{m}, nil
}

// maxNodes bounds the phone systems behind one gateway.
const maxNodes = 200

// DefineNode describes a node, whole.
func (g Gateway) DefineNode(n GatewayNode) ([]Event, error) {
	if err := g.Live(); err != nil {
		return nil, err
	}
	if now, ok := g.Node(n.NodeID); ok && now == n {
		return nil, nil
	} else if !ok && len(g.Nodes) >= maxNodes {
		return nil, ErrTooManyNodes
	}
	return []Event{GatewayNodeDefined{n}}, nil
}

// RemoveNode takes a node away.
func (g Gateway) RemoveNode(id string) ([]Event, error) {
	if err := g.Live(); err != nil {
		return nil, err
	}
	if _, ok := g.Node(id); !ok {
		return nil, ErrNodeUnknown
	}
	return []Event{GatewayNodeRemoved{id}}, nil
}

// Node finds a node; the empty id means the only one, if there is one only.
func (g Gateway) Node(id string) (GatewayNode, bool) {
	if id == "" && len(g.Nodes) == 1 {
		return g.Nodes[0], true
	}
	for _, n := range g.Nodes {
		if n.NodeID == id {
			return n, true
		}
	}
	return GatewayNode{}, false
}

// ICP is how the node's search for its ICP ended last.
func (g Gateway) ICP(node string) NodeICP {
	for _, n := range g.ICPs {
		if n.NodeID == node {
			return n
		}
	}
	return NodeICP{NodeID: node}
}

// External is what phones of a node get as their SIP server; port 0 leaves it to the transport.
func (g Gateway) External(node string) (host string, port int) {
	host, port = g.ExternalAddress, g.ExternalPort
	if n, ok := g.Node(node); ok {
		host = cmp.Or(n.ExternalAddress, host)
		port = cmp.Or(n.ExternalPort, port)
	}
	return host, port
}

// Switch turns the push on or off; as it is already is no news.
func (g Gateway) Switch(on bool) ([]Event, error) {
	switch err := g.Live(); {
	case err != nil || g.Enabled == on:
		return nil, err
	case !on:
		return []Event{GatewayDisabled{}}, nil
	case g.ConsumerID == "":
		return nil, ErrGatewayNoConsumer
	case g.Mapping.Name == "":
		return nil, ErrGatewayNoMapping
	}
	return []Event{GatewayEnabled{}}, nil
}

// Pause lets the queue stand still, or go on.
func (g Gateway) Pause(paused bool) ([]Event, error) {
	if err := g.Live(); err != nil || g.Paused == paused {
		return nil, err
	}
	if paused {
		return []Event{GatewayPaused{}}, nil
	}
	return []Event{GatewayResumed{}}, nil
}

// Hold stops the queue for a reason; the same reason again is no news.
func (g Gateway) Hold(class, text string) []Event {
	if g.Live() != nil || g.Held.Class == class {
		return nil
	}
	return []Event{GatewayHeld{class, text}}
}

// Free lets a held queue go.
func (g Gateway) Free() []Event {
	if g.Held.Class == "" {
		return nil
	}
	return []Event{GatewayReleased{g.Held.Class}}
}

// Remove ends our dealings with the gateway. Removing again is no news.
func (g Gateway) Remove() ([]Event, error) {
	switch {
	case !g.Exists:
		return nil, ErrGatewayUnknown
	case g.Removed:
		return nil, nil
	case g.Enabled:
		return nil, ErrGatewayEnabled
	}
	return []Event{GatewayRemoved{}}, nil
}

// MatchICP notes how the search of a node's ICP ended; the same end again is no news.
func (g Gateway) MatchICP(e Event) []Event {
	switch e := e.(type) {
	case GatewayICPMatched:
		if g.ICP(e.NodeID).Matched == e {
			return nil
		}
	case GatewayICPMatchFailed:
		now := g.ICP(e.NodeID).Failed
		if now.Class == e.Class && now.Address == e.Address && slices.Equal(now.Candidates, e.Candidates) {
			return nil
		}
	}
	return []Event{e}
}

// Life of a temporary token, and how many verifiers may be wrong.
const (
	TemporaryLife = 30 * time.Minute
	VerifierTries = 3
)

// CanRequest is nil when a token can be asked for.
func (g Gateway) CanRequest() error {
	switch err := g.Live(); {
	case err != nil:
		return err
	case g.ConsumerID == "":
		return ErrGatewayNoConsumer
	case g.Mapping.Name == "":
		return ErrGatewayNoMapping
	}
	return nil
}

// CanVerify is nil when a temporary token waits for its verifier at now; abandoned is what to record when it is too old.
func (g Gateway) CanVerify(now time.Time) (abandoned []Event, err error) {
	if err := g.CanRequest(); err != nil {
		return nil, err
	}
	if g.Temporary.RequestedAt.IsZero() {
		return nil, ErrGatewayNoRequest
	}
	if now.Sub(g.Temporary.RequestedAt) > TemporaryLife {
		return []Event{GatewayTokenAbandoned{"too_old"}}, ErrGatewayNoRequest
	}
	return nil, nil
}

// RefuseVerifier notes a wrong verifier; after the third the temporary token is given up.
func (g Gateway) RefuseVerifier(class, text string) []Event {
	refused := GatewayTokenRefused{Step: "verifier", Class: class, Text: text, Tries: g.Tries + 1}
	if refused.Tries >= VerifierTries {
		return []Event{refused, GatewayTokenAbandoned{"too_many_verifiers"}}
	}
	return []Event{refused}
}

// Lifetime is when a token granted or renewed at from ends: months later in UTC, on that month's last day if it has
// no such day; and when that is acted upon, which for twelve months is 365 days later if that comes first.
func Lifetime(from time.Time, months int) (expires, act time.Time) {
	from = from.UTC()
	first := time.Date(from.Year(), from.Month()+time.Month(months), 1, from.Hour(), from.Minute(), from.Second(), from.Nanosecond(), time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	expires = first.AddDate(0, 0, min(from.Day(), last)-1)
	act = from.AddDate(0, 0, months*365/12)
	if expires.Before(act) {
		act = expires
	}
	return expires, act
}

// Renew notes that Renew was pressed at day at on the gateway.
func (g Gateway) Renew(at, now time.Time) ([]Event, error) {
	switch err := g.Live(); {
	case err != nil:
		return nil, err
	case g.Token.GrantedAt.IsZero():
		return nil, ErrGatewayNoToken
	case at.After(now) || at.Before(g.Token.GrantedAt.UTC().Truncate(24*time.Hour)):
		return nil, ErrRenewalDate
	}
	expires, act := Lifetime(at, max(g.Mapping.LifetimeMonths, 1))
	if g.Token.ExpiresAt.Equal(expires) && g.Token.Renewed.Equal(at) {
		return nil, nil
	}
	return []Event{GatewayTokenRenewed{By: "administrator", RenewedAt: at, ExpiresAt: expires, ActAt: act}}, nil
}

// LearnExpiry notes the end the gateway's own API tells.
func (g Gateway) LearnExpiry(expires, now time.Time) []Event {
	if g.Live() != nil || g.Token.GrantedAt.IsZero() || g.Token.ExpiresAt.Equal(expires) && !g.Token.Expired {
		return nil
	}
	return []Event{GatewayTokenRenewed{By: "api", RenewedAt: now, ExpiresAt: expires, ActAt: expires}}
}

// Thresholds are the days before a token's end at which it is warned of.
var Thresholds = []int{60, 30, 14, 7, 3, 1, 0}

// Warn is the warning due at now, if one is: the tightest threshold passed, once per end.
func (g Gateway) Warn(now time.Time) []Event {
	t := g.Token
	if g.Live() != nil || t.GrantedAt.IsZero() || t.Expired || t.Rejected || t.Proven {
		return nil
	}
	left := t.ActAt.Sub(now)
	if left < 0 {
		return nil // no warning any more: it is tried
	}
	due := -1
	for _, days := range Thresholds {
		if left <= time.Duration(days)*24*time.Hour {
			due = days
		}
	}
	if due < 0 || t.Warned != 0 && t.Warned <= due+1 {
		return nil
	}
	return []Event{GatewayTokenExpiring{ThresholdDays: due, DaysLeft: int(left / (24 * time.Hour)), ActAt: t.ActAt}}
}

// Overdue tells whether the assumed end has passed at now and the token was not refused: then it is tried once a day with a
// cheap call.
func (g Gateway) Overdue(now time.Time) bool {
	t := g.Token
	return g.Live() == nil && !t.GrantedAt.IsZero() && !t.Expired && !t.Rejected && now.After(t.ActAt)
}

// Prove notes that the token worked at now, past its assumed end.
func (g Gateway) Prove(now time.Time) []Event {
	if !g.Overdue(now) || g.Token.Proven {
		return nil
	}
	return []Event{GatewayTokenProven{now}}
}

// LoseToken notes that the gateway no longer takes the token: expired after its assumed end, rejected before.
func (g Gateway) LoseToken(class string, now time.Time) []Event {
	switch t := g.Token; {
	case g.Live() != nil || t.GrantedAt.IsZero() || t.Expired || t.Rejected:
		return nil
	case class == "token_expired" || t.Proven || now.After(t.ActAt):
		return []Event{GatewayTokenExpired{class, now}}
	default:
		return []Event{GatewayTokenRejected{class, now}}
	}
}

// States of a gateway's token.
const (
	TokenUnconfigured = "unconfigured"
	TokenConsumerSet  = "consumer_set"
	TokenAwaiting     = "awaiting_verifier"
	TokenActive       = "active"
	TokenExpiring     = "expiring_soon"
	TokenProven       = "expiry_unknown_working"
	TokenExpired      = "expired"
	TokenRejected     = "rejected"
)

// TokenState is where the token stands at now.
func (g Gateway) TokenState(now time.Time) string {
	t := g.Token
	switch {
	case !g.Temporary.RequestedAt.IsZero() && now.Sub(g.Temporary.RequestedAt) <= TemporaryLife && !g.Usable():
		return TokenAwaiting
	case t.GrantedAt.IsZero() && g.ConsumerID == "":
		return TokenUnconfigured
	case t.GrantedAt.IsZero():
		return TokenConsumerSet
	case t.Rejected:
		return TokenRejected
	case t.Expired:
		return TokenExpired
	case t.Proven:
		return TokenProven
	case t.ActAt.Sub(now) <= time.Duration(Thresholds[0])*24*time.Hour:
		return TokenExpiring
	}
	return TokenActive
}

// Usable tells whether there is a token that has not been refused.
func (g Gateway) Usable() bool {
	return !g.Token.GrantedAt.IsZero() && !g.Token.Expired && !g.Token.Rejected
}

// Stopped says in one word why the queue of pushes stands still; empty when it runs.
func (g Gateway) Stopped() string {
	switch {
	case g.Live() != nil:
		return "removed"
	case !g.Enabled:
		return "disabled"
	case g.Paused:
		return "paused"
	case !g.Usable():
		return "no_token"
	case g.Held.Class != "":
		return g.Held.Class
	}
	return ""
}

// Oldest releases the push was made for (the manual of the MiVoice Office Application Suite).
var oldest = map[string]string{"mivo250": "6.3 SP1", "ct_gateway": "5.0.64", "mbg": "10"}

// Preflight checks what we were told, without asking anybody.
func (g Gateway) Preflight() []Check {
	checks := []Check{release("release of the gateway", "mbg", g.Release)}
	for _, n := range g.Nodes {
		if _, known := oldest[n.Type]; known {
			checks = append(checks, release("release of "+n.NodeID, n.Type, n.Release))
		}
	}
	if len(g.Nodes) == 0 {
		checks = append(checks, Check{"nodes", "failed", "no phone system is known behind this gateway: add a node with its internal address"})
	}
	if len(g.SourceAddresses) == 0 {
		checks = append(checks, Check{"source addresses", "warning", "the gateway's internal address is not known: phones behind it are recognised by their flag only"})
	}
	if g.CA == "" && len(g.Pins) == 0 {
		checks = append(checks, Check{"certificate", "warning", "neither a CA nor a pin is set: the gateway's certificate must be publicly trusted"})
	}
	return checks
}

func release(name, kind, text string) Check {
	need := oldest[kind]
	switch have, err := ParseRelease(text); {
	case text == "":
		return Check{name, "warning", "not told; " + need + " or later is needed"}
	case err != nil:
		return Check{name, "failed", fmt.Sprintf("%q is not a release such as %s", text, need)}
	case have.less(mustRelease(need)):
		return Check{name, "failed", text + " is too old: " + need + " or later is needed"}
	}
	return Check{name, "ok", text}
}

// Release is a version as Mitel prints it: numbers with dots, and the number of a service pack.
type Release []int

// ParseRelease reads "6.3 SP1", "5.0.64", "v11.5.1.14".
func ParseRelease(s string) (Release, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	text = strings.TrimPrefix(strings.TrimPrefix(text, "release "), "v")
	numbers, pack, hasPack := strings.Cut(text, "sp")
	r := make(Release, 4) // three numbers, then the service pack
	parts := strings.Split(strings.TrimSpace(numbers), ".")
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || i > 5 {
			return nil, fmt.Errorf("%q is not a release", s)
		}
		if i < 3 {
			r[i] = n
		}
	}
	if hasPack {
		n, err := strconv.Atoi(strings.TrimSpace(pack))
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%q is not a release", s)
		}
		r[3] = n
	}
	return r, nil
}

func mustRelease(s string) Release {
	r, err := ParseRelease(s)
	if err != nil {
		panic(err)
	}
	return r
}

func (r Release) less(t Release) bool { return slices.Compare(r, t) < 0 }

// Checklist is the procedure of bringing a gateway into service, step by step, with where it stands at now.
func (g Gateway) Checklist(now time.Time) []Check {
	reached := Check{"web services reachable", "open", "press Start on the gateway's page Administration, Web services; then request a token"}
	consumer := Check{"consumer accepted", "open", ""}
	switch {
	case g.Usable() || !g.Temporary.RequestedAt.IsZero():
		reached.State, reached.Text = "ok", ""
		consumer.State = "ok"
	case g.Refused.Step == "request":
		switch g.Refused.Class {
		case "consumer", "signature", "token_dead", "permission", "clock":
			reached.State, reached.Text = "ok", ""
			consumer.State, consumer.Text = "failed", g.Refused.Text
		default:
			reached.State, reached.Text = "failed", g.Refused.Text
		}
	}
	if g.ConsumerID == "" {
		consumer.Text = "set consumer id and secret"
	}
	return append([]Check{reached, consumer, g.verifierCheck(now), g.tokenCheck(now), g.testedCheck()}, g.nodeChecks()...)
}

func (g Gateway) verifierCheck(now time.Time) Check {
	c := Check{"verifier", "open", "request a token"}
	switch {
	case !g.Temporary.RequestedAt.IsZero():
		age := now.Sub(g.Temporary.RequestedAt).Round(time.Minute)
		c.State, c.Text = "waiting", fmt.Sprintf("temporary token %s waits for its verifier since %d min; %d of %d tries are left",
			g.Temporary.Fingerprint, int(age.Minutes()), VerifierTries-g.Tries, VerifierTries)
		if now.Sub(g.Temporary.RequestedAt) > TemporaryLife {
			c.State, c.Text = "failed", "the temporary token is too old: request a new one"
		}
	case g.Usable():
		c.State, c.Text = "ok", ""
	case g.Refused.Step == "verifier":
		c.State, c.Text = "failed", g.Refused.Text+"; request a new token"
	}
	return c
}

func (g Gateway) tokenCheck(now time.Time) Check {
	c := Check{Name: "token granted", State: "open"}
	switch state := g.TokenState(now); state {
	case TokenActive, TokenExpiring:
		c.State, c.Text = "ok", fmt.Sprintf("token %s, good until %s", g.Token.Fingerprint, g.Token.ActAt.Format(time.DateOnly))
		if state == TokenExpiring {
			c.State, c.Text = "warning", c.Text+": press Renew beside it on the gateway, then say so here"
		}
	case TokenProven:
		c.State, c.Text = "warning", "it works past its assumed end; say here when Renew was pressed"
	case TokenExpired, TokenRejected:
		c.State, c.Text = "failed", "the gateway no longer takes token "+g.Token.Fingerprint+": request a new one"
	case TokenAwaiting:
		c.Text = "waits for the verifier"
	}
	return c
}

func (g Gateway) testedCheck() Check {
	c := Check{"self-test", "open", "run the self-test"}
	if len(g.Tested.Checks) > 0 {
		c.State, c.Text = "ok", ""
		if !g.Tested.Passed {
			c.State = "failed"
			for _, t := range g.Tested.Checks {
				if t.State == "failed" {
					c.Text = t.Name + ": " + t.Text
					break
				}
			}
		}
	}
	return c
}

func (g Gateway) nodeChecks() []Check {
	var checks []Check
	for _, n := range g.Nodes {
		c := Check{"ICP of " + n.NodeID, "open", "not looked for yet"}
		switch m := g.ICP(n.NodeID); {
		case m.Matched.ICPID != "" && m.Matched.By == "name":
			c.State, c.Text = "warning", fmt.Sprintf("ICP %s (%s) matched by name; the documented rule is by address", m.Matched.ICPID, m.Matched.ICPName)
		case m.Matched.ICPID != "":
			c.State, c.Text = "ok", fmt.Sprintf("ICP %s (%s)", m.Matched.ICPID, m.Matched.ICPName)
		case m.Failed.Class != "":
			c.State, c.Text = "failed", m.Failed.Explain()
		}
		checks = append(checks, c)
	}
	return checks
}

// Explain says what was looked for and what was found instead.
func (f GatewayICPMatchFailed) Explain() string {
	var b strings.Builder
	if f.Class == "icp_ambiguous" {
		fmt.Fprintf(&b, "more than one ICP has the address %s; pin one to the node:", f.Address)
	} else {
		fmt.Fprintf(&b, "no ICP has the node's internal address %s; the gateway has", f.Address)
	}
	if len(f.Candidates) == 0 {
		b.WriteString(" none")
	}
	for i, c := range f.Candidates {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, " %s %q at %s", c.ID, c.Name, c.Address)
		if c.Hint != "" {
			fmt.Fprintf(&b, " (%s)", c.Hint)
		}
	}
	return b.String()
}
