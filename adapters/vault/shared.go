package vault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"ledgerline/commands"
	"ledgerline/domain"
)

// sharedSchema: the wrapped key stands in a table of its own, so that destroying it deletes a row, and the
// vacuum that follows has little to read.
const sharedSchema = `
CREATE TABLE ledgerline_vault_meta (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE ledgerline_vault_keys (
	subject text PRIMARY KEY,
	key_id text UNIQUE, -- NULL: erased before there was a key
	created_at timestamptz,
	destroyed_at timestamptz
);
CREATE TABLE ledgerline_vault_wrapped (
	subject text PRIMARY KEY REFERENCES ledgerline_vault_keys,
	bytes bytea NOT NULL CHECK (length(bytes) = 60)
);
INSERT INTO ledgerline_vault_meta VALUES ('format', '1');
`

const sharedRows = `SELECT k.subject, coalesce(k.key_id, ''), k.destroyed_at IS NOT NULL, w.bytes
	FROM ledgerline_vault_keys k LEFT JOIN ledgerline_vault_wrapped w USING (subject)`

// sharedLock serialises the making of the tables and the first naming of the master key.
const sharedLock = 0x6c6c7661756c74 // "llvault"

// SharedOptions say where a shared vault is and which master key opens it; both are needed.
type SharedOptions struct {
	// Pool reaches the database, whose user owns the tables; it outlives the vault, and commits durably
	// (synchronous_commit).
	Pool *pgxpool.Pool
	// MasterKeyFile must exist, the same on every replica; see ReadMasterKey for its forms.
	MasterKeyFile string
	// Clock dates keys and ages the cache; nil means time.Now.
	Clock func() time.Time
}

// Shared implements commands.Vault over PostgreSQL, for several replicas at once (D2, D10). Safe for
// concurrent use.
//
// What holds as for Vault: a key is durable before anything sealed under it leaves Seal, of many replicas
// that make one at once one does, a tombstone stays. A replica keeps an unwrapped key for at most 60 seconds;
// one that hears of key.destroyed calls Forget.
//
// What an erasure cannot reach here: once Erase has returned, no query finds the wrapped key, and a vacuum of
// its table has been asked for; but PostgreSQL overwrites freed space in its own time, its write-ahead log
// keeps the row until the segment is recycled, and standbys, archives and dumps keep it as long as they are
// kept: at most 30 days, as with backups of vault.db.
//
// Not here: rotating the master key.
type Shared struct {
	ring
	pool    *pgxpool.Pool
	master  *master
	closing chan struct{}
	once    sync.Once
}

var (
	_ commands.Vault = (*Shared)(nil)
	_ store          = (*Shared)(nil)
)

// OpenShared opens the vault, making its tables if there are none. Errors: ErrNoMasterKey, ErrBadMasterKey,
// ErrKeyExposed, ErrWrongMasterKey, ErrNewerFormat, the database's.
func OpenShared(ctx context.Context, o SharedOptions) (*Shared, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	v := &Shared{ring: ring{clock: o.Clock, cache: newCache(cacheSize, cacheTTL)}, pool: o.Pool, closing: make(chan struct{})}
	v.store = v
	if err := v.open(ctx, source{path: o.MasterKeyFile}); err != nil {
		return nil, fmt.Errorf("open the shared vault: %w", err)
	}
	go v.sweep()
	return v, nil
}

func (v *Shared) open(ctx context.Context, from source) error {
	return pgx.BeginFunc(ctx, v.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(sharedLock)); err != nil {
			return err
		}
		var made bool
		if err := tx.QueryRow(ctx, `SELECT to_regclass('ledgerline_vault_wrapped') IS NOT NULL`).Scan(&made); err != nil {
			return err
		}
		if !made {
			if _, err := tx.Exec(ctx, sharedSchema); err != nil {
				return err
			}
		}
		meta := map[string]string{}
		rows, err := tx.Query(ctx, `SELECT name, value FROM ledgerline_vault_meta`)
		if err != nil {
			return err
		}
		var name, value string
		if _, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error { meta[name] = value; return nil }); err != nil {
			return err
		}
		if meta["format"] != fmt.Sprint(format) {
			return ErrNewerFormat
		}
		if v.master, _, err = from.find(meta[metaMaster]); err != nil {
			return err
		}
		if v.id = meta[metaID]; v.id == "" {
			if v.id, err = newID(); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `INSERT INTO ledgerline_vault_meta VALUES ($1, $2), ($3, $4) ON CONFLICT DO NOTHING`, metaMaster, v.master.fingerprint, metaID, v.id)
		return err
	})
}

// sweep drops keys nobody asked for since their time was over.
func (v *Shared) sweep() {
	tick := time.NewTicker(cacheTTL)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			v.cache.sweep(v.clock())
		case <-v.closing:
			return
		}
	}
}

// Close drops every key from memory. Closing again is no error.
func (v *Shared) Close() error {
	v.once.Do(func() { close(v.closing) })
	v.cache.clear()
	return nil
}

// SharedExists tells whether the database behind pool holds a vault.
func SharedExists(ctx context.Context, pool *pgxpool.Pool) (exists bool, err error) {
	err = pool.QueryRow(ctx, `SELECT to_regclass('ledgerline_vault_wrapped') IS NOT NULL`).Scan(&exists)
	return exists, err
}

// Check unwraps every key.
func (v *Shared) Check(ctx context.Context) (CheckReport, error) {
	report := CheckReport{MasterFingerprint: v.master.fingerprint}
	err := v.each(ctx, func(r row) error {
		_, err := v.master.unwrap(r)
		switch {
		case r.destroyed && r.wrapped == nil:
			report.Destroyed++
		case !r.destroyed && err == nil:
			report.Live++
		default:
			report.Bad++
			report.BadSubjects = append(report.BadSubjects, r.subject)
		}
		return nil
	})
	if err != nil {
		return report, fmt.Errorf("check the shared vault: %w", err)
	}
	return report, nil
}

// MasterFingerprint is 16 hex digits that tell master keys apart and say nothing about them.
func (v *Shared) MasterFingerprint() string { return v.master.fingerprint }

func (v *Shared) readKey(ctx context.Context, by column, value string) (*key, error) {
	r, err := v.row(ctx, by, value)
	if err != nil {
		return nil, err
	}
	return v.master.keyOf(r)
}

func (v *Shared) row(ctx context.Context, by column, value string) (row, error) {
	r := row{exists: true}
	err := v.pool.QueryRow(ctx, sharedRows+` WHERE k.`+string(by)+` = $1`, value).Scan(&r.subject, &r.keyID, &r.destroyed, &r.wrapped)
	if errors.Is(err, pgx.ErrNoRows) {
		return row{}, nil
	}
	return r, err
}

func (v *Shared) insert(ctx context.Context, k *key) (found row, err error) {
	made := false
	err = pgx.BeginFunc(ctx, v.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO ledgerline_vault_keys (subject, key_id, created_at) VALUES ($1, $2, $3) ON CONFLICT (subject) DO NOTHING`,
			string(k.subject), k.id, v.clock())
		if made = err == nil && tag.RowsAffected() == 1; !made {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO ledgerline_vault_wrapped VALUES ($1, $2)`, string(k.subject), v.master.wrap(k))
		return err
	})
	if err != nil || made {
		return row{}, err
	}
	return v.row(ctx, bySubject, string(k.subject))
}

func (v *Shared) each(ctx context.Context, visit func(row) error) error {
	rows, err := v.pool.Query(ctx, sharedRows)
	if err != nil {
		return err
	}
	r := row{exists: true}
	_, err = pgx.ForEachRow(rows, []any{&r.subject, &r.keyID, &r.destroyed, &r.wrapped}, func() error { return visit(r) })
	return err
}

func (v *Shared) adopt(ctx context.Context, subject domain.Subject, id string, k *key) error {
	if k != nil {
		_, err := v.insert(ctx, k)
		return err
	}
	if err := v.destroy(ctx, subject, func() {}); err != nil || id == "" {
		return err
	}
	_, err := v.pool.Exec(ctx, `UPDATE ledgerline_vault_keys SET key_id = $2 WHERE subject = $1`, string(subject), id)
	return err
}

func (v *Shared) rename(ctx context.Context, id string) error {
	_, err := v.pool.Exec(ctx, `UPDATE ledgerline_vault_meta SET value = $2 WHERE name = $1`, metaID, id)
	return err
}

func (v *Shared) unwrapper() *master { return v.master }

func (v *Shared) destroy(ctx context.Context, subject domain.Subject, forget func()) error {
	defer forget()
	err := pgx.BeginFunc(ctx, v.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO ledgerline_vault_keys (subject, destroyed_at) VALUES ($1, $2)
			ON CONFLICT (subject) DO UPDATE SET destroyed_at = coalesce(ledgerline_vault_keys.destroyed_at, excluded.destroyed_at)`, string(subject), v.clock()); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM ledgerline_vault_wrapped WHERE subject = $1`, string(subject))
		return err
	})
	if err != nil {
		return err
	}
	// The erasure stands; the vacuum makes the space free for overwriting sooner than PostgreSQL would by itself.
	_, _ = v.pool.Exec(ctx, `VACUUM ledgerline_vault_wrapped`)
	return nil
}
