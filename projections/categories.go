package projections

import (
	"context"

	"ledgerline/domain"
)

// Category is one category as readers see it.
type Category struct {
	ID       domain.CategoryID `json:"id"`
	TenantID domain.TenantID   `json:"tenant_id"`
	domain.CategorySpec
	State string `json:"state"` // live, retired
	Head
}

var categories = newNoun("category", "categories", 1,
	[]string{"live INTEGER NOT NULL", "known INTEGER NOT NULL", "tenant_id TEXT", "name TEXT", "revision INTEGER NOT NULL"},
	func(_ string, d *Doc[domain.Category]) []any {
		s := d.State
		return []any{flag(s.Exists && !s.Retired), flag(s.Exists), orNull(s.TenantID), orNull(s.Name), int64(d.Head.Revision)}
	},
	"CREATE INDEX categories_tenant ON categories (tenant_id, key)")

func categoryRow(key string, d *Doc[domain.Category]) Category {
	c := Category{ID: domain.CategoryID(key), TenantID: d.State.TenantID, CategorySpec: d.State.CategorySpec, State: StateLive, Head: d.Head}
	if d.State.Retired {
		c.State = StateRetired
	}
	return c
}

// CategoryByID finds a category, also a retired one.
func CategoryByID(ctx context.Context, q Querier, id domain.CategoryID) (Category, bool, error) {
	return one(ctx, q, categories, categoryRow, "key = ? AND known = 1", string(id))
}

// CategoryFilter narrows a list of categories; nil Tenants means all, Text is looked for in id and name.
type CategoryFilter struct {
	Tenants []domain.TenantID
	Text    string
	Retired bool // retired ones too
}

// ListCategories lists categories by id.
func ListCategories(ctx context.Context, q Querier, f CategoryFilter, p Page) (Listed[Category], error) {
	var c clause
	c.is(present(f.Retired))
	in(&c, "tenant_id", f.Tenants)
	c.contains(f.Text, "key", "name")
	return list(ctx, q, categories, categoryRow, "key", c, p)
}
