package commands

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"ledgerline/domain"
)

// ErrGuesses: too many wrong codes came from there; RetryAfter tells how long to wait.
var ErrGuesses = errors.New("too many wrong codes")

// GuessError is ErrGuesses with the time to wait.
type GuessError struct{ RetryAfter time.Duration }

func (e *GuessError) Error() string {
	return fmt.Sprintf("%s, try again in %s", ErrGuesses, e.RetryAfter.Round(time.Second))
}

// Is makes errors.Is(err, ErrGuesses) hold.
func (e *GuessError) Is(target error) bool { return target == ErrGuesses }

// Guard is the budget on wrong codes. Only wrong ones count, for a hundred phones behind one address are
// normal: per MAC five, then 15 minutes, doubling to a day; per source (an IPv4 address, an IPv6 /64) ten
// in ten minutes, then half an hour; for the whole instance, more than Global wrong codes within a week
// exhaust the budget, and rollout codes need an operator's confirmation until it recovers. Volatile by
// design: a restart forgives. The zero value is ready; safe for concurrent use.
type Guard struct {
	// Global is the number of wrong codes a week the instance bears; zero means 10,000, which keeps the
	// chance of a hit among 100 live codes at one in a million.
	Global int

	mu      sync.Mutex
	sources map[string]*guesses
	macs    map[domain.MAC]*guesses
	week    [7 * 24]int // wrong codes per hour
	hour    int64       // the hour week[hour%len] stands for
	total   int
	recent  [floodWindow]int // wrong codes per second
	second  int64            // the second recent[second%len] stands for
}

type guesses struct {
	wrong   int
	since   time.Time
	blocked time.Time
	penalty time.Duration
}

const (
	guessesPerMAC    = 5
	guessesPerSource = 10
	sourceWindow     = 10 * time.Minute
	sourcePenalty    = 30 * time.Minute
	macPenalty       = 15 * time.Minute
	maxMACPenalty    = 24 * time.Hour
	guardEntries     = 100_000
	floodWindow      = 10 // seconds
	floodPerSecond   = 20
)

// Allow is nil when source and mac may try a code at now, else a *GuessError. An empty source (a caller
// inside the process) is not limited.
func (g *Guard) Allow(source string, mac domain.MAC, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range []*guesses{g.sources[prefix(source)], g.macs[mac]} {
		if b != nil && now.Before(b.blocked) {
			return &GuessError{b.blocked.Sub(now)}
		}
	}
	return nil
}

// Wrong counts a wrong code.
func (g *Guard) Wrong(source string, mac domain.MAC, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sources == nil {
		g.sources, g.macs = make(map[string]*guesses), make(map[domain.MAC]*guesses)
	}
	if p := prefix(source); p != "" {
		b := entryOf(g.sources, p, now)
		if now.Sub(b.since) > sourceWindow {
			b.wrong, b.since = 0, now
		}
		if b.wrong++; b.wrong >= guessesPerSource {
			b.blocked, b.wrong = now.Add(sourcePenalty), 0
		}
	}
	if mac != "" {
		b := entryOf(g.macs, mac, now)
		if b.wrong++; b.wrong >= guessesPerMAC {
			b.penalty = min(max(2*b.penalty, macPenalty), maxMACPenalty)
			b.blocked, b.wrong = now.Add(b.penalty), 0
		}
	}
	g.advance(now)
	g.week[g.hour%int64(len(g.week))]++
	g.total++
	g.pass(now)
	g.recent[g.second%floodWindow]++
}

// Flooded tells whether, within the last ten seconds, wrong codes came at more than 20 a second: all of them should be
// answered slowly then.
func (g *Guard) Flooded(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pass(now)
	sum := 0
	for _, n := range g.recent {
		sum += n
	}
	return sum > floodPerSecond*floodWindow
}

// pass forgets the seconds that are out of the window.
func (g *Guard) pass(now time.Time) {
	second := now.Unix()
	for t := max(g.second+1, second-floodWindow+1); t <= second; t++ {
		g.recent[t%floodWindow] = 0
	}
	g.second = max(g.second, second)
}

// Exhausted tells whether the instance's budget of wrong codes is spent at now.
func (g *Guard) Exhausted(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.advance(now)
	limit := g.Global
	if limit == 0 {
		limit = 10_000
	}
	return g.total > limit
}

// Total is the number of wrong codes within the last week.
func (g *Guard) Total(now time.Time) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.advance(now)
	return g.total
}

// advance forgets the hours that are more than a week past.
func (g *Guard) advance(now time.Time) {
	hour := now.Unix() / 3600
	if hour <= g.hour {
		return
	}
	n := int64(len(g.week))
	for h := max(g.hour+1, hour-n+1); h <= hour; h++ {
		g.total -= g.week[h%n]
		g.week[h%n] = 0
	}
	g.hour = hour
}

// entryOf finds or makes an entry; a full table first loses what is neither blocked nor recent.
func entryOf[K comparable](m map[K]*guesses, k K, now time.Time) *guesses {
	if b, ok := m[k]; ok {
		return b
	}
	if len(m) >= guardEntries {
		for old, b := range m {
			if now.After(b.blocked) && now.Sub(b.since) > sourceWindow {
				delete(m, old)
			}
		}
		for old := range m {
			if len(m) < guardEntries {
				break
			}
			delete(m, old)
		}
	}
	b := &guesses{since: now}
	m[k] = b
	return b
}

// prefix is what one source is: an IPv4 address, an IPv6 /64.
func prefix(ip string) string {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	a = a.Unmap()
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.String()
	}
	return a.String()
}

// budgets are what is counted of wrong codes, passwords and numbers. A guess is one also where a plan is asked for: a
// plan draws on the budgets of the service it is made for, or it would tell good codes from wrong ones without end.
type budgets struct {
	codes      Guard
	softphones Guard // wrong passwords and codes of softphones, per source and per user
	dialling   dialling
	denials    denials
}

func (s *Service) budgets() *budgets {
	if s.planned != nil {
		return s.planned.budgets()
	}
	return &s.own
}

// denials gathers refusals of known credentials until their hour is over (D27).
type denials struct {
	mu     sync.Mutex
	counts map[denial]int
}

type denial struct {
	stream domain.StreamID
	hour   time.Time
}

func (d *denials) add(stream domain.StreamID, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.counts == nil {
		d.counts = make(map[denial]int)
	}
	d.counts[denial{stream, now.UTC().Truncate(time.Hour)}]++
}

// back notes again what could not be recorded.
func (d *denials) back(k denial, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts[k] += n
}

// take returns and forgets the counts of hours that ended at or before until.
func (d *denials) take(until time.Time) map[denial]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make(map[denial]int)
	for k, n := range d.counts {
		if !k.hour.Add(time.Hour).After(until) {
			out[k] = n
			delete(d.counts, k)
		}
	}
	return out
}

// RecordDenials writes one event per denied credential and hour that is over. Run on a schedule, and with
// all set at the end of the program, when the running hour counts too.
func (s *Service) RecordDenials(ctx context.Context, all bool) error {
	until := s.now()
	if all {
		until = until.Add(time.Hour)
	}
	var errs []error
	for k, n := range s.budgets().denials.take(until) {
		var err error
		switch k.stream.Category() {
		case "softphone":
			_, err = decide(ctx, s, k.stream, func(domain.Softphone) ([]domain.Event, error) {
				return []domain.Event{domain.SoftphoneDenied{Hour: k.hour, Count: n}}, nil
			})
		case "token":
			_, err = decide(ctx, s, k.stream, func(domain.Token) ([]domain.Event, error) {
				return []domain.Event{domain.TokenDenied{Hour: k.hour, Count: n}}, nil
			})
		case "device":
			_, err = s.record(ctx, domain.DeviceID(k.stream.ID()), domain.DeviceSysclientDenied{Hour: k.hour, Count: n})
			err = unlessGone(err)
		case "tenant":
			_, err = decide(ctx, s, k.stream, func(domain.Tenant) ([]domain.Event, error) {
				return []domain.Event{domain.TenantUsersDenied{Hour: k.hour, Count: n}}, nil
			})
		case "apikey":
			_, err = decide(ctx, s, k.stream, func(a domain.APIKey) ([]domain.Event, error) {
				return []domain.Event{domain.APIKeyDenied{Hour: k.hour, Count: n}}, nil
			})
		default:
			_, err = decide(ctx, s, k.stream, func(c domain.Code) ([]domain.Event, error) {
				return []domain.Event{domain.CodeDenied{CodeID: c.CodeID, Hour: k.hour, Count: n}}, nil
			})
		}
		if err != nil {
			s.budgets().denials.back(k, n)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
