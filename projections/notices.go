package projections

import (
	"context"

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

// PendingNotices lists up to limit notices of a tenant that are still to be told, in the order of their codes.
func PendingNotices(ctx context.Context, q Querier, tenant domain.TenantID, limit int) ([]Notice, error) {
	return all(ctx, q, notices, noticeRow, "tenant_id = ? AND state = 'pending' ORDER BY key LIMIT ?", string(tenant), limit)
}
