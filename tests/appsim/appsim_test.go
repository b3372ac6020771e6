package appsim

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// QR-1, and the codes of other makers.
func TestScan(t *testing.T) {
	for text, want := range map[string]Inputs{
		"csc:ACME":                              {CloudID: "ACME"},
		"csc:ana@ACME":                          {CloudID: "ACME", Username: "ana"},
		"csc:ana:s3cret@ACME*":                  {CloudID: "ACME*", Username: "ana", Password: "s3cret"},
		"csc:ana%40acme.example:p%3Aq%40r@ACME": {CloudID: "ACME", Username: "ana@acme.example", Password: "p:q@r"},
		"CSC:a%2Bb:c+d@ACME":                    {CloudID: "ACME", Username: "a+b", Password: "c+d"},
		"csc:4001@pbx.example:p:q@ACME":         {CloudID: "ACME", Username: "4001@pbx.example", Password: "p:q"}, // FusionPBX: a raw "@"
		"csc:a:100%@ACME":                       {CloudID: "ACME", Username: "a", Password: "100%"},
	} {
		if got, err := Scan(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "csc:", "csc:*", "csc:ana@", "csc:ana@*", "ACME", "https://x.example/", "csc:ana@AC ME", "csc:ana@ACME%2A", "csc:x@y:z"} {
		if got, err := Scan(text); !errors.Is(err, ErrScan) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestTyped(t *testing.T) {
	for first, want := range map[string]Inputs{
		"ACME":                  {CloudID: "ACME", Password: "p"},
		"ana@ACME*":             {CloudID: "ACME*", Username: "ana", Password: "p"},
		"ana@acme.example@ACME": {CloudID: "ACME", Username: "ana@acme.example", Password: "p"},
		"a%20b@ACME":            {CloudID: "ACME", Username: "a b", Password: "p"},
	} {
		if got := Typed(first, "p"); got != want {
			t.Errorf("%s: %+v", first, got)
		}
	}
}

func TestTemplate(t *testing.T) {
	values := func(name string, ofAccount, hashed bool) (string, bool) {
		switch {
		case ofAccount && name == "password" && !hashed:
			return "********", true
		case ofAccount:
			return map[string]string{"password": "abc", "X-Own": "100%username%"}[name], true
		case name == "username":
			return `a b+c&"d`, true
		}
		return "", false
	}
	for template, want := range map[string]string{
		"u=%username%":                   "u=a%20b%2Bc%26%22d",
		"%nosuch%|%also%":                "%nosuch%|%also%",
		"100% of %username":              "100% of %username",
		"%%username%%":                   "%a%20b%2Bc%26%22d%",
		"%account[password]%":            "%2A%2A%2A%2A%2A%2A%2A%2A",
		"%account[nosuch]%":              "",
		"%account[X-Own]%":               "100%25username%25", // a value is not a template
		"%sha1(%account[password]%)%":    "a9993e364706816aba3e25717850c26c9cd0d89d",
		"%sha1(abc)%-":                   "a9993e364706816aba3e25717850c26c9cd0d89d-",
		"%sha1(%account[password]%":      "%sha1(%2A%2A%2A%2A%2A%2A%2A%2A",
		"%md5(x)%":                       "%md5(x)%",
		"%other[x]% %account[%username%": "%other[x]% %account[a%20b%2Bc%26%22d",
	} {
		if got := New(Config{}).expand(template, values, percent); got != want {
			t.Errorf("%s: %s, want %s", template, got, want)
		}
	}
	if got := New(Config{Behaviour: Behaviour{EmptyUnknown: true}}).expand("a%nosuch%b%username%", values, raw); got != `aba b+c&"d` {
		t.Error(got)
	}
	if got := New(Config{}).expand(`{"u":"%username%"}`, values, quoted); got != `{"u":"a b+c\u0026\"d"}` {
		t.Error(got)
	}
}

// provider answers an app from functions, and keeps what was asked.
type provider struct {
	answers map[string]func(body string) (int, string) // by path
	asked   []*http.Request
	bodies  []string
	header  http.Header // of the next answer
}

func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = string(b)
	}
	p.asked, p.bodies = append(p.asked, r), append(p.bodies, body)
	answer, ok := p.answers[r.URL.Path]
	if !ok {
		return nil, errors.New("connection refused")
	}
	status, text := answer(body)
	return &http.Response{StatusCode: status, Header: p.header, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
}

// world is an app, its provider and the clock.
type world struct {
	*App
	t        *testing.T
	provider *provider
	now      time.Time
}

func start(t *testing.T, portal map[string]string, b Behaviour) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC), provider: &provider{answers: map[string]func(string) (int, string){}}}
	all := map[string]string{"InitialProvisioningUrl": "https://p.example/first", "initialGlobalProvisioningUrl": "https://p.example/global1?u=%username%&c=%fullcode%",
		"InitialProvisioningPostData": "u=%username%&p=%password%&i=%installid%&n=%account[title]%", "globalExtProvUrl": "https://p.example/global"}
	for k, v := range portal {
		all[k] = v
	}
	w.App = New(Config{Portal: all, HTTP: w.provider, Now: func() time.Time { return w.now }, Install: "i1", Behaviour: b})
	w.Enter(Inputs{CloudID: "ACME*", Username: "ana@acme", Password: "p w"})
	w.says("/first", 200, `<account><title>Ana</title><cloud_password>tok</cloud_password><extProvUrl>https://p.example/again</extProvUrl><extProvInterval>600</extProvInterval>
		<extProvPostData>p=%account[cloud_password]%&amp;x=%account[X]%</extProvPostData><extProvLogoutStatusCode>410</extProvLogoutStatusCode></account>`)
	w.says("/global1", 200, `<x/>`)
	w.says("/global", 200, `<x/>`)
	w.says("/again", 200, `<account/>`)
	return w
}

func (w *world) says(path string, status int, body string) {
	w.provider.answers[path] = func(string) (int, string) { return status, body }
}

func (w *world) signIn() {
	w.t.Helper()
	if err := w.SignIn(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// at lets time pass and does what is due.
func (w *world) at(after time.Duration) error {
	w.now = w.now.Add(after)
	return w.Tick(w.t.Context())
}

// WS-1: a definition with a body and no method is a POST, one without is a GET; what is sent is what the templates say.
func TestSignIn(t *testing.T) {
	w := start(t, nil, Behaviour{})
	w.signIn()
	var asked []string
	for i, r := range w.provider.asked {
		asked = append(asked, r.Method+" "+r.URL.String()+" "+r.Header.Get("Content-Type")+" "+w.provider.bodies[i])
		if r.Header.Get("User-Agent") != "CloudSoftphone/1.6.4" || r.Header.Get("Cache-Control") != "max-age=0" {
			t.Errorf("%v", r.Header)
		}
	}
	want := []string{"POST https://p.example/first application/x-www-form-urlencoded u=ana%40acme&p=p%20w&i=i1&n=%account[title]%", "GET https://p.example/global1?u=ana%40acme&c=ACME%2A  "}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
	if !w.SignedIn() || w.Node("title") != "Ana" {
		t.Errorf("%v", w.Nodes())
	}
	w = start(t, map[string]string{"InitialProvisioningMethod": "PUT", "InitialProvisioningContentType": "application/json", "InitialProvisioningPostData": `{"p":"%password%"}`,
		"InitialProvisioningCustomHeaders": `X-A: 1\nX-B: %fullcode%`}, Behaviour{GlobalFirst: true, NoInstallID: true})
	w.Enter(Inputs{CloudID: "ACME", Username: "ana", Password: `a"b`})
	w.signIn()
	r := w.provider.asked[1]
	if r.Method != "PUT" || w.provider.bodies[1] != `{"p":"a\"b"}` || r.Header.Get("X-A")+r.Header.Get("X-B") != "1ACME" || w.provider.asked[0].URL.Path != "/global1" {
		t.Errorf("%v %q", r, w.provider.bodies)
	}
}

func TestSignInStops(t *testing.T) {
	for name, c := range map[string]struct {
		path   string
		status int
		body   string
		want   string
	}{
		"own text":          {"/first", 403, `<error><message> The code has expired. </message></error>`, "The code has expired."},
		"JSON error":        {"/first", 403, `{"message":"x"}`, generalText},
		"global":            {"/global1", 503, `<error><message>Later.</message></error>`, "Later."},
		"no title":          {"/first", 200, `<account><title> </title></account>`, generalText},
		"error with 200":    {"/first", 200, `<error><message>x</message></error>`, generalText},
		"two roots":         {"/first", 200, `<account><title>x</title></account><account/>`, generalText},
		"not XML":           {"/first", 200, `title=x`, generalText},
		"cut off":           {"/global1", 200, `<x><quickDial>`, generalText},
		"redirect":          {"/first", 302, ``, generalText},
		"global, not there": {"/nowhere", 0, "", generalText},
	} {
		w := start(t, nil, Behaviour{})
		if c.path == "/nowhere" {
			w.Portal["initialGlobalProvisioningUrl"] = "https://p.example/nowhere"
		} else {
			w.says(c.path, c.status, c.body)
		}
		var shown *Shown
		if err := w.SignIn(t.Context()); !errors.As(err, &shown) || shown.Message != c.want || shown.Status != c.status {
			t.Errorf("%s: %v", name, err)
		}
		if w.SignedIn() || len(w.Nodes()) != 0 || !errors.Is(w.Tick(t.Context()), ErrSignedOut) || !errors.Is(w.Start(t.Context()), ErrSignedOut) {
			t.Errorf("%s: something was kept: %v", name, w.Nodes())
		}
		if _, due := w.Due(); due {
			t.Errorf("%s: a refresh is due", name)
		}
	}
}

// WS-2: refreshes come when they are due, and trouble changes nothing.
func TestRefresh(t *testing.T) {
	w := start(t, nil, Behaviour{})
	w.signIn()
	count := func(path string) (n int) {
		for _, r := range w.provider.asked {
			if r.URL.Path == path {
				n++
			}
		}
		return n
	}
	if at, ok := w.Due(); !ok || at.Sub(w.now) != 600*time.Second {
		t.Errorf("due %v, %v", at, ok)
	}
	w.says("/again", 500, "")
	w.says("/global", 500, "")
	for range 59 {
		if err := w.at(time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if count("/again") != 5 || count("/global") != 0 {
		t.Errorf("%d and %d calls in 59 minutes", count("/again"), count("/global"))
	}
	if err := w.at(time.Minute); err != nil || count("/global") != 1 || !w.SignedIn() || w.Node("title") != "Ana" {
		t.Errorf("%v, %d", err, count("/global"))
	}
	calls := w.Calls()
	if last := calls[len(calls)-1]; last.Service != Global || last.Status != 500 || last.Err == "" || !last.At.Equal(w.now) {
		t.Errorf("%+v", last)
	}
	// Nodes that come are merged, and the intervals they set hold from now on.
	w.says("/again", 200, `<account><title>Ana K.</title><extProvInterval>0</extProvInterval></account>`)
	if err := w.at(10 * time.Minute); err != nil || w.Node("title") != "Ana K." || w.Node("cloud_password") != "tok" {
		t.Errorf("%v %v", err, w.Nodes())
	}
	asked := count("/again")
	if err := w.at(48 * time.Hour); err != nil || count("/again") != asked {
		t.Errorf("%v: asked after it was switched off", err)
	}
	for i, r := range w.provider.asked {
		if got := w.provider.bodies[i]; r.URL.Path == "/again" && got != "p=tok&x=" {
			t.Errorf("%q", got)
		}
	}
}

// The logout status signs out; the same status from the global service, or any other, does not.
func TestLogout(t *testing.T) {
	w := start(t, nil, Behaviour{})
	w.signIn()
	w.says("/global", 410, "")
	w.says("/again", 404, "")
	if err := w.at(time.Hour); err != nil || !w.SignedIn() {
		t.Fatal(err)
	}
	w.says("/again", 410, `<error><message>x</message></error>`)
	if err := w.at(time.Hour); !errors.Is(err, ErrSignedOut) || w.SignedIn() || len(w.Nodes()) != 0 || w.inputs.Password != "" {
		t.Errorf("%v, %v", err, w.Nodes())
	}
	if _, due := w.Due(); due {
		t.Error("a refresh is due after signing out")
	}
}

// Section 8 of the rules of merging, step by step.
func TestMerging(t *testing.T) {
	w := start(t, nil, Behaviour{})
	w.signIn()
	global := func(xml string) {
		t.Helper()
		w.says("/global", 200, xml)
		if err := w.Refresh(t.Context(), Global); err != nil {
			t.Fatal(err)
		}
	}
	want := func(step string, dials ...string) {
		t.Helper()
		var got []string
		for _, q := range w.QuickDials() {
			got = append(got, q.ID+"="+q.DisplayName)
		}
		if diff := cmp.Diff(dials, got); diff != "" {
			t.Errorf("%s: %s", step, diff)
		}
	}
	item := func(id, name, attrs string) string {
		return `<item id="` + id + `" ` + attrs + `><displayName>` + name + `</displayName><uri>1</uri></item>`
	}
	global(`<root><quickDial>` + item("a", "A", "") + item("lock", "L", `priority="50"`) + item("c", "C", "") + `<item><displayName>no id</displayName></item></quickDial><other/></root>`)
	want("first", "a=A", "lock=L", "c=C")
	global(`<provisioning/>`)
	want("nothing said", "a=A", "lock=L", "c=C")
	if err := w.EditQuickDial(QuickDial{ID: "a", DisplayName: "mine"}); err != nil {
		t.Fatal(err)
	}
	if err := w.EditQuickDial(QuickDial{ID: "own", DisplayName: "own"}); err != nil {
		t.Fatal(err)
	}
	if err := w.EditQuickDial(QuickDial{ID: "lock", DisplayName: "x"}); !errors.Is(err, ErrLocked) {
		t.Errorf("a locked entry was changed: %v", err)
	}
	global(`<x><quickDial>` + item("a", "A2", "") + item("c", "C2", "") + `</quickDial></x>`)
	want("the user's own edit stays", "a=mine", "lock=L", "c=C2", "own=own")
	global(`<x><quickDial><item id="a" action="remove"/><item id="lock" action="remove"/><item id="c" action="remove"/><item id="never" action="remove"/></quickDial></x>`)
	want("only what is not above can be removed", "a=mine", "lock=L", "own=own")
	global(`<x><quickDial maxQuickDialReplacePriority="21">` + item("d", "D", "") + `</quickDial></x>`)
	global(`<x><quickDial maxQuickDialReplacePriority="21">` + item("e", "E", "") + `</quickDial></x>`)
	want("replaced as a whole, users' and locked ones kept", "a=mine", "lock=L", "own=own", "e=E")
	global(`<x><quickDial><item id="lock" action="remove" priority="50"/>` + item("a", "locked now", `priority="50"`) + `</quickDial></x>`)
	want("a priority that is high enough", "a=locked now", "own=own", "e=E")
	global(`<x><quickdial>` + item("z", "Z", "") + `</quickdial></x>`)
	want("names of elements are exact", "a=locked now", "own=own", "e=E")
	w.AnyCase = true
	global(`<x><quickdial>` + item("z", "Z", "") + `</quickdial></x>`)
	want("or not", "a=locked now", "own=own", "e=E", "z=Z")

	global(`<x><dialActions><dialAction id="p"><displayName>Private</displayName><rewriting><rule><conditions><condition type="startsWith" param="+"/></conditions>
		<actions><action type="prepend" param="*67"/><action type="continue"/></actions></rule></rewriting></dialAction></dialActions></x>`)
	if diff := cmp.Diff([]DialAction{{ID: "p", DisplayName: "Private", Priority: 20, Rules: []Rule{{[]Term{{"startsWith", "+"}}, []Term{{"prepend", "*67"}, {"continue", ""}}}}}}, w.DialActions()); diff != "" {
		t.Error(diff)
	}
	global(`<x><dialActions><dialAction id="p" action="remove"/></dialActions></x>`)
	if len(w.DialActions()) != 0 {
		t.Errorf("%+v", w.DialActions())
	}
	// Of the account, what the user changed stays as well.
	w.EditNode("title", "My phone")
	w.says("/again", 200, `<account><title>Theirs</title><host priority="50">h</host></account>`)
	if err := w.Refresh(t.Context(), Account); err != nil || w.Node("title") != "My phone" || w.Node("host") != "h" {
		t.Errorf("%v %v", err, w.Nodes())
	}
	if w.EditNode("host", "x"); w.Node("host") != "h" {
		t.Error("a locked node was changed")
	}
}

func TestServices(t *testing.T) {
	w := start(t, map[string]string{"wsContactsUrl": "https://p.example/contacts", "wsContactsRefresh": "300", "genericBalanceCheckUrl": "http://p.example/balance?p=%account[password]%&h=%sha1(%account[X]%)%",
		"pushTokenReporterUrl": "https://p.example/push", "pushTokenReporterPostData": "s=%selector%&t=%pushTokenIncomingCall%&o=%pushTokenOther%&a=%pushappid_incoming_call%&b=%pushappid_other%"}, Behaviour{})
	ctx := t.Context()
	if _, err := w.Balance(ctx); !errors.Is(err, ErrSignedOut) {
		t.Error(err)
	}
	w.signIn()
	w.provider.header = http.Header{"Last-Modified": {"Sun, 01 Mar 2026 08:00:00 GMT"}}
	w.says("/contacts", 200, `{"contacts":[{"contactId":"1","displayName":"Jo","contactEntries":[{"entryId":"t","type":"tel","uri":"4711"}]}]}`)
	if err := w.at(5 * time.Minute); err != nil || len(w.Directory()) != 1 || w.Directory()[0].Entries[0].URI != "4711" {
		t.Errorf("%v %+v", err, w.Directory())
	}
	w.says("/contacts", 304, "")
	if err := w.at(5 * time.Minute); err != nil || len(w.Directory()) != 1 || w.provider.asked[len(w.provider.asked)-1].Header.Get("If-Modified-Since") != "Sun, 01 Mar 2026 08:00:00 GMT" {
		t.Errorf("%v %+v", err, w.Directory())
	}
	w.says("/contacts", 200, `{"error":1}`)
	if err := w.at(5 * time.Minute); err != nil || len(w.Directory()) != 1 || w.Calls()[len(w.Calls())-1].Err == "" {
		t.Errorf("%v %+v", err, w.Directory())
	}
	w.says("/balance", 200, `<response><error>0</error><balanceString>12.50 €</balanceString></response>`)
	if got, err := w.Balance(ctx); err != nil || got != "12.50 €" || w.provider.asked[len(w.provider.asked)-1].URL.RawQuery != "p=%2A%2A%2A%2A%2A%2A%2A%2A&h=da39a3ee5e6b4b0d3255bfef95601890afd80709" {
		t.Errorf("%q %v %v", got, err, w.provider.asked[len(w.provider.asked)-1].URL)
	}
	for _, body := range []string{`<response><error>7</error></response>`, `nonsense`} {
		w.says("/balance", 200, body)
		if got, err := w.Balance(ctx); err == nil {
			t.Errorf("%s: %q", body, got)
		}
	}
	asked := len(w.provider.asked)
	if err := w.Start(ctx); err != nil || len(w.provider.asked) != asked+1 {
		t.Errorf("%v: reported without a token", err)
	}
	w.GivePush(PushTokens{"t1", "t2", "app.voip", "app"})
	w.says("/push", 204, "")
	if err := w.Start(ctx); err != nil {
		t.Error(err)
	}
	body := w.provider.bodies[len(w.provider.bodies)-1]
	if !strings.HasSuffix(body, "%3A1&t=t1&o=t2&a=app.voip&b=app") || len(body) < len("s=")+40 {
		t.Error(body)
	}
}

func TestNothingIsCalledThatCannotBe(t *testing.T) {
	for _, url := range []string{"", "lua://x", "ftp://p.example/", "p.example"} {
		w := start(t, map[string]string{"InitialProvisioningUrl": url}, Behaviour{})
		if err := w.SignIn(t.Context()); err == nil || len(w.provider.asked) > 0 {
			t.Errorf("%q: %v", url, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := New(Config{Portal: map[string]string{"InitialProvisioningUrl": "http://127.0.0.1:1/"}})
	if err := w.SignIn(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
