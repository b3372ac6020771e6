package httpapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"ledgerline/commands"
	"ledgerline/domain"
)

// pages are the web servers of devices that are all connected, but for those that are off.
type pages struct {
	mu    sync.Mutex
	off   bool
	asked []string
}

func (p *pages) Connected(domain.DeviceID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.off
}

func (p *pages) Fetch(_ context.Context, id domain.DeviceID, method, path string, body []byte) (int, []byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off {
		return 0, nil, commands.ErrOffline
	}
	p.asked = append(p.asked, method+" "+path+" "+string(body))
	return http.StatusOK, []byte("<html><script>alert(1)</script>" + string(id)), nil
}

func (p *pages) Configure(context.Context, domain.DeviceID, []json.RawMessage) error { return nil }

// A device's page reaches the device as it was written, and a browser as something that can do nothing. Who looked is on
// record, what was in the query is not.
func TestPassthrough(t *testing.T) {
	o := open(t)
	there := &pages{}
	o.Service.Sysclients = there
	base := "/devices/" + string(phones["acme"]) + "/passthrough"
	get := func(method, path, kind, body, token string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequest(method, "/api/v1"+path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("X-Reason", "because")
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		o.handler.ServeHTTP(w, r)
		return w
	}
	operator := o.tokens["acme/operator"]
	w := get("GET", base+"/LOG0/mod_cmd.xml?cmd=xml-alarms&dry_run=1&pw=canary-sip-password", "", "", operator)
	if w.Code != 200 || !strings.Contains(w.Header().Get("Content-Security-Policy"), "sandbox;") || w.Header().Get("X-Content-Type-Options") != "nosniff" ||
		w.Header().Get("Content-Type") != "text/xml" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := get("GET", base+"/!config%20write", "", "", operator); w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := get("POST", base+"/CMD0/mod_cmd.xml", "application/x-www-form-urlencoded", "a=1&b=canary-admin-pw", operator); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	want := []string{"GET /LOG0/mod_cmd.xml?cmd=xml-alarms&dry_run=1&pw=canary-sip-password ", "GET /!config%20write ", "POST /CMD0/mod_cmd.xml a=1&b=canary-admin-pw"}
	if strings.Join(there.asked, "\n") != strings.Join(want, "\n") {
		t.Errorf("the device was asked %q", there.asked)
	}
	seen := 0
	for _, r := range o.Log.Events() {
		if strings.Contains(string(r.Data), "canary-") {
			t.Errorf("%s: %s", r.Type, r.Data)
		}
		if r.Type == "device.page_requested" || r.Type == "device.page_answered" {
			seen++
			if m, err := r.Meta(); err != nil || !strings.HasPrefix(m.Actor, "apikey:") || m.Reason != "because" {
				t.Errorf("%s by %q because %q", r.Type, m.Actor, m.Reason)
			}
		}
	}
	if seen != 6 {
		t.Errorf("%d events of three pages", seen)
	}
	for token, status := range map[string]int{o.tokens["acme/helpdesk"]: 403, o.tokens["acme/auditor"]: 403, o.tokens["globex/operator"]: 404} {
		if w := get("GET", base+"/admin.xml", "", "", token); w.Code != status {
			t.Errorf("%d, want %d", w.Code, status)
		}
	}
	there.off = true
	if w := get("GET", base+"/admin.xml", "", "", operator); w.Code != 409 || !strings.Contains(w.Body.String(), `"offline"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if v := o.ask(o.root, "GET", "/devices/"+string(phones["acme"]), nil).want(t, 200); v["sysclient"] != nil {
		t.Errorf("a phone that is no sysclient shows %v", v["sysclient"])
	}
}
