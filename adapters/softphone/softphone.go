// Package softphone is what apps of Cloud Softphone (Acrobits) call on the phone plane: /softphone/v1/account, "External
// Provisioning", and /softphone/v1/global, "Global External Provisioning"; and, once they are signed in, contacts, balance
// and push, the directory of their tenant, a text that stands for a balance, and the report of their push tokens.
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
	"maps"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ledgerline/adapters/softphone/wire"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// Provisioner answers apps: *commands.Service.
type Provisioner interface {
	ServeSoftphone(ctx context.Context, in commands.SoftphoneCall) (commands.SoftphoneAnswer, error)
	// SoftphoneTenant, SoftphoneBalance and ReportSoftphonePush answer apps that are signed in.
	SoftphoneTenant(ctx context.Context, in commands.SoftphoneCall) (domain.TenantID, error)
	SoftphoneBalance(ctx context.Context, in commands.SoftphoneCall) (string, error)
	ReportSoftphonePush(ctx context.Context, in commands.SoftphoneCall, push domain.SoftphonePush) error
	// Open is the clear text of a name or number; empty for what was erased.
	Open(ctx context.Context, v domain.Sealed) (string, error)
	// SoftphoneCurrent tells whether an answer that followed from inputs still holds.
	SoftphoneCurrent(inputs []domain.Input) bool
}

// Client is where a request comes from.
type Client struct {
	IP string
	// Private tells that nobody can listen: TLS, or a trusted network.
	Private bool
}

// Options of New. Provisioner and Client are needed, Views for contacts.
type Options struct {
	Provisioner Provisioner
	Views       projections.Querier
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
	account  = domain.SoftphoneAccountPath
	global   = domain.SoftphoneGlobalPath
	contacts = domain.SoftphoneContactsPath
	balance  = domain.SoftphoneBalancePath
	push     = domain.SoftphonePushPath
)

// services are the paths, each with its name in the metrics.
var services = map[string]string{account: "account", global: "global", contacts: "contacts", balance: "balance", push: "push"}

// Limits of one request.
const (
	maxBody  = 16 << 10
	maxQuery = 8 << 10
	maxValue = 512
)

type handler struct {
	Options
	answers   answers
	directory directories
	metrics   metrics
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
	for known := range services {
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
	if services[path] == "" {
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
	call, sent, err := parse(w, r, token, path)
	if err != nil {
		// The message says which parameter and how, never what was in it; "escaping" is a template of ours or the app's that
		// puts values where they cannot stand.
		zerolog.Ctx(r.Context()).Info().Str("route", path).Str("ip", client.IP).Bool("escaping", errors.Is(err, errEscaping)).Str("refused", err.Error()).Msg("softphone asked what cannot be read")
		fail(w, r, http.StatusBadRequest, err.Error())
		return
	}
	call.Global, call.IP = path == global, client.IP
	initial := !commands.IsSoftphoneToken(call.Password)
	status := h.serve(w, r, path, call, sent, start)
	h.metrics.answered(services[path], status)
	zerolog.Ctx(r.Context()).Info().Str("route", path).Str("cloud_id", string(call.CloudID)).Bool("editable", call.Editable).Bool("initial", initial).Str("ip", client.IP).Int("status", status).
		Dur("elapsed_ms", time.Since(start)).Msg("softphone asked")
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request, path string, call commands.SoftphoneCall, sent map[string]string, start time.Time) int {
	switch path {
	case contacts:
		return h.contacts(w, r, call, start)
	case balance:
		return h.balance(w, r, call, start)
	case push:
		return h.push(w, r, call, sent, start)
	}
	return h.answer(w, r, call, start)
}

func serviceOf(call commands.SoftphoneCall) string {
	if call.Global {
		return "global"
	}
	return "account"
}

// answer turns what comes of provisioning into what the app understands.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, call commands.SoftphoneCall, start time.Time) int {
	initial := !commands.IsSoftphoneToken(call.Password)
	key, keeps := keyOf(call)
	if keeps {
		if k, ok := h.answers.get(key, h.Now(), h.Provisioner.SoftphoneCurrent); ok {
			h.metrics.answers.WithLabelValues(serviceOf(call), "cache").Inc()
			return send(w, r, k.body, call.Global && !initial)
		}
	}
	got, err := h.Provisioner.ServeSoftphone(r.Context(), call)
	var trouble *commands.SoftphoneError
	if err != nil && errors.As(err, &trouble) && trouble.FailOpen && call.Global && initial && r.Context().Err() == nil {
		h.report(r, call, err)
		return send(w, r, wire.Global(domain.SoftphoneDocument{}, nil, false), false)
	}
	if err != nil {
		return h.refuse(w, r, call, err, start, map[bool]int{true: http.StatusForbidden, false: domain.SoftphoneLogoutStatus}[call.Global])
	}
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
}

// refuse answers why an app gets nothing. It is the one place that does. signedOut is the status for a token that is dead
// for good.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, call commands.SoftphoneCall, err error, start time.Time, signedOut int) int {
	var guess *commands.GuessError
	switch {
	case errors.Is(err, domain.ErrCloudIDUnknown):
		return fail(w, r, http.StatusNotFound, "There is no such cloud ID here.")
	case errors.Is(err, domain.ErrSoftphoneRefused):
		pause(r.Context(), h.RefuseAfter-time.Since(start))
		return fail(w, r, http.StatusForbidden, "The user name or the password is not right, or the code has been used or has expired.")
	case errors.Is(err, domain.ErrSoftphoneSignedOut):
		if signedOut != domain.SoftphoneLogoutStatus {
			return fail(w, r, signedOut, "You have been signed out.")
		}
		return fail(w, r, signedOut, "You have been signed out. Ask your administrator for a new code.")
	case errors.As(err, &guess):
		w.Header().Set("Retry-After", strconv.Itoa(int(guess.RetryAfter.Seconds())+1))
		return fail(w, r, http.StatusTooManyRequests, "Too many wrong passwords. Try again later.")
	case r.Context().Err() != nil:
		return 499 // nobody is left to read an answer
	}
	h.report(r, call, err)
	w.Header().Set("Retry-After", "30")
	return fail(w, r, http.StatusServiceUnavailable, "The service is busy. Try again in a moment.")
}

// report logs our own trouble.
func (h *handler) report(r *http.Request, call commands.SoftphoneCall, err error) {
	if !errors.Is(err, commands.ErrSignInBusy) {
		zerolog.Ctx(r.Context()).Error().Err(err).Str("cloud_id", string(call.CloudID)).Msg("answer a softphone")
	}
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

// namesAt are the names of the parameters of a service: those of the push token reporter are one to one, and what the app
// does not know of them it may leave as placeholders.
func namesAt(path string) map[string][]string {
	if path != push {
		return names
	}
	all := maps.Clone(names)
	for _, name := range domain.SoftphonePushParameters {
		all[name] = []string{name}
	}
	return all
}

// parse reads the parameters from query, form or JSON body; sent are all of them. The errors are told to the user.
func parse(w http.ResponseWriter, r *http.Request, token, path string) (call commands.SoftphoneCall, sent map[string]string, err error) {
	values, plus, err := parameters(w, r)
	if err != nil {
		return call, nil, err
	}
	got := make(map[string]string)
	otherName := ""
	for name, spellings := range namesAt(path) {
		for _, spelling := range spellings {
			for _, v := range values[spelling] {
				switch {
				case len(v) > maxValue || strings.ContainsFunc(v, func(r rune) bool { return r < 0x20 || r == 0x7f || r == 0xfffd }):
					return call, nil, fmt.Errorf("%s is too long, or no text", name)
				case placeholder.MatchString(v):
					switch {
					case name == "install", slices.Contains(domain.SoftphonePushParameters, name):
						v = "" // an app that does not know the placeholder
					case name == "cloud_password":
						return call, nil, errors.New("cloud_password arrived as a placeholder: the app did not fill it in")
					default:
						return call, nil, fmt.Errorf("%s arrived as the placeholder %s: the app did not fill it in", name, v)
					}
				}
				if name == "cloud_username" && plus && strings.Contains(v, " ") {
					otherName = strings.ReplaceAll(v, " ", "+")
				}
				if name != "cloud_password" {
					v = strings.TrimSpace(v)
				}
				if old, twice := got[name]; twice && old != v {
					return call, nil, fmt.Errorf("%s was sent twice, with different values", name)
				}
				got[name] = v
			}
		}
	}
	if token != "" {
		if p := got["cloud_password"]; p != "" && p != token {
			return call, nil, errors.New("cloud_password was sent twice, with different values")
		}
		got["cloud_password"] = token
	}
	password := got["cloud_password"]
	id, editable, ok := domain.ParseCloudID(got["cloud_id"])
	switch {
	case got["cloud_id"] == "":
		return call, nil, errors.New("cloud_id is missing")
	case !ok:
		return call, nil, errors.New("cloud_id is not a cloud ID")
	case password == "":
		return call, nil, errors.New("cloud_password is missing")
	case strings.Trim(password, "*") == "":
		return call, nil, errors.New("cloud_password arrived as asterisks: the app sends it over https only")
	}
	again := commands.IsSoftphoneToken(password)
	if got["cloud_username"] == "" && !again {
		return call, nil, errors.New("cloud_username is missing")
	}
	call = commands.SoftphoneCall{CloudID: id, Editable: editable, Username: got["cloud_username"], OtherUsername: otherName, Password: password, Install: got["install"]}
	if plus && strings.Contains(password, " ") {
		call.OtherPassword = strings.ReplaceAll(password, " ", "+")
	}
	return call, got, nil
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
