package registry_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ledgerline/adapters/registry"
	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

const phone = domain.MAC("0090335a0b1c")

// plain are scripts one can read.
type plain struct{}

func (plain) Rewrite(url string) []byte { return []byte("rewrite " + url) }
func (plain) Lead(url string) []byte    { return []byte("lead " + url) }
func (plain) Prompt(refused bool) []byte {
	return fmt.Appendf(nil, "prompt refused=%v", refused)
}

func (plain) Arguments(raw string) map[string]string {
	out := map[string]string{}
	values, _ := url.ParseQuery(raw) // what cannot be read is not there
	for name := range values {
		out[name] = values.Get(name)
	}
	return out
}

// site is one server: its own codes, and a registry in front of them.
type site struct {
	*commandstest.Kit
	t    testing.TB
	web  *httptest.Server
	peer registry.Peer
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func open(t testing.TB, tenant domain.TenantID) *site {
	t.Helper()
	s := &site{t: t, peer: registry.Peer{IP: "192.0.2.7", Private: true}, log: &lockedBuffer{}}
	s.Kit = commandstest.NewService(t, commandstest.With(func(s *commands.Service) {
		s.DevicesURL = "wss://" + string(tenant) + ".example.net/{domain}/devices/sysclients"
	}))
	s.serve()
	ctx := t.Context()
	if _, _, err := s.Service.CreateTenant(ctx, commands.CreateTenant{ID: tenant, Name: string(tenant), Domain: string(tenant) + ".example"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Service.DefineCategory(ctx, commands.DefineCategory{ID: "desk", TenantID: tenant, Name: "desk", Kind: "provisioning"}); err != nil {
		t.Fatal(err)
	}
	return s
}

// serve begins to answer, as a new start of the program does.
func (s *site) serve() {
	h := registry.New(registry.Options{Service: s.Service, Scripts: plain{}, Peer: func(context.Context) registry.Peer { return s.peer }, Sightings: s.Sightings, RefuseAfter: -1, Slow: -1, Now: s.Clock.Now})
	logger := zerolog.New(s.log)
	s.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(logger.WithContext(r.Context())))
	}))
	s.t.Cleanup(s.web.Close)
}

// restart loses everything volatile.
func (s *site) restart() {
	s.web.Close()
	s.Kit.Restart()
	s.serve()
}

func (s *site) issue(tenant domain.TenantID, purpose string) commands.IssuedCode {
	s.t.Helper()
	code, _, err := s.Service.IssueCode(s.t.Context(), commands.IssueCode{TenantID: tenant, CategoryID: "desk", Purpose: purpose})
	if err != nil {
		s.t.Fatal(err)
	}
	return code
}

// ask is a phone at /init. The query is as update clients write it.
func (s *site) ask(query string) (int, string) {
	s.t.Helper()
	r, err := s.web.Client().Get(s.web.URL + "/init?" + query)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

const standard = "sn=00-90-33-5a-0b-1c&type=IP222&hwid=IP222-5a-0b-1c&ip=10.1.2.3&ver=13r3%20sr1%20[13.5421/135421/1300]&PROT=135421&PROTdate=1&BOOT=135421&CFG=&SCFG=&CHECK="

func TestWhatAPhoneIsAnswered(t *testing.T) {
	s := open(t, "acme")
	code := s.issue("acme", "self_service").Code
	for _, c := range []struct{ query, want string }{
		{"ver=13r3%20[13.5421/135421/1300]&PROT=", "rewrite " + s.web.URL + "/init"},
		{"", "rewrite " + s.web.URL + "/init"},
		{"sn=#m&type=#t", "rewrite " + s.web.URL + "/init"},
		{standard, "prompt refused=false"},
		{standard + "&PROVISIONING-CODE=prompt", "prompt refused=false"},
		{standard + "&PROVISIONING-CODE=123456789012", "prompt refused=true"},
		{standard + "&PROVISIONING-CODE=12", "prompt refused=true"},
		{standard + "&PROVISIONING-CODE=" + code + "%23", "lead wss://acme.example.net/acme.example/devices/sysclients"},
		{standard + "&code=" + code + "#", "lead wss://acme.example.net/acme.example/devices/sysclients"},
		{strings.Replace(standard, "5a-0b-1c", "5a-0b-1d", 1) + "&code=" + code, "prompt refused=true"},
	} {
		status, got := s.ask(strings.ReplaceAll(c.query, "#", "%23"))
		if status != 200 || got != c.want {
			t.Errorf("%s: %d %q, want %q", c.query, status, got, c.want)
		}
	}
	if log := s.log.String(); strings.Contains(log, code) || strings.Contains(log, "10.1.2.3") || !strings.Contains(log, `"route":"GET /init"`) {
		t.Errorf("the log has\n%s", log)
	}
	// What is kept of a phone: who, what, from where and when, volatile; and the binding.
	for _, seen := range s.Sightings.All() {
		if seen.MAC != phone && seen.MAC != "0090335a0b1d" || seen.UserAgent != "13r3 sr1 [13.5421/135421/1300]" || seen.IP != "192.0.2.7" || seen.Path != "/init" {
			t.Errorf("%+v", seen)
		}
	}
	for _, r := range s.Log.Events() {
		if text := string(r.Data); strings.Contains(text, "10.1.2.3") || strings.Contains(text, "135421") {
			t.Errorf("%s holds %s", r.Type, text)
		}
	}
	for _, path := range []string{"/", "/init/x", "/v1", "/v1/devices/0090335a0b1c", "/v1/codes/" + code} {
		if r, err := s.web.Client().Get(s.web.URL + path); err != nil || r.StatusCode != 404 && r.StatusCode != 405 {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Unknown, expired, used, for another phone, and having to wait: the same bytes, headers and least time.
func TestRefusalsAreAlike(t *testing.T) {
	s := open(t, "acme")
	expired := s.issue("acme", "self_service").Code
	s.Clock.Advance(10 * time.Minute)
	used, foreign := s.issue("acme", "self_service").Code, s.issue("acme", "self_service").Code
	for code, mac := range map[string]domain.MAC{used: "0090335a0b00", foreign: "0090335a0b01"} {
		if _, _, err := s.Service.RedeemCode(t.Context(), commands.RedeemCode{Code: code, MAC: mac}); err != nil {
			t.Fatal(err)
		}
	}
	answers := map[string][]string{}
	for i, code := range []string{"123456789012", expired, used, foreign, "x", "1", "2"} {
		r, err := s.web.Client().Get(s.web.URL + "/init?" + standard + "&code=" + code)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		r.Header.Del("Date")
		text := fmt.Sprint(r.StatusCode, r.Header, string(b))
		answers[text] = append(answers[text], fmt.Sprint(i))
	}
	if len(answers) != 1 {
		t.Errorf("%d different answers: %v", len(answers), answers)
	}
	good := s.issue("acme", "self_service").Code
	if _, got := s.ask(standard + "&code=" + good); got != "prompt refused=true" {
		t.Errorf("a phone that has to wait is answered %q", got)
	}
}

// A phone that proves another address by certificate is that phone.
func TestACertificateBeatsTheQuery(t *testing.T) {
	s := open(t, "acme")
	code := s.issue("acme", "self_service").Code
	s.peer.MAC = "0090335a0b00"
	if _, got := s.ask(standard + "&code=" + code); !strings.HasPrefix(got, "lead") {
		t.Fatal(got)
	}
	s.peer.MAC = ""
	if _, got := s.ask(standard + "&code=" + code); got != "prompt refused=true" {
		t.Errorf("bound to the address in the query: %q", got)
	}
}

func TestOurTroubleIsNoRefusal(t *testing.T) {
	s := open(t, "acme")
	code := s.issue("acme", "self_service").Code
	s.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Method == "Append" {
			return commandstest.Fault{Before: domain.ErrReadOnly}
		}
		return commandstest.Fault{}
	})
	if status, got := s.ask(standard + "&code=" + code); status != 503 || strings.Contains(got, "read") {
		t.Errorf("%d %q", status, got)
	}
	s.Faults.Set(nil)
	s.restart()
	if _, got := s.ask(standard + "&code=" + code); !strings.HasPrefix(got, "lead") {
		t.Errorf("afterwards it is %q", got)
	}
}

// join makes a site have its codes drawn by another.
func (s *site) join(reg *site, id domain.ServerID) *registry.Client {
	s.t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, _, err := reg.Service.RegisterServer(s.t.Context(), commands.RegisterServer{ID: id, Name: string(id), PublicKey: base64.StdEncoding.EncodeToString(public)}); err != nil {
		s.t.Fatal(err)
	}
	c, err := registry.NewClient(registry.ClientOptions{Base: reg.web.URL, Server: id, Key: private, Wait: time.Millisecond, Now: s.Clock.Now})
	if err != nil {
		s.t.Fatal(err)
	}
	s.Service.Registry = c
	return c
}

func TestTwoDevicesServersAndOneRegistry(t *testing.T) {
	reg, a, b := open(t, "central"), open(t, "acme"), open(t, "globex")
	a.join(reg, "a")
	b.join(reg, "b")
	codeA, codeB := a.issue("acme", "self_service").Code, b.issue("globex", "self_service").Code
	if codeA == codeB {
		t.Fatal("drawn twice")
	}
	other := strings.Replace(standard, "5a-0b-1c", "5a-0b-1d", 1)
	for query, want := range map[string]string{
		standard + "&code=" + codeA: "lead wss://acme.example.net/acme.example/devices/sysclients",
		other + "&code=" + codeB:    "lead wss://globex.example.net/globex.example/devices/sysclients",
	} {
		if _, got := reg.ask(query); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	// Neither redeems the other's, and the registry redeems none.
	for _, s := range []*site{b, reg} {
		if _, _, err := s.Service.RedeemCode(t.Context(), commands.RedeemCode{Code: codeA, MAC: phone}); !errors.Is(err, domain.ErrCodeRefused) {
			t.Errorf("%v", err)
		}
	}
	if _, _, err := a.Service.RedeemCode(t.Context(), commands.RedeemCode{Code: codeA, MAC: phone}); err != nil {
		t.Error(err)
	}
	// One revoked at its Devices server leads nowhere.
	gone := a.issue("acme", "rollout")
	if _, err := a.Service.RevokeCode(t.Context(), commands.RevokeCode{ID: gone.ID}); err != nil {
		t.Fatal(err)
	}
	if err := a.React(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, got := reg.ask(strings.Replace(standard, "5a-0b-1c", "5a-0b-1e", 1) + "&code=" + gone.Code); got != "prompt refused=true" {
		t.Errorf("a revoked code: %q", got)
	}
	for _, r := range reg.Log.Events() {
		if text := string(r.Data) + string(r.Metadata); strings.Contains(text, codeA) || strings.Contains(text, codeB) {
			t.Errorf("%s holds a code", r.Type)
		}
	}
	if log := reg.log.String(); strings.Contains(log, codeA) || strings.Contains(log, gone.Code) {
		t.Error("the log holds a code")
	}
}

// The code expires between any two steps of phone, registry and Devices.
func TestACodeExpiresBetweenTheSteps(t *testing.T) {
	for _, c := range []struct {
		what               string
		beforeAsk, beforeA time.Duration
		led, redeemed      bool
	}{
		{"before the registry is asked", 10 * time.Minute, 0, false, false},
		{"between registry and Devices", 9 * time.Minute, 2 * time.Minute, true, true},
		{"at the last moment", 10*time.Minute - time.Second, 10 * time.Minute, true, true},
		{"ten minutes too late", 10*time.Minute - time.Second, 10*time.Minute + time.Second, true, false},
	} {
		reg, a := open(t, "central"), open(t, "acme")
		a.join(reg, "a")
		code := a.issue("acme", "self_service").Code
		tick := func(d time.Duration) {
			for _, s := range []*site{reg, a} {
				s.Clock.Advance(d)
				if _, err := s.Service.ExpireCodes(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		tick(c.beforeAsk)
		if _, got := reg.ask(standard + "&code=" + code); strings.HasPrefix(got, "lead") != c.led {
			t.Errorf("%s: %q", c.what, got)
		}
		reg.restart() // the binding is in the log
		a.Service.Registry.(*registry.Client).Base = reg.web.URL
		tick(c.beforeA)
		_, _, err := a.Service.RedeemCode(t.Context(), commands.RedeemCode{Code: code, MAC: phone})
		if (err == nil) != c.redeemed || err != nil && !errors.Is(err, domain.ErrCodeRefused) {
			t.Errorf("%s: %v", c.what, err)
		}
		// Another phone gains nothing by the grace.
		if _, _, err := a.Service.RedeemCode(t.Context(), commands.RedeemCode{Code: code, MAC: "0090335a0bff"}); !errors.Is(err, domain.ErrCodeRefused) {
			t.Errorf("%s, another phone: %v", c.what, err)
		}
	}
}

// A Devices server has as many codes alive here as it may, and its operator is told so; one that a phone was led by counts no
// longer, and another server has its own.
func TestLiveCodesOfAServer(t *testing.T) {
	reg, a, b := open(t, "central"), open(t, "acme"), open(t, "globex")
	reg.Service.CodesPerServer = 2
	a.join(reg, "a")
	b.join(reg, "b")
	code := a.issue("acme", "self_service").Code
	a.issue("acme", "rollout")
	_, _, err := a.Service.IssueCode(t.Context(), commands.IssueCode{TenantID: "acme", CategoryID: "desk", Purpose: "self_service"})
	if want := "the registry at " + reg.web.URL + ": " + domain.ErrTooManyCodes.Error(); !errors.Is(err, domain.ErrTooManyCodes) || errors.Is(err, commands.ErrRegistry) || err.Error() != want {
		t.Errorf("a third code: %v", err)
	}
	b.issue("globex", "self_service")
	if _, got := reg.ask(standard + "&code=" + code); !strings.HasPrefix(got, "lead") {
		t.Fatal(got)
	}
	a.issue("acme", "self_service")
	if n := count(reg, "code.registered"); n != 4 {
		t.Errorf("%d codes were drawn", n)
	}
}

// What is sent again under one key draws once, also when the answer was lost.
func TestDrawingIsIdempotent(t *testing.T) {
	reg, a := open(t, "central"), open(t, "acme")
	c := a.join(reg, "a")
	lost := 0
	c.HTTP = &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
		answer, err := http.DefaultTransport.RoundTrip(r)
		if lost++; lost <= 2 && err == nil {
			answer.Body.Close()
			return nil, errors.New("the connection broke")
		}
		return answer, err
	})}
	const url = "wss://acme.example.net/acme.example/devices/sysclients"
	digits, until, err := c.Draw(t.Context(), "k1", url, 10*time.Minute)
	again, _, err2 := c.Draw(t.Context(), "k1", url, 10*time.Minute)
	if err != nil || err2 != nil || digits != again || lost != 4 || !until.Equal(commandstest.Start.Add(10*time.Minute)) {
		t.Errorf("%v %v, %d requests, until %s", err, err2, lost, until)
	}
	if n := count(reg, "code.registered"); n != 1 {
		t.Errorf("%d codes", n)
	}
	if _, _, err := c.Draw(t.Context(), "k1", url, time.Hour); err == nil {
		t.Error("another request under the same key")
	}
	reg.web.Close()
	if _, _, err := c.Draw(t.Context(), "k2", url, time.Hour); !errors.Is(err, commands.ErrAway) || strings.Contains(err.Error(), digits) {
		t.Errorf("no registry: %v", err)
	}
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func count(s *site, kind string) (n int) {
	for _, r := range s.Log.Events() {
		if r.Type == kind {
			n++
		}
	}
	return n
}

func TestOnlySignedRequestsAreTaken(t *testing.T) {
	reg, a := open(t, "central"), open(t, "acme")
	c := a.join(reg, "a")
	var taken *http.Request
	var body []byte
	c.HTTP = &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
		taken = r.Clone(context.Background())
		body, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		return http.DefaultTransport.RoundTrip(r)
	})}
	if _, _, err := c.Draw(t.Context(), "k1", "wss://x.example/sysclients", time.Minute); err != nil {
		t.Fatal(err)
	}
	send := func(change func(*http.Request, *[]byte)) int {
		r, b := taken.Clone(t.Context()), slices.Clone(body)
		change(r, &b)
		r.Body, r.ContentLength, r.RequestURI = io.NopCloser(bytes.NewReader(b)), int64(len(b)), ""
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	for what, change := range map[string]func(*http.Request, *[]byte){
		"the same again":     func(*http.Request, *[]byte) {},
		"another body":       func(_ *http.Request, b *[]byte) { *b = bytes.Replace(*b, []byte("60"), []byte("61"), 1) },
		"another key":        func(r *http.Request, _ *[]byte) { r.Header.Set("Idempotency-Key", "k2") },
		"another nonce":      func(r *http.Request, _ *[]byte) { r.Header.Set("Ledgerline-Nonce", strings.Repeat("0", 32)) },
		"another server":     func(r *http.Request, _ *[]byte) { r.Header.Set("Ledgerline-Server", "b") },
		"another path":       func(r *http.Request, _ *[]byte) { r.URL.Path = "/v1/resolve" },
		"no signature":       func(r *http.Request, _ *[]byte) { r.Header.Del("Ledgerline-Signature") },
		"no date":            func(r *http.Request, _ *[]byte) { r.Header.Del("Ledgerline-Date") },
		"another date":       func(r *http.Request, _ *[]byte) { r.Header.Set("Ledgerline-Date", "2026-11-02T09:31:00Z") },
		"nonsense in base64": func(r *http.Request, _ *[]byte) { r.Header.Set("Ledgerline-Signature", "!") },
	} {
		if got := send(change); got != 401 {
			t.Errorf("%s: %d", what, got)
		}
	}
	reg.restart()
	c.Base, taken.URL.Host = reg.web.URL, strings.TrimPrefix(reg.web.URL, "http://")
	if got := send(func(*http.Request, *[]byte) {}); got != 401 {
		t.Errorf("the same again after a restart: %d", got)
	}
	late := func(d time.Duration) error {
		c.Now = func() time.Time { return a.Clock.Now().Add(d) }
		_, _, err := c.Draw(t.Context(), fmt.Sprint("late", d), "wss://x.example/sysclients", time.Minute)
		return err
	}
	if late(5*time.Minute) != nil || late(-5*time.Minute) != nil || late(6*time.Minute) == nil || late(-6*time.Minute) == nil {
		t.Error("the window is not five minutes")
	}
	c.Now = a.Clock.Now
	reg.peer.Private = false
	if _, _, err := c.Draw(t.Context(), "k3", "wss://x.example/sysclients", time.Minute); err == nil {
		t.Error("drawn in clear")
	}
	reg.peer.Private = true
	if _, err := reg.Service.RemoveServer(t.Context(), commands.RemoveServer{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Draw(t.Context(), "k4", "wss://x.example/sysclients", time.Minute); err == nil {
		t.Error("drawn for a server that was removed")
	}
}

// A hundred requests under one key at once draw one code; a hundred phones with one code, one is led.
func TestManyAtOnce(t *testing.T) {
	reg, a := open(t, "central"), open(t, "acme")
	c := a.join(reg, "a")
	c.Wait = 5 * time.Millisecond
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, _, _ = c.Draw(context.Background(), "one", "wss://x.example/sysclients", time.Minute) // some give up: still under way
		})
	}
	wg.Wait()
	digits, _, err := c.Draw(t.Context(), "one", "wss://x.example/sysclients", time.Minute)
	if n := count(reg, "code.registered"); n != 1 || err != nil {
		t.Fatalf("%d codes, %v", n, err)
	}
	led := make(chan string, 20)
	for i := range 20 {
		wg.Go(func() {
			if _, got := reg.ask(fmt.Sprintf("sn=0090335a%04x&code=%s", i, digits)); strings.HasPrefix(got, "lead") {
				led <- got
			}
		})
	}
	wg.Wait()
	if len(led) != 1 || count(reg, "code.bound") != 1 {
		t.Errorf("%d phones were led", len(led))
	}
}

// What curl sees is what a phone sees.
func TestWithCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Log("not run: curl is not installed")
		return
	}
	s := open(t, "acme")
	code := s.issue("acme", "self_service").Code
	out, err := exec.CommandContext(t.Context(), curl, "-sS", s.web.URL+"/init?sn=00-90-33-5a-0b-1c&PROVISIONING-CODE="+url.QueryEscape(code+"#")).CombinedOutput()
	if want := "lead wss://acme.example.net/acme.example/devices/sysclients"; string(out) != want || err != nil {
		t.Errorf("%s, %v", out, err)
	}
}

func FuzzInit(f *testing.F) {
	f.Add(standard + "&code=123456789012%23")
	f.Add("sn=%zz&&=&sn")
	f.Add("PROVISIONING-CODE=%00&sn=0090335a0b1c&ver=" + strings.Repeat("x", 300))
	s := commandstest.NewService(f)
	h := registry.New(registry.Options{Service: s.Service, Scripts: plain{}, Peer: func(context.Context) registry.Peer { return registry.Peer{} }, Sightings: s.Sightings, RefuseAfter: -1, Slow: -1})
	f.Fuzz(func(t *testing.T, query string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, &http.Request{Method: "GET", Host: "registry", URL: &url.URL{Path: "/init", RawQuery: query}})
		if w.Code != 200 && w.Code != 414 || strings.HasPrefix(w.Body.String(), "lead") {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}
