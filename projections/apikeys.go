package projections

import (
	"context"
	"time"

	"ledgerline/domain"
)

// APIKey is one API key as readers see it. Whether it opens anything is decided from State and ExpiresAt,
// or from its stream where it matters.
type APIKey struct {
	ID        domain.APIKeyID   `json:"id"`
	Name      string            `json:"name"`
	Role      domain.Role       `json:"role"`
	Tenants   []domain.TenantID `json:"tenants,omitempty"` // empty: all of the instance
	UserID    domain.UserID     `json:"user_id,omitempty"`
	ExpiresAt *time.Time        `json:"expires_at,omitempty"`
	State     string            `json:"state"` // live, revoked
	Hash      string            `json:"-"`
	Head
}

var apiKeys = func() *noun[domain.APIKey] {
	n := newNoun("apikey", "apikeys", 1,
		[]string{"live INTEGER NOT NULL", "known INTEGER NOT NULL", "name TEXT", "hash TEXT"},
		func(_ string, d *Doc[domain.APIKey]) []any {
			s := d.State
			return []any{flag(s.Exists && !s.Revoked), flag(s.Exists), orNull(s.Name), orNull(s.Hash)}
		},
		"CREATE INDEX apikeys_hash ON apikeys (hash) WHERE hash IS NOT NULL",
		"CREATE INDEX apikey_tenants_tenant ON apikey_tenants (tenant_id)")
	n.schema.Linked = []LinkSchema{{"apikey_tenants", []string{"tenant_id TEXT NOT NULL"}}}
	n.schema.Links = func(_ string, row any) [][][]any {
		var bound [][]any
		for _, t := range row.(*Doc[domain.APIKey]).State.Tenants {
			bound = append(bound, []any{string(t)})
		}
		return [][][]any{bound}
	}
	return n
}()

func apiKeyRow(key string, d *Doc[domain.APIKey]) APIKey {
	s := d.State
	k := APIKey{ID: domain.APIKeyID(key), Name: s.Name, Role: s.Role, Tenants: s.Tenants, UserID: s.UserID, ExpiresAt: s.ExpiresAt,
		State: StateLive, Hash: s.Hash, Head: d.Head}
	if s.Revoked {
		k.State = CodeRevoked
	}
	return k
}

// APIKeyByID finds an API key, also a revoked one.
func APIKeyByID(ctx context.Context, q Querier, id domain.APIKeyID) (APIKey, bool, error) {
	return one(ctx, q, apiKeys, apiKeyRow, "key = ? AND known = 1", string(id))
}

// APIKeyByHash finds the API key, also a revoked one, whose key hashes to hash.
func APIKeyByHash(ctx context.Context, q Querier, hash string) (APIKey, bool, error) {
	return one(ctx, q, apiKeys, apiKeyRow, "hash = ? ORDER BY live DESC, key", hash)
}

// APIKeyFilter narrows a list of API keys. Tenants not nil lists the keys bound to one of them, and none
// that reach the whole instance.
type APIKeyFilter struct {
	Tenants []domain.TenantID
	Text    string // in id or name
	Revoked bool   // revoked ones too
}

// ListAPIKeys lists API keys by id.
func ListAPIKeys(ctx context.Context, q Querier, f APIKeyFilter, p Page) (Listed[APIKey], error) {
	var c clause
	c.is(present(f.Revoked))
	if f.Tenants != nil {
		var bound clause
		in(&bound, "tenant_id", f.Tenants)
		c.is("key IN (SELECT owner FROM apikey_tenants"+bound.sql()+")", bound.args...)
	}
	c.contains(f.Text, "key", "name")
	return list(ctx, q, apiKeys, apiKeyRow, "key", c, p)
}
