package sipnotify

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
	"github.com/prometheus/client_golang/prometheus"

	"ledgerline/commands"
	"ledgerline/domain"
)

// quiet is the library's log: what matters is in the outcomes. It also warns of its own bookkeeping through a
// default that must be set before anything of it is used.
var quiet = func() *slog.Logger {
	l := slog.New(slog.DiscardHandler)
	sip.SetDefaultLogger(l)
	return l
}()

// Options are the settings of a Notifier; all have a usable zero value.
type Options struct {
	// TLS is how servers are verified over TLS; nil means the system's roots.
	TLS *tls.Config
	// AMI is the Asterisk to ask first; nil for none.
	AMI *AMI
	// Try bounds one attempt; zero means five seconds, in which a UDP message is sent four times.
	Try time.Duration
	// Metrics takes the counter of attempts; may be nil.
	Metrics prometheus.Registerer
}

// Notifier implements commands.Notifier. Safe for concurrent use.
type Notifier struct {
	opt      Options
	attempts *prometheus.CounterVec
}

// New makes a Notifier. The error is of registering its metric.
func New(o Options) (*Notifier, error) {
	if o.Try == 0 {
		o.Try = 5 * time.Second
	}
	n := &Notifier{opt: o, attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ledgerline_notify_attempts_total",
		Help: "Attempts to tell a phone to fetch its files, by way and outcome."}, []string{"route", "outcome"})}
	if o.Metrics != nil {
		return n, o.Metrics.Register(n.attempts)
	}
	return n, nil
}

const (
	// triedAccounts bounds the accounts a message is tried through: the others are mostly of the same registrar.
	triedAccounts = 2
	// overall bounds one message.
	overall = 25 * time.Second
	// maxDetail bounds the text of an outcome.
	maxDetail = 120
)

// Notify implements commands.Notifier.
func (n *Notifier) Notify(ctx context.Context, m commands.Notification) ([]domain.DeviceSyncOutcome, error) {
	whole, cancel := context.WithTimeout(ctx, overall)
	defer cancel()
	var tried []domain.DeviceSyncOutcome
	taken := func(o domain.DeviceSyncOutcome) bool {
		o.Event = m.Event
		tried = append(tried, o)
		n.attempts.WithLabelValues(o.Route, o.Outcome).Inc()
		return o.Accepted() || whole.Err() != nil
	}
	for _, way := range n.ways(m) {
		if slices.ContainsFunc(way(whole), taken) {
			break
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err() // not the phone's fault: told again when the program is back
	}
	if len(tried) == 0 {
		tried = []domain.DeviceSyncOutcome{{Outcome: domain.OutcomeNotSent, Event: m.Event,
			Detail: "it has no SIP account with a registrar, and has not been seen lately"}}
	}
	return tried, nil
}

// way makes one or more attempts; it stops after one that was accepted.
type way func(context.Context) []domain.DeviceSyncOutcome

func (n *Notifier) ways(m commands.Notification) (ways []way) {
	accounts := m.Accounts[:min(len(m.Accounts), triedAccounts)]
	silent := map[string]bool{} // next hops that did not answer, and will not for another account
	if n.opt.AMI != nil {
		for _, a := range accounts {
			ways = append(ways, func(ctx context.Context) []domain.DeviceSyncOutcome {
				return []domain.DeviceSyncOutcome{n.opt.AMI.notify(ctx, a.Username, m)}
			})
		}
	}
	for _, a := range accounts {
		if a.Registrar != "" || a.Proxy != "" {
			hop := cmp.Or(a.Proxy, a.Registrar) + " " + a.Transport
			ways = append(ways, func(ctx context.Context) []domain.DeviceSyncOutcome {
				if silent[hop] {
					return nil
				}
				tried := n.throughProxy(ctx, a, m)
				silent[hop] = slices.ContainsFunc(tried, func(o domain.DeviceSyncOutcome) bool { return o.Outcome == domain.OutcomeTimeout })
				return tried
			})
		}
	}
	if seen := lastSeen(m.Seen); seen != "" && len(accounts) > 0 {
		ways = append(ways, func(ctx context.Context) []domain.DeviceSyncOutcome { return n.toPhone(ctx, accounts[0], seen, m) })
	}
	return ways
}

// lastSeen is the newest address that is one.
func lastSeen(seen []string) string {
	for _, text := range seen {
		if a, err := netip.ParseAddr(text); err == nil {
			return a.WithZone("").String()
		}
	}
	return ""
}

// throughProxy sends through the account's outbound proxy or registrar.
func (n *Notifier) throughProxy(ctx context.Context, a commands.SIPAccount, m commands.Notification) (tried []domain.DeviceSyncOutcome) {
	host, port := a.Registrar, a.RegistrarPort
	if a.Proxy != "" {
		host, port = a.Proxy, a.ProxyPort
	}
	d, err := n.dial(ctx, a, host, port)
	if err != nil {
		return []domain.DeviceSyncOutcome{d.failed("proxy", "", err)}
	}
	defer d.close()
	aor := sip.Uri{Scheme: "sip", User: escape(a.Username), Host: cmp.Or(a.Registrar, a.Proxy), Port: a.RegistrarPort}
	targets := []sip.Uri{aor}
	all, err := d.contacts(ctx, aor)
	if err != nil {
		return []domain.DeviceSyncOutcome{d.failed("proxy", aor.String(), err)} // who does not answer this will not pass anything on
	}
	if len(all) > 1 {
		if own := ownContacts(all, m); len(own) > 0 {
			targets = own
		}
	}
	for _, to := range targets {
		o := d.notify(ctx, to, aor, "proxy", m)
		tried = append(tried, o)
		if !o.Accepted() {
			return tried
		}
	}
	// All of them took it: the last says so for all.
	return tried
}

// toPhone sends to the phone itself.
func (n *Notifier) toPhone(ctx context.Context, a commands.SIPAccount, ip string, m commands.Notification) []domain.DeviceSyncOutcome {
	to := sip.Uri{Scheme: "sip", User: escape(a.Username), Host: ip, Port: a.LocalPort}
	d, err := n.dial(ctx, a, ip, a.LocalPort)
	if err != nil {
		return []domain.DeviceSyncOutcome{d.failed("contact", to.String(), err)}
	}
	defer d.close()
	return []domain.DeviceSyncOutcome{d.notify(ctx, to, to, "contact", m)}
}

// exchange is what is said to one next hop on behalf of one account.
type exchange struct {
	n         *Notifier
	account   commands.SIPAccount
	transport string // udp, tcp, tls
	hop       string // host:port of the next hop
	ua        *sipgo.UserAgent
	client    *sipgo.Client
	host      string // our address on the way there
}

// dial prepares an exchange; nothing is sent. On an error the exchange can still say what failed.
func (n *Notifier) dial(ctx context.Context, a commands.SIPAccount, host string, port int) (*exchange, error) {
	x := &exchange{n: n, account: a, transport: transportOf(a.Transport)}
	if port == 0 {
		port = sip.DefaultPort(x.transport)
	}
	x.hop = net.JoinHostPort(host, strconv.Itoa(port))
	// A datagram socket that is connected and never written to shows which of our addresses leads there.
	var dialer net.Dialer
	route, err := dialer.DialContext(ctx, "udp", x.hop)
	if err != nil {
		return x, err
	}
	x.host, _, _ = net.SplitHostPort(route.LocalAddr().String())
	_ = route.Close()
	x.ua, err = sipgo.NewUA(sipgo.WithUserAgent("Ledgerline"), sipgo.WithUserAgentHostname(x.host), sipgo.WithUserAgenTLSConfig(n.tls()),
		sipgo.WithUserAgentTransportLayerOptions(sip.WithTransportLayerLogger(quiet)),
		sipgo.WithUserAgentTransactionLayerOptions(sip.WithTransactionLayerLogger(quiet)))
	if err != nil {
		return x, err
	}
	x.client, err = sipgo.NewClient(x.ua, sipgo.WithClientHostname(x.host), sipgo.WithClientNAT(), sipgo.WithClientLogger(quiet))
	return x, err
}

func (n *Notifier) tls() *tls.Config {
	if n.opt.TLS == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return n.opt.TLS.Clone()
}

func (x *exchange) close() { _ = x.ua.Close() }

// transportOf is the account's transport; what only DNS could tell is UDP.
func transportOf(t string) string {
	if t == "tcp" || t == "tls" {
		return t
	}
	return "udp"
}

// notify sends the message and reports what came of it.
func (x *exchange) notify(ctx context.Context, to, aor sip.Uri, route string, m commands.Notification) domain.DeviceSyncOutcome {
	req := x.request(sip.NOTIFY, to, aor)
	req.AppendHeader(&sip.ContactHeader{Address: sip.Uri{Scheme: "sip", User: "ledgerline", Host: x.host}})
	req.AppendHeader(sip.NewHeader("Event", m.Event))
	req.AppendHeader(sip.NewHeader("Subscription-State", "terminated"))
	if m.Body != "" {
		req.AppendHeader(sip.NewHeader("Content-Type", m.ContentType))
	}
	req.SetBody([]byte(m.Body))
	res, err := x.do(ctx, req)
	if err != nil {
		return x.failed(route, to.String(), err)
	}
	o := x.outcome(route, to.String())
	o.Outcome, o.Status, o.Detail = domain.OutcomeAnswered, res.StatusCode, plain(res.Reason)
	return o
}

func (x *exchange) request(method sip.RequestMethod, to, aor sip.Uri) *sip.Request {
	req := sip.NewRequest(method, to)
	req.SetTransport(strings.ToUpper(x.transport))
	req.SetDestination(x.hop)
	from := &sip.FromHeader{Address: aor}
	from.Params.Add("tag", sip.GenerateTagN(16))
	req.AppendHeader(from)
	req.AppendHeader(&sip.ToHeader{Address: aor})
	req.AppendHeader(sip.NewHeader("User-Agent", "Ledgerline"))
	return req
}

// contacts asks the registrar which contacts the account has now; none when it does not tell. The error is that it
// does not answer at all.
func (x *exchange) contacts(ctx context.Context, aor sip.Uri) (out []*sip.ContactHeader, err error) {
	registrar := aor
	registrar.User = ""
	req := x.request(sip.REGISTER, registrar, aor)
	req.SetBody(nil)
	res, err := x.do(ctx, req)
	if err != nil || res.StatusCode != sip.StatusOK {
		return nil, err
	}
	for _, h := range res.GetHeaders("Contact") {
		if c, ok := h.(*sip.ContactHeader); ok && !c.Address.Wildcard {
			out = append(out, c)
		}
	}
	return out, nil
}

// ownContacts are those of the phone the message is for: by the MAC in them, else by the address it fetched from.
func ownContacts(all []*sip.ContactHeader, m commands.Notification) (own []sip.Uri) {
	pick := func(is func(*sip.ContactHeader) bool) {
		for _, c := range all {
			if len(own) < 3 && is(c) {
				own = append(own, *c.Address.Clone())
			}
		}
	}
	if m.MAC != "" {
		pick(func(c *sip.ContactHeader) bool { return strings.Contains(bare(c.String()), string(m.MAC)) })
	}
	seen := lastSeen(m.Seen)
	if len(own) > 0 || seen == "" {
		return own
	}
	pick(func(c *sip.ContactHeader) bool {
		if c.Address.Host == seen {
			return true
		}
		received, _ := c.Params.Get("received") // Kamailio: where the registration came from
		var uri sip.Uri
		return sip.ParseUri(strings.Trim(received, `"`), &uri) == nil && uri.Host == seen
	})
	if len(own) > 1 {
		return nil // several phones behind one address, and nothing to tell them apart
	}
	return own
}

// bare is text in lower case without what stands between the digits of a MAC.
func bare(text string) string {
	return strings.NewReplacer(":", "", "-", "", "%3a", "").Replace(strings.ToLower(text))
}

// outcome is what every outcome of this exchange has in common.
func (x *exchange) outcome(route, to string) domain.DeviceSyncOutcome {
	return domain.DeviceSyncOutcome{Method: "sip-notify", Transport: x.transport, Route: route, To: domain.NewPersonal("", to, "")}
}

// failed is the outcome of a message nobody answered.
func (x *exchange) failed(route, to string, err error) domain.DeviceSyncOutcome {
	o := x.outcome(route, cmp.Or(to, x.hop))
	o.Outcome, o.Detail = failure(err)
	return o
}

// failure puts an error into an outcome and a few words, without addresses.
func failure(err error) (outcome, detail string) {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, sip.ErrTransactionTimeout), errors.Is(err, syscall.ETIMEDOUT):
		return domain.OutcomeTimeout, ""
	case errors.As(err, &dns):
		return domain.OutcomeUnreachable, "the name does not resolve"
	case errors.As(err, &cert), errors.As(err, &authority), errors.As(err, &name):
		return domain.OutcomeUnreachable, "its certificate does not verify"
	case errors.Is(err, syscall.ECONNREFUSED):
		return domain.OutcomeUnreachable, "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return domain.OutcomeUnreachable, "no route"
	}
	return domain.OutcomeUnreachable, "network error"
}

// plain is a reason phrase fit for the record.
func plain(reason string) string {
	reason = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == 0xfffd {
			return -1
		}
		return r
	}, strings.ToValidUTF8(reason, ""))
	if len(reason) > maxDetail {
		reason = strings.ToValidUTF8(reason[:maxDetail], "")
	}
	return reason
}

// escape writes a user name as the user part of a SIP URI (RFC 3261 §25.1).
func escape(user string) string {
	var b strings.Builder
	for _, c := range []byte(user) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.!~*'()&=+$,;?/", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + strings.ToUpper(strconv.FormatUint(uint64(c)|0x100, 16)[1:]))
		}
	}
	return b.String()
}
