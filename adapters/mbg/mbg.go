// Package mbg speaks to a MiVoice Border Gateway's web services: OAuth 1.0a with an out-of-band verifier, then SIP
// users and ICPs over HTTPS.
//
// Why a mapping file: the vendor documents the procedure, not the paths, names and media types. Everything that is a
// guess stands in a file (mapping.go, generic.yaml) that is corrected without touching the program; docs/mitel.md
// lists what must be confirmed on a real gateway. Package simulator speaks the same file from the other side.
//
// What always holds: each request is signed anew, with a nonce of its own and a timestamp that never goes back; a
// request whose answer was lost is told apart from one that was refused (BorderError.Unclear); no error, trace or log
// holds a secret; redirects are not followed; answers and lists are bounded.
//
// Not here: when to push what (commands/border_push.go), tokens' lives (domain/gateway.go).
package mbg

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"ledgerline/adapters/mbg/oauth"
	"ledgerline/adapters/mbg/wire"
	"ledgerline/commands"
	"ledgerline/domain"
)

// Borders implements commands.Borders.
type Borders struct{}

// ReadMapping implements commands.Borders; an empty text is the generic mapping.
func (Borders) ReadMapping(text string) (domain.GatewayMappingSelected, error) {
	if text == "" {
		text = wire.Generic
	}
	m, err := wire.ParseMapping(text)
	if err != nil {
		return domain.GatewayMappingSelected{}, err
	}
	return m.Selected(text), nil
}

// Limits of an answer.
const (
	maxAnswer = 8 << 20
	maxPages  = 1000
	maxShown  = 200     // characters of a gateway's own text in an error
	maxKept   = 4 << 10 // bytes of an answer the mapping does not fit, in the trace
)

// Dial implements commands.Borders.
func (Borders) Dial(a commands.BorderAccess) (commands.Border, error) {
	m, err := wire.ParseMapping(a.Mapping)
	if err != nil {
		return nil, &commands.BorderError{Class: commands.ClassProtocol, Text: err.Error(), Err: err}
	}
	base, err := url.Parse(a.Address)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, &commands.BorderError{Class: commands.ClassProtocol, Text: "address is not a URL"}
	}
	trust, err := identity(a)
	if err != nil {
		return nil, &commands.BorderError{Class: commands.ClassTLS, Text: err.Error(), Err: err}
	}
	if a.Now == nil {
		a.Now = time.Now
	}
	dialer := &net.Dialer{Timeout: m.HTTP.ConnectTimeout.Or(5 * time.Second), Control: reachable}
	c := &client{BorderAccess: a, m: m, base: base}
	c.http = &http.Client{
		Timeout: m.HTTP.RequestTimeout.Or(20 * time.Second),
		Transport: &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: trust, TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: 1, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// reachable keeps requests from addresses that are never a gateway: link-local ones (cloud metadata), multicast, none.
func reachable(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %s: %w", address, err)
	}
	if ip := ap.Addr().Unmap(); ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() {
		return fmt.Errorf("address %s is never a gateway's", ip)
	}
	return nil
}

// identity is whom we take for the gateway: a chain to the system's roots or the CA given. With pins, the leaf or one
// of its chain must carry a pinned key, and the chain need be trusted only if a CA was given.
func identity(a commands.BorderAccess) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CA != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM([]byte(a.CA)) {
			return nil, errors.New("the CA holds no PEM certificate")
		}
		c.RootCAs = pool
	}
	if len(a.Pins) == 0 {
		return c, nil
	}
	var pins [][]byte
	for _, text := range a.Pins {
		pin, err := ParsePin(text)
		if err != nil {
			return nil, err
		}
		pins = append(pins, pin)
	}
	c.InsecureSkipVerify = a.CA == "" // the pin stands for the chain; VerifyConnection runs in any case
	c.VerifyConnection = func(s tls.ConnectionState) error {
		for i, cert := range s.PeerCertificates {
			sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
			for _, pin := range pins {
				// Without a verified chain only the leaf has proved that it holds its key.
				if subtle.ConstantTimeCompare(sum[:], pin) == 1 && (i == 0 || a.CA != "") {
					return nil
				}
			}
		}
		sum := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)
		return fmt.Errorf("certificate's key is %s, which is not pinned: %w", base64.StdEncoding.EncodeToString(sum[:]), errPin)
	}
	return c, nil
}

var (
	errPin  = errors.New("pin failure")
	errHost = errors.New("host does not speak the mapping")
)

// ParsePin reads the SHA-256 of a public key (SPKI), base64 or hex, with or without "sha256/" before it.
func ParsePin(text string) ([]byte, error) {
	text = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(text), "sha256/"), "sha256:")
	if b, err := hex.DecodeString(strings.ReplaceAll(text, ":", "")); err == nil && len(b) == sha256.Size {
		return b, nil
	}
	if b, err := base64.StdEncoding.DecodeString(text); err == nil && len(b) == sha256.Size {
		return b, nil
	}
	return nil, fmt.Errorf("pin %.60q is not the SHA-256 of a public key in base64 or hex", text)
}

// client is one gateway's web services. One goroutine uses it at a time.
type client struct {
	commands.BorderAccess
	m    *wire.Mapping
	base *url.URL
	http *http.Client

	stamp   int64     // the latest timestamp sent
	last    time.Time // when the last request went out
	checked bool      // the host has shown the header the mapping wants
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
	tree   any
}

// call is one request to be made.
type call struct {
	name   string
	op     wire.Operation
	values map[string]string // placeholders of the path
	query  string            // further query, encoded
	body   []byte
	kind   string // content type of body
	creds  oauth.Credentials
	sign   oauth.Options
	plain  bool // not signed
	form   bool // the answer is no body of the codec
	again  bool // the same once more, signed anew
}

func (c *client) credentials() oauth.Credentials {
	return oauth.Credentials{ConsumerKey: c.ConsumerID, ConsumerSecret: c.Secret, Token: c.Token, TokenSecret: c.TokenSecret}
}

// do makes a call, repeated once with a new nonce, or a corrected clock, where the gateway asks for that.
func (c *client) do(ctx context.Context, k call) (answer, error) {
	if !c.checked && c.m.HTTP.RequireHeader != "" && !c.TrustAnyHost && !k.plain {
		if _, err := c.Clock(ctx); err != nil {
			return answer{}, err
		}
	}
	a, err := c.once(ctx, k)
	switch class := classOf(err); {
	case class == commands.ClassClock && !k.plain:
		if date, ok := dateOf(a.header); ok {
			c.ClockOffset = date.Sub(c.Now())
			k.again = true
			a, err = c.once(ctx, k)
		}
	case class == commands.ClassNonce:
		k.again = true
		a, err = c.once(ctx, k)
	}
	return a, err
}

func classOf(err error) string {
	var b *commands.BorderError
	if errors.As(err, &b) {
		return b.Class
	}
	return ""
}

func (c *client) once(ctx context.Context, k call) (a answer, err error) {
	if err := c.pace(ctx); err != nil {
		return a, &commands.BorderError{Class: commands.ClassTransport, Text: err.Error(), Err: err}
	}
	begun := time.Now()
	defer func() {
		if c.TraceExchange != nil {
			c.TraceExchange(c.traceOf(k, a, time.Since(begun), err))
		}
	}()
	r, err := c.request(ctx, k)
	if err != nil {
		return a, &commands.BorderError{Class: commands.ClassProtocol, Text: err.Error(), Err: err}
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return a, unreached(err)
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	if a.body, err = wire.ReadLimited(resp.Body, maxAnswer); err != nil {
		return a, &commands.BorderError{Class: commands.ClassTransport, Status: a.status, Text: "the answer broke off: " + c.mask(err.Error(), maxShown), Unclear: true, Err: err}
	}
	return a, c.judge(k, &a)
}

// traced keys the hashes of bodies in traces.
var traced = []byte(rand.Text())

// traceOf is the trace of a call and its answer.
func (c *client) traceOf(k call, a answer, elapsed time.Duration, err error) commands.BorderExchange {
	class := classOf(err)
	if k.plain && !unanswered(err) {
		class = ""
	}
	e := commands.BorderExchange{At: c.Now(), Attempt: 1, Operation: k.name, Method: k.op.Method, Path: k.op.Path, Status: a.status, Elapsed: elapsed, Class: class}
	if k.again {
		e.Attempt = 2
	}
	if len(k.body) > 0 {
		h := hmac.New(sha256.New, traced)
		h.Write(k.body)
		e.Body = hex.EncodeToString(h.Sum(nil)[:8])
	}
	if class == commands.ClassProtocol && !k.form {
		e.Answer = c.mask(wire.Masked(string(a.body[:min(len(a.body), maxKept)])), maxKept)
	}
	return e
}

// request builds and signs r.
func (c *client) request(ctx context.Context, k call) (*http.Request, error) {
	path := wire.Placeholder.ReplaceAllStringFunc(k.op.Path, func(p string) string { return oauth.Encode(k.values[strings.Trim(p, "{}")]) })
	below := func(base *url.URL) (*url.URL, error) {
		u, err := url.Parse(strings.TrimSuffix(base.String(), "/") + path)
		if err == nil && k.query != "" {
			if u.RawQuery != "" {
				u.RawQuery += "&"
			}
			u.RawQuery += k.query
		}
		return u, err
	}
	u, err := below(c.base)
	if err != nil {
		return nil, fmt.Errorf("make the URL: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, k.op.Method, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	r.URL = u
	r.Header.Set("User-Agent", "Ledgerline")
	r.Header.Set("Accept", map[string]string{"xml": "application/xml", "json": "application/json"}[c.m.Codec.Response])
	if k.kind != "" {
		r.Header.Set("Content-Type", k.kind)
	}
	body := k.body
	if !k.plain {
		o := k.sign
		o.Method, o.Place, o.Realm, o.Version = c.m.OAuth.SignatureMethod, c.m.OAuth.SendIn, c.m.OAuth.Realm, c.m.OAuth.VersionParam
		if o.Place == oauth.InBody && (k.op.Method != http.MethodPost || k.kind != "" && !oauth.IsForm(r.Header)) {
			o.Place = oauth.InHeader // a call without a form has no other place
		} else if o.Place == oauth.InBody {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		if o.Method == oauth.Plaintext && c.base.Scheme != "https" {
			return nil, errors.New("PLAINTEXT signatures are sent over TLS only")
		}
		c.stamp = max(c.stamp, c.Now().Add(c.ClockOffset).Unix())
		o.Timestamp = c.stamp
		if c.m.SignURL() != nil {
			if o.URL, err = below(c.m.SignURL()); err != nil {
				return nil, fmt.Errorf("make the URL to sign: %w", err)
			}
		}
		if body, _, err = oauth.Sign(r, body, k.creds, o); err != nil {
			return nil, fmt.Errorf("sign the request: %w", err)
		}
	}
	if len(body) > 0 {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	if k.op.Method != http.MethodGet {
		r.GetBody = nil // never sent twice behind our back: a lost answer is for us to judge
	}
	return r, nil
}

// pace keeps the mapping's interval between requests.
func (c *client) pace(ctx context.Context) error {
	wait := time.Duration(c.m.HTTP.MinInterval) - time.Since(c.last)
	if !c.last.IsZero() && wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.last = time.Now()
	return nil
}

// unreached is why no answer came.
func unreached(err error) error {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	text := err.Error()
	var u *url.Error
	if errors.As(err, &u) {
		text = u.Err.Error() // without the URL, whose query may hold OAuth parameters
	}
	if errors.Is(err, errPin) || errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) || errors.As(err, &verify) {
		return &commands.BorderError{Class: commands.ClassTLS, Text: text, Err: err}
	}
	var op *net.OpError
	dialing := errors.As(err, &op) && op.Op == "dial"
	return &commands.BorderError{Class: commands.ClassTransport, Text: text, Unclear: !dialing, Err: err}
}

// judge reads an answer: nil for what the mapping calls ok.
func (c *client) judge(k call, a *answer) error {
	if c.m.HTTP.RequireHeader != "" && !c.TrustAnyHost && a.header.Get(c.m.HTTP.RequireHeader) == "" {
		return &commands.BorderError{Class: commands.ClassProtocol, Status: a.status, Err: errHost,
			Text: fmt.Sprintf("this host does not answer with the header %s: mapping %s is not made for it", c.m.HTTP.RequireHeader, c.m.Name)}
	}
	ok := slices.Contains(k.op.OK, a.status) || len(k.op.OK) == 0 && a.status >= 200 && a.status < 300
	if !k.form {
		tree, err := wire.Decode(c.m.Codec.Response, a.body)
		if err != nil && ok {
			return &commands.BorderError{Class: commands.ClassProtocol, Status: a.status, Text: c.mask(err.Error(), maxShown) + " (the answer stands in the trace of exchanges)", Unclear: true, Err: err}
		}
		a.tree = tree
	}
	if ok {
		return nil
	}
	return c.refusal(k, a)
}

// refusal classifies what the gateway answered.
func (c *client) refusal(k call, a *answer) error {
	e := &commands.BorderError{Status: a.status, Text: c.text(a)}
	problem := problemOf(a)
	if problem != "" && !strings.Contains(e.Text, problem) {
		e.Text = strings.TrimSpace(problem + " " + e.Text)
	}
	date, hasDate := dateOf(a.header)
	switch {
	case a.status == 429 || a.status == 502 || a.status == 503 || a.status == 504:
		e.Class, e.Unclear, e.RetryAfter = commands.ClassOverloaded, a.status != 429 && a.status != 503, retryAfter(a.header, c.Now())
	case a.status >= 500:
		e.Class, e.Unclear = commands.ClassServer, true
	case problem != "":
		e.Class = problems[problem]
	case a.status == 401 && hasDate && date.Sub(c.Now().Add(c.ClockOffset)).Abs() > c.m.OAuth.ClockSkewMax.Or(time.Minute):
		e.Class = commands.ClassClock
	case a.status == 401 && k.sign.Verifier != "":
		e.Class = commands.ClassVerifier
	case a.status == 401 && k.creds.Token == "":
		e.Class = commands.ClassConsumer
	case a.status == 401:
		e.Class = commands.ClassTokenDead
	case slices.Contains(k.op.Gone, a.status):
		e.Class = commands.ClassNotFound
	case c.matches("licence", a):
		e.Class = commands.ClassLicence
	case c.matches("weak_password", a):
		e.Class = commands.ClassWeak
	case slices.Contains(k.op.Duplicate, a.status) || c.matches("duplicate", a):
		e.Class = commands.ClassDuplicate
	case a.status == 403 || c.matches("permission", a):
		e.Class = commands.ClassPermission
	case a.status == 404 || a.status == 405 || a.status >= 300 && a.status < 400:
		e.Class = commands.ClassServicesOff
	default:
		e.Class = commands.ClassInvalid
	}
	return e
}

// problems are the refusals of the OAuth problem reporting extension.
var problems = map[string]string{
	"timestamp_refused": commands.ClassClock, "nonce_used": commands.ClassNonce, "signature_invalid": commands.ClassSignature,
	"signature_method_rejected": commands.ClassSignature, "consumer_key_unknown": commands.ClassConsumer, "consumer_key_refused": commands.ClassConsumer,
	"consumer_key_rejected": commands.ClassConsumer, "token_expired": commands.ClassExpired, "token_revoked": commands.ClassTokenDead,
	"token_rejected": commands.ClassTokenDead, "token_used": commands.ClassTokenDead, "permission_denied": commands.ClassPermission,
	"permission_unknown": commands.ClassVerifier, "verifier_invalid": commands.ClassVerifier, "parameter_absent": commands.ClassProtocol,
	"parameter_rejected": commands.ClassProtocol, "version_rejected": commands.ClassProtocol, "additional_authorization_required": commands.ClassPermission,
}

// problemOf is oauth_problem from body or header, if it is one we know.
func problemOf(a *answer) string {
	texts := []string{a.header.Get("WWW-Authenticate")}
	if len(a.body) < 4096 {
		texts = append(texts, string(a.body))
	}
	for _, text := range texts {
		_, rest, found := strings.Cut(text, "oauth_problem")
		if !found {
			continue
		}
		rest = strings.TrimLeft(rest, `=": `)
		end := strings.IndexFunc(rest, func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' })
		if end >= 0 {
			rest = rest[:end]
		}
		if _, known := problems[rest]; known {
			return rest
		}
	}
	return ""
}

func dateOf(h http.Header) (time.Time, bool) {
	t, err := http.ParseTime(h.Get("Date"))
	return t, err == nil
}

func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil && n >= 0 {
		return min(time.Duration(n)*time.Second, time.Hour)
	}
	if t, err := http.ParseTime(v); err == nil && t.After(now) {
		return min(t.Sub(now), time.Hour)
	}
	return 0
}

// texts are what the mapping names as code or message of an error.
func (c *client) texts(list []string, a *answer) (out []string) {
	for _, where := range list {
		text := ""
		switch name, header := strings.CutPrefix(where, "header:"); {
		case header:
			text = a.header.Get(name)
		case where == "text":
			text = string(a.body[:min(len(a.body), 4096)])
		default:
			text = wire.Scalar(wire.At(a.tree, where))
		}
		if text != "" {
			out = append(out, text)
		}
	}
	return out
}

func (c *client) matches(class string, a *answer) bool {
	for _, text := range append(c.texts(c.m.Errors.Code, a), c.texts(c.m.Errors.Message, a)...) {
		if c.m.Matches(class, text) {
			return true
		}
	}
	return false
}

// text is what the gateway says, for people.
func (c *client) text(a *answer) string {
	for _, list := range [][]string{c.m.Errors.Message, c.m.Errors.Code} {
		if t := c.texts(list, a); len(t) > 0 {
			return c.mask(t[0], maxShown)
		}
	}
	return http.StatusText(a.status)
}

// mask shortens a foreign text and takes every secret of ours out of it.
func (c *client) mask(text string, most int) string {
	for _, secret := range []string{c.Secret, c.TokenSecret, c.Token} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, domain.Redacted)
			text = strings.ReplaceAll(text, oauth.Encode(secret), domain.Redacted)
		}
	}
	clean := strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	if r := []rune(clean); len(r) > most {
		clean = string(r[:most]) + "…"
	}
	return strings.TrimSpace(clean)
}

// Clock implements commands.Border: an unsigned request, whose refusal is as good an answer as any.
func (c *client) Clock(ctx context.Context) (time.Time, error) {
	a, err := c.once(ctx, call{name: "clock", op: c.m.Operations["ping"], plain: true, form: true})
	if unanswered(err) {
		return time.Time{}, err
	}
	c.checked = true
	date, ok := dateOf(a.header)
	if off := date.Sub(c.Now()); ok && off.Abs() > 2*time.Second { // Date has whole seconds
		c.ClockOffset = off
	}
	if !ok {
		return time.Time{}, &commands.BorderError{Class: commands.ClassProtocol, Status: a.status, Text: "the answer has no Date"}
	}
	return date, nil
}

// unanswered tells whether an error says that no web service answered at all: to an unsigned request any other refusal
// is as good an answer as any.
func unanswered(err error) bool {
	var b *commands.BorderError
	return errors.As(err, &b) && (b.Status == 0 || errors.Is(err, errHost) || b.Class == commands.ClassServicesOff || b.Class == commands.ClassOverloaded)
}

// RequestToken implements commands.Border.
func (c *client) RequestToken(ctx context.Context) (token, secret string, err error) {
	creds := oauth.Credentials{ConsumerKey: c.ConsumerID, ConsumerSecret: c.Secret}
	a, err := c.do(ctx, call{name: "request_token", op: c.m.OAuth.RequestToken, creds: creds, sign: oauth.Options{Callback: c.m.OAuth.Callback}, form: true})
	if err != nil {
		return "", "", err
	}
	return c.tokenOf(a)
}

// AccessToken implements commands.Border.
func (c *client) AccessToken(ctx context.Context, token, secret, verifier string) (final, finalSecret string, err error) {
	creds := oauth.Credentials{ConsumerKey: c.ConsumerID, ConsumerSecret: c.Secret, Token: token, TokenSecret: secret}
	a, err := c.do(ctx, call{name: "access_token", op: c.m.OAuth.AccessToken, creds: creds, sign: oauth.Options{Verifier: verifier}, form: true})
	if err != nil {
		return "", "", err
	}
	return c.tokenOf(a)
}

func (c *client) tokenOf(a answer) (token, secret string, err error) {
	if c.m.OAuth.TokenReply == "json" {
		var v map[string]any
		if err := json.Unmarshal(a.body, &v); err == nil {
			token, secret = wire.Scalar(v["oauth_token"]), wire.Scalar(v["oauth_token_secret"])
		}
	} else if pairs, err := oauth.ParsePairs(strings.TrimSpace(string(a.body))); err == nil {
		for _, p := range pairs {
			switch p.Name {
			case "oauth_token":
				token = p.Value
			case "oauth_token_secret":
				secret = p.Value
			}
		}
	}
	if token == "" || secret == "" {
		return "", "", &commands.BorderError{Class: commands.ClassProtocol, Status: a.status, Text: "the answer holds no token"}
	}
	return token, secret, nil
}

// Ping implements commands.Border.
func (c *client) Ping(ctx context.Context) error {
	_, err := c.do(ctx, call{name: "ping", op: c.m.Operations["ping"], creds: c.credentials()})
	return err
}

// Policy implements commands.Border.
func (c *client) Policy() commands.BorderPolicy {
	h := c.m.HTTP
	return commands.BorderPolicy{RetryFirst: h.RetryFirst.Or(time.Second), RetryMax: h.RetryMax.Or(5 * time.Minute), Probe: h.ProbeInterval.Or(time.Minute),
		UnclearWait: h.UnclearWait.Or(5 * time.Second), ClockSkew: c.m.OAuth.ClockSkewMax.Or(time.Minute), CanRenew: c.m.On("token_renew")}
}
