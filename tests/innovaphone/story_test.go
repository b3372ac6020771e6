// Package innovaphone tells the stories of innovaphone's provisioning against the real program over real sockets: a phone
// that asks the registry, shows its form, is led to Devices, and is let in; with phones that lose their power and servers
// that are killed at every step of it.
package innovaphone

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ledgerline/domain"
	"ledgerline/tests/phonesim/innovaphone"
	"ledgerline/tests/ports"
	"ledgerline/tests/proc"
)

// site is a server with two tenants; "acme" has two categories and a user with a line.
type site struct {
	*proc.Server
	t    *testing.T
	args []string

	tenant, other, desk, lobby, user, line string

	mu sync.Mutex // of Server's change
}

func newSite(t *testing.T, args ...string) *site {
	t.Helper()
	// The phones' port stays when the server starts anew: it is in the addresses the phones have stored.
	s := &site{t: t, args: args}
	if !slices.Contains(args, "--phones") {
		s.args = append([]string{"--phones", ports.Address(t)}, args...)
	}
	s.Server = proc.Start(t, t.TempDir(), s.args...)
	s.tenant = s.create("/tenants", map[string]any{"name": "Acme", "domain": "acme.example"})
	s.other = s.create("/tenants", map[string]any{"name": "Globex", "domain": "globex.example"})
	s.desk = s.create("/categories", map[string]any{"tenant_id": s.tenant, "name": "Büro/Phones & Fax", "kind": "provisioning"})
	s.lobby = s.create("/categories", map[string]any{"tenant_id": s.tenant, "name": "lobby", "kind": "provisioning"})
	s.user = s.create("/users", map[string]any{"tenant_id": s.tenant, "display_name": "Anna"})
	s.line = s.create("/lines", map[string]any{"tenant_id": s.tenant, "user_id": s.user, "number": "4711", "username": "acme4711", "password": "canary-sip-password"})
	return s
}

func (s *site) create(path string, body map[string]any) string {
	s.t.Helper()
	id, _ := s.API(s.t, http.StatusCreated, http.MethodPost, path, body)["id"].(string)
	if id == "" {
		s.t.Fatalf("POST %s answers no id", path)
	}
	return id
}

// issued is a code as its user has it.
type issued struct {
	id, digits string
	until      time.Time
}

// issue issues a code for the tenant's category.
func (s *site) issue(tenant, category string) issued {
	s.t.Helper()
	v := s.API(s.t, http.StatusCreated, http.MethodPost, "/codes", map[string]any{"tenant_id": tenant, "category_id": category, "purpose": "self_service"})
	var c issued
	c.id, _ = v["id"].(string)
	c.digits, _ = v["code"].(string)
	text, _ := v["valid_until"].(string)
	var err error
	if c.until, err = time.Parse(time.RFC3339, text); err != nil || c.id == "" || len(c.digits) != 12 {
		s.t.Fatalf("a code %q of %d digits until %q", c.id, len(c.digits), text)
	}
	return c
}

// code issues a code and tells its digits.
func (s *site) code(tenant, category string) string {
	s.t.Helper()
	return s.issue(tenant, category).digits
}

// kill ends the server as a power cut would, and starts it anew.
func (s *site) kill() {
	s.Kill()
	again := proc.Start(s.t, s.Dir, s.args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Server = again
}

// device is what the API tells of a device.
func (s *site) device(mac domain.MAC) map[string]any {
	s.t.Helper()
	return s.API(s.t, http.StatusOK, http.MethodGet, "/devices/"+string(mac), nil)
}

func (s *site) online(mac domain.MAC) bool {
	token, err := s.Token()
	if err != nil {
		s.t.Fatal(err)
	}
	status, body, err := s.Call(s.t.Context(), http.DefaultClient, token, http.MethodGet, "/devices/"+string(mac), nil)
	return err == nil && status == http.StatusOK && strings.Contains(string(body), `"online":true`)
}

// history counts the device's events by type.
func (s *site) history(mac domain.MAC) map[string]int {
	s.t.Helper()
	counts := map[string]int{}
	items, _ := s.API(s.t, http.StatusOK, http.MethodGet, "/audit/timeline?subject=device-"+string(mac)+"&limit=500", nil)["items"].([]any)
	for _, i := range items {
		if e, ok := i.(map[string]any); ok {
			name, _ := e["type"].(string)
			counts[name]++
		}
	}
	return counts
}

// once fails unless each of these comes to stand in the device's history, and exactly once.
func (s *site) once(mac domain.MAC, names ...string) {
	s.t.Helper()
	var counts map[string]int
	proc.Eventually(s.t, "the story is on record", func() bool {
		counts = s.history(mac)
		return !slices.ContainsFunc(names, func(n string) bool { return counts[n] == 0 })
	})
	for _, n := range names {
		if counts[n] != 1 {
			s.t.Errorf("%s: %d of %s: %v", mac, counts[n], n, counts)
		}
	}
}

// phone is a simulated one and its power.
type phone struct {
	*innovaphone.Phone
	t    *testing.T
	mu   sync.Mutex
	seen []string
	at   func(step string) // called at each step
	off  context.CancelFunc
	done chan struct{}
}

func (s *site) phone(mac domain.MAC, change func(*innovaphone.Config)) *phone {
	s.t.Helper()
	p := &phone{t: s.t}
	c := innovaphone.Config{MAC: mac, UpdateURL: "http://" + s.Phones + "/init", Poll: 50 * time.Millisecond, Retry: 20 * time.Millisecond, Step: func(step, detail string) {
		p.mu.Lock()
		p.seen = append(p.seen, strings.TrimSpace(step+" "+detail))
		at := p.at
		p.mu.Unlock()
		if at != nil {
			at(step)
		}
	}}
	change(&c)
	var err error
	if p.Phone, err = innovaphone.New(c); err != nil {
		s.t.Fatal(err)
	}
	p.on()
	s.t.Cleanup(p.unplug)
	return p
}

// on gives the phone power.
func (p *phone) on() {
	ctx, off := context.WithCancel(context.Background())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.off, p.done = off, make(chan struct{})
	go func(done chan struct{}) { defer close(done); p.Run(ctx) }(p.done)
}

// unplug takes the power away and waits until the phone is dark.
func (p *phone) unplug() {
	p.mu.Lock()
	off, done := p.off, p.done
	p.mu.Unlock()
	off()
	<-done
}

func (p *phone) steps() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

func (p *phone) did(step string) bool {
	return slices.ContainsFunc(p.steps(), func(s string) bool { return strings.HasPrefix(s, step) })
}

func (s *site) expectIn(p *phone) {
	s.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !s.online(p.MAC()) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s is not in; it went through %q\n%s", p.MAC(), p.steps(), s.Log())
		}
		<-time.After(20 * time.Millisecond)
	}
}

func mac(n int) domain.MAC { return domain.MAC(fmt.Sprintf("0090335a0%03x", n)) }

// enters types the codes one after the other, and nothing more.
func enters(codes ...string) func() string {
	var mu sync.Mutex
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		if len(codes) == 0 {
			return ""
		}
		code := codes[0]
		codes = codes[1:]
		return code
	}
}

// Flow A, with a phone that has a display and one that sends the "#" its user confirmed with. A wrong code and a used one
// show the form again.
func TestUserAddsAPhone(t *testing.T) {
	s := newSite(t)
	for i, model := range []string{"IP222", "IP101"} {
		code := s.code(s.tenant, s.desk)
		p := s.phone(mac(i), func(c *innovaphone.Config) { c.Model, c.EnterCode = model, enters("000000000000", code) })
		s.expectIn(p)
		for _, step := range []string{innovaphone.StepForm, innovaphone.StepCode, innovaphone.StepURL, innovaphone.StepConnected, innovaphone.StepPassword} {
			if !p.did(step) {
				t.Errorf("%s never came to %q: %q", model, step, p.steps())
			}
		}
		proc.Eventually(t, "its address is read back", func() bool { return s.history(p.MAC())["device.url_checked"] == 1 })
		s.once(p.MAC(), "device.discovered", "device.assigned", "device.sysclient_password_set", "device.sysclient_identified")
		d := s.device(p.MAC())
		if d["tenant_id"] != s.tenant || d["category_id"] != s.desk || d["model"] != model {
			t.Errorf("the device is %v", d)
		}
		if sys, _ := d["sysclient"].(map[string]any); sys["grant"] != "code" || sys["url_problem"] != nil {
			t.Errorf("as a sysclient it is %v", sys)
		}
		late := s.phone(mac(100+i), func(c *innovaphone.Config) { c.EnterCode = enters(code) })
		proc.Eventually(t, "the form is shown to who comes late", func() bool {
			return late.times(innovaphone.StepForm) > 1
		})
		if late.did(innovaphone.StepURL) {
			t.Error("a used code led somebody to Devices")
		}
		late.unplug()

		// A night without power: it answers the challenge, and nothing is recorded but that it could.
		p.unplug()
		proc.Eventually(t, "it has left", func() bool { return !s.online(p.MAC()) })
		p.on()
		s.expectIn(p)
		proc.Eventually(t, "it has proved itself", func() bool { return s.history(p.MAC())["device.sysclient_proved"] == 1 })
		s.once(p.MAC(), "device.assigned", "device.sysclient_password_set", "device.sysclient_identified")
	}
	if strings.Contains(s.Log(), "000000000000") {
		t.Error("a code that was typed in is in the log")
	}
}

// steps of flow A at which something may break.
var steps = []string{innovaphone.StepPolled, innovaphone.StepForm, innovaphone.StepCode, innovaphone.StepURL, innovaphone.StepConnected, innovaphone.StepIdentified, innovaphone.StepPassword, innovaphone.StepRequest}

// darkAt is a phone that has lost its power at a step, the first time it came there.
func (s *site) darkAt(at string, mac domain.MAC, change func(*innovaphone.Config)) *phone {
	s.t.Helper()
	cut, ready := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var p *phone
	p = s.phone(mac, func(c *innovaphone.Config) {
		change(c)
		told := c.Step
		c.Step = func(step, detail string) {
			<-ready
			told(step, detail)
			if step == at {
				once.Do(func() {
					p.mu.Lock()
					p.off()
					p.mu.Unlock()
					close(cut)
				})
			}
		}
	})
	close(ready)
	<-cut
	p.unplug()
	return p
}

// The power goes at each step, and comes back: in the end the phone is in, and nothing happened twice.
func TestPowerGoesAtEachStep(t *testing.T) {
	s := newSite(t)
	for i, at := range steps {
		t.Run(at, func(t *testing.T) {
			code := s.code(s.tenant, s.desk)
			p := s.darkAt(at, mac(i), func(c *innovaphone.Config) { c.EnterCode = enters(code, code) })
			p.on()
			s.expectIn(p)
			s.once(p.MAC(), "device.discovered", "device.assigned", "device.sysclient_password_set", "device.sysclient_identified")
		})
	}
}

// The server is killed at each step, and starts anew.
func TestServerKilledAtEachStep(t *testing.T) {
	s := newSite(t)
	for i, at := range steps {
		t.Run(at, func(t *testing.T) {
			code := s.code(s.tenant, s.desk)
			reached := make(chan struct{})
			var once sync.Once
			p := s.phone(mac(i), func(c *innovaphone.Config) {
				c.EnterCode = enters(code, code, code)
				told := c.Step
				c.Step = func(step, detail string) {
					told(step, detail)
					if step == at {
						once.Do(func() { close(reached) })
					}
				}
			})
			<-reached
			s.kill()
			s.expectIn(p)
			s.once(p.MAC(), "device.discovered", "device.assigned", "device.sysclient_password_set", "device.sysclient_identified")
			p.unplug()
		})
	}
}

// The code's time runs out at each step of the way. Until the registry has bound it to the phone, that is the end of it, and
// the form comes again; from then on it is honoured, and no other is asked for.
func TestCodeExpiresAtEachStep(t *testing.T) {
	s := newSite(t, "--code-ttl-self-service", "1s")
	for i, at := range steps {
		t.Run(at, func(t *testing.T) {
			var mu sync.Mutex
			current, fresh := s.issue(s.tenant, s.desk), true
			var ended issued // the code whose time ran out at the step
			p := s.phone(mac(i), func(c *innovaphone.Config) {
				c.EnterCode = func() string {
					mu.Lock()
					defer mu.Unlock()
					if !fresh {
						current = s.issue(s.tenant, s.desk)
					}
					fresh = false
					return current.digits
				}
				told := c.Step
				c.Step = func(step, detail string) {
					told(step, detail)
					mu.Lock()
					defer mu.Unlock()
					if step == at && ended.id == "" {
						ended = current
						<-time.After(time.Until(ended.until.Add(50 * time.Millisecond)))
					}
				}
			})
			s.expectIn(p)
			s.once(p.MAC(), "device.discovered", "device.assigned", "device.sysclient_password_set", "device.sysclient_identified")
			proc.Eventually(t, "the step is reached", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return ended.id != ""
			})
			want := "redeemed"
			if slices.Index(steps, at) <= slices.Index(steps, innovaphone.StepCode) {
				want = "expired"
			}
			if got := s.API(t, http.StatusOK, http.MethodGet, "/codes/"+ended.id, nil)["state"]; got != want {
				t.Errorf("the code that ended there is %v, want %s: %q", got, want, p.steps())
			}
			p.unplug()
		})
	}
}

// Flow C: a token in the address, with every character that two encodings can spoil.
func TestAutomatic(t *testing.T) {
	s := newSite(t)
	const token = "pä&ss=50%+1#x y"
	s.API(t, http.StatusCreated, http.MethodPost, "/tokens", map[string]any{"category_id": s.desk, "existing_token": token})
	at := "ws://" + s.Phones + "/acme.example/devices/sysclients?domain=acme.example&token=" + escape(token) + "&category=" + escape("Büro/Phones & Fax")
	p := s.phone(mac(1), func(c *innovaphone.Config) { c.UpdateURL, c.DevicesURL = "", at })
	s.expectIn(p)
	proc.Eventually(t, "its address is read back", func() bool { return s.history(p.MAC())["device.url_checked"] == 1 })
	sys, _ := s.device(p.MAC())["sysclient"].(map[string]any)
	if sys["grant"] != "token" || sys["url_problem"] != nil || s.device(p.MAC())["category_id"] != s.desk {
		t.Errorf("it is %v", sys)
	}
	// A night without power, and the server killed meanwhile.
	p.unplug()
	s.kill()
	p.on()
	s.expectIn(p)
	s.once(p.MAC(), "device.assigned", "device.sysclient_password_set")
	if strings.Contains(s.Log(), "token=") || strings.Contains(s.Log(), "50%") {
		t.Error("the log shows the query of the address")
	}
}

func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// The form is shown again: in the same domain a new code brings another category; another domain's is refused until an
// operator has moved the phone, which ends its life here.
func TestProvisionedAgain(t *testing.T) {
	s := newSite(t)
	first := s.code(s.tenant, s.desk)
	second := s.code(s.tenant, s.lobby)
	foreign := s.create("/categories", map[string]any{"tenant_id": s.other, "name": "desk", "kind": "provisioning"})
	third := s.code(s.other, foreign)
	p := s.phone(mac(1), func(c *innovaphone.Config) { c.EnterCode = enters(first, second, third) })
	s.expectIn(p)
	again := func() {
		t.Helper()
		s.API(t, http.StatusOK, http.MethodPost, "/devices/"+string(p.MAC())+"/code-form", map[string]any{})
	}
	again()
	proc.Eventually(t, "it is in the other category", func() bool { return s.device(p.MAC())["category_id"] == s.lobby })
	s.expectIn(p)
	proc.Eventually(t, "it is in with a new password", func() bool { return s.history(p.MAC())["device.sysclient_password_set"] == 2 })
	s.expectIn(p)

	again()
	proc.Eventually(t, "it is led to the other domain", func() bool {
		return strings.Contains(p.Option("SYSCLIENT", "/sysadmin"), "globex.example") && !s.online(p.MAC())
	})
	if d := s.device(p.MAC()); d["tenant_id"] != s.tenant {
		t.Errorf("another domain's code took it to %v", d["tenant_id"])
	}
	s.API(t, http.StatusOK, http.MethodPost, "/devices/"+string(p.MAC())+"/move", map[string]any{"tenant_id": s.other})
	s.expectIn(p)
	if d := s.device(p.MAC()); d["tenant_id"] != s.other || d["life"] != 2.0 {
		t.Errorf("moved it is life %v of %v", d["life"], d["tenant_id"])
	}
}

// The administrator's password of its settings reaches a phone when it comes, and another one while it is connected. Its
// analog port is a device of its own, by a code that is dialled there.
func TestAdministratorAndAnalogPort(t *testing.T) {
	s := newSite(t)
	layer := "tenant." + s.tenant
	password := func(text string) map[string]any {
		return map[string]any{"settings": map[string]any{"admin_password": text, "admin_password_deployed": true}}
	}
	first := password("canary-first")
	first["id"], first["tenant_id"] = layer, s.tenant
	s.create("/layers", first)
	code := s.code(s.tenant, s.desk)
	p := s.phone(mac(0x300), func(c *innovaphone.Config) { c.Platform, c.EnterCode = "GW", enters(code) })
	s.expectIn(p)
	proc.Eventually(t, "it has the password", func() bool { return p.AdminPassword() == "canary-first" })
	lost := p.did(innovaphone.StepLost)
	s.API(t, http.StatusNoContent, http.MethodPut, "/layers/"+layer, password("canary-second"))
	proc.Eventually(t, "it has the other password", func() bool { return p.AdminPassword() == "canary-second" })
	if !lost && p.did(innovaphone.StepLost) {
		t.Error("it had to come anew for its password")
	}

	for _, wrong := range []string{"000000000000", code} {
		if answer, err := p.ProvisionPort(t.Context(), "TEL1", wrong); err != nil || answer != "code not accepted" {
			t.Errorf("a code that is not good is answered %q, %v", answer, err)
		}
	}
	good := s.API(t, http.StatusCreated, http.MethodPost, "/codes", map[string]any{"tenant_id": s.tenant, "category_id": s.lobby, "user_id": s.user, "purpose": "self_service"})["code"].(string)
	if answer, err := p.ProvisionPort(t.Context(), "TEL1", good); err != nil || answer != "" {
		t.Errorf("the port is answered %q, %v", answer, err)
	}
	port := s.API(t, http.StatusOK, http.MethodGet, "/devices/"+string(p.MAC())+"-tel1", nil)
	if port["tenant_id"] != s.tenant || port["category_id"] != s.lobby || s.device(p.MAC())["category_id"] != s.desk {
		t.Errorf("the port is %v", port)
	}
	if strings.Contains(s.Log(), "canary-") {
		t.Error("a password is in the log")
	}
}
