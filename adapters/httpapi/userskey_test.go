package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"ledgerline/domain"
)

// The instance's password of Users is administrators' of all tenants to set, with the instance's domain, and on record.
func TestTheInstancesUsersKey(t *testing.T) {
	o := open(t)
	body := func(domainName string) map[string]any {
		return map[string]any{"key": "canary-instance-key", "domain": domainName}
	}
	for _, c := range []struct {
		who, token, tenant, domain string
		status                     int
	}{
		{"an operator of all tenants", o.key("", domain.Operator), "master", "apps.example", http.StatusForbidden},
		{"an administrator of one tenant", o.key("acme", domain.Admin), "master", "apps.example", http.StatusNotFound},
		{"without the domain", o.root, "master", "", http.StatusBadRequest},
		{"a domain for a tenant", o.root, "acme", "apps.example", http.StatusBadRequest},
		{"as it should be", o.root, "master", "apps.example", http.StatusNoContent},
		{"and again", o.root, "master", "apps.example", http.StatusNoContent},
	} {
		if r := o.ask(c.token, http.MethodPut, "/tenants/"+c.tenant+"/users-key", body(c.domain)); r.status != c.status {
			t.Errorf("%s: %d %s", c.who, r.status, r.body)
		}
	}
	if r := o.ask(o.root, http.MethodGet, "/tenants/master", nil); !strings.Contains(string(r.body), `"has_users_key":true`) || !strings.Contains(string(r.body), `"users_domain":"apps.example"`) || strings.Contains(string(r.body), "canary") {
		t.Errorf("%s", r.body)
	}
	if n := strings.Count(strings.Join(o.facts(), "\n"), "tenant-master tenant.users_key_set"); n != 1 {
		t.Errorf("%d times on record", n)
	}
}
