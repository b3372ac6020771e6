package views

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"zombiezen.com/go/sqlite"

	"ledgerline/projections"
)

// rows is the Tx: rows of document tables are decoded once, changed in memory and written back at the
// flush; rows of plain tables are inserted at once.
type rows struct {
	conn   *sqlite.Conn
	budget int // bytes of documents kept
	bytes  int // kept now, as far as their size is known
	dirty  int // entries changed since the last flush
	tables map[*projections.Schema]*table
}

type table struct {
	schema *projections.Schema
	kept   map[string]*entry
	dirty  []string // keys, in the order they were first changed

	get, put, del, insert, last *sqlite.Stmt
	links                       []link
	lastKey, lastValue          int64
	lastKnown                   bool
	lastColumn                  int // in Columns
	values                      []any
}

type link struct{ put, del *sqlite.Stmt }

// entry is one row of a document table; row nil means there is none.
type entry struct {
	row    any
	size   int
	dirty  bool
	stored [][][]any // the links in the file
	inFile bool
}

var _ projections.Tx = (*rows)(nil)

func newRows(conn *sqlite.Conn, p projections.Plan, budget int) *rows {
	r := &rows{conn: conn, budget: budget, tables: make(map[*projections.Schema]*table, len(p.Tables))}
	for _, s := range p.Tables {
		r.tables[s] = &table{schema: s, kept: make(map[string]*entry)}
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
	for _, t := range r.tables {
		all := []**sqlite.Stmt{&t.get, &t.put, &t.del, &t.insert, &t.last}
		for i := range t.links {
			all = append(all, &t.links[i].put, &t.links[i].del)
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
	if e := t.kept[key]; e != nil {
		return e, nil
	}
	get, err := r.statement(&t.get, "SELECT doc FROM "+t.schema.Name+" WHERE key = ?")
	if err != nil {
		return nil, err
	}
	defer get.Reset()
	get.BindText(1, key)
	found, err := get.Step()
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", t.schema.Name, key, err)
	}
	e := &entry{}
	if found {
		doc := []byte(get.ColumnText(0))
		if e.row, err = t.schema.Decode(doc); err != nil {
			return nil, fmt.Errorf("%w: row %s of %s: %w", projections.ErrDamagedViews, key, t.schema.Name, err)
		}
		e.size, e.inFile = len(doc), true
		if t.schema.Links != nil {
			e.stored = t.schema.Links(key, e.row)
		}
	}
	t.kept[key] = e
	r.bytes += e.size
	return e, nil
}

func (r *rows) Put(s *projections.Schema, key string, row any) {
	r.set(r.tables[s], key, row)
}

func (r *rows) Delete(s *projections.Schema, key string) {
	r.set(r.tables[s], key, nil)
}

func (r *rows) set(t *table, key string, row any) {
	e := t.kept[key]
	if e == nil {
		// Not read before: whether the file has it is not known, so its links must be taken away.
		e = &entry{inFile: true, stored: unknownLinks}
		t.kept[key] = e
	}
	e.row = row
	if !e.dirty {
		e.dirty = true
		t.dirty = append(t.dirty, key)
		r.dirty++
	}
}

// unknownLinks stands for links that have not been read.
var unknownLinks = [][][]any{{{"?"}}}

func (r *rows) Append(s *projections.Schema, values ...any) error {
	t := r.tables[s]
	insert, err := r.statement(&t.insert, "INSERT INTO "+s.Name+" VALUES ("+marks(len(values))+")")
	if err != nil {
		return err
	}
	if err := exec(insert, values...); err != nil {
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

// full tells whether a generation under construction should write what has gathered.
func (r *rows) full() bool { return r.dirty > maxDirty || r.bytes > r.budget }

// maxDirty is how many changed rows a rebuild gathers before it writes them.
const maxDirty = 16384

// flush writes back the changed rows.
func (r *rows) flush() error {
	for _, t := range r.tables {
		for _, key := range t.dirty {
			if err := r.write(t, key, t.kept[key]); err != nil {
				return fmt.Errorf("write %s %s: %w", t.schema.Name, key, err)
			}
		}
		t.dirty = t.dirty[:0]
	}
	r.dirty = 0
	return nil
}

func (r *rows) write(t *table, key string, e *entry) error {
	e.dirty = false
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
		e.size = 0
	} else {
		doc, err := json.Marshal(e.row)
		if err != nil {
			return err
		}
		put, err := r.statement(&t.put, upsert(t.schema))
		if err != nil {
			return err
		}
		t.values = append(append(append(t.values[:0], key), t.schema.Values(key, e.row)...), doc)
		if err := exec(put, t.values...); err != nil {
			return err
		}
		r.bytes += len(doc) - e.size
		e.size = len(doc)
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
	if t.links == nil {
		t.links = make([]link, len(t.schema.Linked))
	}
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
		put, err := r.statement(&t.links[i].put, "INSERT OR REPLACE INTO "+l.Name+" VALUES ("+marks(1+len(l.Columns))+")")
		if err != nil {
			return err
		}
		for _, row := range has {
			t.values = append(append(t.values[:0], key), row...)
			if err := exec(put, t.values...); err != nil {
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
	for _, t := range r.tables {
		clear(t.kept)
		t.dirty, t.lastKnown = t.dirty[:0], false
	}
	r.bytes, r.dirty = 0, 0
}

// trim keeps what is remembered within the budget, dropping clean rows in no particular order.
func (r *rows) trim() {
	const rowOverhead = 200
	n := 0
	for _, t := range r.tables {
		n += len(t.kept)
	}
	if r.bytes+n*rowOverhead <= r.budget {
		return
	}
	for _, t := range r.tables {
		for key, e := range t.kept {
			if r.bytes+n*rowOverhead <= r.budget/2 {
				return
			}
			if !e.dirty {
				delete(t.kept, key)
				r.bytes -= e.size
				n--
			}
		}
	}
}
