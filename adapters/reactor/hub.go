package reactor

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
)

// hub is the one reader at the end of the log: what it reads goes to every subscription that is level
// with it. It never waits for one; a subscription that cannot take more is let go and catches up by itself.
type hub struct {
	log commands.Log

	mu   sync.Mutex
	at   domain.Position // everything up to here was handed to the subscriptions in live
	live map[*subscription]struct{}
}

// run reads until ctx ends. A subscription of the log that breaks is taken up again where it was.
func (h *hub) run(ctx context.Context) {
	for wait := retryFirst; ctx.Err() == nil; wait = min(2*wait, retryMost) {
		h.mu.Lock()
		at := h.at
		h.mu.Unlock()
		var broken error
		for r, err := range h.log.Subscribe(ctx, at) {
			if broken = err; err != nil {
				break
			}
			h.hand(r)
			wait = retryFirst
		}
		if ctx.Err() != nil {
			return
		}
		zerolog.Ctx(ctx).Warn().Err(broken).Dur("retry_ms", wait).Msg("reactor lost its place at the end of the log")
		pause(ctx, wait)
	}
}

func (h *hub) hand(r domain.Recorded) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := found{rec: r}
	for s := range h.live {
		if !s.take(&f) {
			delete(h.live, s)
			s.letGo()
		}
	}
	h.at = r.Position
}

// join attaches a subscription; it refuses one that has not read as far as the hub has.
func (h *hub) join(s *subscription) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.readTo().Before(h.at) {
		return false
	}
	h.live[s] = struct{}{}
	return true
}

func (h *hub) leave(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.live, s)
}

// found is an event as read, decoded at most once for all who want it. Not safe for concurrent use.
type found struct {
	rec     domain.Recorded
	decoded bool
	event   domain.Event
	err     error
}

func (f *found) decode() (domain.Event, error) {
	if !f.decoded {
		f.event, f.err = f.rec.Event()
		f.decoded = true
	}
	return f.event, f.err
}

const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 30 * time.Second
)

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
