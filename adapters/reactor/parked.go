package reactor

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"ledgerline/commands"
	"ledgerline/domain"
)

var (
	// ErrNoReaction: no row of the table has that name.
	ErrNoReaction = errors.New("no such reaction")
	// ErrNotParked: that event does not stand parked for that reaction (any more).
	ErrNotParked = errors.New("is not parked")
	// ErrHeld: an earlier message of the same key stands parked, and the reaction keeps order (Hold).
	ErrHeld = errors.New("is held by an earlier parked message")
	// ErrParkedAgain: the replay failed too; the row stands with the new reason.
	ErrParkedAgain = errors.New("failed and is parked again")
)

// List lists what is parked, oldest first; an empty name lists all reactions. Attempts is 0 for a message
// that was never tried because an earlier one of its key holds it.
func (r *Reactor) List(ctx context.Context, reaction string) ([]commands.Parked, error) {
	rows, err := r.opt.Store.Parked(ctx, reaction)
	if err != nil {
		return nil, fmt.Errorf("list parked messages: %w", err)
	}
	return rows, nil
}

// Replay hands a parked message to its reaction again, with a new schedule of attempts, in the lane of
// its key, and waits for the outcome. If ctx ends first the replay goes on. What was held behind it follows by
// itself. Errors: ErrNoReaction, ErrNotParked, ErrHeld, ErrParkedAgain, ErrClosed, ctx's own.
func (r *Reactor) Replay(ctx context.Context, reaction string, event uuid.UUID) error {
	return r.ask(ctx, replay, reaction, event)
}

// Discard gives a parked message up, in the lane of its key: it is never handed out again. What was held
// behind it follows by itself. Errors: ErrNoReaction, ErrNotParked, ErrClosed, ctx's own.
func (r *Reactor) Discard(ctx context.Context, reaction string, event uuid.UUID) error {
	return r.ask(ctx, discard, reaction, event)
}

// ReplayAll replays all that is parked for a reaction, side by side for different keys, and waits. It
// returns how many were handled; the error joins those of the others.
func (r *Reactor) ReplayAll(ctx context.Context, reaction string) (int, error) {
	if s := r.shared[reaction]; s != nil {
		return s.replayAll(ctx)
	}
	sub, err := r.running(reaction)
	if err != nil {
		return 0, err
	}
	rows, err := r.List(ctx, reaction)
	if err != nil {
		return 0, err
	}
	answers := make([]chan error, len(rows))
	for i, p := range rows {
		answers[i] = make(chan error, 1)
		if err := sub.requeue(ctx, replay, p, answers[i]); err != nil {
			answers[i] <- err
		}
	}
	handled, errs := 0, []error(nil)
	for i, p := range rows {
		err := await(ctx, answers[i])
		switch {
		case err == nil || errors.Is(err, ErrNotParked): // followed one before it
			handled++
		default:
			errs = append(errs, fmt.Errorf("replay %s: %w", p.EventID, err))
		}
	}
	return handled, errors.Join(errs...)
}

func (r *Reactor) ask(ctx context.Context, t task, reaction string, event uuid.UUID) error {
	if s := r.shared[reaction]; s != nil {
		return s.replay(ctx, event, t == discard)
	}
	sub, err := r.running(reaction)
	if err != nil {
		return err
	}
	rows, err := r.List(ctx, reaction)
	if err != nil {
		return err
	}
	for _, p := range rows {
		if p.EventID == event {
			answer := make(chan error, 1)
			if err := sub.requeue(ctx, t, p, answer); err != nil {
				return err
			}
			return await(ctx, answer)
		}
	}
	return fmt.Errorf("event %s %w", event, ErrNotParked)
}

func await(ctx context.Context, answer <-chan error) error {
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Status is how one reaction stands.
type Status struct {
	Reaction string          `json:"reaction"`
	Position domain.Position `json:"position"`  // everything up to here is handled
	Read     domain.Position `json:"read"`      // everything up to here was read
	Pending  int             `json:"pending"`   // read and not handled
	InFlight int             `json:"in_flight"` // of these, under way
	Parked   int             `json:"parked"`    // standing parked now
	// Since the start of the process.
	Handled     uint64 `json:"handled"`
	Retried     uint64 `json:"retried"`
	ParkedTotal uint64 `json:"parked_total"`
}
