package blobs

import (
	"context"
	"fmt"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/domain"
)

// Opened are blobs of either kind: *Blobs or *Shared.
type Opened interface{ opened() *packer }

func (p *packer) opened() *packer { return p }

// Copy brings every blob into another store as it is, sealed; it opens there with the same keys. Interrupted,
// it is begun again. It answers how many there are, erased ones included.
func Copy(ctx context.Context, from, to Opened) (n int, err error) {
	dst := to.opened().store
	err = from.opened().store.each(ctx, func(b blob) error {
		n++
		return dst.insert(ctx, b)
	})
	if err != nil {
		return n, fmt.Errorf("copy blobs: %w", err)
	}
	return n, nil
}

func (b *Blobs) each(ctx context.Context, visit func(blob) error) error {
	conn, err := b.read.take(ctx)
	if err != nil {
		return err
	}
	defer b.read.put(conn)
	conn.SetInterrupt(ctx.Done()) // a whole table may take a while
	defer conn.SetInterrupt(nil)
	return sqlitex.Execute(conn, `SELECT subject, mac, key_id, size, nonce, ciphertext FROM blobs`, &sqlitex.ExecOptions{
		ResultFunc: func(s *sqlite.Stmt) error {
			row := blob{subject: domain.Subject(s.ColumnText(0)), mac: s.ColumnText(1), keyID: s.ColumnText(2), size: s.ColumnInt(3)}
			if !s.ColumnIsNull(5) {
				row.nonce, row.sealed = columnBytes(s, 4), columnBytes(s, 5)
			}
			return visit(row)
		},
	})
}
