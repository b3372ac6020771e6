package provd_test

import (
	"net/http"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Parameters: their rules, their defaults, null clears.
func TestParameters(t *testing.T) {
	s := newStand(t)
	value := func(id string, opts ...func(*http.Request)) any {
		t.Helper()
		p, _ := s.must(200, "GET", "/configure/"+id, nil, opts...).json(t)["param"].(object)
		return p["value"]
	}
	put := func(status int, id string, v any) {
		t.Helper()
		s.must(status, "PUT", "/configure/"+id, object{"param": object{"value": v}})
	}
	for _, c := range []struct {
		id     string
		before any
		good   []any
		bad    []any
	}{
		{"plugin_server", "http://provd.wazo.community/plugins/2/stable/", []any{"http://10.0.0.1/p", "https://example.com"}, []any{"example.com", "/p", 5, ""}},
		{"http_proxy", nil, []any{"http://10.0.0.1:3128", "http://user:pw@proxy:8080"}, []any{"proxy:3128", "http://proxy/path", true}},
		{"ftp_proxy", nil, []any{"http://10.0.0.1:3128"}, []any{"proxy"}},
		{"https_proxy", nil, []any{"proxy:3128"}, []any{"https://proxy:3128"}},
		{"locale", nil, []any{"fr", "fr_FR", "gsw_CH"}, []any{"french", "fr_fr", "FR"}},
		{"NAT", 0.0, nil, []any{"2", 1, true, "yes"}},
		{"provisioning_key", nil, []any{"abcd-1234", "A$~.-bcdefgh", strings.Repeat("a", 256)}, []any{"short", strings.Repeat("a", 257), "white space", "slash/slash", ""}},
	} {
		if got := value(c.id); got != c.before {
			t.Errorf("%s is %v at first", c.id, got)
		}
		for _, v := range c.good {
			put(204, c.id, v)
			if got := value(c.id); got != v {
				t.Errorf("%s set to %v is %v", c.id, v, got)
			}
		}
		for _, v := range c.bad {
			put(400, c.id, v)
		}
		put(204, c.id, nil)
		if got := value(c.id); got != c.before {
			t.Errorf("%s cleared is %v", c.id, got)
		}
	}
	put(204, "NAT", "1")
	if got := value("NAT"); got != 1.0 {
		t.Errorf("NAT reads back as %v", got)
	}
	put(204, "NAT", "0")
	if got := value("NAT"); got != 0.0 {
		t.Errorf("NAT reads back as %v", got)
	}
	s.must(404, "GET", "/configure/unknown", nil)
	s.must(404, "PUT", "/configure/unknown", object{"param": object{"value": "x"}})
	s.must(404, "GET", "/configure/tenants", nil)
	s.must(400, "PUT", "/configure/locale", object{"param": object{}})
	s.must(400, "PUT", "/configure/locale", object{})

	list, _ := s.must(200, "GET", "/configure", nil).json(t)["params"].([]any)
	if len(list) != 7 {
		t.Fatalf("%d parameters", len(list))
	}
	first, _ := list[0].(object)
	equal(t, "links", object{"links": first["links"]}, object{"links": []any{object{"rel": "srv.configure.param", "href": "/0.2/configure/plugin_server"}}})
	if first["id"] != "plugin_server" || first["description"] == "" {
		t.Errorf("the first is %v", first)
	}
}

// Every tenant has a provisioning key of its own; no two have the same, and none reads another's.
func TestProvisioningKeys(t *testing.T) {
	s := newStand(t)
	put := func(status int, key any, opts ...func(*http.Request)) {
		t.Helper()
		s.must(status, "PUT", "/configure/provisioning_key", object{"param": object{"value": key}}, opts...)
	}
	get := func(opts ...func(*http.Request)) any {
		t.Helper()
		p, _ := s.must(200, "GET", "/configure/provisioning_key", nil, opts...).json(t)["param"].(object)
		return p["value"]
	}
	put(204, "key-of-one", in(subTenant1))
	put(204, "key-of-one", as(sub1Token)) // one's own again
	put(400, "key-of-one", in(subTenant2))
	put(400, "key-of-one")
	put(204, nil, in(subTenant2))
	put(204, nil) // null for many
	if a, b, c := get(in(subTenant1)), get(in(subTenant2)), get(); a != "key-of-one" || b != nil || c != nil {
		t.Errorf("keys are %v, %v and %v", a, b, c)
	}
	s.must(401, "GET", "/configure/provisioning_key", nil, as(sub2Token), in(subTenant1))
	put(204, nil, in(subTenant1))
	put(204, "key-of-one", in(subTenant2)) // free again
}

// The permission of a parameter names the tenant.
func TestPermissionOfParameters(t *testing.T) {
	s := newStand(t)
	s.auth.change(func() {
		s.auth.tokens["keeper"] = mainTenant
		s.auth.scopes["keeper"] = []string{"provd.configure." + subTenant1 + ".provisioning_key.read", "provd.dev_mgr.devices.a_b.read"}
	})
	s.must(200, "GET", "/configure/provisioning_key", nil, as("keeper"), in(subTenant1))
	s.must(401, "GET", "/configure/provisioning_key", nil, as("keeper"), in(subTenant2))
	s.must(401, "PUT", "/configure/provisioning_key", object{"param": object{"value": nil}}, as("keeper"), in(subTenant1))
	// Dots in ids become underscores.
	s.device(object{"id": "a.b"})
	s.must(200, "GET", "/dev_mgr/devices/a.b", nil, as("keeper"))
}

// The description needs no token and is an OpenAPI 2.0 document: every path has operations with unique names and
// answers, every parameter of a path is declared, every reference leads somewhere.
func TestDescription(t *testing.T) {
	s := newStand(t)
	r := s.must(200, "GET", "/api/api.yml", nil, as(""))
	var doc object
	if err := yaml.Unmarshal(r.body, &doc); err != nil {
		t.Fatal(err)
	}
	if doc["swagger"] != "2.0" || doc["basePath"] != "/0.2" {
		t.Errorf("swagger %v at %v", doc["swagger"], doc["basePath"])
	}
	info, _ := doc["info"].(object)
	if info["title"] == nil || info["version"] == nil {
		t.Errorf("info is %v", info)
	}
	definitions, _ := doc["definitions"].(object)
	var refs func(v any)
	refs = func(v any) {
		switch v := v.(type) {
		case object:
			if to, is := v["$ref"].(string); is && definitions[strings.TrimPrefix(to, "#/definitions/")] == nil {
				t.Errorf("%s leads nowhere", to)
			}
			for _, below := range v {
				refs(below)
			}
		case []any:
			for _, below := range v {
				refs(below)
			}
		}
	}
	refs(doc)
	paths, _ := doc["paths"].(object)
	if len(paths) < 30 {
		t.Errorf("only %d paths", len(paths))
	}
	names := map[string]bool{}
	for path, item := range paths {
		if !strings.HasPrefix(path, "/") {
			t.Errorf("path %q", path)
		}
		for method, op := range item.(object) {
			op, _ := op.(object)
			name, _ := op["operationId"].(string)
			if names[name] || name == "" {
				t.Errorf("%s %s: the name %q is taken or missing", method, path, name)
			}
			names[name] = true
			responses, _ := op["responses"].(object)
			if len(responses) == 0 {
				t.Errorf("%s %s has no responses", method, path)
			}
			for code, answer := range responses {
				if a, _ := answer.(object); a["description"] == nil {
					t.Errorf("%s %s: %s has no description", method, path, code)
				}
			}
			declared := map[string]bool{}
			params, _ := op["parameters"].([]any)
			for _, p := range params {
				p, _ := p.(object)
				where, _ := p["in"].(string)
				key := where + " " + p["name"].(string)
				if declared[key] || where == "path" && p["required"] != true || where == "body" && p["schema"] == nil || where != "body" && p["type"] == nil {
					t.Errorf("%s %s: parameter %v", method, path, p)
				}
				declared[key] = true
			}
			for part := range strings.SplitSeq(path, "/") {
				if strings.HasPrefix(part, "{") && !declared["path "+strings.Trim(part, "{}")] {
					t.Errorf("%s %s: %s is not declared", method, path, part)
				}
			}
		}
	}
}
