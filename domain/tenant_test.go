package domain_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"ledgerline/domain"
)

func TestTenant(t *testing.T) {
	created := domain.TenantCreated{TenantID: "acme", Name: "Acme", Domain: "acme.example"}
	create := func(name, domainName string) func(domain.Tenant) ([]domain.Event, error) {
		return func(t domain.Tenant) ([]domain.Event, error) { return t.Create("acme", name, domainName) }
	}
	rename := func(name string) func(domain.Tenant) ([]domain.Event, error) {
		return func(t domain.Tenant) ([]domain.Event, error) { return t.Rename(name) }
	}
	setKey := func(hash string) func(domain.Tenant) ([]domain.Event, error) {
		return func(t domain.Tenant) ([]domain.Event, error) {
			if hash == "" {
				return t.SetKey(domain.Secret{}, "")
			}
			return t.SetKey(stored(hash), hash)
		}
	}
	key := domain.TenantProvisioningKeySet{Key: stored("aa"), KeyHash: "aa"}
	check(t, []rule[domain.Tenant]{
		{"a tenant is created", nil, create("Acme", "acme.example"), past(created), nil},
		{"creating it again alike is no news", past(created), create("Acme", "acme.example"), nil, nil},
		{"creating it again with another name is refused", past(created), create("Akme", "acme.example"), nil, domain.ErrTenantExists},
		{"creating it again with another domain is refused", past(created), create("Acme", "akme.example"), nil, domain.ErrTenantExists},
		{"a deleted tenant never comes back", past(created, domain.TenantDeleted{}), create("Acme", "acme.example"), nil, domain.ErrTenantDeleted},
		{"it is renamed", past(created), rename("Acme GmbH"), past(domain.TenantRenamed{Name: "Acme GmbH"}), nil},
		{"the same name is no news", past(created, domain.TenantRenamed{Name: "Acme GmbH"}), rename("Acme GmbH"), nil, nil},
		{"nobody is not renamed", nil, rename("Acme"), nil, domain.ErrTenantUnknown},
		{"the deleted is not renamed", past(created, domain.TenantDeleted{}), rename("x"), nil, domain.ErrTenantDeleted},
		{"a key is set", past(created), setKey("aa"), past(key), nil},
		{"the same key is no news", past(created, key), setKey("aa"), nil, nil},
		{"another key replaces it", past(created, key), setKey("bb"), past(domain.TenantProvisioningKeySet{Key: stored("bb"), KeyHash: "bb"}), nil},
		{"a key is taken away", past(created, key), setKey(""), past(domain.TenantProvisioningKeySet{}), nil},
		{"taking no key away is no news", past(created), setKey(""), nil, nil},
		{"nobody has no key", nil, setKey("aa"), nil, domain.ErrTenantUnknown},
		{"the deleted gets no key", past(created, domain.TenantDeleted{}), setKey("aa"), nil, domain.ErrTenantDeleted},
		{"it is deleted", past(created), domain.Tenant.Delete, past(domain.TenantDeleted{}), nil},
		{"nobody is not deleted", nil, domain.Tenant.Delete, nil, domain.ErrTenantUnknown},
		{"the deleted is not deleted again", past(created, domain.TenantDeleted{}), domain.Tenant.Delete, nil, domain.ErrTenantDeleted},
		{"the master tenant stays", past(domain.TenantCreated{TenantID: domain.Master}), domain.Tenant.Delete, nil, domain.ErrMasterTenant},
	})
}

func TestCheckProvisioningKey(t *testing.T) {
	for _, k := range []string{"abcdefgh", "A-z$0~9.", strings.Repeat("k", 256)} {
		if err := domain.CheckProvisioningKey(k); err != nil {
			t.Errorf("%q: %v", k, err)
		}
	}
	for _, k := range []string{"", "abcdefg", strings.Repeat("k", 257), "abcdefg/", "abcdefg%", "abcd efgh", "abcdefgä", "abcdefg_", "abcdefg\n", "../../../.."} {
		if err := domain.CheckProvisioningKey(k); !errors.Is(err, domain.ErrBadKey) {
			t.Errorf("%q: %v", k, err)
		}
	}
}

func TestCategory(t *testing.T) {
	spec := domain.CategorySpec{Name: "Desk", Kind: domain.Provisioning, Plugin: "yealink", Models: []string{"T53", "T54W"}, LayerID: "desk"}
	defined := domain.CategoryDefined{CategoryID: "desk", TenantID: "acme", CategorySpec: spec}
	define := func(tenant domain.TenantID, spec domain.CategorySpec) func(domain.Category) ([]domain.Event, error) {
		return func(c domain.Category) ([]domain.Event, error) { return c.Define("desk", tenant, spec) }
	}
	takes := func(tenant domain.TenantID, plugin, model string) func(domain.Category) ([]domain.Event, error) {
		return only(func(c domain.Category) error { return c.Takes(tenant, plugin, model) })
	}
	rules := []rule[domain.Category]{
		{"a category is defined", nil, define("acme", spec), past(defined), nil},
		{"defining it again alike is no news", past(defined), define("acme", spec), nil, nil},
		{"another tenant cannot have it", past(defined), define("globex", spec), nil, domain.ErrCategoryOfOtherTenant},
		{"the retired is not changed", past(defined, domain.CategoryRetired{}), define("acme", domain.CategorySpec{}), nil, domain.ErrCategoryRetired},
		{"it is retired", past(defined), domain.Category.Retire, past(domain.CategoryRetired{}), nil},
		{"retiring again is no news", past(defined, domain.CategoryRetired{}), domain.Category.Retire, nil, nil},
		{"nobody is not retired", nil, domain.Category.Retire, nil, domain.ErrCategoryUnknown},
		{"it takes its plugin and model", past(defined), takes("acme", "yealink", "T53"), nil, nil},
		{"it takes a phone that has not told its model", past(defined), takes("acme", "yealink", ""), nil, nil},
		{"it takes a phone that has told nothing", past(defined), takes("acme", "", ""), nil, nil},
		{"it does not take another plugin", past(defined), takes("acme", "snom", "T53"), nil, domain.ErrModelNotAllowed},
		{"it does not take another model", past(defined), takes("acme", "yealink", "T19"), nil, domain.ErrModelNotAllowed},
		{"it does not take for another tenant", past(defined), takes("globex", "yealink", "T53"), nil, domain.ErrCategoryOfOtherTenant},
		{"the retired takes nobody", past(defined, domain.CategoryRetired{}), takes("acme", "yealink", "T53"), nil, domain.ErrCategoryRetired},
		{"nobody takes nobody", nil, takes("acme", "", ""), nil, domain.ErrCategoryUnknown},
		{"without plugin and models it takes all", past(domain.CategoryDefined{CategoryID: "desk", TenantID: "acme"}), takes("acme", "snom", "D785"), nil, nil},
	}
	for what, change := range map[string]func(*domain.CategorySpec){
		"name": func(s *domain.CategorySpec) { s.Name = "x" }, "kind": func(s *domain.CategorySpec) { s.Kind = "plain" },
		"plugin": func(s *domain.CategorySpec) { s.Plugin = "snom" }, "models": func(s *domain.CategorySpec) { s.Models = nil },
		"layer": func(s *domain.CategorySpec) { s.LayerID = "x" }, "phone app": func(s *domain.CategorySpec) { s.PhoneApp = "x" }} {
		changed := spec
		change(&changed)
		rules = append(rules, rule[domain.Category]{"another " + what + " is news", past(defined), define("acme", changed), past(domain.CategoryAmended{CategorySpec: changed}), nil})
	}
	check(t, rules)
}

func TestAPIKey(t *testing.T) {
	now := time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)
	end := now.Add(time.Hour)
	issued := domain.APIKeyIssued{APIKeyID: "k1", Name: "ops", Role: domain.Operator, Tenants: []domain.TenantID{"acme"}, Hash: "aa", ExpiresAt: &end}
	forever := domain.APIKeyIssued{APIKeyID: "k1", Role: domain.Admin, Hash: "aa"}
	issue := func(k domain.APIKey) ([]domain.Event, error) { return k.Issue(issued) }
	usable := func(at time.Time) func(domain.APIKey) ([]domain.Event, error) {
		return only(func(k domain.APIKey) error { return k.Usable(at) })
	}
	check(t, []rule[domain.APIKey]{
		{"a key is issued", nil, issue, past(issued), nil},
		{"an id is issued once", past(issued), issue, nil, domain.ErrAPIKeyExists},
		{"an id is issued once, also when revoked", past(issued, domain.APIKeyRevoked{}), issue, nil, domain.ErrAPIKeyExists},
		{"it opens until its end", past(issued), usable(end.Add(-1)), nil, nil},
		{"it is dead at exactly its end", past(issued), usable(end), nil, domain.ErrAPIKeyDead},
		{"one without an end opens for ever", past(forever), usable(now.AddDate(100, 0, 0)), nil, nil},
		{"the revoked opens nothing", past(forever, domain.APIKeyRevoked{}), usable(now), nil, domain.ErrAPIKeyDead},
		{"nobody opens nothing", nil, usable(now), nil, domain.ErrAPIKeyUnknown},
		{"a denial takes nothing from it", past(issued, domain.APIKeyDenied{Hour: now, Count: 9}), usable(now), nil, nil},
		{"it is revoked", past(issued), domain.APIKey.Revoke, past(domain.APIKeyRevoked{}), nil},
		{"revoking again is no news", past(issued, domain.APIKeyRevoked{}), domain.APIKey.Revoke, nil, nil},
		{"nobody is not revoked", nil, domain.APIKey.Revoke, nil, domain.ErrAPIKeyUnknown},
	})
	if k := domain.Fold[domain.APIKey](past(issued)); !k.Sees("acme") || k.Sees("globex") {
		t.Error("a bound key sees its tenants only")
	}
	if k := domain.Fold[domain.APIKey](past(forever)); !k.Sees("acme") || !k.Sees("globex") {
		t.Error("an unbound key sees all tenants")
	}
}

func TestClaim(t *testing.T) {
	now := time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)
	taken := func(holder domain.StreamID, at time.Time) domain.Event {
		return domain.ClaimTaken{Kind: "domain", Holder: holder, TakenAt: at}
	}
	take := func(orphan bool) func(domain.Claim) ([]domain.Event, error) {
		return func(c domain.Claim) ([]domain.Event, error) {
			return c.Take("domain", "tenant-b", func(domain.StreamID) bool { return orphan }, now)
		}
	}
	young, old := now.Add(1-domain.OrphanAge), now.Add(-domain.OrphanAge)
	check(t, []rule[domain.Claim]{
		{"a free value is taken", nil, take(false), past(taken("tenant-b", now)), nil},
		{"taking what one holds is no news", past(taken("tenant-b", old)), take(false), nil, nil},
		{"a held value is refused", past(taken("tenant-a", old)), take(false), nil, domain.ErrClaimed},
		{"also a young orphan's", past(taken("tenant-a", young)), take(true), nil, domain.ErrClaimed},
		{"an orphan of a minute loses it", past(taken("tenant-a", old)), take(true), past(domain.ClaimReleased{Holder: "tenant-a"}, taken("tenant-b", now)), nil},
		{"a released value is free", past(taken("tenant-a", now), domain.ClaimReleased{Holder: "tenant-a"}), take(false), past(taken("tenant-b", now)), nil},
		{"devices share a MAC", past(taken("device-a", now)), of(func(c domain.Claim) []domain.Event { return c.Share("domain", "device-b", now) }), past(taken("device-b", now)), nil},
		{"sharing again is no news", past(taken("device-b", old)), of(func(c domain.Claim) []domain.Event { return c.Share("domain", "device-b", now) }), nil, nil},
		{"a holder releases", past(taken("a", now)), of(func(c domain.Claim) []domain.Event { return c.Release("a") }), past(domain.ClaimReleased{Holder: "a"}), nil},
		{"releasing what one does not hold is no news", past(taken("a", now)), of(func(c domain.Claim) []domain.Event { return c.Release("b") }), nil, nil},
	})
	if c := domain.Fold[domain.Claim](past(taken("a", now), taken("b", now), domain.ClaimReleased{Holder: "a"})); c.Held("a") || !c.Held("b") || len(c.Holders) != 1 {
		t.Errorf("%v", c)
	}
}
