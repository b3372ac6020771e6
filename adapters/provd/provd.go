// Package provd is wazo-provd's REST interface, version 0.2, over Ledgerline: what a Wazo platform's wazo-confd, its
// setup wizard and everybody with wazo-provd's client library talk to. A device there is a device here, a config a layer,
// an operation an operation; every call that changes something is a command, and so an event.
//
// Why a face of its own beside /api/v1? Its answers are fixed by programs we cannot change: paths and the exact media
// type, 401 where others say 403, 500 for bad values in a PUT, plain-text errors, paths in Location, texts of operations
// with a grammar. What of the original only hurts is done better, and docs/wazo.md lists it.
//
// What always holds:
//   - the order of checks: path (404), method (405, 501), token and tenant and permission (401), Accept (406) and
//     Content-Type (415), body (400), meaning;
//   - what is of a tenant beside or above the request's is as unknown as what does not exist: devices, configs, keys;
//   - a read sees every change answered before it: it waits, bounded, for the views to reach the head of the log;
//   - an id cannot name anything but a stream of its kind.
//
// Not here: rules (domain), what phones fetch (phonehttp, phonetftp), who a token belongs to (an
// Authority: Keys are our API keys, Tokens a Wazo platform's token service).
package provd

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// MediaType is the only one this interface takes and gives.
const MediaType = "application/vnd.proformatique.provd+json"

// maxBody bounds a request's body: a config of a few thousand lines.
const maxBody = 4 << 20

// Options are what the interface works with. Service, Log, Views, Wait and Authority are needed.
type Options struct {
	Service *commands.Service
	Log     commands.Log
	Views   projections.Querier
	Wait    interface {
		WaitFor(ctx context.Context, at domain.Position) error
	}
	Authority Authority
	// Seen tells the latest address of every phone seen; may be nil.
	Seen func(ctx context.Context) (map[domain.DeviceID]Seen, error)
	// Bus is the state of the message bus, "ok" or "fail"; nil means ok: none is used.
	Bus     func() string
	Now     func() time.Time
	Metrics prometheus.Registerer // may be nil
}

// Seen is where and when a phone was last seen.
type Seen struct {
	IP string
	At time.Time
}

// Grant is what a request may do.
type Grant struct {
	// Actor goes into the metadata of events: "apikey:…", "token:…".
	Actor string
	// Tenant is the request's.
	Tenant domain.TenantID
	// Below lists the tenants below it, itself among them; nil means every tenant there is.
	Below []domain.TenantID
	// Secrets: the caller may read passwords (configs hold them).
	Secrets bool
}

// Sees tells whether a tenant is the request's or below it.
func (g Grant) Sees(t domain.TenantID) bool {
	if g.Below == nil {
		return true
	}
	for _, b := range g.Below {
		if b == t {
			return true
		}
	}
	return false
}

var (
	// ErrUnauthorized: the token is missing or unknown, may not act in the tenant, or lacks the permission.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrUnavailable: who could tell does not answer.
	ErrUnavailable = errors.New("token service is not available")
)

// Authority says what tokens may do. Safe for concurrent use.
type Authority interface {
	// Authorize is asked once per request. tenant is the Wazo-Tenant header, "" for the token's own. permission is
	// the dotted name; "{tenant_uuid}" in it stands for the request's tenant. Errors: ErrUnauthorized, ErrUnavailable.
	Authorize(ctx context.Context, token, tenant, permission string) (Grant, error)
	// Outside is a tenant's name on the platform.
	Outside(t domain.TenantID) string
}

// Server is the handler. Safe for concurrent use.
type Server struct {
	Options
	routes  []route
	handles handles
	doc     document
	took    *prometheus.HistogramVec
}

// New makes the handler of everything under /0.2.
func New(o Options) (*Server, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{Options: o}
	s.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "ledgerline_provd_request_seconds", Help: "Time to answer wazo-provd's REST interface, by route and status.",
		Buckets: []float64{.001, .005, .02, .1, .5, 2, 10}}, []string{"route", "status"})
	if o.Metrics != nil {
		if err := o.Metrics.Register(s.took); err != nil {
			return nil, err
		}
	}
	s.routes = s.table()
	return s, nil
}

// route is one path with what can be done there. A segment in braces is a parameter.
type route struct {
	path    string
	parts   []string
	methods map[string]action
	exists  func(*call) bool // asked before the method: whether what the parameters name is there; nil for yes
}

// action is one method of a path.
type action struct {
	permission string // empty: open to everybody
	do         func(*call) error
}

// call is one request on its way.
type call struct {
	*Server
	ctx    context.Context
	w      http.ResponseWriter
	r      *http.Request
	params map[string]string
	grant  Grant
	body   map[string]any // of POST and PUT
}

// refusal is an answer that is no success: one line of text.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, text string) error { return &refusal{status, text} }

var (
	errNoResource   = &refusal{http.StatusNotFound, "No such resource"}
	errUnauthorized = &refusal{http.StatusUnauthorized, "Unauthorized"}
)

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun, id := s.Now(), uuid.NewString()
	logger := zerolog.Ctx(r.Context()).With().Str("request_id", id).Logger()
	seen := &status{ResponseWriter: w}
	c := &call{Server: s, ctx: logger.WithContext(r.Context()), w: seen, r: r, params: map[string]string{}}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "Origin, X-Requested-With, Accept, Content-Type, X-Auth-Token, Wazo-Tenant")
	h.Set("Access-Control-Allow-Credentials", "false")
	h.Set("Access-Control-Expose-Headers", "Location")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	name := "none"
	defer func() {
		if v := recover(); v != nil {
			thrown, _ := v.(runtime.Error)
			logger.Error().AnErr("panic", thrown).Str("stack", string(debug.Stack())).Msg("handler panicked")
			if seen.code != 0 {
				panic(http.ErrAbortHandler)
			}
			c.fail(refuse(http.StatusInternalServerError, "Internal Server Error"))
		}
		took := s.Now().Sub(begun)
		s.took.WithLabelValues(name, strconv.Itoa(seen.code)).Observe(took.Seconds())
		logger.Info().Str("method", methodName(r.Method)).Str("route", name).Int("status", seen.code).Str("actor", c.grant.Actor).
			Str("tenant_id", string(c.grant.Tenant)).Int64("elapsed_ms", took.Milliseconds()).Msg("provd request")
	}()
	if r.Method == http.MethodOptions {
		c.answer(http.StatusOK, nil)
		return
	}
	found := s.find(c)
	if found == nil {
		c.fail(errNoResource)
		return
	}
	name = found.path
	if err := c.run(found, id); err != nil {
		c.fail(err)
	}
}

// find matches the path; nil for none.
func (s *Server) find(c *call) *route {
	var parts []string
	for part := range strings.SplitSeq(strings.TrimPrefix(c.r.URL.EscapedPath(), "/"), "/") {
		clear, err := url.PathUnescape(part)
		if err != nil || clear == "" {
			return nil
		}
		parts = append(parts, clear)
	}
	for i := range s.routes {
		if s.routes[i].match(parts, c.params) {
			return &s.routes[i]
		}
		clear(c.params)
	}
	return nil
}

func (r *route) match(parts []string, params map[string]string) bool {
	if len(parts) != len(r.parts) {
		return false
	}
	for i, p := range r.parts {
		if name, is := strings.CutPrefix(p, "{"); is {
			params[strings.TrimSuffix(name, "}")] = parts[i]
		} else if p != parts[i] {
			return false
		}
	}
	return true
}

// run goes through the checks in their order, then does it.
func (c *call) run(found *route, id string) error {
	if found.exists != nil && !found.exists(c) {
		return errNoResource
	}
	method := c.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	act, ok := found.methods[method]
	if !ok {
		if methodName(method) == "other" {
			return refuse(http.StatusNotImplemented, "Not Implemented")
		}
		var allowed []string
		for _, m := range []string{"GET", "POST", "PUT", "DELETE"} {
			if _, can := found.methods[m]; can {
				allowed = append(allowed, m)
			}
		}
		c.w.Header().Set("Allow", strings.Join(append(allowed, "OPTIONS"), ", "))
		return refuse(http.StatusMethodNotAllowed, "Method Not Allowed")
	}
	if act.permission == "" {
		return act.do(c)
	}
	token := c.r.Header.Get("X-Auth-Token")
	if token == "" {
		return errUnauthorized
	}
	grant, err := c.Authority.Authorize(c.ctx, token, c.r.Header.Get("Wazo-Tenant"), c.permission(act.permission))
	if err != nil {
		return err
	}
	c.grant = grant
	c.ctx = commands.WithCaller(c.ctx, commands.Caller{Actor: grant.Actor, IP: peer(c.r), Listener: "admin", RequestID: id})
	if !accepts(c.r.Header.Get("Accept")) {
		return refuse(http.StatusNotAcceptable, "Not Acceptable")
	}
	if method == http.MethodPost || method == http.MethodPut {
		if c.r.Header.Get("Content-Type") != MediaType {
			return refuse(http.StatusUnsupportedMediaType, "Unsupported Media Type: send "+MediaType)
		}
		if err := c.readBody(); err != nil {
			return err
		}
	}
	return act.do(c)
}

// permission fills the parameters into a permission's name.
func (c *call) permission(name string) string {
	for k, v := range c.params {
		name = strings.ReplaceAll(name, "{"+k+"}", strings.ReplaceAll(v, ".", "_"))
	}
	return name
}

func accepts(header string) bool {
	if header == "" {
		return true
	}
	for part := range strings.SplitSeq(header, ",") {
		kind, params, _ := strings.Cut(part, ";")
		kind = strings.TrimSpace(kind)
		if strings.Contains(strings.ReplaceAll(params, " ", ""), "q=0;") || strings.HasSuffix(strings.ReplaceAll(params, " ", ""), "q=0") {
			continue
		}
		if kind == "*/*" || kind == "application/*" || kind == MediaType {
			return true
		}
	}
	return false
}

func (c *call) readBody() error {
	raw, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return refuse(http.StatusRequestEntityTooLarge, "body must not exceed "+strconv.Itoa(maxBody)+" bytes")
	case err != nil:
		return refuse(http.StatusBadRequest, "body cannot be read")
	}
	if c.body, err = domain.DecodeObject(raw); err != nil {
		return refuse(http.StatusBadRequest, "body must be a JSON object: "+err.Error())
	}
	return nil
}

// object is the member of the body that holds the document.
func (c *call) object(name string) (map[string]any, error) {
	doc, ok := c.body[name].(map[string]any)
	if !ok {
		return nil, refuse(http.StatusBadRequest, "body must have an object "+name)
	}
	return doc, nil
}

// answer sends v as JSON, or nothing.
func (c *call) answer(status int, v any) {
	h := c.w.Header()
	if v == nil {
		h.Set("Content-Length", "0")
		if status == http.StatusNoContent {
			h.Del("Content-Length")
		}
		c.w.WriteHeader(status)
		return
	}
	doc, err := json.Marshal(v)
	if err != nil {
		zerolog.Ctx(c.ctx).Error().Err(err).Msg("encode an answer")
		c.text(http.StatusInternalServerError, "Internal Server Error")
		return
	}
	h.Set("Content-Type", MediaType)
	h.Set("Content-Length", strconv.Itoa(len(doc)))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(doc) // whoever asked has gone, if this fails
}

func (c *call) text(status int, text string) {
	h := c.w.Header()
	text = strings.Join(strings.Fields(text), " ")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	c.w.WriteHeader(status)
	_, _ = io.WriteString(c.w, text)
}

// fail is the one place where errors become answers. What is our trouble is logged here.
func (c *call) fail(err error) {
	var already *refusal
	is := func(sentinels ...error) bool {
		for _, s := range sentinels {
			if errors.Is(err, s) {
				return true
			}
		}
		return false
	}
	switch {
	case errors.As(err, &already):
		c.text(already.status, already.text)
	case is(ErrUnauthorized):
		c.text(http.StatusUnauthorized, "Unauthorized")
	case is(ErrUnavailable, projections.ErrNotReady, domain.ErrReadOnly, domain.ErrOutcomeUnknown, commands.ErrBusy):
		c.w.Header().Set("Retry-After", "2")
		zerolog.Ctx(c.ctx).Error().Err(err).Msg("request cannot be served now")
		c.text(http.StatusServiceUnavailable, "Service Unavailable")
	case is(domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, domain.ErrLayerUnknown):
		c.fail(errNoResource)
	case is(commands.ErrInvalid, domain.ErrSettings, domain.ErrDeviceExists, domain.ErrLayerExists, domain.ErrLayerOfOtherTenant, domain.ErrTooBig,
		domain.ErrTenantUnknown, domain.ErrTenantDeleted, domain.ErrBadKey, domain.ErrKeyTaken, commands.ErrTooManyOperations):
		c.text(http.StatusBadRequest, err.Error())
	default:
		zerolog.Ctx(c.ctx).Error().Err(err).Msg("request failed")
		c.text(http.StatusInternalServerError, "Internal Server Error")
	}
}

// orServerError turns bad input into 500, which a PUT of a device or config answers it with.
func orServerError(err error) error {
	var already *refusal
	switch {
	case errors.As(err, &already) && already.status == http.StatusBadRequest:
		return refuse(http.StatusInternalServerError, already.text)
	case errors.Is(err, commands.ErrInvalid), errors.Is(err, domain.ErrSettings), errors.Is(err, domain.ErrTooBig):
		return refuse(http.StatusInternalServerError, err.Error())
	}
	return err
}

// catchUp waits until the views show what the log held when the request came.
func (c *call) catchUp() error {
	head, err := c.Log.Head(c.ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
	defer cancel()
	if err := c.Wait.WaitFor(ctx, head); err != nil {
		return errors.Join(projections.ErrNotReady, err)
	}
	return nil
}

// created answers 201 for a document.
func (c *call) created(location, id string) {
	c.w.Header()["Location"] = []string{location}
	c.answer(http.StatusCreated, map[string]string{"id": id})
}

// status remembers what was answered.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	if s.code == 0 {
		s.code = code
	}
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func methodName(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS":
		return m
	}
	return "other"
}

func peer(r *http.Request) string {
	if i := strings.LastIndexByte(r.RemoteAddr, ':'); i > 0 {
		return strings.Trim(r.RemoteAddr[:i], "[]")
	}
	return r.RemoteAddr
}
