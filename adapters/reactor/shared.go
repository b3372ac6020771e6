package reactor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
)

// noteEvery is how often how far a shared reaction has come is noted where all reactions keep that, so that it
// can go on as an ordered one (another store, an older program).
const noteEvery = 10 * time.Second

// shared is a reaction whose order does not matter, carried out by whichever replica has room. The store's group
// hands its messages out; attempts and parking are as those of the others, and parked messages stand with theirs.
type shared struct {
	r   *Reactor
	row commands.Reaction

	mu    sync.Mutex
	stats Status
}

// sharedRows are the rows that groups carry out; none without groups.
func (r *Reactor) sharedRows() []commands.Reaction {
	if r.opt.Groups == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(r.opt.Reactions), func(row commands.Reaction) bool { return !row.Shared })
}

// ensureGroup makes the row's group, from where the reaction has come so far.
func (r *Reactor) ensureGroup(ctx context.Context, row commands.Reaction) error {
	state, err := r.subscriber().position(ctx, row.Name)
	if err != nil {
		return err
	}
	return r.opt.Groups.EnsureGroup(ctx, row.Name, row.On, state.Position)
}

// run consumes the group until ctx ends, over every drop.
func (s *shared) run(ctx context.Context) {
	log := zerolog.Ctx(ctx).With().Str("reaction", s.row.Name).Logger()
	ctx = log.WithContext(ctx)
	var noting sync.WaitGroup
	defer noting.Wait()
	noting.Go(func() { s.note(ctx) })
	for wait := retryFirst; ctx.Err() == nil; wait = min(2*wait, retryMost) {
		begun := time.Now()
		err := s.r.ensureGroup(ctx, s.row)
		if err == nil {
			err = s.r.opt.Groups.Consume(ctx, s.row.Name, s.r.subscriber().cfg.Lanes, s.carry)
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > retryMost {
			wait = retryFirst
		}
		log.Warn().Err(err).Dur("retry_ms", wait).Msg("shared reaction lost its group")
		pause(ctx, wait)
	}
}

// note looks how far the group has come, and keeps it beside the positions of the other reactions while this
// replica has the lease.
func (s *shared) note(ctx context.Context) {
	var noted domain.Position
	for ctx.Err() == nil {
		at, err := s.r.opt.Groups.GroupPosition(ctx, s.row.Name)
		if err == nil {
			s.count(func(st *Status) { st.Position = at })
			if noted.Before(at) && s.r.Leads() {
				noted, err = s.save(ctx, at)
			}
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, domain.ErrNoStream) {
			zerolog.Ctx(ctx).Warn().Err(err).Msg("shared reaction cannot note its position")
		}
		pause(ctx, noteEvery)
	}
}

// save answers what is noted afterwards. Where another replica had noted something since, that is looked at first.
func (s *shared) save(ctx context.Context, at domain.Position) (domain.Position, error) {
	err := s.r.opt.Store.SaveReactor(ctx, s.row.Name, commands.ReactorState{Position: at})
	if !errors.Is(err, domain.ErrConflict) {
		return at, err
	}
	state, _, err := s.r.opt.Store.LoadReactor(ctx, s.row.Name)
	return state.Position, err
}

// carry makes all attempts of one message, and parks it when they are spent. An error gives it back.
func (s *shared) carry(ctx context.Context, rec domain.Recorded) error {
	if !slices.Contains(s.row.On, rec.Type) {
		return nil
	}
	s.count(func(st *Status) { st.InFlight++ })
	defer s.count(func(st *Status) { st.InFlight-- })
	cfg := s.r.subscriber().cfg
	for attempt := 1; ; attempt++ {
		key, err := s.attempt(ctx, rec, attempt)
		switch {
		case err == nil:
			s.count(func(st *Status) { st.Handled++ })
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, commands.ErrPermanent), errors.Is(err, errBroken), attempt >= cfg.Attempts && !errors.Is(err, commands.ErrAway):
			return s.park(ctx, rec, key, attempt, err)
		}
		s.count(func(st *Status) { st.Retried++ })
		pause(ctx, cfg.Backoff(attempt))
	}
}

func (s *shared) park(ctx context.Context, rec domain.Recorded, key string, attempts int, why error) error {
	err := s.r.opt.Store.Park(ctx, commands.Parked{Reaction: s.row.Name, EventID: rec.ID, Position: rec.Position, Stream: rec.Stream,
		Revision: rec.Revision, Type: rec.Type, Key: key, Reason: reason(why), Attempts: attempts, At: time.Now().UTC()})
	if err == nil {
		s.count(func(st *Status) { st.ParkedTotal++ })
	}
	return err
}

// errBroken: the event cannot be read, or has no key.
var errBroken = errors.New("event cannot be reacted to")

// attempt carries rec out once. A panic is an error.
func (s *shared) attempt(ctx context.Context, rec domain.Recorded, n int) (key string, err error) {
	begun := time.Now()
	defer func() {
		if v := recover(); v != nil {
			err = errors.New(panicText(v))
		}
		e := zerolog.Ctx(ctx).Info()
		if err != nil {
			e = e.Str("error", reason(err))
		}
		e.Str("event_type", rec.Type).Str("stream", string(rec.Stream)).Int64("revision", int64(rec.Revision)).Stringer("position", rec.Position).
			Int("attempt", n).Dur("elapsed_ms", time.Since(begun)).Msg("shared reaction run")
	}()
	key = string(rec.Stream)
	event, err := rec.Event()
	if err != nil {
		return key, fmt.Errorf("%w: %w", errBroken, err)
	}
	key = s.row.Key(rec, event)
	ctx, cancel := context.WithTimeout(ctx, s.r.opt.Timeout)
	defer cancel()
	return key, s.row.Do(commands.WithCause(ctx, rec, s.row.Name), s.r.opt.Service, rec, event)
}

func (s *shared) count(f func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.stats)
}

func (s *shared) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// replay tries a parked message again, once, here; discard gives it up.
func (s *shared) replay(ctx context.Context, event uuid.UUID, discard bool) error {
	rows, err := s.r.List(ctx, s.row.Name)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rows, func(p commands.Parked) bool { return p.EventID == event })
	if i < 0 {
		return fmt.Errorf("event %s %w", event, ErrNotParked)
	}
	p := rows[i]
	if !discard {
		rec, err := lookUp(ctx, s.r.opt.Log, p)
		if err != nil {
			return err
		}
		if key, err := s.attempt(ctx, rec, p.Attempts+1); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errors.Join(fmt.Errorf("%w: %s", ErrParkedAgain, reason(err)), s.park(ctx, rec, key, p.Attempts+1, err))
		}
		s.count(func(st *Status) { st.Handled++ })
	}
	return s.r.opt.Store.Unpark(ctx, s.row.Name, event)
}

func (s *shared) replayAll(ctx context.Context) (handled int, err error) {
	rows, err := s.r.List(ctx, s.row.Name)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, p := range rows {
		if err := s.replay(ctx, p.EventID, false); err != nil && !errors.Is(err, ErrNotParked) {
			errs = append(errs, fmt.Errorf("replay %s: %w", p.EventID, err))
			continue
		}
		handled++
	}
	return handled, errors.Join(errs...)
}
