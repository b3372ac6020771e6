package projections

import (
	"context"
	"strings"

	"ledgerline/domain"
)

// Notice is what Users of a domain is to be told, or was, as readers see it.
type Notice struct {
	domain.NoticeStored
	State string
	Head
}

var notices = newNoun("notice", "notices", 1, []string{"tenant_id TEXT", "state TEXT NOT NULL", "epoch TEXT", "stored_at INTEGER"},
	func(_ string, d *Doc[domain.Notice]) []any {
		return []any{orNull(d.State.TenantID), d.State.State, orNull(string(d.State.Epoch)), micros(d.State.StoredAt)}
	},
	"CREATE INDEX notices_pending ON notices (tenant_id, key) WHERE state = 'pending'",
	"CREATE INDEX notices_due ON notices (stored_at) WHERE state = 'pending'",
	"CREATE INDEX notices_epoch ON notices (epoch) WHERE state = 'pending'")

func noticeRow(_ string, d *Doc[domain.Notice]) Notice {
	return Notice{NoticeStored: d.State.NoticeStored, State: d.State.State, Head: d.Head}
}

// PendingNotices lists up to limit notices that are still to be told, of one tenant, or with tenant empty of all but some, in
// the order of their codes.
func PendingNotices(ctx context.Context, q Querier, tenant domain.TenantID, but []domain.TenantID, limit int) ([]Notice, error) {
	c := clause{terms: []string{"state = 'pending'"}}
	equal(&c, "tenant_id", tenant)
	for _, other := range but {
		c.is("tenant_id <> ?", string(other))
	}
	return all(ctx, q, notices, noticeRow, strings.Join(c.terms, " AND ")+" ORDER BY key LIMIT ?", append(c.args, limit)...)
}
