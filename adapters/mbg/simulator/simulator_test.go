package simulator_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ledgerline/adapters/mbg/oauth"
	"ledgerline/adapters/mbg/simulator"
)

// client speaks to a simulator without our client's code, but for the signature.
type client struct {
	t    *testing.T
	sim  *simulator.Simulator
	srv  *httptest.Server
	now  time.Time
	cred oauth.Credentials
}

func begin(t *testing.T, stateFile string) *client {
	t.Helper()
	c := &client{t: t, now: time.Date(2026, 3, 4, 10, 0, 0, 0, time.UTC), cred: oauth.Credentials{ConsumerKey: "c", ConsumerSecret: "s"}}
	var err error
	if c.sim, err = simulator.New(simulator.Options{Now: func() time.Time { return c.now }, StateFile: stateFile}); err != nil {
		t.Fatal(err)
	}
	c.srv = httptest.NewServer(c.sim)
	t.Cleanup(c.srv.Close)
	return c
}

func (c *client) do(action string, v map[string]string) {
	c.t.Helper()
	if err := c.sim.Do(action, v); err != nil {
		c.t.Fatal(err)
	}
}

// ask sends a signed request; change may spoil it.
func (c *client) ask(method, path, body string, o oauth.Options, change ...func(*http.Request)) (int, string) {
	c.t.Helper()
	r, err := http.NewRequest(method, c.srv.URL+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if o.Timestamp == 0 {
		o.Timestamp = c.now.Unix()
	}
	o.Version = true
	if _, _, err := oauth.Sign(r, nil, c.cred, o); err != nil {
		c.t.Fatal(err)
	}
	for _, f := range change {
		f(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// token goes through the exchange.
func (c *client) token() {
	c.t.Helper()
	take := func(body string) {
		pairs, err := oauth.ParsePairs(body)
		if err != nil || len(pairs) < 2 {
			c.t.Fatal(body, err)
		}
		c.cred.Token, c.cred.TokenSecret = pairs[0].Value, pairs[1].Value
	}
	c.cred.Token, c.cred.TokenSecret = "", ""
	_, body := c.ask("POST", "/oauth/request_token", "", oauth.Options{Callback: "oob"})
	take(body)
	c.do("approve", map[string]string{"verifier": "12345678"})
	_, body = c.ask("POST", "/oauth/access_token", "", oauth.Options{Verifier: "12345678"})
	take(body)
}

// Everything a gateway refuses, by its reason.
func TestRefusals(t *testing.T) {
	c := begin(t, "")
	refused := func(what string, status int, body, want string, wantStatus int) {
		t.Helper()
		if status != wantStatus || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want %d %s", what, status, body, wantStatus, want)
		}
	}
	status, body := c.ask("GET", "/api/v1/icps", "", oauth.Options{})
	refused("services stopped", status, body, "Not Found", 404)
	c.do("start", nil)
	status, body = c.ask("GET", "/api/v1/icps", "", oauth.Options{}, func(r *http.Request) { r.Header.Del("Authorization") })
	refused("not signed", status, body, "parameter_rejected", 400)
	status, body = c.ask("POST", "/oauth/request_token", "", oauth.Options{Callback: "oob"})
	refused("unknown consumer", status, body, "consumer_key_unknown", 401)
	c.do("consumer", map[string]string{"id": "c", "secret": "s", "active": "false"})
	status, body = c.ask("POST", "/oauth/request_token", "", oauth.Options{Callback: "oob"})
	refused("consumer not active", status, body, "consumer_key_refused", 401)
	c.do("consumer", map[string]string{"id": "c"})
	status, body = c.ask("POST", "/oauth/request_token", "", oauth.Options{Method: oauth.SHA256})
	refused("another method", status, body, "signature_method_rejected", 400)
	status, body = c.ask("POST", "/oauth/request_token", "", oauth.Options{}, func(r *http.Request) { r.URL.RawQuery = "x=1" })
	refused("changed on the way", status, body, "signature_invalid", 401)
	status, body = c.ask("GET", "/api/v1/icps", "", oauth.Options{})
	refused("no token", status, body, "token_rejected", 401)
	c.token()
	for what, at := range map[string]int64{"too old": c.now.Unix() - 301, "too new": c.now.Unix() + 301} {
		status, body = c.ask("GET", "/api/v1/icps", "", oauth.Options{Timestamp: at})
		refused(what, status, body, "timestamp_refused", 401)
	}
	status, _ = c.ask("GET", "/api/v1/icps", "", oauth.Options{Nonce: "n1"})
	refused("the first time", status, "", "", 200)
	status, body = c.ask("GET", "/api/v1/icps", "", oauth.Options{Nonce: "n1"})
	refused("the same nonce", status, body, "nonce_used", 401)
	status, body = c.ask("GET", "/api/v1/icps", "", oauth.Options{Timestamp: c.now.Unix() - 1})
	refused("time going back", status, body, "timestamp_refused", 401)
	c.do("icp", map[string]string{"id": "3", "address": "10.1.2.3"})
	for what, r := range map[string]struct {
		body, want string
		status     int
	}{
		"no such ICP":        {`{"set_side_username":"a","set_side_password":"Abcdef-123","icp":"9"}`, "unknown_icp", 422},
		"a weak password":    {`{"set_side_username":"a","set_side_password":"abc","icp":"3"}`, "weak_password", 422},
		"the name as secret": {`{"set_side_username":"Abcdef-123","set_side_password":"Abcdef-123","icp":"3"}`, "weak_password", 422},
		"no name":            {`{"set_side_password":"Abcdef-123","icp":"3"}`, "missing", 422},
		"no object":          {`[]`, "invalid", 400},
		"no JSON":            {`{`, "invalid", 400},
	} {
		status, body = c.ask("POST", "/api/v1/sip_users", r.body, oauth.Options{})
		refused(what, status, body, r.want, r.status)
	}
	c.do("consumer", map[string]string{"id": "c", "permissions": "Icps/read"})
	status, body = c.ask("GET", "/api/v1/sip_users", "", oauth.Options{})
	refused("permission missing", status, body, "SipUsers/read", 403)
	c.now = c.now.AddDate(1, 0, 0)
	status, body = c.ask("GET", "/api/v1/icps", "", oauth.Options{})
	refused("a year later", status, body, "token_expired", 401)
	c.do("renew", nil)
	status, _ = c.ask("GET", "/api/v1/icps", "", oauth.Options{})
	refused("renewed", status, "", "", 200)
	c.do("problems", map[string]string{"on": "false"})
	c.do("revoke", nil)
	status, body = c.ask("GET", "/api/v1/icps", "", oauth.Options{})
	if refused("revoked, without a word", status, body, "Unauthorized", 401); strings.Contains(body, "oauth_problem") {
		t.Error(body)
	}
}

// A record's life, as the product's page has it: blank ICP side takes the set side, a blank password keeps the old one,
// passwords are never read, names are unique, what a full write does not name is gone.
func TestRecords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	c := begin(t, file)
	c.do("start", nil)
	c.do("consumer", map[string]string{"id": "c", "secret": "s"})
	c.do("icp", map[string]string{"id": "3", "address": "10.1.2.3"})
	c.token()
	status, body := c.ask("POST", "/api/v1/sip_users", `{"set_side_username":"a","set_side_password":"Abcdef-123","icp":"3"}`, oauth.Options{})
	var made map[string]any
	if err := json.Unmarshal([]byte(body), &made); err != nil || status != 201 {
		t.Fatal(status, body)
	}
	id, _ := made["id"].(string)
	if _, shown := made["set_side_password"]; shown || made["icp_side_username"] != "a" || made["codec"] != "default" {
		t.Errorf("%v", made)
	}
	if u := c.sim.State().Users[0]; u.ICPPassword != "Abcdef-123" {
		t.Errorf("%+v", u)
	}
	if status, body := c.ask("POST", "/api/v1/sip_users", `{"set_side_username":"a","set_side_password":"Abcdef-124","icp":"3"}`, oauth.Options{}); status != 409 || !strings.Contains(body, "duplicate") {
		t.Error(status, body)
	}
	if status, _ := c.ask("PUT", "/api/v1/sip_users/"+id, `{"set_side_username":"a","set_side_password":"","icp":"3","icp_side_username":"4001"}`, oauth.Options{}); status != 200 {
		t.Error(status)
	}
	if u := c.sim.State().Users[0]; u.SetPassword != "Abcdef-123" || u.ICPUsername != "4001" || len(u.Extra) != 0 {
		t.Errorf("%+v", u)
	}
	// Started again it knows everything.
	again := begin(t, file)
	again.cred, again.now = c.cred, c.now
	if status, body := again.ask("GET", "/api/v1/sip_users?set_side_username=a", "", oauth.Options{}); status != 200 || !strings.Contains(body, "4001") {
		t.Error(status, body)
	}
	again.do("snapshot", nil)
	if status, _ := again.ask("DELETE", "/api/v1/sip_users/"+id, "", oauth.Options{}); status != 204 {
		t.Error(status)
	}
	if status, _ := again.ask("DELETE", "/api/v1/sip_users/"+id, "", oauth.Options{}); status != 404 {
		t.Error(status)
	}
	again.do("restore", nil)
	if len(again.sim.State().Users) != 1 {
		t.Error("not restored")
	}
	if err := again.sim.Do("nosuch", nil); err == nil {
		t.Error("an action that is none")
	}
	if err := again.sim.Do("fault", map[string]string{"kind": "nosuch"}); err == nil {
		t.Error("a fault that is none")
	}
}

// What is guessed is marked as guessed.
func TestFidelity(t *testing.T) {
	marks := map[string]int{}
	for _, b := range simulator.Fidelity {
		marks[b.Mark]++
		if b.What == "" {
			t.Error("an empty row")
		}
	}
	if marks["D"] == 0 || marks["I"] == 0 || marks["P"] == 0 || len(marks) != 3 {
		t.Errorf("%v", marks)
	}
}
