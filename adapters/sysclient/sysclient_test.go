package sysclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/sysclient"
	"ledgerline/adapters/sysclient/wire"
	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
	"ledgerline/tests/phonesim/innovaphone"
)

const (
	mac   = domain.MAC("0090335a0b1c")
	other = domain.MAC("0090335a0b1d")
	admin = "canary-admin-secret"
)

// office is Devices with two tenants, seen by phones over real websockets.
type office struct {
	*commandstest.Kit
	*sysclient.Server
	t      *testing.T
	url    string // ws://host/acme.example/devices/sysclients
	mu     sync.Mutex
	client sysclient.Client
}

func open(t *testing.T, change ...func(*sysclient.Options)) *office {
	t.Helper()
	o := &office{Kit: commandstest.NewService(t), t: t, client: sysclient.Client{IP: netip.MustParseAddr("192.0.2.7"), Secure: true}}
	s, ctx := o.Service, t.Context()
	for _, id := range []domain.TenantID{"acme", "globex"} {
		_, _, err := s.CreateTenant(ctx, commands.CreateTenant{ID: id, Name: string(id), Domain: string(id) + ".example"})
		o.ok(err)
		_, _, err = s.DefineCategory(ctx, commands.DefineCategory{ID: domain.CategoryID(id), TenantID: id, Name: "Büro/Phones & Fax", Kind: domain.Provisioning})
		o.ok(err)
	}
	_, _, err := s.DefineUser(ctx, commands.DefineUser{ID: "anna", TenantID: "acme", DisplayName: "Anna"})
	o.ok(err)
	options := sysclient.Options{Service: s, Sightings: o.Kit.Sightings, Client: func(context.Context) sysclient.Client {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.client
	}}
	for _, c := range change {
		c(&options)
	}
	o.Server, err = sysclient.New(options)
	o.ok(err)
	s.Sysclients = o.Server
	web := httptest.NewServer(o.Server)
	o.url = "ws" + strings.TrimPrefix(web.URL, "http") + "/acme.example/devices/sysclients"
	t.Cleanup(func() { o.Server.Close(); web.Close() })
	return o
}

func (o *office) ok(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) from(c sysclient.Client) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.client = c
}

func (o *office) code(purpose string) string {
	o.t.Helper()
	c, _, err := o.Service.IssueCode(o.t.Context(), commands.IssueCode{TenantID: "acme", CategoryID: "acme", UserID: "anna", Purpose: purpose})
	o.ok(err)
	return c.Code
}

// changed tells the server what its replica's views would.
func (o *office) changed() {
	o.ok(o.React(o.t.Context()))
	o.Changed([]domain.StreamID{domain.DeviceID(mac).Stream(), domain.DeviceID(mac).NextLife().Stream()})
}

func (o *office) types(id domain.DeviceID) (types []string) {
	o.t.Helper()
	for r, err := range o.Log.Read(o.t.Context(), id.Stream(), 0) {
		if errors.Is(err, domain.ErrNoStream) {
			return nil
		}
		o.ok(err)
		types = append(types, r.Type)
	}
	return types
}

func (o *office) expect(id domain.DeviceID, want map[string]int) {
	o.t.Helper()
	got := map[string]int{}
	for _, name := range o.types(id) {
		if _, asked := want[name]; asked {
			got[name]++
		}
	}
	for name, n := range want {
		if got[name] != n {
			o.t.Errorf("%d of %s in the log, want %d: %v", got[name], name, n, o.types(id))
		}
	}
}

// device is the other end of one connection, by hand.
type device struct {
	t    *testing.T
	ws   *websocket.Conn
	said wire.Identify
}

func (o *office) dial(at string) *device {
	o.t.Helper()
	ws, _, err := websocket.Dial(o.t.Context(), at, nil)
	o.ok(err)
	o.t.Cleanup(func() { _ = ws.CloseNow() })
	return &device{o.t, ws, wire.Identify{ID: string(mac), Product: "IP222", Version: "13r3 sr1 [13.5421/135421/1300]", Platform: wire.Platform{Type: "PHONE"}, FwBuild: "135421"}}
}

// try sends as long as the connection is there: whoever is in trouble may be shut out at any moment.
func (d *device) try(b []byte) {
	_ = d.ws.Write(context.WithoutCancel(d.t.Context()), websocket.MessageBinary, b)
}

func (d *device) send(b []byte) {
	d.t.Helper()
	if err := d.ws.Write(d.t.Context(), websocket.MessageBinary, b); err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) identify(change func(*wire.Identify)) {
	d.t.Helper()
	i := d.said
	if change != nil {
		change(&i)
	}
	d.send(wire.Admin(wire.TypeIdentify, i))
}

// frame is the next one, or why there is none.
func (d *device) frame() (wire.Frame, error) {
	_, b, err := d.ws.Read(d.t.Context())
	if err != nil {
		return wire.Frame{}, err
	}
	return wire.Parse(b)
}

// admin is the next admin message, which must be of that type; tunnels are shut.
func (d *device) admin(kind uint16, into any) {
	d.t.Helper()
	for {
		f, err := d.frame()
		if err != nil {
			d.t.Fatalf("waiting for message %d: %v", kind, err)
		}
		if f.Tunnel != nil {
			d.send(wire.Frame{Tunnel: &wire.Tunnel{ID: f.Tunnel.ID, Event: wire.EventShutdown}}.Bytes())
			continue
		}
		if f.Type != kind {
			d.t.Fatalf("message %d, want %d", f.Type, kind)
		}
		if err := json.Unmarshal(f.JSON, into); err != nil {
			d.t.Fatal(err)
		}
		return
	}
}

func (d *device) closed() websocket.StatusCode {
	d.t.Helper()
	for {
		if _, err := d.frame(); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func (d *device) password() string {
	d.t.Helper()
	var m wire.Password
	d.admin(wire.TypePassword, &m)
	return m.Password
}

func (d *device) challenge() string {
	d.t.Helper()
	var m wire.Challenge
	d.admin(wire.TypeChallenge, &m)
	return m.Challenge
}

func (d *device) answer(challenge, password string) {
	d.t.Helper()
	d.identify(func(i *wire.Identify) {
		i.Digest = wire.Digest(i.ID, i.Product, i.Version, challenge, password)
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 20 seconds: %s", what)
		}
	}
}

// enroll brings the device in with a code, and ends the connection.
func (o *office) enroll() (password string) {
	o.t.Helper()
	d := o.dial(o.url)
	code := o.code("self_service")
	d.identify(func(i *wire.Identify) { i.ProvisioningCode = code })
	password = d.password()
	eventually(o.t, "the device is in", func() bool { return slices.Contains(o.types(domain.DeviceID(mac)), "device.sysclient_identified") })
	o.ok(d.ws.Close(websocket.StatusNormalClosure, ""))
	eventually(o.t, "it has left", func() bool { return !o.Connected(domain.DeviceID(mac)) })
	return password
}

// A new device shows a code, gets a password, and answers challenges with it from then on.
func TestNewAndKnownDevice(t *testing.T) {
	o := open(t)
	password := o.enroll()
	if len(password) != 32 || strings.ContainsFunc(password, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '!')
	}) {
		t.Errorf("the password has %d characters, or others than a device takes", len(password))
	}
	for range 2 {
		d := o.dial(o.url)
		d.identify(nil)
		d.answer(d.challenge(), password)
		eventually(t, "the device is in again", func() bool { return o.Connected(domain.DeviceID(mac)) })
		o.ok(d.ws.Close(websocket.StatusNormalClosure, ""))
		eventually(t, "it has left", func() bool { return !o.Connected(domain.DeviceID(mac)) })
	}
	o.expect(domain.DeviceID(mac), map[string]int{"device.discovered": 1, "device.assigned": 1, "device.sysclient_password_set": 1, "device.sysclient_proved": 1, "device.sysclient_identified": 1, "device.sysclient_denied": 0})
	d, _, err := o.Service.CurrentDevice(t.Context(), domain.DeviceID(mac))
	o.ok(err)
	if d.TenantID != "acme" || d.CategoryID != "acme" || d.UserID != "anna" || d.Vendor != "innovaphone" || d.Model != "IP222" || d.Sysclient.FwBuild != "135421" {
		t.Errorf("the device is %s %s of %s/%s/%s", d.Vendor, d.Model, d.TenantID, d.CategoryID, d.UserID)
	}
	for _, r := range o.Log.Events() {
		if strings.Contains(string(r.Data), password) {
			t.Errorf("%s holds the password in clear", r.Type)
		}
	}
	if !slices.ContainsFunc(o.Kit.Sightings.All(), func(s commands.Sighting) bool { return s.Device == domain.DeviceID(mac) && s.Transport == "sysclient" }) {
		t.Error("it was never sighted")
	}
}

// Three wrong answers end the connection; the device in place stays, and the denials are one event.
func TestWrongDigest(t *testing.T) {
	o := open(t)
	password := o.enroll()
	d := o.dial(o.url)
	d.identify(nil)
	d.answer(d.challenge(), password)
	eventually(t, "the device is in", func() bool { return o.Connected(domain.DeviceID(mac)) })
	before, _, _ := o.Since(domain.DeviceID(mac))

	thief := o.dial(o.url)
	thief.identify(nil)
	seen := map[string]bool{}
	for range 3 {
		c := thief.challenge()
		if seen[c] || len(c) != 10 {
			t.Errorf("challenge %q, or it came before", c)
		}
		seen[c] = true
		thief.answer(c, "guess")
	}
	if got := thief.closed(); got != 4401 {
		t.Errorf("closed with %d, want 4401", got)
	}
	if after, _, ok := o.Since(domain.DeviceID(mac)); !ok || after != before {
		t.Error("the real device was disturbed")
	}
	o.ok(o.Service.RecordDenials(t.Context(), true))
	o.expect(domain.DeviceID(mac), map[string]int{"device.sysclient_denied": 1})

	// The right answer to an old challenge is a wrong one.
	replay := o.dial(o.url)
	replay.identify(nil)
	first := replay.challenge()
	replay.answer(first, "wrong")
	replay.challenge()
	replay.answer(first, password)
	replay.challenge()
}

// The newest connection that has authenticated stays.
func TestNewestWins(t *testing.T) {
	o := open(t)
	password := o.enroll()
	first, second := o.dial(o.url), o.dial(o.url)
	for _, d := range []*device{first, second} {
		d.identify(nil)
		d.answer(d.challenge(), password)
		eventually(t, "the device is in", func() bool { return o.Connected(domain.DeviceID(mac)) })
	}
	if got := first.closed(); got != 4409 {
		t.Errorf("the older connection was closed with %d, want 4409", got)
	}
	if !o.Connected(domain.DeviceID(mac)) {
		t.Error("the newer one is not in")
	}
}

// The message with the password got lost: the same code brings the same password again. Once the device has answered a
// challenge, the code brings a challenge only.
func TestPasswordLostOnTheWay(t *testing.T) {
	o := open(t)
	code := o.code("self_service")
	show := func(i *wire.Identify) { i.ProvisioningCode = code }
	d := o.dial(o.url)
	d.identify(show)
	password := d.password()
	o.ok(d.ws.CloseNow())

	d = o.dial(o.url)
	d.identify(show)
	d.challenge()
	d.identify(func(i *wire.Identify) { show(i); i.Digest = strings.Repeat("0", 64) })
	if again := d.password(); again != password {
		t.Error("it got another password for the same code")
	}
	o.ok(d.ws.CloseNow())

	d = o.dial(o.url)
	d.identify(show)
	c := d.challenge()
	d.identify(func(i *wire.Identify) { show(i); i.Digest = wire.Digest(i.ID, i.Product, i.Version, c, password) })
	eventually(t, "it has proved itself", func() bool { return slices.Contains(o.types(domain.DeviceID(mac)), "device.sysclient_proved") })
	thief := o.dial(o.url)
	thief.identify(show)
	for range 3 {
		thief.answer(thief.challenge(), "")
	}
	if got := thief.closed(); got != 4401 {
		t.Errorf("somebody with the used code was closed with %d, want 4401", got)
	}
	o.expect(domain.DeviceID(mac), map[string]int{"device.sysclient_password_set": 1})
}

// A device nobody knows waits. Assigned meanwhile, it is let in where its address is believed, and only there.
func TestUnassigned(t *testing.T) {
	for _, c := range []struct {
		name    string
		client  sysclient.Client
		granted bool
	}{
		{"from a trusted network", sysclient.Client{IP: netip.MustParseAddr("10.0.0.7"), Trusted: true}, true},
		{"with a certificate", sysclient.Client{IP: netip.MustParseAddr("192.0.2.7"), Secure: true, MAC: mac}, true},
		{"with a certificate of another", sysclient.Client{IP: netip.MustParseAddr("192.0.2.7"), Secure: true, MAC: other}, false},
		{"from anywhere", sysclient.Client{IP: netip.MustParseAddr("192.0.2.7"), Secure: true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := open(t)
			o.from(c.client)
			d := o.dial(o.url)
			d.identify(nil)
			eventually(t, "it was sighted", func() bool { return len(o.Kit.Sightings.All()) > 0 })
			if o.Connected(domain.DeviceID(mac)) {
				t.Fatal("it is in")
			}
			if !c.granted { // nothing comes, and the rest must not either
				_, _, err := o.Service.DiscoverDevice(t.Context(), commands.DiscoverDevice{MAC: mac, Added: "operator", TenantID: "acme"})
				o.ok(err)
				o.changed()
				d.identify(func(i *wire.Identify) { i.ID = "not a mac" })
				if got := d.closed(); got != websocket.StatusPolicyViolation {
					t.Errorf("closed with %d", got)
				}
				o.expect(domain.DeviceID(mac), map[string]int{"device.sysclient_password_set": 0})
				return
			}
			eventually(t, "it was made known", func() bool { return slices.Contains(o.types(domain.DeviceID(mac)), "device.discovered") })
			_, err := o.Service.AssignDevice(t.Context(), commands.AssignDevice{ID: domain.DeviceID(mac), TenantID: "acme", CategoryID: "acme"})
			o.ok(err)
			o.changed()
			d.password()
			eventually(t, "it is in", func() bool { return o.Connected(domain.DeviceID(mac)) })

			// Moved to another tenant its password dies, and the connection, of the old tenant's address, waits.
			_, err = o.Service.MoveDevice(t.Context(), commands.MoveDevice{ID: domain.DeviceID(mac), TenantID: "globex"})
			o.ok(err)
			o.changed()
			eventually(t, "it is out", func() bool { return !o.Connected(domain.DeviceID(mac)) })
			if o.Connected(domain.DeviceID(mac).NextLife()) {
				t.Error("the next life is in by the old tenant's address")
			}
			d = o.dial(strings.Replace(o.url, "acme", "globex", 1))
			d.identify(nil)
			d.password()
			eventually(t, "the next life is in", func() bool { return o.Connected(domain.DeviceID(mac).NextLife()) })
		})
	}
}

// The tenant of the path bounds what codes and devices count.
func TestTenantsApart(t *testing.T) {
	o := open(t)
	code := o.code("self_service")
	d := o.dial(strings.Replace(o.url, "acme", "globex", 1))
	d.identify(func(i *wire.Identify) { i.ProvisioningCode = code })
	o.enroll()
	d.identify(nil)
	d.identify(func(i *wire.Identify) { i.Product = "" })
	if got := d.closed(); got != websocket.StatusPolicyViolation { // nothing came before that
		t.Errorf("closed with %d", got)
	}
	if resp, err := http.Get("http" + strings.TrimPrefix(strings.Replace(o.url, "acme", "nobody", 1), "ws")); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown domain: %v", err)
	}
	o.from(sysclient.Client{IP: netip.MustParseAddr("192.0.2.7")})
	if _, resp, err := websocket.Dial(t.Context(), o.url, nil); err == nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("in clear from outside: %v", err)
	}
}

// A device of another tenant is refused, and the code stays good.
func TestOtherDomain(t *testing.T) {
	o := open(t)
	_, _, err := o.Service.DiscoverDevice(t.Context(), commands.DiscoverDevice{MAC: mac, Added: "operator", TenantID: "globex"})
	o.ok(err)
	code := o.code("self_service")
	d := o.dial(o.url)
	d.identify(func(i *wire.Identify) { i.ProvisioningCode = code })
	d.identify(func(i *wire.Identify) { i.ID = string(other); i.ProvisioningCode = code })
	d.password()
	o.expect(domain.DeviceID(mac), map[string]int{"device.sysclient_password_set": 0})
}

func TestAutomatic(t *testing.T) {
	o := open(t)
	token, _, err := o.Service.IssueToken(t.Context(), commands.IssueToken{CategoryID: "acme"})
	o.ok(err)
	at := o.url + "?domain=acme.example&token=" + url.QueryEscape(token.Token) + "&category=" + url.QueryEscape("Büro/Phones & Fax")
	bad := o.dial(o.url + "?domain=acme.example&token=wrong-token&category=acme")
	bad.identify(nil)
	d := o.dial(at)
	d.identify(nil)
	password := d.password()
	eventually(t, "it is in", func() bool { return o.Connected(domain.DeviceID(mac)) })
	o.ok(d.ws.CloseNow())

	again := o.dial(at)
	again.identify(nil)
	again.answer(again.challenge(), password)
	eventually(t, "it has proved itself", func() bool { return slices.Contains(o.types(domain.DeviceID(mac)), "device.sysclient_proved") })

	// Whoever holds the token cannot be a device that has proved itself.
	thief := o.dial(at)
	thief.identify(nil)
	for range 3 {
		thief.answer(thief.challenge(), "")
	}
	if got := thief.closed(); got != 4401 {
		t.Errorf("closed with %d, want 4401", got)
	}
	o.expect(domain.DeviceID(mac), map[string]int{"device.sysclient_password_set": 1})
}

// A foreign device gets configurations; its administrator's password comes hidden, and comes back out.
func TestForeignAndAdministrator(t *testing.T) {
	o := open(t)
	_, _, err := o.Service.DefineLayer(t.Context(), commands.DefineLayer{ID: domain.TenantLayer("acme"), TenantID: "acme",
		Settings: domain.Settings{"admin_password": admin}})
	o.ok(err)
	code := o.code("administrative")
	d := o.dial(o.url)
	d.identify(func(i *wire.Identify) { i.ProvisioningCode, i.Other = code, true })
	password := d.password()
	var hidden wire.AdminPassword
	d.admin(wire.TypeAdminPassword, &hidden)
	if clear, err := wire.Decrypt(hidden.Seed, password, hidden.Pwd); err != nil || clear != admin || len(hidden.Seed) != 16 {
		t.Errorf("the administrator's password does not come out again: %v", err)
	}
	// Another password is sent at once, whether the change is told or the views were built anew; the same one is not.
	for i, told := range []func(){func() { o.Changed([]domain.StreamID{domain.TenantLayer("acme").Stream()}) }, o.ChangedAll} {
		another := fmt.Sprint(admin, i)
		_, err := o.Service.AmendLayer(t.Context(), commands.AmendLayer{ID: domain.TenantLayer("acme"), Settings: domain.Settings{"admin_password": another}})
		o.ok(err)
		told()
		d.admin(wire.TypeAdminPassword, &hidden)
		if clear, err := wire.Decrypt(hidden.Seed, password, hidden.Pwd); err != nil || clear != another {
			t.Errorf("another administrator's password does not come: %v", err)
		}
		o.ChangedAll()
	}
	sent := []json.RawMessage{json.RawMessage(`{"type":"NTP","ntp1":"10.0.0.1"}`), json.RawMessage(`{"type":"PHONE","gk1":"10.0.0.2"}`)}
	o.ok(o.Configure(t.Context(), domain.DeviceID(mac), sent))
	for i, want := range []wire.Config{{Config: sent[0]}, {Config: sent[1], Last: true}} {
		var got wire.Config
		d.admin(wire.TypeConfig, &got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("configuration %d: %s", i, diff)
		}
	}
	if err := o.Configure(t.Context(), "nobody", sent); !errors.Is(err, commands.ErrOffline) {
		t.Errorf("nobody is configured: %v", err)
	}
	o.expect(domain.DeviceID(mac), map[string]int{"device.url_checked": 0})
}

// An analog port is a device of its own; a code serves one of them, and not the gateway.
func TestPorts(t *testing.T) {
	o := open(t)
	password := o.enroll()
	d := o.dial(o.url)
	ask := func(port, code string) string {
		d.send(wire.Admin(wire.TypePort, wire.Port{ID: port, Code: code}))
		var r wire.PortResult
		d.admin(wire.TypePortResult, &r)
		return r.Error
	}
	code := o.code("self_service")
	if got := ask("TEL1", code); got == "" {
		t.Error("a stranger has provisioned a port")
	}
	d.identify(nil)
	d.answer(d.challenge(), password)
	eventually(t, "it is in", func() bool { return o.Connected(domain.DeviceID(mac)) })
	for _, c := range []struct {
		port, code string
		ok         bool
	}{{"TEL1", code, true}, {"TEL1", code, true}, {"TEL2", code, false}, {"../x", code, false}, {"TEL2", "000000000000", false}} {
		if got := ask(c.port, c.code); (got == "") != c.ok {
			t.Errorf("port %s: %q", c.port, got)
		}
	}
	port, _, err := o.Service.CurrentDevice(t.Context(), domain.DeviceID(mac)+"-tel1")
	o.ok(err)
	if port.UserID != "anna" || port.TenantID != "acme" || port.Sysclient.Port.Port != "TEL1" || port.Sysclient.Port.PartOf != domain.DeviceID(mac) || port.MAC != "" {
		t.Errorf("the port is %+v", port.Sysclient.Port)
	}
	d.identify(func(i *wire.Identify) { i.ProvisioningCode = code })
	d.challenge() // the gateway does not become its own port
	o.expect(domain.DeviceID(mac)+"-tel1", map[string]int{"device.assigned": 1, "device.port_attached": 1})
}

// What is no message of the protocol ends the connection; what is one we do not know does not.
func TestOddMessages(t *testing.T) {
	o := open(t, func(o *sysclient.Options) { o.MaxWaitingPerSource = 3 })
	for _, c := range []struct {
		name string
		do   func(d *device)
		want websocket.StatusCode
	}{
		{"text", func(d *device) { o.ok(d.ws.Write(t.Context(), websocket.MessageText, []byte("{}"))) }, websocket.StatusUnsupportedData},
		{"no frame", func(d *device) { d.send([]byte{7}) }, websocket.StatusProtocolError},
		{"too big", func(d *device) { d.send(make([]byte, wire.MaxFrame+1)) }, websocket.StatusMessageTooBig},
		{"no JSON", func(d *device) { d.send(wire.Frame{JSON: []byte("{")}.Bytes()) }, websocket.StatusPolicyViolation},
		{"a flood", func(d *device) {
			for range 21 {
				d.identify(nil)
			}
		}, 4401},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := o.dial(o.url)
			d.send(wire.Frame{Type: 77, JSON: []byte(`{"of":"a later release"}`)}.Bytes())
			d.send(wire.Frame{Tunnel: &wire.Tunnel{ID: 9, Event: wire.EventReceiveResult, Data: []byte("unasked")}}.Bytes())
			c.do(d)
			if got := d.closed(); got != c.want {
				t.Errorf("closed with %d, want %d", got, c.want)
			}
		})
	}
	eventually(t, "there is room again", func() bool {
		ws, _, err := websocket.Dial(t.Context(), o.url, nil)
		if err == nil {
			_ = ws.CloseNow()
		}
		return err == nil
	})
	refused := false
	for range 4 {
		ws, resp, err := websocket.Dial(t.Context(), o.url, nil)
		if err != nil {
			refused = resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != ""
			continue
		}
		defer ws.CloseNow()
	}
	if !refused {
		t.Error("a fourth connection of one source that has not authenticated was taken")
	}
}

// Whoever never says who it is, or never answers, does not stay.
func TestSilence(t *testing.T) {
	o := open(t, func(o *sysclient.Options) {
		o.IdentifyWithin, o.AnswerWithin, o.PingEvery, o.WaitAtMost = 30*time.Millisecond, 30*time.Millisecond, 30*time.Millisecond, 200*time.Millisecond
	})
	d := o.dial(o.url)
	if got := d.closed(); got != 4408 {
		t.Errorf("without Identify closed with %d, want 4408", got)
	}
	d = o.dial(o.url)
	d.identify(nil)
	if got := d.closed(); got != 4408 {
		t.Errorf("waiting closed with %d, want 4408", got)
	}
}

// phone is a simulated one that is on until the test ends.
func (o *office) phone(change func(*innovaphone.Config)) *innovaphone.Phone {
	o.t.Helper()
	c := innovaphone.Config{MAC: mac, DevicesURL: o.url, Retry: 10 * time.Millisecond, Poll: time.Hour}
	if change != nil {
		change(&c)
	}
	p, err := innovaphone.New(c)
	o.ok(err)
	ctx, off := context.WithCancel(o.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	o.t.Cleanup(func() { off(); <-done })
	return p
}

// The phone's own pages, through the connection: small and large, many at once, and none that is not there.
func TestTunnel(t *testing.T) {
	o := open(t)
	o.from(sysclient.Client{IP: netip.MustParseAddr("10.0.0.7"), Trusted: true})
	_, _, err := o.Service.DiscoverDevice(t.Context(), commands.DiscoverDevice{MAC: mac, Added: "operator", TenantID: "acme"})
	o.ok(err)
	p := o.phone(nil)
	id := domain.DeviceID(mac)
	eventually(t, "it is in", func() bool { return o.Connected(id) })
	eventually(t, "its address was read back", func() bool { return slices.Contains(o.types(id), "device.url_checked") })
	d, _, err := o.Service.CurrentDevice(t.Context(), id)
	o.ok(err)
	if d.Sysclient.URLProblem != "" {
		t.Errorf("its address is said to be wrong: %s", d.Sysclient.URLProblem)
	}

	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			status, log, err := o.Fetch(t.Context(), id, http.MethodGet, "/log.txt", nil)
			if err != nil || status != 200 || len(log) != 2000*len("0:0000:00:000 - log line of a phone\r\n") {
				t.Errorf("the log: status %d, %d bytes, %v", status, len(log), err)
			}
			value := fmt.Sprintf("v%d", i)
			if status, _, err := o.Fetch(t.Context(), id, http.MethodPost, "/!vars%20create%20TEST/"+value+"%20p%20"+value, []byte(strings.Repeat("x", 50_000))); err != nil || status != 200 {
				t.Errorf("a command: status %d, %v", status, err)
			}
			if got := p.Var("TEST/" + value); got != value {
				t.Errorf("the phone has %q for %s", got, value)
			}
		})
	}
	wg.Wait()
	if status, _, err := o.Fetch(t.Context(), id, http.MethodGet, "/nothing", nil); status != 404 || err != nil {
		t.Errorf("nothing: %d, %v", status, err)
	}
	for _, path := range []string{"", "x", "/a b", "/a\r\nX: y"} {
		if _, _, err := o.Fetch(t.Context(), id, http.MethodGet, path, nil); !errors.Is(err, sysclient.ErrBadRequest) {
			t.Errorf("path %q: %v", path, err)
		}
	}

	// The form again, and a page: what an operator did is on record before it is done.
	if _, err := o.Service.ShowCodeForm(t.Context(), commands.ShowCodeForm{ID: id}); err != nil {
		t.Fatal(err)
	}
	if p.Var("UPDATE/PROVISIONING-CODE") != "prompt" {
		t.Error("the form is not shown")
	}
	page, _, err := o.Service.OpenPage(t.Context(), commands.OpenPage{ID: id, Method: "GET", Path: "/admin.xml?pw=canary-query"})
	if err != nil || page.Status != 200 || !strings.Contains(string(page.Body), string(mac)) {
		t.Errorf("the page: %d, %v", page.Status, err)
	}
	o.expect(id, map[string]int{"device.code_form_requested": 1, "device.code_form_shown": 1, "device.page_requested": 1, "device.page_answered": 1})
	for _, r := range o.Log.Events() {
		if strings.Contains(string(r.Data), "canary-query") {
			t.Errorf("%s shows the query", r.Type)
		}
	}

	// Deleted, it is out.
	_, err = o.Service.DeleteDevice(t.Context(), commands.DeleteDevice{ID: id})
	o.ok(err)
	o.changed()
	eventually(t, "it is out", func() bool { return !o.Connected(id) })
	if _, _, err := o.Fetch(t.Context(), id, http.MethodGet, "/", nil); !errors.Is(err, commands.ErrOffline) {
		t.Errorf("out: %v", err)
	}
}

// A device that goes away, or talks nonsense, in the midst of an exchange.
func TestTunnelTrouble(t *testing.T) {
	o := open(t)
	password := o.enroll()
	id := domain.DeviceID(mac)
	for _, c := range []struct {
		name string
		at   func(d *device, f *wire.Tunnel) (more bool)
		want error
	}{
		{"it goes at the request", func(d *device, f *wire.Tunnel) bool { _ = d.ws.CloseNow(); return false }, commands.ErrOffline},
		{"it shuts the tunnel", func(d *device, f *wire.Tunnel) bool {
			d.try(wire.Frame{Tunnel: &wire.Tunnel{ID: f.ID, Event: wire.EventShutdown}}.Bytes())
			return true
		}, commands.ErrNoAnswer},
		{"no HTTP", func(d *device, f *wire.Tunnel) bool {
			if f.Event == wire.EventSend {
				d.try(wire.Frame{Tunnel: &wire.Tunnel{ID: f.ID, Event: wire.EventSendResult}}.Bytes())
			} else if f.Event == wire.EventReceive {
				d.try(wire.Frame{Tunnel: &wire.Tunnel{ID: f.ID, Event: wire.EventReceiveResult, Data: []byte("hello\r\n\r\n")}}.Bytes())
			}
			return true
		}, commands.ErrNoAnswer},
		{"a flood nobody asked for", func(d *device, f *wire.Tunnel) bool {
			for range 40 {
				d.try(wire.Frame{Tunnel: &wire.Tunnel{ID: f.ID, Event: wire.EventReceiveResult, Data: []byte("x")}}.Bytes())
			}
			return true
		}, commands.ErrNoAnswer},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := o.dial(o.url)
			d.identify(nil)
			d.answer(d.challenge(), password)
			go func() {
				for {
					_, b, err := d.ws.Read(context.WithoutCancel(t.Context()))
					if err != nil {
						return
					}
					f, err := wire.Parse(b)
					if err != nil || f.Tunnel == nil || f.Tunnel.Event == wire.EventShutdown {
						continue
					}
					if strings.Contains(string(f.Tunnel.Data), "/cfg.txt") { // its address is read back
						d.try(wire.Frame{Tunnel: &wire.Tunnel{ID: f.Tunnel.ID, Event: wire.EventShutdown}}.Bytes())
						continue
					}
					if !c.at(d, f.Tunnel) {
						return
					}
				}
			}()
			eventually(t, "it is in", func() bool { return o.Connected(id) })
			if _, _, err := o.Fetch(t.Context(), id, http.MethodGet, "/", nil); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			_ = d.ws.CloseNow()
			eventually(t, "it is out", func() bool { return !o.Connected(id) })
		})
	}
}

// A device that does not wait for the answer to its upgrade is heard all the same, even if it says more than a buffer holds.
func TestSpeaksAtOnce(t *testing.T) {
	for _, padding := range []int{0, 3000} {
		o := open(t)
		at, err := url.Parse(o.url)
		o.ok(err)
		c, err := net.Dial("tcp", at.Host)
		o.ok(err)
		t.Cleanup(func() { _ = c.Close() })
		said := wire.Admin(wire.TypeIdentify, wire.Identify{ID: string(mac), Product: "IP222", Version: "13r3", Name: strings.Repeat("n", padding), Platform: wire.Platform{Type: "PHONE"}})
		frame := append([]byte{0x82, 0x80 | 126, byte(len(said) >> 8), byte(len(said)), 0, 0, 0, 0}, said...) // binary, masked with zeros: RFC 6455 §5.2
		_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n%s", at.Path, at.Host, frame)
		o.ok(err)
		eventually(t, "it was sighted", func() bool { return len(o.Kit.Sightings.All()) > 0 })
	}
}

// A panic ends the connection it came from, and nothing else.
func TestPanic(t *testing.T) {
	o := open(t, func(opt *sysclient.Options) {
		opt.Registered = func(_ context.Context, _ domain.DeviceID, f domain.SysclientFacts) error {
			if f.Name == "odd" {
				panic("odd")
			}
			return nil
		}
	})
	password := o.enroll()
	d := o.dial(o.url)
	d.said.Name = "odd"
	d.identify(nil)
	d.answer(d.challenge(), password)
	d.closed()
	eventually(t, "it has left", func() bool { return !o.Connected(domain.DeviceID(mac)) })
	d = o.dial(o.url)
	d.identify(nil)
	d.answer(d.challenge(), password)
	eventually(t, "it is in again", func() bool { return o.Connected(domain.DeviceID(mac)) })
}
