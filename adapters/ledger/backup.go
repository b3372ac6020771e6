package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite/sqlitex"
)

// Backup writes a copy of the log as it stands now into the new file path, while appends go on. The copy
// is one consistent prefix of the log, compact, without a write-ahead log, and on the disk when Backup
// returns; named ledger.db in a directory of its own it opens as a ledger. An existing file is not touched
// (fs.ErrExist). What an interrupted backup leaves is removed.
func (l *Ledger) Backup(ctx context.Context, path string) error {
	if err := l.backup(ctx, path); err != nil {
		return fmt.Errorf("back up ledger to %s: %w", path, err)
	}
	return nil
}

func (l *Ledger) backup(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return os.ErrExist
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*")
	if err != nil {
		return err
	}
	part := f.Name()
	defer os.Remove(part)
	if err := f.Close(); err != nil {
		return err
	}
	// A reader of its own: one of the pool would be missing there for as long as the copy takes.
	r, err := l.openReader()
	if err != nil {
		return err
	}
	r.conn.SetInterrupt(ctx.Done())
	err = errors.Join(sqlitex.ExecuteTransient(r.conn, "vacuum into ?", &sqlitex.ExecOptions{Args: []any{part}}), r.conn.Close())
	if err != nil {
		return errors.Join(ctx.Err(), damaged(err))
	}
	if f, err = os.Open(part); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	// Not a hard link, which would never replace a file: backups go to sticks and shares that have none.
	if err := os.Rename(part, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
