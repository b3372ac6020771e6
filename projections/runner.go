package projections

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"ledgerline/domain"
)

// Options set up a Runner. Log, Store and Now must be set.
type Options struct {
	Log         Log
	Store       Store
	Projections []Projection     // usually All()
	Now         func() time.Time // the lag is measured with it
	// Batch is the most events one transaction holds; 0 means 4096.
	Batch int
	// OnCommit, if set, is told which streams the next commit changes, before readers can see it; an OnChange follows,
	// unless the commit fails. Whoever keeps rows in memory drops them then, or a reader that has seen the commit could
	// be answered from before it.
	OnCommit func(streams []domain.StreamID)
	// OnChange, if set, is told of every commit that readers can see, in order and before WaitFor returns for
	// it, so that what is kept in memory is never older than a position waited for; from the runner's goroutine:
	// it must be quick.
	OnChange func(Change)
}

// Change is what one commit changed. All: anything may have changed (a generation was put in place).
type Change struct {
	Position  domain.Position
	Streams   []domain.StreamID // each once
	Destroyed []domain.Subject  // whose keys were destroyed
	All       bool
}

// Stats is how the runner is doing.
type Stats struct {
	Position domain.Position // what readers see
	Head     domain.Position // of the log
	// Lag is for how long at least an event has stood in the log that readers do not see yet, as far as
	// calls of Stats have noticed; 0 when caught up.
	Lag        time.Duration
	Events     uint64 // applied since the start, rebuilds included
	Unknown    uint64 // of these, of a type not in the catalogue
	Undecoded  uint64 // of these, known but not decodable
	Rebuilds   uint64
	Rebuilding bool
	// Problem tells what the runner is retrying or working round; empty when all is well.
	Problem string
}

// Runner keeps the views up to date: it owns the served generation and the one being built beside it. All
// methods are safe for concurrent use; Run is called once.
type Runner struct {
	opts  Options
	plan  Plan
	fresh *Freshness

	apply sync.Mutex // one commit, or one change of generation, at a time
	live  Generation // nil while nothing can be updated; guarded by apply
	ended time.Time  // when follow's last commit did; its own
	quick *rate.Limiter

	// What open found; its own, for it may have to ask the log several times.
	opened, current bool
	found           Generation

	mu        sync.Mutex
	waiting   int               // who waits for seen and is not patient
	hurry     chan struct{}     // capacity 1: somebody has begun to wait
	seen      Mark              // of the live generation
	moved     chan struct{}     // closed when seen changes
	problems  map[string]string // by what was being done
	rebuild   chan struct{}     // asks Run for a rebuild
	rebuilt   chan struct{}     // closed when the next rebuild has been put in place
	behindAt  time.Time         // when Stats first saw seen before behind; zero when it has been reached
	behind    domain.Position
	ready     chan struct{}
	readyOnce sync.Once

	events, unknown, undecoded, rebuilds atomic.Uint64
	rebuilding                           atomic.Bool
}

// NewRunner makes a runner; Run starts it.
func NewRunner(o Options) *Runner {
	return &Runner{opts: o, plan: NewPlan(o.Projections), fresh: newFreshness(), moved: make(chan struct{}), problems: make(map[string]string),
		hurry: make(chan struct{}, 1), quick: rate.NewLimiter(quickCommits, quickAtOnce), rebuild: make(chan struct{}, 1), rebuilt: make(chan struct{}), ready: make(chan struct{})}
}

// Freshness tells whether configuration files are current, as far as the views have come.
func (r *Runner) Freshness() *Freshness { return r.fresh }

// Ready is closed once the views have passed the position that was the head of the log when Run began.
func (r *Runner) Ready() <-chan struct{} { return r.ready }

// Position is how far the rows that readers see have come.
func (r *Runner) Position() domain.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen.Position
}

// WaitFor returns nil once readers see position at, and ctx's error if that ends first.
func (r *Runner) WaitFor(ctx context.Context, at domain.Position) error {
	for waits := false; ; {
		r.mu.Lock()
		seen, moved := r.seen.Position, r.moved
		if seen.Before(at) && !waits && !isPatient(ctx) {
			waits = true
			r.waiting++
			defer r.waited()
			select {
			case r.hurry <- struct{}{}:
			default:
			}
		}
		r.mu.Unlock()
		if !seen.Before(at) {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for the views to reach position %s: %w", at, ctx.Err())
		}
	}
}

func (r *Runner) waited() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting--
}

type patientKey struct{}

// Patient returns a context whose WaitFor does not hurry commits: of work that nobody waits for.
func Patient(ctx context.Context) context.Context { return context.WithValue(ctx, patientKey{}, true) }

func isPatient(ctx context.Context) bool { return ctx.Value(patientKey{}) != nil }

// A commit costs more than most events. So many a second, and so many at once, come as soon as there is something to commit;
// beyond that there is a rest before each while nobody waits. What is recorded now and then is shown at once.
const (
	quickCommits = 20
	quickAtOnce  = 60
	rest         = 20 * time.Millisecond
)

// pace lets more events come into the next commit, unless somebody waits for it.
func (r *Runner) pace(ctx context.Context) {
	if r.quick.Allow() {
		return
	}
	over := time.NewTimer(time.Until(r.ended.Add(rest)))
	defer over.Stop()
	for {
		r.mu.Lock()
		waiting := r.waiting
		r.mu.Unlock()
		if waiting > 0 {
			return
		}
		select {
		case <-r.hurry:
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// Rebuild folds all views anew from the log beside those being served, puts the new ones in their place and
// returns. It needs Run; it returns ctx's error if that ends first, and the rebuild goes on.
func (r *Runner) Rebuild(ctx context.Context) error {
	r.mu.Lock()
	rebuilt := r.rebuilt
	r.mu.Unlock()
	r.askRebuild()
	select {
	case <-rebuilt:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Runner) askRebuild() {
	select {
	case r.rebuild <- struct{}{}:
	default: // one is due already
	}
}

// Stats asks the log for its head and tells how the runner is doing.
func (r *Runner) Stats(ctx context.Context) (Stats, error) {
	head, err := r.opts.Log.Head(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Stats{Position: r.seen.Position, Head: head, Events: r.events.Load(), Unknown: r.unknown.Load(), Undecoded: r.undecoded.Load(),
		Rebuilds: r.rebuilds.Load(), Rebuilding: r.rebuilding.Load(), Problem: describe(r.problems)}
	switch {
	case !s.Position.Before(head):
	case r.behindAt.IsZero():
		r.behindAt, r.behind = r.opts.Now(), head
	default:
		s.Lag = r.opts.Now().Sub(r.behindAt)
	}
	return s, err
}

// Run follows the log until ctx ends, and returns nil then: it puts the newest generation in place, builds
// one if there is none or it does not fit, and goes on over every drop, error and damage with growing pauses.
func (r *Runner) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.retry(ctx, "open the views", r.open)
	wg.Go(func() { r.watchReady(ctx) })
	wg.Go(func() { r.rebuilder(ctx) })
	for ctx.Err() == nil {
		r.retry(ctx, "follow the log", r.follow)
	}
	return nil
}

// retry calls f until it succeeds or ctx ends.
func (r *Runner) retry(ctx context.Context, doing string, f func(context.Context) error) {
	const shortest, longest = 50 * time.Millisecond, 5 * time.Second
	for pause := shortest; ctx.Err() == nil; pause = min(2*pause, longest) {
		before := r.events.Load()
		err := f(ctx)
		r.report(ctx, doing, err)
		if err == nil {
			return
		}
		if r.events.Load() != before { // it got on: start with short pauses again
			pause = shortest
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func (r *Runner) report(ctx context.Context, doing string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		delete(r.problems, doing)
	case ctx.Err() == nil:
		r.problems[doing] = err.Error()
	}
}

func describe(problems map[string]string) string {
	var lines []string
	for _, doing := range slices.Sorted(maps.Keys(problems)) {
		lines = append(lines, doing+": "+problems[doing])
	}
	return strings.Join(lines, "; ")
}

// open puts the newest generation in place, if it is one of this plan and of this log.
func (r *Runner) open(ctx context.Context) error {
	r.apply.Lock()
	defer r.apply.Unlock()
	if !r.opened { // once: what is open must not be opened again
		g, current, err := r.opts.Store.Open(ctx, r.plan)
		if err != nil {
			return err
		}
		r.opened, r.found, r.current = true, g, current
	}
	g := r.found
	if g == nil {
		r.askRebuild()
		return nil
	}
	same, err := r.sameLog(ctx, g.Mark())
	if err != nil {
		return err
	}
	if !same {
		r.askRebuild()
		return r.opts.Store.Discard(g)
	}
	if !r.current { // it serves what it can until the new one is there
		r.askRebuild()
		return nil
	}
	err = r.serve(ctx, g)
	if errors.Is(err, ErrDamagedViews) {
		r.askRebuild()
		return nil
	}
	return err
}

// sameLog tells whether the event at the mark is still the one the rows were made from; it is not after an
// older backup of the log was put back.
func (r *Runner) sameLog(ctx context.Context, m Mark) (bool, error) {
	if m.Position.IsZero() {
		return true, nil
	}
	for e, err := range r.opts.Log.ReadAll(ctx, m.Before) {
		if err != nil {
			return false, err
		}
		return e.Position == m.Position && e.ID.String() == m.EventID, nil
	}
	return false, nil
}

// serve makes g the generation that follow updates. apply is held.
func (r *Runner) serve(ctx context.Context, g Generation) error {
	if err := r.fresh.load(ctx, r.opts.Store); err != nil {
		return fmt.Errorf("load the heads of shared inputs: %w", err)
	}
	r.live = g
	r.changed(Change{Position: g.Mark().Position, All: true})
	r.advance(g.Mark())
	return nil
}

func (r *Runner) changed(c Change) {
	if r.opts.OnChange != nil {
		r.opts.OnChange(c)
	}
}

// advance lets waiters see how far readers now see.
func (r *Runner) advance(m Mark) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = m
	if !m.Position.Before(r.behind) {
		r.behindAt = time.Time{}
	}
	close(r.moved)
	r.moved = make(chan struct{})
}

func (r *Runner) watchReady(ctx context.Context) {
	var head domain.Position
	r.retry(ctx, "ask for the head of the log", func(ctx context.Context) (err error) {
		head, err = r.opts.Log.Head(ctx)
		return err
	})
	if ctx.Err() == nil && r.WaitFor(ctx, head) == nil {
		r.readyOnce.Do(func() { close(r.ready) })
	}
}

// follow feeds the live generation from its mark on, until something fails. With no live generation it
// waits for one.
func (r *Runner) follow(ctx context.Context) error {
	r.mu.Lock()
	moved := r.moved
	r.mu.Unlock()
	r.apply.Lock()
	g := r.live
	r.apply.Unlock()
	if g == nil {
		select {
		case <-moved:
		case <-ctx.Done():
		}
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return inBatches(r.opts.Log.Subscribe(ctx, g.Mark().Position), cancel, r.batch(), func() { r.pace(ctx) }, func(facts []Fact) error {
		r.apply.Lock()
		defer r.apply.Unlock()
		if r.live == nil {
			return ErrNotReady
		}
		defer func() { r.ended = time.Now() }()
		if r.opts.OnCommit != nil {
			r.opts.OnCommit(streams(facts))
		}
		facts, err := r.update(ctx, r.live, facts)
		if errors.Is(err, ErrDamagedViews) {
			r.damaged()
		}
		if err != nil || len(facts) == 0 {
			return err
		}
		r.fresh.note(facts)
		if r.opts.OnChange != nil {
			r.changed(Change{Position: r.live.Mark().Position, Streams: streams(facts), Destroyed: destroyed(facts)})
		}
		r.advance(r.live.Mark())
		return nil
	})
}

func (r *Runner) batch() int {
	if r.opts.Batch > 0 {
		return r.opts.Batch
	}
	return 4096
}

// damaged gives the live generation up as far as updates go; queries that still work are answered until
// the new one is in place. apply is held.
func (r *Runner) damaged() {
	r.live = nil
	r.askRebuild()
}

// update folds what g does not hold yet of facts into it, in one transaction, and returns that part.
func (r *Runner) update(ctx context.Context, g Generation, facts []Fact) ([]Fact, error) {
	before := g.Mark().Position
	last, fresh := before, 0
	for i := range facts {
		if !last.Before(facts[i].Position) {
			continue
		}
		last = facts[i].Position
		if fresh != i {
			facts[fresh] = facts[i]
		}
		fresh++
	}
	facts = facts[:fresh]
	if len(facts) == 0 {
		return nil, nil
	}
	err := g.Update(ctx, func(tx Tx) (Mark, error) {
		for i := range facts {
			f := &facts[i]
			for _, p := range r.opts.Projections {
				if err := p.Apply(tx, f); err != nil {
					return Mark{}, fmt.Errorf("apply event %d of %s to %s: %w", f.Revision, f.Stream, p.Name(), err)
				}
			}
		}
		latest := &facts[len(facts)-1]
		if len(facts) > 1 {
			before = facts[len(facts)-2].Position
		}
		return Mark{Position: latest.Position, Before: before, EventID: latest.ID.String(), At: latest.At}, nil
	})
	if err != nil {
		return nil, err
	}
	r.count(facts)
	return facts, nil
}

func (r *Runner) count(facts []Fact) {
	r.events.Add(uint64(len(facts)))
	for i := range facts {
		switch {
		case facts[i].Err != nil:
			r.undecoded.Add(1)
		case !facts[i].Known():
			r.unknown.Add(1)
		}
	}
}

func streams(facts []Fact) []domain.StreamID {
	seen := make(map[domain.StreamID]bool, len(facts))
	var out []domain.StreamID
	for i := range facts {
		if s := facts[i].Stream; !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

func destroyed(facts []Fact) (subjects []domain.Subject) {
	for i := range facts {
		if e, ok := facts[i].Event.(domain.KeyDestroyed); ok {
			subjects = append(subjects, e.Subject)
		}
	}
	return subjects
}

// rebuilder carries out rebuilds, one at a time, as they are asked for.
func (r *Runner) rebuilder(ctx context.Context) {
	for {
		select {
		case <-r.rebuild:
			r.retry(ctx, "rebuild the views", r.rebuildOnce)
		case err := <-r.opts.Store.Damaged():
			r.report(ctx, "read the views", err)
			r.apply.Lock()
			r.damaged()
			r.apply.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// rebuildOnce folds a new generation up to the head of the log while the old one goes on, takes the last
// steps with the old one standing still, and puts it in place.
func (r *Runner) rebuildOnce(ctx context.Context) (err error) {
	r.rebuilding.Store(true)
	defer r.rebuilding.Store(false)
	g, err := r.opts.Store.Build(ctx, r.plan)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.opts.Store.Discard(g))
		}
	}()
	for {
		before := g.Mark().Position
		if err := r.catchUp(ctx, g); err != nil {
			return err
		}
		head, err := r.opts.Log.Head(ctx)
		if err != nil {
			return err
		}
		if !g.Mark().Position.Before(head) || g.Mark().Position == before {
			break
		}
	}
	r.apply.Lock()
	defer r.apply.Unlock()
	if err := r.catchUp(ctx, g); err != nil {
		return err
	}
	if r.live != nil && g.Mark().Position.Before(r.live.Mark().Position) {
		return fmt.Errorf("read the log up to %s: it ends at %s", r.live.Mark().Position, g.Mark().Position)
	}
	if err := r.opts.Store.Serve(ctx, g); err != nil {
		return err
	}
	if err := r.serve(ctx, g); err != nil {
		return err
	}
	r.rebuilds.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.rebuilt)
	r.rebuilt = make(chan struct{})
	return nil
}

func (r *Runner) catchUp(ctx context.Context, g Generation) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return inBatches(r.opts.Log.ReadAll(ctx, g.Mark().Position), cancel, r.batch(), func() {}, func(facts []Fact) error {
		_, err := r.update(ctx, g, facts)
		return err
	})
}
