package blobs

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"ledgerline/commands"
	"ledgerline/domain"
)

// sharedSchema: nonce and ciphertext are NULL once the bytes have been erased.
const sharedSchema = `
CREATE TABLE ledgerline_blobs_meta (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE ledgerline_blobs (
	subject text,
	mac text,
	key_id text NOT NULL,
	size bigint NOT NULL, -- bytes before compression
	nonce bytea,
	ciphertext bytea,
	PRIMARY KEY (subject, mac)
);
ALTER TABLE ledgerline_blobs ALTER ciphertext SET STORAGE EXTERNAL; -- random bytes do not compress
INSERT INTO ledgerline_blobs_meta VALUES ('format', '1');
`

// sharedLock serialises the making of the tables.
const sharedLock = 0x6c6c626c6f6273 // "llblobs"

// SharedOptions say where shared blobs are and who seals them; both are needed.
type SharedOptions struct {
	// Pool reaches the database, whose user owns the tables; it outlives the store, and commits durably.
	Pool   *pgxpool.Pool
	Sealer Sealer // outlives the store
}

// Shared implements commands.Blobs over PostgreSQL, for several replicas at once (D4). What holds for Blobs
// holds here, but for erased bytes: they are sealed under a key that is destroyed with them, yet freed space,
// write-ahead log, standbys and dumps keep the ciphertext for as long as PostgreSQL and its operators keep
// those. Safe for concurrent use.
type Shared struct {
	packer
	pool     *pgxpool.Pool
	once     sync.Once
	closeErr error
}

var (
	_ commands.Blobs = (*Shared)(nil)
	_ store          = (*Shared)(nil)
)

// OpenShared opens the blobs, making their tables if there are none. Errors: ErrNewerFormat, the database's.
func OpenShared(ctx context.Context, o SharedOptions) (*Shared, error) {
	b := &Shared{pool: o.Pool}
	b.store = b
	err := pgx.BeginFunc(ctx, o.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(sharedLock)); err != nil {
			return err
		}
		var made bool
		var written string
		if err := tx.QueryRow(ctx, `SELECT to_regclass('ledgerline_blobs') IS NOT NULL`).Scan(&made); err != nil {
			return err
		}
		if !made {
			if _, err := tx.Exec(ctx, sharedSchema); err != nil {
				return err
			}
		}
		if err := tx.QueryRow(ctx, `SELECT value FROM ledgerline_blobs_meta WHERE name = 'format'`).Scan(&written); err != nil {
			return err
		}
		if written != fmt.Sprint(format) {
			return ErrNewerFormat
		}
		return nil
	})
	if err == nil {
		err = b.packer.open(o.Sealer)
	}
	if err != nil {
		return nil, fmt.Errorf("open the shared blobs: %w", err)
	}
	return b, nil
}

// Close lets go of what packing needs; the pool stays open. Closing again is no error.
func (b *Shared) Close() error {
	b.once.Do(func() { b.closeErr = b.packer.close() })
	return b.closeErr
}

func (b *Shared) insert(ctx context.Context, rows ...blob) error {
	batch := new(pgx.Batch) // of one implicit transaction
	for _, row := range rows {
		batch.Queue(`INSERT INTO ledgerline_blobs VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
			string(row.subject), row.mac, row.keyID, row.size, row.nonce, row.sealed)
	}
	return b.pool.SendBatch(ctx, batch).Close()
}

func (b *Shared) row(ctx context.Context, subject domain.Subject, mac string) (s domain.Sealed, err error) {
	err = b.pool.QueryRow(ctx, `SELECT key_id, nonce, ciphertext FROM ledgerline_blobs WHERE subject = $1 AND mac = $2`, string(subject), mac).
		Scan(&s.KeyID, &s.Nonce, &s.Ciphertext)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return s, commands.ErrNoBlob
	case err == nil && s.Ciphertext == nil:
		return s, domain.ErrErased
	}
	return s, err
}

func (b *Shared) erase(ctx context.Context, subject domain.Subject, macs []string) error {
	_, err := b.pool.Exec(ctx, `UPDATE ledgerline_blobs SET nonce = NULL, ciphertext = NULL
		WHERE subject = $1 AND ciphertext IS NOT NULL AND (cardinality($2::text[]) = 0 OR mac = ANY ($2))`, string(subject), append([]string{}, macs...))
	return err
}

func (b *Shared) each(ctx context.Context, visit func(blob) error) error {
	rows, err := b.pool.Query(ctx, `SELECT subject, mac, key_id, size, nonce, ciphertext FROM ledgerline_blobs`)
	if err != nil {
		return err
	}
	var row blob
	_, err = pgx.ForEachRow(rows, []any{&row.subject, &row.mac, &row.keyID, &row.size, &row.nonce, &row.sealed}, func() error { return visit(row) })
	return err
}

func (b *Shared) stats(ctx context.Context) (s Stats, err error) {
	err = b.pool.QueryRow(ctx, `SELECT count(ciphertext), count(*) - count(ciphertext), coalesce(sum(size) FILTER (WHERE ciphertext IS NOT NULL), 0)::bigint,
		coalesce(sum(length(ciphertext)), 0)::bigint FROM ledgerline_blobs`).Scan(&s.Blobs, &s.Erased, &s.ClearBytes, &s.StoredBytes)
	return s, err
}
