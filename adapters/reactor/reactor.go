package reactor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// Options is what a Reactor works with. Zero values of the numbers mean the default in parentheses.
type Options struct {
	Log       commands.Log
	Store     commands.ReactorStore
	Service   *commands.Service
	Reactions []commands.Reaction
	// From is the flag --reactor-from: where a reaction begins of which no position was ever saved.
	From From
	// Lanes (4), Window (1024), Attempts (8), Backoff and Grace (5 s) are those of Config, per reaction.
	Lanes    int
	Window   int
	Attempts int
	Backoff  func(n int) time.Duration
	Grace    time.Duration
	// Timeout bounds one attempt (1 min).
	Timeout time.Duration
	// Leases, if not nil, is where several replicas agree which of them runs the table (D8); Holder is this
	// one's name among them, unlike any other process's. LeaseTTL (10 s) is how long a dead one is waited for.
	Leases   commands.Leases
	Holder   string
	LeaseTTL time.Duration
	// Groups, if not nil, carries out the rows that are Shared, on every replica at once, whoever has the lease.
	Groups commands.Groups
	// Registerer, if not nil, gets the metrics ledgerline_reaction_*.
	Registerer prometheus.Registerer
}

// Reactor runs a table of reactions. Make it with New, call Prepare before anything is appended to a new
// log, then Run once. All methods are safe for concurrent use.
type Reactor struct {
	opt    Options
	rows   map[string]commands.Reaction // in order, by whoever has the lease
	shared map[string]*shared           // by the store's groups
	leads  atomic.Bool

	mu      sync.Mutex
	sub     *Subscriber   // of this tenure, the last, or the first to come
	used    bool          // sub has delivered, or does
	started chan struct{} // closed once every reaction of sub is subscribed
	ended   chan struct{} // closed when Run is over
	ran     bool
}

// ErrBadReaction: a row of the table is not complete, or two have one name.
var ErrBadReaction = errors.New("reaction needs a name of its own, events, a key and something to do, and cannot be held and also shared or only of the latest")

// New checks the table. Errors: ErrBadReaction, ErrBadFrom, or the Registerer's.
func New(o Options) (*Reactor, error) {
	r := &Reactor{opt: o, rows: make(map[string]commands.Reaction, len(o.Reactions)), shared: map[string]*shared{}, started: make(chan struct{}), ended: make(chan struct{})}
	feeds := make(map[string]Feed, len(o.Reactions))
	for _, row := range o.Reactions {
		if _, twice := r.rows[row.Name]; twice || row.Name == "" || len(row.On) == 0 || row.Key == nil || row.Do == nil || row.Hold && (row.Shared || row.Latest) {
			return nil, fmt.Errorf("reaction %q: %w", row.Name, ErrBadReaction)
		}
		r.rows[row.Name] = row
		feeds[row.Name] = feedOf(row)
	}
	for _, row := range r.sharedRows() {
		r.shared[row.Name] = &shared{r: r, row: row, stats: Status{Reaction: row.Name}}
		delete(r.rows, row.Name)
	}
	r.opt.Timeout = cmp.Or(max(o.Timeout, 0), time.Minute)
	r.opt.LeaseTTL = cmp.Or(max(o.LeaseTTL, 0), leaseTTL)
	var err error
	r.sub, err = NewSubscriber(Config{
		Log: o.Log, Store: o.Store, From: o.From, Lanes: o.Lanes, Window: o.Window, Attempts: o.Attempts, Backoff: o.Backoff, Grace: o.Grace,
		Feed: func(topic string) (Feed, error) {
			if f, ok := feeds[topic]; ok {
				return f, nil
			}
			return Feed{}, fmt.Errorf("%q: %w", topic, ErrNoReaction)
		},
	})
	if err != nil {
		return nil, err
	}
	if o.Registerer != nil {
		if err := o.Registerer.Register(collector{r}); err != nil {
			return nil, fmt.Errorf("register reaction metrics: %w", err)
		}
	}
	return r, nil
}

func feedOf(row commands.Reaction) Feed {
	on := make(map[string]bool, len(row.On))
	for _, name := range row.On {
		on[name] = true
	}
	return Feed{Name: row.Name, Wants: func(r domain.Recorded) bool { return on[r.Type] }, Key: row.Key, Hold: row.Hold, Moot: row.Moot, Latest: row.Latest}
}

// Prepare settles where every reaction begins, durably. On an empty log that is the start; call it before
// the first append, or the log is no longer empty. Run calls it too. The error joins one ErrNoPosition,
// with its name, for each reaction that cannot begin.
func (r *Reactor) Prepare(ctx context.Context) error {
	var errs []error
	for _, row := range r.opt.Reactions {
		_, err := r.subscriber().position(ctx, row.Name)
		if err == nil && r.shared[row.Name] != nil {
			err = r.ensureGroup(ctx, row)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Run delivers until ctx ends, then lets what is under way finish (at most about three times Grace) and
// returns nil; with Leases, whenever it has the lease. It runs once. It logs to the zerolog logger of ctx, one
// info line per run of a reaction, and hands it on to commands. Errors: ErrNoPosition, the store's at start, ErrClosed on a second call.
func (r *Reactor) Run(ctx context.Context) error {
	r.mu.Lock()
	again := r.ran
	r.ran = true
	r.mu.Unlock()
	if again {
		return fmt.Errorf("run reactor twice: %w", ErrClosed)
	}
	defer close(r.ended)
	if err := r.Prepare(ctx); err != nil {
		return err
	}
	var sharing sync.WaitGroup
	defer sharing.Wait()
	for _, s := range r.shared {
		sharing.Go(func() { s.run(ctx) })
	}
	if r.opt.Leases != nil {
		return r.elected(ctx)
	}
	return r.deliver(ctx)
}

// Leads tells whether reactions run here: always, without Leases, while Run runs; else while it has the lease.
func (r *Reactor) Leads() bool { return r.leads.Load() || r.opt.Leases == nil }

// subscriber is the one of this tenure.
func (r *Reactor) subscriber() *Subscriber {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sub
}

// begin makes a new subscriber unless this is the first tenure, and answers what is closed once it delivers.
func (r *Reactor) begin() (*Subscriber, chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used {
		sub, err := NewSubscriber(r.sub.cfg)
		if err != nil {
			return nil, nil, err
		}
		r.sub, r.started = sub, make(chan struct{})
	}
	r.used = true
	return r.sub, r.started, nil
}

// deliver is one tenure: it delivers until ctx ends.
func (r *Reactor) deliver(ctx context.Context) error {
	sub, started, err := r.begin()
	if err != nil {
		return err
	}
	if len(r.rows) == 0 {
		close(started)
		<-ctx.Done()
		return nil
	}
	router, err := r.router(sub)
	if err != nil {
		return err
	}
	// The router's own context outlives ctx: what is under way is to finish, not to be cut off.
	stopped := make(chan error, 1)
	go func() { stopped <- router.Run(context.WithoutCancel(ctx)) }()
	select {
	case <-router.Running():
		close(started)
	case err := <-stopped:
		return errors.Join(fmt.Errorf("start reactor: %w", err), sub.Close(), router.Close())
	}
	select {
	case <-ctx.Done(): // the subscriber ends first: the router ends by itself once nothing comes any more
		if err := errors.Join(sub.Close(), <-stopped); err != nil {
			return fmt.Errorf("stop reactor: %w", err)
		}
		return nil
	case err := <-stopped:
		return fmt.Errorf("router of reactor stopped: %w", errors.Join(err, sub.Close(), ErrClosed))
	}
}

// router has one handler per reaction. From outside: the verdict is noted for the subscriber, which
// retries and parks (a retry middleware would sleep while it holds the message); a panic becomes an error, so
// that it is retried and parked like one; the attempt is bounded; the correlation id goes on.
func (r *Reactor) router(sub *Subscriber) (*message.Router, error) {
	// The router would log errors with the values of panics; the subscriber logs each run, once, without.
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: sub.cfg.Grace}, watermill.NopLogger{})
	if err != nil {
		return nil, fmt.Errorf("make router: %w", err)
	}
	router.AddMiddleware(verdict, middleware.Recoverer, middleware.Timeout(r.opt.Timeout), middleware.CorrelationID)
	for _, row := range r.rows {
		router.AddConsumerHandler(row.Name, row.Name, sub, r.handler(row))
	}
	return router, nil
}

// verdict leaves the handler's error where the subscriber finds it after the nack.
func verdict(h message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		d := deliveryOf(msg.Context())
		out, err := h(msg)
		d.err = err
		return out, err
	}
}

func (r *Reactor) handler(row commands.Reaction) message.NoPublishHandlerFunc {
	return func(msg *message.Message) error {
		d := deliveryOf(msg.Context())
		ctx := zerolog.Ctx(msg.Context()).With().Str("correlation_id", middleware.MessageCorrelationID(msg)).Logger().WithContext(msg.Context())
		return row.Do(commands.WithCause(projections.Patient(ctx), d.rec, row.Name), r.opt.Service, d.rec, d.event)
	}
}

// running is the subscription of a reaction. Errors: ErrNoReaction, ErrClosed, ErrElsewhere.
func (r *Reactor) running(name string) (*subscription, error) {
	if _, ok := r.rows[name]; !ok {
		return nil, fmt.Errorf("%q: %w", name, ErrNoReaction)
	}
	select {
	case <-r.ended:
		return nil, ErrClosed
	default:
	}
	if s := r.subscriber().named(name); s != nil {
		return s, nil
	}
	if r.opt.Leases != nil {
		return nil, ErrElsewhere
	}
	return nil, ErrClosed
}

// WaitFor waits, for reactions that run here in order, until every reaction has handled (or parked) every event up to p, waiting for Run to
// start if need be. Errors: ErrClosed when the reactor ends first, ctx's own.
func (r *Reactor) WaitFor(ctx context.Context, p domain.Position) error {
	r.mu.Lock()
	started := r.started
	r.mu.Unlock()
	select {
	case <-started:
	case <-r.ended:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("wait for reactor to start: %w", ctx.Err())
	}
	for name := range r.rows {
		s, err := r.running(name)
		if err == nil {
			err = s.wait(ctx, p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Settle waits until nothing is left to react to: every reaction has handled all that is recorded, and
// meanwhile nothing new was recorded. It returns the end of the log at that moment. Errors: WaitFor's.
func (r *Reactor) Settle(ctx context.Context) (domain.Position, error) {
	var at domain.Position
	for {
		var end domain.Position
		for e, err := range r.opt.Log.ReadAll(ctx, at) {
			if err != nil {
				return at, fmt.Errorf("read end of log: %w", err)
			}
			end = e.Position
		}
		if end.IsZero() {
			return at, nil
		}
		at = end
		if err := r.WaitFor(ctx, at); err != nil {
			return at, err
		}
	}
}

// Status tells how every running reaction stands, in the order of the table.
func (r *Reactor) Status() []Status {
	var all []Status
	for _, row := range r.opt.Reactions {
		if s := r.shared[row.Name]; s != nil {
			all = append(all, s.status())
		} else if s := r.subscriber().named(row.Name); s != nil {
			all = append(all, s.status())
		}
	}
	return all
}
