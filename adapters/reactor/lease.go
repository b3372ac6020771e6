package reactor

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
)

// leaseName is the lease of who runs the table of reactions.
const leaseName = "reactor"

// leaseTTL is how long a lease counts that nobody renews: what a dead replica costs before another goes on.
const leaseTTL = 10 * time.Second

// lease takes, keeps and gives back one lease. It judges time by this machine's own monotonic clock only: what
// it has seen unchanged for the lease's TTL has lapsed, whatever the clocks of others say.
type lease struct {
	store  commands.Leases
	holder string
	ttl    time.Duration
	log    *zerolog.Logger

	at domain.Revision // last one saved by this holder
}

// take waits until the lease is this holder's. It returns when that began, or ctx's error.
func (l *lease) take(ctx context.Context) (since time.Time, err error) {
	seen, seenAt := domain.Revision(-2), time.Time{} // none: no revision is below NoStream
	for {
		now, at, err := l.store.LoadLease(ctx, leaseName)
		if err == nil {
			if at != seen {
				seen, seenAt = at, time.Now()
			}
			if at == domain.NoStream || now.Holder == "" || now.Holder == l.holder || time.Since(seenAt) >= now.TTL {
				since = time.Now()
				if err = l.save(ctx, at, commands.Lease{Holder: l.holder, TTL: l.ttl}); err == nil {
					return since, nil
				}
			}
		}
		if ctx.Err() != nil {
			return since, ctx.Err()
		}
		if err != nil && !errors.Is(err, domain.ErrConflict) {
			l.log.Warn().Err(err).Msg("reactor cannot ask for its lease")
		}
		pause(ctx, l.ttl/10)
	}
}

func (l *lease) save(ctx context.Context, at domain.Revision, v commands.Lease) error {
	err := l.store.SaveLease(ctx, leaseName, at, v)
	if err == nil {
		l.at = at + 1
	}
	return err
}

// keep renews the lease until ctx ends, and returns when it is lost: somebody else has taken it, or it could
// not be renewed in time.
func (l *lease) keep(ctx context.Context, since time.Time) {
	for {
		pause(ctx, l.ttl/3)
		if ctx.Err() != nil {
			return
		}
		begun := time.Now()
		inTime, cancel := context.WithDeadline(ctx, since.Add(l.ttl))
		err := l.save(inTime, l.at, commands.Lease{Holder: l.holder, TTL: l.ttl})
		if err != nil && !errors.Is(err, domain.ErrConflict) && inTime.Err() == nil {
			// It may have been saved all the same: then the next look finds it ours, one further.
			if now, at, loadErr := l.store.LoadLease(inTime, leaseName); loadErr == nil && now.Holder == l.holder {
				l.at = at
			}
		}
		late := inTime.Err() != nil
		cancel()
		switch {
		case err == nil:
			since = begun
		case ctx.Err() != nil:
			return
		case late, errors.Is(err, domain.ErrConflict):
			l.log.Warn().Err(err).Msg("reactor has lost its lease")
			return
		}
	}
}

// release gives the lease back, if it is still this holder's.
func (l *lease) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.ttl/2)
	defer cancel()
	if err := l.save(ctx, l.at, commands.Lease{TTL: l.ttl}); err != nil && !errors.Is(err, domain.ErrConflict) {
		l.log.Warn().Err(err).Msg("reactor cannot give its lease back")
	}
}

// elected delivers whenever the lease is this reactor's, until ctx ends.
func (r *Reactor) elected(ctx context.Context) error {
	l := &lease{store: r.opt.Leases, holder: r.opt.Holder, ttl: r.opt.LeaseTTL, log: zerolog.Ctx(ctx)}
	for {
		since, err := l.take(ctx)
		if err != nil {
			return nil
		}
		l.log.Info().Str("holder", l.holder).Msg("reactor has the lease: reactions run here")
		r.leads.Store(true)
		tenure, end := context.WithCancel(ctx)
		kept := make(chan struct{})
		go func() {
			defer close(kept)
			defer end()
			l.keep(tenure, since)
			r.leads.Store(false)
		}()
		err = r.deliver(tenure)
		end()
		<-kept
		if ctx.Err() != nil {
			l.release(ctx)
			return err
		}
		if err != nil {
			l.log.Error().Err(err).Msg("reactor stopped; it asks for the lease again")
		}
	}
}
