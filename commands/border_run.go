package commands

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"ledgerline/domain"
)

// RunGateways keeps the pushes to all gateways going until ctx ends: each gateway has a goroutine that works when its
// streams tell of something, or when something is due. Only while leads (nil: always) says so are gateways asked; where
// requests of phones behind them come from is followed in any case. note, if not nil, is told of every step that failed.
func (s *Service) RunGateways(ctx context.Context, leads func() bool, note func(domain.GatewayID, error)) error {
	if note == nil {
		note = func(domain.GatewayID, error) {}
	}
	if leads == nil {
		leads = func() bool { return true }
	}
	r := &gatewayRun{s: s, leads: leads, note: note, wakes: map[domain.GatewayID]chan struct{}{}}
	defer r.group.Wait()
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		begun := time.Now()
		err := r.follow(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		note("", err)
		if time.Since(begun) > time.Minute {
			wait = time.Second
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

type gatewayRun struct {
	s     *Service
	leads func() bool
	note  func(domain.GatewayID, error)
	group sync.WaitGroup
	wakes map[domain.GatewayID]chan struct{}
}

// follow starts a worker for every gateway there is, and for every one that comes.
func (r *gatewayRun) follow(ctx context.Context) error {
	head, err := r.s.Log.Head(ctx)
	if err != nil {
		return err
	}
	gateways, err := r.s.Candidates.Gateways(ctx, head)
	if err != nil {
		return err
	}
	for _, id := range gateways {
		r.wake(ctx, id)
	}
	if err := r.s.learnSources(ctx, gateways); err != nil {
		return err
	}
	for rec, err := range r.s.Log.Subscribe(ctx, head) {
		if err != nil {
			return err
		}
		switch rec.Stream.Category() {
		case "gateway":
			id := domain.GatewayID(rec.Stream.ID())
			r.wake(ctx, id)
			switch rec.Type {
			case "gateway.registered", "gateway.amended", "gateway.removed":
				if err := r.s.learnSources(ctx, append(gateways, id)); err != nil {
					return err
				}
				gateways = append(gateways, id)
			}
		case "sipuser":
			if rec.Type == "sipuser.push_intended" || rec.Type == "sipuser.removal_intended" {
				r.wake(ctx, GatewayOf(domain.SIPUserID(rec.Stream.ID())))
			}
		}
	}
	return errors.New("subscription ended")
}

// GatewayOf is the gateway a SIP user is on, which its name begins with.
func GatewayOf(id domain.SIPUserID) domain.GatewayID {
	for i, c := range []byte(id) {
		if c == '.' {
			return domain.GatewayID(id[:i])
		}
	}
	return domain.GatewayID(id)
}

// wake makes the gateway's worker look; it is started if it does not run yet.
func (r *gatewayRun) wake(ctx context.Context, id domain.GatewayID) {
	w, ok := r.wakes[id]
	if !ok {
		w = make(chan struct{}, 1)
		r.wakes[id] = w
		r.group.Go(func() { r.work(ctx, id, w) })
	}
	select {
	case w <- struct{}{}:
	default: // it will look in any case
	}
}

func (r *gatewayRun) work(ctx context.Context, id domain.GatewayID, wake <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	trouble := time.Second
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-timer.C:
		}
		if !r.leads() {
			r.s.borders.forget(id) // what was known of it may be old when this replica leads again
			timer.Reset(time.Second)
			continue
		}
		next, err := r.s.PushGateway(ctx, id)
		if ctx.Err() != nil {
			return
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = max(next.Sub(r.s.now()), 0)
		}
		if err != nil {
			r.note(id, err)
			wait, trouble = trouble, min(2*trouble, time.Minute)
		} else {
			trouble = time.Second
		}
		timer.Reset(min(wait, time.Hour))
	}
}

// learnSources reads from which addresses requests of phones behind gateways come.
func (s *Service) learnSources(ctx context.Context, gateways []domain.GatewayID) error {
	sources := map[netip.Addr]domain.GatewayID{}
	for _, id := range gateways {
		g, _, err := load[domain.Gateway](ctx, s.Log, id.Stream())
		if err != nil {
			return err
		}
		if g.Live() != nil {
			continue
		}
		for _, text := range g.SourceAddresses {
			if ip, err := netip.ParseAddr(text); err == nil {
				sources[ip] = id
			}
		}
	}
	s.borders.sources.Store(&sources)
	return nil
}

// KnowsGateways tells whether RunGateways has learnt which gateways there are.
func (s *Service) KnowsGateways() bool { return s.borders.sources.Load() != nil }

// behind is the gateway a request comes through; known is false while that cannot be told.
func (s *Service) behind(ip string) (gateway domain.GatewayID, known bool) {
	sources := s.borders.sources.Load()
	if sources == nil {
		return "", false
	}
	if len(*sources) == 0 {
		return "", true
	}
	a, err := netip.ParseAddr(ip)
	return (*sources)[a.Unmap().WithZone("")], err == nil
}
