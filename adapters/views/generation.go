package views

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/projections"
)

// format is the version of what this package itself writes (table meta); it is part of the fingerprint.
const format = "views 1: "

const metaDDL = `CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), fingerprint TEXT NOT NULL, complete INTEGER NOT NULL,
	clean INTEGER NOT NULL, position TEXT NOT NULL, before TEXT NOT NULL, event_id TEXT NOT NULL, at TEXT NOT NULL)`

// generation is one file: one writing connection and a pool of reading ones.
type generation struct {
	path     string
	plan     projections.Plan
	opts     Options
	current  bool // made by plan
	building bool
	clean    bool // it was closed in an orderly way
	conn     *sqlite.Conn
	pool     readers // nil while building
	readers  sync.WaitGroup
	mark     projections.Mark
	rows     *rows
}

var _ projections.Generation = (*generation)(nil)

// Mark is how far the rows reach.
func (g *generation) Mark() projections.Mark { return g.mark }

// buildGeneration makes an empty file that is written without journal: it is thrown away if anything fails.
func buildGeneration(path string, p projections.Plan, o Options) (*generation, error) {
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err != nil {
		return nil, err
	} else if err := f.Close(); err != nil {
		return nil, err
	}
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	g := &generation{path: path, plan: p, opts: o, current: true, building: true, conn: conn}
	statements := []string{"PRAGMA page_size = 8192", "PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", "PRAGMA secure_delete = ON",
		"PRAGMA locking_mode = EXCLUSIVE", "PRAGMA cache_size = -32768", "BEGIN", metaDDL}
	for _, t := range p.Tables {
		statements = append(statements, t.DDL()...)
	}
	if err := run(conn, statements...); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := g.insertMeta(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	g.rows = newRows(conn, p, 32*o.CacheBytes, true)
	return g, nil
}

func (g *generation) insertMeta() error {
	return sqlitex.Execute(g.conn, "INSERT INTO meta VALUES (1, ?, 0, 0, '0', '0', '', '')", &sqlitex.ExecOptions{Args: []any{format + g.plan.Fingerprint}})
}

// finish writes what is left, makes the indexes and the file durable, marks it complete and opens it for readers.
func (g *generation) finish() error {
	if err := g.rows.flush(); err != nil {
		return err
	}
	if err := g.writeMark(g.mark); err != nil {
		return err
	}
	var statements []string
	for _, t := range g.plan.Tables {
		statements = append(statements, t.Indexes...)
	}
	if err := run(g.conn, append(statements, "COMMIT")...); err != nil {
		return err
	}
	g.rows.finalize()
	if err := g.conn.Close(); err != nil {
		return err
	}
	g.conn = nil
	if err := syncFile(g.path); err != nil {
		return err
	}
	g.building = false
	if err := g.connect(); err != nil {
		return err
	}
	return run(g.conn, "UPDATE meta SET complete = 1", "PRAGMA wal_checkpoint(TRUNCATE)")
}

// connect opens the file for one writer, with a write-ahead log, and for readers.
func (g *generation) connect() (err error) {
	if g.conn, err = sqlite.OpenConn(g.path, sqlite.OpenReadWrite); err != nil {
		return err
	}
	if err = run(g.conn, "PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", "PRAGMA secure_delete = ON", "PRAGMA cache_size = -2048",
		"PRAGMA wal_autocheckpoint = 1000", "PRAGMA journal_size_limit = 16777216"); err != nil {
		return err
	}
	if g.pool, err = openReaders(g.path, g.opts.Readers); err != nil {
		return err
	}
	g.rows = newRows(g.conn, g.plan, g.opts.CacheBytes, false)
	return nil
}

// openGeneration opens a complete file.
func openGeneration(path string, p projections.Plan, o Options) (*generation, error) {
	g := &generation{path: path, plan: p, opts: o}
	if err := g.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open views: %w", err), g.disconnect())
	}
	return g, nil
}

func (g *generation) load() error {
	if err := g.connect(); err != nil {
		return err
	}
	var fingerprint string
	var complete bool
	var broken error
	err := sqlitex.ExecuteTransient(g.conn, "SELECT fingerprint, complete, clean, position, before, event_id, at FROM meta", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		fingerprint, complete, g.clean = s.ColumnText(0), s.ColumnBool(1), s.ColumnBool(2)
		g.mark.EventID = s.ColumnText(5)
		broken = errors.Join(g.mark.Position.UnmarshalText([]byte(s.ColumnText(3))), g.mark.Before.UnmarshalText([]byte(s.ColumnText(4))))
		if at := s.ColumnText(6); at != "" {
			broken = errors.Join(broken, g.mark.At.UnmarshalText([]byte(at)))
		}
		return nil
	}})
	if err := errors.Join(err, broken); err != nil {
		return err
	}
	if !complete {
		return errors.New("not complete")
	}
	g.current = fingerprint == format+g.plan.Fingerprint
	return run(g.conn, "UPDATE meta SET clean = 0")
}

// Update folds one batch. While building, a row is written when it has grown old.
func (g *generation) Update(ctx context.Context, fold func(projections.Tx) (projections.Mark, error)) error {
	if !g.building {
		if err := run(g.conn, "BEGIN IMMEDIATE"); err != nil {
			return g.translate(err)
		}
	}
	mark, err := fold(g.rows)
	if !g.building {
		if err == nil {
			err = g.rows.flush()
		}
		if err == nil {
			err = g.writeMark(mark)
		}
		if err == nil {
			err = run(g.conn, "COMMIT")
		}
	}
	if err == nil {
		err = g.rows.age()
	}
	if err != nil {
		g.rows.forget()
		if !g.building && !g.conn.AutocommitEnabled() {
			err = errors.Join(err, run(g.conn, "ROLLBACK"))
		}
		return g.translate(err)
	}
	g.mark = mark
	return nil
}

func (g *generation) translate(err error) error {
	if isDamage(err) {
		return fmt.Errorf("%w: %w", projections.ErrDamagedViews, err)
	}
	return fmt.Errorf("update views: %w", err)
}

func (g *generation) writeMark(m projections.Mark) error {
	at, err := m.At.MarshalText()
	if err != nil {
		return err
	}
	return sqlitex.Execute(g.conn, "UPDATE meta SET position = ?, before = ?, event_id = ?, at = ?",
		&sqlitex.ExecOptions{Args: []any{m.Position.String(), m.Before.String(), m.EventID, string(at)}})
}

// retire closes the file once its last reader has left, and removes it.
func (g *generation) retire() {
	g.readers.Wait()
	// Nobody can be told of an error here, and the next Open removes what is left.
	_ = g.disconnect()
	_ = remove(g.path)
}

// close ends the generation in an orderly way.
func (g *generation) close() error {
	g.readers.Wait()
	err := run(g.conn, "UPDATE meta SET clean = 1", "PRAGMA wal_checkpoint(TRUNCATE)")
	return errors.Join(err, g.disconnect())
}

func (g *generation) disconnect() error {
	var errs []error
	if g.pool != nil {
		errs = append(errs, g.pool.close(cap(g.pool)))
	}
	if g.rows != nil {
		g.rows.finalize()
	}
	if g.conn != nil {
		errs = append(errs, g.conn.Close())
	}
	return errors.Join(errs...)
}

// syncFile makes what was written to the file durable.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
