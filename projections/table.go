package projections

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"ledgerline/domain"
)

// Schema describes one table to the store. A document table holds rows under a key: the row as JSON in
// column doc, what queries ask for in further columns, and link tables beside it, both made from the row
// when it is written. A plain table (Decode nil) holds rows that are only ever appended.
type Schema struct {
	Name    string
	Columns []string // names and types, "tenant_id TEXT"; for documents without key and doc
	Indexes []string // statements, run when a new generation's rows are in
	// Encode, Decode, Values and Links serve document tables: the row's JSON appended to a buffer, the row
	// from its JSON, the values of Columns, and for each of Linked its rows without the owner's key.
	Encode func(to []byte, row any) ([]byte, error)
	Decode func(doc []byte) (any, error)
	Values func(key string, row any) []any
	// Size is about how many bytes of JSON the row has; it bounds what is kept in memory.
	Size   func(row any) int
	Linked []LinkSchema
	Links  func(key string, row any) [][][]any
}

// LinkSchema is a table of what rows point at: (owner, Columns…), keyed by the owner and the first column.
type LinkSchema struct {
	Name    string
	Columns []string
}

// DDL is the statements that make the table and its links, without indexes.
func (s *Schema) DDL() []string {
	if s.Decode == nil {
		return []string{fmt.Sprintf("CREATE TABLE %s (%s)", s.Name, strings.Join(s.Columns, ", "))}
	}
	ddl := []string{fmt.Sprintf("CREATE TABLE %s (%s)", s.Name,
		strings.Join(slices.Concat([]string{"key TEXT NOT NULL PRIMARY KEY"}, s.Columns, []string{"doc TEXT NOT NULL"}), ", "))}
	for _, l := range s.Linked {
		first, _, _ := strings.Cut(l.Columns[0], " ")
		ddl = append(ddl, fmt.Sprintf("CREATE TABLE %s (owner TEXT NOT NULL, %s, PRIMARY KEY (owner, %s)) WITHOUT ROWID",
			l.Name, strings.Join(l.Columns, ", "), first))
	}
	return ddl
}

// Plan is all tables a generation holds and the fingerprint of what filled them.
type Plan struct {
	Fingerprint string
	Tables      []*Schema
}

// NewPlan is the plan of these projections. Generations of equal fingerprints are interchangeable.
func NewPlan(ps []Projection) Plan {
	var plan Plan
	h := sha256.New()
	for _, p := range ps {
		fmt.Fprintln(h, p.Name(), p.Version())
		for _, t := range p.Tables() {
			fmt.Fprintln(h, t.DDL(), t.Indexes)
			plan.Tables = append(plan.Tables, t)
		}
	}
	plan.Fingerprint = hex.EncodeToString(h.Sum(nil)[:16])
	return plan
}

// Head is what every row tells of its stream.
type Head struct {
	// Revision is the stream's last event the row holds: the row's entity tag.
	Revision domain.Revision `json:"revision"`
	// Position is that event's place in the log.
	Position  domain.Position `json:"position"`
	CreatedAt time.Time       `json:"created_at"`
	UpdatedAt time.Time       `json:"updated_at"`
	// Erased: the key of the row's subject is destroyed; its sealed values cannot be opened any more.
	Erased bool `json:"erased,omitempty"`
}

// Doc is a row as it is stored: the state of a stream, folded by domain's own rules, and its head.
type Doc[S domain.State[S]] struct {
	State   S
	Head    Head
	Created domain.Position // of the stream's first event
	// Instants a state does not keep; zero for most nouns.
	AssignedAt  time.Time `json:",omitzero"`
	DeliveredAt time.Time `json:",omitzero"`
	SyncAt      time.Time `json:",omitzero"`

	size int // of the largest event folded in, and of the document read
}

// noun is the projection of one category of streams: one row per stream, under the stream's id.
type noun[S domain.State[S]] struct {
	name, category string
	version        int
	schema         *Schema
	// after, if set, sees the row once the fact is folded in, before it is put.
	after func(before S, d *Doc[S], f *Fact)
}

func newNoun[S domain.State[S]](category, table string, version int, columns []string, values func(key string, d *Doc[S]) []any, indexes ...string) *noun[S] {
	n := &noun[S]{name: table, category: category, version: version}
	n.schema = &Schema{Name: table, Columns: columns, Indexes: indexes, Encode: encoderOf[Doc[S]](),
		Decode: func(doc []byte) (any, error) {
			d := &Doc[S]{size: len(doc)}
			return d, json.Unmarshal(doc, d)
		},
		Size:   func(row any) int { return row.(*Doc[S]).size },
		Values: func(key string, row any) []any { return values(key, row.(*Doc[S])) },
	}
	return n
}

func (n *noun[S]) Name() string      { return n.name }
func (n *noun[S]) Version() int      { return n.version }
func (n *noun[S]) Tables() []*Schema { return []*Schema{n.schema} }

func (n *noun[S]) Apply(tx Tx, f *Fact) error {
	if f.Category != n.category || !f.Known() {
		return nil
	}
	key := f.Stream.ID()
	row, err := tx.Get(n.schema, key)
	if err != nil {
		return err
	}
	d, _ := row.(*Doc[S])
	if d == nil {
		d = &Doc[S]{Created: f.Position, Head: Head{CreatedAt: f.At}}
	}
	d.size = max(d.size, 600+len(f.Data))
	before := d.State
	d.State = d.State.Apply(f.Event)
	d.Head.Revision, d.Head.Position, d.Head.UpdatedAt = f.Revision, f.Position, f.At
	if e, ok := f.Event.(domain.KeyDestroyed); ok && e.Subject.Stream() == f.Stream {
		d.Head.Erased = true
	}
	if n.after != nil {
		n.after(before, d, f)
	}
	tx.Put(n.schema, key, d)
	return nil
}

// orNull is NULL for an empty text, so that partial indexes leave it out.
func orNull[T ~string](s T) any {
	if s == "" {
		return nil
	}
	return string(s)
}

func flag(b bool) any {
	if b {
		return int64(1)
	}
	return int64(0)
}
