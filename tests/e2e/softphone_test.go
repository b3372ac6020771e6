package e2e

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/softphone"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
	"ledgerline/tests/appsim"
	"ledgerline/tests/rig"
)

// An app that is signed in has its tenant's directory, is told its balance, and reports its push tokens, with the
// definitions that are printed for the portal.
func TestServicesOfASoftphone(t *testing.T) {
	ctx := t.Context()
	r, err := rig.Open(ctx, t.TempDir())
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(err)
	t.Cleanup(func() { _ = r.Close() })
	var later atomic.Int64
	r.Service.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	do(r.Start(ctx))
	server := httptest.NewServer(softphone.New(softphone.Options{Provisioner: r.Service, Views: r.Views, RefuseAfter: -1, Now: r.Service.Now,
		Client: func(context.Context) softphone.Client { return softphone.Client{IP: "192.0.2.7", Private: true} }}))
	t.Cleanup(server.Close)
	settle := func() { // the views have come to all there is, and what was read before is old
		t.Helper()
		head, err := r.Ledger.Head(ctx)
		do(err)
		do(r.Runner.WaitFor(ctx, head))
		later.Add(int64(time.Minute))
	}
	s := r.Service
	for _, u := range []struct{ tenant, id, name, number string }{{"acme", "ana", "Ana Keller", ""}, {"acme", "ben", "Ben Ott", "+41440000042"}, {"globex", "zoe", "Zoe of Globex", "900"}} {
		tenant := domain.TenantID(u.tenant)
		if u.id != "ben" {
			_, _, err := s.CreateTenant(ctx, commands.CreateTenant{ID: tenant, Name: u.tenant, Domain: u.tenant + ".example"})
			do(err)
			_, _, _, err = s.DefineCloudID(ctx, commands.DefineCloudID{ID: u.tenant, TenantID: tenant, Document: domain.SoftphoneDocument{Nodes: map[string]string{"host": "sip.example"}}})
			do(err)
		}
		_, _, err := s.DefineUser(ctx, commands.DefineUser{ID: domain.UserID(u.id), TenantID: tenant, DisplayName: u.name})
		do(err)
		_, _, err = s.DefineLine(ctx, commands.DefineLine{ID: domain.LineID(u.id + "1"), TenantID: tenant, UserID: domain.UserID(u.id), Username: "u-" + u.id, Number: u.number, Password: "p"})
		do(err)
	}
	_, _, err = s.DefineUser(ctx, commands.DefineUser{ID: "cem", TenantID: "acme", DisplayName: "Cem without a line"})
	do(err)
	_, _, _, err = s.DefineSoftphone(ctx, commands.DefineSoftphone{ID: "p1", TenantID: "acme", CloudID: "acme", LineID: "ana1", Username: "ana"})
	do(err)
	_, err = s.SetSoftphonePassword(ctx, commands.SetSoftphonePassword{ID: "p1", Password: "anas-password"})
	do(err)
	portal := make(map[string]string)
	for _, d := range domain.PortalDefinitions(server.URL, "acme") {
		portal[d.Name] = d.Value
	}
	app := appsim.New(appsim.Config{Portal: portal})
	app.Enter(appsim.Inputs{CloudID: "acme", Username: "ana", Password: "anas-password"})
	do(app.SignIn(ctx))
	contacts := func(status int, want map[string]string) {
		t.Helper()
		do(app.Refresh(ctx, appsim.Contacts))
		got := make(map[string]string)
		for _, c := range app.Directory() {
			got[c.DisplayName] = c.Entries[0].URI
		}
		calls := app.Calls()
		if diff := cmp.Diff(want, got); diff != "" || calls[len(calls)-1].Status != status {
			t.Errorf("%+v\n%s", calls[len(calls)-1], diff)
		}
	}
	settle()
	contacts(200, map[string]string{"Ana Keller": "u-ana", "Ben Ott": "+41440000042"})
	contacts(304, map[string]string{"Ana Keller": "u-ana", "Ben Ott": "+41440000042"})
	_, err = s.AmendUser(ctx, commands.AmendUser{ID: "ana", DisplayName: "Ana Ott"})
	do(err)
	settle()
	contacts(200, map[string]string{"Ana Ott": "u-ana", "Ben Ott": "+41440000042"})
	_, err = s.RemoveUser(ctx, commands.RemoveUser{ID: "ben"})
	do(err)
	settle()
	contacts(200, map[string]string{"Ana Ott": "u-ana"})

	if text, err := app.Balance(ctx); err == nil || text != "" {
		t.Errorf("a balance that nobody gave: %q, %v", text, err)
	}
	_, _, err = s.AmendCloudID(ctx, commands.AmendCloudID{ID: "acme", Document: domain.SoftphoneDocument{Nodes: map[string]string{"host": "sip.example", commands.BalanceNode: "12.50 € & more"}}})
	do(err)
	if text, err := app.Balance(ctx); err != nil || text != "12.50 € & more" {
		t.Errorf("%q, %v", text, err)
	}

	reported := func() (all []domain.SoftphonePushTokenReported) {
		t.Helper()
		for rec, err := range r.Ledger.Read(ctx, domain.SoftphoneID("p1").Stream(), 0) {
			do(err)
			if e, err := domain.Decode(rec.Type, rec.Data); err == nil {
				if e, ok := e.(domain.SoftphonePushTokenReported); ok {
					all = append(all, e)
				}
			}
			if strings.Contains(string(rec.Data), "canary") {
				t.Errorf("%s holds a token", rec.Type)
			}
		}
		return all
	}
	app.GivePush(appsim.PushTokens{IncomingCall: "canary-1", Other: "canary-2", AppIncomingCall: "app.voip", AppIDs: "app"})
	do(app.Start(ctx))
	do(app.Start(ctx))
	app.GivePush(appsim.PushTokens{IncomingCall: "canary-3", Other: "canary-2", AppIncomingCall: "app.voip", AppIDs: "app"})
	do(app.Start(ctx))
	all := reported()
	if len(all) != 2 {
		t.Fatalf("%d reports of two sets of tokens are on record", len(all))
	}
	text, err := s.Open(ctx, all[1].Tokens.Sealed)
	if err != nil || !strings.Contains(text, `"incoming_call":"canary-3","other":"canary-2","app_incoming_call":"app.voip","app_other":"app"`) || !strings.Contains(text, `"selector":"`) {
		t.Errorf("%s, %v", text, err)
	}
	settle()
	if row, ok, err := projections.SoftphoneByID(ctx, r.Views, "p1"); err != nil || !ok || row.Installs[0].Push.Tokens.Fingerprint != all[1].Tokens.Fingerprint {
		t.Errorf("the view has %+v, %v", row.Installs, err)
	}
	_, err = s.EraseSubject(ctx, commands.EraseSubject{Subject: domain.UserID("ana").Subject()})
	do(err)
	deadline := time.Now().Add(10 * time.Second)
	for text != "" && time.Now().Before(deadline) {
		head, err := r.Ledger.Head(ctx)
		do(err)
		do(r.Runner.WaitFor(ctx, head))
		text, err = s.Open(ctx, all[1].Tokens.Sealed)
		do(err)
	}
	if text != "" {
		t.Error("tokens are read after the user was erased")
	}
}
