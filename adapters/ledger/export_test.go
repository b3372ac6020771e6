package ledger

import (
	"context"
)

// Exec runs SQL in the writer's next transaction.
func (l *Ledger) Exec(ctx context.Context, query string) error { return l.exec(ctx, query) }

// LocalType is what decides over a file system by its number.
var LocalType = localType
