package projections

import (
	"context"
	"fmt"
	"time"

	"ledgerline/domain"
)

// Entry is one line of a timeline: which event, where and when. What it says is read from the log by
// stream and revision.
type Entry struct {
	Position domain.Position `json:"position"`
	Stream   domain.StreamID `json:"stream"`
	Revision domain.Revision `json:"revision"`
	Type     string          `json:"type"`
	TenantID domain.TenantID `json:"tenant_id,omitempty"`
	At       time.Time       `json:"at"`
}

// history numbers the events of the log without gaps (seq), so that a position, or a time, is found by
// halving the numbers: both grow with seq, and no index has to be kept for them. max_at is the running
// maximum of recorded_at: clocks may step back, positions do not (D12).
type historyProjection struct{ events, links Schema }

var history = &historyProjection{
	Schema{Name: "history",
		Columns: []string{"seq INTEGER PRIMARY KEY", "commit_at INTEGER NOT NULL", "prepare_at INTEGER NOT NULL", "stream TEXT NOT NULL",
			"revision INTEGER NOT NULL", "type TEXT NOT NULL", "tenant_id TEXT", "at INTEGER", "max_at INTEGER NOT NULL"},
		Indexes: []string{"CREATE INDEX history_stream ON history (stream)", "CREATE INDEX history_tenant ON history (tenant_id) WHERE tenant_id IS NOT NULL"}},
	Schema{Name: "history_links",
		Columns: []string{"seq INTEGER NOT NULL", "subject TEXT NOT NULL"},
		Indexes: []string{"CREATE INDEX history_links_subject ON history_links (subject, seq)"}},
}

func (*historyProjection) Name() string        { return "history" }
func (*historyProjection) Version() int        { return 2 }
func (p *historyProjection) Tables() []*Schema { return []*Schema{&p.events, &p.links} }

func (p *historyProjection) Apply(tx Tx, f *Fact) error {
	if f.Stream.Internal() || f.Category == "claim" {
		return nil
	}
	seq, latest, err := tx.Last(&p.events, "max_at")
	if err != nil {
		return err
	}
	var at any
	if !f.At.IsZero() {
		at, latest = f.At.UnixMicro(), max(latest, f.At.UnixMicro())
	}
	tenant := f.TenantID
	if f.Category == "tenant" {
		tenant = domain.TenantID(f.Stream.ID())
	}
	err = tx.Append(&p.events, seq+1, int64(f.Position.Commit), int64(f.Position.Prepare), string(f.Stream), int64(f.Revision), f.Type, orNull(tenant), at, latest)
	if err != nil {
		return err
	}
	for _, subject := range touched(f.Event) {
		if subject != f.Stream {
			if err := tx.Append(&p.links, seq+1, string(subject)); err != nil {
				return err
			}
		}
	}
	return nil
}

// TimelineFilter says whose events to list and which of them. Exactly one of Tenant and Subject is set:
// Subject is "device-<id>", "user-<id>", "line-<id>", "layer-<id>", "category-<id>", "code-<code id>" …
type TimelineFilter struct {
	Tenant  domain.TenantID
	Subject domain.StreamID
	Types   []string // wire names; nil means all
	// From and Until bound the positions: after From, at or before Until; zero for no bound.
	From, Until domain.Position
	Newest      bool // newest first
}

// Timeline lists the events of a tenant or subject, by position.
func Timeline(ctx context.Context, q Querier, f TimelineFilter, p Page) (Listed[Entry], error) {
	var out Listed[Entry]
	after, err := readCursor("history", p.Cursor)
	if err != nil {
		return out, err
	}
	var c clause
	if f.Subject != "" {
		c.is("seq IN (SELECT seq FROM history WHERE stream = ? UNION SELECT seq FROM history_links WHERE subject = ?)", string(f.Subject), string(f.Subject))
	} else {
		c.is("tenant_id = ?", string(f.Tenant))
	}
	in(&c, "type", f.Types)
	for _, bound := range []struct {
		at   domain.Position
		term string
	}{{f.From, "seq > ?"}, {f.Until, "seq <= ?"}} {
		if bound.at.IsZero() {
			continue
		}
		seq, err := seqAt(ctx, q, bound.at)
		if err != nil {
			return out, err
		}
		c.is(bound.term, seq)
	}
	order, beyond := "ASC", "seq > ?"
	if f.Newest {
		order, beyond = "DESC", "seq < ?"
	}
	if after != "" {
		at, err := domain.ParsePosition(after)
		if err != nil {
			return out, fmt.Errorf("%.40q %w", p.Cursor, ErrBadCursor)
		}
		seq, err := seqAt(ctx, q, at)
		if err != nil {
			return out, err
		}
		c.is(beyond, seq)
	}
	limit := pageLimit(p.Limit)
	sql := "SELECT commit_at, prepare_at, stream, revision, type, tenant_id, at FROM history" + c.sql() + " ORDER BY seq " + order + " LIMIT ?"
	err = q.Query(ctx, sql, append(c.args, limit+1), func(r Row) error {
		if len(out.Items) == limit {
			out.Next = writeCursor("history", out.Items[limit-1].Position.String())
			return nil
		}
		e := Entry{Position: positionIn(r, 0), Stream: domain.StreamID(r.Text(2)), Revision: domain.Revision(r.Int(3)), Type: r.Text(4),
			TenantID: domain.TenantID(r.Text(5))}
		if at := r.Int(6); at != 0 {
			e.At = time.UnixMicro(at).UTC()
		}
		out.Items = append(out.Items, e)
		return nil
	})
	return out, err
}

func positionIn(r Row, column int) domain.Position {
	return domain.Position{Commit: uint64(r.Int(column)), Prepare: uint64(r.Int(column + 1))}
}

// PositionAt is the position as_of a time means: the last event whose running maximum of recorded_at is at
// or before t (D12); zero when there is none. Claims and bookkeeping streams do not count.
func PositionAt(ctx context.Context, q Querier, t time.Time) (domain.Position, error) {
	_, at, err := halve(ctx, q, func(_ domain.Position, maxAt int64) bool { return maxAt <= t.UnixMicro() })
	return at, err
}

// TimeOf is the running maximum of recorded_at at position p; the zero time before the first event.
func TimeOf(ctx context.Context, q Querier, p domain.Position) (at time.Time, err error) {
	seq, err := seqAt(ctx, q, p)
	if err != nil || seq == 0 {
		return at, err
	}
	err = q.Query(ctx, "SELECT max_at FROM history WHERE seq = ?", []any{seq}, func(r Row) error {
		at = time.UnixMicro(r.Int(0)).UTC()
		return nil
	})
	return at, err
}

// seqAt is the number of the last event at or before p.
func seqAt(ctx context.Context, q Querier, p domain.Position) (int64, error) {
	seq, _, err := halve(ctx, q, func(at domain.Position, _ int64) bool { return at.Compare(p) <= 0 })
	return seq, err
}

// halve finds the last event for which holds is true; it is true for some first events and for none after.
func halve(ctx context.Context, q Querier, holds func(at domain.Position, maxAt int64) bool) (seq int64, at domain.Position, err error) {
	var hi int64
	if err := q.Query(ctx, "SELECT max(seq) FROM history", nil, func(r Row) error { hi = r.Int(0); return nil }); err != nil {
		return 0, at, err
	}
	for seq < hi {
		mid := seq + (hi-seq+1)/2
		var here domain.Position
		var maxAt int64
		err := q.Query(ctx, "SELECT commit_at, prepare_at, max_at FROM history WHERE seq = ?", []any{mid}, func(r Row) error {
			here, maxAt = positionIn(r, 0), r.Int(2)
			return nil
		})
		if err != nil {
			return 0, at, err
		}
		if holds(here, maxAt) {
			seq, at = mid, here
		} else {
			hi = mid - 1
		}
	}
	return seq, at, nil
}
