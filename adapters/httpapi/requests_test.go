package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ledgerline/domain"
)

// Bad input is answered with what is wrong with it, and leaves no event behind.
func TestBadInputIsNamedAndRecordsNothing(t *testing.T) {
	o := open(t)
	deep := strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200)
	for _, c := range []struct {
		name, method, path string
		body               any
		status             int
		fields             []string
	}{
		{"a MAC with a letter too far", "POST", "/devices", map[string]any{"mac": "00:15:65:1a:2b:zz"}, 400, []string{"mac"}},
		{"the broadcast address", "POST", "/devices", map[string]any{"mac": "ff:ff:ff:ff:ff:ff"}, 400, []string{"mac"}},
		{"no MAC and no id", "POST", "/devices", map[string]any{}, 400, []string{"mac"}},
		{"a model of 65 characters", "POST", "/devices", map[string]any{"mac": "0015651a2bff", "model": strings.Repeat("x", 65)}, 400, []string{"model"}},
		{"a body that is no JSON", "POST", "/users", `{"tenant_id":`, 400, nil},
		{"a body that is a list", "POST", "/users", `[]`, 400, nil},
		{"no body", "POST", "/users", nil, 400, nil},
		{"something after the body", "POST", "/users", `{"tenant_id":"acme"} {}`, 400, nil},
		{"a member nobody knows", "POST", "/users", map[string]any{"tenant_id": "acme", "shoe_size": 44}, 400, []string{"shoe_size"}},
		{"a number for text", "POST", "/users", map[string]any{"tenant_id": "acme", "display_name": 7}, 400, []string{"display_name"}},
		{"no e-mail address", "POST", "/users", map[string]any{"tenant_id": "acme", "email": "anna"}, 400, []string{"email"}},
		{"control characters in a name", "POST", "/users", map[string]any{"tenant_id": "acme", "display_name": "Anna\r\nX: 1"}, 400, []string{"display_name"}},
		{"an id with a slash", "POST", "/users", map[string]any{"tenant_id": "acme", "id": "a/b"}, 400, []string{"id"}},
		{"a setting of the wrong type", "POST", "/layers", map[string]any{"tenant_id": "acme", "settings": map[string]any{"ntp_enabled": "perhaps"}}, 400, []string{"settings.ntp_enabled"}},
		{"a setting out of range", "POST", "/layers", map[string]any{"tenant_id": "acme", "settings": map[string]any{"vlan_id": 9999}}, 400, []string{"settings.vlan_id"}},
		{"an unknown time zone", "POST", "/layers", map[string]any{"tenant_id": "acme", "settings": map[string]any{"timezone": "Mars/Olympus"}}, 400, []string{"settings.timezone"}},
		{"an unknown setting", "POST", "/layers", map[string]any{"tenant_id": "acme", "settings": map[string]any{"no_such_setting": 1}}, 400, []string{"settings.no_such_setting"}},
		{"a layer above itself", "PUT", "/layers/acme.layer", map[string]any{"parents": []string{"acme.layer"}, "settings": map[string]any{}}, 409, nil},
		{"settings nested too deep", "POST", "/layers", `{"tenant_id":"acme","settings":{"X_a":` + deep + `}}`, 400, nil},
		{"an unknown purpose", "POST", "/codes", map[string]any{"tenant_id": "acme", "category_id": "acme.desk", "purpose": "fun"}, 400, []string{"purpose"}},
		{"an unknown role", "POST", "/apikeys", map[string]any{"name": "k", "role": "king"}, 400, []string{"role"}},
		{"an unknown parameter", "GET", "/devices?color=red", nil, 400, []string{"color"}},
		{"a limit of 501", "GET", "/devices?limit=501", nil, 400, []string{"limit"}},
		{"a limit of no number", "GET", "/devices?limit=ten", nil, 400, []string{"limit"}},
		{"a cursor of another list", "GET", "/devices?cursor=bm9zdWNo", nil, 400, []string{"cursor"}},
		{"a list of a time that is none", "GET", "/devices?as_of=yesterday", nil, 400, []string{"as_of"}},
		{"a list of the future", "GET", "/devices?as_of=999999999", nil, 400, []string{"as_of"}},
		{"a time that is none", "GET", "/users/acme.anna?as_of=yesterday", nil, 400, []string{"as_of"}},
		{"a position that is none", "GET", "/users/acme.anna?min_position=soon", nil, 400, []string{"min_position"}},
		{"an ETag that is none", "PUT", "/users/acme.anna", map[string]any{"display_name": "B"}, 412, nil},
		{"a body of more than a mebibyte", "POST", "/layers", `{"tenant_id":"acme","name":"` + strings.Repeat("x", 1<<20) + `"}`, 413, nil},
		{"no such path", "GET", "/nonsense", nil, 404, nil},
		{"no such method", "PATCH", "/users/acme.anna", nil, 405, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var headers []string
			if strings.Contains(c.name, "ETag") {
				headers = []string{"If-Match", `"nonsense"`}
			}
			o.nothing(t, func() {
				o.ask(o.root, c.method, c.path, c.body, headers...).problem(t, c.status, "", c.fields...)
			})
		})
	}
	if r := o.ask(o.root, "POST", "/users", `tenant_id=acme`, "Content-Type", "application/x-www-form-urlencoded"); r.status != 415 && r.status != 400 {
		t.Errorf("a form: %d %s", r.status, r.body)
	}
	o.ask(o.root, "GET", "/users/acme.anna", nil).want(t, 200) // healthy afterwards
}

func TestKeysThatOpenNothing(t *testing.T) {
	o := open(t)
	o.ask(o.root, "DELETE", "/apikeys/"+string(o.keyIDs["acme/auditor"]), nil).want(t, 204)
	for name, token := range map[string]string{"none": "", "nonsense": "nonsense", "a revoked one": o.tokens["acme/auditor"], "another secret": o.root + "x", "an unknown id": "ll_nosuch_aaaa"} {
		t.Run(name, func(t *testing.T) {
			o.ask(token, "GET", "/tenants", nil).problem(t, 401, "")
		})
	}
}

// A refused code is refused alike, whatever the reason: the same bytes but for the request's id.
func TestCodesAreRefusedAlike(t *testing.T) {
	o := open(t)
	issue := func(purpose string) string {
		t.Helper()
		v := o.ask(o.root, "POST", "/codes", map[string]any{"tenant_id": "acme", "category_id": "acme.desk", "purpose": purpose}).want(t, 201)
		for _, member := range []string{"id", "code", "valid_until"} {
			if s, _ := v[member].(string); s == "" {
				t.Fatalf("no %s in %v", member, v)
			}
		}
		return v["code"].(string)
	}
	used, expired, revoked := issue("rollout"), issue("self_service"), issue("rollout")
	v := o.ask(o.root, "POST", "/codes/redeem", map[string]any{"code": used[:4] + " " + used[4:8] + "-" + used[8:], "mac": "0015:650d:0d0d"})
	if v.status == 200 {
		t.Fatal("a MAC nobody writes was taken")
	}
	got := o.ask(o.root, "POST", "/codes/redeem", map[string]any{"code": used[:4] + " " + used[4:8] + "-" + used[8:], "mac": "00:15:65:0d:0d:0d"}).want(t, 200)
	if got["device_id"] != "0015650d0d0d" || got["tenant_id"] != "acme" {
		t.Errorf("redeemed: %v", got)
	}
	for _, c := range o.ask(o.root, "GET", "/codes?tenant=acme&state=live", nil).want(t, 200)["items"].([]any) {
		m := c.(map[string]any)
		if _, digits := m["code"]; digits || strings.Contains(fmt.Sprint(m), revoked) {
			t.Errorf("a list shows digits: %v", m)
		}
	}
	o.Clock.Advance(10 * time.Minute)
	answers := map[string]string{}
	phone := 0
	for name, code := range map[string]string{"unknown": "123456789012", "used": used, "expired": expired, "letters": "12345678901x", "full width": "１２３４５６７８９０１２", "short": "123"} {
		phone++ // one phone may guess a few times only
		r := o.ask(o.root, "POST", "/codes/redeem", map[string]any{"code": code, "mac": fmt.Sprintf("0015650e0e%02x", phone)})
		r.problem(t, 409, "code-refused")
		answers[name] = fmt.Sprint(r.status) + anonymous(r.body)
	}
	for name, a := range answers {
		if a != answers["unknown"] {
			t.Errorf("%s: %s, unknown: %s", name, a, answers["unknown"])
		}
	}
}

// Guesses run out, and the answer says when to come back.
func TestGuessesRunOut(t *testing.T) {
	o := open(t)
	last := reply{}
	for i := range 40 {
		last = o.ask(o.tokens["acme/helpdesk"], "POST", "/codes/redeem", map[string]any{"code": fmt.Sprintf("%012d", i), "mac": "0015650e0e0e"})
		if last.status == http.StatusTooManyRequests {
			break
		}
	}
	last.problem(t, http.StatusTooManyRequests, "")
	if last.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// The same key and request get the same answer once more, and nothing is done twice.
func TestIdempotencyKey(t *testing.T) {
	o := open(t)
	body := map[string]any{"tenant_id": "acme", "category_id": "acme.desk", "purpose": "rollout"}
	first := o.ask(o.root, "POST", "/codes", body, "Idempotency-Key", "k1")
	first.want(t, 201)
	before := o.facts()
	o.Clock.Advance(23 * time.Hour)
	again := o.ask(o.root, "POST", "/codes", body, "Idempotency-Key", "k1")
	if again.status != 201 || string(again.body) != string(first.body) || again.header.Get("Location") != first.header.Get("Location") ||
		again.header.Get("Ledger-Position") != first.header.Get("Ledger-Position") {
		t.Errorf("the repeat got %d %v %s, the first %v %s", again.status, again.header, again.body, first.header, first.body)
	}
	if diff := cmp.Diff(before, o.facts()); diff != "" {
		t.Errorf("the repeat recorded %s", diff)
	}
	o.ask(o.root, "POST", "/codes", map[string]any{"tenant_id": "acme", "category_id": "acme.desk", "purpose": "self_service"}, "Idempotency-Key", "k1").problem(t, 422, "")
	o.ask(o.root, "POST", "/users", body, "Idempotency-Key", "k1").problem(t, 422, "")
	if other := o.ask(o.tokens["acme/admin"], "POST", "/codes", body, "Idempotency-Key", "k1"); other.status != 201 || string(other.body) == string(first.body) {
		t.Errorf("another key's request got %d %s", other.status, other.body)
	}
	for _, r := range o.Log.Events() {
		var issued map[string]any
		_ = json.Unmarshal(first.body, &issued)
		if code, _ := issued["code"].(string); strings.Contains(string(r.Data), code) {
			t.Errorf("%s of %s holds the code in clear", r.Type, r.Stream)
		}
	}
	// A refusal is no answer to keep: once its reason is gone the same request is carried out.
	late := map[string]any{"id": "late", "tenant_id": "initech", "display_name": "L"}
	o.ask(o.root, "POST", "/users", late, "Idempotency-Key", "k2").problem(t, 404, "not-found")
	o.ask(o.root, "POST", "/tenants", map[string]any{"id": "initech", "name": "I"}).want(t, 201)
	o.ask(o.root, "POST", "/users", late, "Idempotency-Key", "k2").want(t, 201)
}

// Of the same request sent many times at once one is carried out; the others repeat its answer or are told
// to wait.
func TestIdempotencyKeyAtOnce(t *testing.T) {
	o := open(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	bodies := map[string]bool{}
	for range 16 {
		wg.Go(func() {
			r := o.ask(o.root, "POST", "/codes", map[string]any{"tenant_id": "acme", "category_id": "acme.desk", "purpose": "rollout"}, "Idempotency-Key", "same")
			mu.Lock()
			defer mu.Unlock()
			switch r.status {
			case 201:
				bodies[string(r.body)] = true
			case 409:
			default:
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
	wg.Wait()
	if len(bodies) != 1 {
		t.Errorf("%d different answers", len(bodies))
	}
}

// A change at an old revision is refused, whoever was faster; one at the revision read is made.
func TestIfMatch(t *testing.T) {
	o := open(t)
	for path, body := range map[string]map[string]any{
		"/tenants/acme":         {"name": "A"},
		"/categories/acme.desk": {"name": "B", "kind": "provisioning"},
		"/users/acme.anna":      {"display_name": "C"},
		"/lines/acme.line":      {"username": "d"},
		"/layers/acme.layer":    {"name": "E", "settings": map[string]any{"locale": "de_DE"}},
	} {
		t.Run(path, func(t *testing.T) {
			read := o.ask(o.root, "GET", path, nil)
			read.want(t, 200)
			tag := read.header.Get("ETag")
			if !strings.HasPrefix(tag, `"`) {
				t.Fatalf("ETag %q", tag)
			}
			change := o.ask(o.root, "PUT", path, body, "If-Match", tag)
			if change.status != 200 && change.status != 204 {
				t.Fatalf("%d %s", change.status, change.body)
			}
			if change.header.Get("Ledger-Position") == "" {
				t.Error("no Ledger-Position")
			}
			o.nothing(t, func() {
				o.ask(o.root, "PUT", path, map[string]any{"name": "Z", "display_name": "Z", "username": "z", "kind": "plain", "settings": map[string]any{}}, "If-Match", tag)
				o.ask(o.root, "PUT", path, body, "If-Match", tag).problem(t, 412, "precondition-failed")
			})
			if now := o.ask(o.root, "GET", path+"?min_position="+change.header.Get("Ledger-Position"), nil); now.header.Get("ETag") == tag {
				t.Error("the ETag has not changed")
			}
		})
	}
	device := o.ask(o.root, "GET", "/devices/"+string(phones["acme"]), nil)
	config := "/devices/" + string(phones["acme"]) + "/config"
	if r := o.ask(o.root, "PUT", config, map[string]any{"description": "x"}, "If-Match", device.header.Get("ETag")); r.status >= 300 {
		t.Fatalf("configure: %d %s", r.status, r.body)
	}
	o.ask(o.root, "PUT", config, map[string]any{"description": "y"}, "If-Match", device.header.Get("ETag")).problem(t, 412, "precondition-failed")
}

// A secret that is sent back as it was shown keeps its value.
func TestRedactedKeepsASecret(t *testing.T) {
	o := open(t)
	v := o.ask(o.root, "GET", "/layers/acme.layer", nil).want(t, 200)
	settings, _ := v["settings"].(map[string]any)
	if settings["admin_password"] != "[redacted]" || settings["timezone"] != "Europe/Berlin" {
		t.Fatalf("settings are %v", settings)
	}
	settings["timezone"] = "Europe/Paris"
	if r := o.ask(o.root, "PUT", "/layers/acme.layer", map[string]any{"name": v["name"], "settings": settings}); r.status >= 300 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	o.ok(o.React(t.Context()))
	d, _, err := o.Service.DeviceOfMAC(t.Context(), phones["acme"])
	o.ok(err)
	made, err := o.Service.RenderDevice(t.Context(), d)
	o.ok(err)
	var all strings.Builder
	for _, f := range made.Rendered.Files {
		all.Write(f.Data)
	}
	if !strings.Contains(all.String(), "canary-admin-pw-acme") || !strings.Contains(all.String(), "Europe/Paris") {
		t.Error("the phone's file lost the secret, or the change")
	}
}

// A dry run says what the real run then records and which files change, and records nothing. Of every other
// operation TestEveryChangeIsOnRecord compares the plan.
func TestDryRunEqualsReal(t *testing.T) {
	for _, c := range []struct {
		name, method, path string
		body               any
		files              bool
	}{
		{"assign", "POST", "/devices/" + string(phones["nobody"]) + "/assign", map[string]any{"tenant_id": "acme", "category_id": "acme.desk", "user_id": "acme.anna"}, true},
		{"layer", "PUT", "/layers/acme.layer", map[string]any{"settings": map[string]any{"timezone": "Europe/Paris"}}, true},
		{"rotate", "POST", "/lines/acme.line/rotate", map[string]any{"password": "canary-sip-password-new"}, false},
		{"remove line", "DELETE", "/lines/acme.line", nil, true},
		{"erase", "POST", "/erase", map[string]any{"subject": "user-acme.anna", "reason": "asked to"}, true},
		{"delete device", "DELETE", "/devices/" + string(phones["acme"]), nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := open(t)
			var plan struct {
				DryRun bool `json:"dry_run"`
				Events []struct{ Stream, Type string }
				Files  []struct{ Device, Path, Diff string }
			}
			o.nothing(t, func() {
				r := o.ask(o.root, c.method, c.path+"?dry_run=true", c.body)
				r.want(t, 200)
				o.ok(json.Unmarshal(r.body, &plan))
				for _, canary := range canaries {
					if strings.Contains(string(r.body), canary) {
						t.Errorf("the plan shows %s", canary)
					}
				}
			})
			if !plan.DryRun || len(plan.Events) == 0 || c.files != (len(plan.Files) > 0) {
				t.Errorf("plan: %+v", plan)
			}
			for _, f := range plan.Files {
				if !strings.Contains(f.Diff, "@@") {
					t.Errorf("%s: no diff: %q", f.Path, f.Diff)
				}
			}
			before := o.Log.Events()
			if r := o.ask(o.root, c.method, c.path, c.body); r.status >= 300 {
				t.Fatalf("%d %s", r.status, r.body)
			}
			var planned []string
			for _, e := range plan.Events {
				planned = append(planned, e.Stream+" "+e.Type)
			}
			o.asPlanned(c.name, planned, before)
		})
	}
}

// One thing, and its history, as they stood.
func TestAsOf(t *testing.T) {
	o := open(t)
	then := o.Clock.Now()
	o.Clock.Advance(time.Hour)
	o.ask(o.root, "PUT", "/users/acme.anna", map[string]any{"display_name": "Anna Neumann"})
	name := func(query string) any {
		return o.ask(o.root, "GET", "/users/acme.anna"+query, nil).want(t, 200)["display_name"]
	}
	if got := name(""); got != "Anna Neumann" {
		t.Errorf("now %v", got)
	}
	if got := name("?as_of=" + then.Add(time.Minute).Format(time.RFC3339)); got != "Anna of acme" {
		t.Errorf("then %v", got)
	}
	o.ask(o.root, "GET", "/users/acme.anna?as_of=1", nil).problem(t, 404, "not-found")
}

// Lists as they stood, within the tenants the caller reaches then as now; what follows from the clock follows
// from the clock of that moment.
func TestListsAsOf(t *testing.T) {
	o := open(t)
	then := "as_of=" + o.Clock.Now().Add(time.Minute).Format(time.RFC3339)
	o.Clock.Advance(8 * 24 * time.Hour)
	o.ask(o.root, "PUT", "/users/acme.anna", map[string]any{"display_name": "Anna Neumann"})
	o.ask(o.root, "POST", "/users", map[string]any{"id": "acme.new", "tenant_id": "acme", "display_name": "New"})
	list := func(token, path, field string) []string {
		var out []string
		for _, it := range o.ask(token, "GET", path, nil).want(t, 200)["items"].([]any) {
			out = append(out, fmt.Sprint(it.(map[string]any)[field]))
		}
		slices.Sort(out)
		return out
	}
	for _, tt := range []struct {
		name, token, path, field string
		want                     []string
	}{
		{"users now", o.root, "/users?tenant=acme", "display_name", []string{"Anna Neumann", "New"}},
		{"users then", o.root, "/users?tenant=acme&" + then, "display_name", []string{"Anna of acme"}},
		{"users of all one may see then", o.tokens["globex/operator"], "/users?" + then, "display_name", []string{"Anna of globex"}},
		{"codes now", o.root, "/codes?tenant=acme", "state", []string{"expired", "expired"}},
		{"codes then", o.root, "/codes?tenant=acme&" + then, "state", []string{"live", "live"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, list(tt.token, tt.path, tt.field)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Histories are in order, by pages, with what each event says.
func TestHistory(t *testing.T) {
	o := open(t)
	var types []string
	for path := "/devices/00:15:65:1A:2B:3C/history?limit=2"; path != ""; {
		v := o.ask(o.root, "GET", path, nil).want(t, 200)
		for _, it := range v["items"].([]any) {
			m := it.(map[string]any)
			types = append(types, fmt.Sprint(m["type"]))
			for _, member := range []string{"position", "stream", "data", "metadata"} {
				if m[member] == nil {
					t.Errorf("no %s in %v", member, m)
				}
			}
		}
		path = ""
		if next, _ := v["next"].(string); next != "" {
			path = "/devices/00:15:65:1A:2B:3C/history?limit=2&cursor=" + next
		}
	}
	for _, want := range []string{"device.discovered", "device.assigned", "device.line_associated", "device.config_regenerated"} {
		if !slices.Contains(types, want) {
			t.Errorf("no %s in %q", want, types)
		}
	}
	for _, r := range []string{"/tenants/acme", "/users/acme.anna", "/lines/acme.line", "/layers/acme.layer", "/codes/" + string(o.codes["acme"])} {
		if v := o.ask(o.tokens["acme/operator"], "GET", r+"/history", nil).want(t, 200); len(v["items"].([]any)) == 0 {
			t.Errorf("%s has no history", r)
		}
	}
}

// Erased is shown as such.
func TestErased(t *testing.T) {
	o := open(t)
	o.ask(o.root, "POST", "/erase", map[string]any{"subject": "user-acme.anna", "reason": "asked to"})
	o.ok(o.React(t.Context()))
	if v := o.ask(o.root, "GET", "/users/acme.anna", nil).want(t, 200); v["display_name"] != "[erased]" || v["erased"] != true {
		t.Errorf("the user is %v", v)
	}
	if v := o.ask(o.root, "GET", "/lines/acme.line", nil).want(t, 200); v["number"] != "[erased]" {
		t.Errorf("the line is %v", v)
	}
}

// Pages of the log, as a tenant's auditor and as the instance's sees them.
func TestEvents(t *testing.T) {
	o := open(t)
	walk := func(token, query string) (positions []string, tenants map[string]bool) {
		tenants = map[string]bool{}
		after := "0"
		for range 100 {
			v := o.ask(token, "GET", "/events?limit=7&after="+after+query, nil).want(t, 200)
			for _, it := range v["items"].([]any) {
				m := it.(map[string]any)
				positions = append(positions, m["position"].(string))
				meta, _ := m["metadata"].(map[string]any)
				tenants[fmt.Sprint(meta["tenant_id"])] = true
			}
			next, _ := v["next"].(string)
			if next == "" || next == after || len(v["items"].([]any)) == 0 {
				break
			}
			after = next
		}
		return positions, tenants
	}
	all, _ := walk(o.root, "")
	if len(all) != len(o.Log.Events()) {
		t.Errorf("%d events of %d", len(all), len(o.Log.Events()))
	}
	if unique := slices.Compact(slices.Clone(all)); len(unique) != len(all) {
		t.Error("a position came twice")
	}
	own, tenants := walk(o.tokens["acme/auditor"], "")
	if len(own) == 0 || len(tenants) != 1 || !tenants["acme"] {
		t.Errorf("acme's auditor sees %d events of %v", len(own), tenants)
	}
	if typed, _ := walk(o.root, "&type=code.issued"); len(typed) != 4 {
		t.Errorf("%d codes issued", len(typed))
	}
	if one, _ := walk(o.root, "&stream=user-acme.anna"); len(one) != 2 {
		t.Errorf("%d events of the user", len(one))
	}
}

// The live stream has no gap: what was missed while away comes first, by Last-Event-ID.
func TestLiveEventsResumeWithoutAGap(t *testing.T) {
	o := open(t)
	server := httptest.NewServer(o.handler)
	defer server.Close()
	var seen []string
	listen := func(lastID string, until func(n int) bool, meanwhile func()) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/api/v1/events", nil)
		o.ok(err)
		req.Header.Set("Authorization", "Bearer "+o.root)
		req.Header.Set("Accept", "text/event-stream")
		if lastID != "" {
			req.Header.Set("Last-Event-ID", lastID)
		}
		resp, err := http.DefaultClient.Do(req)
		o.ok(err)
		defer resp.Body.Close()
		if ct := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || !strings.HasPrefix(ct, "text/event-stream") {
			t.Fatalf("%d %s", resp.StatusCode, ct)
		}
		meanwhile()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		n := 0
		for lines.Scan() {
			if id, ok := strings.CutPrefix(lines.Text(), "id:"); ok {
				lastID = strings.TrimSpace(id)
				seen = append(seen, lastID)
				if n++; until(n) {
					return lastID
				}
			}
		}
		t.Fatalf("the stream ended after %d events: %v", n, lines.Err())
		return ""
	}
	first := listen("", func(n int) bool { return n == 10 }, func() {})
	o.ask(o.root, "PUT", "/tenants/acme", map[string]any{"name": "while away"})
	total := len(o.Log.Events())
	last := listen(first, func(n int) bool { return 10+n == total }, func() {})
	listen(last, func(n int) bool { return n == 1 }, func() { o.ask(o.root, "PUT", "/tenants/acme", map[string]any{"name": "while listening"}) })
	var want []string
	for _, r := range o.Log.Events() {
		want = append(want, r.Position.String())
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("log (-) and stream (+): %s", diff)
	}
}

// A read that brings a position nobody has come to yet is told so, within bounds.
func TestMinPosition(t *testing.T) {
	o := open(t)
	r := o.ask(o.root, "PUT", "/tenants/acme", map[string]any{"name": "Later"})
	if v := o.ask(o.root, "GET", "/tenants/acme?min_position="+r.header.Get("Ledger-Position"), nil).want(t, 200); v["name"] != "Later" {
		t.Errorf("the tenant is %v", v)
	}
}

// Files are shown with every secret replaced; what a phone gets is not.
func TestFilesAreMasked(t *testing.T) {
	o := open(t)
	device := "/devices/" + string(phones["acme"])
	v := o.ask(o.tokens["acme/helpdesk"], "GET", device+"/files", nil).want(t, 200)
	files, _ := v["files"].([]any)
	if len(files) == 0 {
		t.Fatalf("no files: %v", v)
	}
	for _, f := range files {
		path := fmt.Sprint(f.(map[string]any)["path"])
		r := o.ask(o.tokens["acme/helpdesk"], "GET", device+"/files/"+path, nil, "Accept", "*/*")
		r.want(t, 200)
		if strings.HasPrefix(path, string(phones["acme"])) && !strings.Contains(string(r.body), domain.Redacted) {
			t.Errorf("%s shows no placeholder: %s", path, r.body)
		}
	}
	o.ask(o.root, "GET", device+"/files/nosuch.cfg", nil).problem(t, 404, "not-found")
	why := o.ask(o.root, "GET", device+"/why", nil).want(t, 200)
	if why["state"] == "" || why["answer"] == "" {
		t.Errorf("why: %v", why)
	}
	explained := o.ask(o.root, "GET", device+"/explain?key=timezone", nil).want(t, 200)
	if !strings.Contains(fmt.Sprint(explained), "Europe/Berlin") {
		t.Errorf("explained: %v", explained)
	}
}

// The document is served to anybody, in both forms, with a page that needs nobody else.
func TestDocuments(t *testing.T) {
	o := open(t)
	for _, path := range []string{"/openapi.json", "/openapi.yaml", "/docs"} {
		r := o.ask("", "GET", path, nil)
		if r.status != 200 || len(r.body) < 500 {
			t.Errorf("%s: %d, %d bytes", path, r.status, len(r.body))
		}
	}
	for _, operation := range o.operations() {
		if strings.Contains(operation, "...") {
			t.Errorf("%s is a pattern of Go's, not a path of OpenAPI", operation)
		}
	}
	page := o.ask("", "GET", "/docs", nil)
	if policy := page.header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	if strings.Contains(string(page.body), "https://") {
		t.Error("the page asks somebody else for something")
	}
}
