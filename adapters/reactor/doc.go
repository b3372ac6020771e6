// Package reactor delivers what is recorded to the rows of commands.Reactions: at least once, in order
// per key, through a Watermill router.
//
// Why a subscriber of our own: Watermill's router starts one goroutine per message, so order and
// parallelism are decided only by what a subscriber lets out. Ours (Subscriber) reads the log into a
// bounded window, lets a message out when no earlier one of its key is under way, puts a failed one back
// at the head of its key with a time before which it is not tried again, and parks it when its attempts
// are spent, so one broken gateway delays nobody else.
//
// What always holds:
//
//   - A message counts as handled only when its handler returned without error, or when it stands parked
//     in the ReactorStore; or when nothing was to be done for it (Feed.Moot), or it waited and a later one of its key and
//     stream, still to be delivered, stands for it too (Feed.Latest). Everything up to ReactorState.Position is handled, and of what follows the
//     positions in Done. After a crash only what was handled since the last write of that state is
//     delivered again (at most 200 ms or 500 messages of work).
//   - Of one key at most one message is under way. A later one is tried only when the earlier is handled.
//   - With Hold, while a message of a key is parked, later ones of that key are parked behind it
//     (Parked.Attempts is 0) and follow by themselves, in order, once it is replayed or discarded.
//   - What fails because somebody outside is away (commands.ErrAway) is tried until it does not, however often.
//   - Shutting down neither parks a message nor counts as an attempt.
//   - Attempts are counted in memory: a restart begins a message's schedule anew.
//
// One reader follows the end of the log for all reactions and decodes each event once. A reaction that
// is behind, or whose window is full, reads the log by itself until it is level again.
//
// Several replicas over one log run the table on one of them at a time, the holder of a lease (lease.go). The
// lease saves work done twice; that nothing is recorded twice does not rest on it (decisions D8): a holder that
// slept through its end and wakes up finds what its successor recorded, and its saves of positions refused.
//
// Reactions whose order does not matter (Reaction.Shared) are handed out by the store to all replicas at once
// (shared.go). Their attempts and parking are the same; nothing waits for them (WaitFor, Settle).
//
// What is not here: what a reaction does, and why delivering it twice records nothing twice (commands);
// projections, which move their position together with their rows and need no delivery.
package reactor
