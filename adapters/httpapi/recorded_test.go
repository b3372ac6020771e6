package httpapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ledgerline/commands"
	"ledgerline/domain"
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
		o.onRecord(operation, func() reply { return o.request(o.root, operation, at, "acme", "X-Reason", "because") })
	}
	o := open(t)
	code := o.ask(o.root, http.MethodPost, "/codes", map[string]any{"tenant_id": "acme", "category_id": "acme.desk", "purpose": "self_service"})
	var issued struct{ Code string }
	o.ok(json.Unmarshal(code.body, &issued))
	o.onRecord("POST /codes/redeem", func() reply {
		return o.ask(o.root, http.MethodPost, "/codes/redeem", map[string]any{"code": issued.Code, "mac": phones["nobody"]}, "X-Reason", "because")
	})
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
		if why := m.Reason; why != "because" && !(strings.Contains("POST /erase POST /devices/{id}/reveal", operation) && why == "asked to") {
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
