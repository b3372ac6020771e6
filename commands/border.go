package commands

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ledgerline/domain"
)

// Borders reaches border gateways: adapters/mbg. Safe for concurrent use.
type Borders interface {
	// ReadMapping checks a mapping file and says what it is. An error names the line.
	ReadMapping(text string) (domain.GatewayMappingSelected, error)
	// Dial makes a client for one gateway; nothing is sent yet. The client serves one goroutine at a time.
	Dial(a BorderAccess) (Border, error)
}

// BorderAccess is all that is needed to talk to a gateway. Token is empty before one was granted.
type BorderAccess struct {
	Address       string
	Mapping       string // text of the mapping file
	CA            string
	Pins          []string
	ConsumerID    string
	Secret        string
	Token         string
	TokenSecret   string
	ResolveNames  bool
	ClockOffset   time.Duration // the gateway's clock minus ours
	Now           func() time.Time
	TrustAnyHost  bool // speak a mapping made for the simulator to anybody
	TraceExchange func(BorderExchange)
}

// BorderExchange is the trace of one HTTP exchange: no secret, no body.
type BorderExchange struct {
	At time.Time // when it began
	// Attempt counts the tries of what it is part of, from 1.
	Attempt int
	// Body tells equal bodies sent from different ones, within one run of the program: a keyed hash, from which nothing
	// can be guessed; empty for none. Answer is the beginning of one that the mapping does not fit, secrets masked.
	Body      string
	Answer    string
	Operation string
	Method    string
	Path      string // template
	Status    int    // 0: no answer
	Elapsed   time.Duration
	Class     string
}

// Border is one gateway's web services. Every error is a *BorderError.
type Border interface {
	// Clock asks, unsigned, what time the gateway believes it is, and so whether its web services answer.
	Clock(ctx context.Context) (time.Time, error)
	// RequestToken and AccessToken are the two steps of the exchange.
	RequestToken(ctx context.Context) (token, secret string, err error)
	AccessToken(ctx context.Context, token, secret, verifier string) (final, finalSecret string, err error)
	// Ping is the cheapest signed call.
	Ping(ctx context.Context) error
	ICPs(ctx context.Context) ([]BorderICP, error)
	// Users lists every record; FindUser those with a set-side name, by a search if there is one.
	Users(ctx context.Context) ([]BorderUser, error)
	FindUser(ctx context.Context, setUsername string) ([]BorderUser, error)
	// User reads one record; class not_found when it is gone.
	User(ctx context.Context, id string) (BorderUser, error)
	CreateUser(ctx context.Context, w BorderWish) (id string, err error)
	// UpdateUser writes over a record as it was read, keeping what is not ours. Passwords are written if withPasswords.
	UpdateUser(ctx context.Context, now BorderUser, w BorderWish, withPasswords bool) error
	DeleteUser(ctx context.Context, id string) error
	// Differs names the readable fields in which a record differs from a wish, by our names.
	Differs(now BorderUser, w BorderWish) []string
	// TokenExpiry and RenewToken ask the gateway about our own token; ok is false where the mapping knows no way.
	TokenExpiry(ctx context.Context) (expires time.Time, ok bool, err error)
	RenewToken(ctx context.Context) (ok bool, err error)
	// Policy is what the mapping says of pace and patience.
	Policy() BorderPolicy
}

// BorderPolicy is how patient to be with a gateway.
type BorderPolicy struct {
	RetryFirst  time.Duration // delay after the first failure, doubling with full jitter
	RetryMax    time.Duration
	Probe       time.Duration // between tries while the circuit is open
	UnclearWait time.Duration // between two searches for a record whose creation is unclear
	ClockSkew   time.Duration // most by which clocks may differ for an exchange to begin
	CanRenew    bool
}

// BorderICP is one phone system as configured on the gateway.
type BorderICP struct{ ID, Name, Address string }

// BorderUser is one record as read: a field the mapping does not know is empty. Raw is the whole, for the adapter.
type BorderUser struct {
	ID           string
	Enabled      bool
	Description  string
	ICPID        string
	Availability string
	SetUsername  string
	ICPUsername  string
	Raw          any
}

// BorderWish is a record as it is to be, in clear text.
type BorderWish struct {
	Enabled      bool
	Extension    string
	DisplayName  string
	Description  string // as the mapping's template made it; filled by the adapter when empty
	ICPID        string
	Availability string
	SetUsername  string
	SetPassword  string
	ICPPassword  string
}

// Classes of what can go wrong with a gateway, each with its own consequence (border_push.go).
const (
	ClassTransport   = "transport"        // no answer: tried again for ever
	ClassTLS         = "tls_identity"     // not the certificate we trust: held
	ClassOverloaded  = "overloaded"       // 429, 502, 503, 504: tried again for ever
	ClassServer      = "server_fault"     // 500: five times, then parked
	ClassClock       = "clock"            // timestamps refused
	ClassNonce       = "nonce"            // nonce used
	ClassSignature   = "signature"        // held
	ClassConsumer    = "consumer"         // consumer unknown or not active: held
	ClassTokenDead   = "token_dead"       // token expired, revoked or refused
	ClassExpired     = "token_expired"    // token expired, and the gateway says so
	ClassVerifier    = "verifier"         // wrong verifier
	ClassPermission  = "permission"       // held
	ClassServicesOff = "web_services_off" // held
	ClassNotFound    = "not_found"        // the record is gone
	ClassDuplicate   = "duplicate"        // set-side name taken
	ClassWeak        = "weak_password"    // a stronger one is made
	ClassLicence     = "licence"          // parked
	ClassInvalid     = "invalid"          // parked
	ClassProtocol    = "protocol"         // the answer is not what the mapping says: held
	ClassICPMissing  = "icp_not_found"    // parked
	ClassICPUnclear  = "icp_ambiguous"    // parked
	ClassAmbiguous   = "sip_user_ambiguous"
	ClassNotApplied  = "not_applied"    // written, but read back different
	ClassForeign     = "foreign_record" // the id we hold is somebody else's now
	ClassAdopt       = "adoption_asked" // somebody made a record for this extension by hand
	ClassErased      = "erased"         // the line's key was destroyed
	ClassNode        = "node_unknown"   // the line names no node of the gateway
)

// ErrBorder: something is the matter with a gateway; BorderError tells what.
var ErrBorder = errors.New("gateway")

// BorderError is one refusal or failure of a gateway. Text holds no secret.
type BorderError struct {
	Class      string
	Status     int // of the answer; 0: none
	Text       string
	RetryAfter time.Duration
	// Unclear: the request may have been carried out all the same.
	Unclear bool
	Err     error
}

func (e *BorderError) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("gateway: %s: %d %s", e.Class, e.Status, e.Text)
	}
	return fmt.Sprintf("gateway: %s: %s", e.Class, e.Text)
}

// Unwrap is the error underneath, if any.
func (e *BorderError) Unwrap() error { return e.Err }

// Is makes errors.Is(err, ErrBorder) hold.
func (e *BorderError) Is(target error) bool { return target == ErrBorder }

// classOf is the class of an error; empty for one that is not of a gateway.
func classOf(err error) string {
	var b *BorderError
	if errors.As(err, &b) {
		return b.Class
	}
	return ""
}

// Alerts hands events that somebody must act on to a receiver: adapters/webhook. The receiver may get one twice and
// knows it by ID.
type Alerts interface {
	Send(ctx context.Context, a Alert) error
}

// Alert is one event as its receiver sees it.
type Alert struct {
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	At       time.Time       `json:"timestamp"`
	TenantID domain.TenantID `json:"tenant_id"`
	Stream   domain.StreamID `json:"stream"`
	Data     any             `json:"data"`
}
