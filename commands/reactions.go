package commands

import (
	"context"
	"errors"

	"ledgerline/domain"
)

// Reaction is one row of the table "when this is recorded, ask for that". adapters/reactor delivers at
// least once, in order per key; Do issues one command, and commands record nothing new for a cause and
// reaction that already stand in the stream they decide.
type Reaction struct {
	// Name names a durable position: renaming a row runs it again from the start of the log.
	Name string
	// On are the wire names of the events that set it off.
	On []string
	// Key is what order is kept by: the id of the one stream that Do writes to. Events of different keys
	// run side by side.
	Key func(r domain.Recorded, e domain.Event) string
	// Hold keeps later events of a key back while one of them is parked; without it the key goes on.
	Hold bool
	// Do carries the reaction out. An error is retried with growing delays and parked at last; one that
	// wraps ErrPermanent is parked at once.
	Do func(ctx context.Context, s *Service, r domain.Recorded, e domain.Event) error
}

// ErrPermanent marks an error that no retry can cure.
var ErrPermanent = errors.New("permanent")
