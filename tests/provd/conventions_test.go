package provd_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"ledgerline/adapters/provd"
)

// Index pages name the parts of the interface by paths.
func TestIndexPages(t *testing.T) {
	s := newStand(t)
	for path, want := range map[string]string{
		"":                        "dev=/0.2/dev_mgr cfg=/0.2/cfg_mgr pg=/0.2/pg_mgr status=/0.2/status srv.configure=/0.2/configure",
		"/dev_mgr":                "dev.synchronize=/0.2/dev_mgr/synchronize dev.reconfigure=/0.2/dev_mgr/reconfigure dev.dhcpinfo=/0.2/dev_mgr/dhcpinfo dev.devices=/0.2/dev_mgr/devices",
		"/cfg_mgr":                "cfg.configs=/0.2/cfg_mgr/configs cfg.autocreate=/0.2/cfg_mgr/autocreate",
		"/pg_mgr":                 "srv.install=/0.2/pg_mgr/install pg.plugins=/0.2/pg_mgr/plugins pg.reload=/0.2/pg_mgr/reload",
		"/pg_mgr/install":         "srv.install.install=/0.2/pg_mgr/install/install srv.install.uninstall=/0.2/pg_mgr/install/uninstall srv.install.installed=/0.2/pg_mgr/install/installed srv.install.installable=/0.2/pg_mgr/install/installable srv.install.upgrade=/0.2/pg_mgr/install/upgrade srv.install.update=/0.2/pg_mgr/install/update",
		"/pg_mgr/plugins/yealink": "pg.info=/0.2/pg_mgr/plugins/yealink/info",
	} {
		var page struct {
			Links []struct{ Rel, Href string }
		}
		r := s.must(200, "GET", path, nil)
		if err := json.Unmarshal(r.body, &page); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range page.Links {
			got = append(got, l.Rel+"="+l.Href)
		}
		if strings.Join(got, " ") != want && !(path == "/pg_mgr/plugins/yealink" && strings.HasPrefix(strings.Join(got, " "), want)) {
			t.Errorf("%s links to %s", path, strings.Join(got, " "))
		}
	}
	s.must(404, "GET", "/pg_mgr/plugins/yealink/configure", nil) // the page has no srv.configure, for the plugin has no parameters
}

// The order of checks: path, method, token and tenant, permission, types, body, meaning.
func TestOrderOfChecks(t *testing.T) {
	s := newStand(t)
	wrongType, wrongAccept := with("Content-Type", "application/json"), with("Accept", "text/html")
	nobody := as("nobody")
	for _, c := range []struct {
		what, method, path string
		body               any
		opts               []func(*http.Request)
		status             int
	}{
		{"an unknown path, with a bad token", "GET", "/nothing", nil, []func(*http.Request){nobody}, 404},
		{"a trailing slash", "GET", "/dev_mgr/devices/", nil, nil, 404},
		{"a doubled slash", "GET", "/dev_mgr//devices", nil, nil, 404},
		{"an unknown plugin, with a bad token", "GET", "/pg_mgr/plugins/nobody-s/info", nil, []func(*http.Request){nobody}, 404},
		{"an unknown plugin's packages, with a bad token", "GET", "/pg_mgr/plugins/nobody-s/install/installed", nil, []func(*http.Request){nobody}, 404},
		{"an unknown device, with a bad token", "GET", "/dev_mgr/devices/unknown", nil, []func(*http.Request){nobody}, 401},
		{"an unknown config, with a bad token", "GET", "/cfg_mgr/configs/unknown", nil, []func(*http.Request){nobody}, 401},
		{"an unknown method, with a bad token", "DELETE", "/dev_mgr/devices", nil, []func(*http.Request){nobody}, 405},
		{"a verb nobody knows", "BREW", "/dev_mgr/devices", nil, nil, 501},
		{"no token", "GET", "/dev_mgr/devices", nil, []func(*http.Request){as("")}, 401},
		{"a bad token", "GET", "/dev_mgr/devices", nil, []func(*http.Request){nobody}, 401},
		{"a bad token and a wrong type", "POST", "/dev_mgr/devices", "{}", []func(*http.Request){nobody, wrongType}, 401},
		{"a tenant that is not the token's", "GET", "/dev_mgr/devices", nil, []func(*http.Request){as(sub1Token), in(subTenant2)}, 401},
		{"a tenant nobody knows", "GET", "/dev_mgr/devices", nil, []func(*http.Request){in("11111111-2222-3333-4444-555555555555")}, 401},
		{"a permission that is missing", "GET", "/dev_mgr/devices", nil, []func(*http.Request){as(weakToken)}, 401},
		{"a permission that is there", "GET", "/status", nil, []func(*http.Request){as(weakToken)}, 200},
		{"a permission that is missing and a wrong type", "POST", "/cfg_mgr/configs", "{}", []func(*http.Request){as(weakToken), wrongType}, 401},
		{"an answer nobody takes", "GET", "/dev_mgr/devices", nil, []func(*http.Request){wrongAccept}, 406},
		{"another type of body", "POST", "/dev_mgr/devices", "{}", []func(*http.Request){wrongType}, 415},
		{"the right type with a parameter", "POST", "/dev_mgr/devices", "{}", []func(*http.Request){with("Content-Type", provd.MediaType+"; charset=utf-8")}, 415},
		{"no type", "POST", "/cfg_mgr/autocreate", "{}", []func(*http.Request){with("Content-Type", "")}, 415},
		{"a wrong type and a body that is no JSON", "PUT", "/dev_mgr/devices/x", "{", []func(*http.Request){wrongType}, 415},
		{"a body that is no JSON", "POST", "/dev_mgr/devices", "{", nil, 400},
		{"a body that is a list", "POST", "/dev_mgr/devices", "[]", nil, 400},
		{"two bodies", "POST", "/dev_mgr/devices", "{}{}", nil, 400},
		{"a body that is no JSON, for an unknown device", "PUT", "/dev_mgr/devices/unknown", "{", nil, 400},
		{"a body without the device", "POST", "/dev_mgr/devices", "{}", nil, 400},
		{"an unknown query parameter", "GET", "/dev_mgr/devices?what=ever", nil, nil, 200},
	} {
		if r := s.ask(c.method, c.path, c.body, c.opts...); r.StatusCode != c.status {
			t.Errorf("%s: %d (%.100s), not %d", c.what, r.StatusCode, r.body, c.status)
		}
	}
	for _, accept := range []string{"", "*/*", "application/*", provd.MediaType, "text/html, */*;q=0.8"} {
		if r := s.ask("GET", "/dev_mgr/devices", nil, with("Accept", accept)); r.StatusCode != 200 {
			t.Errorf("Accept: %s answers %d", accept, r.StatusCode)
		}
	}
}

// Answers are compact JSON of the one type; errors are one line of text.
func TestFormOfAnswers(t *testing.T) {
	s := newStand(t)
	id := s.device(object{"mac": "00:11:22:33:44:55"})
	for _, r := range []reply{s.must(200, "GET", "/dev_mgr/devices", nil), s.must(200, "GET", "/dev_mgr/devices/"+id, nil),
		s.must(201, "POST", "/dev_mgr/devices", object{"device": object{}})} {
		if r.Header.Get("Content-Type") != provd.MediaType || strings.ContainsAny(string(r.body), "\n\t") {
			t.Errorf("%s: %s", r.Header.Get("Content-Type"), r.body)
		}
	}
	missing := s.must(404, "GET", "/dev_mgr/devices/unknown", nil)
	if string(missing.body) != "No such resource" || !strings.HasPrefix(missing.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("a missing thing answers %q as %s", missing.body, missing.Header.Get("Content-Type"))
	}
	refused := s.must(401, "GET", "/dev_mgr/devices", nil, as("nobody"))
	if string(refused.body) != "Unauthorized" {
		t.Errorf("a bad token answers %q", refused.body)
	}
	if bad := s.must(400, "POST", "/dev_mgr/devices", object{"device": object{"mac": "x"}}); strings.Contains(string(bad.body), "\n") || len(bad.body) == 0 {
		t.Errorf("bad input answers %q", bad.body)
	}
}

// Browsers may ask from anywhere: OPTIONS needs no token, and every answer carries the headers.
func TestCORS(t *testing.T) {
	s := newStand(t)
	want := map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
		"Access-Control-Allow-Headers":     "Origin, X-Requested-With, Accept, Content-Type, X-Auth-Token, Wazo-Tenant",
		"Access-Control-Allow-Credentials": "false", "Access-Control-Expose-Headers": "Location"}
	for what, r := range map[string]reply{
		"options": s.must(200, "OPTIONS", "/dev_mgr/devices", nil, as("")), "options of a device": s.must(200, "OPTIONS", "/dev_mgr/devices/x", nil, as("")),
		"a list": s.must(200, "GET", "/dev_mgr/devices", nil), "a refusal": s.must(401, "GET", "/dev_mgr/devices", nil, as("")),
		"what is missing": s.must(404, "GET", "/dev_mgr/devices/x", nil), "what is made": s.must(201, "POST", "/dev_mgr/devices", object{"device": object{}}),
	} {
		for k, v := range want {
			if r.Header.Get(k) != v {
				t.Errorf("%s: %s is %q", what, k, r.Header.Get(k))
			}
		}
		if r.Request.Method == "OPTIONS" && len(r.body) > 0 {
			t.Errorf("%s has a body: %s", what, r.body)
		}
	}
}

// HEAD works wherever GET does, and has no body.
func TestHead(t *testing.T) {
	s := newStand(t)
	id, config := s.device(object{}), s.config(object{"parent_ids": []string{}, "raw_config": object{}})
	for _, path := range []string{"", "/dev_mgr", "/dev_mgr/devices", "/dev_mgr/devices/" + id, "/cfg_mgr/configs/" + config, "/cfg_mgr/configs/" + config + "/raw",
		"/status", "/configure", "/configure/NAT", "/pg_mgr/plugins", "/pg_mgr/install/installed", "/api/api.yml"} {
		got, head := s.ask("GET", path, nil), s.ask("HEAD", path, nil)
		if got.StatusCode != 200 || head.StatusCode != 200 || len(head.body) != 0 || head.Header.Get("Content-Type") != got.Header.Get("Content-Type") {
			t.Errorf("%s: GET %d, HEAD %d with %d bytes", path, got.StatusCode, head.StatusCode, len(head.body))
		}
	}
	s.must(405, "HEAD", "/dev_mgr/synchronize", nil)
}

// The status tells that the interface and the bus are all right.
func TestStatus(t *testing.T) {
	s := newStand(t)
	st := s.must(200, "GET", "/status", nil).json(t)
	bus, _ := st["bus_consumer"].(object)
	if st["rest_api"] != "ok" || bus["status"] != "ok" {
		t.Errorf("status is %v", st)
	}
}

// When the token service cannot be reached, the answer says that it will be back, and phones notice nothing.
func TestTokenServiceDown(t *testing.T) {
	s := newStand(t)
	s.device(object{"mac": "00:15:65:00:00:01", "plugin": "yealink"})
	hang := make(chan struct{})
	s.auth.change(func() { s.auth.hang = hang })
	answered := make(chan int, 1)
	go func() {
		r, err := http.NewRequest("GET", s.base+"/dev_mgr/devices", nil)
		if err != nil {
			answered <- 0
			return
		}
		r.Header.Set("X-Auth-Token", mainToken)
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			answered <- 0
			return
		}
		_ = a.Body.Close()
		answered <- a.StatusCode
	}()
	if status, _ := s.fetch("/001565000001.cfg", "Yealink SIP-T54W 96.86.0.70 00:15:65:00:00:01"); status != 200 {
		t.Errorf("a phone gets %d while the token service hangs", status)
	}
	select {
	case status := <-answered:
		t.Errorf("the interface answered %d without asking the token service", status)
	default:
	}
	close(hang)
	if status := <-answered; status != 200 {
		t.Errorf("once it answers again, the call gets %d", status)
	}
}
