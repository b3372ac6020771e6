// Package provd_test holds Ledgerline to wazo-provd's contract: every test here is written from the reference of what
// a compatible server must do, against the real engine, its REST interface and its phone plane, with a token service
// played by a small fake.
package provd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"ledgerline/adapters/phonehttp"
	"ledgerline/adapters/provd"
	"ledgerline/adapters/sightings"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/proc"
	"ledgerline/tests/rig"
)

// Tenants and tokens every stand begins with.
const (
	mainTenant = "2c34c282-433e-4bb8-8d56-fec14ff7e1e9"
	subTenant1 = "9a7f2a55-7d0f-4f5c-9a55-d2f6c7a1b001"
	subTenant2 = "9a7f2a55-7d0f-4f5c-9a55-d2f6c7a1b002"
	subSub     = "9a7f2a55-7d0f-4f5c-9a55-d2f6c7a1b011" // below subTenant1
	mainToken  = "main-token"
	sub1Token  = "sub1-token"
	sub2Token  = "sub2-token"
	weakToken  = "weak-token" // of the main tenant, may read the status only
	serviceID  = "provd"
	serviceKey = "service-key-of-the-tests"
)

// authority is a token service as wazo-auth answers.
type authority struct {
	mu      sync.Mutex
	tokens  map[string]string   // token -> tenant
	scopes  map[string][]string // token -> permissions; nil: all
	parents map[string]string   // tenant -> parent
	hang    chan struct{}       // when set, nothing is answered before it is closed
	calls   int
}

func newAuthority() *authority {
	return &authority{
		tokens:  map[string]string{mainToken: mainTenant, sub1Token: subTenant1, sub2Token: subTenant2, weakToken: mainTenant},
		scopes:  map[string][]string{weakToken: {"provd.status.read"}},
		parents: map[string]string{mainTenant: mainTenant, subTenant1: mainTenant, subTenant2: mainTenant, subSub: subTenant1},
	}
}

// under tells whether tenant is top or below it.
func (a *authority) under(tenant, top string) bool {
	for range 10 {
		if tenant == top {
			return true
		}
		parent, known := a.parents[tenant]
		if !known || parent == tenant {
			return false
		}
		tenant = parent
	}
	return false
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	hang := a.hang
	a.calls++
	a.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
			return
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	name, isToken := strings.CutPrefix(r.URL.Path, "/0.1/token/")
	answer := func(token, tenant string) {
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"token": token, "auth_id": "someone", "acl": []string{"#"},
			"metadata": map[string]string{"uuid": "user-of-" + token, "tenant_uuid": tenant}}})
	}
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/0.1/token":
		if id, key, ok := r.BasicAuth(); !ok || id != serviceID || key != serviceKey {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		a.tokens["own-token"] = mainTenant
		answer("own-token", mainTenant)
	case r.Method == http.MethodHead && isToken:
		tenant, known := a.tokens[name]
		scope, of := r.URL.Query().Get("scope"), r.URL.Query().Get("tenant")
		scopes, limited := a.scopes[name]
		switch {
		case !known:
			w.WriteHeader(http.StatusNotFound)
		case !a.under(of, tenant), limited && !strings.Contains(" "+strings.Join(scopes, " ")+" ", " "+scope+" "):
			w.WriteHeader(http.StatusForbidden)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	case r.Method == http.MethodGet && isToken:
		tenant, known := a.tokens[name]
		if !known {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		answer(name, tenant)
	case r.Method == http.MethodGet && r.URL.Path == "/0.1/tenants":
		if _, known := a.tokens[r.Header.Get("X-Auth-Token")]; !known {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		items := []map[string]string{}
		for tenant, parent := range a.parents {
			if a.under(tenant, r.Header.Get("Wazo-Tenant")) {
				items = append(items, map[string]string{"uuid": tenant, "name": "name of " + tenant, "parent_uuid": parent})
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"items": items, "total": len(items), "filtered": len(items)})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// change runs f with the fake's state in hand.
func (a *authority) change(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// stand is one engine with everything around it.
type stand struct {
	t      testing.TB
	rig    *rig.Rig
	auth   *authority
	tokens *provd.Tokens
	base   string // ".../0.2"
	seen   *sightings.Sightings
	phones string // the phone plane, "http://…"
}

func newStand(t testing.TB) *stand {
	t.Helper()
	r, err := rig.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-r.Runner.Ready()
	s := &stand{t: t, rig: r, auth: newAuthority()}
	service := httptest.NewServer(s.auth)
	t.Cleanup(service.Close)
	if s.tokens, err = provd.NewTokens(provd.TokenOptions{URL: service.URL, ID: serviceID, Key: serviceKey, Service: r.Service, Views: r.Views}); err != nil {
		t.Fatal(err)
	}
	seen, err := sightings.Open(t.Context(), sightings.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = seen.Close() })
	r.Service.Sightings, r.Service.Whereabouts, s.seen = seen, seen, seen
	h, err := provd.New(provd.Options{Service: r.Service, Log: r.Ledger, Views: r.Views, Wait: r.Runner, Authority: s.tokens, Seen: s.addresses})
	if err != nil {
		t.Fatal(err)
	}
	admin := httptest.NewServer(h)
	t.Cleanup(admin.Close)
	s.base = admin.URL + "/0.2"

	phones, err := phonehttp.New(phonehttp.Options{Files: r.Service})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.phones = "http://" + l.Addr().String()
	r.Service.PublicURL = s.phones + "/"
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.ErrorLevel)
	ctx, stop := context.WithCancel(log.WithContext(context.Background()))
	done := make(chan error, 1)
	go func() { done <- phones.Serve(ctx, l) }()
	t.Cleanup(func() { stop(); <-done })
	return s
}

func (s *stand) addresses(ctx context.Context) (map[domain.DeviceID]provd.Seen, error) {
	rows, err := s.seen.Addresses(ctx)
	out := map[domain.DeviceID]provd.Seen{}
	for _, r := range rows {
		if _, later := out[r.Device]; !later && r.Transport != "document" {
			out[r.Device] = provd.Seen{IP: r.IP, At: r.LastAt}
		}
	}
	return out, err
}

// reply is what the interface answered.
type reply struct {
	*http.Response
	body []byte
}

// json is the answer as an object.
func (r reply) json(t testing.TB) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(r.body, &out); err != nil {
		t.Fatalf("%s %s answers no JSON object: %v: %.200s", r.Request.Method, r.Request.URL.Path, err, r.body)
	}
	return out
}

// ask is one call: opts change the request made with the main token and, if there is a body, the right type.
func (s *stand) ask(method, path string, body any, opts ...func(*http.Request)) reply {
	s.t.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		in = bytes.NewReader(text)
	}
	r, err := http.NewRequest(method, s.base+path, in)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Close = true // as the client library does
	r.Header.Set("X-Auth-Token", mainToken)
	if method == http.MethodPost || method == http.MethodPut {
		r.Header.Set("Content-Type", provd.MediaType)
	}
	for _, o := range opts {
		o(r)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply{answer, text}
}

// with sets a header; an empty value takes it away.
func with(name, value string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Del(name)
		if value != "" {
			r.Header.Set(name, value)
		}
	}
}

func as(token string) func(*http.Request)  { return with("X-Auth-Token", token) }
func in(tenant string) func(*http.Request) { return with("Wazo-Tenant", tenant) }

// must is ask that expects a status.
func (s *stand) must(status int, method, path string, body any, opts ...func(*http.Request)) reply {
	s.t.Helper()
	r := s.ask(method, path, body, opts...)
	if r.StatusCode != status {
		s.t.Fatalf("%s %s answers %d (%.300s), not %d", method, path, r.StatusCode, r.body, status)
	}
	return r
}

type object = map[string]any

// device makes a device and answers its id.
func (s *stand) device(doc object, opts ...func(*http.Request)) string {
	s.t.Helper()
	id, _ := s.must(201, "POST", "/dev_mgr/devices", object{"device": doc}, opts...).json(s.t)["id"].(string)
	return id
}

// deviceDoc reads a device.
func (s *stand) deviceDoc(id string, opts ...func(*http.Request)) object {
	s.t.Helper()
	doc, _ := s.must(200, "GET", "/dev_mgr/devices/"+id, nil, opts...).json(s.t)["device"].(object)
	return doc
}

// config makes a config and answers its id.
func (s *stand) config(doc object, opts ...func(*http.Request)) string {
	s.t.Helper()
	id, _ := s.must(201, "POST", "/cfg_mgr/configs", object{"config": doc}, opts...).json(s.t)["id"].(string)
	return id
}

// configDoc reads a config.
func (s *stand) configDoc(id string) object {
	s.t.Helper()
	doc, _ := s.must(200, "GET", "/cfg_mgr/configs/"+id, nil).json(s.t)["config"].(object)
	return doc
}

// list reads the ids of a list, in the order they come.
func (s *stand) list(path string, opts ...func(*http.Request)) []string {
	s.t.Helper()
	all := s.must(200, "GET", path, nil, opts...).json(s.t)
	var ids []string
	for _, kind := range []string{"devices", "configs"} {
		docs, _ := all[kind].([]any)
		for _, d := range docs {
			doc, _ := d.(object)
			ids = append(ids, fmt.Sprint(doc["id"]))
		}
	}
	return ids
}

// eventually waits for what a reaction brings about.
func (s *stand) eventually(what string, holds func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			s.t.Fatalf("never: %s", what)
		}
		head, err := s.rig.Ledger.Head(s.t.Context())
		if err == nil {
			ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
			_ = s.rig.Runner.WaitFor(ctx, head) // looked at again by holds
			cancel()
		}
	}
}

// fetch is a phone asking for a file.
func (s *stand) fetch(path, agent string) (int, string) {
	s.t.Helper()
	return proc.Get(s.t, s.phones+path, agent)
}

// equal compares two documents.
func equal(t testing.TB, what string, got, want object) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// apiKey issues one of Ledgerline's own keys.
func (s *stand) apiKey(role domain.Role, tenants ...domain.TenantID) string {
	s.t.Helper()
	in := commands.IssueAPIKey{Name: "test", Role: role, Tenants: tenants}
	if role == domain.OwnUser {
		in.UserID = "anna"
		if _, _, err := s.rig.Service.DefineUser(s.t.Context(), commands.DefineUser{ID: "anna", TenantID: domain.Master, DisplayName: "Anna"}); err != nil {
			s.t.Fatal(err)
		}
		in.Tenants = []domain.TenantID{domain.Master}
	}
	_, token, _, err := s.rig.Service.IssueAPIKey(s.t.Context(), in)
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// useAuthority serves the interface with another authority from here on.
func (s *stand) useAuthority(a provd.Authority) {
	s.t.Helper()
	h, err := provd.New(provd.Options{Service: s.rig.Service, Log: s.rig.Ledger, Views: s.rig.Views, Wait: s.rig.Runner, Authority: a})
	if err != nil {
		s.t.Fatal(err)
	}
	server := httptest.NewServer(h)
	s.t.Cleanup(server.Close)
	s.base = server.URL + "/0.2"
}
