// Package sippeer is the other side of a SIP NOTIFY for tests: the SIP half of a phone, which registers and takes
// the message in the manner of its family, and a registrar that is a proxy too. Both speak UDP, TCP or TLS on
// loopback through sipgo, and know digest authentication.
//
// Not here: calls, and anything of provisioning (tests/phonesim). A test joins the two where a phone that was told
// goes and fetches.
package sippeer

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// Peer is what phones and registrars have in common: a listening user agent.
type Peer struct {
	Transport string // udp, tcp, tls
	Addr      string // host:port
	server    *sipgo.Server
	client    *sipgo.Client
	serve     func() error
}

// Host and Port are the parts of Addr.
func (p *Peer) Host() string { host, _, _ := net.SplitHostPort(p.Addr); return host }

// Port is the port of Addr.
func (p *Peer) Port() int {
	_, text, _ := net.SplitHostPort(p.Addr)
	port, _ := strconv.Atoi(text)
	return port
}

// quiet is the library's log: what goes wrong a test says itself.
var quiet = func() *slog.Logger {
	l := slog.New(slog.DiscardHandler)
	sip.SetDefaultLogger(l)
	return l
}()

// listen makes a user agent on a free port; it ends with the test. conf is needed for TLS, and says how the peer
// verifies others. It serves once its handlers are set and start is called.
func listen(tb testing.TB, transport string, conf *tls.Config) *Peer {
	tb.Helper()
	ua, err := sipgo.NewUA(sipgo.WithUserAgent("sippeer"), sipgo.WithUserAgenTLSConfig(conf),
		sipgo.WithUserAgentTransportLayerOptions(sip.WithTransportLayerLogger(quiet)), sipgo.WithUserAgentTransactionLayerOptions(sip.WithTransactionLayerLogger(quiet)))
	if err != nil {
		tb.Fatal(err)
	}
	p := &Peer{Transport: transport}
	if p.server, err = sipgo.NewServer(ua, sipgo.WithServerLogger(quiet)); err != nil {
		tb.Fatal(err)
	}
	if transport == "udp" {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		p.Addr, p.serve = conn.LocalAddr().String(), func() error { return p.server.ServeUDP(conn) }
		tb.Cleanup(func() { _ = conn.Close() })
	} else {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		p.Addr, p.serve = ln.Addr().String(), func() error { return p.server.ServeTCP(ln) }
		if transport == "tls" {
			secure := tls.NewListener(ln, conf)
			p.serve = func() error { return p.server.ServeTLS(secure) }
		}
		tb.Cleanup(func() { _ = ln.Close() })
	}
	if p.client, err = sipgo.NewClient(ua, sipgo.WithClientHostname("127.0.0.1"), sipgo.WithClientNAT(), sipgo.WithClientLogger(quiet)); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ua.Close() })
	return p
}

func (p *Peer) start() { go func() { _ = p.serve() }() }

// Phone is the SIP half of one phone.
type Phone struct {
	*Peer
	User, Password string
	// MAC, when set, is shown in the contact's +sip.instance, as RFC 5626 has it.
	MAC string
	// Takes are the values of the Event header it obeys; to others it answers 489. Challenge: it asks who is there.
	Takes     []string
	Challenge bool
	// Told gets the Event header of every message it obeyed.
	Told chan string
}

// NewPhone starts the phone p describes, on a free port, and fills in the rest of p. conf is for TLS.
func NewPhone(tb testing.TB, p *Phone, transport string, conf *tls.Config) *Phone {
	tb.Helper()
	p.Peer, p.Told = listen(tb, transport, conf), make(chan string, 16)
	p.server.OnNotify(func(req *sip.Request, tx sip.ServerTransaction) {
		answer := func(status int, reason string, headers ...sip.Header) {
			res := sip.NewResponseFromRequest(req, status, reason, nil)
			for _, h := range headers {
				res.AppendHeader(h)
			}
			_ = tx.Respond(res)
		}
		event := value(req, "Event")
		switch {
		case req.Recipient.User != p.User:
			answer(404, "Not Found")
		case p.Challenge && !verify(req, "Authorization", p.User, p.Password):
			answer(401, "Unauthorized", challenge("WWW-Authenticate", "phone"))
		case !contains(p.Takes, event):
			answer(489, "Bad Event")
		default:
			answer(200, "OK")
			p.Told <- event
		}
	})
	p.start()
	return p
}

// Contact is where the phone is reached.
func (p *Phone) Contact() *sip.ContactHeader {
	c := &sip.ContactHeader{Address: sip.Uri{Scheme: "sip", User: p.User, Host: p.Host(), Port: p.Port()}}
	if p.Transport != "udp" {
		c.Address.UriParams.Add("transport", p.Transport)
	}
	if p.MAC != "" {
		c.Params.Add("+sip.instance", fmt.Sprintf(`"<urn:uuid:00000000-0000-1000-8000-%s>"`, strings.ToUpper(p.MAC)))
	}
	return c
}

// Register registers the phone at a registrar ("host:port", in the phone's transport) for domain.
func (p *Phone) Register(ctx context.Context, domain, registrar string) error {
	aor := sip.Uri{Scheme: "sip", User: p.User, Host: domain}
	req := sip.NewRequest(sip.REGISTER, sip.Uri{Scheme: "sip", Host: domain})
	req.SetDestination(registrar)
	req.SetTransport(strings.ToUpper(p.Transport))
	from := &sip.FromHeader{Address: aor}
	from.Params.Add("tag", sip.GenerateTagN(16))
	req.AppendHeader(from)
	req.AppendHeader(&sip.ToHeader{Address: aor})
	req.AppendHeader(p.Contact())
	req.AppendHeader(sip.NewHeader("Expires", "300"))
	res, err := p.client.Do(ctx, req)
	if err == nil && (res.StatusCode == 401 || res.StatusCode == 407) {
		res, err = p.client.DoDigestAuth(ctx, req, res, sipgo.DigestAuth{Username: p.User, Password: p.Password})
	}
	if err == nil && res.StatusCode != 200 {
		err = fmt.Errorf("registrar answers %d %s", res.StatusCode, res.Reason)
	}
	return err
}

// Registrar takes registrations of the accounts it knows and passes messages on to their contacts.
type Registrar struct {
	*Peer
	Domain    string
	Passwords map[string]string // by user

	mu       sync.Mutex
	mute     bool
	contacts map[string][]*sip.ContactHeader
	passed   []string // Request-URIs of the messages that came
}

// NewRegistrar starts the registrar r describes, on a free port, and fills in the rest of r. conf is for TLS.
func NewRegistrar(tb testing.TB, r *Registrar, transport string, conf *tls.Config) *Registrar {
	tb.Helper()
	r.Peer, r.contacts = listen(tb, transport, conf), map[string][]*sip.ContactHeader{}
	r.server.OnRegister(r.register)
	r.server.OnNotify(r.notify)
	r.start()
	return r
}

// Mute keeps it from saying which contacts are registered.
func (r *Registrar) Mute() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mute = true
}

// AddAccount makes it know one more account.
func (r *Registrar) AddAccount(user, password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Passwords[user] = password
}

func (r *Registrar) password(user string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.Passwords[user]
	return p, ok
}

// Passed are the Request-URIs of the authenticated messages that came.
func (r *Registrar) Passed() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.passed...)
}

func (r *Registrar) register(req *sip.Request, tx sip.ServerTransaction) {
	user := req.To().Address.User
	password, known := r.password(user)
	if !known || !verify(req, "Authorization", user, password) {
		res := sip.NewResponseFromRequest(req, 401, "Unauthorized", nil)
		res.AppendHeader(challenge("WWW-Authenticate", r.Domain))
		_ = tx.Respond(res)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := req.Contact(); c != nil {
		r.contacts[user] = append(r.contacts[user], c.Clone())
	}
	res := sip.NewResponseFromRequest(req, 200, "OK", nil)
	if !r.mute {
		for _, c := range r.contacts[user] {
			res.AppendHeader(c.Clone())
		}
	}
	_ = tx.Respond(res)
}

func (r *Registrar) notify(req *sip.Request, tx sip.ServerTransaction) {
	answer := func(status int, reason string, headers ...sip.Header) {
		res := sip.NewResponseFromRequest(req, status, reason, nil)
		for _, h := range headers {
			res.AppendHeader(h)
		}
		_ = tx.Respond(res)
	}
	user := req.From().Address.User
	password, known := r.password(user)
	if !known || !verify(req, "Proxy-Authorization", user, password) {
		answer(407, "Proxy Authentication Required", challenge("Proxy-Authenticate", r.Domain))
		return
	}
	r.mu.Lock()
	r.passed = append(r.passed, req.Recipient.String())
	var to []sip.Uri
	for _, c := range r.contacts[req.Recipient.User] {
		own := c.Address.Host == req.Recipient.Host && c.Address.Port == req.Recipient.Port
		if own || req.Recipient.Host == r.Domain {
			to = append(to, c.Address)
		}
	}
	r.mu.Unlock()
	status, reason := 480, "Temporarily Unavailable"
	for _, uri := range to {
		on := sip.NewRequest(sip.NOTIFY, uri)
		on.SetTransport(strings.ToUpper(r.Transport))
		for _, name := range []string{"Event", "Subscription-State", "Content-Type", "Authorization"} {
			if h := req.GetHeader(name); h != nil {
				on.AppendHeader(sip.NewHeader(name, h.Value()))
			}
		}
		on.AppendHeader(sip.HeaderClone(req.From()))
		on.SetBody(req.Body())
		res, err := r.client.Do(context.Background(), on)
		if err != nil {
			continue
		}
		if res.StatusCode == 401 {
			answer(401, res.Reason, sip.NewHeader("WWW-Authenticate", value(res, "WWW-Authenticate")))
			return
		}
		status, reason = res.StatusCode, res.Reason
	}
	answer(status, reason)
}

const nonce = "a-nonce-of-the-test-peer"

func challenge(header, realm string) sip.Header {
	return sip.NewHeader(header, (&digest.Challenge{Realm: realm, Nonce: nonce, Algorithm: "MD5", QOP: []string{"auth"}}).String())
}

// verify checks digest credentials against the request they came with.
func verify(req *sip.Request, header, user, password string) bool {
	for _, h := range req.GetHeaders(header) {
		c, err := digest.ParseCredentials(h.Value())
		if err != nil || c.Username != user || c.Nonce != nonce || req.Method == sip.NOTIFY && c.URI != req.Recipient.String() && header == "Proxy-Authorization" {
			continue
		}
		want, err := digest.Digest(&digest.Challenge{Realm: c.Realm, Nonce: nonce, Algorithm: "MD5", QOP: []string{"auth"}},
			digest.Options{Method: string(req.Method), URI: c.URI, Username: user, Password: password, Cnonce: c.Cnonce, Count: c.Nc})
		if err == nil && want.Response == c.Response {
			return true
		}
	}
	return false
}

func value(m interface{ GetHeader(string) sip.Header }, name string) string {
	if h := m.GetHeader(name); h != nil {
		return h.Value()
	}
	return ""
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
