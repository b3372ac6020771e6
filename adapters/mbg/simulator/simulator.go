// Package simulator is a border gateway to try and test against: its web services with real OAuth verification, its
// administrator's page, and faults on demand. It speaks whatever mapping it is given, from the gateway's side.
//
// Fidelity: the vendor's web services are not public, so most of what stands here is a guess of ours. Every behaviour
// carries its mark in the table of fidelity.go, which /_sim/fidelity shows, so that nobody takes a proposal for the
// product.
//
// What always holds: a request is either refused or carried out once; passwords are never read back; what a client
// does not name in a full write is gone, as on the strictest of real services.
//
// Not here: SIP, MiNet, media.
package simulator

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	mrand "math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"ledgerline/adapters/mbg/oauth"
	"ledgerline/adapters/mbg/wire"
)

// Options are what a simulator is made with. The zero value is a gateway that speaks the generic mapping, with the
// clock of this machine and nothing configured.
type Options struct {
	Mapping string           // text of a mapping file; empty means generic
	Now     func() time.Time // nil means time.Now
	Seed    uint64           // of faults by probability
	// StateFile, if set, keeps the state over restarts.
	StateFile string
}

// Simulator is one gateway. Safe for concurrent use.
type Simulator struct {
	m      *wire.Mapping
	now    func() time.Time
	file   string
	routes []route

	mu     sync.Mutex
	rand   *mrand.Rand
	s      state
	saved  *state // the snapshot
	nonces map[string]bool
	stamps map[string]int64
	log    []Request
	cert   int // certificates asked for anew
	stale  map[string]staleUser
}

// staleUser is what a member of a cluster that lags still shows.
type staleUser struct {
	until time.Time
	user  *User // nil: not there yet
}

// state is everything an administrator sees.
type state struct {
	ServicesOn bool           `json:"services_on"`
	StopHow    string         `json:"stop_how"` // "404" or "closed"
	Problems   bool           `json:"problems"` // answer with oauth_problem
	PermitWeak bool           `json:"permit_weak"`
	UserLimit  int            `json:"user_limit"`  // 0: none
	ClockAhead time.Duration  `json:"clock_ahead"` // nanoseconds before our clock
	Consumers  []Consumer     `json:"consumers"`
	Temporary  []Temporary    `json:"temporary"`
	Tokens     []Token        `json:"tokens"`
	ICPs       []ICP          `json:"icps"`
	Users      []User         `json:"users"`
	NextID     int            `json:"next_id"`
	Faults     []Fault        `json:"faults"`
	Created    map[string]int `json:"created"` // set-side name -> times created
}

// Consumer is one that may use the web services.
type Consumer struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Secret      string   `json:"secret"`
	Active      bool     `json:"active"`
	Permissions []string `json:"permissions"`
}

// Temporary is a temporary token on its way to a final one.
type Temporary struct {
	Token    string    `json:"token"`
	Secret   string    `json:"secret"`
	Consumer string    `json:"consumer"`
	At       time.Time `json:"at"`
	Verifier string    `json:"verifier"` // empty until approved
}

// Token is a final token.
type Token struct {
	Token    string    `json:"token"`
	Secret   string    `json:"secret"`
	Consumer string    `json:"consumer"`
	Granted  time.Time `json:"granted"`
	Expires  time.Time `json:"expires"`
	Revoked  bool      `json:"revoked"`
}

// ICP is one phone system.
type ICP struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Address string `json:"address"`
}

// User is one SIP user. Extra are settings the client knows nothing of.
type User struct {
	ID           string            `json:"id"`
	Enabled      bool              `json:"enabled"`
	Description  string            `json:"description"`
	ICP          string            `json:"icp"`
	Availability string            `json:"availability"`
	SetUsername  string            `json:"set_username"`
	SetPassword  string            `json:"set_password"`
	ICPUsername  string            `json:"icp_username"`
	ICPPassword  string            `json:"icp_password"`
	Extra        map[string]string `json:"extra,omitempty"`
}

// Fault makes requests of an operation go wrong: Count times (0: until taken away), each with Probability (0: always).
// Kinds: delay (Seconds), drop_before, drop_after, 500, 500_after, 503 (Retry-After Seconds), 429, half_body, wrong_type,
// timestamp_refused, nonce_used, signature_invalid, token_expired, empty_icps, icp_notation, stale (Seconds), write_ignored.
type Fault struct {
	Operation   string  `json:"operation"` // of the mapping; "*" for all
	Kind        string  `json:"kind"`
	Count       int     `json:"count"`
	Probability float64 `json:"probability"`
	Seconds     float64 `json:"seconds"`
	Hits        int     `json:"hits"`
}

// Request is one line of the request log.
type Request struct {
	At        time.Time `json:"at"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Operation string    `json:"operation"`
	Consumer  string    `json:"consumer"`
	Stamp     int64     `json:"timestamp,omitempty"` // of its signature, once that fits
	Status    int       `json:"status"`              // 0: the connection was cut
	Fault     string    `json:"fault,omitempty"`
}

// Permissions a consumer may have. Base/managetoken is documented; the others are ours.
var Permissions = []string{"Base/managetoken", "Icps/read", "SipUsers/read", "SipUsers/write"}

const (
	stampWindow  = 300 * time.Second
	verifierLife = 10 * time.Minute
	logLength    = 2000
	maxBody      = 1 << 20
)

type route struct {
	name    string
	op      wire.Operation
	pattern *regexp.Regexp
	query   url.Values // placeholders by key
}

// New makes a simulator. Errors: wire.ErrMapping, or that the state file cannot be read.
func New(o Options) (*Simulator, error) {
	m, err := wire.ParseMapping(cmp.Or(o.Mapping, wire.Generic))
	if err != nil {
		return nil, err
	}
	s := &Simulator{m: m, now: o.Now, file: o.StateFile, rand: mrand.New(mrand.NewPCG(o.Seed, o.Seed)), nonces: map[string]bool{}, stamps: map[string]int64{},
		stale: map[string]staleUser{}, s: state{StopHow: "404", Problems: true, NextID: 100, Created: map[string]int{}}}
	if s.now == nil {
		s.now = time.Now
	}
	if o.StateFile != "" {
		b, err := os.ReadFile(o.StateFile)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read the simulator's state: %w", err)
		}
		if err == nil {
			if err := json.Unmarshal(b, &s.s); err != nil {
				return nil, fmt.Errorf("read the simulator's state: %w", err)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Operations)) {
		s.addRoute(name, m.Operations[name])
	}
	s.addRoute("request_token", m.OAuth.RequestToken)
	s.addRoute("access_token", m.OAuth.AccessToken)
	return s, nil
}

func (s *Simulator) addRoute(name string, op wire.Operation) {
	path, query, _ := strings.Cut(op.Path, "?")
	quoted := regexp.QuoteMeta(path)
	for _, p := range wire.Placeholder.FindAllString(path, -1) {
		quoted = strings.ReplaceAll(quoted, regexp.QuoteMeta(p), "(?P<"+strings.Trim(p, "{}")+">[^/]+)")
	}
	values, _ := url.ParseQuery(query) // checked by the mapping
	s.routes = append(s.routes, route{name, op, regexp.MustCompile("^" + quoted + "$"), values})
}

// find is the operation a request asks for; one with more of its query comes first, and list_icps before ping.
func (s *Simulator) find(r *http.Request) (route, map[string]string, bool) {
	var best route
	var bestValues map[string]string
	found := false
	for _, rt := range s.routes {
		match := rt.pattern.FindStringSubmatch(r.URL.EscapedPath())
		if match == nil || rt.op.Method != r.Method {
			continue
		}
		values := map[string]string{}
		for i, name := range rt.pattern.SubexpNames() {
			if name != "" {
				values[name], _ = url.PathUnescape(match[i])
			}
		}
		fits := true
		for key, list := range rt.query {
			fits = fits && r.URL.Query().Has(key)
			values[strings.Trim(list[0], "{}")] = r.URL.Query().Get(key)
		}
		if fits && (!found || len(rt.query) > len(best.query)) {
			best, bestValues, found = rt, values, true
		}
	}
	return best, bestValues, found
}

// time is what the gateway's clock shows.
func (s *Simulator) time() time.Time { return s.now().Add(s.s.ClockAhead).UTC() }

// ServeHTTP serves the web services, and the administrator's side below /_sim/.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/_sim/") || r.URL.Path == "/" {
		s.administer(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "too much", http.StatusRequestEntityTooLarge)
		return
	}
	s.mu.Lock()
	a, delay := s.serve(r, body)
	if a.changed {
		s.save()
	}
	s.mu.Unlock()
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
		}
	}
	if a.cut {
		panic(http.ErrAbortHandler)
	}
	a.write(w)
}

// reply is what one request is answered with.
type reply struct {
	status  int
	header  http.Header
	body    []byte
	half    bool
	cut     bool
	changed bool
}

func (a reply) write(w http.ResponseWriter) {
	for k, v := range a.header {
		w.Header()[k] = v
	}
	if a.half {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.body)+100))
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body[:len(a.body)/(1+btoi(a.half))]) // whoever asked may have gone
	if a.half {
		if err := http.NewResponseController(w).Flush(); err == nil {
			panic(http.ErrAbortHandler)
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// serve answers one request; the lock is held. Faults of the way in come before anything is done, those of the way
// back after it.
func (s *Simulator) serve(r *http.Request, body []byte) (reply, time.Duration) {
	rt, values, known := s.find(r)
	entry := Request{At: s.time(), Method: r.Method, Path: r.URL.Path, Operation: rt.name}
	note := func(a reply) reply {
		entry.Status = a.status
		if a.cut {
			entry.Status = 0
		}
		if s.log = append(s.log, entry); len(s.log) > logLength {
			s.log = slices.Delete(s.log, 0, len(s.log)-logLength)
		}
		return a
	}
	if !s.s.ServicesOn {
		if s.s.StopHow == "closed" {
			return note(reply{cut: true}), 0
		}
		return note(s.plain(http.StatusNotFound, "Not Found")), 0
	}
	if !known {
		return note(s.plain(http.StatusNotFound, "Not Found")), 0
	}
	faults := s.faults(rt.name)
	var delay time.Duration
	for _, f := range faults {
		entry.Fault = strings.TrimPrefix(entry.Fault+" "+f.Kind, " ")
		if f.Kind == "delay" {
			delay += time.Duration(f.Seconds * float64(time.Second))
		}
	}
	if a, hit := s.before(faults); hit {
		return note(a), delay
	}
	consumer, token, refused := s.authorize(r, rt, body, &entry)
	entry.Consumer = consumer.ID
	if refused != nil {
		return note(*refused), delay
	}
	a := s.perform(rt, values, r, body, consumer, token, faults)
	return note(s.after(a, faults)), delay
}

// faults are those that hit an operation now.
func (s *Simulator) faults(operation string) (hits []Fault) {
	for i := range s.s.Faults {
		f := &s.s.Faults[i]
		if f.Operation != "*" && f.Operation != operation || f.Count > 0 && f.Hits >= f.Count || f.Probability > 0 && s.rand.Float64() >= f.Probability {
			continue
		}
		f.Hits++
		hits = append(hits, *f)
	}
	return hits
}

func (s *Simulator) before(faults []Fault) (reply, bool) {
	for _, f := range faults {
		switch f.Kind {
		case "drop_before":
			return reply{cut: true}, true
		case "500":
			return s.plain(http.StatusInternalServerError, "internal error"), true
		case "503", "429":
			status, _ := strconv.Atoi(f.Kind)
			a := s.plain(status, "busy")
			if f.Seconds > 0 {
				a.header.Set("Retry-After", strconv.Itoa(int(f.Seconds)))
			}
			return a, true
		case "timestamp_refused", "nonce_used", "signature_invalid", "token_expired":
			return s.problem(http.StatusUnauthorized, f.Kind), true
		}
	}
	return reply{}, false
}

func (s *Simulator) after(a reply, faults []Fault) reply {
	for _, f := range faults {
		switch f.Kind {
		case "drop_after":
			return reply{cut: true, changed: a.changed}
		case "500_after":
			broken := s.plain(http.StatusInternalServerError, "internal error")
			broken.changed = a.changed
			return broken
		case "half_body":
			a.half = true
		case "wrong_type":
			a.header.Set("Content-Type", "text/html")
			a.body = []byte("<!doctype html><title>Sign in</title>")
		}
	}
	return a
}

func fault(faults []Fault, kind string) (Fault, bool) {
	i := slices.IndexFunc(faults, func(f Fault) bool { return f.Kind == kind })
	if i < 0 {
		return Fault{}, false
	}
	return faults[i], true
}

func (s *Simulator) plain(status int, text string) reply {
	return reply{status: status, header: s.header("text/plain; charset=utf-8"), body: []byte(text + "\n")}
}

func (s *Simulator) header(contentType string) http.Header {
	h := http.Header{"Date": {s.time().Format(http.TimeFormat)}, "X-Mbg-Simulator": {"1"}}
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	return h
}

// problem is an OAuth refusal, with its reason or, as the switch says, without.
func (s *Simulator) problem(status int, problem string) reply {
	if !s.s.Problems {
		return s.plain(status, http.StatusText(status))
	}
	a := s.plain(status, "oauth_problem="+problem)
	a.header.Set("WWW-Authenticate", `OAuth realm="mbg", oauth_problem="`+problem+`"`)
	return a
}

// authorize verifies signature, timestamp, nonce, consumer, token and permission.
func (s *Simulator) authorize(r *http.Request, rt route, body []byte, entry *Request) (Consumer, *Token, *reply) {
	refuse := func(status int, problem string) (Consumer, *Token, *reply) {
		a := s.problem(status, problem)
		return Consumer{}, nil, &a
	}
	u := *r.URL
	u.Scheme, u.Host = "http", r.Host
	if r.TLS != nil {
		u.Scheme = "https"
	}
	if base := s.m.SignURL(); base != nil {
		u.Scheme, u.Host = base.Scheme, base.Host
	}
	got, err := oauth.Receive(r, &u, body)
	if err != nil {
		return refuse(http.StatusBadRequest, "parameter_rejected")
	}
	o := got.OAuth
	for _, name := range []string{"oauth_consumer_key", "oauth_signature_method", "oauth_signature", "oauth_timestamp", "oauth_nonce"} {
		if o[name] == "" {
			return refuse(http.StatusBadRequest, "parameter_absent")
		}
	}
	i := slices.IndexFunc(s.s.Consumers, func(c Consumer) bool { return c.ID == o["oauth_consumer_key"] })
	if i < 0 {
		return refuse(http.StatusUnauthorized, "consumer_key_unknown")
	}
	consumer := s.s.Consumers[i]
	if !consumer.Active {
		return refuse(http.StatusUnauthorized, "consumer_key_refused")
	}
	if o["oauth_signature_method"] != s.m.OAuth.SignatureMethod {
		return refuse(http.StatusBadRequest, "signature_method_rejected")
	}
	token, secret, problem := s.tokenOf(rt.name, consumer, o)
	if problem != "" {
		return refuse(http.StatusUnauthorized, problem)
	}
	if ok, err := got.Fits(consumer.Secret, secret); err != nil || !ok {
		return refuse(http.StatusUnauthorized, "signature_invalid")
	}
	stamp, err := strconv.ParseInt(o["oauth_timestamp"], 10, 64)
	entry.Stamp = stamp
	who := consumer.ID + "\x00" + o["oauth_token"]
	if err != nil || stamp <= 0 || s.time().Sub(time.Unix(stamp, 0)).Abs() > stampWindow || stamp < s.stamps[who] {
		return refuse(http.StatusUnauthorized, "timestamp_refused")
	}
	if nonce := who + "\x00" + o["oauth_timestamp"] + "\x00" + o["oauth_nonce"]; s.nonces[nonce] {
		return refuse(http.StatusUnauthorized, "nonce_used")
	} else if s.stamps[who] = stamp; true {
		if len(s.nonces) > 100_000 {
			clear(s.nonces)
		}
		s.nonces[nonce] = true
	}
	if need := permission(rt); need != "" && !slices.Contains(consumer.Permissions, need) {
		a := s.plain(http.StatusForbidden, "permission "+need+" is not ticked for this consumer")
		return consumer, nil, &a
	}
	return consumer, token, nil
}

// permission is what an operation needs.
func permission(rt route) string {
	switch rt.name {
	case "request_token", "access_token":
		return ""
	case "token_status", "token_renew":
		return "Base/managetoken"
	case "ping", "list_icps":
		return "Icps/read"
	case "list_users", "find_user", "get_user":
		return "SipUsers/read"
	}
	return "SipUsers/write"
}

// tokenOf finds the token a request is signed with, and its secret.
func (s *Simulator) tokenOf(operation string, c Consumer, o map[string]string) (final *Token, secret, problem string) {
	switch operation {
	case "request_token":
		return nil, "", ""
	case "access_token":
		for _, t := range s.s.Temporary {
			if t.Token == o["oauth_token"] && t.Consumer == c.ID {
				switch {
				case t.Verifier == "":
					return nil, "", "permission_unknown"
				case s.time().Sub(t.At) > verifierLife+20*time.Minute:
					return nil, "", "token_expired"
				}
				return nil, t.Secret, ""
			}
		}
		return nil, "", "token_rejected"
	}
	for i, t := range s.s.Tokens {
		if t.Token != o["oauth_token"] || t.Consumer != c.ID {
			continue
		}
		switch {
		case t.Revoked:
			return nil, "", "token_revoked"
		case !s.time().Before(t.Expires):
			return nil, "", "token_expired"
		}
		return &s.s.Tokens[i], t.Secret, ""
	}
	return nil, "", "token_rejected"
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// perform carries out an operation that was allowed.
func (s *Simulator) perform(rt route, values map[string]string, r *http.Request, body []byte, c Consumer, token *Token, faults []Fault) reply {
	switch rt.name {
	case "request_token":
		t := Temporary{Token: "tmp-" + random(8), Secret: random(16), Consumer: c.ID, At: s.time()}
		s.s.Temporary = append(slices.DeleteFunc(s.s.Temporary, func(t Temporary) bool { return t.Consumer == c.ID }), t)
		return s.tokenReply(t.Token, t.Secret, true)
	case "access_token":
		return s.grant(r, body)
	case "ping", "list_icps":
		return s.listICPs(rt, faults)
	case "list_users", "find_user":
		return s.listUsers(rt, values, r, faults)
	case "get_user":
		u := s.seen(values["id"])
		if u == nil {
			return s.plain(http.StatusNotFound, "no such user")
		}
		return s.one(http.StatusOK, rt.op.Item, s.object(*u))
	case "create_user", "update_user":
		return s.put(rt, values, r, body, faults)
	case "delete_user":
		i := s.user(values["id"])
		if i < 0 {
			return s.plain(http.StatusNotFound, "no such user")
		}
		s.lag(faults, s.s.Users[i].ID, &s.s.Users[i])
		s.s.Users = slices.Delete(s.s.Users, i, i+1)
		return reply{status: http.StatusNoContent, header: s.header(""), changed: true}
	case "token_status":
		tree := map[string]any{}
		put(tree, rt.op.Expires, token.Expires.Format(time.RFC3339))
		return s.body(http.StatusOK, tree)
	case "token_renew":
		token.Expires = renewed(s.time())
		return reply{status: http.StatusNoContent, header: s.header(""), changed: true}
	}
	return s.plain(http.StatusNotFound, "Not Found")
}

func renewed(at time.Time) time.Time { return at.AddDate(1, 0, 0) }

func (s *Simulator) tokenReply(token, secret string, temporary bool) reply {
	text := "oauth_token=" + oauth.Encode(token) + "&oauth_token_secret=" + oauth.Encode(secret)
	kind := "application/x-www-form-urlencoded"
	if temporary {
		text += "&oauth_callback_confirmed=true"
	}
	if s.m.OAuth.TokenReply == "json" {
		b, _ := json.Marshal(map[string]string{"oauth_token": token, "oauth_token_secret": secret}) // of strings
		text, kind = string(b), "application/json"
	}
	return reply{status: http.StatusOK, header: s.header(kind), body: []byte(text), changed: true}
}

// grant makes a final token of a temporary one whose verifier is right; it is used up by that.
func (s *Simulator) grant(r *http.Request, body []byte) reply {
	got, err := oauth.Receive(r, r.URL, body)
	if err != nil {
		return s.problem(http.StatusBadRequest, "parameter_rejected")
	}
	i := slices.IndexFunc(s.s.Temporary, func(t Temporary) bool { return t.Token == got.OAuth["oauth_token"] })
	if i < 0 || got.OAuth["oauth_verifier"] == "" || got.OAuth["oauth_verifier"] != s.s.Temporary[i].Verifier {
		return s.problem(http.StatusUnauthorized, "verifier_invalid")
	}
	t := s.s.Temporary[i]
	s.s.Temporary = slices.Delete(s.s.Temporary, i, i+1)
	final := Token{Token: "fin-" + random(8), Secret: random(16), Consumer: t.Consumer, Granted: s.time(), Expires: renewed(s.time())}
	s.s.Tokens = append(s.s.Tokens, final)
	return s.tokenReply(final.Token, final.Secret, false)
}

func (s *Simulator) listICPs(rt route, faults []Fault) reply {
	list := []any{}
	fields := s.m.Fields["icp"]
	for _, icp := range s.s.ICPs {
		if _, hit := fault(faults, "empty_icps"); hit {
			break
		}
		address := icp.Address
		if _, hit := fault(faults, "icp_notation"); hit {
			if ip, err := netip.ParseAddr(address); err == nil && ip.Is4() {
				address = "[::ffff:" + address + "]:5060"
			}
		}
		o := map[string]any{}
		for name, v := range map[string]string{"id": icp.ID, "name": icp.Name, "address": address} {
			if f, ok := fields[name]; ok {
				o[f.Wire] = v
			}
		}
		list = append(list, o)
	}
	return s.many(s.m.Operations["list_icps"].Items, list, nil)
}

func (s *Simulator) listUsers(rt route, values map[string]string, r *http.Request, _ []Fault) reply {
	list := []any{}
	for _, id := range s.ids() {
		if u := s.seen(id); u != nil && (rt.name != "find_user" || u.SetUsername == values["set_username"]) {
			list = append(list, s.object(*u))
		}
	}
	extra := map[string]any{}
	if p := rt.op.Paging; p != nil {
		total, q := len(list), r.URL.Query()
		size, _ := strconv.Atoi(q.Get(p.Limit)) // 0 when absent
		from, _ := strconv.Atoi(q.Get(p.Offset))
		if p.Style == "page" {
			page, _ := strconv.Atoi(q.Get(p.Page))
			from = (max(page, 1) - 1) * size
		}
		from = min(max(from, 0), len(list))
		list = list[from:]
		if size > 0 && len(list) > size {
			list = list[:size]
		}
		if p.Total != "" {
			extra[p.Total] = total
		}
	}
	return s.many(rt.op.Items, list, extra)
}

// ids are those of all users and of those a lagging member still shows.
func (s *Simulator) ids() []string {
	var ids []string
	for _, u := range s.s.Users {
		ids = append(ids, u.ID)
	}
	for id, old := range s.stale {
		if old.user != nil && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// seen is a user as a reader sees it: an older state while a member of the cluster lags.
func (s *Simulator) seen(id string) *User {
	if old, ok := s.stale[id]; ok {
		if s.time().Before(old.until) {
			return old.user
		}
		delete(s.stale, id)
	}
	if i := s.user(id); i >= 0 {
		return &s.s.Users[i]
	}
	return nil
}

func (s *Simulator) user(id string) int {
	return slices.IndexFunc(s.s.Users, func(u User) bool { return u.ID == id })
}

func (s *Simulator) lag(faults []Fault, id string, before *User) {
	if f, hit := fault(faults, "stale"); hit {
		if before != nil {
			clone := *before
			before = &clone
		}
		s.stale[id] = staleUser{s.time().Add(time.Duration(f.Seconds * float64(time.Second))), before}
	}
}

// object is a user on the wire, without passwords.
func (s *Simulator) object(u User) map[string]any {
	o := map[string]any{}
	for k, v := range u.Extra {
		o[k] = v
	}
	values := map[string]string{"id": u.ID, "description": u.Description, "icp_id": u.ICP, "availability": u.Availability, "set_username": u.SetUsername, "icp_username": u.ICPUsername}
	for name, f := range s.m.Fields["sip_user"] {
		switch {
		case f.Access == "write":
		case name == "enabled":
			o[f.Wire] = u.Enabled
			if u.Enabled && f.True != nil {
				o[f.Wire] = f.True
			} else if !u.Enabled && f.False != nil {
				o[f.Wire] = f.False
			}
		default:
			v := values[name]
			if theirs, ok := f.Enum[v]; ok {
				v = theirs
			}
			o[f.Wire] = v
		}
	}
	return o
}

// put creates or writes over a user.
func (s *Simulator) put(rt route, values map[string]string, r *http.Request, body []byte, faults []Fault) reply {
	in, err := s.read(rt, r, body)
	if err != nil {
		return s.refuse(http.StatusBadRequest, "invalid", err.Error())
	}
	var u User
	i := -1
	if rt.name == "update_user" {
		if i = s.user(values["id"]); i < 0 {
			return s.plain(http.StatusNotFound, "no such user")
		}
		u = s.s.Users[i]
	} else {
		u = User{Enabled: true, Availability: "everywhere"}
	}
	before := u
	s.lay(&u, in, rt.op.Send == "full")
	if a, refused := s.check(u, i); refused {
		return a
	}
	if _, hit := fault(faults, "write_ignored"); hit {
		return s.one(http.StatusOK, "/", s.object(u))
	}
	status := http.StatusOK
	if i < 0 {
		status = http.StatusCreated
		s.s.NextID++
		u.ID = strconv.Itoa(s.s.NextID)
		u.Extra = map[string]string{"codec": "default", "heartbeat": "30"}
		s.s.Users = append(s.s.Users, u)
		s.s.Created[u.SetUsername]++
		s.lag(faults, u.ID, nil)
	} else {
		s.s.Users[i] = u
		s.lag(faults, u.ID, &before)
	}
	a := s.one(status, "/", s.object(u))
	if id := s.m.Operations["create_user"].IDFrom; i < 0 && id != "" {
		a = s.one(status, parentOf(id), s.object(u))
	}
	a.changed = true
	return a
}

// parentOf is where an object stands whose id is at pointer.
func parentOf(pointer string) string {
	if i := strings.LastIndexByte(pointer, '/'); i > 0 {
		return pointer[:i]
	}
	return "/"
}

// read takes a body apart.
func (s *Simulator) read(rt route, r *http.Request, body []byte) (map[string]any, error) {
	var tree any
	if s.m.Codec.Request == "form" {
		if !oauth.IsForm(r.Header) {
			return nil, errors.New("a form is wanted")
		}
		pairs, err := oauth.ParsePairs(string(body))
		if err != nil {
			return nil, err
		}
		object := map[string]any{}
		for _, p := range pairs {
			if !strings.HasPrefix(p.Name, "oauth_") {
				object[p.Name] = p.Value
			}
		}
		return object, nil
	}
	tree, err := wire.Decode(s.m.Codec.Request, body)
	if err != nil {
		return nil, err
	}
	if s.m.Codec.Request == "xml" {
		tree = wire.At(tree, "/"+s.m.Codec.XMLRoot["sip_user"])
	}
	if rt.op.Wrap != "" {
		tree = wire.At(tree, "/"+rt.op.Wrap)
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, errors.New("an object is wanted")
	}
	return object, nil
}

// lay puts what a request names over a user. Passwords that are blank stay as they are; in a full write, settings that
// are not named are gone.
func (s *Simulator) lay(u *User, in map[string]any, full bool) {
	into := map[string]*string{"description": &u.Description, "icp_id": &u.ICP, "availability": &u.Availability, "set_username": &u.SetUsername,
		"set_password": &u.SetPassword, "icp_username": &u.ICPUsername, "icp_password": &u.ICPPassword}
	known := map[string]bool{}
	for name, f := range s.m.Fields["sip_user"] {
		known[f.Wire] = true
		v, given := in[f.Wire]
		if !given {
			continue
		}
		switch {
		case name == "enabled":
			u.Enabled = f.Truth(v)
		case into[name] != nil:
			text := wire.Scalar(v)
			for ours, theirs := range f.Enum {
				if theirs == text {
					text = ours
				}
			}
			if f.Access != "write" || text != "" {
				*into[name] = text
			}
		}
	}
	u.ICPUsername, u.ICPPassword = cmp.Or(u.ICPUsername, u.SetUsername), cmp.Or(u.ICPPassword, u.SetPassword)
	extra := map[string]string{}
	if !full {
		maps.Copy(extra, u.Extra)
	}
	for k, v := range in {
		if !known[k] {
			extra[k] = wire.Scalar(v)
		}
	}
	u.Extra = extra
}

// check refuses what a gateway refuses; i is the user's own place.
func (s *Simulator) check(u User, i int) (reply, bool) {
	switch {
	case u.SetUsername == "":
		return s.refuse(http.StatusUnprocessableEntity, "missing", "set-side username is missing"), true
	case !slices.ContainsFunc(s.s.ICPs, func(icp ICP) bool { return icp.ID == u.ICP }):
		return s.refuse(http.StatusUnprocessableEntity, "unknown_icp", "no such ICP"), true
	case !s.s.PermitWeak && weak(u.SetPassword, u.SetUsername):
		return s.refuse(http.StatusUnprocessableEntity, "weak_password", "the set-side password is weak"), true
	case i < 0 && s.s.UserLimit > 0 && len(s.s.Users) >= s.s.UserLimit:
		return s.refuse(http.StatusConflict, "licence", "no teleworker licence left"), true
	}
	for j, other := range s.s.Users {
		if j != i && other.SetUsername == u.SetUsername {
			return s.refuse(http.StatusConflict, "duplicate", "set-side username already exists"), true
		}
	}
	return reply{}, false
}

// weak: less than 8 characters, fewer than three classes, or the user name.
func weak(password, username string) bool {
	classes := map[int]bool{}
	for _, r := range password {
		switch {
		case r >= 'a' && r <= 'z':
			classes[0] = true
		case r >= 'A' && r <= 'Z':
			classes[1] = true
		case r >= '0' && r <= '9':
			classes[2] = true
		default:
			classes[3] = true
		}
	}
	return len(password) < 8 || len(classes) < 3 || password == username
}

// refuse is an error in the words the mapping reads.
func (s *Simulator) refuse(status int, code, text string) reply {
	return s.one(status, "/error", map[string]any{"code": code, "message": text})
}

// one answers an object at a pointer.
func (s *Simulator) one(status int, pointer string, object map[string]any) reply {
	return s.body(status, place(pointer, object))
}

func (s *Simulator) many(pointer string, list []any, extra map[string]any) reply {
	tree := place(pointer, list)
	for at, v := range extra {
		put(tree, at, v)
	}
	return s.body(http.StatusOK, tree)
}

// place puts v at a pointer of a new tree.
func place(pointer string, v any) map[string]any {
	parts := strings.Split(strings.Trim(pointer, "/"), "/")
	for i := len(parts) - 1; i >= 0 && parts[0] != ""; i-- {
		v = map[string]any{parts[i]: v}
	}
	tree, _ := v.(map[string]any)
	return tree
}

// put adds v at a pointer of a tree.
func put(tree map[string]any, pointer string, v any) {
	parts := strings.Split(strings.Trim(pointer, "/"), "/")
	for _, p := range parts[:len(parts)-1] {
		next, ok := tree[p].(map[string]any)
		if !ok {
			next = map[string]any{}
			tree[p] = next
		}
		tree = next
	}
	tree[parts[len(parts)-1]] = v
}

func (s *Simulator) body(status int, tree map[string]any) reply {
	codec, root := s.m.Codec.Response, "answer"
	if codec == "xml" && len(tree) == 1 { // the one member is the document's root
		for name, v := range tree {
			if object, ok := v.(map[string]any); ok {
				root, tree = name, object
			}
		}
	}
	b, kind, err := wire.Encode(codec, root, tree)
	if err != nil {
		return s.plain(http.StatusInternalServerError, err.Error())
	}
	return reply{status: status, header: s.header(kind), body: b}
}

// save keeps the state; the lock is held. What cannot be written is told on the page.
func (s *Simulator) save() {
	if s.file == "" {
		return
	}
	b, err := json.MarshalIndent(s.s, "", "\t")
	if err == nil {
		err = renameio.WriteFile(s.file, b, 0o600)
	}
	if err != nil {
		s.log = append(s.log, Request{At: s.time(), Operation: "save", Fault: err.Error()})
	}
}

func digits(n int) string {
	var b strings.Builder
	for range n {
		d, err := rand.Int(rand.Reader, big.NewInt(10))
		if err != nil {
			panic(err) // never fails
		}
		b.WriteString(d.String())
	}
	return b.String()
}
