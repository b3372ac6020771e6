// Package users_test plays innovaphone Users against the app protocol, over real websockets and a whole engine.
package users_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"ledgerline/adapters/usersapp"
	"ledgerline/adapters/usersapp/wire"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/rig"
)

const key = "a-password-of-users"

// site is an engine with one tenant that has Users, and a server for them.
type site struct {
	*rig.Rig
	t   *testing.T
	url string
}

func open(t *testing.T) *site {
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
	s := &site{Rig: r, t: t}
	s.ok(r.Start(t.Context()))
	for _, id := range []domain.TenantID{"acme", "globex"} {
		_, _, err := r.Service.CreateTenant(t.Context(), commands.CreateTenant{ID: id, Name: string(id), Domain: string(id) + ".example"})
		s.ok(err)
		for _, kind := range []string{"provisioning", "plain"} {
			_, _, err = r.Service.DefineCategory(t.Context(), commands.DefineCategory{ID: domain.CategoryID(string(id) + "." + kind), TenantID: id, Name: kind, Kind: kind})
			s.ok(err)
		}
	}
	_, err = r.Service.SetUsersKey(t.Context(), commands.SetUsersKey{ID: "acme", Key: key})
	s.ok(err)
	users := usersapp.New(usersapp.Options{Service: r.Service, Views: r.Views, LookEvery: 20 * time.Millisecond, AnswerWithin: 300 * time.Millisecond,
		Client: func(context.Context) usersapp.Client {
			return usersapp.Client{IP: netip.MustParseAddr("192.0.2.1"), Private: true}
		}})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !usersapp.Match(req) {
			http.NotFound(w, req)
			return
		}
		users.ServeHTTP(w, req)
	}))
	t.Cleanup(func() { users.Close(); srv.Close() })
	s.url = "ws" + strings.TrimPrefix(srv.URL, "http") + "/acme.example/devices/users"
	return s
}

func (s *site) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// client is a Users.
type client struct {
	s  *site
	ws *websocket.Conn
}

func (s *site) connect() *client {
	s.t.Helper()
	ws, _, err := websocket.Dial(s.t.Context(), s.url, nil)
	s.ok(err)
	s.t.Cleanup(func() { _ = ws.CloseNow() })
	return &client{s, ws}
}

func (c *client) say(m map[string]any) {
	c.s.t.Helper()
	b, err := json.Marshal(m)
	c.s.ok(err)
	c.s.ok(c.ws.Write(c.s.t.Context(), websocket.MessageText, b))
}

// hear waits for the next message, which must be of type mt.
func (c *client) hear(mt string) map[string]any {
	c.s.t.Helper()
	ctx, cancel := context.WithTimeout(c.s.t.Context(), 30*time.Second)
	defer cancel()
	_, b, err := c.ws.Read(ctx)
	c.s.ok(err)
	var m map[string]any
	c.s.ok(json.Unmarshal(b, &m))
	if m["mt"] != mt {
		c.s.t.Fatalf("heard %s, want %s", b, mt)
	}
	return m
}

// login tells whether the password was taken.
func (c *client) login(app, domainName, password string) bool {
	c.s.t.Helper()
	c.say(map[string]any{"mt": "AppChallenge"})
	l := wire.Login{MT: "AppLogin", App: app, Domain: domainName, SIP: "anna", GUID: "g1", DN: "Anna", Info: json.RawMessage(`{"a":1}`)}
	l.Digest = l.Sum(c.hear("AppChallengeResult")["challenge"].(string), password)
	b, err := json.Marshal(l)
	c.s.ok(err)
	c.s.ok(c.ws.Write(c.s.t.Context(), websocket.MessageText, b))
	return c.hear("AppLoginResult")["ok"] == true
}

func (s *site) redeem(code string, mac domain.MAC) {
	s.t.Helper()
	_, _, err := s.Service.RedeemCode(s.t.Context(), commands.RedeemCode{Code: code, MAC: mac, Vendor: "innovaphone", Model: "IP222"})
	s.ok(err)
}

func TestUsersGetsACodeAndHearsOfThePhone(t *testing.T) {
	s := open(t)
	c := s.connect()
	if !c.login("users", "acme.example", key) {
		t.Fatal("the login failed")
	}
	c.say(map[string]any{"mt": "GetProvisioningCategories", "api": "Devices", "src": "a1", "type": "PHONE"})
	m := c.hear("GetProvisioningCategoriesResult")
	if got := fmt.Sprint(m["categories"], m["src"], m["api"], m["last"]); got != "[map[config:true domainId:acme id:acme.provisioning name:provisioning]]a1Devicestrue" {
		t.Error(got)
	}
	for _, category := range []string{"acme.plain", "globex.provisioning", "nobody", ""} {
		c.say(map[string]any{"mt": "GetProvisioningCode", "category": category})
		if m := c.hear("GetProvisioningCodeResult"); m["error"] != "no such provisioning category" || m["code"] != nil {
			t.Errorf("%q: %v", category, m)
		}
	}
	c.say(map[string]any{"mt": "GetProvisioningCode", "category": "acme.provisioning", "src": "c1"})
	m = c.hear("GetProvisioningCodeResult")
	code, _ := m["code"].(string)
	if until, _ := m["validUntil"].(float64); len(code) != 12 || time.Until(time.Unix(int64(until), 0)) > 10*time.Minute || m["src"] != "c1" {
		t.Fatal("no code")
	}
	s.redeem(code, "0090335a0b1c")
	m = c.hear("DeviceProvisioned")
	if m["device"] != "0090335a0b1c" || m["code"] != code || m["src"] != "c1" {
		t.Error("told otherwise than asked")
	}
	c.say(map[string]any{"mt": "GetProvisionedDevice", "code": code})
	if m := c.hear("GetProvisionedDeviceResult"); m["device"] != "0090335a0b1c" {
		t.Error("asked again, it is not known")
	}
	c.say(map[string]any{"mt": "GetDevices"})
	if m := c.hear("GetDevicesResult"); !strings.Contains(fmt.Sprint(m["devices"]), "hwId:0090335a0b1c") {
		t.Errorf("%v", m["devices"])
	}
}

// A notice waits for a Users; one that does not answer loses it to the next; what was answered is not told again.
func TestANoticeIsKeptUntilSomebodyTakesIt(t *testing.T) {
	s := open(t)
	issued, _, err := s.Service.IssueCode(t.Context(), commands.IssueCode{TenantID: "acme", CategoryID: "acme.provisioning", Purpose: "rollout"})
	s.ok(err)
	deaf := s.connect() // reads no more once it has logged in, and so never answers
	if !deaf.login("deaf", "acme.example", key) {
		t.Fatal("the login failed")
	}
	s.redeem(issued.Code, "0090335a0b1d")
	next := s.connect()
	if !next.login("next", "acme.example", key) {
		t.Fatal("the login failed")
	}
	if m := next.hear("DeviceProvisioned"); m["device"] != "0090335a0b1d" || m["code"] != issued.Code {
		t.Error("told otherwise")
	}
	heard := make(chan string, 100)
	go func() { // whoever reads, answers
		for {
			_, b, err := next.ws.Read(s.t.Context())
			if err != nil {
				close(heard)
				return
			}
			heard <- string(b)
		}
	}()
	s.until("notice.acknowledged")
	// The answer to a question comes behind whatever else would have been told.
	next.say(map[string]any{"mt": "GetUserInfo"})
	if m := <-heard; !strings.Contains(m, "GetUserInfoResult") {
		t.Error("it is told again")
	}
}

// until waits until the log has an event of the type.
func (s *site) until(kind string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	for r, err := range s.Ledger.Subscribe(ctx, domain.Position{}) {
		s.ok(err)
		if r.Type == kind {
			return
		}
	}
}

func TestALoginNeedsTheDomainsPassword(t *testing.T) {
	s := open(t)
	for name, c := range map[string]struct{ domain, password string }{
		"a wrong password":           {"acme.example", "another"},
		"a domain without Users":     {"globex.example", ""},
		"another domain":             {"globex.example", key},
		"a domain nobody has":        {"nobody.example", key},
		"the master tenant's, empty": {"", key},
	} {
		if s.connect().login("users", c.domain, c.password) {
			t.Errorf("%s is taken", name)
		}
	}
	c := s.connect()
	c.say(map[string]any{"mt": "GetDevices"})
	if _, _, err := c.ws.Read(t.Context()); websocket.CloseStatus(err) != 4401 {
		t.Errorf("asked before the login: %v", err)
	}
	// Ten wrong ones within ten minutes close the source out, good password or not.
	for range 10 {
		s.connect().login("users", "acme.example", "guess")
	}
	if s.connect().login("users", "acme.example", key) {
		t.Error("guesses are not counted")
	}
}
