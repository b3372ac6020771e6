// Package ledger is the embedded event store: the whole history in one SQLite file, the default store.
// It implements commands.Log and commands.ReactorStore.
//
// Why SQLite? Anybody can open the truth with a tool they know: sqlite3 ledger.db 'select * from events'
// shows streams, types and JSON as text. Through zombiezen.com/go/sqlite and not database/sql, which
// makes a scan about four times as dear.
//
// What holds:
//
//   - One goroutine writes (writer.go). It gathers what waits into one transaction, judges each append on
//     its own, commits once, then answers: a conflict fails only its caller, and acknowledged means fsynced.
//   - Positions are row numbers, 1, 2, 3 …, given out by that one goroutine: no reader sees a higher
//     position before a lower one. Callers must not rely on their density (domain.Position).
//   - Durable before visible: subscribers wake after the commit. They hold nothing between two events but
//     their position, so a slow reader costs nothing and a closed iterator leaves nothing behind.
//   - What was written last is read from memory (recent.go), once it is durable; everything else from the file.
//   - A failed fsync is never retried: the writer stops for good and every append answers
//     domain.ErrReadOnly. A full disk is different: the transaction is rolled back, its callers are told,
//     and the next one may succeed.
//   - Every row carries the hash of the row before it and of its own leaf (domain.LeafHash): verify.go.
//
// Trust: whoever can write ledger.db can rewrite history and recompute the chain. The chain finds
// accidents and clumsy edits; only a signed checkpoint kept elsewhere proves anything against the owner
// of the file. Payloads are stored as they come: secrets in them must be sealed before (D3).
//
// Not here: the Merkle tree and signed checkpoints, views, encryption.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/commands"
	"ledgerline/domain"
)

var (
	_ commands.Log          = (*Ledger)(nil)
	_ commands.ReactorStore = (*Ledger)(nil)
)

// Format is the version of the file's layout this program writes. A program refuses a newer one (D30).
const Format = 1

var (
	// ErrLocked: another process has the ledger open for writing; the error names it.
	ErrLocked = errors.New("ledger is in use")
	// ErrRemote: the directory is on a network file system, where SQLite's locks and fsync cannot be trusted.
	ErrRemote = errors.New("ledger cannot live on a network file system")
	// ErrNewer: the file was written by a newer program.
	ErrNewer = errors.New("ledger was written by a newer program")
	// ErrClosed: the ledger was closed.
	ErrClosed = errors.New("ledger is closed")
	// ErrNoSpace: the disk is full. Nothing of the append was written; it may succeed once there is space.
	// It comes together with domain.ErrReadOnly.
	ErrNoSpace = errors.New("no space left for the ledger")
)

// Options say where the ledger is and how to open it.
type Options struct {
	// Dir holds ledger.db (with SQLite's -wal and -shm beside it) and ledger.lock. It is made if missing,
	// unless ReadOnly.
	Dir string
	// ReadOnly opens an existing ledger without taking the lock: possible while a server runs. Subscribe
	// then looks for news five times a second. Writes answer domain.ErrReadOnly.
	ReadOnly bool
	// Unchecked leaves the look at the last rows and the sample out: for Verify, which is to name every place.
	Unchecked bool
	// Clock is the time noted as the ledger's creation and in ledger.lock; time.Now if nil. It stamps no event.
	Clock func() time.Time
}

// Ledger is an open log. Safe for concurrent use; Close ends everything it handed out.
type Ledger struct {
	opts Options
	path string
	id   string
	lock *os.File

	readers chan *reader // idle readers; nil stands for one not opened yet
	writer  *writer      // nil when read-only

	last   atomic.Uint64 // position of the last durable event
	lastIn atomic.Uint64 // the same, of those that ReadAll shows
	news   broadcast
	recent *recent // nil when read-only: others write

	closing   chan struct{} // closed when Close begins
	closeOnce sync.Once
	closeErr  error
}

const (
	maxReaders = 4
	pollEvery  = 200 * time.Millisecond // a read-only ledger's look for news
)

// Open opens the ledger in o.Dir, making one if there is none. The last rows and a sample of the others
// are checked against the hash chain first (Verify checks all). The context is only for opening.
//
// Errors: ErrLocked, ErrRemote, ErrNewer, domain.ErrDamaged (naming the place), fs.ErrNotExist when
// read-only and there is none.
func Open(ctx context.Context, o Options) (_ *Ledger, err error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	l := &Ledger{opts: o, path: filepath.Join(o.Dir, "ledger.db"), readers: make(chan *reader, maxReaders), closing: make(chan struct{})}
	for range maxReaders {
		l.readers <- nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open ledger %s: %w", o.Dir, errors.Join(err, l.Close()))
		}
	}()
	if !o.ReadOnly {
		if err := l.prepareDir(); err != nil {
			return nil, err
		}
	}
	if err := localOnly(o.Dir); err != nil {
		return nil, err
	}
	if !o.ReadOnly {
		if l.lock, err = takeLock(filepath.Join(o.Dir, "ledger.lock"), o.Clock()); err != nil {
			return nil, err
		}
		if err := l.create(); err != nil {
			return nil, damaged(err)
		}
	}
	if _, err := os.Stat(l.path); err != nil {
		return nil, err
	}
	if err := l.check(ctx); err != nil {
		return nil, damaged(err)
	}
	if o.ReadOnly {
		return l, nil
	}
	l.recent = &recent{}
	if l.writer, err = startWriter(l); err != nil {
		return nil, damaged(err)
	}
	return l, nil
}

// ID is the log's own id, made with the file: 32 hex digits. It tells two ledgers apart.
func (l *Ledger) ID() string { return l.id }

// Path is the file's path.
func (l *Ledger) Path() string { return l.path }

// Err is why the writer has stopped for good; nil while it takes appends.
func (l *Ledger) Err() error {
	if l.writer == nil {
		return domain.ErrReadOnly
	}
	return l.writer.failure()
}

// Close ends subscriptions and reads, finishes the appends already accepted and closes the file.
// Closing again is no error.
func (l *Ledger) Close() error {
	l.closeOnce.Do(func() {
		close(l.closing)
		if l.writer != nil {
			<-l.writer.done
		}
		for range maxReaders {
			if r := <-l.readers; r != nil {
				l.closeErr = errors.Join(l.closeErr, r.conn.Close())
			}
		}
		// The writer's connection goes last: the last one out folds the write-ahead log into the file.
		if l.writer != nil {
			l.closeErr = errors.Join(l.closeErr, l.writer.conn.Close())
		}
		if l.lock != nil {
			l.closeErr = errors.Join(l.closeErr, dropLock(l.lock))
		}
	})
	return l.closeErr
}

// prepareDir makes the directory and, with narrow rights, the file in it.
func (l *Ledger) prepareDir() error {
	if err := os.MkdirAll(l.opts.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncDir(l.opts.Dir)
}

// Names, ids and JSON are text for the eye; binary payloads stay blobs. The long columns stand last:
// SQLite walks overflow pages to reach what is behind them.
//
// Why a number beside the stream's name? The indexes go by sid. Streams that are young are then close to
// each other in them, so a transaction of 64 appends changes a handful of pages and not 128: more than
// twice the appends.
const schema = `
create table meta (key text primary key, value text not null) without rowid;
create table streams (sid integer primary key, name text not null unique);
create table events (
	position integer primary key,
	sid      integer not null,
	stream   text not null,
	revision integer not null,
	id       text not null,
	type     text not null,
	chain    blob not null,
	metadata text not null,
	data     text not null,
	unique (sid, revision),
	unique (sid, id)
);
create table head (one integer primary key check (one = 1), position integer not null, chain blob not null);
create table reactors (name text primary key, state text not null) without rowid;
create table parked (
	reaction text not null,
	event_id text not null,
	position integer not null,
	message  text not null,
	primary key (reaction, event_id)
) without rowid;
insert into head values (1, 0, zeroblob(32));
`

// create lays out an empty file, and refuses a newer one.
func (l *Ledger) create() error {
	conn, err := sqlite.OpenConn(l.path, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetBusyTimeout(busyTimeout)
	for _, q := range []string{"pragma page_size = 8192", "pragma journal_mode = wal", "pragma synchronous = full"} {
		if err := sqlitex.ExecuteTransient(conn, q, nil); err != nil {
			return err
		}
	}
	end, err := sqlitex.ImmediateTransaction(conn)
	if err != nil {
		return err
	}
	defer end(&err)
	tables := int64(0)
	if err = one(conn, "select count(*) from sqlite_schema", func(s *sqlite.Stmt) { tables = s.ColumnInt64(0) }); err != nil || tables > 0 {
		return err
	}
	if err = sqlitex.ExecuteScript(conn, schema, nil); err != nil {
		return err
	}
	err = sqlitex.Execute(conn, "insert into meta values ('format', ?), ('log_id', ?), ('created_at', ?)", &sqlitex.ExecOptions{
		Args: []any{fmt.Sprint(Format), domain.IDFrom(uuid.New()), l.opts.Clock().UTC().Format(time.RFC3339)},
	})
	return err
}

// meta reads the file's own data and refuses a file of another format.
func (l *Ledger) meta(conn *sqlite.Conn) error {
	format := 0
	err := sqlitex.Execute(conn, "select key, value from meta", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		switch s.ColumnText(0) {
		case "format":
			format = s.ColumnInt(1)
		case "log_id":
			l.id = s.ColumnText(1)
		}
		return nil
	}})
	switch {
	case err != nil:
		return err
	case format > Format:
		return fmt.Errorf("%w: its format is %d, this program knows %d", ErrNewer, format, Format)
	case format < 1 || l.id == "":
		return fmt.Errorf("%w: meta table without format or log id", domain.ErrDamaged)
	}
	return nil
}

// damaged adds domain.ErrDamaged to what SQLite says about a broken file.
func damaged(err error) error {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultCorrupt, sqlite.ResultNotADB:
		return fmt.Errorf("%w: %w", domain.ErrDamaged, err)
	}
	return err
}

// one runs a query for its first row.
func one(conn *sqlite.Conn, query string, row func(*sqlite.Stmt), args ...any) error {
	return sqlitex.Execute(conn, query, &sqlitex.ExecOptions{Args: args, ResultFunc: func(s *sqlite.Stmt) error {
		row(s)
		return nil
	}})
}

// broadcast wakes all who wait, once each.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

// wait returns a channel that the next wake closes.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
