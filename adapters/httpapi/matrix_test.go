package httpapi_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ledgerline/domain"
)

// place is whose things a request names: "acme" (the caller's own), "globex" (another tenant's) or
// "nosuch" (nobody's).
type place string

func (p place) tenant() string { return string(p) }
func (p place) mac() string {
	if m, ok := phones[string(p)]; ok {
		return string(m)
	}
	return "0015650f0f0f"
}

func (o *office) code(p place) string {
	if id, ok := o.codes[string(p)]; ok {
		return string(id)
	}
	return "0193a1b2c3d47e5f8091a2b3c4d5e6f7"
}

func (o *office) tokenOf(p place) string {
	if id, ok := o.auto[string(p)]; ok {
		return string(id)
	}
	return "0193a1b2c3d47e5f8091a2b3c4d5e6fb"
}

func (o *office) job(p place) string {
	if id, ok := o.jobs[string(p)]; ok {
		return string(id)
	}
	return "0193a1b2c3d47e5f8091a2b3c4d5e6fb"
}

func (o *office) keyOf(p place) string {
	if id, ok := o.keyIDs[string(p)+"/helpdesk"]; ok {
		return string(id)
	}
	return "0193a1b2c3d47e5f8091a2b3c4d5e6f8"
}

// example is a request for every operation that takes a body: at is whose thing is changed, of whose things
// the body names.
func (o *office) example(operation string, at, of place) (body map[string]any, ok bool) {
	t := of.tenant()
	bodies := map[string]map[string]any{
		"POST /tenants":                           {"name": "New"},
		"PUT /tenants/{id}":                       {"name": "Renamed"},
		"PUT /tenants/{id}/provisioning-key":      {"key": "another-key-1234"},
		"PUT /tenants/{id}/users-key":             {"key": "another-password"},
		"POST /tenants/{id}/resume-resyncs":       {},
		"POST /categories":                        {"tenant_id": t, "name": "Lobby", "kind": "provisioning", "layer_id": t + ".layer"},
		"PUT /categories/{id}":                    {"name": "Lobby", "kind": "provisioning", "layer_id": t + ".layer"},
		"POST /codes":                             {"tenant_id": t, "category_id": t + ".desk", "user_id": t + ".anna", "purpose": "self_service"},
		"POST /codes/redeem":                      {"code": "000000000000", "mac": "0015650a0a0a"},
		"POST /devices":                           {"mac": "0015650b0b0b", "vendor": "Testphone", "tenant_id": t, "category_id": t + ".desk", "user_id": t + ".anna"},
		"POST /devices/{id}/assign":               {"tenant_id": t, "category_id": t + ".desk", "user_id": t + ".anna"},
		"PUT /devices/{id}/config":                {"parents": []string{t + ".layer"}, "settings": map[string]any{"locale": "de_DE"}},
		"POST /devices/{id}/reset":                {},
		"POST /devices/{id}/replace":              {"mac": "0015650c0c0c"},
		"POST /devices/{id}/move":                 {"tenant_id": map[place]string{"acme": "acme2", "globex": "globex", "nosuch": "nosuch"}[of]},
		"POST /devices/{id}/regenerate":           {},
		"POST /devices/{id}/sync":                 {},
		"POST /devices/{id}/reopen":               {},
		"POST /devices/{id}/reveal":               {"path": at.mac() + ".cfg", "reason": "asked to"},
		"POST /devices/{id}/code-form":            {},
		"POST /devices/{id}/passthrough/{path}":   {},
		"POST /devices/{id}/lines":                {"line_id": t + ".line", "position": 2},
		"PUT /devices/{id}/lines/{line}":          {"line_id": t + ".line"},
		"POST /users":                             {"tenant_id": t, "display_name": "Berta"},
		"PUT /users/{id}":                         {"display_name": "Berta"},
		"POST /lines":                             {"tenant_id": t, "user_id": t + ".anna", "username": "u", "password": "p"},
		"PUT /lines/{id}":                         {"username": "u2"},
		"POST /dhcp-leases":                       {"mac": "0015650d0d0d", "ip": "192.0.2.9", "vendor_class": "Testphone"},
		"POST /dialled-codes":                     {"tenant_id": t, "code": "000000", "account": "ap0015650a0a0a"},
		"POST /lines/{id}/provisioning-extension": {"extension": "246810"},
		"POST /lines/{id}/rotate":                 {"password": "another-password"},
		"POST /rollouts":                          {"tenant_id": t, "category_id": t + ".desk", "users": []map[string]any{{"user_id": t + ".anna"}}},
		"POST /rollouts/{id}/cancel":              {},
		"POST /rollouts/{id}/extend":              {},
		"POST /rollouts/{id}/reissue":             {},
		"POST /rollouts/{id}/resend":              {},
		"POST /rollouts/{id}/rows/{row}/confirm":  {},
		"POST /layers":                            {"tenant_id": t, "name": "l", "parents": []string{t + ".layer"}, "settings": map[string]any{"locale": "de_DE"}},
		"POST /cloudids":                          {"id": t + ".new", "tenant_id": t},
		"PUT /cloudids/{id}":                      {"document": map[string]any{"nodes": map[string]any{"X-New": "1"}}},
		"POST /softphones":                        {"tenant_id": t, "cloud_id": t + ".cloud", "user_id": t + ".anna", "line_id": t + ".line", "category_id": t + ".desk", "username": "new"},
		"PUT /softphones/{id}":                    {"line_id": t + ".line", "category_id": t + ".desk", "document": map[string]any{"nodes": map[string]any{"X-New": "1"}}},
		"PUT /cloudids/{id}/xml":                  {"xml": `{"quick_dials": [{"id": "a", "display_name": "A", "uri": "1"}]}`},
		"PUT /categories/{id}/xml":                {"xml": `{"quick_dials": [{"id": "a", "display_name": "A", "uri": "1"}]}`},
		"PUT /softphones/{id}/xml":                {"xml": `{"quick_dials": [{"id": "a", "display_name": "A", "uri": "1"}]}`},
		"PUT /categories/{id}/softphone":          {"document": map[string]any{"nodes": map[string]any{"X-New": "1"}}},
		"PUT /softphones/{id}/password":           {"password": "another-password"},
		"POST /softphones/{id}/code":              {},
		"POST /softphones/{id}/sign-out":          {},
		"PUT /layers/{id}":                        {"name": "l2", "settings": map[string]any{"locale": "de_DE"}},
		"POST /jobs":                              {"tenant_id": t, "type": "NTP", "categories": []string{t + ".desk"}, "parameters": map[string]any{"ntp1": "192.0.2.1"}},
		"PUT /jobs/{id}":                          {"categories": []string{t + ".desk"}, "parameters": map[string]any{"turnServer": "turn2.example"}},
		"POST /jobs/{id}/retry":                   {},
		"POST /apikeys":                           {"name": "k", "role": "auditor", "tenants": []string{t}},
		"POST /erase":                             {"subject": "user-" + t + ".anna", "reason": "asked to"},
		"POST /parked/{reaction}/{event}/replay":  {},
		"POST /parked/replay":                     {},
		"POST /gateways":                          {"tenant_id": t, "address": "https://192.0.2.11", "external_address": "mbg2.example"},
		"PUT /gateways/{id}":                      {"address": "https://192.0.2.12", "external_address": "mbg2.example"},
		"PUT /gateways/{id}/consumer":             {"consumer_id": "c", "secret": "another"},
		"PUT /gateways/{id}/mapping":              {"text": "another"},
		"PUT /gateways/{id}/nodes/{node}":         {"internal_address": "10.1.2.4"},
		"POST /gateways/{id}/switch":              {"to": "paused"},
		"POST /gateways/{id}/token/request":       {},
		"POST /gateways/{id}/token/verifier":      {"verifier": "12345678"},
		"POST /gateways/{id}/token/renewed":       {"on": "2026-11-02T09:00:00Z"},
		"POST /gateways/{id}/self-test":           {},
		"POST /gateways/{id}/reconcile":           {},
		"POST /sipusers/{id}/retry":               {},
		"PUT /lines/{id}/remote":                  {"gateway_id": t + "-gw", "renew": true},
		"PUT /devices/{id}/gateway":               {"gateway_id": t + "-gw"},
		"POST /verify":                            {},
		"POST /registry-servers":                  {"name": "New", "public_key": publicKey},
		"PUT /registry-servers/{id}":              {"name": "Other", "public_key": publicKey},
		"POST /tokens":                            {"category_id": t + ".desk", "name": "warehouse"},
		"POST /tokens/{id}/rotate":                {"overlap_hours": 24},
		"POST /plugins":                           {"name": "yealink"},
		"POST /plugins/index":                     {},
		"PUT /plugins/{id}/versions/{version}":    {},
		"PUT /plugins/{id}/pin":                   {"version": "1.0.0"},
		"POST /plugins/{id}/bundles/{bundle}":     {},
		"PUT /plugins/{id}/bundles/{bundle}":      {},
		"POST /plugins/{id}/device-upgrades":      {"all": true},
	}
	bodies["POST /devices/{id}/backups/{backup}/reveal"] = map[string]any{"reason": "asked to"}
	body, ok = bodies[operation]
	return body, ok
}

// fill puts names into a path template: whose by at, what by the noun the path begins with.
func (o *office) fill(path string, at, of place) string {
	t := at.tenant()
	ids := map[string]string{"tenants": t, "categories": t + ".desk", "codes": o.code(at), "jobs": o.job(at), "devices": at.mac(), "users": t + ".anna",
		"lines": t + ".line", "layers": t + ".layer", "gateways": t + "-gw", "sipusers": t + "-gw." + t + ".line", "softphones": t + ".app", "rollouts": t, "cloudids": t + ".cloud", "apikeys": o.keyOf(at), "tokens": o.tokenOf(at), "registry-servers": t + "-site", "plugins": "yealink",
		"operations": "0193a1b2c3d47e5f8091a2b3c4d5e6f9"}
	noun, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	var parts []string
	for _, p := range strings.Split(path, "/") {
		switch {
		case p == "{id}":
			p = ids[noun]
		case p == "{row}":
			p = "1"
		case p == "{node}":
			p = "zrh"
		case strings.HasPrefix(p, "{line"):
			p = of.tenant() + ".line"
		case strings.HasPrefix(p, "{reaction"):
			p = "regenerate-config"
		case p == "{backup}":
			p = strconv.Itoa(int(o.backups[string(at)]))
		case strings.HasPrefix(p, "{event"):
			p = "0193a1b2-c3d4-7e5f-8091-a2b3c4d5e6f7"
		case strings.HasPrefix(p, "{path"), strings.HasPrefix(p, "{file"):
			p = at.mac() + ".cfg"
		}
		parts = append(parts, p)
	}
	return strings.Join(parts, "/")
}

// operations are "METHOD /path" of everything below /api/v1, from the document the server publishes.
func (o *office) operations() []string {
	o.t.Helper()
	var spec struct {
		OpenAPI string
		Paths   map[string]map[string]json.RawMessage
	}
	o.ok(json.Unmarshal(o.ask("", http.MethodGet, "/openapi.json", nil).body, &spec))
	if !strings.HasPrefix(spec.OpenAPI, "3.1") {
		o.t.Fatalf("OpenAPI %q", spec.OpenAPI)
	}
	var out []string
	for path, methods := range spec.Paths {
		for method := range methods {
			if below, ok := strings.CutPrefix(path, "/api/v1"); ok && slices.Contains([]string{"get", "post", "put", "delete"}, method) {
				out = append(out, strings.ToUpper(method)+" "+below)
			}
		}
	}
	slices.Sort(out)
	if len(out) < 40 {
		o.t.Fatalf("only %d operations are published", len(out))
	}
	return out
}

// anonymous is a problem without what differs between two requests: its id, and the names they sent.
func anonymous(b []byte) string {
	for _, named := range []place{"globex", "nosuch"} {
		b = bytes.ReplaceAll(b, []byte(named), []byte("other"))
	}
	var v map[string]any
	if json.Unmarshal(b, &v) != nil {
		return string(b)
	}
	delete(v, "request_id")
	out, _ := json.Marshal(v)
	return string(out)
}

// request sends the example of an operation.
func (o *office) request(token, operation string, at, of place, headers ...string) reply {
	operation, query, _ := strings.Cut(operation, "?")
	method, path, _ := strings.Cut(operation, " ")
	body, has := o.example(operation, at, of)
	filled := o.fill(path, at, of)
	switch operation {
	case "PUT /devices/{id}/lines/{line}": // the position
		filled = o.fill("/devices/{id}/lines/2", at, of)
	case "GET /audit/timeline":
		filled += "?subject=user-" + at.tenant() + ".anna"
	case "GET /audit/devices":
		filled += "?key=locale"
	case "GET /devices/{id}/diff":
		filled += "?from=2100-01-01T00:00:00Z"
	case "GET /softphones/{id}/dial":
		filled += "?number=112"
	case "GET /search":
		filled += "?q=" + at.tenant()
	case "GET /events":
		filled += "?limit=5"
	}
	if query != "" {
		filled += "?" + query
	}
	if !has {
		return o.ask(token, method, filled, nil, headers...)
	}
	return o.ask(token, method, filled, body, headers...)
}

// What another tenant has is, to a key that does not reach it, what does not exist: the same bytes, and no
// event. Every operation there is, every role.
func TestForeignIsUnknown(t *testing.T) {
	for _, operation := range open(t).operations() {
		method, path, _ := strings.Cut(operation, " ")
		o := open(t)
		_, hasBody := o.example(operation, "acme", "acme")
		globex, _ := o.example(operation, "acme", "globex")
		nosuch, _ := o.example(operation, "acme", "nosuch")
		names := strings.Contains(path, "{line") || !reflect.DeepEqual(globex, nosuch) // its body names things of a tenant
		if (method == http.MethodPost || method == http.MethodPut) && !hasBody {
			t.Errorf("%s has no example: write one, so that it is tried with foreign things", operation)
			continue
		}
		axes := []struct {
			name            string
			foreign, nobody [2]place
		}{
			{"its path", [2]place{"globex", "acme"}, [2]place{"nosuch", "acme"}},
			{"its body", [2]place{"acme", "globex"}, [2]place{"acme", "nosuch"}},
		}
		for _, role := range domain.Roles {
			token := o.tokens["acme/"+string(role)]
			for _, axis := range axes {
				if axis.name == "its path" && !strings.Contains(path, "{id}") || axis.name == "its body" && !names {
					continue
				}
				before := o.facts()
				foreign := o.request(token, operation, axis.foreign[0], axis.foreign[1])
				between := o.facts()
				unknown := o.request(token, operation, axis.nobody[0], axis.nobody[1])
				if foreign.status != unknown.status || anonymous(foreign.body) != anonymous(unknown.body) {
					if foreign.status >= 300 || unknown.status >= 300 {
						t.Errorf("%s as %s, with a foreign thing in %s: %d %s, with an unknown one %d %s", operation, role, axis.name,
							foreign.status, bytes.TrimSpace(foreign.body), unknown.status, bytes.TrimSpace(unknown.body))
					}
				}
				if foreign.status >= 400 && len(between) > len(before) {
					t.Errorf("%s as %s, with a foreign thing in %s: refused with %d, and recorded %q", operation, role, axis.name, foreign.status, between[len(before):])
				}
				for _, fact := range between[len(before):] {
					if strings.Contains(fact, "globex") || strings.Contains(fact, string(phones["globex"])) {
						t.Errorf("%s as %s changed another tenant: %s", operation, role, fact)
					}
				}
				if foreign.status >= 500 || unknown.status >= 500 {
					t.Errorf("%s as %s: %d %s", operation, role, foreign.status, foreign.body)
				}
			}
		}
	}
}

// An administrator of a tenant gets through with its own things; nobody gets anything without a key; who
// may only read changes nothing.
func TestOwnThingsByRole(t *testing.T) {
	instance := []string{"POST /tenants", "POST /parked", "DELETE /parked", "GET /parked", "/verify", "GET /audit/checkpoints/", "POST /codes/redeem", "POST /dhcp-leases", "POST /devices/{id}/move",
		"POST /tenants/", "DELETE /tenants", "DELETE /gateways/{id}", "DELETE /devices/{id}/lines",
		"GET /registry-servers", "POST /registry-servers", "PUT /registry-servers", "DELETE /registry-servers",
		"POST /rollouts/{id}/rows", "POST /plugins", "PUT /plugins", "DELETE /plugins", "GET /plugins/{id}", "/operations/{id}"}
	for _, operation := range open(t).operations() {
		method, _, _ := strings.Cut(operation, " ")
		o := open(t)
		o.nothing(t, func() {
			if r := o.request("", operation, "acme", "acme"); r.status != http.StatusUnauthorized && !strings.HasSuffix(operation, "/version") {
				t.Errorf("%s without a key: %d", operation, r.status)
			}
			for _, role := range []domain.Role{domain.Auditor, domain.OwnUser} {
				if method == http.MethodGet || role == domain.OwnUser && (operation == "POST /codes" || strings.HasSuffix(operation, "/confirm")) {
					continue // a user may issue a code for a phone of their own, and vouch for one
				}
				if r := o.request(o.tokens["acme/"+string(role)], operation, "acme", "acme"); r.status != http.StatusForbidden {
					t.Errorf("%s as %s: %d", operation, role, r.status)
				}
			}
		})
		special := slices.ContainsFunc(instance, func(s string) bool { return strings.HasPrefix(operation, s) || strings.HasSuffix(operation, s) })
		if r := o.request(o.tokens["acme/admin"], operation, "acme", "acme"); !special && r.status >= 300 {
			t.Errorf("%s as admin of the tenant: %d %s", operation, r.status, r.body)
		}
	}
}

// No answer to one tenant's keys holds anything of the other's.
func TestTwoTenantCanary(t *testing.T) {
	o := open(t)
	for _, operation := range o.operations() {
		for _, role := range domain.Roles {
			r := o.request(o.tokens["acme/"+string(role)], operation, "acme", "acme")
			for _, marker := range []string{"globex", string(phones["globex"])} {
				if bytes.Contains(r.body, []byte(marker)) {
					t.Errorf("%s as %s of acme shows %q: %s", operation, role, marker, r.body)
				}
			}
		}
	}
}

// Secrets are in no answer and no log line, but for what issues them.
func TestSecretsAreNeverShown(t *testing.T) {
	o := open(t)
	check := func(what string, b []byte) {
		for _, c := range canaries {
			if bytes.Contains(b, []byte(c)) {
				t.Errorf("%s shows %s", what, c)
			}
		}
	}
	for _, operation := range o.operations() {
		for _, token := range []string{o.root, o.tokens["acme/admin"], o.tokens["acme/helpdesk"]} {
			if strings.HasSuffix(operation, "/provisioning-key") && strings.HasPrefix(operation, "GET") || strings.HasSuffix(operation, "/backups/{backup}/reveal") {
				continue
			}
			check(operation, o.request(token, operation, "acme", "acme").body)
		}
	}
	check("the log", []byte(o.logged.String()))
	for key, token := range o.tokens {
		if strings.Contains(o.logged.String(), token) {
			t.Errorf("the log shows the key of %s", key)
		}
	}
	if o.logged.String() == "" {
		t.Error("nothing was logged")
	}
}
