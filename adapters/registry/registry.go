// Package registry is the central role of innovaphone's provisioning: a phone fresh from the factory asks it at /init, is
// made to show its code form, shows a code, and is told the Devices URL the code leads to. Devices servers elsewhere have
// their codes drawn here, over the signed requests of rest.go; Client is their end of it.
//
// It resolves, it never redeems (D18): a code it has led a phone by is bound to that phone, and used up by Devices.
//
// What always holds:
//   - A code that is unknown, expired, used, for another phone, or shown by somebody who has to wait, is answered alike:
//     same bytes, and after the same least time; while many are wrong, slowly.
//   - Of a phone nothing is kept but, volatile, its MAC, version text and address with the time (reference §1.10, D25), and
//     the binding of its code in the log. There is no look-up by MAC here.
//   - No query is logged: codes and tokens stand in it.
//
// How a typed code travels is not documented: most likely as the argument PROVISIONING-CODE, like the other variables of
// the update client; "code" is taken too (reference §3.2). A request without identity cannot be bound, so it is answered
// with a URL that has the phone show its MAC, and nothing else.
//
// Not here: the language of the answers (Scripts), rules and limits of codes (commands), TLS and limits of connections.
package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Service decides: *commands.Service.
type Service interface {
	ResolveCode(ctx context.Context, in commands.ResolveCode) (commands.Lead, commands.Outcome, error)
	RegisterCode(ctx context.Context, in commands.RegisterCode) (commands.IssuedCode, commands.Outcome, error)
	ReleaseCode(ctx context.Context, in commands.ReleaseCode) (commands.Outcome, error)
	RegistryServer(ctx context.Context, id domain.ServerID) (domain.RegistryServer, error)
	Recall(ctx context.Context, credential, key string, request []byte) (a commands.Answer, same, known bool, err error)
	Remember(ctx context.Context, credential, key string, request []byte, a commands.Answer) error
	Guard() *commands.Guard
}

// Scripts are the language of update clients: what one asks with, and the command files it is answered with.
type Scripts interface {
	// Arguments are those of a query, decoded as far as they can be.
	Arguments(rawQuery string) map[string]string
	// Rewrite has the phone ask url, with who it is in the query, from now on.
	Rewrite(url string) []byte
	// Prompt makes it show the code form.
	Prompt(refused bool) []byte
	// Lead tells it its Devices URL.
	Lead(devicesURL string) []byte
}

// Peer is where a request comes from.
type Peer struct {
	IP string
	// Private tells that nobody can listen: TLS, or a trusted network.
	Private bool
	Secure  bool
	// MAC is what a client certificate proved; empty otherwise.
	MAC domain.MAC
}

// Options of New. Service, Scripts and Peer are needed.
type Options struct {
	Service   Service
	Scripts   Scripts
	Peer      func(ctx context.Context) Peer
	Sightings commands.Sightings // may be nil
	// RefuseAfter is the least time a refused code takes; 0 means 500 ms, negative none. Slow is what it takes while the
	// instance's budget of wrong codes is spent; 0 means 5 s.
	RefuseAfter, Slow time.Duration
	Now               func() time.Time // nil means time.Now
}

// Init and REST are the first path segments of what is served: phones ask at /init, Devices servers below /v1/.
const (
	Init = "init"
	REST = "v1"
)

// Limits of one request of a phone.
const (
	maxQuery = 8 << 10
	maxText  = 256
)

type handler struct {
	Options
	nonces  nonces
	alarmed atomic.Int64 // unix seconds of the last alarm
	mux     *http.ServeMux
}

// New makes the handler of /init and /v1/.
func New(o Options) http.Handler {
	if o.RefuseAfter == 0 {
		o.RefuseAfter = 500 * time.Millisecond
	}
	if o.Slow == 0 {
		o.Slow = 5 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	h := &handler{Options: o, mux: http.NewServeMux()}
	h.mux.HandleFunc("GET /"+Init, h.init)
	h.routes()
	return h
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := h.Now()
	seen := &status{ResponseWriter: w, code: http.StatusOK}
	w.Header().Set("Cache-Control", "no-store")
	h.mux.ServeHTTP(seen, r)
	zerolog.Ctx(r.Context()).Info().Str("route", r.Pattern).Int("status", seen.code).Str("ip", h.Peer(r.Context()).IP).
		Int64("elapsed_ms", h.Now().Sub(begun).Milliseconds()).Msg("registry asked")
}

type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// init answers a phone.
func (h *handler) init(w http.ResponseWriter, r *http.Request) {
	begun := h.Now()
	if len(r.URL.RawQuery) > maxQuery {
		http.Error(w, "query too long", http.StatusRequestURITooLong)
		return
	}
	query, peer := h.Scripts.Arguments(r.URL.RawQuery), h.Peer(r.Context())
	mac := identity(query)
	if peer.MAC != "" {
		mac = peer.MAC // proved, whatever the query says
	}
	if mac == "" {
		h.script(w, h.Scripts.Rewrite(h.own(r, peer)))
		return
	}
	if h.Sightings != nil {
		transport := "http"
		if peer.Secure {
			transport = "https"
		}
		version := query["ver"]
		h.Sightings.Seen(commands.Sighting{MAC: mac, IP: peer.IP, UserAgent: version[:min(len(version), maxText)], Transport: transport, Path: "/" + Init, At: begun})
	}
	code := codeOf(query)
	if code == "" {
		h.script(w, h.Scripts.Prompt(false))
		return
	}
	ctx := commands.WithCaller(r.Context(), commands.Caller{Actor: "phone:" + string(mac), IP: peer.IP, Listener: "registry"})
	lead, _, err := h.Service.ResolveCode(ctx, commands.ResolveCode{Code: code, MAC: mac})
	switch {
	case err == nil:
		zerolog.Ctx(ctx).Info().Str("mac", string(mac)).Msg("phone led to Devices")
		h.script(w, h.Scripts.Lead(lead.DevicesURL))
	case errors.Is(err, domain.ErrCodeRefused), errors.Is(err, commands.ErrGuesses), errors.Is(err, commands.ErrInvalid):
		pause(ctx, h.least(ctx, begun)-h.Now().Sub(begun))
		h.script(w, h.Scripts.Prompt(true))
	default:
		zerolog.Ctx(ctx).Error().Err(err).Str("mac", string(mac)).Msg("resolve a code")
		w.Header().Set("Retry-After", "30")
		http.Error(w, "try again later", http.StatusServiceUnavailable)
	}
}

// least is the least time a refused code takes: more while the instance's budget is spent, or wrong codes come in a flood,
// which is told in the log once a minute.
func (h *handler) least(ctx context.Context, now time.Time) time.Duration {
	guard := h.Service.Guard()
	flooded := guard.Flooded(now)
	if before := h.alarmed.Load(); flooded && now.Unix()-before >= 60 && h.alarmed.CompareAndSwap(before, now.Unix()) {
		zerolog.Ctx(ctx).Warn().Int("week", guard.Total(now)).Msg("wrong codes come in a flood: they are answered slowly")
	}
	if flooded || guard.Exhausted(now) {
		return max(h.RefuseAfter, h.Slow)
	}
	return h.RefuseAfter
}

func (h *handler) script(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(b) // the phone has gone, if this fails
}

// own is the address the phone has asked, without its query. The name is the phone's: it may be the vendor's, answered by
// a DNS server of the site.
func (h *handler) own(r *http.Request, peer Peer) string {
	u := url.URL{Scheme: "http", Host: r.Host, Path: "/" + Init}
	if peer.Secure {
		u.Scheme = "https"
	}
	return u.String()
}

// identity is the MAC a phone says it has; empty when it says none.
func identity(query map[string]string) domain.MAC {
	for _, name := range []string{"sn", "mac"} {
		if mac, err := domain.ParseMAC(query[name]); err == nil {
			return mac
		}
	}
	return ""
}

// codeOf is the code a phone shows, without the "#" that IP101 and IP102 confirm with; empty for none, and for the word
// that asks a phone to show its form.
func codeOf(query map[string]string) string {
	code := query["PROVISIONING-CODE"]
	if code == "" {
		code = query["code"]
	}
	if strings.EqualFold(code, "prompt") {
		return ""
	}
	return strings.TrimSuffix(strings.TrimSpace(code), "#")
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
