package vault

import (
	"context"
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/domain"
)

// ErrNotEmpty: the vault to copy into holds keys of its own.
var ErrNotEmpty = errors.New("vault to copy into holds other keys already")

// Opened is a vault of either kind: *Vault or *Shared.
type Opened interface {
	ID() string
	opened() *ring
}

func (v *ring) opened() *ring { return v }

// Copy brings every key and tombstone of a vault into another, wrapped under its master key, and gives it the
// first one's id: what is sealed opens with either. Interrupted, it is begun again. Nobody may use the vaults
// meanwhile. It answers how many keys and tombstones there are. Errors: ErrNotEmpty, the stores'.
func Copy(ctx context.Context, from, to Opened) (keys, tombstones int, err error) {
	src, dst := from.opened(), to.opened()
	if src.id != dst.id {
		err := dst.store.each(ctx, func(row) error { return ErrNotEmpty })
		if err == nil {
			err = dst.store.rename(ctx, src.id)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("copy vault: %w", err)
		}
		dst.id = src.id
	}
	master := src.store.unwrapper()
	err = src.store.each(ctx, func(r row) error {
		if r.destroyed {
			tombstones++
			return dst.store.adopt(ctx, r.subject, r.keyID, nil)
		}
		k, err := master.unwrap(r)
		if err != nil {
			return err
		}
		keys++
		return dst.store.adopt(ctx, r.subject, r.keyID, k)
	})
	if err != nil {
		return keys, tombstones, fmt.Errorf("copy vault: %w", err)
	}
	return keys, tombstones, nil
}

func (v *Vault) each(ctx context.Context, visit func(row) error) error {
	conn, err := v.read.take(ctx)
	if err != nil {
		return err
	}
	defer v.read.put(conn)
	conn.SetInterrupt(ctx.Done()) // a whole table may take a while
	defer conn.SetInterrupt(nil)
	return sqlitex.Execute(conn, selectRows, &sqlitex.ExecOptions{
		ResultFunc: func(s *sqlite.Stmt) error { return visit(scanRow(s)) },
	})
}

func (v *Vault) adopt(ctx context.Context, subject domain.Subject, id string, k *key) error {
	return v.submit(ctx, &job{do: func(conn *sqlite.Conn) error {
		there, err := selectRow(conn, bySubject, string(subject))
		switch {
		case err != nil:
			return err
		case there.exists && k == nil:
			return destroyKey(conn, subject, v.clock())
		case there.exists:
			return nil
		case k != nil:
			return insertKey(conn, k, v.master.wrap(k), v.clock())
		}
		if err := destroyKey(conn, subject, v.clock()); err != nil || id == "" {
			return err
		}
		return sqlitex.Execute(conn, `UPDATE keys SET key_id = ? WHERE subject = ?`, &sqlitex.ExecOptions{Args: []any{id, string(subject)}})
	}, scrub: k == nil})
}

func (v *Vault) rename(ctx context.Context, id string) error {
	return v.submit(ctx, &job{do: func(conn *sqlite.Conn) error { return setMeta(conn, metaID, id) }})
}

func (v *Vault) unwrapper() *master {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.master
}
