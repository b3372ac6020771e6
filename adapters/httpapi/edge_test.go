package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"ledgerline/adapters/httpapi"
	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

// What describes itself to the machinery around it: alive, ready, metrics, profiles.
func TestOps(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "answer"}, func() float64 { return 42 }))
	var unready error
	h := httpapi.Ops{Alive: func(context.Context) error { return nil }, Ready: func(context.Context) error { return unready }, Metrics: registry}.Handler()
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w
	}
	for path, want := range map[string]string{"/livez": "ok", "/readyz": "ok", "/metrics": "answer 42", "/debug/pprof/": "goroutine"} {
		if w := get(path); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %.200s", path, w.Code, w.Body)
		}
	}
	unready = errors.New("views are 12 events behind")
	if w := get("/readyz"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "12 events behind") {
		t.Errorf("not ready: %d %s", w.Code, w.Body)
	}
	if w := get("/livez"); w.Code != http.StatusOK {
		t.Errorf("not ready, but alive: %d", w.Code)
	}
	if w := get("/api/v1/devices"); w.Code != http.StatusNotFound {
		t.Errorf("the API at the operations listener: %d", w.Code)
	}
}

// Requests are counted by route and status, never by what stands in their paths.
func TestMetrics(t *testing.T) {
	o := open(t)
	registry := prometheus.NewRegistry()
	o.options.Metrics = registry
	o.serve()
	o.ask(o.root, "GET", "/users/acme.anna", nil)
	o.ask(o.root, "GET", "/users/nosuch", nil)
	o.ask(o.root, "GET", "/nonsense", nil)
	families, err := registry.Gather()
	o.ok(err)
	got := map[string]uint64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()+" "+labels(m)] = m.GetHistogram().GetSampleCount()
		}
	}
	want := map[string]uint64{"ledgerline_api_request_seconds GET /api/v1/users/{id} 200": 1, "ledgerline_api_request_seconds GET /api/v1/users/{id} 404": 1,
		"ledgerline_api_request_seconds none 404": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := httpapi.New(o.options); err == nil {
		t.Error("a second API counts into the same metric")
	}
}

func labels(m *dto.Metric) string {
	var values []string
	for _, l := range m.GetLabel() {
		values = append(values, l.GetValue())
	}
	return strings.Join(values, " ")
}

// A read that waits for a position nobody comes to is told so after five seconds.
func TestMinPositionIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t)
		begun := time.Now()
		r := o.ask(o.root, "GET", "/tenants/acme?min_position=999999", nil)
		r.problem(t, http.StatusServiceUnavailable, "behind")
		if took := time.Since(begun); took != 5*time.Second || r.header.Get("Retry-After") == "" {
			t.Errorf("after %s, Retry-After %q", took, r.header.Get("Retry-After"))
		}
	})
}

// While a request is under way its Idempotency-Key is taken; afterwards it is answered as that was.
func TestIdempotencyKeyUnderWay(t *testing.T) {
	o := open(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	o.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Method == "Append" && c.Stream.Category() == "user" {
			close(begun)
			<-goOn
		}
		return commandstest.Fault{}
	})
	body := map[string]any{"tenant_id": "acme", "id": "berta"}
	first := make(chan reply)
	go func() { first <- o.ask(o.root, "POST", "/users", body, "Idempotency-Key", "k") }()
	<-begun
	o.ask(o.root, "POST", "/users", body, "Idempotency-Key", "k").problem(t, http.StatusConflict, "request-under-way")
	close(goOn)
	(<-first).want(t, 201)
	o.Faults.Set(nil)
	again := o.ask(o.root, "POST", "/users", body, "Idempotency-Key", "k")
	if again.want(t, 201); again.header.Get("Idempotent-Replay") == "" {
		t.Error("it was carried out again")
	}
	o.nothing(t, func() { // a plan is no answer to keep, however the parameter is spelled
		o.ask(o.root, "POST", "/users?dry_run=1", map[string]any{"tenant_id": "acme", "id": "carla"}, "Idempotency-Key", "k3").want(t, 200)
	})
}

// Only who may vouch for a redemption can; without it every wrong code counts, and a dry run is no way around.
func TestConfirmedRedemption(t *testing.T) {
	o := open(t)
	wrong := func(token, mac string, confirm bool, query string) reply {
		return o.ask(token, "POST", "/codes/redeem"+query, map[string]any{"code": "000000000000", "mac": mac, "confirm": confirm})
	}
	wrong(o.tokens["acme/helpdesk"], "0015650e0e01", true, "").problem(t, 403, "forbidden")
	for range 5 { // a plan draws on the same budget
		wrong(o.root, "0015650e0e01", false, "?dry_run=true").problem(t, 409, "code-refused")
	}
	wrong(o.root, "0015650e0e01", false, "?dry_run=true").problem(t, 429, "too-many-guesses")
	o.Clock.Advance(time.Hour)
	for range 30 {
		wrong(o.tokens["acme/operator"], "0015650e0e02", true, "").problem(t, 409, "code-refused")
	}
	for range 5 {
		wrong(o.root, "0015650e0e03", false, "").problem(t, 409, "code-refused")
	}
	wrong(o.root, "0015650e0e03", false, "").problem(t, 429, "too-many-guesses")
	wrong(o.root, "0015650e0e03", true, "").problem(t, 409, "code-refused")
}

// Ids and addresses are the instance's: one that another tenant uses is taken, by whom is not said. Its phone
// cannot be taken over by a second device with its address either.
func TestTakenIDs(t *testing.T) {
	o := open(t)
	for path, body := range map[string]map[string]any{
		"/users":      {"id": "globex.anna"},
		"/lines":      {"id": "globex.line", "username": "u", "password": "p"},
		"/layers":     {"id": "globex.layer", "settings": map[string]any{}},
		"/categories": {"id": "globex.desk", "name": "N", "kind": "plain"},
		"/devices":    {"mac": phones["globex"]},
		"/devices ":   {"mac": phones["globex"], "id": "mine"},
	} {
		body["tenant_id"] = "acme"
		o.nothing(t, func() {
			o.ask(o.tokens["acme/admin"], "POST", strings.TrimSpace(path), body).problem(t, 409, "id-taken")
		})
	}
	o.ask(o.root, "POST", "/users", map[string]any{"id": "globex.anna", "tenant_id": "acme"}).problem(t, 409, "user-exists")
}

// A role is refused before anything of its request is looked at.
func TestRoleBeforeInput(t *testing.T) {
	o := open(t)
	for _, body := range []string{`{`, `{"name": 7}`, ``} {
		o.ask(o.tokens["acme/auditor"], "PUT", "/users/acme.anna?color=red", body).problem(t, 403, "forbidden")
	}
}

// What a bound key is told of a device's past stays within its tenants, whichever way it asks.
func TestPastOfAnotherTenant(t *testing.T) {
	o := open(t)
	device := "/devices/" + string(phones["acme"])
	first := ""
	for _, r := range o.Log.Events() {
		if r.Type == "device.discovered" && r.Stream.ID() == string(phones["acme"]) {
			first = r.Position.String()
		}
	}
	o.ask(o.tokens["acme/operator"], "GET", device+"?as_of="+first, nil).problem(t, 404, "not-found")
	o.ask(o.root, "GET", device+"?as_of="+first, nil).want(t, 200)
	for _, path := range []string{device, "/devices/" + string(phones["nobody"])} {
		for _, it := range o.ask(o.tokens["acme/operator"], "GET", path+"/why", nil).want(t, 200)["events"].([]any) {
			if meta, _ := it.(map[string]any)["metadata"].(map[string]any); meta["tenant_id"] != "acme" {
				t.Errorf("why shows %v", it)
			}
		}
	}
	for _, tail := range []string{"/history", "/files", "/explain", "/files/x.cfg"} {
		o.ask(o.tokens["acme/operator"], "GET", "/devices/"+string(phones["nobody"])+tail, nil).problem(t, 404, "not-found")
	}
	// Pages of a history are whole, though what is not shown lies between.
	whole := len(o.ask(o.tokens["acme/operator"], "GET", device+"/history", nil).want(t, 200)["items"].([]any))
	n := 0
	for cursor := ""; ; {
		v := o.ask(o.tokens["acme/operator"], "GET", device+"/history?limit=1"+cursor, nil).want(t, 200)
		n += len(v["items"].([]any))
		next, _ := v["next"].(string)
		if next == "" {
			break
		}
		cursor = "&cursor=" + next
	}
	if n != whole || n < 3 {
		t.Errorf("%d events one by one, %d at once", n, whole)
	}
}

// A line is put at a position, and a phone that is nobody's thereby comes to the line's tenant.
func TestPlaceLine(t *testing.T) {
	o := open(t)
	device := "/devices/" + string(phones["nobody"])
	o.ask(o.tokens["acme/helpdesk"], "PUT", device+"/lines/0", map[string]any{"line_id": "acme.line"}).problem(t, 400, "invalid", "line")
	o.ask(o.tokens["acme/helpdesk"], "PUT", device+"/lines/3", map[string]any{"line_id": "acme.line"}).want(t, 200)
	v := o.ask(o.tokens["acme/helpdesk"], "GET", device, nil).want(t, 200)
	if lines := fmt.Sprint(v["lines"]); v["tenant_id"] != "acme" || !strings.Contains(lines, "acme.line") || !strings.Contains(lines, "3") {
		t.Errorf("the phone is %v with %s", v["tenant_id"], lines)
	}
}

// A tenant's key can be printed again by who may set it; the log tells who looked, not what was seen.
func TestProvisioningKeyAgain(t *testing.T) {
	o := open(t)
	path := "/tenants/acme/provisioning-key"
	if v := o.ask(o.tokens["acme/operator"], "GET", path, nil).want(t, 200); v["key"] != "canary-provisioning-key-acme" {
		t.Errorf("the key is %v", v)
	}
	if log := o.logged.String(); !strings.Contains(log, "provisioning key shown") || strings.Contains(log, "canary") {
		t.Errorf("logged %s", log)
	}
	o.ask(o.tokens["acme/helpdesk"], "GET", path, nil).problem(t, 403, "forbidden")
	o.ask(o.tokens["globex/admin"], "GET", path, nil).problem(t, 404, "not-found")
	o.ask(o.root, "PUT", path, map[string]any{}).want(t, 204)
	o.ask(o.root, "GET", path, nil).problem(t, 404, "not-found")
}

// shelf is a reactor that gave two reactions up; the second fails again.
type shelf struct {
	noneParked
	replays *int
}

func (s shelf) List(_ context.Context, reaction string) ([]commands.Parked, error) {
	if reaction != "" && reaction != "push" {
		return nil, nil
	}
	return []commands.Parked{{Reaction: "push", EventID: uuid.Nil}, {Reaction: "push", EventID: uuid.Max}}, nil
}

func (s shelf) ReplayAll(context.Context, string) (int, error) {
	if *s.replays++; *s.replays == 1 {
		return 1, errors.New("parked again")
	}
	return 2, nil
}

func TestReplayAll(t *testing.T) {
	o := open(t)
	o.options.Parked = shelf{replays: new(int)}
	o.serve()
	push := map[string]any{"reaction": "push"}
	o.ask(o.root, "POST", "/parked/replay", push).problem(t, 409, "still-parked")
	if v := o.ask(o.root, "POST", "/parked/replay", push).want(t, 200); v["replayed"] != 2.0 {
		t.Errorf("replayed %v", v)
	}
	o.ask(o.root, "POST", "/parked/replay", map[string]any{"reaction": "nosuch"}).problem(t, 404, "not-found")
	o.ask(o.tokens["acme/admin"], "POST", "/parked/replay", push).problem(t, 403, "forbidden")
	if v := o.ask(o.root, "GET", "/parked?limit=1&cursor=x", nil).want(t, 200); len(v["items"].([]any)) != 1 {
		t.Errorf("parked %v", v)
	}
}

// The log has a line per request, with who asked for what.
func TestAccessLog(t *testing.T) {
	o := open(t)
	r := o.ask(o.root, "PUT", "/users/acme.anna", map[string]any{"display_name": "canary-name"}, "X-Request-Id", "req-7")
	o.ask(o.root, "GET", "/devices/00:15:65:1A:2B:3C", nil)
	lines := strings.Split(strings.TrimSpace(o.logged.String()), "\n")
	if len(lines) != 2 || strings.Contains(lines[0], "canary") {
		t.Fatalf("%d lines: %s", len(lines), lines)
	}
	var got [2]map[string]any
	for i := range got {
		o.ok(json.Unmarshal([]byte(lines[i]), &got[i]))
		delete(got[i], "elapsed_ms")
		delete(got[i], "bytes")
	}
	actor := "apikey:" + string(o.keyIDs["/admin"])
	want := [2]map[string]any{
		{"level": "info", "message": "api request", "request_id": "req-7", "method": "PUT", "route": "PUT /api/v1/users/{id}", "status": 204.0,
			"actor": actor, "user_id": "acme.anna", "position": r.header.Get("Ledger-Position")},
		{"level": "info", "message": "api request", "request_id": got[1]["request_id"], "method": "GET", "route": "GET /api/v1/devices/{id}", "status": 200.0,
			"actor": actor, "device_id": string(phones["acme"])},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A handler that panics is answered as our trouble, and the server goes on.
func TestPanic(t *testing.T) {
	o := open(t)
	o.options.Seen = func(context.Context, domain.DeviceID, domain.MAC) ([]commands.Sighting, error) {
		panic("canary-secret")
	}
	o.serve()
	o.ask(o.root, "GET", "/devices/"+string(phones["acme"])+"/why", nil).problem(t, 500, "internal")
	if log := o.logged.String(); !strings.Contains(log, "handler panicked") || strings.Contains(log, "canary-secret") {
		t.Errorf("logged %s", log)
	}
	o.ask(o.root, "GET", "/tenants", nil).want(t, 200)
}

// A path that is there takes its own methods only, and says which.
func TestAllow(t *testing.T) {
	o := open(t)
	r := o.ask(o.root, "PATCH", "/users/acme.anna", `{}`)
	r.problem(t, 405, "method-not-allowed")
	if diff := cmp.Diff("DELETE, GET, HEAD, PUT", r.header.Get("Allow")); diff != "" {
		t.Error(diff)
	}
}
