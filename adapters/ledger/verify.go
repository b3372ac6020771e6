package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/domain"
)

const (
	tailRows    = 1000 // checked at every start
	sampleRows  = 64   // … and this many places spread over the rest
	maxFindings = 100
)

// Finding is one place where the file is not what was written.
type Finding struct {
	Position domain.Position `json:"position"`
	Stream   domain.StreamID `json:"stream,omitempty"`   // empty when the row is gone
	Revision domain.Revision `json:"revision,omitempty"` // zero when the row is gone
	// Rows is how many positions from Position on are concerned, when it is more than one.
	Rows uint64 `json:"rows,omitempty"`
	What string `json:"what"`

	before, leaf, chain [32]byte
}

// String is the finding as one line.
func (f Finding) String() string {
	if f.Stream == "" {
		return fmt.Sprintf("position %s: %s", f.Position, f.What)
	}
	return fmt.Sprintf("position %s (revision %d of %s): %s", f.Position, f.Revision, f.Stream, f.What)
}

// VerifyReport is the outcome of a verification.
type VerifyReport struct {
	From     domain.Position `json:"from"`   // everything after this was checked …
	To       domain.Position `json:"to"`     // … up to and including this
	Events   int             `json:"events"` // rows checked
	Chain    [32]byte        `json:"-"`      // chain hash at To
	Findings []Finding       `json:"findings,omitempty"`
}

// Verify recomputes the hash chain of every event after from (the zero position: of all, and then also
// asks SQLite to check its own pages and indexes) up to the present end. Damage is reported with its
// place, at most 100 places, and as an error that wraps domain.ErrDamaged and names the first.
// What was cut off the end together with the head row can only be found by a checkpoint kept elsewhere.
func (l *Ledger) Verify(ctx context.Context, from domain.Position) (VerifyReport, error) {
	v := verification{report: VerifyReport{From: from}}
	head, err := l.headRow(ctx)
	if err == nil {
		err = l.verify(ctx, &v, from.Commit, head)
	}
	if err == nil && from.IsZero() {
		err = l.integrity(ctx, &v)
	}
	if err != nil {
		return v.report, fmt.Errorf("verify: %w", err)
	}
	v.nameSwaps()
	if len(v.report.Findings) > 0 {
		return v.report, fmt.Errorf("%w: %s", domain.ErrDamaged, v.report.Findings[0])
	}
	return v.report, nil
}

// check is the quick look at every start: layout, the last rows, and a sample of the others.
func (l *Ledger) check(ctx context.Context) error {
	if err := l.withReader(ctx, func(r *reader) error { return l.meta(r.conn) }); err != nil {
		return err
	}
	head, err := l.headRow(ctx)
	if err != nil {
		return err
	}
	if l.opts.Unchecked {
		return l.refresh(ctx)
	}
	var v verification
	tail := head.position - min(head.position, tailRows)
	for i := range uint64(sampleRows) {
		if at := tail * i / sampleRows; at+1 < tail {
			if err := l.verify(ctx, &v, at, mark{position: at + 1}); err != nil {
				return err
			}
		}
	}
	if err := l.verify(ctx, &v, tail, head); err != nil {
		return err
	}
	if v.nameSwaps(); len(v.report.Findings) > 0 {
		return fmt.Errorf("%w: %s", domain.ErrDamaged, v.report.Findings[0])
	}
	return l.refresh(ctx)
}

// headRow reads what the last transaction said about the end of the log.
func (l *Ledger) headRow(ctx context.Context) (m mark, err error) {
	found := false
	err = l.withReader(ctx, func(r *reader) error {
		return one(r.conn, "select position, chain from head", func(s *sqlite.Stmt) {
			m.position = uint64(s.ColumnInt64(0))
			s.ColumnBytes(1, m.chain[:])
			found = true
		})
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: the head row is missing", domain.ErrDamaged)
	}
	return m, err
}

// verification walks rows in order and compares each with its chain hash.
type verification struct {
	report   VerifyReport
	next     uint64   // the position that must come
	stored   [32]byte // chain hash of the row before, as stored
	computed [32]byte // … and as it should be; differs only behind a finding
	lost     bool     // the row before is missing: stored says nothing
}

func (v *verification) find(f Finding) {
	if len(v.report.Findings) < maxFindings {
		v.report.Findings = append(v.report.Findings, f)
	}
}

// broken turns the error of a file whose structure SQLite cannot follow into a finding; other errors stay.
func (v *verification) broken(err error, f Finding) error {
	if err == nil || !errors.Is(damaged(err), domain.ErrDamaged) {
		return err
	}
	f.What += " (SQLite says: " + err.Error() + ")"
	v.find(f)
	return nil
}

// verify checks the rows after position from up to head. A head without a chain hash is only a place to stop.
func (l *Ledger) verify(ctx context.Context, v *verification, from uint64, head mark) error {
	if err := l.begin(ctx, v, from); err != nil {
		return err
	}
	for v.next <= head.position {
		at := v.next
		rows := int(min(head.position-at+1, pageRows))
		p, err := l.page(ctx, rows, rows, func(r *reader) *sqlite.Stmt {
			r.all.BindInt64(1, int64(at)-1)
			r.all.BindInt64(2, int64(head.position))
			return r.all
		})
		if err != nil {
			// SQLite's own structure is broken here: what stands behind is not reached any more.
			return v.broken(err, Finding{Position: domain.At(at), Rows: min(head.position-at+1, pageRows), What: "this row or one of the next cannot be read"})
		}
		for i, e := range p.events {
			if err := l.missing(ctx, v, e.Position.Commit); err != nil {
				return err
			}
			v.row(e, p.chains[i])
		}
		if len(p.events) == 0 {
			if err := l.missing(ctx, v, head.position+1); err != nil {
				return err
			}
		}
	}
	if head.chain == [32]byte{} {
		return nil
	}
	if v.stored != head.chain && !v.lost {
		v.find(Finding{Position: domain.At(head.position), What: "the chain does not end where the head row says"})
	}
	var extra int64
	err := l.withReader(ctx, func(r *reader) error {
		return one(r.conn, "select position from events where position > (select position from head) or position < 1 limit 1", func(s *sqlite.Stmt) { extra = s.ColumnInt64(0) })
	})
	if extra != 0 {
		v.find(Finding{Position: domain.At(uint64(extra)), What: "a row outside the log (inserted by another program)"})
	}
	v.report.To, v.report.Chain = domain.At(head.position), v.stored
	return v.broken(err, Finding{What: "rows outside the log cannot be looked for"})
}

// begin takes the chain hash at from as given; before the first row it is all zeros.
func (l *Ledger) begin(ctx context.Context, v *verification, from uint64) error {
	v.next, v.stored, v.computed, v.lost = from+1, [32]byte{}, [32]byte{}, false
	if from == 0 {
		return nil
	}
	v.lost = true
	return l.withReader(ctx, func(r *reader) error {
		return one(r.conn, "select chain from events where position = ?", func(s *sqlite.Stmt) {
			s.ColumnBytes(0, v.stored[:])
			v.computed, v.lost = v.stored, false
		}, int64(from))
	})
}

// missing reports the positions from the one that must come up to the one that came.
func (l *Ledger) missing(ctx context.Context, v *verification, came uint64) error {
	if came == v.next {
		return nil
	}
	what := "this row is missing"
	if came-v.next > 1 {
		what = fmt.Sprintf("this row and the next %d are missing", came-v.next-1)
	}
	streams, err := l.torn(ctx)
	v.find(Finding{Position: domain.At(v.next), Rows: came - v.next, What: what + streams})
	v.next, v.lost = came, true
	return v.broken(err, Finding{Position: domain.At(came), What: "what revisions are missing before it cannot be told"})
}

// torn names streams with a revision missing.
func (l *Ledger) torn(ctx context.Context) (string, error) {
	var names []string
	err := l.withReader(ctx, func(r *reader) error {
		return sqlitex.Execute(r.conn, "select stream from events group by sid having max(revision) + 1 <> count(*) limit 3", &sqlitex.ExecOptions{
			ResultFunc: func(s *sqlite.Stmt) error {
				names = append(names, s.ColumnText(0))
				return nil
			},
		})
	})
	if err != nil || len(names) == 0 {
		return "", err
	}
	return "; revisions are missing in " + strings.Join(names, ", "), nil
}

// row checks one row. A wrong one is reported once: the next row is judged by what is stored, or, where
// only the stored hash was changed, by what it should have been.
func (v *verification) row(e domain.Recorded, chain [32]byte) {
	leaf := domain.LeafHash(e)
	before := v.stored
	computed := link(before, leaf)
	switch {
	case v.lost:
		computed = chain
	case computed == chain:
	case v.computed != v.stored && link(v.computed, leaf) == chain && len(v.report.Findings) > 0:
		v.report.Findings[len(v.report.Findings)-1].What = "its chain hash was changed"
		computed = chain
	default:
		v.find(Finding{Position: e.Position, Stream: e.Stream, Revision: e.Revision, What: "this row was changed", before: before, leaf: leaf, chain: chain})
	}
	v.report.Events++
	v.next, v.stored, v.computed, v.lost = e.Position.Commit+1, chain, computed, false
}

// nameSwaps tells rows that stand in each other's place from rows that were changed.
func (v *verification) nameSwaps() {
	found := v.report.Findings
	for i := range found {
		for j := range found {
			if i == j || found[i].Stream == "" || found[j].Stream == "" {
				continue
			}
			if h := link(found[i].before, found[j].leaf); h == found[i].chain || h == found[j].chain {
				found[i].What = fmt.Sprintf("swapped with position %s", found[j].Position)
				found[j].What = fmt.Sprintf("swapped with position %s", found[i].Position)
			}
		}
	}
}

// integrity looks for streams whose number leads elsewhere, and asks SQLite about its pages and indexes.
func (l *Ledger) integrity(ctx context.Context, v *verification) error {
	err := l.withReader(ctx, func(r *reader) error {
		const strayed = "select position, stream, revision from events e where not exists (select 1 from streams s where s.sid = e.sid and s.name = e.stream) limit 10"
		err := sqlitex.Execute(r.conn, strayed, &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
			at := domain.At(uint64(s.ColumnInt64(0)))
			v.find(Finding{Position: at, Stream: domain.StreamID(s.ColumnText(1)), Revision: domain.Revision(s.ColumnInt64(2)), What: "this row's sid is not its stream's"})
			return nil
		}})
		if err != nil {
			return err
		}
		return sqlitex.Execute(r.conn, "pragma integrity_check(10)", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
			if text := s.ColumnText(0); text != "ok" {
				v.find(Finding{What: "SQLite says: " + text})
			}
			return nil
		}})
	})
	return v.broken(err, Finding{What: "indexes cannot be checked"})
}
