package vault

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// maxBatch is how many jobs share one transaction at most.
const maxBatch = 256

// job is one change of the database. The writer does all that wait in one transaction, in order.
type job struct {
	do    func(*sqlite.Conn) error // an error undoes the whole batch
	after func()                   // runs in the writer once the batch is durable
	scrub bool                     // no older page may be left when it is done
	done  chan error
}

// submit waits until j is durable. When ctx ends first it may still happen.
func (v *Vault) submit(ctx context.Context, j *job) error { return v.submitTo(ctx, v.jobs, j) }

// submitAlone is submit for a job that shares its transaction with nobody, and while nobody reads a
// wrapped key.
func (v *Vault) submitAlone(ctx context.Context, j *job) error { return v.submitTo(ctx, v.alone, j) }

func (v *Vault) submitTo(ctx context.Context, queue chan<- *job, j *job) error {
	j.done = make(chan error, 1)
	select {
	case queue <- j:
	case <-v.closing:
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
func (v *Vault) write(conn *sqlite.Conn) {
	defer close(v.stopped)
	sweep := time.NewTicker(cacheTTL)
	defer sweep.Stop()
	var broken error
	for {
		select {
		case <-v.closing:
			v.closeErr = conn.Close()
			return
		case <-sweep.C:
			v.cache.sweep(v.clock())
		case j := <-v.alone:
			v.mu.Lock()
			broken = v.commit(conn, []*job{j}, broken)
			v.mu.Unlock()
		case j := <-v.jobs:
			broken = v.commit(conn, v.gather(j), broken)
		}
	}
}

// gather takes what else is waiting.
func (v *Vault) gather(first *job) []*job {
	batch := []*job{first}
	for len(batch) < maxBatch {
		select {
		case j := <-v.jobs:
			batch = append(batch, j)
		default:
			return batch
		}
	}
	return batch
}

// commit does a batch, unless the writer is broken, and answers everybody in it. It returns why the
// writer is broken now.
func (v *Vault) commit(conn *sqlite.Conn, batch []*job, broken error) error {
	err, scrubErr := broken, error(nil)
	if err == nil {
		err = inTransaction(conn, batch)
	}
	if err == nil {
		scrubErr = settle(conn, batch)
	}
	for _, e := range []error{err, scrubErr} {
		if broken == nil && sqlite.ErrCode(e).ToPrimary() == sqlite.ResultIOErr {
			broken = fmt.Errorf("vault stopped writing, restart the program: %w", e)
		}
	}
	for _, j := range batch {
		if err == nil && j.scrub {
			j.done <- scrubErr
			continue
		}
		j.done <- err
	}
	return broken
}

// settle does what follows once a batch is durable; one scrub serves all.
func settle(conn *sqlite.Conn, batch []*job) error {
	wanted := false
	for _, j := range batch {
		wanted = wanted || j.scrub
		if j.after != nil {
			j.after()
		}
	}
	if !wanted {
		return nil
	}
	return scrub(conn)
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
