// Package softphone is what apps of Cloud Softphone (Acrobits) call on the phone plane: /softphone/v1/account, "External
// Provisioning", and /softphone/v1/global, "Global External Provisioning".
//
// What always holds: an answer that is no success is an <error> document with a status that is not 2xx, for the app takes
// any 2xx as an account; the logout status (410) is answered for a token that is dead for good and for nothing else, for it
// signs the app out; our own trouble is 503 with Retry-After, and on the first global call, by the tenant's choice, an empty
// success, for a failure there keeps the user from signing in at all. 401 is never answered: the app knows Digest only.
// A refusal takes as long for a user that does not exist as for a wrong password (commands makes the work the same, and
// RefuseAfter covers what is left).
//
// Not here: who may sign in, and what is told (commands.ServeSoftphone); what the vendor's portal has to be told.
package softphone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ledgerline/adapters/softphone/wire"
	"ledgerline/commands"
	"ledgerline/domain"
)

// Provisioner answers apps: *commands.Service.
type Provisioner interface {
	ServeSoftphone(ctx context.Context, in commands.SoftphoneCall) (commands.SoftphoneAnswer, error)
	// SoftphoneCurrent tells whether an answer that followed from inputs still holds.
	SoftphoneCurrent(inputs []domain.Input) bool
}

// Client is where a request comes from.
type Client struct {
	IP string
	// Private tells that nobody can listen: TLS, or a trusted network.
	Private bool
}

// Options of New. Provisioner and Client are needed.
type Options struct {
	Provisioner Provisioner
	Client      func(ctx context.Context) Client
	// Links is the URL of the phone plane where retail apps are let in by a link; empty where they are not.
	Links string
	// RefuseAfter is the least time a refused sign-in takes; 0 means 500 ms, negative none.
	RefuseAfter time.Duration
	Now         func() time.Time      // nil means time.Now
	Metrics     prometheus.Registerer // may be nil
}

// Segment is the first path segment to hang the handler in at.
const Segment = "softphone"

const (
	account = "/" + Segment + "/v1/account"
	global  = "/" + Segment + "/v1/global"
)

// Limits of one request.
const (
	maxBody  = 16 << 10
	maxQuery = 8 << 10
	maxValue = 512
)

type handler struct {
	Options
	answers answers
	metrics metrics
}

// New makes the handler of everything below /softphone/.
func New(o Options) http.Handler {
	if o.RefuseAfter == 0 {
		o.RefuseAfter = 500 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &handler{Options: o, metrics: newMetrics(o.Metrics)}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	path, token := r.URL.Path, ""
	for _, known := range []string{account, global} {
		if rest, ok := strings.CutPrefix(path, known+"/"); ok && commands.IsSoftphoneToken(rest) && !strings.Contains(rest, "/") {
			path, token = known, rest
		}
	}
	if path == commands.SoftphoneLinkPath && h.Links != "" && r.Method == http.MethodGet {
		if r.URL.Query().Get("fmt") != "xml" {
			h.linkPage(w, r)
			return
		}
		path = account
	}
	if path != account && path != global {
		fail(w, r, http.StatusNotFound, "There is nothing here.")
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodPost:
	case http.MethodHead, http.MethodOptions: // without an effect
		w.Header().Set("Allow", "GET, POST, HEAD, OPTIONS")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		w.Header().Set("Allow", "GET, POST, HEAD, OPTIONS")
		fail(w, r, http.StatusMethodNotAllowed, "Only GET and POST are answered here.")
		return
	}
	client := h.Client(r.Context())
	if !client.Private {
		fail(w, r, http.StatusForbidden, "This address has to be called over https.")
		return
	}
	call, initial, err := parse(w, r, token)
	if err != nil {
		// The message says which parameter and how, never what was in it; "escaping" is a template of ours or the app's that
		// puts values where they cannot stand.
		zerolog.Ctx(r.Context()).Info().Str("route", path).Str("ip", client.IP).Bool("escaping", errors.Is(err, errEscaping)).Str("refused", err.Error()).Msg("softphone asked what cannot be read")
		fail(w, r, http.StatusBadRequest, err.Error())
		return
	}
	call.Global, call.IP = path == global, client.IP
	status := h.answer(w, r, call, initial, start)
	h.metrics.answered(serviceOf(call), status)
	zerolog.Ctx(r.Context()).Info().Str("route", path).Str("cloud_id", string(call.CloudID)).Bool("editable", call.Editable).Bool("initial", initial).Str("ip", client.IP).Int("status", status).
		Dur("elapsed_ms", time.Since(start)).Msg("softphone asked")
}

func serviceOf(call commands.SoftphoneCall) string {
	if call.Global {
		return "global"
	}
	return "account"
}

// answer turns what comes of a call into what the app understands. It is the one place that does.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, call commands.SoftphoneCall, initial bool, start time.Time) int {
	key, keeps := keyOf(call)
	if keeps {
		if k, ok := h.answers.get(key, h.Now(), h.Provisioner.SoftphoneCurrent); ok {
			h.metrics.answers.WithLabelValues(serviceOf(call), "cache").Inc()
			return send(w, r, k.body, call.Global && !initial)
		}
	}
	got, err := h.Provisioner.ServeSoftphone(r.Context(), call)
	var guess *commands.GuessError
	var trouble *commands.SoftphoneError
	switch {
	case err == nil:
		body := wire.Account(got.Document)
		if call.Global {
			body = wire.Global(got.Document, got.Remove, got.Replace)
		}
		h.metrics.answers.WithLabelValues(serviceOf(call), "log").Inc()
		if keeps && len(got.Inputs) > 0 {
			until := h.Now().Add(answersAge)
			if !got.Until.IsZero() && got.Until.Before(until) {
				until = got.Until
			}
			h.answers.put(key, kept{body, got.Inputs, until})
		}
		return send(w, r, body, call.Global && !initial)
	case errors.Is(err, domain.ErrCloudIDUnknown):
		return fail(w, r, http.StatusNotFound, "There is no such cloud ID here.")
	case errors.Is(err, domain.ErrSoftphoneRefused):
		pause(r.Context(), h.RefuseAfter-time.Since(start))
		return fail(w, r, http.StatusForbidden, "The user name or the password is not right, or the code has been used or has expired.")
	case errors.Is(err, domain.ErrSoftphoneSignedOut):
		if call.Global {
			return fail(w, r, http.StatusForbidden, "You have been signed out.")
		}
		return fail(w, r, domain.SoftphoneLogoutStatus, "You have been signed out. Ask your administrator for a new code.")
	case errors.As(err, &guess):
		w.Header().Set("Retry-After", strconv.Itoa(int(guess.RetryAfter.Seconds())+1))
		return fail(w, r, http.StatusTooManyRequests, "Too many wrong passwords. Try again later.")
	case r.Context().Err() != nil:
		return 499 // nobody is left to read an answer
	}
	if !errors.Is(err, commands.ErrSignInBusy) {
		zerolog.Ctx(r.Context()).Error().Err(err).Str("cloud_id", string(call.CloudID)).Msg("answer a softphone")
	}
	if errors.As(err, &trouble) && trouble.FailOpen && call.Global && initial {
		return send(w, r, wire.Global(domain.SoftphoneDocument{}, nil, false), false)
	}
	w.Header().Set("Retry-After", "30")
	return fail(w, r, http.StatusServiceUnavailable, "The service is busy. Try again in a moment.")
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

// names are the parameters an app may send, and under which other names.
var names = map[string][]string{
	"cloud_id":       {"cloud_id"},
	"cloud_username": {"cloud_username", "username"},
	"cloud_password": {"cloud_password", "password"},
	"install":        {"install", "installid"},
	"initial":        {"initial", "initialScreen"},
}

// parse reads the parameters from query, form or JSON body. The errors are told to the user.
func parse(w http.ResponseWriter, r *http.Request, token string) (call commands.SoftphoneCall, initial bool, err error) {
	values, plus, err := parameters(w, r)
	if err != nil {
		return call, false, err
	}
	got := make(map[string]string)
	otherName := ""
	for name, spellings := range names {
		for _, spelling := range spellings {
			for _, v := range values[spelling] {
				switch {
				case len(v) > maxValue || strings.ContainsFunc(v, func(r rune) bool { return r < 0x20 || r == 0x7f || r == 0xfffd }):
					return call, false, fmt.Errorf("%s is too long, or no text", name)
				case placeholder.MatchString(v):
					switch name {
					case "install":
						v = "" // an app that does not know the placeholder
					case "cloud_password":
						return call, false, errors.New("cloud_password arrived as a placeholder: the app did not fill it in")
					default:
						return call, false, fmt.Errorf("%s arrived as the placeholder %s: the app did not fill it in", name, v)
					}
				}
				if name == "cloud_username" && plus && strings.Contains(v, " ") {
					otherName = strings.ReplaceAll(v, " ", "+")
				}
				if name != "cloud_password" {
					v = strings.TrimSpace(v)
				}
				if old, twice := got[name]; twice && old != v {
					return call, false, fmt.Errorf("%s was sent twice, with different values", name)
				}
				got[name] = v
			}
		}
	}
	if token != "" {
		if p := got["cloud_password"]; p != "" && p != token {
			return call, false, errors.New("cloud_password was sent twice, with different values")
		}
		got["cloud_password"] = token
	}
	password := got["cloud_password"]
	id, editable, ok := domain.ParseCloudID(got["cloud_id"])
	switch {
	case got["cloud_id"] == "":
		return call, false, errors.New("cloud_id is missing")
	case !ok:
		return call, false, errors.New("cloud_id is not a cloud ID")
	case password == "":
		return call, false, errors.New("cloud_password is missing")
	case strings.Trim(password, "*") == "":
		return call, false, errors.New("cloud_password arrived as asterisks: the app sends it over https only")
	}
	again := commands.IsSoftphoneToken(password)
	if got["cloud_username"] == "" && !again {
		return call, false, errors.New("cloud_username is missing")
	}
	call = commands.SoftphoneCall{CloudID: id, Editable: editable, Username: got["cloud_username"], OtherUsername: otherName, Password: password, Install: got["install"]}
	if plus && strings.Contains(password, " ") {
		call.OtherPassword = strings.ReplaceAll(password, " ", "+")
	}
	return call, !again, nil
}

// parameters are all that a request carries; plus tells that some of it had a raw "+" in a form or query.
func parameters(w http.ResponseWriter, r *http.Request) (url.Values, bool, error) {
	if len(r.URL.RawQuery) > maxQuery {
		return nil, false, errors.New("the query is too long")
	}
	values := make(url.Values)
	addForm(values, r.URL.RawQuery)
	plus := strings.Contains(r.URL.RawQuery, "+")
	if r.Method != http.MethodPost {
		return values, plus, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, false, errors.New("the body is too long")
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case len(strings.TrimSpace(string(body))) == 0:
	case err == nil && kind == "application/json":
		return addJSON(values, body, plus)
	case err != nil && r.Header.Get("Content-Type") != "", err == nil && kind != "application/x-www-form-urlencoded":
		return nil, false, errors.New("the body must be a form or JSON")
	default:
		addForm(values, string(body))
		plus = plus || strings.Contains(string(body), "+")
	}
	return values, plus, nil
}

// placeholder is a placeholder of a template that the app left as it was.
var placeholder = regexp.MustCompile(`^%[A-Za-z][^%\s]*%$`)

// addForm adds the values of a form or query. It is lenient, for nobody knows how well an app escapes: a "%" that begins no
// escape stands for itself, and so does a placeholder that was not filled in.
func addForm(values url.Values, form string) {
	for pair := range strings.SplitSeq(form, "&") {
		name, raw, _ := strings.Cut(pair, "=")
		if name == "" {
			continue
		}
		v := raw
		if !placeholder.MatchString(raw) {
			v = unescape(raw)
		}
		values[name] = append(values[name], v)
	}
}

func unescape(raw string) string {
	if v, err := url.QueryUnescape(raw); err == nil {
		return v
	}
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] == '%' && i+2 < len(raw) {
			if v, err := url.QueryUnescape(raw[i : i+3]); err == nil {
				b.WriteString(v)
				i += 2
				continue
			}
		}
		if raw[i] == '+' {
			b.WriteByte(' ')
		} else {
			b.WriteByte(raw[i])
		}
	}
	return b.String()
}

// errEscaping: a body was put together without escaping a value.
var errEscaping = errors.New("the JSON is malformed")

// addJSON adds the members of an object. One that does not parse was mostly put together without escaping a value: the
// message names the member before the place.
func addJSON(values url.Values, body []byte, plus bool) (url.Values, bool, error) {
	var members map[string]any
	if err := json.Unmarshal(body, &members); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			before := string(body[:min(int(syntax.Offset), len(body))])
			last, at := "", -1
			for _, spellings := range names {
				for _, name := range spellings {
					if i := strings.LastIndex(before, `"`+name+`"`); i > at {
						last, at = name, i
					}
				}
			}
			if last != "" {
				return nil, false, fmt.Errorf("%w in %s: a quote or backslash in it has to be escaped", errEscaping, last)
			}
		}
		return nil, false, errEscaping
	}
	for k, v := range members {
		switch v := v.(type) {
		case string:
			values[k] = append(values[k], v)
		case float64:
			values[k] = append(values[k], strconv.FormatFloat(v, 'f', -1, 64))
		case bool:
			values[k] = append(values[k], map[bool]string{true: "1", false: "0"}[v])
		}
	}
	return values, plus, nil
}
