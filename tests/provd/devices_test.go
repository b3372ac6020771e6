package provd_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"ledgerline/domain"
)

// A device is made, read, changed and deleted; its Location is a path the client library can take apart.
func TestDeviceLife(t *testing.T) {
	s := newStand(t)
	made := s.must(201, "POST", "/dev_mgr/devices", object{"device": object{"id": "desk-1", "mac": "00-11-22-33-44-55", "ip": "10.0.0.7", "vendor": "Yealink",
		"model": "T54W", "version": "96.86.0.70", "plugin": nil, "description": "front desk", "options": object{"switchboard": true}, "X_note": []any{1, "a"},
		"configured": true, "tenant_uuid": subTenant2, "is_new": false}})
	if at := made.Header.Get("Location"); at != "/0.2/dev_mgr/devices/desk-1" {
		t.Errorf("Location is %q", at)
	}
	if made.json(t)["id"] != "desk-1" {
		t.Errorf("it answers %s", made.body)
	}
	doc := s.deviceDoc("desk-1")
	want := object{"id": "desk-1", "mac": "00:11:22:33:44:55", "ip": "10.0.0.7", "vendor": "Yealink", "model": "T54W", "version": "96.86.0.70", "plugin": nil,
		"description": "front desk", "options": object{"switchboard": true}, "X_note": []any{1.0, "a"}, "configured": false, "tenant_uuid": mainTenant, "is_new": true}
	equal(t, "the device made", doc, want)

	// PUT replaces the whole document; the id comes from the path.
	s.must(204, "PUT", "/dev_mgr/devices/desk-1", object{"device": object{"id": "other", "mac": "00:11:22:33:44:66", "sn": "S1", "uuid": "u-1"}})
	equal(t, "the device replaced", s.deviceDoc("desk-1"), object{"id": "desk-1", "mac": "00:11:22:33:44:66", "sn": "S1", "uuid": "u-1", "configured": false,
		"tenant_uuid": mainTenant, "is_new": true})

	s.must(204, "DELETE", "/dev_mgr/devices/desk-1", nil)
	s.must(404, "GET", "/dev_mgr/devices/desk-1", nil)
	s.must(404, "DELETE", "/dev_mgr/devices/desk-1", nil)
	s.must(404, "PUT", "/dev_mgr/devices/desk-1", object{"device": object{}})
	// Deleted, its id is free again, and nothing of the former device is left.
	s.device(object{"id": "desk-1"})
	equal(t, "the next device of that id", s.deviceDoc("desk-1"), object{"id": "desk-1", "configured": false, "tenant_uuid": mainTenant, "is_new": true})
}

// The server picks 32 hex digits when no id is given.
func TestDeviceWithoutID(t *testing.T) {
	s := newStand(t)
	for _, doc := range []object{{}, {"id": nil}} {
		if id := s.device(doc); !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
			t.Errorf("the id is %q", id)
		}
	}
}

// Bad input: 400 for a POST, 500 for a PUT; an id that could escape is refused, and nothing is left behind.
func TestBadDevices(t *testing.T) {
	s := newStand(t)
	s.device(object{"id": "there"})
	for _, id := range []string{`*&!"/invalid _`, "../up", "a/b", "", ".", "..", strings.Repeat("a", 65), "x.2"} {
		s.must(400, "POST", "/dev_mgr/devices", object{"device": object{"id": id}})
	}
	s.must(400, "POST", "/dev_mgr/devices", object{"device": object{"id": "there"}})
	s.must(400, "POST", "/dev_mgr/devices", object{"device": object{"id": 5}})
	for _, doc := range []object{{"mac": "00:11:22:33:44"}, {"mac": "zz:11:22:33:44:55"}, {"mac": 5}, {"ip": "10.0.0"}, {"ip": "10.0.0.256"}, {"ip": 7}} {
		s.must(400, "POST", "/dev_mgr/devices", object{"device": doc})
		s.must(500, "PUT", "/dev_mgr/devices/there", object{"device": doc})
	}
	if ids := s.list("/dev_mgr/devices"); len(ids) != 1 {
		t.Errorf("devices are %v", ids)
	}
}

// Two devices may carry one MAC or address; a device may name a plugin or a config that does not exist.
func TestLooseDevices(t *testing.T) {
	s := newStand(t)
	for range 3 {
		s.device(object{"mac": "00:11:22:33:44:55", "ip": "10.0.0.7"})
	}
	id := s.device(object{"plugin": "nobody-s", "config": "nowhere"})
	doc := s.deviceDoc(id)
	if doc["plugin"] != "nobody-s" || doc["config"] != "nowhere" || doc["configured"] != false {
		t.Errorf("it became %v", doc)
	}
	if n := len(s.list(`/dev_mgr/devices?q={"mac":"00:11:22:33:44:55"}`)); n != 3 {
		t.Errorf("%d devices carry the address", n)
	}
}

// configured is the server's: true when plugin and config are there, false as soon as one is gone.
func TestConfigured(t *testing.T) {
	s := newStand(t)
	s.config(object{"id": "c", "parent_ids": []string{}, "raw_config": object{"sip_lines": object{"1": object{"username": "u", "password": "p", "proxy_ip": "10.0.0.1"}}}})
	id := s.device(object{"mac": "00:15:65:00:00:02", "plugin": "yealink", "config": "c"})
	configured := func(want bool, when string) {
		t.Helper()
		if got := s.deviceDoc(id)["configured"]; got != want {
			t.Errorf("%s: configured is %v", when, got)
		}
	}
	configured(true, "made")
	s.must(204, "PUT", "/dev_mgr/devices/"+id, object{"device": object{"mac": "00:15:65:00:00:02", "plugin": "nobody-s", "config": "c"}})
	configured(false, "with an unknown plugin")
	s.must(204, "PUT", "/dev_mgr/devices/"+id, object{"device": object{"mac": "00:15:65:00:00:02", "plugin": "yealink", "config": "c", "configured": false}})
	configured(true, "with the plugin again")
	s.must(204, "DELETE", "/cfg_mgr/configs/c", nil)
	configured(false, "without its config")
}

// Who sees what: a list shows the request's tenant, with recurse also those below; another tenant's device is as
// unknown as one that does not exist.
func TestTenantsOfDevices(t *testing.T) {
	s := newStand(t)
	main := s.device(object{})
	one := s.device(object{}, in(subTenant1))
	two := s.device(object{}, as(sub2Token))
	below := s.device(object{}, in(subSub))
	for id, tenant := range map[string]string{main: mainTenant, one: subTenant1, two: subTenant2, below: subSub} {
		doc := s.deviceDoc(id)
		if doc["tenant_uuid"] != tenant || doc["is_new"] != (tenant == mainTenant) {
			t.Errorf("a device of %s is of %v, new: %v", tenant, doc["tenant_uuid"], doc["is_new"])
		}
	}
	lists := func(want []string, path string, opts ...func(*http.Request)) {
		t.Helper()
		if got := s.list(path, opts...); !sameSet(got, want) {
			t.Errorf("%s lists %v, not %v", path, got, want)
		}
	}
	lists([]string{main}, "/dev_mgr/devices")
	lists([]string{main}, "/dev_mgr/devices?recurse=false")
	lists([]string{main, one, two, below}, "/dev_mgr/devices?recurse=true")
	lists([]string{main, one, two, below}, "/dev_mgr/devices?recurse=True")
	lists([]string{one}, "/dev_mgr/devices", in(subTenant1))
	lists([]string{one, below}, "/dev_mgr/devices?recurse=true", as(sub1Token))
	lists([]string{two}, "/dev_mgr/devices?recurse=true", as(sub2Token))

	for _, path := range []string{"/dev_mgr/devices/" + main, "/dev_mgr/devices/" + two} {
		s.must(404, "GET", path, nil, as(sub1Token))
		s.must(404, "DELETE", path, nil, as(sub1Token))
	}
	s.must(200, "GET", "/dev_mgr/devices/"+below, nil, as(sub1Token))
	s.must(404, "PUT", "/dev_mgr/devices/"+two, object{"device": object{}}, as(sub1Token))
	s.must(404, "POST", "/dev_mgr/synchronize", object{"id": two}, as(sub1Token))
	s.must(400, "POST", "/dev_mgr/reconfigure", object{"id": two}, as(sub1Token))
	s.must(204, "POST", "/dev_mgr/reconfigure", object{"id": below}, as(sub1Token))
	s.must(204, "DELETE", "/dev_mgr/devices/"+below, nil, as(sub1Token))
}

// A new device moves to the tenant of whoever changes it; one that has left the master tenant stays where it is,
// whatever the body says.
func TestDevicesMoveOnce(t *testing.T) {
	s := newStand(t)
	id := s.device(object{"description": "a"})
	s.must(204, "PUT", "/dev_mgr/devices/"+id, object{"device": object{"description": "b"}}, as(sub1Token))
	if doc := s.deviceDoc(id); doc["tenant_uuid"] != subTenant1 || doc["is_new"] != false || doc["description"] != "b" {
		t.Fatalf("it became %v", doc)
	}
	s.must(204, "PUT", "/dev_mgr/devices/"+id, object{"device": object{"description": "c", "tenant_uuid": mainTenant}})
	s.must(204, "PUT", "/dev_mgr/devices/"+id, object{"device": object{"description": "c"}})
	s.must(204, "PUT", "/dev_mgr/devices/"+id, object{"device": object{"description": "d", "tenant_uuid": subTenant2}}, in(subTenant1))
	s.must(404, "PUT", "/dev_mgr/devices/"+id, object{"device": object{"description": "e"}}, as(sub2Token))
	if doc := s.deviceDoc(id); doc["tenant_uuid"] != subTenant1 || doc["description"] != "d" {
		t.Errorf("it became %v", doc)
	}
}

// The same document again does nothing: the device's history does not grow.
func TestUnchangedDevice(t *testing.T) {
	s := newStand(t)
	s.config(object{"id": "c", "parent_ids": []string{}, "raw_config": object{}})
	doc := object{"mac": "00:15:65:00:00:03", "ip": "10.0.0.3", "plugin": "yealink", "config": "c", "options": object{"a": 1}, "description": "x"}
	id := s.device(doc)
	events := func() int {
		n := 0
		for r, err := range s.rig.Ledger.Read(t.Context(), domain.DeviceID(id).Stream(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(r.Type, "device.config_") {
				n++
			}
		}
		return n
	}
	before := events()
	for range 3 {
		s.must(204, "PUT", "/dev_mgr/devices/"+id, object{"device": doc})
	}
	if after := events(); after != before {
		t.Errorf("%d events became %d", before, after)
	}
}

// Synchronizing answers 201 and an operation, also for a device that cannot be reached.
func TestSynchronize(t *testing.T) {
	s := newStand(t)
	id := s.device(object{})
	s.must(400, "POST", "/dev_mgr/synchronize", object{})
	s.must(404, "POST", "/dev_mgr/synchronize", object{"id": "unknown"})
	made := s.must(201, "POST", "/dev_mgr/synchronize", object{"id": id})
	at := made.Header.Get("Location")
	if !regexp.MustCompile(`^/0\.2/dev_mgr/synchronize/[0-9a-z]+$`).MatchString(at) {
		t.Fatalf("Location is %q", at)
	}
	path := strings.TrimPrefix(at, "/0.2")
	s.eventually("the operation fails: nothing serves the device", func() bool {
		return s.must(200, "GET", path, nil).json(t)["status"] == "fail"
	})
	s.must(204, "DELETE", path, nil)
	s.must(404, "GET", path, nil)
	s.must(404, "DELETE", path, nil)
}

func TestReconfigure(t *testing.T) {
	s := newStand(t)
	s.must(400, "POST", "/dev_mgr/reconfigure", object{})
	s.must(400, "POST", "/dev_mgr/reconfigure", object{"id": "unknown"})
	s.must(204, "POST", "/dev_mgr/reconfigure", object{"id": s.device(object{})})
	s.must(204, "POST", "/dev_mgr/reconfigure", object{"id": s.device(object{"mac": "00:15:65:00:00:04", "plugin": "yealink"})})
}

// A lease tells of a phone: one that a plugin knows becomes a device of the master tenant.
func TestDHCPInfo(t *testing.T) {
	s := newStand(t)
	info := func(doc object) object { return object{"dhcp_info": doc} }
	for _, doc := range []object{
		{"op": "commit", "ip": "10.0.0.9", "mac": "00:15:65:00:00:09"},
		{"op": "commit", "ip": "10.0.0", "mac": "00:15:65:00:00:09", "options": []string{}},
		{"op": "commit", "ip": "10.0.0.9", "mac": "00:15:65:00:00", "options": []string{}},
		{"op": "commit", "ip": "10.0.0.9", "options": []string{}},
		{"op": "commit", "ip": "10.0.0.9", "mac": "00:15:65:00:00:09", "options": []string{"06041.6"}, "x": 1, "y": nil}, // a digit alone is a byte
		{"op": "else", "ip": "10.0.0.9", "mac": "00:15:65:00:00:09", "options": []string{}},
		{"ip": "10.0.0.9"},
	} {
		status := 400
		if doc["x"] != nil {
			status = 204
		}
		s.must(status, "POST", "/dev_mgr/dhcpinfo", info(doc))
	}
	s.must(400, "POST", "/dev_mgr/dhcpinfo", object{})
	for _, bad := range []string{"", "06", "0x041", "060zz", "99941.62", "06041.62."} {
		s.must(400, "POST", "/dev_mgr/dhcpinfo", info(object{"op": "commit", "ip": "10.0.0.9", "mac": "00:15:65:00:00:09", "options": []string{bad}}))
	}
	for _, op := range []string{"expiry", "release"} {
		s.must(204, "POST", "/dev_mgr/dhcpinfo", info(object{"op": op, "ip": "10.0.0.9"}))
	}
	s.must(204, "POST", "/dev_mgr/dhcpinfo", info(object{"op": "commit", "ip": "10.0.0.9", "mac": "00:15:65:00:00:09", "options": []string{}}))
	if ids := s.list("/dev_mgr/devices"); len(ids) != 0 {
		t.Errorf("a lease without a vendor made %v", ids)
	}
	// Option 60: "yealink".
	s.must(204, "POST", "/dev_mgr/dhcpinfo", info(object{"op": "commit", "ip": "10.0.0.9", "mac": "00:15:65:00:00:09",
		"options": []string{"06079.65.61.6c.69.6e.6b", "012"}}), as(mainToken))
	ids := s.list(`/dev_mgr/devices?q={"mac":"00:15:65:00:00:09"}`)
	if len(ids) != 1 {
		t.Fatalf("devices are %v", ids)
	}
	if doc := s.deviceDoc(ids[0]); doc["added"] != "auto" || doc["vendor"] != "Yealink" || doc["plugin"] != "yealink" || doc["is_new"] != true {
		t.Errorf("it became %v", doc)
	}
}
