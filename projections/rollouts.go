package projections

import (
	"context"
	"iter"
	"time"

	"ledgerline/domain"
)

// Rollout is one rollout as readers see it; what became of its rows, CountRolloutRows tells.
type Rollout struct {
	domain.RolloutStarted
	Cancelled bool
	Exports   int
	Head
}

// rolloutState is a rollout without its plan, which its rows tell themselves.
type rolloutState struct{ domain.Rollout }

// Apply returns the rollout after e.
func (s rolloutState) Apply(e domain.Event) rolloutState {
	s.Rollout = s.Rollout.Apply(e)
	s.Plan = nil
	return s
}

var rollouts = newNoun("rollout", "rollouts", 1, []string{"known INTEGER NOT NULL", "tenant_id TEXT", "category_id TEXT"},
	func(_ string, d *Doc[rolloutState]) []any {
		return []any{flag(d.State.Exists), orNull(d.State.TenantID), orNull(d.State.CategoryID)}
	},
	"CREATE INDEX rollouts_tenant ON rollouts (tenant_id, key)")

func rolloutRow(_ string, d *Doc[rolloutState]) Rollout {
	return Rollout{RolloutStarted: d.State.RolloutStarted, Cancelled: d.State.Cancelled, Exports: d.State.Exports, Head: d.Head}
}

// RolloutByID finds a rollout.
func RolloutByID(ctx context.Context, q Querier, id domain.RolloutID) (Rollout, bool, error) {
	return one(ctx, q, rollouts, rolloutRow, "key = ? AND known = 1", string(id))
}

// RolloutFilter narrows a list of rollouts; nil Tenants means all.
type RolloutFilter struct {
	Tenants  []domain.TenantID
	Category domain.CategoryID
	Text     string // in the id
}

// ListRollouts lists rollouts by id.
func ListRollouts(ctx context.Context, q Querier, f RolloutFilter, p Page) (Listed[Rollout], error) {
	var c clause
	c.is("known = 1")
	in(&c, "tenant_id", f.Tenants)
	equal(&c, "category_id", f.Category)
	c.contains(f.Text, "key")
	return list(ctx, q, rollouts, rolloutRow, "key", c, p)
}

// RolloutRow is one row of a rollout as readers see it. Its digits are sealed under the epoch's key.
type RolloutRow struct {
	RolloutID  domain.RolloutID  `json:"-"`
	TenantID   domain.TenantID   `json:"-"`
	Row        int               `json:"row"`
	UserID     domain.UserID     `json:"user_id"`
	MAC        domain.MAC        `json:"mac,omitempty"` // the only phone that may use the code
	State      string            `json:"state"`
	CategoryID domain.CategoryID `json:"category_id,omitempty"` // where the code leads
	CodeID     domain.CodeID     `json:"code_id,omitempty"`
	IssuedAt   time.Time         `json:"issued_at,omitzero"`
	ValidUntil time.Time         `json:"valid_until,omitzero"`
	DeviceID   domain.DeviceID   `json:"device_id,omitempty"`
	Cause      string            `json:"cause,omitempty"` // why it failed
	Digits     domain.Secret     `json:"-"`
	Head
}

// StateAt is the row's state at now: a code is dead at exactly ValidUntil, recorded or not.
func (r RolloutRow) StateAt(now time.Time) string {
	if r.State == domain.RowPending && !now.Before(r.ValidUntil) {
		return domain.RowExpired
	}
	return r.State
}

var rolloutRows = newNoun("rolloutrow", "rollout_rows", 1, []string{"rollout_id TEXT", "row INTEGER", "user_id TEXT", "state TEXT NOT NULL", "device_id TEXT"},
	func(_ string, d *Doc[domain.RolloutRow]) []any {
		s := d.State
		return []any{orNull(s.RolloutID), int64(s.Row), orNull(s.UserID), s.State, orNull(s.DeviceID)}
	},
	"CREATE UNIQUE INDEX rollout_rows_place ON rollout_rows (rollout_id, row)",
	"CREATE INDEX rollout_rows_state ON rollout_rows (rollout_id, state, row)",
	"CREATE INDEX rollout_rows_user ON rollout_rows (user_id)")

func rolloutRowRow(_ string, d *Doc[domain.RolloutRow]) RolloutRow {
	s := d.State
	return RolloutRow{RolloutID: s.RolloutID, TenantID: s.TenantID, Row: s.Row, UserID: s.UserID, MAC: s.MAC, State: s.State, CategoryID: s.CategoryID, CodeID: s.CodeID, IssuedAt: s.IssuedAt,
		ValidUntil: s.ValidUntil, DeviceID: s.DeviceID, Cause: s.Cause, Digits: s.Digits, Head: d.Head}
}

// RolloutRowFilter narrows the rows of a rollout; empty fields are no condition.
type RolloutRowFilter struct {
	Rollout domain.RolloutID
	State   string
	User    domain.UserID
}

// ListRolloutRows lists the rows of a rollout by their numbers.
func ListRolloutRows(ctx context.Context, q Querier, f RolloutRowFilter, p Page) (Listed[RolloutRow], error) {
	var c clause
	c.is("rollout_id = ?", string(f.Rollout))
	equal(&c, "state", f.State)
	equal(&c, "user_id", f.User)
	return list(ctx, q, rolloutRows, rolloutRowRow, "row", c, p)
}

// AllRolloutRows yields every row of a rollout by number. No reader is held while the consumer works.
func AllRolloutRows(ctx context.Context, q Querier, id domain.RolloutID) iter.Seq2[RolloutRow, error] {
	return pages(func(p Page) (Listed[RolloutRow], error) {
		return ListRolloutRows(ctx, q, RolloutRowFilter{Rollout: id}, p)
	})
}

// CountRolloutRows counts the rows of a rollout by state, as recorded; states without rows are not in it.
func CountRolloutRows(ctx context.Context, q Querier, id domain.RolloutID) (map[string]int, error) {
	counts := make(map[string]int)
	err := q.Query(ctx, "SELECT state, count(*) FROM rollout_rows WHERE rollout_id = ? GROUP BY state", []any{string(id)}, func(r Row) error {
		counts[r.Text(0)] = int(r.Int(1))
		return nil
	})
	return counts, err
}
