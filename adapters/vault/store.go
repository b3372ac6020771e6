package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/domain"
)

// ErrNewerFormat: vault.db was written by a newer program.
var ErrNewerFormat = errors.New("vault.db was written by a newer version of this program: use that one")

const format = 1

// schema: rows of wrapped all have one size, are only ever appended and overwritten in place; see the
// package comment. Every id of keys has its row in wrapped, all zeros once the key is destroyed.
const schema = `
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE keys (
	id INTEGER PRIMARY KEY,
	subject TEXT NOT NULL UNIQUE,
	key_id TEXT UNIQUE, -- NULL: erased before there was a key
	created_at TEXT,
	destroyed_at TEXT
);
CREATE TABLE wrapped (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL CHECK (length(bytes) = 60));
PRAGMA user_version = 1;
`

const selectRows = `SELECT k.id, k.subject, k.key_id, k.destroyed_at IS NOT NULL, w.bytes
	FROM keys k LEFT JOIN wrapped w ON w.id = k.id`

// row is a key as it stands in the database; the zero value means there is none.
type row struct {
	exists, destroyed bool
	id                int64
	subject           domain.Subject
	keyID             string
	wrapped           []byte
}

// openWriter opens the one connection that writes, making the database if there is none.
func openWriter(path string) (*sqlite.Conn, error) {
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
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func prepareWriter(conn *sqlite.Conn) error {
	conn.SetBusyTimeout(5 * time.Second)
	for _, pragma := range []string{"secure_delete = ON", "journal_mode = WAL", "synchronous = FULL", "temp_store = MEMORY", "cache_size = -1024"} {
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
	version, err := formatIn(conn)
	if err != nil || version != 0 {
		return err
	}
	end, err := sqlitex.ImmediateTransaction(conn)
	if err != nil {
		return err
	}
	defer end(&err)
	return sqlitex.ExecuteScript(conn, schema, nil)
}

// formatIn answers the version of the format, 0 for an empty file.
func formatIn(conn *sqlite.Conn) (version int64, err error) {
	err = sqlitex.ExecuteTransient(conn, "PRAGMA user_version", &sqlitex.ExecOptions{
		ResultFunc: func(s *sqlite.Stmt) error { version = s.ColumnInt64(0); return nil },
	})
	if err == nil && version > format {
		err = ErrNewerFormat
	}
	return version, err
}

// Names in the table meta of both kinds of vault.
const (
	metaMaster = "master_fingerprint" // of the master key the vault belongs to; missing in a new one
	metaID     = "vault_id"
)

// metaIn is what stands under a name, empty for nothing.
func metaIn(conn *sqlite.Conn, name string) (value string, err error) {
	err = sqlitex.Execute(conn, `SELECT value FROM meta WHERE name = ?`, &sqlitex.ExecOptions{
		Args:       []any{name},
		ResultFunc: func(s *sqlite.Stmt) error { value = s.ColumnText(0); return nil },
	})
	return value, err
}

func setMeta(conn *sqlite.Conn, name, value string) error {
	return sqlitex.Execute(conn, `INSERT INTO meta (name, value) VALUES (?, ?)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, &sqlitex.ExecOptions{Args: []any{name, value}})
}

// selectRow is the row found by a column's value.
func selectRow(conn *sqlite.Conn, by column, value string) (r row, err error) {
	err = sqlitex.Execute(conn, selectRows+` WHERE k.`+string(by)+` = ?`, &sqlitex.ExecOptions{
		Args:       []any{value},
		ResultFunc: func(s *sqlite.Stmt) error { r = scanRow(s); return nil },
	})
	return r, err
}

func scanRow(s *sqlite.Stmt) row {
	r := row{
		exists: true, id: s.ColumnInt64(0), subject: domain.Subject(s.ColumnText(1)), keyID: s.ColumnText(2),
		destroyed: s.ColumnBool(3), wrapped: make([]byte, s.ColumnLen(4)),
	}
	s.ColumnBytes(4, r.wrapped)
	return r
}

func insertKey(conn *sqlite.Conn, k *key, wrapped []byte, now time.Time) error {
	err := sqlitex.Execute(conn, `INSERT INTO keys (subject, key_id, created_at) VALUES (?, ?, ?)`,
		&sqlitex.ExecOptions{Args: []any{string(k.subject), k.id, stamp(now)}})
	if err != nil {
		return err
	}
	return sqlitex.Execute(conn, `INSERT INTO wrapped (id, bytes) VALUES (?, ?)`,
		&sqlitex.ExecOptions{Args: []any{conn.LastInsertRowID(), wrapped}})
}

// destroyKey overwrites the wrapped key where it stands and leaves a tombstone.
func destroyKey(conn *sqlite.Conn, subject domain.Subject, now time.Time) error {
	r, err := selectRow(conn, bySubject, string(subject))
	if err != nil || r.destroyed {
		return err
	}
	if !r.exists {
		err := sqlitex.Execute(conn, `INSERT INTO keys (subject, destroyed_at) VALUES (?, ?)`,
			&sqlitex.ExecOptions{Args: []any{string(subject), stamp(now)}})
		if err != nil {
			return err
		}
		return sqlitex.Execute(conn, `INSERT INTO wrapped (id, bytes) VALUES (?, zeroblob(60))`,
			&sqlitex.ExecOptions{Args: []any{conn.LastInsertRowID()}})
	}
	if err := overwrite(conn, r.id, make([]byte, wrappedSize)); err != nil {
		return err
	}
	return sqlitex.Execute(conn, `UPDATE keys SET destroyed_at = ? WHERE id = ?`,
		&sqlitex.ExecOptions{Args: []any{stamp(now), r.id}})
}

// overwrite replaces the wrapped key of id by bytes of the same size, in the same place of the file.
func overwrite(conn *sqlite.Conn, id int64, wrapped []byte) error {
	err := sqlitex.Execute(conn, `UPDATE wrapped SET bytes = ? WHERE id = ?`, &sqlitex.ExecOptions{Args: []any{wrapped, id}})
	if err == nil && conn.Changes() != 1 {
		err = fmt.Errorf("key number %d has no row in wrapped", id)
	}
	return err
}

// scrub moves everything into vault.db and cuts vault.db-wal to nothing, so that no older image of a
// page is left. It waits for readers as long as the busy timeout.
func scrub(conn *sqlite.Conn) error {
	busy := true
	err := sqlitex.ExecuteTransient(conn, "PRAGMA wal_checkpoint(TRUNCATE)", &sqlitex.ExecOptions{
		ResultFunc: func(s *sqlite.Stmt) error { busy = s.ColumnBool(0); return nil },
	})
	switch {
	case sqlite.ErrCode(err).ToPrimary() == sqlite.ResultBusy:
		return ErrTraces
	case err != nil:
		return err
	case busy:
		return ErrTraces
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

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
