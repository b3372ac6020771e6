package views

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"ledgerline/domain"
	"ledgerline/projections"
)

// PastOptions set up a Past. Dir and Log must be set.
type PastOptions struct {
	// Dir is the folder the snapshots live in, one folder each, named by position. It is made when needed.
	Dir string
	Log projections.Log
	// Keep is how many snapshots nobody is reading are kept; 0 means 4, less than 0 all of them.
	Keep int
}

// Past answers what the views said at earlier positions. The views as of one position are a snapshot: a
// folder of views that the log was folded into up to there, beginning with the latest snapshot before. What is
// asked for again soon is there already, and what was asked for longest ago is dropped. Snapshots are as
// disposable as views, and hold no more than those do. Safe for concurrent use.
type Past struct {
	opts PastOptions
	turn chan struct{} // one folds at a time

	ctx     context.Context
	stop    context.CancelFunc
	folding sync.WaitGroup

	mu   sync.Mutex
	kept map[domain.Position]*snapshot
}

// snapshot is the views as of one position. store and err may be read once done is closed.
type snapshot struct {
	done    chan struct{}
	store   *Store
	err     error
	readers int // guarded by Past.mu, as used
	used    time.Time
}

// NewPast makes a Past; the caller closes it before the log.
func NewPast(o PastOptions) *Past {
	if o.Keep == 0 {
		o.Keep = 4
	}
	p := &Past{opts: o, turn: make(chan struct{}, 1), kept: make(map[domain.Position]*snapshot)}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// At returns the views as they stood once the event at position at was folded; release must be called when
// they have been read. If ctx ends first the folding goes on, so that asking again later finds it further.
func (p *Past) At(ctx context.Context, at domain.Position) (q projections.Querier, release func(), err error) {
	p.mu.Lock()
	s, ok := p.kept[at]
	if !ok {
		s = &snapshot{done: make(chan struct{})}
		p.kept[at] = s
		p.folding.Go(func() { p.make(at, s) })
	}
	s.readers++
	p.mu.Unlock()
	release = sync.OnceFunc(func() { p.leave(s) })
	select {
	case <-s.done:
		err = s.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		release()
		return nil, nil, fmt.Errorf("fold the log up to %s: %w", at, err)
	}
	return s.store, release, nil
}

func (p *Past) leave(s *snapshot) {
	p.mu.Lock()
	s.readers--
	s.used = time.Now()
	p.mu.Unlock()
	p.drop()
}

// Close waits for readers and for what is being folded, which is given up.
func (p *Past) Close() error {
	p.stop()
	p.folding.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, s := range p.kept {
		if s.store != nil {
			errs = append(errs, s.store.Close())
		}
	}
	clear(p.kept)
	return errors.Join(errs...)
}

// make folds s and lets those who wait have it. One that fails is forgotten: who asks again tries again.
func (p *Past) make(at domain.Position, s *snapshot) {
	select {
	case p.turn <- struct{}{}:
		s.store, s.err = p.fold(p.ctx, at)
		<-p.turn
	case <-p.ctx.Done():
		s.err = p.ctx.Err()
	}
	if s.err != nil {
		p.mu.Lock()
		delete(p.kept, at)
		p.mu.Unlock()
	}
	close(s.done)
}

// fold makes the folder of a position complete, whole or not at all, and opens it.
func (p *Past) fold(ctx context.Context, at domain.Position) (*Store, error) {
	place := filepath.Join(p.opts.Dir, at.String())
	if _, err := os.Stat(place); errors.Is(err, fs.ErrNotExist) {
		if err := p.begin(ctx, at, place); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	// What was kept from before may be of another log or another program: then it is made anew in place.
	return Fold(ctx, p.opts.Log, at, place)
}

// begin folds into a folder beside place, from the latest snapshot before at, and puts it there.
func (p *Past) begin(ctx context.Context, at domain.Position, place string) error {
	if err := os.MkdirAll(p.opts.Dir, 0o700); err != nil {
		return err
	}
	half, err := os.MkdirTemp(p.opts.Dir, ".half-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(half)
	found, err := p.onDisk()
	if err != nil {
		return err
	}
	if i, _ := slices.BinarySearchFunc(found, at, domain.Position.Compare); i > 0 {
		if err := copyViews(half, filepath.Join(p.opts.Dir, found[i-1].String())); err != nil {
			return err
		}
	}
	store, err := Fold(ctx, p.opts.Log, at, half)
	if err != nil {
		return err
	}
	if err := store.Close(); err != nil {
		return err
	}
	if err := os.Rename(half, place); !errors.Is(err, fs.ErrExist) { // another process was faster
		return err
	}
	return nil
}

// onDisk are the positions there are folders of, in order.
func (p *Past) onDisk() ([]domain.Position, error) {
	entries, err := os.ReadDir(p.opts.Dir)
	if err != nil {
		return nil, err
	}
	var found []domain.Position
	for _, e := range entries {
		if at, err := domain.ParsePosition(e.Name()); err == nil {
			found = append(found, at)
		}
	}
	slices.SortFunc(found, domain.Position.Compare)
	return found, nil
}

// drop removes what nobody reads beyond what is kept, the longest unused first.
func (p *Past) drop() {
	if p.opts.Keep < 0 {
		return
	}
	type idle struct {
		at domain.Position
		*snapshot
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []idle
	for at, s := range p.kept {
		if s.readers == 0 && s.store != nil {
			all = append(all, idle{at, s})
		}
	}
	slices.SortFunc(all, func(a, b idle) int { return a.used.Compare(b.used) })
	for _, s := range all[:max(0, len(all)-p.opts.Keep)] {
		delete(p.kept, s.at)
		// Left-over files cost room only; whoever asks for the position again uses or replaces them.
		_ = s.store.Close()
		_ = os.RemoveAll(filepath.Join(p.opts.Dir, s.at.String()))
	}
}

// copyViews copies the newest file of views in from to the folder to. A file that readers have open is not
// written to but beside (its write-ahead log), so its bytes are of one moment.
func copyViews(to, from string) error {
	numbers, err := (&Store{opts: Options{Dir: from}}).numbers()
	if err != nil || len(numbers) == 0 {
		return err
	}
	name := filepath.Base((&Store{}).path(numbers[0]))
	in, err := os.Open(filepath.Join(from, name))
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(to, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// Fold brings the views in dir to position until of log, or to its end before that, building them if there are
// none that fit, and opens them. The caller closes the store.
func Fold(ctx context.Context, log projections.Log, until domain.Position, dir string) (*Store, error) {
	store, err := Open(ctx, Options{Dir: dir})
	if err != nil {
		return nil, err
	}
	served := make(chan struct{}, 1) // rows can be read; of an empty log there is no position to wait for
	prefix := &prefixLog{Log: log, until: until, ended: make(chan domain.Position, 1)}
	runner := projections.NewRunner(projections.Options{Log: prefix, Store: store, Projections: projections.All(), Now: time.Now,
		OnChange: func(projections.Change) {
			select {
			case served <- struct{}{}:
			default:
			}
		}})
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	select {
	case <-served:
		select {
		case last := <-prefix.ended:
			err = runner.WaitFor(ctx, last)
		case <-ctx.Done():
			err = ctx.Err()
		}
	case <-ctx.Done():
		err = ctx.Err()
	}
	stop()
	if err := errors.Join(err, <-done); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return store, nil
}

// prefixLog is a log that ends at a position.
type prefixLog struct {
	projections.Log
	until domain.Position
	ended chan domain.Position // the last event that a subscription has come to, or begun behind
}

func (p *prefixLog) Head(ctx context.Context) (domain.Position, error) {
	head, err := p.Log.Head(ctx)
	if p.until.Before(head) {
		head = p.until
	}
	return head, err
}

func (p *prefixLog) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for r, err := range p.Log.ReadAll(ctx, after) {
			if err == nil && p.until.Before(r.Position) || !yield(r, err) {
				return
			}
		}
	}
}

func (p *prefixLog) Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		last := after
		for r, err := range p.ReadAll(ctx, after) {
			if !yield(r, err) || err != nil {
				return
			}
			last = r.Position
		}
		select {
		case p.ended <- last:
		default:
		}
		<-ctx.Done()
		yield(domain.Recorded{}, ctx.Err())
	}
}
