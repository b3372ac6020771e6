package softphone_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"ledgerline/adapters/softphone"
	"ledgerline/commands"
)

// The services besides provisioning refuse what the others refuse, alike, and never with the logout status.
func TestServicesRefuse(t *testing.T) {
	for _, service := range []string{"contacts", "balance", "push"} {
		r := start(t)
		token := r.signIn()
		ask := func(pairs ...string) int {
			t.Helper()
			return r.post(service, append([]string{"cloud_password", token, "pushTokenOther", "canary-push"}, pairs...)...).Code
		}
		for what, c := range map[string]struct {
			pairs []string
			want  int
		}{
			"a password, though the right one": {[]string{"cloud_password", password}, 403},
			"a token that is none":             {[]string{"cloud_password", token[:len(token)-1] + "-"}, 403},
			"another tenant's cloud ID":        {[]string{"cloud_id", "GLOBEX"}, 403},
			"no cloud ID that is known":        {[]string{"cloud_id", "NOBODY"}, 404},
			"no cloud ID":                      {[]string{"cloud_id", ""}, 400},
			"a placeholder":                    {[]string{"cloud_password", "%account[cloud_password]%"}, 400},
		} {
			if got := ask(c.pairs...); got != c.want {
				t.Errorf("%s with %s: %d", service, what, got)
			}
		}
		for range 10 {
			ask("cloud_password", "llsp_wrong")
		}
		if got := ask("cloud_password", "llsp_wrong"); got != http.StatusTooManyRequests {
			t.Errorf("%s: %d after many wrong tokens", service, got)
		}
		r.client.Private = false
		if got := ask(); got != 403 {
			t.Errorf("%s in clear text: %d", service, got)
		}
		r.client.Private = true
		if w := r.send(http.MethodDelete, "/softphone/v1/"+service, "", ""); w.Code != 405 {
			t.Errorf("%s: %d", service, w.Code)
		}
		if _, err := r.Service.SignOutSoftphone(t.Context(), commands.SignOutSoftphone{ID: "p1"}); err != nil {
			t.Fatal(err)
		}
		if got := ask(); got != 403 {
			t.Errorf("%s with a dead token: %d", service, got)
		}
		if r.count("softphone.push_token_reported") != 0 {
			t.Error("recorded for an app that was refused")
		}
		r.handler = softphone.New(softphone.Options{Provisioner: failing{&commands.SoftphoneError{Err: errors.New("down"), FailOpen: true}}, Client: func(context.Context) softphone.Client { return r.client }})
		if got := ask(); got != 503 {
			t.Errorf("%s while the stores are down: %d", service, got)
		}
	}
}

// What an app does not fill in is no token, older names count where the newer are missing, and a report without any is told so.
func TestReportsOfPushTokens(t *testing.T) {
	r := start(t)
	token := r.signIn()
	report := func(pairs ...string) int {
		t.Helper()
		return r.post("push", append([]string{"cloud_password", token}, pairs...)...).Code
	}
	for _, c := range []struct {
		pairs  []string
		status int
		events int
	}{
		{nil, 400, 0},
		{[]string{"pushToken", "%pushToken%", "pushTokenOther", "%pushTokenOther%"}, 400, 0},
		{[]string{"pushToken", strings.Repeat("x", 600)}, 400, 0},
		{[]string{"pushToken", "canary-old", "pushTokenIncomingCall", "%pushTokenIncomingCall%"}, 204, 1},
		{[]string{"pushTokenIncomingCall", "canary-old"}, 204, 1}, // the same by its newer name
		{[]string{"pushTokenIncomingCall", "canary-new", "selector", "ab:1"}, 204, 2},
	} {
		if got := report(c.pairs...); got != c.status || r.count("softphone.push_token_reported") != c.events {
			t.Errorf("%q: %d, %d on record", c.pairs, got, r.count("softphone.push_token_reported"))
		}
	}
	if data := string(r.last("softphone.push_token_reported")); strings.Contains(data, "canary") || !strings.Contains(data, "fingerprint") {
		t.Error(data)
	}
}
