// Package projections folds the log into read models: one file per model, with its table and its own
// queries, and the Runner that keeps all of them at one durable position.
//
// Why one position: all models read the same events, so the log is scanned and each event decoded once,
// by a goroutine of its own (Fact), and rows of every model and the position commit in one transaction.
// A position applied twice changes nothing, for the runner drops what its rows already hold. Why a
// generation is built whole: a model that changed needs the whole log anyhow, and one file, filled beside
// the one being served and put in its place by a single step, leaves no half-built state to reason about.
//
// What always holds: a row follows from the events of its own stream alone, so that DeviceAt and its like can fold a
// past state without a database; rules are not written twice (rows are folded by the states of domain);
// sealed values stay sealed, so that erasure needs no rebuild; and a rebuilt generation equals one kept
// live, byte for byte (property test). Nothing here has an effect outside the views.
//
// Not here: the database driver (adapters/views implements Store and Tx; SQL text is here), opening of
// sealed values (the edge, with the vault), positions of reactions (D1), anything a command may decide
// from, but for Candidates (D14).
package projections

import (
	"context"
	"errors"
	"iter"
	"time"

	"ledgerline/domain"
)

// Fact is one recorded event, decoded once for all projections. Event is a domain.Unknown when the type is
// not in the catalogue or its payload does not decode; Err tells which.
type Fact struct {
	domain.Recorded
	Event    domain.Event
	Category string          // of the stream
	TenantID domain.TenantID // from the metadata
	At       time.Time       // recorded_at of the metadata, UTC
	Err      error           // why payload or metadata did not decode; nil for a merely unknown type
}

// NewFact decodes r.
func NewFact(r domain.Recorded) Fact {
	f := Fact{Recorded: r, Category: r.Stream.Category()}
	f.Err = f.readMeta()
	e, err := r.Event()
	if err != nil {
		f.Err, e = err, domain.Unknown{Type: r.Type, Data: r.Data}
	}
	f.Event = e
	return f
}

// Known tells whether the event's type and payload could be decoded.
func (f *Fact) Known() bool {
	_, unknown := f.Event.(domain.Unknown)
	return !unknown
}

// Projection folds facts into the rows of its tables. It has no state of its own and no effect outside tx.
type Projection interface {
	// Name names the projection for ever. Version is raised whenever Apply or the tables change their
	// meaning; a generation made by other versions is rebuilt.
	Name() string
	Version() int
	// Tables are the tables Apply writes to; no two projections share one.
	Tables() []*Schema
	// Apply folds one fact; facts come in position order, each once. An error stops the batch, of which
	// nothing is kept. Unknown facts come too: history shows them, the others pass them over.
	Apply(tx Tx, f *Fact) error
}

// Tx is the tables as one batch sees them: what was put is got again before it is committed. A row got is
// the live one; a change to it counts once it is put. Not safe for concurrent use; rows must not be kept.
type Tx interface {
	// Get returns the row of a document table, nil when there is none.
	Get(t *Schema, key string) (any, error)
	// Put writes row under key.
	Put(t *Schema, key string, row any)
	// Delete removes the row under key; none there is no error.
	Delete(t *Schema, key string)
	// Append adds one row of plain values (in the order of t.Columns; string, int64 or nil) to a plain table.
	Append(t *Schema, values ...any) error
	// Last is the value of the first column (an integer primary key) of the latest row of a plain table,
	// and the integer in column; zeroes for an empty table.
	Last(t *Schema, column string) (key, value int64, err error)
}

// Querier reads the generation being served. Safe for concurrent use.
type Querier interface {
	// Query runs one SELECT with positional arguments (string, int64, int or nil) and calls row for each
	// row found, in order; an error of row ends the query and is returned. ErrNotReady while no
	// generation can answer: the views are being rebuilt.
	Query(ctx context.Context, sql string, args []any, row func(Row) error) error
}

// Row is one row of an answer; valid only inside the call it was given to.
type Row interface {
	Text(column int) string
	Int(column int) int64
	// Doc decodes the JSON text of a column.
	Doc(column int, into any) error
}

var (
	// ErrNotReady: the views are being built and cannot answer yet.
	ErrNotReady = errors.New("views are being rebuilt")
	// ErrDamagedViews: the file of the views is not what was written. The runner rebuilds it from the log.
	ErrDamagedViews = errors.New("views are damaged")
	// ErrBadCursor: a cursor was not made by this list.
	ErrBadCursor = errors.New("is not a cursor of this list")
)

// Log is the log as a reader sees it; commands.Log fits.
type Log interface {
	// ReadAll yields every event after position after up to the present end, in position order.
	ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error]
	// Subscribe is ReadAll that waits for more at the end; it ends with an error only.
	Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error]
	// Head is the position of the last event, zero for an empty log.
	Head(ctx context.Context) (domain.Position, error)
}

// Mark is how far a generation has come: the last event its rows hold. Before is the position of the event
// before that one; with it the event can be found again, to tell that the log is still the same log.
type Mark struct {
	Position domain.Position
	Before   domain.Position
	EventID  string
	At       time.Time // recorded_at of that event
}

// Store keeps generations of rows; adapters/views. Of its methods only Query and Damaged may run beside
// others.
type Store interface {
	Querier
	// Open makes the newest complete generation the served one and returns it; nil when there is none.
	// current is false when it was made by another Plan: it serves what queries it can, and must not be updated.
	Open(ctx context.Context, p Plan) (g Generation, current bool, err error)
	// Build begins an empty generation beside the served one.
	Build(ctx context.Context, p Plan) (Generation, error)
	// Serve completes a generation made by Build (indexes, durable) and puts it in place of the served one,
	// which goes when its last reader has left. A crash leaves one of the two.
	Serve(ctx context.Context, g Generation) error
	// Discard drops a generation that will not be served, or the served one; nothing answers until the next.
	Discard(g Generation) error
	// Damaged tells of damage a query has met.
	Damaged() <-chan error
}

// Generation is one set of all tables.
type Generation interface {
	// Mark is how far the committed rows reach.
	Mark() Mark
	// Update runs fold and commits what it wrote together with the mark it returns, or nothing at all. A
	// generation under construction may commit later, at last when it is served, and must be discarded
	// after an error.
	Update(ctx context.Context, fold func(Tx) (Mark, error)) error
}
