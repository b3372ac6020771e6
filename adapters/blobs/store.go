package blobs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	format = 1

	// schema: nonce and ciphertext are NULL once the bytes have been erased.
	schema = `
CREATE TABLE blobs (
	id INTEGER PRIMARY KEY,
	subject TEXT NOT NULL,
	mac TEXT NOT NULL,
	key_id TEXT NOT NULL,
	size INTEGER NOT NULL, -- bytes before compression
	nonce BLOB,
	ciphertext BLOB,
	UNIQUE (subject, mac)
);
PRAGMA user_version = 1;
`
	insertBlob = `INSERT INTO blobs (subject, mac, key_id, size, nonce, ciphertext) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (subject, mac) DO NOTHING`
	selectBlob  = `SELECT key_id, nonce, ciphertext FROM blobs WHERE subject = ? AND mac = ?`
	eraseBlobs  = `UPDATE blobs SET nonce = NULL, ciphertext = NULL WHERE subject = ? AND ciphertext IS NOT NULL`
	eraseBlob   = eraseBlobs + ` AND mac = ?`
	selectStats = `SELECT count(ciphertext), count(*) - count(ciphertext),
		coalesce(sum(CASE WHEN ciphertext IS NOT NULL THEN size END), 0), coalesce(sum(length(ciphertext)), 0) FROM blobs`
)

// One transaction takes at most so many jobs and stops gathering at so many bytes.
const (
	maxBatch       = 256
	maxBatchWeight = 16 << 20
)

// job is one change of the file. The writer does all that wait in one transaction, in order.
type job struct {
	do     func(*sqlite.Conn) error // an error undoes the whole batch
	erases bool                     // the write-ahead log is emptied afterwards
	weight int                      // bytes
	done   chan error
}

// submit waits until j is durable. When ctx ends first it may still happen.
func (b *Blobs) submit(ctx context.Context, j *job) error {
	j.done = make(chan error, 1)
	select {
	case b.jobs <- j:
	case <-b.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write is the writer. After an input/output error nothing is written any more: what a failed fsync
// has left on the disk is unknown.
func (b *Blobs) write(conn *sqlite.Conn) {
	defer close(b.stopped)
	var broken error
	for {
		select {
		case <-b.closing:
			b.closeErr = conn.Close()
			return
		case j := <-b.jobs:
			batch := b.gather(j)
			err := broken
			if err == nil {
				err = inTransaction(conn, batch)
			}
			if err == nil && slices.ContainsFunc(batch, func(j *job) bool { return j.erases }) {
				err = sqlitex.ExecuteTransient(conn, "PRAGMA wal_checkpoint(TRUNCATE)", nil)
			}
			if broken == nil && sqlite.ErrCode(err).ToPrimary() == sqlite.ResultIOErr {
				broken = fmt.Errorf("blobs stopped writing, restart the program: %w", err)
			}
			for _, j := range batch {
				j.done <- err
			}
		}
	}
}

// gather takes what else is waiting.
func (b *Blobs) gather(first *job) []*job {
	batch, weight := []*job{first}, first.weight
	for len(batch) < maxBatch && weight < maxBatchWeight {
		select {
		case j := <-b.jobs:
			batch, weight = append(batch, j), weight+j.weight
		default:
			return batch
		}
	}
	return batch
}

func inTransaction(conn *sqlite.Conn, batch []*job) (err error) {
	end, err := sqlitex.ImmediateTransaction(conn)
	if err != nil {
		return err
	}
	defer end(&err)
	for _, j := range batch {
		if err := j.do(conn); err != nil {
			return err
		}
	}
	return nil
}

// openWriter opens the one connection that writes, making the file if there is none.
func openWriter(path string) (*sqlite.Conn, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // SQLite would make it readable by all
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	if err := prepareWriter(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func prepareWriter(conn *sqlite.Conn) error {
	conn.SetBusyTimeout(5 * time.Second)
	for _, pragma := range []string{
		"page_size = 8192", "secure_delete = ON", "journal_mode = WAL", "synchronous = FULL",
		"journal_size_limit = 67108864", "temp_store = MEMORY", "cache_size = -1024",
	} {
		if err := sqlitex.ExecuteTransient(conn, "PRAGMA "+pragma, nil); err != nil {
			return fmt.Errorf("set %s: %w", pragma, err)
		}
	}
	return migrate(conn)
}

func prepareReader(conn *sqlite.Conn) error {
	conn.SetBusyTimeout(5 * time.Second)
	if err := sqlitex.ExecuteTransient(conn, "PRAGMA cache_size = -256", nil); err != nil { // the system keeps the file at hand as well
		return err
	}
	return sqlitex.ExecuteTransient(conn, "PRAGMA query_only = ON", nil)
}

func migrate(conn *sqlite.Conn) (err error) {
	var version int64
	err = sqlitex.ExecuteTransient(conn, "PRAGMA user_version", &sqlitex.ExecOptions{
		ResultFunc: func(s *sqlite.Stmt) error { version = s.ColumnInt64(0); return nil },
	})
	switch {
	case err != nil:
		return err
	case version > format:
		return ErrNewerFormat
	case version == format:
		return nil
	}
	end, err := sqlitex.ImmediateTransaction(conn)
	if err != nil {
		return err
	}
	defer end(&err)
	return sqlitex.ExecuteScript(conn, schema, nil)
}

func columnBytes(s *sqlite.Stmt, column int) []byte {
	data := make([]byte, s.ColumnLen(column))
	s.ColumnBytes(column, data)
	return data
}

// Backup writes a consistent copy of blobs.db to path while it is in use: mode 0600, durable on return.
// path must not exist (fs.ErrExist). What an erased key sealed is as unreadable in the copy as here.
func (b *Blobs) Backup(ctx context.Context, path string) error {
	if err := b.backup(ctx, path); err != nil {
		return fmt.Errorf("back up blobs: %w", err)
	}
	return nil
}

func (b *Blobs) backup(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := copyDatabase(ctx, b.path, path); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	if err := f.Sync(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// copyDatabase fills the empty file at to with what from holds now.
func copyDatabase(ctx context.Context, from, to string) (err error) {
	conn, err := sqlite.OpenConn(from, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	conn.SetBusyTimeout(5 * time.Second)
	conn.SetInterrupt(ctx.Done())
	return sqlitex.ExecuteTransient(conn, `VACUUM INTO ?`, &sqlitex.ExecOptions{Args: []any{to}})
}

// readers are connections that only read, for queries so short that none need be interrupted: sqlitex.Pool starts a
// goroutine for each loan, and waits for it to end, which on a busy processor takes longer than the query.
type readers chan *sqlite.Conn

func openReaders(path string, n int) (readers, error) {
	r := make(readers, n)
	for range n {
		conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
		if err == nil {
			r <- conn
			err = prepareReader(conn)
		}
		if err != nil {
			return nil, errors.Join(err, r.closeFirst(len(r)))
		}
	}
	return r, nil
}

// take lends a connection, to be put back, or answers ctx's error; once closed ErrClosed.
func (r readers) take(ctx context.Context) (*sqlite.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case conn, open := <-r:
		if !open {
			return nil, ErrClosed
		}
		return conn, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r readers) put(conn *sqlite.Conn) { r <- conn }

// close waits for what is lent. It is called once.
func (r readers) close() error { return r.closeFirst(cap(r)) }

func (r readers) closeFirst(n int) error {
	var errs []error
	for range n {
		errs = append(errs, (<-r).Close())
	}
	close(r)
	return errors.Join(errs...)
}
