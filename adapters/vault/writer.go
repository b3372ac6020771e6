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
	do        func(*sqlite.Conn) error // an error undoes the whole batch
	after     func()                   // runs in the writer once the batch is durable
	scrub     bool                     // no older page may be left when it is done
	exclusive bool                     // nobody may read a wrapped key meanwhile
	done      chan error
}

// submit waits until j is durable. When ctx ends first it may still happen.
func (v *Vault) submit(ctx context.Context, j *job) error {
	j.done = make(chan error, 1)
	select {
	case v.jobs <- j:
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
		case j := <-v.jobs:
			batch := v.gather(j)
			if broken == nil {
				broken = v.commit(conn, batch)
				continue
			}
			for _, j := range batch {
				j.done <- broken
			}
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

// commit does a batch and answers everybody in it. It returns an error if the writer must stop.
func (v *Vault) commit(conn *sqlite.Conn, batch []*job) (broken error) {
	err := v.transact(conn, batch)
	var scrubErr error
	for _, j := range batch {
		if err == nil && j.scrub {
			scrubErr = scrub(conn)
			break
		}
	}
	for _, e := range []error{err, scrubErr} {
		if sqlite.ErrCode(e).ToPrimary() == sqlite.ResultIOErr {
			broken = fmt.Errorf("vault stopped writing, restart the program: %w", e)
		}
	}
	for _, j := range batch {
		answer := err
		if err == nil && j.scrub {
			answer = scrubErr
		}
		j.done <- answer
	}
	return broken
}

func (v *Vault) transact(conn *sqlite.Conn, batch []*job) error {
	for _, j := range batch {
		if j.exclusive {
			v.mu.Lock()
			defer v.mu.Unlock()
			break
		}
	}
	if err := inTransaction(conn, batch); err != nil {
		return err
	}
	for _, j := range batch {
		if j.after != nil {
			j.after()
		}
	}
	return nil
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
