package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
)

// outermost is what every request passes, from outside: a request id, one log line and one metric; a
// recovered panic; the key; the idempotency key; then its handler.
func (a *api) outermost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		req := &request{id: requestID(r), ip: peer(r)}
		logger := zerolog.Ctx(r.Context()).With().Str("request_id", req.id).Logger()
		ctx := context.WithValue(logger.WithContext(r.Context()), requestKey{}, req)
		r = r.WithContext(ctx)
		seen := &seenWriter{ResponseWriter: w}
		w.Header().Set("X-Request-Id", req.id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		defer func() {
			v := recover()
			if v != nil {
				// What was thrown may hold anything, a runtime error does not.
				thrown, _ := v.(runtime.Error)
				logger.Error().AnErr("panic", thrown).Str("stack", string(debug.Stack())).Msg("handler panicked")
			}
			if v != nil && seen.status == 0 {
				a.refuse(seen, r, newProblem(http.StatusInternalServerError, "internal", "something went wrong here; the log has it under this request_id"))
			}
			a.account(r, req, seen, time.Since(begun))
			if v != nil && seen.status != http.StatusInternalServerError {
				panic(http.ErrAbortHandler) // half an answer must not look like a whole one
			}
		}()
		if err := a.admit(seen, r, req); err != nil {
			a.refuse(seen, r, a.translate(ctx, err))
			return
		}
		a.once(seen, r, next)
	})
}

// account leaves one log line and one metric of a request. Of its path the log has the pattern, and the id of
// the noun; never what else stands there.
func (a *api) account(r *http.Request, req *request, seen *seenWriter, took time.Duration) {
	status, route := seen.status, r.Pattern
	if status == 0 {
		status = http.StatusOK
	}
	if route == "" {
		route = "none"
	}
	a.metrics.seen(route, status, took)
	line := zerolog.Ctx(r.Context()).Info().Str("method", r.Method).Str("route", route).Int("status", status).Int64("bytes", seen.bytes).
		Str("actor", "apikey:"+string(req.key.APIKeyID)).Int64("elapsed_ms", took.Milliseconds())
	if field, id := named(r); field != "" {
		line.Str(field, id)
	}
	if at := seen.Header().Get("Ledger-Position"); at != "" {
		line.Str("position", at)
	}
	line.Msg("api request")
}

// nounFields are the log's names for the ids in paths.
var nounFields = map[string]string{"tenants": "tenant_id", "categories": "category_id", "codes": "code_id", "devices": "device_id",
	"users": "user_id", "lines": "line_id", "layers": "layer_id", "tokens": "token_id", "registry-servers": "server_id", "apikeys": "api_key_id", "rollouts": "rollout_id"}

// named is the id of the noun a path is about, and the log's name for it.
func named(r *http.Request) (field, id string) {
	noun, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/api/v1/"), "/")
	id = r.PathValue("id")
	if mac, err := domain.ParseMAC(id); err == nil {
		id = string(mac)
	}
	if domain.CheckID(id) != nil {
		return "", ""
	}
	return nounFields[noun], id
}

// admit finds the caller's key; what describes the API needs none.
func (a *api) admit(w http.ResponseWriter, r *http.Request, req *request) error {
	most := int64(maxBody)
	if uploads(r) {
		most = maxUpload
	}
	r.Body = http.MaxBytesReader(w, r.Body, most)
	if !strings.HasPrefix(r.URL.Path, "/api/") {
		return nil
	}
	key, err := a.authenticate(r)
	req.key = key
	return err
}

// refuse answers with a problem before any handler.
func (a *api) refuse(w http.ResponseWriter, r *http.Request, p *problem) {
	answer := *p // some problems are shared
	answer.RequestID = requestOf(r.Context()).id
	w.Header().Set("Content-Type", p.ContentType(""))
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="ledgerline"`)
	}
	for k, v := range p.GetHeaders() {
		w.Header()[k] = v
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(&answer) // whoever asked has gone, if this fails
}

// routed answers what no route takes with a problem, for ServeMux would with text.
func (a *api) routed(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		plain, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		said := unsaid{header: http.Header{}}
		plain.ServeHTTP(&said, r)
		if said.status == http.StatusMethodNotAllowed {
			w.Header()["Allow"] = said.header["Allow"]
			a.refuse(w, r, newProblem(http.StatusMethodNotAllowed, "method-not-allowed", "this path takes "+said.header.Get("Allow")))
			return
		}
		a.refuse(w, r, newProblem(http.StatusNotFound, "not-found", "no such path"))
	})
}

// unsaid notes what would be answered.
type unsaid struct {
	header http.Header
	status int
}

func (u *unsaid) Header() http.Header         { return u.header }
func (u *unsaid) WriteHeader(status int)      { u.status = status }
func (u *unsaid) Write(b []byte) (int, error) { return len(b), nil }

// requestID takes a sane id from the caller, or makes one.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	if len(id) > 64 || domain.CheckID(id) != nil {
		return uuid.NewString()
	}
	return id
}

// peer is the address of the caller. The admin listener stands behind no proxy of phones, and believes none.
func peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// seenWriter counts what was answered.
type seenWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (s *seenWriter) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *seenWriter) Write(b []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	n, err := s.ResponseWriter.Write(b)
	s.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (s *seenWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// pending are the idempotency keys of requests under way.
type pending struct {
	mu   sync.Mutex
	keys map[string]bool
}

func (p *pending) begin(key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys[key] {
		return false
	}
	if p.keys == nil {
		p.keys = make(map[string]bool)
	}
	p.keys[key] = true
	return true
}

func (p *pending) end(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.keys, key)
}

// kept are the headers of an answer that are repeated with it.
var kept = []string{"Content-Type", "Location", "Etag", "Ledger-Position"}

// once carries a POST with an Idempotency-Key out once: the same key and request again, within a day, is
// answered as the first was; the same key with another request is 422; one still under way is 409. A refusal
// is not kept: it changed nothing, and once its reason is gone the request may be repeated.
func (a *api) once(w http.ResponseWriter, r *http.Request, next http.Handler) {
	key := r.Header.Get("Idempotency-Key")
	dry, _ := strconv.ParseBool(r.URL.Query().Get("dry_run"))
	if key == "" || r.Method != http.MethodPost || dry {
		next.ServeHTTP(w, r)
		return
	}
	ctx := r.Context()
	credential := string(requestOf(ctx).key.APIKeyID)
	if len(key) > maxKey {
		a.refuse(w, r, newProblem(http.StatusBadRequest, "invalid", "Idempotency-Key must have at most 255 characters"))
		return
	}
	if !a.pending.begin(credential + "\x00" + key) {
		a.refuse(w, r, newProblem(http.StatusConflict, "request-under-way", "a request with this Idempotency-Key is still under way"))
		return
	}
	defer a.pending.end(credential + "\x00" + key)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			a.refuse(w, r, newProblem(http.StatusRequestEntityTooLarge, "too-big", "the body is larger than 1 MiB"))
			return
		}
		a.refuse(w, r, newProblem(http.StatusBadRequest, "invalid", "the body cannot be read"))
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	asked := append([]byte(r.Method+" "+r.URL.RequestURI()+"\n"), body...)
	answer, same, known, err := a.Service.Recall(ctx, credential, key, asked)
	switch {
	case err != nil:
		a.refuse(w, r, a.translate(ctx, err))
		return
	case known && !same:
		a.refuse(w, r, newProblem(http.StatusUnprocessableEntity, "idempotency-key-reused", "this Idempotency-Key was used for another request"))
		return
	case known:
		for k, v := range answer.Header {
			w.Header().Set(k, v)
		}
		w.Header().Set("Idempotent-Replay", "true")
		w.WriteHeader(answer.Status)
		_, _ = io.WriteString(w, answer.Body) // whoever asked has gone, if this fails
		return
	}
	recorded := &recorder{ResponseWriter: w}
	next.ServeHTTP(recorded, r)
	status := recorded.status
	if status == 0 {
		status = http.StatusOK
	}
	if status >= http.StatusMultipleChoices {
		return
	}
	headers := domain.Headers{}
	for _, k := range kept {
		if v := w.Header().Get(k); v != "" {
			headers[k] = v
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	ctx = commands.WithCaller(ctx, a.caller(ctx))
	if err := a.Service.Remember(ctx, credential, key, asked, commands.Answer{Status: status, Header: headers, Body: recorded.body.String()}); err != nil {
		zerolog.Ctx(ctx).Error().Err(err).Msg("answer not kept under its idempotency key")
	}
}

// recorder keeps a copy of what is answered.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	r.body.Write(b)
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// metrics counts requests by route and status.
type metrics struct {
	took *prometheus.HistogramVec
}

func (m *metrics) register(r prometheus.Registerer) error {
	m.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "ledgerline_api_request_seconds", Help: "Time to answer, by route and status.",
		Buckets: []float64{.001, .005, .02, .1, .5, 2, 10}}, []string{"route", "status"})
	if r == nil {
		return nil
	}
	return r.Register(m.took)
}

func (m *metrics) seen(route string, status int, took time.Duration) {
	m.took.WithLabelValues(route, strconv.Itoa(status)).Observe(took.Seconds())
}
