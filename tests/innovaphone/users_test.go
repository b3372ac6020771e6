package innovaphone

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"ledgerline/tests/phonesim/innovaphone"
	"ledgerline/tests/phonesim/users"
	"ledgerline/tests/proc"
)

const usersKey = "canary-users-password"

// asUsers is the Users of the site's tenant.
func (s *site) asUsers() users.Config {
	s.t.Helper()
	s.API(s.t, http.StatusNoContent, http.MethodPut, "/tenants/"+s.tenant+"/users-key", map[string]any{"key": usersKey})
	proc.Eventually(s.t, "the views have the category", func() bool { // which Users reads, and this does as well
		items, _ := s.API(s.t, http.StatusOK, http.MethodGet, "/categories?tenant="+s.tenant, nil)["items"].([]any)
		return len(items) == 2
	})
	return users.Config{URL: "ws://" + s.Phones + "/acme.example/devices/users", Password: usersKey, Category: s.desk, User: s.user, Retry: 50 * time.Millisecond}
}

// Flow A as its user sees it: Users shows a code, the phone takes it, and Users hears of the phone; also when the server is
// killed while the code is on the screen.
func TestUsersAddsAPhone(t *testing.T) {
	s := newSite(t)
	in := s.asUsers()
	for i, killed := range []bool{false, true} {
		shown := make(chan string, 1)
		type came struct {
			hwID string
			err  error
		}
		done := make(chan came, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		go func() {
			hwID, err := users.AddPhone(ctx, in, func(code string, _ time.Time) { shown <- code })
			done <- came{hwID, err}
		}()
		var code string
		select {
		case code = <-shown:
		case c := <-done:
			t.Fatalf("no code: %v\n%s", c.err, s.Log())
		}
		if killed {
			s.kill()
		}
		p := s.phone(mac(0x100+i), func(c *innovaphone.Config) { c.Model, c.EnterCode = "IP222", enters(code) })
		s.expectIn(p)
		if c := <-done; c.err != nil || c.hwID != string(p.MAC()) {
			t.Errorf("killed %v: Users heard of %q: %v", killed, c.hwID, c.err)
		}
		if strings.Contains(s.Log(), code) || strings.Contains(s.Log(), usersKey) {
			t.Error("a code or the password is in the log")
		}
	}
}

// Users is away while the phone comes, and the server is killed before it is back: it is told then, by its code.
func TestUsersIsAwayWhenThePhoneComes(t *testing.T) {
	s := newSite(t)
	in := s.asUsers()
	away, leave := context.WithCancel(t.Context())
	var once sync.Once
	code := ""
	_, err := users.AddPhone(away, in, func(digits string, _ time.Time) { once.Do(func() { code = digits; leave() }) })
	if code == "" {
		t.Fatal(err)
	}
	p := s.phone(mac(0x110), func(c *innovaphone.Config) { c.Model, c.EnterCode = "IP222", enters(code) })
	s.expectIn(p)
	s.kill()
	var back *users.Client
	proc.Eventually(t, "Users is back", func() bool {
		back, err = users.Dial(t.Context(), in)
		return err == nil
	})
	defer back.Close()
	select {
	case m := <-back.Heard:
		if m.Text("mt") != "DeviceProvisioned" || m.Text("code") != code || m.Text("device") != string(p.MAC()) {
			t.Errorf("told otherwise: %s of %s", m.Text("mt"), m.Text("device"))
		}
	case <-time.After(time.Minute):
		t.Fatalf("Users is not told\n%s", s.Log())
	}
}

// Where it is allowed, who is logged in fetches pages of the connected phones of its domain, with a key that ends with the
// connection.
func TestUsersFetchesAPage(t *testing.T) {
	s := newSite(t, "--users-passthrough")
	in := s.asUsers()
	c, err := users.Dial(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	code, _, err := c.Code(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := s.phone(mac(0x120), func(c *innovaphone.Config) { c.Model, c.EnterCode = "IP222", enters(code) })
	s.expectIn(p)
	m, err := c.Ask(t.Context(), "GetUserInfo", nil)
	if err != nil || len(m[0].Text("key")) < 20 || m[0]["admin"] != false {
		t.Fatalf("%v, %v", m, err)
	}
	key := m[0].Text("key")
	page := func(hwID, key string) int {
		t.Helper()
		resp, err := http.Get("http://" + s.Phones + "/acme.example/devices/passthrough/" + hwID + "/" + key + "/cfg.txt")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	proc.Eventually(t, "its page is there", func() bool { return page(string(p.MAC()), key) == http.StatusOK })
	for _, no := range []struct{ hwID, key string }{{string(p.MAC()), "another"}, {string(mac(0x121)), key}, {"nonsense", key}} {
		if status := page(no.hwID, no.key); status != http.StatusNotFound {
			t.Errorf("%v: %d", no, status)
		}
	}
	proc.Eventually(t, "it is on record", func() bool { return s.history(p.MAC())["device.page_requested"] > 0 })
	c.Close()
	proc.Eventually(t, "the key ends with the connection", func() bool { return page(string(p.MAC()), key) == http.StatusNotFound })
	if strings.Contains(s.Log(), key) {
		t.Error("the key is in the log")
	}
}
