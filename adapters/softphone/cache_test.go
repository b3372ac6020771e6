package softphone_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ledgerline/adapters/softphone"
	"ledgerline/commands"
	"ledgerline/domain"
)

// counted is how many documents came from where: the labels' values joined by blanks.
func counted(t *testing.T, g prometheus.Gatherer) map[string]int {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int)
	for _, f := range families {
		if f.GetName() != "ledgerline_softphone_answers_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			got[strings.Join(labels, " ")] = int(m.GetCounter().GetValue())
		}
	}
	return got
}

// An unchanged answer is read from the log once; whatever it follows from, a change of it is in the very next answer.
func TestAnswersAreKept(t *testing.T) {
	ctx := t.Context()
	doc := func(key, value string) domain.SoftphoneDocument {
		return domain.SoftphoneDocument{Nodes: map[string]string{"host": "sip.acme.example", key: value}, QuickDials: []domain.QuickDial{{ID: "q", DisplayName: value, URI: "1"}}}
	}
	for name, c := range map[string]struct {
		change  func(r *rig) error
		account string // in the next account; empty: it is refused
		global  string
		status  int
	}{
		"softphone": {func(r *rig) error {
			_, _, err := r.Service.AmendSoftphone(ctx, commands.AmendSoftphone{ID: "p1", LineID: "l1", Document: doc("X-a", "new-own")})
			return err
		}, "new-own", "new-own", 0},
		"cloud ID": {func(r *rig) error {
			_, _, err := r.Service.AmendCloudID(ctx, commands.AmendCloudID{ID: "acme", Document: doc("X-a", "new-shared")})
			return err
		}, "new-shared", "new-shared", 0},
		"SIP password": {func(r *rig) error {
			_, err := r.Service.RotateLineSecret(ctx, commands.RotateLineSecret{ID: "l1", Password: "rotated-1"})
			return err
		}, "rotated-1", "", 0},
		"user's name": {func(r *rig) error {
			_, err := r.Service.AmendUser(ctx, commands.AmendUser{ID: "ana", DisplayName: "Renamed"})
			return err
		}, "Renamed", "", 0},
		"sign-out": {func(r *rig) error {
			_, err := r.Service.SignOutSoftphone(ctx, commands.SignOutSoftphone{ID: "p1"})
			return err
		}, "", "", http.StatusGone},
		"removal": {func(r *rig) error {
			_, err := r.Service.RemoveSoftphone(ctx, commands.RemoveSoftphone{ID: "p1"})
			return err
		}, "", "", http.StatusGone},
		"user's removal": {func(r *rig) error {
			_, err := r.Service.RemoveUser(ctx, commands.RemoveUser{ID: "ana"})
			return err
		}, "", "", http.StatusGone},
		"cloud ID's removal": {func(r *rig) error {
			_, err := r.Service.RemoveCloudID(ctx, commands.RemoveCloudID{ID: "acme"})
			return err
		}, "", "", http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			metrics, now := prometheus.NewRegistry(), time.Now()
			r.handler = softphone.New(softphone.Options{Provisioner: r.Service, Client: func(context.Context) softphone.Client { return r.client }, RefuseAfter: -1,
				Metrics: metrics, Now: func() time.Time { return now }})
			token := r.nodes(r.post("account"))["cloud_password"]
			ask := func(service string) (int, string) {
				w := r.post(service, "cloud_password", token, "initial", "")
				return w.Code, w.Body.String()
			}
			for range 2 { // what is told for the first time is recorded, with the softphone
				ask("account")
				ask("global")
			}
			_, account := ask("account")
			_, global := ask("global")
			before := counted(t, metrics)
			for range 5 {
				if code, body := ask("account"); code != http.StatusOK || body != account {
					t.Fatalf("%d %s", code, body)
				}
				if code, body := ask("global"); code != http.StatusOK || body != global {
					t.Fatalf("%d %s", code, body)
				}
			}
			after := counted(t, metrics)
			if after["log account"] != before["log account"] || after["log global"] != before["log global"] || after["cache account"]+after["cache global"]-before["cache account"]-before["cache global"] != 10 {
				t.Errorf("%v, then %v", before, after)
			}
			if err := c.change(r); err != nil {
				t.Fatal(err)
			}
			code, changed := ask("account")
			switch {
			case c.status == 0 && (code != http.StatusOK || changed == account || !strings.Contains(changed, c.account)):
				t.Errorf("%d %s", code, changed)
			case c.status != 0 && code != c.status:
				t.Errorf("%d %s", code, changed)
			}
			code, changed = ask("global")
			switch {
			case c.global != "" && (changed == global || !strings.Contains(changed, c.global)):
				t.Errorf("%d %s", code, changed)
			case c.status != 0 && code < 400:
				t.Errorf("%d %s", code, changed)
			}
			if c.status != 0 {
				return
			}
			_, _ = ask("account")
			made := counted(t, metrics)["log account"]
			if _, again := ask("account"); counted(t, metrics)["log account"] != made {
				t.Errorf("the changed answer is not kept: %s", again)
			}
			now = now.Add(24 * time.Hour) // what is told for a time only is not told for ever
			if _, _ = ask("account"); counted(t, metrics)["log account"] != made+1 {
				t.Error("an old answer is believed")
			}
		})
	}
}

// Two installations, the two services, the star and what an app calls itself have answers of their own; a token that is none has none.
func TestAnswersAreNotMixed(t *testing.T) {
	r := start(t)
	first, second := r.nodes(r.post("account", "install", "i1"))["cloud_password"], r.nodes(r.post("account", "install", "i2"))["cloud_password"]
	for range 3 {
		for _, token := range []string{first, second} {
			if got := r.nodes(r.post("account", "cloud_password", token))["cloud_password"]; got != token {
				t.Errorf("the answer of another: %s", got)
			}
			if w := r.post("global", "cloud_password", token); strings.Contains(w.Body.String(), "<account>") || w.Code != http.StatusOK {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if w := r.post("account", "cloud_password", token, "cloud_id", "globex"); w.Code != http.StatusForbidden {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if w := r.post("account", "cloud_password", token[:len(token)-1]+"_"); w.Code != http.StatusForbidden {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
	}
}
