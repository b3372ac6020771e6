package ledger

import (
	"context"

	"zombiezen.com/go/sqlite"
)

// Exec runs SQL in the writer's next transaction.
func (l *Ledger) Exec(ctx context.Context, query string) error { return l.exec(ctx, query) }

// Do runs do in the writer's next transaction.
func (l *Ledger) Do(ctx context.Context, do func(*sqlite.Conn) error) error {
	_, err := l.write(ctx, &request{do: do})
	return err
}

// LocalType is what decides over a file system by its number.
var LocalType = localType

// TailRows is how many rows every start checks.
const TailRows = tailRows
