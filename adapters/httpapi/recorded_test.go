package httpapi_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// unrecorded are the operations that can change something and yet leave no event here. Each says why.
var unrecorded = map[string]string{
	"DELETE /parked/{reaction}/{event}":              "there is none to discard here; the reactor's own tests have one",
	"POST /parked/{reaction}/{event}/replay":         "what a replay does is recorded by the reaction",
	"POST /parked/replay":                            "what a replay does is recorded by the reaction",
	"POST /devices/{id}/regenerate":                  "the files are what they were",
	"DELETE /operations/{id}":                        "an operation is volatile; what it did is recorded by its command",
	"POST /dialled-codes":                            "the example dials what no line has; what a right one does is in the tests of DialCode",
	"POST /plugins/index":                            "an index is fetched anew; nothing of ours changes",
	"POST /plugins":                                  pluginWork,
	"PUT /plugins/{id}/pin":                          pluginWork,
	"POST /plugins/{id}/device-upgrades":             pluginWork,
	"DELETE /plugins/{id}/device-upgrades/{upgrade}": pluginWork,
	"PUT /plugins/{id}/versions/{version}":           pluginWork,
	"DELETE /plugins/{id}/versions/{version}":        pluginWork,
	"PUT /plugins/{id}/bundles/{bundle}":             pluginWork,
	"POST /plugins/{id}/bundles/{bundle}":            pluginWork,
	"DELETE /plugins/{id}/bundles/{bundle}":          pluginWork,
}

const pluginWork = "this office has nowhere to put plugins; what is recorded of them is in the tests of their commands"

// Completeness: each operation of the document that can change something records what it did, with who, from where,
// why, and under which request. A new one without an example, or without an event, fails here.
func TestEveryChangeIsOnRecord(t *testing.T) {
	// What must be so for an operation to have something to do, and whose thing it is then done to.
	prepare := map[string]func(o *office) (at place){
		"DELETE /tenants/{id}": func(o *office) place {
			_, _, err := o.Service.CreateTenant(t.Context(), commands.CreateTenant{ID: "empty", Name: "Empty", Domain: "empty.example"})
			o.ok(err)
			return "empty"
		},
		"DELETE /devices/{id}/lines/{line}": func(o *office) place {
			if r := o.request(o.root, "POST /devices/{id}/lines", "acme", "acme"); r.status >= 300 {
				t.Fatalf("%d %s", r.status, r.body)
			}
			return "acme"
		},
		"DELETE /gateways/{id}": func(o *office) place {
			_, err := o.Service.SwitchGateway(t.Context(), commands.SwitchGateway{ID: "acme-gw", To: "disabled"})
			o.ok(err)
			return "acme"
		},
		"POST /devices/{id}/assign": func(*office) place { return "nobody" },
		"POST /devices/{id}/move": func(o *office) place {
			_, _, err := o.Service.CreateTenant(t.Context(), commands.CreateTenant{ID: "acme2", Name: "Second", Domain: "acme2.example"})
			o.ok(err)
			return "acme"
		},
		"POST /devices/{id}/reopen": func(o *office) place {
			append_(o, domain.DeviceID(phones["acme"]).Stream(), domain.DeviceConfigDelivered{Path: "x.cfg", MAC: "00", Via: "secret", Transport: "http", DeliveredAt: o.Clock.Now()})
			return "acme"
		},
		"POST /softphones/{id}/sign-out": func(o *office) place {
			append_(o, domain.SoftphoneID("acme.app").Stream(), domain.SoftphoneSignedIn{InstallID: "0193a1b2c3d47e5f8091a2b3c4d5e6fa", TokenHash: "00", Via: "password", At: o.Clock.Now()})
			return "acme"
		},
		"POST /rollouts/{id}/rows/{row}/confirm": func(o *office) place {
			head, err := o.Log.Head(t.Context())
			o.ok(err)
			o.ok(o.options.Wait.WaitFor(t.Context(), head))
			row, err := projections.ListRolloutRows(t.Context(), o.options.Views, projections.RolloutRowFilter{Rollout: "acme"}, projections.Page{})
			o.ok(err)
			append_(o, domain.RolloutID("acme").Row(1), domain.RolloutRowQuarantined{CodeID: row.Items[0].CodeID, DeviceID: domain.DeviceID(phones["acme"])})
			return "acme"
		},
		"POST /jobs/{id}/retry": func(o *office) place {
			ref := domain.JobRef{JobID: o.jobs["acme"]}
			append_(o, domain.DeviceID(phones["acme"]).Stream(), domain.DeviceJobsSelected{JobContact: domain.JobContact{Via: domain.ViaNative}, Jobs: []domain.SelectedJob{{JobRef: ref, Type: domain.JobMedia}}})
			append_(o, domain.DeviceID(phones["acme"]).Stream(), domain.DeviceJobFailed{JobRef: ref, Attempt: 3, Reason: "it did not answer"})
			o.ok(o.React(t.Context()))
			return "acme"
		},
		"POST /tenants/{id}/resume-resyncs": func(o *office) place {
			append_(o, domain.TenantID("acme").Stream(), domain.TenantResyncsStopped{})
			return "acme"
		},
	}
	for _, operation := range open(t).operations() {
		method, _, _ := strings.Cut(operation, " ")
		if method == http.MethodGet || unrecorded[operation] != "" || operation == "POST /codes/redeem" {
			continue // a redemption is of a live code: below
		}
		o := open(t)
		at := place("acme")
		if p := prepare[operation]; p != nil {
			at = p(o)
		}
		plan := o.plan(operation, at)
		before := o.Log.Events()
		o.onRecord(operation, func() reply { return o.request(o.root, operation, at, "acme", "X-Reason", "because") })
		o.asPlanned(operation, plan, before)
	}
	o := open(t)
	code := o.ask(o.root, http.MethodPost, "/codes", map[string]any{"tenant_id": "acme", "category_id": "acme.desk", "purpose": "self_service"})
	var issued struct{ Code string }
	o.ok(json.Unmarshal(code.body, &issued))
	o.onRecord("POST /codes/redeem", func() reply {
		return o.ask(o.root, http.MethodPost, "/codes/redeem", map[string]any{"code": issued.Code, "mac": phones["nobody"]}, "X-Reason", "because")
	})
}

// unplanned are the operations of which no plan can be made, or none that holds. Each says why.
var unplanned = map[string]string{
	"POST /devices/{id}/backups/{backup}/reveal": "a look at secrets is no change; it is on record all the same",
	"POST /devices/{id}/reveal":                  "a look at secrets is no change; it is on record all the same",
	"POST /devices/{id}/sync":                    "what the phone answers, only the phone knows: of the outcome there is no plan",
	"POST /devices/{id}/passthrough/{path}":      "the query is the device's, dry_run with it",
	"POST /gateways/{id}/reconcile":              asksGateway, // it has a plan_only of its own
	"POST /gateways/{id}/self-test":              asksGateway,
	"POST /gateways/{id}/token/request":          asksGateway,
	"POST /gateways/{id}/token/verifier":         asksGateway,
	"POST /jobs":                                 whenItRegisters,
	"PUT /jobs/{id}":                             whenItRegisters,
	"DELETE /jobs/{id}":                          whenItRegisters,
}

const whenItRegisters = "the plan shows what devices will get, each when it registers"

const asksGateway = "what a gateway answers cannot be planned"

// plan is what a dry run of an operation says would be recorded: streams and types. nil where there is none to be had.
func (o *office) plan(operation string, at place) []string {
	o.t.Helper()
	if unplanned[operation] != "" {
		return nil
	}
	var plan struct {
		DryRun bool `json:"dry_run"`
		Events []struct{ Stream, Type string }
	}
	o.nothing(o.t, func() {
		r := o.request(o.root, operation+"?dry_run=true", at, "acme", "X-Reason", "because")
		if r.status != http.StatusOK {
			o.t.Errorf("dry run of %s: %d %s", operation, r.status, r.body)
			return
		}
		o.ok(json.Unmarshal(r.body, &plan))
		for _, canary := range canaries {
			if strings.Contains(string(r.body), canary) {
				o.t.Errorf("the plan of %s shows %s", operation, canary)
			}
		}
	})
	if !plan.DryRun {
		o.t.Errorf("%s: no plan", operation)
	}
	planned := []string{}
	for _, e := range plan.Events {
		planned = append(planned, e.Stream+" "+e.Type)
	}
	return planned
}

// asPlanned wants what was recorded since to be what was planned. A stream that is new has an id of its own each time.
func (o *office) asPlanned(operation string, planned []string, before []domain.Recorded) {
	o.t.Helper()
	if planned == nil {
		return
	}
	o.ok(o.React(o.t.Context()))
	o.ok(o.Service.SendDueJobs(o.t.Context()))
	known := map[string]bool{}
	for _, r := range before {
		known[string(r.Stream)] = true
	}
	var real []string
	for _, r := range o.Log.Events()[len(before):] {
		if c := r.Stream.Category(); c == "request" || c == "requests" {
			continue
		}
		real = append(real, string(r.Stream)+" "+r.Type)
	}
	for _, list := range [][]string{planned, real} {
		for i, line := range list {
			if stream, kind, _ := strings.Cut(line, " "); !known[stream] {
				list[i] = domain.StreamID(stream).Category() + "-new " + kind
			}
		}
		slices.Sort(list)
	}
	if diff := cmp.Diff(planned, real); diff != "" {
		o.t.Errorf("%s: planned (-) and real (+): %s", operation, diff)
	}
}

// append_ puts a fact on record that is not made by any operation of the API.
func append_(o *office, stream domain.StreamID, e domain.Event) {
	o.t.Helper()
	data, err := json.Marshal(e)
	o.ok(err)
	_, err = o.Log.Append(o.t.Context(), stream, domain.Any, []domain.NewEvent{{ID: uuid.New(), Type: e.EventType(), Data: data, Metadata: []byte("{}")}})
	o.ok(err)
}

// onRecord wants what do asks for to be done and recorded.
func (o *office) onRecord(operation string, do func() reply) {
	o.t.Helper()
	before := len(o.Log.Events())
	r := do()
	if r.status >= 300 {
		o.t.Errorf("%s: %d %s", operation, r.status, r.body)
		return
	}
	facts := 0
	for _, e := range o.Log.Events()[before:] {
		if c := e.Stream.Category(); c == "claim" || c == "request" || c == "requests" {
			continue // how it was done, not what
		}
		facts++
		m, err := e.Meta()
		o.ok(err)
		if m.Actor != "apikey:"+string(o.keyIDs["/admin"]) || m.RequestID == "" || m.RequestID != r.header.Get("X-Request-Id") || m.Source == nil || m.Source.Listener != "admin" || m.RecordedAt.IsZero() {
			o.t.Errorf("%s recorded %s by %q under request %q (%q) from %+v", operation, e.Type, m.Actor, m.RequestID, r.header.Get("X-Request-Id"), m.Source)
		}
		if why := m.Reason; why != "because" && !(strings.Contains("POST /erase POST /devices/{id}/reveal POST /devices/{id}/backups/{backup}/reveal", operation) && why == "asked to") {
			o.t.Errorf("%s recorded %s for the reason %q", operation, e.Type, why)
		}
	}
	if facts == 0 {
		o.t.Errorf("%s left no event", operation)
	}
}

// A key that is known and refused is on record, once an hour, with how often; an unknown one is not (D27).
func TestDenialsOfAKnownKeyAreOnRecord(t *testing.T) {
	o := open(t)
	token := o.key("acme", domain.Operator)
	id := o.keyIDs["acme/operator"]
	if r := o.ask(o.root, http.MethodDelete, "/apikeys/"+string(id), nil); r.status >= 300 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	for range 3 {
		if r := o.ask(token, http.MethodGet, "/devices", nil); r.status != http.StatusUnauthorized {
			t.Fatalf("a revoked key: %d", r.status)
		}
		o.ask("ll_nobody_x", http.MethodGet, "/devices", nil)
	}
	before := len(o.Log.Events())
	o.ok(o.Service.RecordDenials(t.Context(), true))
	var denied []domain.APIKeyDenied
	for _, r := range o.Log.Events()[before:] {
		e, err := r.Event()
		o.ok(err)
		if d, ok := e.(domain.APIKeyDenied); ok && r.Stream == id.Stream() {
			denied = append(denied, d)
		} else {
			t.Errorf("recorded %s in %s", r.Type, r.Stream)
		}
	}
	if len(denied) != 1 || denied[0].Count != 3 {
		t.Errorf("denials on record: %+v", denied)
	}
}
