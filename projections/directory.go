package projections

import (
	"context"
	"time"

	"ledgerline/domain"
)

// Directory is who of a tenant can be called. Names and numbers are sealed, the edge opens them.
type Directory struct {
	Entries []DirectoryEntry // by the user's id
	// Changed is when any user or line of the tenant, gone ones too, changed last; zero when there never was one.
	Changed time.Time
	// More: there are more users than were asked for.
	More bool
}

// DirectoryEntry is a live user, and their live lines by id, of which there is one at least.
type DirectoryEntry struct {
	User  User
	Lines []Line
}

// DirectoryOf reads the directory of a tenant, of at most most entries.
func DirectoryOf(ctx context.Context, q Querier, tenant domain.TenantID, most int) (Directory, error) {
	var d Directory
	of := make(map[domain.UserID][]Line)
	tenants := []domain.TenantID{tenant}
	changed := func(h Head) {
		if h.UpdatedAt.After(d.Changed) {
			d.Changed = h.UpdatedAt
		}
	}
	for l, err := range pages(func(p Page) (Listed[Line], error) {
		return ListLines(ctx, q, LineFilter{Tenants: tenants, Removed: true}, p)
	}) {
		if err != nil {
			return Directory{}, err
		}
		changed(l.Head)
		if l.State == StateLive && l.UserID != "" {
			of[l.UserID] = append(of[l.UserID], l)
		}
	}
	for u, err := range pages(func(p Page) (Listed[User], error) {
		return ListUsers(ctx, q, UserFilter{Tenants: tenants, Removed: true}, p)
	}) {
		if err != nil {
			return Directory{}, err
		}
		changed(u.Head)
		if u.State != StateLive || len(of[u.ID]) == 0 {
			continue
		}
		if len(d.Entries) == most {
			d.More = true
			continue
		}
		d.Entries = append(d.Entries, DirectoryEntry{u, of[u.ID]})
	}
	return d, nil
}
