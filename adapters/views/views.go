// Package views keeps the read models in SQLite: one file per generation, disposable, rebuilt from the log
// whenever it is missing, damaged or of another plan. It implements projections.Store.
//
// Why a file per generation: a rebuild fills a new file while the old one is being read, and the swap is
// one pointer; the newest file marked complete is the one to open, so a crash at any moment leaves either.
// Why rows are written back: folding in memory and writing each changed row once per transaction (during a rebuild
// when it has not been used for a while, indexes last) is several times faster than one statement per event.
//
// What always holds: rows and mark commit in one transaction; readers have connections of their own and
// see whole commits; secrets are only ever here in their sealed form. A damaged file is never repaired.
// An attacker who can change these files can make the server hand a phone another phone's file list, so
// they belong to the server's user alone (0600), as everything in its data folder.
//
// Not here: what the tables mean (projections), positions of reactions (D1).
package views

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/projections"
)

// Options of Open.
type Options struct {
	// Dir is the folder the generations live in; it is made if it does not exist (0700).
	Dir string
	// Readers is how many queries run side by side; 0 means 4.
	Readers int
	// CacheBytes bounds the rows kept decoded between transactions, as JSON bytes (about a quarter of what
	// they take in memory); 0 means 1 MiB. A rebuild takes 32 times as much.
	CacheBytes int
}

// Store is the views of one server. Safe for concurrent use as projections.Store says.
type Store struct {
	opts    Options
	damaged chan error

	retiring sync.WaitGroup // generations on their way out

	mu     sync.Mutex
	served *generation // nil while none is
	newest int         // number of the newest file
}

var _ projections.Store = (*Store)(nil)

// Open makes the folder ready; the runner opens or builds a generation in it. The caller closes the store
// after the runner has ended.
func Open(_ context.Context, o Options) (*Store, error) {
	if o.Readers == 0 {
		o.Readers = 4
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 1 << 20
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the views: %w", err)
	}
	return &Store{opts: o, damaged: make(chan error, 1)}, nil
}

var fileName = regexp.MustCompile(`^views-([0-9]{6,})\.db$`)

func (s *Store) path(number int) string {
	return filepath.Join(s.opts.Dir, fmt.Sprintf("views-%06d.db", number))
}

// numbers are the generations in the folder, newest first.
func (s *Store) numbers() ([]int, error) {
	entries, err := os.ReadDir(s.opts.Dir)
	if err != nil {
		return nil, err
	}
	var found []int
	for _, e := range entries {
		if m := fileName.FindStringSubmatch(e.Name()); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				found = append(found, n)
			}
		}
	}
	slices.Sort(found)
	slices.Reverse(found)
	return found, nil
}

// Open puts the newest complete generation in place and removes all others. A file that cannot be opened
// counts as not there; one that was not closed cleanly is served and looked over meanwhile.
func (s *Store) Open(_ context.Context, p projections.Plan) (projections.Generation, bool, error) {
	numbers, err := s.numbers()
	if err != nil {
		return nil, false, fmt.Errorf("list the views: %w", err)
	}
	var found *generation
	for _, n := range numbers {
		s.newest = max(s.newest, n)
		if found == nil {
			g, err := openGeneration(s.path(n), p, s.opts)
			if err == nil {
				found = g
				continue
			}
		}
		if err := remove(s.path(n)); err != nil {
			return nil, false, err
		}
	}
	if found == nil {
		return nil, false, nil
	}
	s.put(found)
	if !found.clean {
		s.check(found)
	}
	return found, found.current, nil
}

// check looks over a file that was not closed cleanly, while it is being served: SQLite's write-ahead log
// survives a killed process, and this is for disks that lie about what they have written.
func (s *Store) check(g *generation) {
	g.readers.Add(1)
	go func() {
		defer g.readers.Done()
		verdict := ""
		err := g.query(context.Background(), "PRAGMA quick_check(1)", nil, func(r projections.Row) error {
			verdict = r.Text(0)
			return nil
		})
		if err == nil && verdict != "ok" {
			s.tell(fmt.Errorf("%w: %s", projections.ErrDamagedViews, verdict))
		} else if isDamage(err) {
			s.tell(fmt.Errorf("%w: %w", projections.ErrDamagedViews, err))
		}
	}()
}

// tell hands damage to the runner, unless it has some to deal with already.
func (s *Store) tell(damage error) {
	select {
	case s.damaged <- damage:
	default:
	}
}

// Build begins an empty generation.
func (s *Store) Build(_ context.Context, p projections.Plan) (projections.Generation, error) {
	s.newest++
	path := s.path(s.newest)
	if err := remove(path); err != nil {
		return nil, err
	}
	g, err := buildGeneration(path, p, s.opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin new views: %w", err), remove(path))
	}
	return g, nil
}

// Serve completes the generation and puts it in place.
func (s *Store) Serve(_ context.Context, next projections.Generation) error {
	g := next.(*generation)
	if err := g.finish(); err != nil {
		return fmt.Errorf("complete the new views: %w", err)
	}
	s.put(g)
	return nil
}

// put makes g the served generation; the one before goes with its last reader.
func (s *Store) put(g *generation) {
	s.mu.Lock()
	old := s.served
	s.served = g
	s.mu.Unlock()
	select {
	case <-s.damaged: // told of the old one
	default:
	}
	if old != nil {
		s.retiring.Go(old.retire)
	}
}

// Discard drops a generation; if it is the served one nothing answers until the next.
func (s *Store) Discard(dropped projections.Generation) error {
	g := dropped.(*generation)
	s.mu.Lock()
	if s.served == g {
		s.served = nil
	}
	s.mu.Unlock()
	s.retiring.Go(g.retire)
	return nil
}

// Damaged tells of damage a query has met.
func (s *Store) Damaged() <-chan error { return s.damaged }

// Close waits for running queries and closes all files.
func (s *Store) Close() error {
	s.mu.Lock()
	g := s.served
	s.served = nil
	s.mu.Unlock()
	s.retiring.Wait()
	if g == nil {
		return nil
	}
	return g.close()
}

// Query runs one SELECT on the served generation.
func (s *Store) Query(ctx context.Context, sql string, args []any, row func(projections.Row) error) error {
	s.mu.Lock()
	g := s.served
	if g != nil {
		g.readers.Add(1)
	}
	s.mu.Unlock()
	if g == nil {
		return projections.ErrNotReady
	}
	defer g.readers.Done()
	err := g.query(ctx, sql, args, row)
	switch {
	case err == nil:
		return nil
	case !g.current && sqlite.ErrCode(err).ToPrimary() == sqlite.ResultError: // tables of an older program
		return projections.ErrNotReady
	case isDamage(err):
		err = fmt.Errorf("%w: %w", projections.ErrDamagedViews, err)
		s.tell(err)
	}
	return err
}

func isDamage(err error) bool {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultCorrupt, sqlite.ResultNotADB:
		return true
	}
	var syntax *json.SyntaxError
	return errors.As(err, &syntax)
}

func (g *generation) query(ctx context.Context, sql string, args []any, row func(projections.Row) error) error {
	conn, err := g.pool.take(ctx)
	if err != nil {
		return err
	}
	defer g.pool.put(conn)
	if ctx.Done() != nil {
		conn.SetInterrupt(ctx.Done())
		defer conn.SetInterrupt(nil)
	}
	stmt, err := conn.Prepare(sql)
	if err != nil {
		return fmt.Errorf("query views: %w", err)
	}
	defer stmt.Reset()
	if err := bind(stmt, args); err != nil {
		return err
	}
	for {
		more, err := stmt.Step()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("query views: %w", err)
		}
		if !more {
			return nil
		}
		if err := row(answer{stmt}); err != nil {
			return err
		}
	}
}

// bind sets the arguments of a statement; every value of the projections is text, a number or nothing.
func bind(stmt *sqlite.Stmt, args []any) error {
	for i, a := range args {
		switch a := a.(type) {
		case nil:
			stmt.BindNull(i + 1)
		case string:
			stmt.BindText(i+1, a)
		case int64:
			stmt.BindInt64(i+1, a)
		case int:
			stmt.BindInt64(i+1, int64(a))
		default:
			return fmt.Errorf("views take no %T", a)
		}
	}
	return nil
}

// answer is a row of a running statement.
type answer struct{ stmt *sqlite.Stmt }

func (a answer) Text(column int) string { return a.stmt.ColumnText(column) }
func (a answer) Int(column int) int64   { return a.stmt.ColumnInt64(column) }

func (a answer) Doc(column int, into any) error {
	return json.Unmarshal([]byte(a.stmt.ColumnText(column)), into)
}

// remove deletes a file and what SQLite keeps beside it.
func remove(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove old views: %w", err)
		}
	}
	return nil
}

// readers are connections that only read. A query that a context can end has a goroutine of its own for that, which is
// waited for; one that is short does without, see Shelf.
type readers chan *sqlite.Conn

func openReaders(path string, n int) (readers, error) {
	r := make(readers, n)
	for range n {
		conn, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
		if err == nil {
			r <- conn
			err = run(conn, "PRAGMA cache_size = -512", "PRAGMA query_only = ON")
		}
		if err != nil {
			return nil, errors.Join(err, r.close(len(r)))
		}
	}
	return r, nil
}

func (r readers) take(ctx context.Context) (*sqlite.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case conn := <-r:
		return conn, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r readers) put(conn *sqlite.Conn) { r <- conn }

// close closes n connections, waiting for what is lent.
func (r readers) close(n int) error {
	var errs []error
	for range n {
		errs = append(errs, (<-r).Close())
	}
	return errors.Join(errs...)
}

// run executes statements without arguments.
func run(c *sqlite.Conn, statements ...string) error {
	for _, s := range statements {
		if err := sqlitex.ExecuteTransient(c, s, nil); err != nil {
			return fmt.Errorf("%.60s: %w", s, err)
		}
	}
	return nil
}
