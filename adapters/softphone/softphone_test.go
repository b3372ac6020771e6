package softphone_test

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/softphone"
	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

// rig is a provider with one user, ana, seen by apps.
type rig struct {
	*commandstest.Kit
	t       *testing.T
	handler http.Handler
	client  softphone.Client
}

const (
	title    = `Ana "Ä" <Keller> & Söhne 🙂`
	password = "p&<w>'\"+1%"
)

func start(t *testing.T) *rig {
	t.Helper()
	r := &rig{Kit: commandstest.NewService(t), t: t, client: softphone.Client{IP: "192.0.2.7", Private: true}}
	r.handler = softphone.New(softphone.Options{Provisioner: r.Service, Client: func(context.Context) softphone.Client { return r.client }, RefuseAfter: -1, Now: r.Clock.Now})
	ctx, s := t.Context(), r.Service
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []domain.TenantID{"acme", "globex"} {
		_, _, err := s.CreateTenant(ctx, commands.CreateTenant{ID: id, Name: string(id), Domain: string(id) + ".example"})
		do(err)
		_, _, _, err = s.DefineCloudID(ctx, commands.DefineCloudID{ID: string(id), TenantID: id, Document: domain.SoftphoneDocument{Nodes: map[string]string{"host": "sip." + string(id) + ".example"}}})
		do(err)
	}
	_, _, err := s.DefineUser(ctx, commands.DefineUser{ID: "ana", TenantID: "acme", DisplayName: title})
	do(err)
	_, _, err = s.DefineLine(ctx, commands.DefineLine{ID: "l1", TenantID: "acme", UserID: "ana", Username: "4001", AuthUsername: "4001-m", Password: "Zu8&gen"})
	do(err)
	_, _, _, err = s.DefineSoftphone(ctx, commands.DefineSoftphone{ID: "p1", TenantID: "acme", CloudID: "ACME", LineID: "l1", Username: "ana@acme.example"})
	do(err)
	_, err = s.SetSoftphonePassword(ctx, commands.SetSoftphonePassword{ID: "p1", Password: password})
	do(err)
	return r
}

func (r *rig) send(method, target, kind, body string) *httptest.ResponseRecorder {
	r.t.Helper()
	w := httptest.NewRecorder()
	q := httptest.NewRequest(method, target, strings.NewReader(body))
	if kind != "" {
		q.Header.Set("Content-Type", kind)
	}
	r.handler.ServeHTTP(w, q)
	if w.Code >= 300 && w.Code != http.StatusNotModified && method != http.MethodHead && method != http.MethodOptions {
		var e struct {
			XMLName xml.Name `xml:"error"`
			Message string   `xml:"message"`
		}
		if err := xml.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Message == "" || len(e.Message) > 220 {
			r.t.Errorf("%s %s: %d with %q", method, target, w.Code, w.Body)
		}
	}
	if w.Header().Get("Cache-Control") != "no-store" {
		r.t.Errorf("%s %s may be kept", method, target)
	}
	return w
}

const form = "application/x-www-form-urlencoded"

// post is an app that calls with a form; pairs are laid over the usual parameters.
func (r *rig) post(service string, pairs ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	v := url.Values{"cloud_id": {"ACME"}, "cloud_username": {"ana@acme.example"}, "cloud_password": {password}, "install": {"i1"}, "initial": {"1"}}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return r.send(http.MethodPost, "/softphone/v1/"+service, form, v.Encode())
}

// nodes are the children of an account.
func (r *rig) nodes(w *httptest.ResponseRecorder) map[string]string {
	r.t.Helper()
	var a struct {
		XMLName xml.Name `xml:"account"`
		Nodes   []struct {
			XMLName xml.Name
			Text    string `xml:",chardata"`
		} `xml:",any"`
	}
	if err := xml.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/xml; charset=utf-8" {
		r.t.Fatalf("%d %v: %s", w.Code, err, w.Body)
	}
	out := make(map[string]string)
	for _, n := range a.Nodes {
		out[n.XMLName.Local] = n.Text
	}
	return out
}

func (r *rig) signIn() (token string) {
	r.t.Helper()
	return r.nodes(r.post("account"))["cloud_password"]
}

func (r *rig) want(w *httptest.ResponseRecorder, status int, text string) {
	r.t.Helper()
	if w.Code != status || !strings.Contains(w.Body.String(), text) {
		r.t.Errorf("%d %s, want %d %q", w.Code, w.Body, status, text)
	}
}

func (r *rig) count(kind string) (n int) {
	for _, e := range r.Log.Events() {
		if e.Type == kind {
			n++
		}
	}
	return n
}

// ACC-1, ACC-3, ACC-8.
func TestSigningIn(t *testing.T) {
	r := start(t)
	got := r.nodes(r.post("account", "cloud_id", "acme*", "cloud_username", " ANA@acme.example "))
	token := got["cloud_password"]
	delete(got, "cloud_password")
	want := map[string]string{"title": title, "userDisplayName": title, "cloud_username": "ana@acme.example", "username": "4001", "authUsername": "4001-m", "password": "Zu8&gen",
		"host": "sip.acme.example", "extProvInterval": "3600", "extProvLogoutStatusCode": "410"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !commands.IsSoftphoneToken(token) || r.count("softphone.signed_in") != 1 {
		t.Errorf("token of %d characters, %d sign-ins", len(token), r.count("softphone.signed_in"))
	}
	for _, e := range r.Log.Events() {
		for _, secret := range []string{token, "p\\u0026", "Zu8\\u0026gen", "Keller", "ana@acme"} {
			if strings.Contains(string(e.Data)+string(e.Metadata), secret) {
				t.Errorf("%s holds %q in clear text", e.Type, secret)
			}
		}
	}
	// A refresh records nothing and gives the same account, byte for byte.
	before := len(r.Log.Events())
	first, second := r.post("account", "cloud_password", token, "initial", "0"), r.send(http.MethodGet, "/softphone/v1/account/"+token+"?cloud_id=ACME", "", "")
	if first.Body.String() != second.Body.String() || r.nodes(first)["cloud_password"] != token || len(r.Log.Events()) != before {
		t.Errorf("a refresh: %s %s", first.Body, second.Body)
	}
	if r.post("account", "cloud_id", "globex", "cloud_password", token).Code != http.StatusForbidden {
		t.Error("a token works below another tenant's cloud ID")
	}
}

// Query, form and JSON, and what apps and templates get wrong; ACC-6, ACC-7.
func TestReadingACall(t *testing.T) {
	r := start(t)
	good := url.Values{"cloud_id": {"ACME"}, "cloud_username": {"ana@acme.example"}, "cloud_password": {password}}.Encode()
	js := fmt.Sprintf(`{"cloud_id":"ACME","cloud_username":"ana@acme.example","cloud_password":%q,"initial":1,"more":null}`, password)
	for _, c := range []struct {
		method, query, kind, body string
		status                    int
		text                      string
	}{
		{"GET", good, "", "", 200, "<account>"},
		{"POST", "", form, good, 200, "<account>"},
		{"POST", "", "", good, 200, "<account>"},
		{"POST", good, form, "cloud_id=ACME", 200, "<account>"},
		{"POST", "", "application/json; charset=utf-8", js, 200, "<account>"},
		{"POST", "", form, strings.ReplaceAll(good, "%2B", "+"), 200, "<account>"}, // an app that does not escape "+"
		{"POST", "", form, strings.ReplaceAll(good, "%40", "@"), 200, "<account>"},
		{"POST", good, form, "cloud_id=other", 400, "cloud_id was sent twice"},
		{"POST", "", form, "cloud_id=ACME&cloud_password=x&cloud_username=%username%", 400, "cloud_username arrived as the placeholder %username%"},
		{"POST", "", form, "cloud_id=ACME&cloud_password=x&cloud_username=%25username%25", 400, "%username%"},
		{"POST", "", form, "cloud_id=ACME&cloud_password=x&cloud_username=%account[cloud_username]%", 400, "%account[cloud_username]%"},
		{"POST", "", form, "cloud_id=ACME&cloud_username=x&cloud_password=%password%", 400, "placeholder"},
		{"POST", "", form, "cloud_id=ACME&cloud_username=x&cloud_password=****", 400, "https"},
		{"POST", "", form, "cloud_username=x&cloud_password=y", 400, "cloud_id is missing"},
		{"POST", "", form, "cloud_id=ACME&cloud_password=y", 400, "cloud_username is missing"},
		{"POST", "", form, "cloud_id=ACME&cloud_username=y", 400, "cloud_password is missing"},
		{"POST", "", form, "cloud_id=A/B&cloud_username=y&cloud_password=z", 400, "not a cloud ID"},
		{"POST", "", form, "cloud_id=ACME&cloud_password=y&cloud_username=" + strings.Repeat("a", 513), 400, "too long"},
		{"POST", "", form, strings.Repeat("a", 17<<10), 400, "too long"},
		{"POST", "", "application/json", `{"cloud_id":"ACME","cloud_password":"a"b","cloud_username":"x"}`, 400, "malformed in cloud_password"},
		{"POST", "", "application/json", `[1]`, 400, "malformed"},
		{"POST", "", "text/xml", "<a/>", 400, "form or JSON"},
		{"POST", "", form, "cloud_id=nosuch&cloud_username=x&cloud_password=y", 404, "cloud ID"},
		{"PUT", "", form, good, 405, "GET and POST"},
		{"HEAD", good, "", "", 204, ""},
		{"OPTIONS", "", "", "", 204, ""},
	} {
		w := r.send(c.method, "/softphone/v1/account?"+c.query, c.kind, c.body)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.text) {
			t.Errorf("%s ?%s %s: %d %s, want %d %q", c.method, c.query, c.body, w.Code, w.Body, c.status, c.text)
		}
	}
	for _, path := range []string{"/softphone", "/softphone/v1/", "/softphone/v1/account/x", "/softphone/v1/accountx", "/softphone/v1/global/llsp_x/y"} {
		r.want(r.send("GET", path, "", ""), 404, "nothing")
	}
	r.client.Private = false
	r.want(r.post("account"), http.StatusForbidden, "https")
}

// ACC-2: an unknown user, a wrong password, no password at all, a dead code and a token that never was are one answer.
func TestTheUniformRefusal(t *testing.T) {
	r := start(t)
	r.bare()
	want := r.post("account", "cloud_password", "wrong").Body.String()
	for i, pairs := range [][]string{{"cloud_username", "nobody"}, {"cloud_username", "bare"}, {"cloud_password", "000000000000"}, {"cloud_password", "llsp_p1_" + strings.Repeat("x", 43)},
		{"cloud_password", "llsp_none_" + strings.Repeat("x", 43)}, {"cloud_password", "llsp_"}} {
		r.client.IP = "192.0.2." + strconv.Itoa(100+i)
		for _, service := range []string{"account", "global"} {
			if w := r.post(service, pairs...); w.Code != http.StatusForbidden || w.Body.String() != want {
				t.Errorf("%s %q: %d %s", service, pairs, w.Code, w.Body)
			}
		}
	}
	if r.count("softphone.signed_in") != 0 {
		t.Error("somebody was let in")
	}
	r.Clock.Advance(2 * time.Hour)
	if err := r.Service.RecordDenials(t.Context(), false); err != nil || r.count("softphone.denied") == 0 {
		t.Errorf("denials are not recorded: %v", err)
	}
}

// Wrong passwords are counted per user, known or not, and per source; who is signed in already goes on.
func TestBudgets(t *testing.T) {
	r := start(t)
	token := r.signIn()
	for _, user := range []string{"ana@acme.example", "nobody"} {
		for i := range 6 {
			r.client.IP = fmt.Sprintf("198.51.%d.7", i)
			w := r.post("account", "cloud_username", user, "cloud_password", "wrong")
			if want := map[bool]int{true: 429, false: 403}[i == 5]; w.Code != want || want == 429 && w.Header().Get("Retry-After") == "" {
				t.Errorf("%s, try %d: %d", user, i, w.Code)
			}
		}
	}
	r.want(r.post("account", "cloud_password", token), http.StatusOK, "<account>")
	r.client.IP = "203.0.113.9"
	for i := range 10 {
		r.post("account", "cloud_username", fmt.Sprint("u", i), "cloud_password", "wrong")
	}
	r.want(r.post("account", "cloud_username", "u", "cloud_password", "x"), http.StatusTooManyRequests, "Too many")
}

// A code is good once, for the two calls of one app.
func TestACode(t *testing.T) {
	r := start(t)
	code, _, err := r.Service.IssueSoftphoneCode(t.Context(), commands.IssueSoftphoneCode{ID: "p1"})
	if err != nil || code.Username != "ana@acme.example" || code.CloudID != "acme" {
		t.Fatal(err)
	}
	r.want(r.post("global", "cloud_password", code.Code), http.StatusOK, "<provisioning")
	r.want(r.post("account", "cloud_password", code.Code), http.StatusOK, "<account>")
	r.want(r.post("global", "cloud_password", code.Code), http.StatusOK, "<provisioning")
	r.want(r.post("account", "cloud_password", code.Code), http.StatusOK, "<account>")
	r.want(r.post("account", "cloud_password", code.Code, "install", "i2"), http.StatusForbidden, "used")
	r.Clock.Advance(domain.RepeatWindow)
	r.want(r.post("account", "cloud_password", code.Code), http.StatusForbidden, "used")
	if again, _, err := r.Service.IssueSoftphoneCode(t.Context(), commands.IssueSoftphoneCode{ID: "p1"}); err != nil {
		t.Fatal(err)
	} else {
		r.Clock.Advance(domain.SoftphoneCodeTTL)
		r.want(r.post("account", "cloud_password", again.Code), http.StatusForbidden, "expired")
	}
}

// A code is good past midnight; the key of its day is destroyed when it is dead, and with it what could find its digits
// (D19).
func TestACodeAndTheKeyOfItsDay(t *testing.T) {
	r := start(t)
	day := domain.Epoch(r.Clock.Now())
	code, _, err := r.Service.IssueSoftphoneCode(t.Context(), commands.IssueSoftphoneCode{ID: "p1"})
	if err != nil {
		t.Fatal(err)
	}
	expire := func() {
		t.Helper()
		for range 2 {
			if _, err := r.Service.ExpireCodes(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.Clock.Advance(domain.RepeatWindow)
		}
	}
	r.Clock.Advance(domain.SoftphoneCodeTTL - time.Hour)
	expire()
	if !r.Vault.Has(day) {
		t.Fatal("the key is gone before its last code")
	}
	r.want(r.post("account", "cloud_password", code.Code), http.StatusOK, "<account>")
	expire()
	if r.Vault.Has(day) {
		t.Error("the key outlives its codes")
	}
	r.want(r.post("account", "cloud_password", code.Code), http.StatusForbidden, "expired")
}

// ACC-4: signed out for good is the logout status, on the account; the global call only fails.
func TestSigningOut(t *testing.T) {
	for what, end := range map[string]func(*rig) error{
		"one app": func(r *rig) error {
			_, err := r.Service.SignOutSoftphone(r.t.Context(), commands.SignOutSoftphone{ID: "p1"})
			return err
		},
		"the softphone": func(r *rig) error {
			_, err := r.Service.RemoveSoftphone(r.t.Context(), commands.RemoveSoftphone{ID: "p1"})
			return err
		},
		"the user": func(r *rig) error {
			_, err := r.Service.RemoveUser(r.t.Context(), commands.RemoveUser{ID: "ana"})
			return err
		},
		"the same app signed in again": func(r *rig) error { r.signIn(); return nil },
	} {
		r := start(t)
		token := r.signIn()
		if err := end(r); err != nil {
			t.Fatal(err)
		}
		if w := r.post("account", "cloud_password", token); w.Code != domain.SoftphoneLogoutStatus {
			t.Errorf("%s: %d", what, w.Code)
		}
		if w := r.post("global", "cloud_password", token); w.Code != http.StatusForbidden {
			t.Errorf("%s, global: %d", what, w.Code)
		}
	}
}

// failing is a service whose stores are down.
type failing struct{ err error }

func (f failing) ServeSoftphone(context.Context, commands.SoftphoneCall) (commands.SoftphoneAnswer, error) {
	return commands.SoftphoneAnswer{}, f.err
}

// ACC-5, GEP-5: our trouble is never the logout status; the first global call goes on without quick dials.
func TestOurTrouble(t *testing.T) {
	r := start(t)
	token := r.signIn()
	for _, open := range []bool{true, false} {
		r.handler = softphone.New(softphone.Options{Provisioner: failing{&commands.SoftphoneError{Err: errors.New("disk is gone"), FailOpen: open}},
			Client: func(context.Context) softphone.Client { return r.client }})
		for _, c := range []struct {
			service, password string
			status            int
		}{{"account", "x", 503}, {"account", token, 503}, {"global", token, 503}, {"global", "x", map[bool]int{true: 200, false: 503}[open]}} {
			w := r.post(c.service, "cloud_password", c.password)
			if w.Code != c.status || (w.Header().Get("Retry-After") != "") != (c.status == 503) || strings.Contains(w.Body.String(), "disk") {
				t.Errorf("%+v: %d %s", c, w.Code, w.Body)
			}
			if c.status == 200 && w.Body.String() != "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<provisioning></provisioning>\n" {
				t.Errorf("an app is told %s", w.Body)
			}
		}
	}
	// A softphone whose line is gone has no account: no sign-out, and a code is not used up.
	r = start(t)
	token = r.signIn()
	if _, err := r.Service.RemoveLine(t.Context(), commands.RemoveLine{ID: "l1"}); err != nil {
		t.Fatal(err)
	}
	signIns := r.count("softphone.signed_in")
	r.want(r.post("account", "cloud_password", token), http.StatusServiceUnavailable, "busy")
	r.want(r.post("account"), http.StatusServiceUnavailable, "busy")
	if r.count("softphone.signed_in") != signIns {
		t.Error("signed in without an account")
	}
}

// The exchange of the vendor's documentation, in its structure: one dial action with two rules, one quick dial. GEP-2,
// GEP-3, GEP-4, GEP-9.
func TestGlobalProvisioning(t *testing.T) {
	r := start(t)
	token := r.signIn()
	ask := func() *httptest.ResponseRecorder {
		return r.send(http.MethodGet, "/softphone/v1/global?"+url.Values{"cloud_id": {"ACME"}, "cloud_username": {"ana@acme.example"}, "cloud_password": {password}}.Encode(), "", "")
	}
	const empty = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<provisioning></provisioning>\n"
	if w := ask(); w.Body.String() != empty {
		t.Errorf("a user without data: %s", w.Body)
	}
	term := func(kind, param string) domain.DialTerm { return domain.DialTerm{Type: kind, Param: param} }
	d := domain.SoftphoneDocument{Nodes: map[string]string{"host": "sip.acme.example"},
		QuickDials: []domain.QuickDial{{ID: "qd1", DisplayName: "Support", URI: "4000", PortraitURL: "https://x.example/s.png"}, {ID: "qd2", DisplayName: "Desk", URI: "1", Priority: 50}},
		DialActions: []domain.DialAction{{ID: "da1", DisplayName: "Record", Rules: []domain.DialRule{
			{Actions: []domain.DialTerm{term("overrideDialAction", "voiceCall"), term("continue", "")}},
			{Conditions: []domain.DialTerm{term("startsWith", "0"), term("doesntStartWith", "00")}, Actions: []domain.DialTerm{term("recordCall", "")}}}}}}
	amend := func(d domain.SoftphoneDocument) {
		t.Helper()
		if _, _, err := r.Service.AmendCloudID(t.Context(), commands.AmendCloudID{ID: "acme", Document: d}); err != nil {
			t.Fatal(err)
		}
	}
	amend(d)
	const want = `<?xml version="1.0" encoding="UTF-8"?>
<provisioning>
  <quickDial maxQuickDialReplacePriority="21">
    <item id="qd1">
      <displayName>Support</displayName>
      <uri>4000</uri>
      <portraitUrl>https://x.example/s.png</portraitUrl>
    </item>
    <item id="qd2" priority="50">
      <displayName>Desk</displayName>
      <uri>1</uri>
    </item>
  </quickDial>
  <dialActions>
    <dialAction id="da1">
      <displayName>Record</displayName>
      <rewriting>
        <rule>
          <actions>
            <action type="overrideDialAction" param="voiceCall"></action>
            <action type="continue"></action>
          </actions>
        </rule>
        <rule>
          <conditions>
            <condition type="startsWith" param="0"></condition>
            <condition type="doesntStartWith" param="00"></condition>
          </conditions>
          <actions>
            <action type="recordCall"></action>
          </actions>
        </rule>
      </rewriting>
    </dialAction>
  </dialActions>
</provisioning>
`
	if diff := cmp.Diff(want, ask().Body.String()); diff != "" {
		t.Error(diff)
	}
	refresh := func(tag string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		q := httptest.NewRequest(http.MethodGet, "/softphone/v1/global/"+token+"?cloud_id=ACME", nil)
		q.Header.Set("If-None-Match", tag)
		r.handler.ServeHTTP(w, q)
		return w
	}
	tag := refresh("").Header().Get("ETag")
	if w := refresh(tag); w.Code != http.StatusNotModified || w.Body.Len() > 0 {
		t.Errorf("an unchanged answer: %d", w.Code)
	}
	amend(domain.SoftphoneDocument{Nodes: d.Nodes})
	const gone = `<?xml version="1.0" encoding="UTF-8"?>
<provisioning>
  <quickDial maxQuickDialReplacePriority="21">
    <item id="qd2" action="remove" priority="50"></item>
  </quickDial>
  <dialActions>
    <dialAction id="da1" action="remove"></dialAction>
  </dialActions>
</provisioning>
`
	if w := refresh(tag); w.Code != http.StatusOK || w.Body.String() != gone {
		t.Errorf("after the removal: %d %s", w.Code, w.Body)
	}
}

func (f failing) SoftphoneCurrent([]domain.Input) bool { return false }

func (f failing) SoftphoneTenant(context.Context, commands.SoftphoneCall) (domain.TenantID, error) {
	return "", f.err
}

func (f failing) SoftphoneBalance(context.Context, commands.SoftphoneCall) (string, error) {
	return "", f.err
}

func (f failing) ReportSoftphonePush(context.Context, commands.SoftphoneCall, domain.SoftphonePush) error {
	return f.err
}

func (f failing) Open(context.Context, domain.Sealed) (string, error) { return "", f.err }

// heard refuses every app, and keeps what it said last.
type heard struct {
	failing
	call commands.SoftphoneCall
}

func (h *heard) ServeSoftphone(_ context.Context, in commands.SoftphoneCall) (commands.SoftphoneAnswer, error) {
	h.call = in
	return commands.SoftphoneAnswer{}, h.err
}

// FuzzCall sends whatever somebody may who plays an app. What is passed on is within its limits and was filled in; what is
// not is refused with an error document that an app can show.
func FuzzCall(f *testing.F) {
	good := url.Values{"cloud_id": {"ACME"}, "cloud_username": {"ana@acme.example"}, "cloud_password": {password}, "install": {"i1"}}.Encode()
	for _, seed := range [][3]string{{good, "", ""}, {"", form, good}, {"cloud_id=ACME", "application/json", `{"cloud_username":"a","cloud_password":"b"c"}`},
		{"", form, "cloud_id=ACME*&cloud_username=%username%&cloud_password=%"}, {"", "application/json", `{"cloud_id":"ACME","cloud_username":"+","cloud_password":"llsp_p1_x","install":1e99}`}} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, query, kind, body string) {
		app := &heard{failing: failing{domain.ErrSoftphoneRefused}}
		handler := softphone.New(softphone.Options{Provisioner: app, Client: func(context.Context) softphone.Client { return softphone.Client{Private: true} }, RefuseAfter: -1})
		w, q := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/softphone/v1/account", strings.NewReader(body))
		q.URL.RawQuery = query
		q.Header.Set("Content-Type", kind)
		handler.ServeHTTP(w, q)
		var e struct {
			XMLName xml.Name `xml:"error"`
			Message string   `xml:"message"`
		}
		if err := xml.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Message == "" || len([]rune(e.Message)) > 200 {
			t.Errorf("%d %v: %q", w.Code, err, w.Body)
		}
		c := app.call
		switch {
		case w.Code == http.StatusBadRequest && c == commands.SoftphoneCall{}:
			return
		case w.Code != http.StatusForbidden:
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if id, _, ok := domain.ParseCloudID(string(c.CloudID)); !ok || id != c.CloudID || strings.Trim(c.Password, "*") == "" {
			t.Errorf("%+v", c)
		}
		for _, v := range []string{c.Username, c.OtherUsername, c.Password, c.OtherPassword, c.Install} {
			if len(v) > 512 || !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl) && !strings.ContainsFunc(v, func(r rune) bool { return r >= 0x80 }) {
				t.Errorf("%q", v)
			}
		}
		if c.Username == "" && !commands.IsSoftphoneToken(c.Password) {
			t.Errorf("nobody: %+v", c)
		}
	})
}
