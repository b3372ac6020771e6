package projections

import (
	"context"
	"iter"

	"ledgerline/domain"
)

// User is one user as readers see it; name and e-mail are sealed, the edge opens them.
type User struct {
	ID       domain.UserID   `json:"id"`
	TenantID domain.TenantID `json:"tenant_id"`
	domain.UserSpec
	State string `json:"state"` // live, removed
	Head
}

var users = newNoun("user", "users", 1,
	[]string{"live INTEGER NOT NULL", "known INTEGER NOT NULL", "tenant_id TEXT", "revision INTEGER NOT NULL"},
	func(_ string, d *Doc[domain.User]) []any {
		s := d.State
		return []any{flag(s.Exists && !s.Removed), flag(s.Exists), orNull(s.TenantID), int64(d.Head.Revision)}
	},
	"CREATE INDEX users_tenant ON users (tenant_id, key)")

func userRow(key string, d *Doc[domain.User]) User {
	u := User{ID: domain.UserID(key), TenantID: d.State.TenantID, UserSpec: d.State.UserSpec, State: StateLive, Head: d.Head}
	if d.State.Removed {
		u.State = StateRemoved
	}
	return u
}

// UserByID finds a user, also a removed one.
func UserByID(ctx context.Context, q Querier, id domain.UserID) (User, bool, error) {
	return one(ctx, q, users, userRow, "key = ? AND known = 1", string(id))
}

// UserFilter narrows a list of users; nil Tenants means all, Text is looked for in the id (SealedUsers is
// the way to search names).
type UserFilter struct {
	Tenants []domain.TenantID
	Text    string
	Removed bool // removed ones too
}

// ListUsers lists users by id.
func ListUsers(ctx context.Context, q Querier, f UserFilter, p Page) (Listed[User], error) {
	var c clause
	c.is(present(f.Removed))
	in(&c, "tenant_id", f.Tenants)
	c.contains(f.Text, "key")
	return list(ctx, q, users, userRow, "key", c, p)
}

// SealedUsers yields the live users of the tenants by id, for an edge that opens and compares what is
// sealed. No reader is held while the consumer works.
func SealedUsers(ctx context.Context, q Querier, tenants []domain.TenantID) iter.Seq2[User, error] {
	return pages(func(p Page) (Listed[User], error) { return ListUsers(ctx, q, UserFilter{Tenants: tenants}, p) })
}

// pages yields the items of all pages; it stops after the first error.
func pages[R any](next func(Page) (Listed[R], error)) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		for p := (Page{Limit: MaxLimit}); ; {
			l, err := next(p)
			if err != nil {
				var zero R
				yield(zero, err)
				return
			}
			for _, item := range l.Items {
				if !yield(item, nil) {
					return
				}
			}
			if p.Cursor = l.Next; p.Cursor == "" {
				return
			}
		}
	}
}
