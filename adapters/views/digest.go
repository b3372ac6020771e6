package views

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/domain"
)

// Digest is a hash of everything in the rows of a folder of views: equal for equal rows, whatever order they
// were written in. Two folders of the same log at the same position, made by the same program, are equal.
type Digest struct {
	Position    domain.Position // the log up to here is in the rows
	Fingerprint string          // of the program's projections
	Rows        int
	Tables      map[string][32]byte
}

// Differing names the tables that are not the same in o, sorted.
func (d Digest) Differing(o Digest) []string {
	var out []string
	for name := range d.Tables {
		if d.Tables[name] != o.Tables[name] {
			out = append(out, name)
		}
	}
	for name := range o.Tables {
		if _, ok := d.Tables[name]; !ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// DigestOf reads the newest complete views below dir, as of one moment; a server may be running on them.
// Errors: fs.ErrNotExist when there are none.
func DigestOf(ctx context.Context, dir string) (Digest, error) {
	s := &Store{opts: Options{Dir: dir}}
	numbers, err := s.numbers()
	if err != nil {
		return Digest{}, fmt.Errorf("list the views: %w", err)
	}
	for _, n := range numbers {
		d, complete, err := digestFile(ctx, s.path(n))
		if err != nil {
			return d, fmt.Errorf("read the views: %w", err)
		}
		if complete {
			return d, nil
		}
	}
	return Digest{}, fmt.Errorf("views in %s: %w", dir, fs.ErrNotExist)
}

func digestFile(ctx context.Context, path string) (d Digest, complete bool, err error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
	if err != nil {
		return d, false, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	conn.SetInterrupt(ctx.Done())
	end := sqlitex.Transaction(conn)
	defer end(&err)
	var bad error
	err = sqlitex.ExecuteTransient(conn, "SELECT fingerprint, complete, position FROM meta", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		d.Fingerprint, complete = s.ColumnText(0), s.ColumnBool(1)
		bad = d.Position.UnmarshalText([]byte(s.ColumnText(2)))
		return nil
	}})
	if err = errors.Join(err, bad); err != nil || !complete {
		return d, false, err
	}
	columns := map[string]int{}
	err = sqlitex.ExecuteTransient(conn, `SELECT m.name, (SELECT count(*) FROM pragma_table_info(m.name)) FROM sqlite_schema m WHERE m.type = 'table' AND m.name <> 'meta' AND m.name NOT LIKE 'sqlite_%'`,
		&sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
			columns[s.ColumnText(0)] = s.ColumnInt(1)
			return nil
		}})
	if err != nil {
		return d, false, err
	}
	d.Tables = make(map[string][32]byte, len(columns))
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		order := make([]string, columns[name])
		for i := range order {
			order[i] = fmt.Sprint(i + 1)
		}
		h := sha256.New()
		var row []byte
		err := sqlitex.ExecuteTransient(conn, "SELECT * FROM "+name+" ORDER BY "+strings.Join(order, ", "), &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
			row = row[:0]
			for c := range s.ColumnCount() {
				text := s.ColumnText(c)
				row = append(binary.BigEndian.AppendUint64(append(row, byte(s.ColumnType(c))), uint64(len(text))), text...)
			}
			d.Rows++
			_, err := h.Write(row)
			return err
		}})
		if err != nil {
			return d, false, err
		}
		d.Tables[name] = [32]byte(h.Sum(nil))
	}
	return d, true, nil
}
