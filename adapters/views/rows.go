package views

import (
	"errors"
	"fmt"
	"hash/maphash"
	"reflect"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"ledgerline/projections"
)

// rows is the Tx: rows of document tables are decoded once, changed in memory and written back; rows of
// plain tables are inserted at once. What is kept has two ages: a row used becomes young, and when the young
// fill half the budget the old go and the young grow old. So rows in steady use stay, at no cost per use.
type rows struct {
	conn   *sqlite.Conn
	budget int        // bytes of documents kept
	young  int        // bytes of the young
	fresh  bool       // the file is under construction: a key never written is not in it
	busy   chan error // tells the result of an append running beside; nil when none is, and conn is ours
	spare  []any      // what that append wrote from, to gather in again
	tables map[*projections.Schema]*table
}

type table struct {
	schema     *projections.Schema
	young, old map[string]*entry
	dirty      []*entry            // since the last flush
	written    map[uint64]struct{} // hashes of the keys ever written, of a file under construction
	seed       maphash.Seed

	get, put, del, last *sqlite.Stmt
	add                 inserts // of new documents, or to a plain table
	links               []link
	lastKey, lastValue  int64
	lastKnown           bool
	lastColumn          int // in Columns
	values              []any
	doc                 []byte // the room in which rows are encoded
}

type link struct {
	put inserts
	del *sqlite.Stmt
}

// docKept is the most room that is kept for encoding the next row of a table.
const docKept = 16 << 10

// rowsAtOnce is how many rows one statement inserts: beyond this the cost of a row hardly falls. rowsBeside
// is how many appended ones are written beside the folding of the next, of a file under construction.
const (
	rowsAtOnce = 32
	rowsBeside = 32 * rowsAtOnce
)

// inserts gathers new rows of one table, to be written by few statements. They are in the file after drain.
type inserts struct {
	into      string // INSERT INTO … VALUES
	one, many *sqlite.Stmt
	columns   int
	values    []any // of the rows gathered
}

// insert gathers one row, and writes when there are enough.
func (r *rows) insert(in *inserts, values ...any) error {
	in.values = append(in.values, values...)
	if len(in.values) < rowsAtOnce*in.columns {
		return nil
	}
	return r.drain(in)
}

// drain writes what is gathered.
func (r *rows) drain(in *inserts) error {
	if len(in.values) == 0 {
		return nil
	}
	defer in.drop()
	return r.insertRows(in, in.values)
}

func (r *rows) insertRows(in *inserts, values []any) error {
	for rows := range slices.Chunk(values, rowsAtOnce*in.columns) {
		if len(rows) < rowsAtOnce*in.columns {
			return r.insertEach(in, rows)
		}
		row := "(" + marks(in.columns) + ")"
		many, err := r.statement(&in.many, in.into+row+strings.Repeat(","+row, rowsAtOnce-1))
		if err != nil {
			return err
		}
		if err := exec(many, rows...); err != nil {
			return err
		}
	}
	return nil
}

func (r *rows) insertEach(in *inserts, values []any) error {
	one, err := r.statement(&in.one, in.into+"("+marks(in.columns)+")")
	if err != nil {
		return err
	}
	for row := range slices.Chunk(values, in.columns) {
		if err := exec(one, row...); err != nil {
			return err
		}
	}
	return nil
}

// insertBeside is insert that writes many rows at once, in a goroutine of their own: until settle nothing
// else may use the connection.
func (r *rows) insertBeside(in *inserts, values ...any) error {
	in.values = append(in.values, values...)
	if len(in.values) < rowsBeside*in.columns {
		return nil
	}
	if err := r.settle(); err != nil {
		return err
	}
	gathered, busy := in.values, make(chan error, 1)
	in.values, r.spare, r.busy = r.spare, gathered[:0], busy
	go func() {
		err := r.insertRows(in, gathered)
		clear(gathered)
		busy <- err
	}()
	return nil
}

// settle waits for an append running beside, and tells its error.
func (r *rows) settle() error {
	if r.busy == nil {
		return nil
	}
	err := <-r.busy
	r.busy = nil
	return err
}

// drop forgets what is gathered.
func (in *inserts) drop() {
	clear(in.values)
	in.values = in.values[:0]
}

// drainAll writes what is gathered for t and its links.
func (r *rows) drainAll(t *table) error {
	err := r.drain(&t.add)
	for i := range t.links {
		err = errors.Join(err, r.drain(&t.links[i].put))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", t.schema.Name, err)
	}
	return nil
}

// entry is one row of a document table; row nil means there is none.
type entry struct {
	key    string
	row    any
	size   int
	dirty  bool
	doc    string    // the row encoded, about to be written
	stored [][][]any // the links in the file
	inFile bool
}

var _ projections.Tx = (*rows)(nil)

func newRows(conn *sqlite.Conn, p projections.Plan, budget int, fresh bool) *rows {
	r := &rows{conn: conn, budget: budget, fresh: fresh, tables: make(map[*projections.Schema]*table, len(p.Tables))}
	for _, s := range p.Tables {
		t := &table{schema: s, young: make(map[string]*entry), written: make(map[uint64]struct{}), seed: maphash.MakeSeed(), links: make([]link, len(s.Linked))}
		t.add.into, t.add.columns = "INSERT INTO "+s.Name+" VALUES ", len(s.Columns)
		if s.Decode != nil {
			t.add.columns += 2 // key, doc
		}
		for i, l := range s.Linked {
			put := &t.links[i].put
			put.into, put.columns = "INSERT OR REPLACE INTO "+l.Name+" VALUES ", 1+len(l.Columns) // owner
		}
		r.tables[s] = t
	}
	return r
}

// statement prepares once what the table needs.
func (r *rows) statement(of **sqlite.Stmt, sql string) (*sqlite.Stmt, error) {
	if *of == nil {
		s, _, err := r.conn.PrepareTransient(sql)
		if err != nil {
			return nil, fmt.Errorf("prepare %.60s: %w", sql, err)
		}
		*of = s
	}
	return *of, nil
}

// finalize lets go of the statements, before the connection closes.
func (r *rows) finalize() {
	_ = r.settle() // flush has told, or nobody wants these rows
	for _, t := range r.tables {
		all := []**sqlite.Stmt{&t.get, &t.put, &t.del, &t.last, &t.add.one, &t.add.many}
		for i := range t.links {
			l := &t.links[i]
			all = append(all, &l.put.one, &l.put.many, &l.del)
		}
		for _, s := range all {
			if *s != nil {
				_ = (*s).Finalize() // repeats the error of its last step, which was told then
				*s = nil
			}
		}
	}
}

// exec runs a statement that returns no rows.
func exec(s *sqlite.Stmt, args ...any) error {
	if err := bind(s, args); err != nil {
		return err
	}
	_, err := s.Step()
	if reset := s.Reset(); err == nil {
		err = reset
	}
	return err
}

func (r *rows) Get(s *projections.Schema, key string) (any, error) {
	e, err := r.entry(r.tables[s], key)
	if err != nil {
		return nil, err
	}
	return e.row, nil
}

func (r *rows) entry(t *table, key string) (*entry, error) {
	if e := r.kept(t, key); e != nil {
		return e, nil
	}
	e := &entry{key: key}
	if _, written := t.written[maphash.String(t.seed, key)]; !r.fresh || written {
		if err := r.read(t, e); err != nil {
			return nil, err
		}
	}
	r.keep(t, e)
	return e, nil
}

// kept is the entry of key if it is kept, and makes it young.
func (r *rows) kept(t *table, key string) *entry {
	if e := t.young[key]; e != nil {
		return e
	}
	e := t.old[key]
	if e != nil {
		delete(t.old, key)
		r.keep(t, e)
	}
	return e
}

func (r *rows) keep(t *table, e *entry) {
	const overhead = 256
	t.young[e.key] = e
	r.young += overhead + e.size
}

func (r *rows) read(t *table, e *entry) error {
	if err := r.settle(); err != nil {
		return err
	}
	get, err := r.statement(&t.get, "SELECT doc FROM "+t.schema.Name+" WHERE key = ?")
	if err != nil {
		return err
	}
	defer get.Reset()
	get.BindText(1, e.key)
	found, err := get.Step()
	if err != nil {
		return fmt.Errorf("read %s %s: %w", t.schema.Name, e.key, err)
	}
	if !found {
		return nil
	}
	doc := []byte(get.ColumnText(0))
	if e.row, err = t.schema.Decode(doc); err != nil {
		return fmt.Errorf("%w: row %s of %s: %w", projections.ErrDamagedViews, e.key, t.schema.Name, err)
	}
	e.size, e.inFile = len(doc), true
	if t.schema.Links != nil {
		e.stored = t.schema.Links(e.key, e.row)
	}
	return nil
}

func (r *rows) Put(s *projections.Schema, key string, row any) { r.set(r.tables[s], key, row) }

func (r *rows) Delete(s *projections.Schema, key string) { r.set(r.tables[s], key, nil) }

func (r *rows) set(t *table, key string, row any) {
	e := r.kept(t, key)
	if e == nil {
		e = &entry{key: key}
		if _, written := t.written[maphash.String(t.seed, key)]; !r.fresh || written {
			// Whether the file has it is not known, so it is deleted as if it had, its links too.
			e.inFile, e.stored = true, unknownLinks
		}
		r.keep(t, e)
	}
	e.row = row
	if row != nil && t.schema.Size != nil {
		size := t.schema.Size(row)
		r.young += size - e.size
		e.size = size
	}
	if !e.dirty {
		e.dirty = true
		if !r.fresh {
			t.dirty = append(t.dirty, e)
		}
	}
}

// unknownLinks stands for links that have not been read.
var unknownLinks = [][][]any{{{"?"}}}

func (r *rows) Append(s *projections.Schema, values ...any) error {
	t := r.tables[s]
	insert := r.insert
	if r.fresh {
		insert = r.insertBeside
	}
	if err := insert(&t.add, values...); err != nil {
		return fmt.Errorf("append to %s: %w", s.Name, err)
	}
	if t.lastKnown {
		t.lastKey, _ = values[0].(int64)
		t.lastValue, _ = values[t.lastColumn].(int64)
	}
	return nil
}

func (r *rows) Last(s *projections.Schema, column string) (key, value int64, err error) {
	t := r.tables[s]
	if t.lastKnown {
		return t.lastKey, t.lastValue, nil
	}
	if err := errors.Join(r.settle(), r.drain(&t.add)); err != nil {
		return 0, 0, fmt.Errorf("append to %s: %w", s.Name, err)
	}
	first, _, _ := strings.Cut(s.Columns[0], " ")
	last, err := r.statement(&t.last, fmt.Sprintf("SELECT %s, %s FROM %s ORDER BY %s DESC LIMIT 1", first, column, s.Name, first))
	if err != nil {
		return 0, 0, err
	}
	defer last.Reset()
	found, err := last.Step()
	if err != nil {
		return 0, 0, fmt.Errorf("read the last row of %s: %w", s.Name, err)
	}
	t.lastKey, t.lastValue = 0, 0
	if found {
		t.lastKey, t.lastValue = last.ColumnInt64(0), last.ColumnInt64(1)
	}
	for i, c := range s.Columns {
		if name, _, _ := strings.Cut(c, " "); name == column {
			t.lastColumn = i
		}
	}
	t.lastKnown = true
	return t.lastKey, t.lastValue, nil
}

// flush writes every changed row.
func (r *rows) flush() error {
	if err := r.settle(); err != nil {
		return err
	}
	for _, t := range r.tables {
		for _, e := range t.dirty {
			if err := r.write(t, e); err != nil {
				return err
			}
		}
		t.dirty = t.dirty[:0]
		if err := r.drainAll(t); err != nil {
			return err
		}
		if r.fresh {
			if err := errors.Join(r.writeAll(t, t.old), r.writeAll(t, t.young)); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeAll writes the changed ones of a file under construction, by key: neighbours share pages.
func (r *rows) writeAll(t *table, entries map[string]*entry) error {
	var changed []*entry
	for _, e := range entries {
		if e.dirty {
			changed = append(changed, e)
		}
	}
	slices.SortFunc(changed, func(a, b *entry) int { return strings.Compare(a.key, b.key) })
	docs, stop := encodeAhead(t.schema, changed)
	defer stop()
	for _, e := range changed {
		e.doc = <-docs
		if err := r.write(t, e); err != nil {
			return err
		}
	}
	return r.drainAll(t)
}

// encodeAhead encodes the rows of entries, in order, while the ones before are written; empty for what does
// not encode or has no row. stop ends it, and returns when no entry is read any more.
func encodeAhead(s *projections.Schema, entries []*entry) (docs <-chan string, stop func()) {
	ahead, quit, done := make(chan string, 64), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var doc []byte
		for _, e := range entries {
			doc = doc[:0]
			if e.row != nil {
				var err error
				if doc, err = s.Encode(doc, e.row); err != nil {
					doc = nil // the write tells
				}
			}
			select {
			case ahead <- string(doc):
			case <-quit:
				return
			}
		}
	}()
	return ahead, func() { close(quit); <-done }
}

// age lets the old go and the young grow old, when the young fill half the budget.
func (r *rows) age() error {
	if r.young <= r.budget/2 {
		return nil
	}
	if err := r.settle(); err != nil {
		return err
	}
	for _, t := range r.tables {
		if r.fresh {
			if err := r.writeAll(t, t.old); err != nil {
				return err
			}
		}
		t.old, t.young = t.young, make(map[string]*entry)
	}
	r.young = 0
	return nil
}

func (r *rows) write(t *table, e *entry) error {
	if err := r.writeRow(t, e.key, e); err != nil {
		return fmt.Errorf("write %s %s: %w", t.schema.Name, e.key, err)
	}
	return nil
}

func (r *rows) writeRow(t *table, key string, e *entry) error {
	e.dirty = false
	if r.fresh {
		t.written[maphash.String(t.seed, key)] = struct{}{}
	}
	var links [][][]any
	if e.row == nil {
		if e.inFile {
			del, err := r.statement(&t.del, "DELETE FROM "+t.schema.Name+" WHERE key = ?")
			if err != nil {
				return err
			}
			if err := exec(del, key); err != nil {
				return err
			}
		}
	} else {
		doc := e.doc
		if e.doc = ""; doc == "" {
			var err error
			if t.doc, err = t.schema.Encode(t.doc[:0], e.row); err != nil {
				return err
			}
			doc = string(t.doc)
			if cap(t.doc) > docKept {
				t.doc = nil
			}
		}
		t.values = append(append(append(t.values[:0], key), t.schema.Values(key, e.row)...), doc)
		if err := r.putRow(t, e.inFile); err != nil {
			return err
		}
		if t.schema.Links != nil {
			links = t.schema.Links(key, e.row)
		}
	}
	if err := r.writeLinks(t, key, e.stored, links); err != nil {
		return err
	}
	e.stored, e.inFile = links, e.row != nil
	return nil
}

// writeLinks brings the links of one owner from what the file has to what they are.
func (r *rows) writeLinks(t *table, key string, stored, links [][][]any) error {
	for i, l := range t.schema.Linked {
		had, has := nth(stored, i), nth(links, i)
		if len(stored) > 0 && &stored[0] == &unknownLinks[0] {
			had = unknownLinks[0]
		}
		if reflect.DeepEqual(had, has) || len(had)+len(has) == 0 {
			continue
		}
		if len(had) > 0 {
			del, err := r.statement(&t.links[i].del, "DELETE FROM "+l.Name+" WHERE owner = ?")
			if err != nil {
				return err
			}
			if err := exec(del, key); err != nil {
				return err
			}
		}
		for _, row := range has {
			t.values = append(append(t.values[:0], key), row...)
			if err := r.insert(&t.links[i].put, t.values...); err != nil {
				return err
			}
		}
	}
	return nil
}

func nth(links [][][]any, i int) [][]any {
	if i < len(links) {
		return links[i]
	}
	return nil
}

// putRow writes t.values: a plain insert where the key is known to be new.
func (r *rows) putRow(t *table, inFile bool) error {
	if !inFile {
		return r.insert(&t.add, t.values...)
	}
	put, err := r.statement(&t.put, upsert(t.schema))
	if err != nil {
		return err
	}
	return exec(put, t.values...)
}

func upsert(s *projections.Schema) string {
	names, sets := []string{"key"}, []string{}
	for _, c := range s.Columns {
		name, _, _ := strings.Cut(c, " ")
		names, sets = append(names, name), append(sets, name+" = excluded."+name)
	}
	return "INSERT INTO " + s.Name + " (" + strings.Join(names, ", ") + ", doc) VALUES (" + marks(len(names)+1) + ") ON CONFLICT (key) DO UPDATE SET " +
		strings.Join(append(sets, "doc = excluded.doc"), ", ")
}

func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?,", n), ",") }

// forget drops everything kept: after a failed batch the rows in memory are not those of the file.
func (r *rows) forget() {
	_ = r.settle() // nothing of it is kept
	for _, t := range r.tables {
		t.young, t.old = make(map[string]*entry), nil
		t.dirty, t.lastKnown = nil, false
		t.add.drop()
		for i := range t.links {
			t.links[i].put.drop()
		}
	}
	r.young = 0
}
