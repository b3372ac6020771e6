package projections

import (
	"context"

	"ledgerline/domain"
)

// Tenant is one tenant as readers see it.
type Tenant struct {
	ID     domain.TenantID `json:"id"`
	Name   string          `json:"name"`
	Domain string          `json:"domain,omitempty"`
	State  string          `json:"state"` // live, deleted
	// HasProvisioningKey tells whether phones may fetch below /t/<key>/; Key is its sealed copy.
	HasProvisioningKey bool          `json:"has_provisioning_key"`
	Key                domain.Secret `json:"-"`
	KeyHash            string        `json:"-"`
	// HasUsersKey tells whether innovaphone Users of its domain may log in; UsersDomain, of the master tenant, is the domain
	// name with which Users is an administrator of all domains.
	HasUsersKey bool   `json:"has_users_key"`
	UsersDomain string `json:"users_domain,omitempty"`
	// ResyncsStopped: after too many failures phones are not told of changes by themselves, until it is resumed.
	ResyncsStopped bool `json:"resyncs_stopped"`
	Head
}

// States of a row whose noun has no words of its own.
const (
	StateLive    = "live"
	StateDeleted = "deleted"
	StateRemoved = "removed"
	StateRetired = "retired"
)

var tenants = newNoun("tenant", "tenants", 1, []string{"live INTEGER NOT NULL", "known INTEGER NOT NULL", "name TEXT", "domain TEXT", "key_hash TEXT", "revision INTEGER NOT NULL"},
	func(_ string, d *Doc[domain.Tenant]) []any {
		return []any{flag(d.State.Live() == nil), flag(d.State.Exists), orNull(d.State.Name), orNull(d.State.Domain), orNull(d.State.KeyHash), int64(d.Head.Revision)}
	},
	"CREATE INDEX tenants_domain ON tenants (domain) WHERE domain IS NOT NULL",
	"CREATE INDEX tenants_key_hash ON tenants (key_hash) WHERE key_hash IS NOT NULL")

func tenantRow(key string, d *Doc[domain.Tenant]) Tenant {
	t := Tenant{ID: domain.TenantID(key), Name: d.State.Name, Domain: d.State.Domain, State: StateLive,
		HasProvisioningKey: d.State.KeyHash != "", Key: d.State.Key, KeyHash: d.State.KeyHash, HasUsersKey: !d.State.UsersKey.IsZero(), UsersDomain: d.State.UsersDomain, ResyncsStopped: d.State.Stopped, Head: d.Head}
	if d.State.Deleted {
		t.State = StateDeleted
	}
	return t
}

// TenantByID finds a tenant, also a deleted one.
func TenantByID(ctx context.Context, q Querier, id domain.TenantID) (Tenant, bool, error) {
	return one(ctx, q, tenants, tenantRow, "key = ? AND known = 1", string(id))
}

// TenantByKeyHash finds the live tenant whose provisioning key hashes to hash.
func TenantByKeyHash(ctx context.Context, q Querier, hash string) (Tenant, bool, error) {
	return one(ctx, q, tenants, tenantRow, "key_hash = ? AND live = 1", hash)
}

// TenantByDomain finds the live tenant of that domain name.
func TenantByDomain(ctx context.Context, q Querier, name string) (Tenant, bool, error) {
	return one(ctx, q, tenants, tenantRow, "domain = ? AND live = 1", name)
}

// TenantFilter narrows a list of tenants; nil Tenants means all, Text is looked for in id, name and domain.
type TenantFilter struct {
	Tenants []domain.TenantID
	Text    string
	Deleted bool // deleted ones too
}

// ListTenants lists tenants by id.
func ListTenants(ctx context.Context, q Querier, f TenantFilter, p Page) (Listed[Tenant], error) {
	var c clause
	c.is(present(f.Deleted))
	in(&c, "key", f.Tenants)
	c.contains(f.Text, "key", "name", "domain")
	return list(ctx, q, tenants, tenantRow, "key", c, p)
}

// present is the condition for rows that exist, with or without those that have ended.
func present(ended bool) string {
	if ended {
		return "known = 1"
	}
	return "live = 1"
}
