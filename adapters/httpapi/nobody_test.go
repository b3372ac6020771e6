package httpapi_test

import (
	"fmt"
	"testing"

	"ledgerline/commands"
)

// A phone that is still nobody's can be brought to a tenant by whoever names it exactly, and nothing else
// can be done with it by a key that is bound to a tenant.
func TestNobodysPhone(t *testing.T) {
	for _, c := range []struct {
		method, path string
		body         map[string]any
	}{
		{"DELETE", "", nil},
		{"PUT", "/config", map[string]any{"description": "mine"}},
		{"POST", "/reset", map[string]any{}},
		{"POST", "/replace", map[string]any{"mac": "0015650c0c0c"}},
		{"POST", "/move", map[string]any{"tenant_id": "acme"}},
	} {
		t.Run(c.method+c.path, func(t *testing.T) {
			o := open(t)
			o.nothing(t, func() {
				var body any
				if c.body != nil {
					body = c.body
				}
				if r := o.ask(o.tokens["acme/operator"], c.method, "/devices/"+string(phones["nobody"])+c.path, body); r.status < 400 {
					t.Errorf("%d %s", r.status, r.body)
				}
			})
		})
	}
	o := open(t)
	for _, role := range []string{"admin", "operator", "auditor", "helpdesk", "user"} {
		v := o.ask(o.tokens["acme/"+role], "GET", "/devices", nil).want(t, 200)
		for _, it := range v["items"].([]any) {
			if m := it.(map[string]any); m["tenant_id"] != "acme" {
				t.Errorf("%s of acme lists %v", role, m["id"])
			}
		}
	}
	r := o.ask(o.tokens["acme/operator"], "POST", "/devices/00-15-65-1A-2B-3E/assign", map[string]any{"tenant_id": "acme", "category_id": "acme.desk"})
	if r.status >= 300 {
		t.Fatalf("assign: %d %s", r.status, r.body)
	}
	if v := o.ask(o.tokens["acme/operator"], "GET", "/devices/"+string(phones["nobody"]), nil).want(t, 200); v["tenant_id"] != "acme" {
		t.Errorf("assigned: %v", v)
	}
}

// A timeline never crosses tenants: what was recorded before a phone came to the tenant is not its keys' to see.
func TestHistoryBeginsWithTheTenant(t *testing.T) {
	o := open(t)
	seen := func(token string) map[string]bool {
		v := o.ask(token, "GET", "/devices/"+string(phones["acme"])+"/history", nil).want(t, 200)
		of := map[string]bool{}
		for _, it := range v["items"].([]any) {
			meta, _ := it.(map[string]any)["metadata"].(map[string]any)
			of[fmt.Sprint(meta["tenant_id"])] = true
		}
		return of
	}
	if of := seen(o.tokens["acme/operator"]); len(of) != 1 || !of["acme"] {
		t.Errorf("the tenant's operator sees events of %v", of)
	}
	if of := seen(o.root); !of["master"] || !of["acme"] {
		t.Errorf("the administrator sees events of %v", of)
	}
}

// A device that was given an id of its own is found by its MAC as well.
func TestDeviceWithAnIDOfItsOwn(t *testing.T) {
	o := open(t)
	_, _, err := o.Service.DiscoverDevice(t.Context(), commands.DiscoverDevice{ID: "lobby", MAC: "0015650f0f01", Vendor: "Testphone", Model: "T1", Added: "operator"})
	o.ok(err)
	if v := o.ask(o.root, "GET", "/devices/00:15:65:0f:0f:01", nil).want(t, 200); v["id"] != "lobby" {
		t.Errorf("by its MAC: %v", v["id"])
	}
	if r := o.ask(o.root, "POST", "/devices/00:15:65:0f:0f:01/assign", map[string]any{"tenant_id": "acme"}); r.status >= 300 {
		t.Errorf("assign by its MAC: %d %s", r.status, r.body)
	}
}

// HEAD is GET without the body.
func TestHead(t *testing.T) {
	o := open(t)
	if r := o.ask(o.root, "HEAD", "/tenants/acme", nil); r.status != 200 || r.header.Get("ETag") == "" {
		t.Errorf("HEAD: %d %v", r.status, r.header)
	}
}
