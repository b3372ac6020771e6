package projections

import (
	"iter"
	"slices"
	"sync"

	"ledgerline/domain"
)

// Limits of what stands between the log and the rows.
const (
	chunkEvents = 512
	chunksAhead = 8
	batchBytes  = 8 << 20 // payload of one batch
)

// chunk is some decoded facts in order, or the end of the log with its reason (nil: the present end).
type chunk struct {
	facts []Fact
	bytes int
	end   bool
	err   error
}

// inBatches scans events in one goroutine, decodes them in a second, and hands them on in batches: what is
// there when the batch before is done, at most most events. It returns the error of batch or of events,
// nil at their end, after both goroutines have ended; stop must end events. pace may wait before what is there is taken.
func inBatches(events iter.Seq2[domain.Recorded, error], stop func(), most int, pace func(), batch func([]Fact) error) error {
	raw, decoded := make(chan domain.Recorded, 4*chunkEvents), make(chan chunk, chunksAhead)
	spare := make(chan []Fact, chunksAhead) // to gather into again
	quit := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	defer close(quit)

	var scanErr error // read after raw is closed
	wg.Go(func() {
		defer close(raw)
		for r, err := range events {
			if err != nil {
				scanErr = err
				return
			}
			select {
			case raw <- r:
			case <-quit:
				return
			}
		}
	})
	wg.Go(func() {
		for {
			var into []Fact
			select {
			case into = <-spare:
			default:
			}
			c, open := gather(raw, into)
			if !open {
				c.end, c.err = true, scanErr
			}
			select {
			case decoded <- c:
			case <-quit:
				return
			}
			if !open {
				return
			}
		}
	})
	var all []Fact
	for {
		c, bytes := <-decoded, 0
		all = all[:0]
		pace()
		// Take what else is there, unless that makes too big a transaction.
		for more := true; more; {
			all, bytes = append(all, c.facts...), bytes+c.bytes
			reuse(spare, c.facts)
			if c.end || len(all) >= most || bytes >= batchBytes {
				break
			}
			select {
			case c = <-decoded:
			default:
				more = false
			}
		}
		for facts := range slices.Chunk(all, most) {
			if err := batch(facts); err != nil {
				return err
			}
		}
		clear(all)
		if c.end {
			return c.err
		}
	}
}

// reuse offers the facts' memory, without what the facts held on to.
func reuse(spare chan<- []Fact, facts []Fact) {
	clear(facts)
	select {
	case spare <- facts[:0]:
	default:
	}
}

// gather waits for one event, takes what else has come, and decodes it all, into the memory given; open is
// false when no more come.
func gather(raw <-chan domain.Recorded, into []Fact) (c chunk, open bool) {
	c.facts = into
	r, open := <-raw
	for open {
		c.facts, c.bytes = append(c.facts, NewFact(r)), c.bytes+len(r.Data)+len(r.Metadata)
		if len(c.facts) == chunkEvents {
			return c, true
		}
		select {
		case r, open = <-raw:
		default:
			return c, true
		}
	}
	return c, false
}
