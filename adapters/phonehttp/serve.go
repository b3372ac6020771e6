package phonehttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/icholy/digest"
	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
)

// ServeHTTP dispatches by first path segment; see the package comment. Requests must come through Serve or ServeTLS.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	client := s.clientOf(r)
	ctx, id := commands.NewRequest(r.Context())
	r = r.WithContext(zerolog.Ctx(ctx).With().Str("request_id", id).Logger().WithContext(ctx))
	segments, ok := parsePath(r.URL.EscapedPath())
	if m := s.mounted(r); m != nil {
		m.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), clientKey{}, client)))
		return
	}
	start := s.opt.Now()
	out := &answer{ResponseWriter: w, route: "none"}
	defer func() { s.account(r, client, out, s.opt.Now().Sub(start)) }()
	asked := r
	if r.Method == http.MethodPost {
		asked = askedByForm(w, r)
	}
	switch {
	case asked.Method != http.MethodGet && asked.Method != http.MethodHead:
		out.Header().Set("Allow", "GET, HEAD")
		s.refuse(out, http.StatusMethodNotAllowed)
	case !ok || len(asked.URL.RawQuery) > maxQuery:
		s.refuse(out, http.StatusNotFound)
	case s.opt.Entry != nil && segments[0] == entrySegment:
		s.enter(out, asked, client, segments)
	default:
		s.serveFile(out, asked, client, segments)
	}
}

// askedByForm is a POST of a form as the GET it stands for, the form being the query: Jitsi posts what its provisioning URL
// has behind "?" (ProvisioningServiceImpl, HttpUtils.postForm). Any other POST is left as it is.
func askedByForm(w http.ResponseWriter, r *http.Request) *http.Request {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded") || r.URL.RawQuery != "" {
		return r
	}
	form, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuery))
	if err != nil {
		return r
	}
	get := r.Clone(r.Context())
	get.Method, get.URL.RawQuery = http.MethodGet, string(form)
	return get
}

func (s *Server) mounted(r *http.Request) http.Handler {
	first, _, _ := strings.Cut(strings.TrimLeft(r.URL.Path, "/"), "/")
	for _, m := range s.opt.Mounts {
		if m.Segment != "" && m.Segment == first || m.Segment == "" && m.Match(r) {
			return m.Handler
		}
	}
	return nil
}

// serveFile asks for the file in the way the path and the credentials say, and answers.
func (s *Server) serveFile(w *answer, r *http.Request, client Client, segments []string) {
	c, ok := claimOf(segments)
	w.via, w.route = c.via, c.route
	if !ok {
		s.refuse(w, http.StatusNotFound)
		return
	}
	tries := []claim{c}
	if key, ok := rootKey(segments); ok && c.via == "mac" {
		tries = []claim{key, c}[:1+btoi(client.Trusted)] // by address alone there is nothing for others
	}
	if user, named := userOf(r); named && c.via == "mac" {
		if code, ok := s.opt.Files.CodeOfUser(user); ok {
			tries = []claim{{via: "code", credential: code, file: c.file, route: c.route}}
		}
	}
	var served commands.Served
	var err error
	for _, try := range tries {
		w.via, w.route = try.via, try.route
		in := question(r, client, try)
		if served, err = s.ask(r.Context(), client, in); err == nil {
			s.send(w, r, served)
			return
		}
		if !errors.Is(err, commands.ErrNoFile) {
			break
		}
	}
	s.refused(question(r, client, tries[len(tries)-1]), err)
	s.fail(w, r, c.via == "mac", client, err)
}

// userOf is the user name of a request's credentials, Basic or Digest. A code stands for itself, so neither password nor
// response is looked at.
func userOf(r *http.Request) (string, bool) {
	if user, _, ok := r.BasicAuth(); ok {
		return user, true
	}
	c, err := digest.ParseCredentials(r.Header.Get("Authorization"))
	if err != nil {
		return "", false
	}
	return c.Username, true
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func question(r *http.Request, client Client, c claim) commands.ServeFile {
	agent := r.UserAgent()
	return commands.ServeFile{
		Asked: commands.Asked{Path: c.file, Query: r.URL.RawQuery, UserAgent: agent[:min(len(agent), maxAgent)], ClientMAC: client.MAC},
		Via:   c.via, Credential: c.credential, Transport: client.Transport(), IP: client.IP.String(), Trusted: client.Trusted,
	}
}

// shownMAC is the address a request shows, wherever it does.
func shownMAC(in commands.ServeFile) domain.MAC {
	if in.ClientMAC != "" {
		return in.ClientMAC
	}
	for _, text := range []string{in.Path, in.Query, in.UserAgent} {
		if mac := macIn(text); mac != "" {
			return mac
		}
	}
	return ""
}

// errSpent: the source may not try unknown identities for now.
var errSpent = errors.New("budget of unknown identities is spent")

// ask puts one question to the service; from outside trusted networks, within the source's budget.
func (s *Server) ask(ctx context.Context, client Client, in commands.ServeFile) (commands.Served, error) {
	if client.Trusted {
		return s.opt.Files.ServeFile(ctx, in)
	}
	name := string(shownMAC(in))
	if name == "" {
		name = in.Path
	}
	from, identity, now := source(client.IP), s.budget.identity(in.Via, in.Credential, name), s.opt.Now()
	if weak := in.Via == "mac" || in.Via == "tenant_key"; weak && in.ClientMAC == "" && s.budget.spent(from, identity, now) {
		s.metrics.budget.Inc()
		pause(ctx, s.opt.Tarpit)
		return commands.Served{}, errSpent
	}
	served, err := s.opt.Files.ServeFile(ctx, in)
	switch {
	case err == nil:
		s.budget.hit(from, identity)
	case errors.Is(err, commands.ErrNoFile), errors.Is(err, domain.ErrCodeRefused):
		if s.budget.missed(from, identity, now) {
			s.metrics.trips.Inc()
			zerolog.Ctx(ctx).Warn().Stringer("source", from).Msg("source has spent its budget of unknown identities")
		}
	}
	return served, err
}

// refused has a phone noted that got nothing, for whoever wants to know why it is not configured.
func (s *Server) refused(in commands.ServeFile, err error) {
	if s.opt.Sightings == nil || !errors.Is(err, commands.ErrNoFile) {
		return
	}
	s.opt.Sightings.Seen(commands.Sighting{MAC: shownMAC(in), IP: in.IP, UserAgent: in.UserAgent, Transport: in.Transport, Path: in.Via + " refused", At: s.opt.Now()})
}

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

// fail turns an error into the answer a phone understands. It is the one place that does. atRoot: the
// request was for /{file}.
func (s *Server) fail(w *answer, r *http.Request, atRoot bool, client Client, err error) {
	switch {
	case errors.Is(err, domain.ErrCodeRefused), errors.Is(err, commands.ErrGuesses): // first, for it may carry its reason
		w.challenge = atRoot
		s.refuse(w, http.StatusNotFound)
	case errors.Is(err, commands.ErrNoFile), errors.Is(err, errSpent):
		w.challenge = atRoot && s.opt.Challenge && !client.Trusted
		s.refuse(w, http.StatusNotFound)
	case r.Context().Err() != nil:
		w.status = statusGone // nobody is left to read an answer
		panic(http.ErrAbortHandler)
	case errors.Is(err, commands.ErrNotYet):
		s.busy(w, 2)
	default:
		zerolog.Ctx(r.Context()).Error().Err(err).Str("route", w.route).Msg("serve a phone's file")
		s.busy(w, later())
	}
}

// statusGone is what the log says when the phone hung up.
const statusGone = 499

const refusal = "not found\n"

// refuse writes the one answer to everything that is not to be had. The status becomes 401 for Basic credentials.
func (s *Server) refuse(w *answer, status int) {
	body := refusal
	if status == http.StatusMethodNotAllowed {
		body = "method not allowed\n"
	}
	h := w.Header()
	if w.challenge && status == http.StatusNotFound {
		status = http.StatusUnauthorized
		h.Set("WWW-Authenticate", `Basic realm="provisioning"`)
	}
	h.Set("Cache-Control", "no-store")
	writeText(w, status, body)
}

// busy writes 503. seconds is when to come back.
func (s *Server) busy(w *answer, seconds int) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	writeText(w, http.StatusServiceUnavailable, "try again later\n")
}

func writeText(w *answer, status int, body string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // net/http swallows it for HEAD; a lost client is seen by the next read
}

// send writes the file and tells when the phone has it for sure.
func (s *Server) send(w *answer, r *http.Request, v commands.Served) {
	w.device, w.file = v.Device, v.File.Path
	h := w.Header()
	h.Set("ETag", v.File.ETag())
	h.Set("Cache-Control", "private, no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Type", v.File.ContentType)
	if v.File.ContentType == "" {
		h.Set("Content-Type", "application/octet-stream")
	}
	modified := v.ModTime
	if s.opt.Now().Sub(modified) < 2*time.Second {
		modified = time.Time{} // may change again within the second that Last-Modified can tell
	}
	content, n := v.Content()
	size := int64(n)
	if v.Body != nil {
		defer v.Body.Close()
		// A deadline meant for small files would cut a large one off on a slow line.
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(s.opt.WriteTimeout + time.Duration(size/slowest)*time.Second))
	}
	http.ServeContent(w, r, "", modified, content)
	switch {
	case w.status == http.StatusNotModified && strings.Contains(r.Header.Get("If-None-Match"), v.File.ETag()): // "*" proves nothing
	case w.status == http.StatusOK && r.Method == http.MethodGet && w.written == size && http.NewResponseController(w.ResponseWriter).Flush() == nil:
	case w.status == http.StatusPartialContent && r.Method == http.MethodGet && v.Body != nil && endsAt(h, size, w.written) && http.NewResponseController(w.ResponseWriter).Flush() == nil:
	default:
		return
	}
	s.opt.Files.Delivered(v)
}

// slowest is the bytes a second a phone is given time for.
const slowest = 16 << 10

// endsAt tells whether a part that was written whole reaches the end of a file: the phone that asks for the last part of a
// large file has what is before.
func endsAt(h http.Header, size, written int64) bool {
	var from, to, of int64
	n, err := fmt.Sscanf(h.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &of)
	return n == 3 && err == nil && to == size-1 && to-from+1 == written
}

// answer is a response on its way, with what the log wants to know of it.
type answer struct {
	http.ResponseWriter
	via, route string
	device     domain.DeviceID
	file       string
	challenge  bool // refusals ask for Basic credentials
	status     int
	written    int64
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	a.written += int64(n)
	return n, err
}

// ReadFrom is what http.ServeContent writes with: net/http keeps buffers for it.
func (a *answer) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(a.ResponseWriter, r)
	a.written += n
	return n, err
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// account writes the one log line of a request, and counts it.
func (s *Server) account(r *http.Request, client Client, w *answer, took time.Duration) {
	if r.Method == http.MethodHead {
		w.written = 0
	}
	vendor := vendorOf(r.UserAgent())
	via := w.via
	if via == "" {
		via = "none"
	}
	s.metrics.requests.WithLabelValues(vendor, via, client.Transport(), strconv.Itoa(w.status)).Inc()
	s.metrics.bytes.WithLabelValues(client.Transport()).Add(float64(w.written))
	s.metrics.seconds.WithLabelValues(via).Observe(took.Seconds())
	e := zerolog.Ctx(r.Context()).Info()
	if w.file != "" { // only names we know: a mistyped path may hold a secret
		e = e.Str("device_id", string(w.device)).Str("file", w.file)
	}
	e.Str("method", methodName(r.Method)).Str("route", w.route).Str("vendor", vendor).Str("transport", client.Transport()).Stringer("ip", client.IP).
		Int("status", w.status).Int64("bytes", w.written).Dur("elapsed_ms", took).Msg("phone asked for a file")
}

// methodName is the method if it is a known one: a method is text a client chooses.
func methodName(m string) string {
	if strings.Contains(" GET HEAD POST PUT DELETE OPTIONS PATCH TRACE CONNECT ", " "+m+" ") {
		return m
	}
	return "other"
}
