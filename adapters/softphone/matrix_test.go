package softphone_test

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"ledgerline/adapters/softphone"
	"ledgerline/adapters/softphone/wire"
	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

// entry is an item or dial action as an app reads it.
type entry struct {
	ID       string `xml:"id,attr"`
	Action   string `xml:"action,attr"`
	Priority string `xml:"priority,attr"`
	Name     string `xml:"displayName"`
}

// global is what an app is told, by id: its name, or "remove" and the priority.
func (r *rig) global(w *httptest.ResponseRecorder) (told map[string]string, replace string) {
	r.t.Helper()
	var g struct {
		Quick struct {
			Replace string  `xml:"maxQuickDialReplacePriority,attr"`
			Items   []entry `xml:"item"`
		} `xml:"quickDial"`
		Actions []entry `xml:"dialActions>dialAction"`
	}
	if err := xml.Unmarshal(w.Body.Bytes(), &g); err != nil || w.Code != http.StatusOK {
		r.t.Fatalf("%d %v: %s", w.Code, err, w.Body)
	}
	told = make(map[string]string)
	for _, e := range append(g.Quick.Items, g.Actions...) {
		if told[e.ID] = e.Name; e.Action != "" {
			told[e.ID] = strings.TrimSpace(e.Action + " " + e.Priority)
		}
	}
	return told, g.Quick.Replace
}

func (r *rig) wantGlobal(w *httptest.ResponseRecorder, want map[string]string) {
	r.t.Helper()
	got, _ := r.global(w)
	if len(got) != len(want) {
		r.t.Errorf("told %q, want %q", got, want)
		return
	}
	for id, v := range want {
		if got[id] != v {
			r.t.Errorf("told %q, want %q", got, want)
			return
		}
	}
}

func (r *rig) cloud(quick []domain.QuickDial, actions ...domain.DialAction) {
	r.t.Helper()
	d := domain.SoftphoneDocument{Nodes: map[string]string{"host": "sip.acme.example"}, QuickDials: quick, DialActions: actions}
	if _, _, err := r.Service.AmendCloudID(r.t.Context(), commands.AmendCloudID{ID: "acme", Document: d}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) category(id domain.CategoryID, quick ...domain.QuickDial) {
	r.t.Helper()
	if _, _, err := r.Service.DefineCategory(r.t.Context(), commands.DefineCategory{ID: id, TenantID: "acme", Name: string(id), Kind: "plain"}); err != nil {
		r.t.Fatal(err)
	}
	if _, _, err := r.Service.SetCategorySoftphone(r.t.Context(), commands.SetCategorySoftphone{ID: id, Document: domain.SoftphoneDocument{QuickDials: quick}}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) amend(category domain.CategoryID, quick ...domain.QuickDial) {
	r.t.Helper()
	if _, _, err := r.Service.AmendSoftphone(r.t.Context(), commands.AmendSoftphone{ID: "p1", LineID: "l1", Category: category, Document: domain.SoftphoneDocument{QuickDials: quick}}); err != nil {
		r.t.Fatal(err)
	}
}

// second is another user of the tenant, with an app that is signed in.
func (r *rig) second() (token string) {
	r.t.Helper()
	ctx, s := r.t.Context(), r.Service
	_, _, err := s.DefineUser(ctx, commands.DefineUser{ID: "ben", TenantID: "acme", DisplayName: "Ben"})
	if err == nil {
		_, _, err = s.DefineLine(ctx, commands.DefineLine{ID: "l2", TenantID: "acme", UserID: "ben", Username: "4002", Password: "b"})
	}
	if err == nil {
		_, _, _, err = s.DefineSoftphone(ctx, commands.DefineSoftphone{ID: "p2", TenantID: "acme", CloudID: "acme", LineID: "l2", Username: "ben",
			Document: domain.SoftphoneDocument{QuickDials: []domain.QuickDial{{ID: "bens", DisplayName: "Ben's", URI: "9"}}}})
	}
	if err == nil {
		_, err = s.SetSoftphonePassword(ctx, commands.SetSoftphonePassword{ID: "p2", Password: "bens-password"})
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return r.nodes(r.post("account", "cloud_username", "ben", "cloud_password", "bens-password", "install", "i9"))["cloud_password"]
}

func (r *rig) refresh(token, install string) *httptest.ResponseRecorder {
	r.t.Helper()
	return r.post("global", "cloud_password", token, "install", install)
}

func quick(id, name string, priority int) domain.QuickDial {
	return domain.QuickDial{ID: id, DisplayName: name, URI: "4000", Priority: priority}
}

func overrides(id, to string) domain.DialAction {
	return domain.DialAction{ID: id, DisplayName: id, Rules: []domain.DialRule{{Actions: []domain.DialTerm{{Type: "overrideDialAction", Param: to}}}}}
}

// The test matrix of the reference (§14), but for QR and the web service definitions, and GEP-8, which is the app's part.
// Rows ACC-2 to ACC-8 have tests of their own beside this one that look closer.
func TestMatrix(t *testing.T) {
	for _, row := range []struct {
		id, what string
		do       func(r *rig)
	}{
		{"ACC-1", "a valid first sign-in by POST form is an account that is valid", func(r *rig) {
			w := r.post("account")
			i := wire.Read(w.Body.Bytes())
			for _, f := range i.Findings {
				r.t.Errorf("%+v", f)
			}
			for _, name := range []string{"cloud_username", "cloud_password", "extProvLogoutStatusCode"} {
				delete(i.Document.Nodes, name)
			}
			for _, f := range i.Document.CheckWhole(domain.SoftphonePolicy{}) {
				r.t.Errorf("%+v", f)
			}
			if r.nodes(w)["title"] == "" {
				r.t.Error("no title")
			}
		}},
		{"ACC-2", "a wrong password: 403, no account data, recorded within the hour", func(r *rig) {
			w := r.post("account", "cloud_password", "wrong")
			r.want(w, 403, "<message>")
			if strings.Contains(w.Body.String(), "4001") {
				r.t.Error("account data")
			}
			if err := r.Service.RecordDenials(r.t.Context(), true); err != nil || r.count("softphone.denied") != 1 {
				r.t.Errorf("%d denials, %v", r.count("softphone.denied"), err)
			}
		}},
		{"ACC-3", "names and passwords of any characters come back the same", func(r *rig) {
			if got := r.nodes(r.post("account")); got["userDisplayName"] != title || got["password"] != "Zu8&gen" {
				r.t.Errorf("%q", got)
			}
		}},
		{"ACC-4", "a refresh of a revoked app: the logout status it was told", func(r *rig) {
			account := r.nodes(r.post("account"))
			if _, err := r.Service.SignOutSoftphone(r.t.Context(), commands.SignOutSoftphone{ID: "p1"}); err != nil {
				r.t.Fatal(err)
			}
			if w := r.post("account", "cloud_password", account["cloud_password"]); account["extProvLogoutStatusCode"] != "410" || w.Code != 410 {
				r.t.Errorf("%d, told %s", w.Code, account["extProvLogoutStatusCode"])
			}
		}},
		{"ACC-5", "our stores down on a refresh: 503, never the logout status", func(r *rig) {
			token := r.signIn()
			r.handler = softphone.New(softphone.Options{Provisioner: failing{errors.New("down")}, Client: func(context.Context) softphone.Client { return r.client }})
			r.want(r.post("account", "cloud_password", token), 503, "busy")
		}},
		{"ACC-6", "a placeholder that was not filled in is named", func(r *rig) {
			r.want(r.post("account", "cloud_username", "%username%"), 400, "%username%")
		}},
		{"ACC-7", "a password of asterisks: 400, https", func(r *rig) { r.want(r.post("account", "cloud_password", "****"), 400, "https") }},
		{"ACC-8", "the editable version gets the same, and is recorded as what it is", func(r *rig) {
			r.post("account", "cloud_id", "acme*")
			if !strings.Contains(string(r.last("softphone.signed_in")), `"editable":true`) {
				r.t.Errorf("%s", r.last("softphone.signed_in"))
			}
			live := domain.SoftphonePolicy{LiveOnly: true}
			if _, _, err := r.Service.AmendCloudID(r.t.Context(), commands.AmendCloudID{ID: "acme", Policy: live}); err != nil {
				r.t.Fatal(err)
			}
			r.want(r.post("account", "cloud_id", "acme*"), 404, "cloud ID")
		}},
		{"GEP-1", "two users of one tenant: their own entries, and a locked one they share", func(r *rig) {
			r.cloud([]domain.QuickDial{quick("desk", "Desk", 50)})
			r.amend("", quick("anas", "Ana's", 0), quick("desk", "Mine", 0))
			ana, ben := r.signIn(), r.second()
			r.wantGlobal(r.refresh(ana, "i1"), map[string]string{"desk": "Desk", "anas": "Ana's"})
			r.wantGlobal(r.refresh(ben, "i9"), map[string]string{"desk": "Desk", "bens": "Ben's"})
		}},
		{"GEP-2", "a user without data: 200, an empty root", func(r *rig) {
			w := r.refresh(r.signIn(), "i1")
			if w.Body.String() != xml.Header+"<provisioning></provisioning>\n" {
				r.t.Error(w.Body)
			}
		}},
		{"GEP-3", "an entry that is gone is not in a list that replaces, and is named in one that does not", func(r *rig) {
			token := r.signIn()
			r.cloud([]domain.QuickDial{quick("a", "A", 0), quick("b", "B", 0)})
			r.wantGlobal(r.refresh(token, "i1"), map[string]string{"a": "A", "b": "B"})
			r.cloud([]domain.QuickDial{quick("a", "A", 0)})
			w := r.refresh(token, "i1")
			r.wantGlobal(w, map[string]string{"a": "A"})
			if _, replace := r.global(w); replace != "21" {
				r.t.Errorf("replaces below %q", replace)
			}
			none := 0
			if _, _, err := r.Service.AmendCloudID(r.t.Context(), commands.AmendCloudID{ID: "acme", Document: domain.SoftphoneDocument{QuickDialReplacePriority: &none}}); err != nil {
				r.t.Fatal(err)
			}
			w = r.refresh(token, "i1")
			r.wantGlobal(w, map[string]string{"a": "remove", "b": "remove"})
			if _, replace := r.global(w); replace != "" {
				r.t.Errorf("replaces below %q", replace)
			}
		}},
		{"GEP-4", "a locked entry that is gone is removed with its priority, by each app that had it, for thirty days", func(r *rig) {
			r.cloud([]domain.QuickDial{quick("desk", "Desk", 50)})
			first := r.signIn()
			r.wantGlobal(r.refresh(first, "i1"), map[string]string{"desk": "Desk"})
			r.cloud(nil)
			other := r.nodes(r.post("account", "install", "i2"))["cloud_password"]
			r.wantGlobal(r.refresh(first, "i1"), map[string]string{"desk": "remove 50"})
			r.wantGlobal(r.refresh(other, "i2"), map[string]string{})
			r.Clock.Advance((domain.TombstoneDays*24 - 1) * time.Hour)
			r.wantGlobal(r.refresh(first, "i1"), map[string]string{"desk": "remove 50"})
			r.Clock.Advance(time.Hour)
			r.wantGlobal(r.refresh(first, "i1"), map[string]string{})
			// Who cannot be told apart may have anything.
			r.wantGlobal(r.post("global", "install", ""), map[string]string{"desk": "remove 50"})
		}},
		{"GEP-4", "what was told at the first global call, before the account, is removed too", func(r *rig) {
			r.cloud([]domain.QuickDial{quick("desk", "Desk", 50)})
			r.wantGlobal(r.post("global"), map[string]string{"desk": "Desk"})
			token := r.signIn()
			r.cloud(nil)
			r.wantGlobal(r.refresh(token, "i1"), map[string]string{"desk": "remove 50"})
		}},
		{"GEP-5", "quick dials that cannot be told at the first call come with a refresh", func(r *rig) {
			r.cloud([]domain.QuickDial{quick("desk", "Desk", 50)})
			good := r.handler
			r.handler = softphone.New(softphone.Options{Provisioner: failing{&commands.SoftphoneError{Err: errors.New("down"), FailOpen: true}}, Client: func(context.Context) softphone.Client { return r.client }})
			r.wantGlobal(r.post("global"), map[string]string{})
			r.handler = good
			r.wantGlobal(r.refresh(r.signIn(), "i1"), map[string]string{"desk": "Desk"})
		}},
		{"GEP-6", "a template with an action nobody knows is refused", func(r *rig) {
			r.refused("CS-DA-4", domain.DialAction{ID: "a", DisplayName: "A", Rules: []domain.DialRule{{Actions: []domain.DialTerm{{Type: "explode"}}}}})
		}},
		{"GEP-7", "a circle of dial actions is refused", func(r *rig) { r.refused("CS-DA-8", overrides("a", "b"), overrides("b", "a")) }},
		{"GEP-9", "the same answer twice is the same bytes, and one record", func(r *rig) {
			r.cloud([]domain.QuickDial{quick("a", "A", 0), quick("b", "B", 50)}, overrides("c", "text"))
			token := r.signIn()
			one := r.refresh(token, "i1").Body.String()
			served := r.count("softphone.served")
			if two := r.refresh(token, "i1").Body.String(); two != one || r.count("softphone.served") != served {
				r.t.Errorf("%s%s", one, two)
			}
			r.post("account", "cloud_password", token)
			if r.count("softphone.served") != served {
				r.t.Error("an unchanged account is recorded")
			}
		}},
		{"§12", "a category lies between cloud ID and user, and what it said goes with it", func(r *rig) {
			r.cloud([]domain.QuickDial{quick("a", "cloud", 0), quick("b", "cloud", 0), quick("l", "cloud", 50)})
			r.category("sales", quick("b", "sales", 0), quick("c", "sales", 45), quick("l", "sales", 0))
			r.category("support", quick("d", "support", 0))
			r.amend("sales", quick("c", "own", 0), quick("a", "own", 0))
			token := r.signIn()
			r.wantGlobal(r.refresh(token, "i1"), map[string]string{"a": "own", "b": "sales", "c": "sales", "l": "cloud"})
			r.amend("support")
			r.wantGlobal(r.refresh(token, "i1"), map[string]string{"a": "cloud", "b": "cloud", "c": "remove 45", "d": "support", "l": "cloud"})
		}},
		{"§12", "another tenant's category is no level", func(r *rig) {
			if _, _, err := r.Service.DefineCategory(r.t.Context(), commands.DefineCategory{ID: "theirs", TenantID: "globex", Name: "x", Kind: "plain"}); err != nil {
				r.t.Fatal(err)
			}
			_, _, err := r.Service.AmendSoftphone(r.t.Context(), commands.AmendSoftphone{ID: "p1", LineID: "l1", Category: "theirs"})
			if !errors.Is(err, domain.ErrCategoryOfOtherTenant) {
				r.t.Error(err)
			}
		}},
		{"§12", "what an app is told is on record before it is told", func(r *rig) {
			r.cloud([]domain.QuickDial{quick("desk", "Desk", 50)})
			token := r.signIn()
			r.Faults.Set(func(c commandstest.Call) (f commandstest.Fault) {
				if c.Method == "Append" && c.Events[0].Type == "softphone.served" {
					f.Before = errors.New("disk is full")
				}
				return f
			})
			r.want(r.refresh(token, "i1"), 503, "busy")
			r.wantGlobal(r.post("global"), map[string]string{}) // the first call goes on without
			r.Faults.Set(nil)
			r.wantGlobal(r.refresh(token, "i1"), map[string]string{"desk": "Desk"})
		}},
	} {
		t.Run(row.id+" "+row.what, func(t *testing.T) { row.do(start(t)) })
	}
}

// last is the payload of the last event of a type.
func (r *rig) last(kind string) (data []byte) {
	for _, e := range r.Log.Events() {
		if e.Type == kind {
			data = e.Data
		}
	}
	return data
}

// refused wants a cloud ID's dial actions not to be taken, nothing recorded, and what apps are told to stay.
func (r *rig) refused(code string, actions ...domain.DialAction) {
	r.t.Helper()
	before := len(r.Log.Events())
	_, _, err := r.Service.AmendCloudID(r.t.Context(), commands.AmendCloudID{ID: "acme", Document: domain.SoftphoneDocument{DialActions: actions}})
	var refused *commands.DocumentError
	if !errors.As(err, &refused) || !errors.Is(err, commands.ErrInvalid) || !strings.HasPrefix(err.Error(), code+":") || len(r.Log.Events()) != before {
		r.t.Errorf("%v, want %s", err, code)
	}
}

// The vendor documentation's exchange: GET with its parameters and headers; the account, and the error document, byte for
// byte in the documented structure.
func TestTheDocumentedExchange(t *testing.T) {
	r := start(t)
	ask := func(password string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		q := httptest.NewRequest(http.MethodGet, "/softphone/v1/account?cloud_username=ana%40acme.example&cloud_password="+password+"&cloud_id=ACME&initialScreen=1", nil)
		q.Header.Set("Connection", "close")
		q.Header.Set("Cache-Control", "max-age=0")
		q.Header.Set("User-Agent", "CloudSoftphone/1.5.6")
		r.handler.ServeHTTP(w, q)
		return w
	}
	w := ask("p%26%3Cw%3E'%22%2B1%25")
	want := xml.Header + `<account>
  <title>Ana &#34;Ä&#34; &lt;Keller&gt; &amp; Söhne 🙂</title>
  <authUsername>4001-m</authUsername>
  <cloud_password>` + r.nodes(w)["cloud_password"] + `</cloud_password>
  <cloud_username>ana@acme.example</cloud_username>
  <extProvInterval>3600</extProvInterval>
  <extProvLogoutStatusCode>410</extProvLogoutStatusCode>
  <host>sip.acme.example</host>
  <password>Zu8&amp;gen</password>
  <userDisplayName>Ana &#34;Ä&#34; &lt;Keller&gt; &amp; Söhne 🙂</userDisplayName>
  <username>4001</username>
</account>
`
	if got := w.Body.String(); got != want || w.Header().Get("Content-Length") != strconv.Itoa(len(want)) {
		t.Errorf("%s", got)
	}
	w = ask("wrong")
	want = xml.Header + `<error>
  <message>The user name or the password is not right, or the code has been used or has expired.</message>
</error>
`
	if w.Code != http.StatusForbidden || w.Body.String() != want || w.Header().Get("Content-Type") != "application/xml; charset=utf-8" || w.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if n := len([]rune(r.message(wire.Error(strings.Repeat("ä", 500))))); n != 200 {
		t.Errorf("a message of %d characters", n)
	}
}

func (r *rig) message(document []byte) string {
	var e struct {
		Message string `xml:"message"`
	}
	if err := xml.Unmarshal(document, &e); err != nil {
		r.t.Fatal(err)
	}
	return e.Message
}

// counting counts what a sign-in does: streams read, hashes made, memory taken in units of one argon2id, which takes far
// more than all the rest.
type counting struct{ reads, hashes, argons int }

type countedLog struct {
	commands.Log
	*counting
}

func (c countedLog) Read(ctx context.Context, stream domain.StreamID, from domain.Revision) iter.Seq2[domain.Recorded, error] {
	c.reads++
	return c.Log.Read(ctx, stream, from)
}

type countedVault struct {
	commands.Vault
	*counting
}

func (c countedVault) Hash(ctx context.Context, subject domain.Subject, purpose string, value []byte) ([]byte, error) {
	c.hashes++
	return c.Vault.Hash(ctx, subject, purpose, value)
}

// counts makes the rig's service count what do does.
func (r *rig) counts() func(do func()) counting {
	c := &counting{}
	r.Service.Log, r.Service.Vault = countedLog{r.Service.Log, c}, countedVault{r.Service.Vault, c}
	taken := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.TotalAlloc
	}
	return func(do func()) counting {
		const argon = 19 << 20
		*c = counting{}
		before := taken()
		do()
		c.argons = int((taken() - before + argon/2) / argon)
		return *c
	}
}

// bare is a softphone that has neither password nor code.
func (r *rig) bare() {
	r.t.Helper()
	if _, _, _, err := r.Service.DefineSoftphone(r.t.Context(), commands.DefineSoftphone{ID: "bare", TenantID: "acme", CloudID: "acme", LineID: "l1", Username: "bare"}); err != nil {
		r.t.Fatal(err)
	}
}

// An unknown user, one without a password, a wrong password and a code that has been used are the same work: streams read,
// hashes made, argon2id computed.
func TestARefusalIsTheSameWorkForAll(t *testing.T) {
	r := start(t)
	r.bare()
	code, _, err := r.Service.IssueSoftphoneCode(t.Context(), commands.IssueSoftphoneCode{ID: "p1"})
	if err != nil {
		t.Fatal(err)
	}
	r.want(r.post("account", "cloud_password", code.Code, "install", "used"), http.StatusOK, "<account>")
	count := r.counts()
	r.post("account", "cloud_password", "warm up") // keys are looked for once
	for argons, passwords := range [][]string{1: {"wrong", code.Code, "000000000000"}, 2: {"wr ng"}} {
		seen := map[counting]bool{}
		for i, user := range []string{"ana@acme.example", "nobody", "bare"} {
			for j, password := range passwords {
				r.client.IP = fmt.Sprintf("198.51.%d.%d", i, j)
				seen[count(func() {
					if w := r.post("account", "cloud_username", user, "cloud_password", password); w.Code != http.StatusForbidden {
						t.Errorf("%s, %s: %d", user, password, w.Code)
					}
				})] = true
			}
		}
		for c := range seen {
			if len(seen) != 1 || c.argons != argons {
				t.Errorf("%q: %+v", passwords, seen)
			}
		}
	}
}

// A good code costs no argon2id, so that many apps can come in at a time; a password costs one.
func TestACodeIsCheap(t *testing.T) {
	r := start(t)
	count := r.counts()
	code, _, err := r.Service.IssueSoftphoneCode(t.Context(), commands.IssueSoftphoneCode{ID: "p1"})
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]int{code.Code: 0, code.Code[:4] + " " + code.Code[4:]: 0, password: 1} {
		if got := count(func() { r.want(r.post("account", "cloud_password", password), http.StatusOK, "<account>") }); got.argons != want {
			t.Errorf("%q: %+v", password, got)
		}
	}
}

// By a clock that does nothing but what it is told, every refusal takes what RefuseAfter says, whatever it is for; who is let
// in, and who has to wait, does not wait for it.
func TestARefusalTakesTheSameTimeForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t)
		r.bare()
		r.handler = softphone.New(softphone.Options{Provisioner: r.Service, Client: func(context.Context) softphone.Client { return r.client }})
		for i, c := range []struct {
			what   string
			status int
			takes  time.Duration
			pairs  []string
		}{
			{"a password", 200, 0, nil},
			{"a wrong password", 403, 500 * time.Millisecond, []string{"cloud_password", "wrong"}},
			{"no such user", 403, 500 * time.Millisecond, []string{"cloud_username", "nobody"}},
			{"a user without a password", 403, 500 * time.Millisecond, []string{"cloud_username", "bare"}},
			{"no such code", 403, 500 * time.Millisecond, []string{"cloud_password", "000000000000"}},
			{"a token of nobody", 403, 500 * time.Millisecond, []string{"cloud_password", "llsp_none_" + strings.Repeat("x", 43)}},
			{"a token that never was", 403, 500 * time.Millisecond, []string{"cloud_password", "llsp_p1_" + strings.Repeat("x", 43)}},
			{"no such cloud ID", 404, 0, []string{"cloud_id", "NOSUCH"}},
		} {
			r.client.IP = "198.51.100." + strconv.Itoa(i)
			for _, service := range []string{"account", "global"} {
				begun := time.Now()
				if w := r.post(service, c.pairs...); w.Code != c.status || time.Since(begun) != c.takes {
					t.Errorf("%s: %s: %d after %s", c.what, service, w.Code, time.Since(begun))
				}
			}
		}
	})
}

// A form's "+" that an app did not escape is tried as it stands, in user name and password, as one attempt.
func TestAPlusThatWasNotEscaped(t *testing.T) {
	r := start(t)
	if _, _, _, err := r.Service.DefineSoftphone(t.Context(), commands.DefineSoftphone{ID: "plus", TenantID: "acme", CloudID: "acme", LineID: "l1", Username: "+49301"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Service.SetSoftphonePassword(t.Context(), commands.SetSoftphonePassword{ID: "plus", Password: "a+b+c+d+e"}); err != nil {
		t.Fatal(err)
	}
	r.want(r.send(http.MethodPost, "/softphone/v1/account", form, "cloud_id=ACME&cloud_username=+49301&cloud_password=a+b+c+d+e"), 200, "<account>")
	r.want(r.send(http.MethodPost, "/softphone/v1/account", form, "cloud_id=ACME&cloud_username=%2B49301&cloud_password=a%2Bb%2Bc%2Bd%2Be"), 200, "<account>")
	for i := range 5 {
		r.client.IP = "198.51.100." + strconv.Itoa(i)
		r.want(r.send(http.MethodPost, "/softphone/v1/account", form, "cloud_id=ACME&cloud_username=+49301&cloud_password=w+ng"), 403, "not right")
	}
	r.want(r.send(http.MethodPost, "/softphone/v1/account", form, "cloud_id=ACME&cloud_username=%2B49301&cloud_password=wrong"), 429, "Too many")
}

// Behind one address are many apps: who has a token goes on while the source has to wait; a token that is none does not.
func TestATokenIsNotHeldUp(t *testing.T) {
	r := start(t)
	token := r.signIn()
	for i := range 10 {
		r.post("account", "cloud_username", "u"+strconv.Itoa(i), "cloud_password", "wrong")
	}
	r.want(r.post("account", "cloud_username", "u", "cloud_password", "x"), 429, "Too many")
	r.want(r.post("account", "cloud_password", token), 200, "<account>")
	r.want(r.post("account", "cloud_password", token[:len(token)-1]+"#"), 429, "Too many")
}

// An app, or something before it, may bring several tags, or weak ones.
func TestTagsOfAnAnswer(t *testing.T) {
	r := start(t)
	token := r.signIn()
	ask := func(tags string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		q := httptest.NewRequest(http.MethodGet, "/softphone/v1/global/"+token+"?cloud_id=ACME&install=i1", nil)
		q.Header.Set("If-None-Match", tags)
		r.handler.ServeHTTP(w, q)
		return w
	}
	tag := ask("").Header().Get("ETag")
	for tags, want := range map[string]int{tag: 304, "W/" + tag: 304, `"other", ` + tag: 304, `"other"`: 200} {
		if w := ask(tags); w.Code != want {
			t.Errorf("%s: %d", tags, w.Code)
		}
	}
	if tag := r.post("global").Header().Get("ETag"); tag != "" {
		t.Error("the first call has a tag")
	}
	if tag := r.post("account", "cloud_password", token).Header().Get("ETag"); tag != "" {
		t.Error("an account has a tag")
	}
}

// What cannot be read is logged by what is wrong with it, without what was in it; JSON put together without escaping as such.
func TestWhatCannotBeReadIsLogged(t *testing.T) {
	r := start(t)
	var log strings.Builder
	logger := zerolog.New(&log)
	r.handler = func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			next.ServeHTTP(w, q.WithContext(logger.WithContext(q.Context())))
		})
	}(r.handler)
	r.want(r.send(http.MethodPost, "/softphone/v1/account", "application/json", `{"cloud_id":"ACME","cloud_password":"sec"ret"}`), 400, "cloud_password")
	r.post("account", "cloud_id", "")
	if s := log.String(); !strings.Contains(s, `"escaping":true`) || !strings.Contains(s, `"escaping":false`) || strings.Contains(s, "sec") || strings.Contains(s, "1%") {
		t.Error(s)
	}
}
