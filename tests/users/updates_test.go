package users_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"ledgerline/adapters/usersapp"
	"ledgerline/adapters/usersapp/wire"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
	"ledgerline/tests/phonesim/users"
)

const instanceKey = "a-password-of-the-instance"

// instance lets Users in for all domains, and returns one that is.
func (s *site) instance() *users.Client {
	s.t.Helper()
	out, err := s.Service.SetUsersKey(s.t.Context(), commands.SetUsersKey{ID: domain.Master, Key: instanceKey, Domain: "acme.example"})
	s.ok(err)
	s.ok(s.Runner.WaitFor(s.t.Context(), out.Position))
	c, err := users.Dial(s.t.Context(), s.users("admin", "", instanceKey))
	s.ok(err)
	s.t.Cleanup(c.Close)
	return c
}

// hearsOf waits for a message that is no notice of a code.
func (s *site) hearsOf(c *users.Client) users.Message {
	s.t.Helper()
	for {
		if m := s.hears(c); m.Text("mt") != "DeviceProvisioned" {
			return m
		}
	}
}

// owns gives the tenant a phone.
func (s *site) owns(tenant domain.TenantID, mac domain.MAC) {
	s.t.Helper()
	issued, _, err := s.Service.IssueCode(s.t.Context(), commands.IssueCode{TenantID: tenant, CategoryID: domain.CategoryID(string(tenant) + ".provisioning"), Purpose: "administrative"})
	s.ok(err)
	s.redeem(issued.Code, mac)
}

func (s *site) describe(id domain.DeviceID, as string) {
	s.t.Helper()
	_, err := s.Service.ConfigureDevice(s.t.Context(), commands.ConfigureDevice{ID: id, Description: as})
	s.ok(err)
}

// of are the fields of the thing a message tells of.
func of(m users.Message, field string) users.Message {
	v, _ := m[field].(map[string]any)
	return v
}

func TestUsersIsToldWhatBecomesOfDevices(t *testing.T) {
	s := open(t)
	s.owns("acme", "0090335a0b20")
	s.until("device.assigned")
	s.caughtUp()
	c := s.connect("users")
	all := s.instance()
	ask := users.Message{"recvUpdates": true}
	m := s.asks(c, "GetDevices", ask)
	s.asks(all, "GetDevices", ask)
	if list, _ := m["devices"].([]any); len(list) != 1 {
		t.Fatalf("%v", m)
	}
	src := m.Text("src")
	// What is another tenant's is told to the administrator of all alone.
	s.owns("globex", "0090335a0b21")
	s.owns("acme", "0090335a0b22")
	for of(s.hearsOf(all), "device").Text("hwId") != "0090335a0b21" {
	}
	told := s.hearsOf(c)
	if told.Text("mt") != "DeviceAdded" || told.Text("src") != src || told.Text("api") != "Devices" || of(told, "device").Text("hwId") != "0090335a0b22" || of(told, "device").Text("domainId") != "acme" {
		t.Errorf("%v", told)
	}
	for _, name := range []string{"first", "second"} {
		s.describe("0090335a0b22", name)
		for told = s.hearsOf(c); of(told, "device").Text("name") != name; told = s.hearsOf(c) {
			if told.Text("mt") != "DeviceUpdate" || of(told, "device").Text("hwId") != "0090335a0b22" {
				t.Fatalf("%v", told)
			}
		}
	}
	_, err := s.Service.DeleteDevice(t.Context(), commands.DeleteDevice{ID: "0090335a0b22"})
	s.ok(err)
	if told = s.hearsOf(c); told.Text("mt") != "DeviceRemoved" || told.Text("id") != "0090335a0b22" || told.Text("src") != src {
		t.Errorf("%v", told)
	}
	// Whoever asks again without wanting updates gets none.
	s.asks(c, "GetDevices", users.Message{"src": src})
	_, n := s.app.Counts()
	s.describe("0090335a0b20", "third")
	for of(s.hearsOf(all), "device").Text("name") != "third" {
	}
	s.asks(c, "GetUserInfo", nil)
	for len(c.Heard) > 0 {
		if m := <-c.Heard; m.Text("mt") != "DeviceProvisioned" {
			t.Errorf("told after the end: %v", m)
		}
	}
	if n != 1 {
		t.Errorf("%d subscriptions", n)
	}
}

// caughtUp waits until the views have seen all there is.
func (s *site) caughtUp() {
	s.t.Helper()
	head, err := s.Ledger.Head(s.t.Context())
	s.ok(err)
	s.ok(s.Runner.WaitFor(s.t.Context(), head))
}

func TestUsersIsToldWhatBecomesOfDomainsAndConfigurations(t *testing.T) {
	s := open(t)
	c, all := s.connect("users"), s.instance()
	domains := s.asks(c, "GetDomains", users.Message{"recvUpdates": true})
	s.asks(all, "GetDomains", users.Message{"recvUpdates": true})
	configs := s.asks(c, "GetDeviceConfigs", users.Message{"recvUpdates": true})
	_, _, err := s.Service.CreateTenant(t.Context(), commands.CreateTenant{ID: "initech", Name: "Initech", Domain: "initech.example"})
	s.ok(err)
	if told := s.hearsOf(all); told.Text("mt") != "DomainAdded" || of(told, "domain").Text("name") != "initech.example" {
		t.Errorf("%v", told)
	}
	_, _, err = s.Service.DefineCategory(t.Context(), commands.DefineCategory{ID: "acme.lobby", TenantID: "acme", Name: "lobby", Kind: "provisioning"})
	s.ok(err)
	told := s.hearsOf(c)
	if told.Text("mt") != "DomainEdited" || told.Text("src") != domains.Text("src") || !strings.Contains(fmt.Sprint(told["domain"]), "acme.lobby") {
		t.Errorf("%v", told)
	}
	_, err = s.Service.DeleteTenant(t.Context(), commands.DeleteTenant{ID: "initech"})
	s.ok(err)
	for told = s.hearsOf(all); told.Text("mt") != "DomainDeleted" || told.Text("id") != "initech"; told = s.hearsOf(all) {
	}
	ntp := func(tenant domain.TenantID, server string) (domain.JobID, commands.JobWish) {
		wish := commands.JobWish{Parameters: domain.JobParameters{"ntp1": server}}
		id, _, err := s.Service.CreateJob(t.Context(), commands.CreateJob{TenantID: tenant, Type: "NTP", JobWish: wish})
		s.ok(err)
		return id, wish
	}
	ntp("globex", "ntp.example")
	id, wish := ntp("acme", "ntp.example")
	if told = s.hearsOf(c); told.Text("mt") != "DeviceConfigAdded" || told.Text("src") != configs.Text("src") || of(told, "config").Text("id") != string(id) {
		t.Errorf("%v", told)
	}
	wish.Parameters["ntp1"] = "other.example" // which is not told, but that something was is
	_, err = s.Service.AmendJob(t.Context(), commands.AmendJob{ID: id, JobWish: wish})
	s.ok(err)
	if told = s.hearsOf(c); told.Text("mt") != "DeviceConfigEdited" || of(told, "config").Text("type") != "NTP" {
		t.Errorf("%v", told)
	}
	_, err = s.Service.CancelJob(t.Context(), commands.CancelJob{ID: id})
	s.ok(err)
	if told = s.hearsOf(c); told.Text("mt") != "DeviceConfigDeleted" || told.Text("id") != string(id) {
		t.Errorf("%v", told)
	}
	c.Close()
	all.Close()
	s.eventually("everything is freed", func() bool { conns, feeds := s.app.Counts(); return conns == 0 && feeds == 0 })
}

func (s *site) eventually(what string, ok func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			s.t.Fatalf("never: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// After the views were put anew in place, only what differs is told.
func TestAnewInPlace(t *testing.T) {
	s := open(t)
	s.owns("acme", "0090335a0b20")
	s.until("device.assigned")
	s.caughtUp()
	c := s.connect("users")
	s.asks(c, "GetDevices", users.Message{"recvUpdates": true})
	s.app.Changed(projections.Change{All: true})
	s.describe("0090335a0b20", "named")
	for {
		told := s.hearsOf(c)
		if told.Text("mt") != "DeviceUpdate" {
			t.Errorf("%v", told)
		}
		if of(told, "device").Text("name") == "named" {
			return
		}
	}
}

// A subscriber that reads nothing is dropped, and nobody waits for it.
func TestASlowSubscriberIsDropped(t *testing.T) {
	s := open(t, func(o *usersapp.Options) { o.WriteWithin, o.PingEvery = 200*time.Millisecond, time.Hour })
	long := strings.Repeat("n", 190)
	for i := range 100 {
		_, _, err := s.Service.DefineCategory(t.Context(), commands.DefineCategory{ID: domain.CategoryID(fmt.Sprint("acme.", i)), TenantID: "acme", Name: long, Kind: "plain"})
		s.ok(err)
	}
	s.caughtUp()
	ws, _, err := websocket.Dial(t.Context(), s.url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if tcp, ok := c.(*net.TCPConn); ok {
			err = errors.Join(err, tcp.SetReadBuffer(4<<10))
		}
		return c, err
	}}}})
	s.ok(err)
	defer ws.CloseNow()
	ws.SetReadLimit(wire.MaxMessage)
	deaf := loginBy(s, ws)
	deaf(`{"mt":"GetDomains","recvUpdates":true,"src":"x"}`)
	quick := s.connect("quick")
	s.asks(quick, "GetDomains", users.Message{"recvUpdates": true})
	for i := 0; ; i++ {
		name := fmt.Sprint(i)
		_, _, err := s.Service.DefineCategory(t.Context(), commands.DefineCategory{ID: "acme.plain", TenantID: "acme", Name: name, Kind: "plain"})
		s.ok(err)
		for !strings.Contains(fmt.Sprint(s.hearsOf(quick)), "name:"+name) {
		}
		if conns, feeds := s.app.Counts(); conns == 1 && feeds == 1 {
			return
		}
		if i == 10_000 {
			t.Fatal("it is there still")
		}
	}
}

// loginBy logs a bare connection in, and returns what writes one message and reads one.
func loginBy(s *site, ws *websocket.Conn) func(string) string {
	say := func(m string) string {
		s.t.Helper()
		s.ok(ws.Write(s.t.Context(), websocket.MessageText, []byte(m)))
		_, b, err := ws.Read(s.t.Context())
		s.ok(err)
		return string(b)
	}
	_, rest, _ := strings.Cut(say(`{"mt":"AppChallenge"}`), `"challenge":"`)
	challenge, _, _ := strings.Cut(rest, `"`)
	l := wire.Login{App: "bare", Domain: "acme.example"}
	if got := say(fmt.Sprintf(`{"mt":"AppLogin","app":"bare","domain":"acme.example","digest":%q}`, l.Sum(challenge, key))); !strings.Contains(got, `"ok":true`) {
		s.t.Fatal(got)
	}
	return say
}

func TestTooManySubscriptions(t *testing.T) {
	s := open(t)
	c := s.connect("users")
	for range 16 {
		s.asks(c, "GetDevices", users.Message{"recvUpdates": true})
	}
	if _, err := c.Ask(t.Context(), "GetDomains", users.Message{"recvUpdates": true}); !errors.Is(err, users.ErrRefused) {
		t.Errorf("one more: %v", err)
	}
	if _, n := s.app.Counts(); n != 16 {
		t.Errorf("%d subscriptions", n)
	}
}

// With the instance's password and domain Users is an administrator of all domains; with a domain's, of nobody's.
func TestTheInstancesPassword(t *testing.T) {
	s := open(t)
	for _, c := range []struct{ id, domain, key string }{{"acme", "acme.example", "another-password"}, {"master", "", instanceKey}, {"master", "acme.example", ""}, {"master", "acme.example", "short"}} {
		if _, err := s.Service.SetUsersKey(t.Context(), commands.SetUsersKey{ID: domain.TenantID(c.id), Key: c.key, Domain: c.domain}); !errors.Is(err, commands.ErrInvalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	one, all := s.connect("users"), s.instance()
	if _, err := users.Dial(t.Context(), s.users("admin", "globex.example", instanceKey)); !errors.Is(err, users.ErrLogin) {
		t.Errorf("the instance's password with another domain: %v", err)
	}
	if !(s.asks(all, "GetUserInfo", nil)["admin"] == true && s.asks(one, "GetUserInfo", nil)["admin"] == false) {
		t.Error("who administers what")
	}
	names := func(c *users.Client, mt, list, field string, ask users.Message) (names []string) {
		portions, err := c.Ask(t.Context(), mt, ask)
		s.ok(err)
		for _, p := range portions {
			of, _ := p[list].([]any)
			for _, v := range of {
				v, _ := v.(map[string]any)
				names = append(names, fmt.Sprint(v[field]))
			}
		}
		slices.Sort(names)
		return names
	}
	expect := func(got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	_, _, err := s.Service.DiscoverDevice(t.Context(), commands.DiscoverDevice{MAC: "0090335a0b30", Vendor: "innovaphone", Model: "IP222", Added: "auto"})
	s.ok(err)
	s.owns("acme", "0090335a0b31")
	s.owns("globex", "0090335a0b32")
	s.eventually("both are assigned", func() bool {
		return len(names(all, "GetDevices", "devices", "hwId", users.Message{"domainIds": "acme,globex"})) == 2
	})
	expect(names(all, "GetDomains", "domains", "id", nil), "acme", "globex")
	expect(names(one, "GetDomains", "domains", "id", nil), "acme")
	expect(names(all, "GetDomains", "domains", "isInstanceDomain", nil), "false", "true")
	expect(names(all, "GetDevices", "devices", "hwId", nil), "0090335a0b31", "0090335a0b32")
	expect(names(all, "GetDevices", "devices", "hwId", users.Message{"domainIds": []string{"globex"}}), "0090335a0b32")
	expect(names(all, "GetDevices", "devices", "hwId", users.Message{"unassigned": true}), "0090335a0b30")
	expect(names(all, "GetDevices", "devices", "hwId", users.Message{"domainIds": "globex", "unassigned": true}), "0090335a0b30", "0090335a0b32")
	expect(names(one, "GetDevices", "devices", "hwId", nil), "0090335a0b31")
	for _, ask := range []users.Message{{"unassigned": true}, {"domainIds": "globex"}, {"domainIds": "master"}, {"categories": "acme.plain"}} {
		expect(names(one, "GetDevices", "devices", "hwId", ask))
	}
	expect(names(one, "GetDevices", "devices", "hwId", users.Message{"categories": "acme.plain, acme.provisioning"}), "0090335a0b31")
	expect(names(all, "GetProvisioningCategories", "categories", "id", nil), "acme.provisioning", "globex.provisioning")
	expect(names(one, "GetProvisioningCategories", "categories", "id", users.Message{"domainId": "globex"}))
	for c, want := range map[*users.Client]float64{one: 0, all: 1} {
		if n := s.asks(c, "GetUnassignedDevicesCount", nil)["count"]; n != want {
			t.Errorf("%v unassigned, want %v", n, want)
		}
	}
	// A code of a domain that has no Users of its own: the instance's hears of the phone.
	m := s.asks(all, "GetProvisioningCode", users.Message{"category": "globex.provisioning"})
	if _, err := one.Ask(t.Context(), "GetProvisioningCode", users.Message{"category": "globex.provisioning", "domainId": "globex"}); !errors.Is(err, users.ErrRefused) {
		t.Errorf("a code of another domain: %v", err)
	}
	s.redeem(m.Text("code"), "0090335a0b33")
	for {
		if told := s.hears(all); told.Text("code") == m.Text("code") {
			if told.Text("device") != "0090335a0b33" || told.Text("src") != m.Text("src") {
				t.Errorf("%v", told)
			}
			break
		}
	}
	if m := s.asks(all, "GetProvisionedDevice", users.Message{"code": m.Text("code")}); m.Text("device") != "0090335a0b33" {
		t.Error("asked again, it is not known")
	}
}

// What a question narrows by: types, analog ports, hardware ids; categories that configure phones.
func TestNarrowing(t *testing.T) {
	s := open(t)
	s.owns("acme", "0090335a0b40")
	s.owns("acme", "0090335a0b41")
	c := s.connect("users")
	count := func(mt, list string, ask users.Message) int {
		t.Helper()
		of, _ := s.asks(c, mt, ask)[list].([]any)
		return len(of)
	}
	s.eventually("both are there", func() bool { return count("GetDevices", "devices", nil) == 2 })
	_, err := s.Service.IdentifySysclient(t.Context(), commands.IdentifySysclient{Device: "0090335a0b41", Facts: domain.SysclientFacts{Product: "IP28", Version: "13r3", Platform: "GW", FXS: true, PBXActive: true}})
	s.ok(err)
	s.eventually("it is a gateway", func() bool { return count("GetFilteredDevices", "devices", users.Message{"types": "GW"}) == 1 })
	for _, q := range []struct {
		ask  users.Message
		want int
	}{{users.Message{"types": "PHONE"}, 1}, {users.Message{"types": []string{"phone", "GW"}}, 2}, {users.Message{"types": "DECT"}, 0}, {users.Message{"justFxs": true}, 1},
		{users.Message{"justFxs": true, "types": "PHONE"}, 0}, {users.Message{"hwIds": "0090335a0b40, 0090335a0b4f"}, 1}, {users.Message{"hwIds": "nonsense"}, 0}, {users.Message{"domainId": "globex"}, 0}} {
		if n := count("GetFilteredDevices", "devices", q.ask); n != q.want {
			t.Errorf("%v: %d devices, want %d", q.ask, n, q.want)
		}
	}
	_, _, err = s.Service.DefineCategory(t.Context(), commands.DefineCategory{ID: "acme.fax", TenantID: "acme", Name: "fax", Kind: "provisioning"})
	s.ok(err)
	phones := users.Message{"type": "PHONE"}
	s.eventually("no configuration, no narrowing", func() bool { return count("GetProvisioningCategories", "categories", phones) == 2 })
	_, _, err = s.Service.CreateJob(t.Context(), commands.CreateJob{TenantID: "acme", Type: "FXS_PHONE", JobWish: commands.JobWish{Parameters: domain.JobParameters{"gk1": "pbx.example"}, Categories: []domain.CategoryID{"acme.fax"}}})
	s.ok(err)
	s.eventually("the one with a configuration", func() bool { return count("GetProvisioningCategories", "categories", phones) == 1 })
	if n := count("GetProvisioningCategories", "categories", nil); n != 2 {
		t.Errorf("%d categories of any type", n)
	}
	_, _, err = s.Service.CreateJob(t.Context(), commands.CreateJob{TenantID: "acme", Type: "PHONE", JobWish: commands.JobWish{Parameters: domain.JobParameters{"gk1": "pbx.example"}}})
	s.ok(err)
	s.eventually("a configuration for all", func() bool { return count("GetProvisioningCategories", "categories", phones) == 2 })
}

// Who logged in with a password that was replaced or taken away is sent away, subscribed to something or not; others stay.
func TestAPasswordThatIsReplacedEndsConnections(t *testing.T) {
	s := open(t)
	c, all := s.connect("users"), s.instance()
	gone := func(c *users.Client) {
		t.Helper()
		s.eventually("it is sent away", func() bool { _, err := c.Ask(t.Context(), "GetUserInfo", nil); return err != nil })
	}
	_, err := s.Service.SetUsersKey(t.Context(), commands.SetUsersKey{ID: "acme", Key: "another-password"})
	s.ok(err)
	gone(c)
	s.asks(all, "GetUserInfo", nil)
	_, err = s.Service.SetUsersKey(t.Context(), commands.SetUsersKey{ID: domain.Master})
	s.ok(err)
	gone(all)
	if _, err := users.Dial(t.Context(), s.users("admin", "", instanceKey)); !errors.Is(err, users.ErrLogin) {
		t.Errorf("the instance's password was taken away: %v", err)
	}
}
