package projections

import (
	"context"
	"strings"

	"ledgerline/domain"
)

// Hit is one thing Search found, by a field that is not sealed.
type Hit struct {
	Kind     string          `json:"kind"` // device, line, user, category, layer, tenant, code
	ID       string          `json:"id"`
	TenantID domain.TenantID `json:"tenant_id"`
	Field    string          `json:"field"`
	Text     string          `json:"text"`
}

// searched are the fields Search looks at, the likeliest first.
var searched = []struct{ kind, table, id, tenant, field string }{
	{"device", "devices", "key", "tenant_id", "mac"},
	{"device", "devices", "key", "tenant_id", "key"},
	{"device", "devices", "key", "tenant_id", "vendor"},
	{"device", "devices", "key", "tenant_id", "model"},
	{"device", "devices", "key", "tenant_id", "description"},
	{"line", "lines", "key", "tenant_id", "username"},
	{"line", "lines", "key", "tenant_id", "auth_username"},
	{"line", "lines", "key", "tenant_id", "key"},
	{"user", "users", "key", "tenant_id", "key"},
	{"category", "categories", "key", "tenant_id", "name"},
	{"category", "categories", "key", "tenant_id", "key"},
	{"layer", "layers", "key", "tenant_id", "name"},
	{"layer", "layers", "key", "tenant_id", "key"},
	{"tenant", "tenants", "key", "key", "name"},
	{"tenant", "tenants", "key", "key", "domain"},
	{"tenant", "tenants", "key", "key", "key"},
	{"code", "codes", "code_id", "tenant_id", "code_id"},
}

// Search finds up to limit things of the tenants (nil: all) whose MAC, id, vendor, model, user name, name or
// description contains text, each once. Numbers, names and addresses are sealed: SealedUsers and SealedLines
// are the way to search those. An empty text finds nothing.
func Search(ctx context.Context, q Querier, tenants []domain.TenantID, text string, limit int) ([]Hit, error) {
	text = strings.TrimSpace(text)
	var hits []Hit
	seen := make(map[[2]string]bool)
	for _, s := range searched {
		wanted := text
		if s.field == "mac" {
			wanted = hexDigits(text)
		}
		if wanted == "" || len(hits) >= limit {
			continue
		}
		var c clause
		c.contains(wanted, s.field)
		in(&c, s.tenant, tenants)
		if s.kind != "code" {
			c.is("live = 1")
		}
		sql := "SELECT " + s.id + ", " + s.tenant + ", " + s.field + " FROM " + s.table + c.sql() + " ORDER BY " + s.id + " LIMIT ?"
		err := q.Query(ctx, sql, append(c.args, limit), func(r Row) error {
			if id := [2]string{s.kind, r.Text(0)}; !seen[id] && len(hits) < limit {
				seen[id] = true
				field := s.field
				if field == s.id {
					field = "id"
				}
				hits = append(hits, Hit{Kind: s.kind, ID: r.Text(0), TenantID: domain.TenantID(r.Text(1)), Field: field, Text: r.Text(2)})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return hits, nil
}
