package ledger

import (
	"context"
	"runtime"

	"zombiezen.com/go/sqlite"
)

// Exec runs SQL in the writer's next transaction.
func (l *Ledger) Exec(ctx context.Context, query string) error { return l.exec(ctx, query) }

// Batch puts what the functions append, in their order, into one transaction: it holds the writer until
// all wait behind it. It returns when the functions have.
func (l *Ledger) Batch(ctx context.Context, appends ...func()) {
	held, release, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		_, _ = l.write(ctx, &request{do: func(*sqlite.Conn) error {
			close(held)
			<-release
			return nil
		}})
		ended <- struct{}{}
	}()
	<-held
	for i, do := range appends {
		go func() {
			do()
			ended <- struct{}{}
		}()
		for len(l.writer.queue) <= i {
			runtime.Gosched()
		}
	}
	close(release)
	for range len(appends) + 1 {
		<-ended
	}
}

// LocalType is what decides over a file system by its number.
var LocalType = localType
