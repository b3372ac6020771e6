// Package users_test plays innovaphone Users against the app protocol, over real websockets and a whole engine.
package users_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"ledgerline/adapters/usersapp"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/phonesim/users"
	"ledgerline/tests/rig"
)

const key = "a-password-of-users"

// site is an engine with one tenant that has Users, and a server for them.
type site struct {
	*rig.Rig
	t   *testing.T
	app *usersapp.Server
	url string
}

// open opens a site; change, if any, sees the server's options.
func open(t *testing.T, change ...func(*usersapp.Options)) *site {
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
	o := usersapp.Options{Service: r.Service, Views: r.Views, LookEvery: 20 * time.Millisecond, AnswerWithin: 300 * time.Millisecond,
		Client: func(context.Context) usersapp.Client {
			return usersapp.Client{IP: netip.MustParseAddr("192.0.2.1"), Private: true}
		}}
	for _, f := range change {
		f(&o)
	}
	s.app = usersapp.New(o)
	r.OnChange = s.app.Changed
	s.ok(r.Start(t.Context()))
	for _, id := range []domain.TenantID{"acme", "globex"} {
		_, _, err := r.Service.CreateTenant(t.Context(), commands.CreateTenant{ID: id, Name: string(id), Domain: string(id) + ".example"})
		s.ok(err)
		for _, kind := range []string{"provisioning", "plain"} {
			_, _, err = r.Service.DefineCategory(t.Context(), commands.DefineCategory{ID: domain.CategoryID(string(id) + "." + kind), TenantID: id, Name: kind, Kind: kind})
			s.ok(err)
		}
	}
	out, err := r.Service.SetUsersKey(t.Context(), commands.SetUsersKey{ID: "acme", Key: key})
	s.ok(err)
	s.ok(r.Runner.WaitFor(t.Context(), out.Position))
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !usersapp.Match(req) {
			http.NotFound(w, req)
			return
		}
		s.app.ServeHTTP(w, req)
	}))
	srv.Listener = narrow{srv.Listener}
	srv.Start()
	t.Cleanup(func() { s.app.Close(); srv.Close() })
	s.url = "ws" + strings.TrimPrefix(srv.URL, "http") + "/acme.example/devices/users"
	return s
}

// narrow makes connections that take little at a time, so that a peer that reads nothing is noticed soon.
type narrow struct{ net.Listener }

func (n narrow) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		err = errors.Join(err, tcp.SetWriteBuffer(4<<10))
	}
	return c, err
}

func (s *site) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// users is a Users with that password.
func (s *site) users(app, domainName, password string) users.Config {
	return users.Config{URL: s.url, App: app, Domain: domainName, Password: password, Retry: 10 * time.Millisecond}
}

func (s *site) connect(app string) *users.Client {
	s.t.Helper()
	c, err := users.Dial(s.t.Context(), s.users(app, "", key))
	s.ok(err)
	s.t.Cleanup(c.Close)
	return c
}

// asks is the one message that answers.
func (s *site) asks(c *users.Client, mt string, fields users.Message) users.Message {
	s.t.Helper()
	m, err := c.Ask(s.t.Context(), mt, fields)
	s.ok(err)
	return m[0]
}

// hears waits for what nobody asked for.
func (s *site) hears(c *users.Client) users.Message {
	s.t.Helper()
	select {
	case m := <-c.Heard:
		return m
	case <-time.After(time.Minute):
		s.t.Fatal("nothing is said")
		return nil
	}
}

func (s *site) redeem(code string, mac domain.MAC) {
	s.t.Helper()
	_, _, err := s.Service.RedeemCode(s.t.Context(), commands.RedeemCode{Code: code, MAC: mac, Vendor: "innovaphone", Model: "IP222"})
	s.ok(err)
}

func TestUsersGetsACodeAndHearsOfThePhone(t *testing.T) {
	s := open(t)
	c := s.connect("users")
	m := s.asks(c, "GetProvisioningCategories", users.Message{"type": "PHONE"})
	if got := fmt.Sprint(m["categories"], m["api"], m["last"]); got != "[map[config:true domainId:acme id:acme.provisioning name:provisioning]]Devicestrue" {
		t.Error(got)
	}
	for _, category := range []string{"acme.plain", "globex.provisioning", "nobody", ""} {
		if m, err := c.Ask(t.Context(), "GetProvisioningCode", users.Message{"category": category}); !errors.Is(err, users.ErrRefused) || m[0]["code"] != nil {
			t.Errorf("%q: %v", category, err)
		}
	}
	m = s.asks(c, "GetProvisioningCode", users.Message{"category": "acme.provisioning"})
	code, asked := m.Text("code"), m.Text("src")
	if until, _ := m["validUntil"].(float64); len(code) != 12 || time.Until(time.Unix(int64(until), 0)) > 10*time.Minute {
		t.Fatal("no code")
	}
	if m := s.asks(c, "GetProvisionedDevice", users.Message{"code": "000000000000"}); m["device"] != nil {
		t.Error("a code that nobody issued has a phone")
	}
	s.redeem(code, "0090335a0b1c")
	m = s.hears(c)
	if m.Text("mt") != "DeviceProvisioned" || m.Text("device") != "0090335a0b1c" || m.Text("code") != code || m.Text("src") != asked {
		t.Error("told otherwise than asked")
	}
	if m := s.asks(c, "GetProvisionedDevice", users.Message{"code": code}); m.Text("device") != "0090335a0b1c" {
		t.Error("asked again, it is not known")
	}
	if m := s.asks(c, "GetDevices", nil); !strings.Contains(fmt.Sprint(m["devices"]), "hwId:0090335a0b1c") {
		t.Errorf("%v", m["devices"])
	}
}

// A notice waits for a Users; one that does not answer loses it to the next; what was answered is not told again.
func TestANoticeIsKeptUntilSomebodyTakesIt(t *testing.T) {
	s := open(t)
	issued, _, err := s.Service.IssueCode(t.Context(), commands.IssueCode{TenantID: "acme", CategoryID: "acme.provisioning", Purpose: "rollout"})
	s.ok(err)
	deaf, err := users.DialDeaf(t.Context(), s.users("deaf", "", key))
	s.ok(err)
	t.Cleanup(deaf.Close)
	s.redeem(issued.Code, "0090335a0b1d")
	next := s.connect("next")
	if m := s.hears(next); m.Text("device") != "0090335a0b1d" || m.Text("code") != issued.Code {
		t.Error("told otherwise")
	}
	s.until("notice.acknowledged")
	// The answer to a question comes behind whatever else would have been told.
	s.asks(next, "GetUserInfo", nil)
	for len(next.Heard) > 0 { // more than once it may be told before it was answered, which a slow machine lets happen
		if m := <-next.Heard; m.Text("code") != issued.Code {
			t.Errorf("%v is told as well", m["mt"])
		}
	}
}

// Users loses its connection while the phone comes: it hears of it once it is back.
func TestUsersComesBack(t *testing.T) {
	s := open(t)
	on, off := context.WithCancel(t.Context())
	code := make(chan string, 1)
	_, err := users.AddPhone(on, s.users("users", "", key), func(digits string, _ time.Time) { code <- digits; off() })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	digits := <-code
	s.redeem(digits, "0090335a0b1e")
	s.until("notice.stored")
	if m := s.hears(s.connect("users")); m.Text("code") != digits || m.Text("device") != "0090335a0b1e" {
		t.Error("it is not told what came meanwhile")
	}
}

// Device configurations are the tenant's own, in messages that are not too long, and without what is secret.
func TestUsersReadsDeviceConfigurations(t *testing.T) {
	s := open(t)
	job := func(tenant domain.TenantID, kind string, p domain.JobParameters, wish commands.JobWish) (domain.JobID, domain.Position) {
		t.Helper()
		wish.Parameters = p
		id, out, err := s.Service.CreateJob(t.Context(), commands.CreateJob{TenantID: tenant, Type: kind, JobWish: wish})
		s.ok(err)
		return id, out.Position
	}
	media, _ := job("acme", "MEDIA", domain.JobParameters{"stunServer": "stun.example", "turnServer": "turn.example", "turnUser": "u", "turnPassword": "canary-turn"},
		commands.JobWish{Categories: []domain.CategoryID{"acme.provisioning"}})
	foreign, _ := job("globex", "NTP", domain.JobParameters{"ntp1": "ntp.example"}, commands.JobWish{})
	var at domain.Position
	for range 150 {
		_, at = job("acme", "NTP", domain.JobParameters{"ntp1": "ntp.example"}, commands.JobWish{Name: strings.Repeat("n", 190)})
	}
	s.ok(s.Runner.WaitFor(t.Context(), at))
	c := s.connect("users")
	portions, err := c.Ask(t.Context(), "GetDeviceConfigs", nil)
	s.ok(err)
	n := 0
	for _, p := range portions {
		of, _ := p["configs"].([]any)
		n += len(of)
		if len(of) == 0 {
			t.Error("an empty portion")
		}
	}
	if text := fmt.Sprint(portions); n != 151 || len(portions) < 2 || strings.Contains(text, string(foreign)) || strings.Contains(text, "canary") {
		t.Errorf("%d configurations in %d messages", n, len(portions))
	}
	values, err := c.Ask(t.Context(), "GetDeviceConfig", users.Message{"id": string(media)})
	s.ok(err)
	var got []string
	for _, v := range values {
		got = append(got, strings.TrimSpace(v.Text("mt")+" "+v.Text("name")+" "+v.Text("value")))
	}
	want := "GetDeviceConfigValueResult stunServer stun.example|GetDeviceConfigValueResult turnServer turn.example|GetDeviceConfigValueResult turnUser u|GetDeviceConfigResult"
	if strings.Join(got, "|") != want || fmt.Sprint(values[3]["type"], values[3]["categories"]) != "MEDIA[acme.provisioning]" {
		t.Errorf("%q, %v", got, values[3])
	}
	for _, id := range []string{string(foreign), "nobody", ""} {
		if _, err := c.Ask(t.Context(), "GetDeviceConfig", users.Message{"id": id}); !errors.Is(err, users.ErrRefused) {
			t.Errorf("%q: %v", id, err)
		}
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
		"a wrong password":       {"acme.example", "another"},
		"a domain without Users": {"globex.example", ""},
		"another domain":         {"globex.example", key},
		"a domain nobody has":    {"nobody.example", key},
	} {
		if _, err := users.Dial(t.Context(), s.users("users", c.domain, c.password)); !errors.Is(err, users.ErrLogin) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ws, _, err := websocket.Dial(t.Context(), s.url, nil)
	s.ok(err)
	s.ok(ws.Write(t.Context(), websocket.MessageText, []byte(`{"mt":"GetDevices"}`)))
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != 4401 {
		t.Errorf("asked before the login: %v", err)
	}
	// Ten wrong ones within ten minutes close the source out, good password or not.
	for range 10 {
		_, err := users.Dial(t.Context(), s.users("users", "", "guess"))
		if !errors.Is(err, users.ErrLogin) {
			t.Fatal(err)
		}
	}
	if _, err := users.Dial(t.Context(), s.users("users", "", key)); !errors.Is(err, users.ErrLogin) {
		t.Errorf("guesses are not counted: %v", err)
	}
}
