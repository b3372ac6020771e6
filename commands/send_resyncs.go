package commands

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"ledgerline/domain"
)

// resyncPolicy says when and how fast phones are told of changes; see the settings resync_….
type resyncPolicy struct {
	enabled     bool
	perMinute   int
	from, until string // "HH:MM"; both empty: all day
	days        []string
	stopAfter   int
	zone        *time.Location
}

func resyncPolicyOf(s domain.Settings) resyncPolicy {
	number := func(key string, otherwise int) int {
		if n, ok := s[key].(int); ok {
			return n
		}
		return otherwise
	}
	text := func(key string) string { t, _ := s[key].(string); return t }
	p := resyncPolicy{perMinute: number("resync_per_minute", 60), stopAfter: number("resync_stop_after", 5), from: text("resync_from"), until: text("resync_until"), zone: time.UTC}
	p.enabled, _ = s["resync_enabled"].(bool)
	days, _ := s["resync_days"].([]any)
	for _, d := range days {
		if d, ok := d.(string); ok {
			p.days = append(p.days, d)
		}
	}
	if zone, err := time.LoadLocation(text("timezone")); err == nil {
		p.zone = zone
	}
	return p
}

// open tells whether phones may be told at now. Hours that go past midnight belong to the day they began on.
func (p resyncPolicy) open(now time.Time) bool {
	now = now.In(p.zone)
	clock := now.Format("15:04")
	from, until := cmp.Or(p.from, "00:00"), cmp.Or(p.until, "24:00")
	day := now
	switch {
	case from < until:
		if clock < from || clock >= until {
			return false
		}
	case clock >= from:
	case clock < until:
		day = now.AddDate(0, 0, -1)
	default:
		return false
	}
	return len(p.days) == 0 || slices.Contains(p.days, [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}[day.Weekday()])
}

const (
	// resyncBatch bounds the phones of one tenant looked at in one round, resyncWorkers those told side by side.
	resyncBatch   = 100
	resyncWorkers = 8
	// resyncPatience is how long a phone that was told has to fetch before it counts as a failure.
	resyncPatience = 10 * time.Minute
	// resyncWatched bounds the phones that are waited for.
	resyncWatched = 10_000
	// resyncAgain is when a group of phones that may not be told now is looked at again.
	resyncAgain = time.Minute
)

// resyncs is the volatile part of telling phones of changes: how fast, and how it went. A restart forgives.
type resyncs struct {
	mu      sync.Mutex
	tenants map[domain.TenantID]*pace
	watched []watched
}

type pace struct {
	limit    *rate.Limiter
	failures [2]int // in a row, by kind: phones that could not be told, phones that were told and did not fetch
	after    domain.DeviceID
	closed   map[domain.CategoryID]time.Time // groups that may not be told before then
}

// watched is a phone that was told and has not fetched yet.
type watched struct {
	tenant    domain.TenantID
	device    domain.DeviceID
	sync      string
	until     time.Time
	stopAfter int
}

func (r *resyncs) pace(tenant domain.TenantID) *pace {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tenants == nil {
		r.tenants = make(map[domain.TenantID]*pace)
	}
	p := r.tenants[tenant]
	if p == nil {
		p = &pace{limit: rate.NewLimiter(1, 1), closed: make(map[domain.CategoryID]time.Time)}
		r.tenants[tenant] = p
	}
	return p
}

func (r *resyncs) forgive(tenant domain.TenantID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.tenants, tenant)
	r.watched = slices.DeleteFunc(r.watched, func(w watched) bool { return w.tenant == tenant })
}

// Kinds of failures.
const (
	notTold = iota
	notFetched
)

// count notes how it went with a phone, and answers how many have failed in a row.
func (r *resyncs) count(p *pace, kind int, ok bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.failures[kind]++; ok {
		p.failures[kind] = 0
	}
	return p.failures[kind]
}

func (r *resyncs) watch(w watched) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.watched) < resyncWatched {
		r.watched = append(r.watched, w)
	}
}

// due takes the phones whose time to fetch is over.
func (r *resyncs) due(now time.Time) (due []watched) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watched = slices.DeleteFunc(r.watched, func(w watched) bool {
		over := !now.Before(w.until)
		if over {
			due = append(due, w)
		}
		return over
	})
	return due
}

// SendResyncs tells phones of whose files a change made new ones: those whose turn it is, in the hours and at the
// rate of their settings, as long as not too many in a row have failed (D16). It answers how many were told. One
// replica calls it, every second or so.
func (s *Service) SendResyncs(ctx context.Context) (told int, err error) {
	if err := s.judgeTold(ctx); err != nil {
		return 0, err
	}
	tenants, err := s.Candidates.TenantsWaiting(ctx, domain.Position{})
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, id := range tenants {
		n, err := s.sendResyncsOf(ctx, id)
		told += n
		errs = append(errs, err)
	}
	return told, errors.Join(errs...)
}

// judgeTold looks after the phones that were told a while ago: one that has not fetched is a failure.
func (s *Service) judgeTold(ctx context.Context) error {
	for _, w := range s.resyncs.due(s.now()) {
		d, _, err := load[domain.Device](ctx, s.Log, w.device.Stream())
		if err != nil {
			return err
		}
		if d.Live() != nil || d.Sync.SyncID != w.sync {
			continue
		}
		if err := s.judge(ctx, notFetched, w.tenant, w.device, w.stopAfter, !d.Sync.Open()); err != nil {
			return err
		}
	}
	return nil
}

// judge counts one phone, and stops the tenant's resyncs after too many failures.
func (s *Service) judge(ctx context.Context, kind int, tenant domain.TenantID, device domain.DeviceID, stopAfter int, ok bool) error {
	failures := s.resyncs.count(s.resyncs.pace(tenant), kind, ok)
	if failures < stopAfter {
		return nil
	}
	_, err := decide(ctx, s, tenant.Stream(), func(t domain.Tenant) ([]domain.Event, error) { return t.StopResyncs(failures, device) })
	return err
}

func (s *Service) sendResyncsOf(ctx context.Context, id domain.TenantID) (told int, err error) {
	tenant, _, err := load[domain.Tenant](ctx, s.Log, id.Stream())
	if err != nil || tenant.Live() != nil || tenant.Stopped {
		return 0, err
	}
	p := s.resyncs.pace(id)
	now := s.now()
	if p.limit.TokensAt(now) < 1 {
		return 0, nil
	}
	waiting, err := s.Candidates.WaitingSyncs(ctx, domain.Position{}, id, p.after, resyncBatch)
	if err != nil {
		return 0, err
	}
	if len(waiting) < resyncBatch {
		p.after = "" // the next round begins anew
	}
	type turn struct {
		device    domain.DeviceID
		sync      string
		stopAfter int
	}
	var turns []turn
	var errs []error
	later := func(w domain.WaitingSync, err error) {
		errs = append(errs, err)
		p.closed[w.Category] = now.Add(resyncAgain)
		p.after = w.Device
	}
	for _, w := range waiting {
		if now.Before(p.closed[w.Category]) {
			p.after = w.Device
			continue
		}
		d, _, err := load[domain.Device](ctx, s.Log, w.Device.Stream())
		if err != nil {
			later(w, err)
			continue
		}
		if d.Live() != nil || !d.Sync.Waiting() {
			continue // the view lags
		}
		stack, err := s.Settings(ctx, d)
		if err != nil {
			later(w, err) // one phone's trouble is not its tenant's
			continue
		}
		policy := resyncPolicyOf(stack.Merged())
		if !policy.enabled || !policy.open(now) {
			later(w, nil)
			continue
		}
		p.limit.SetLimitAt(now, rate.Limit(float64(policy.perMinute)/60))
		p.limit.SetBurstAt(now, max(1, policy.perMinute/30)) // two seconds' worth
		if !p.limit.AllowN(now, 1) {
			break
		}
		p.after = w.Device
		turns = append(turns, turn{w.Device, d.Sync.SyncID, policy.stopAfter})
	}
	// Side by side, for a phone that does not answer takes its time; judged in order.
	ends := make([]domain.Sync, len(turns))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(resyncWorkers)
	for i, t := range turns {
		g.Go(func() error {
			if err := unlessGone(s.NotifyPhone(gctx, NotifyPhone{ID: t.device, SyncID: t.sync})); err != nil {
				return err
			}
			d, _, err := load[domain.Device](gctx, s.Log, t.device.Stream())
			ends[i] = d.Sync
			return err
		})
	}
	err = errors.Join(append(errs, g.Wait())...)
	for i, t := range turns {
		end := ends[i]
		if end.SyncID != t.sync || end.Pending() {
			continue
		}
		ok := end.State != domain.SyncFailed
		err = errors.Join(err, s.judge(ctx, notTold, id, t.device, t.stopAfter, ok))
		if ok {
			told++
			s.resyncs.watch(watched{id, t.device, t.sync, s.now().Add(resyncPatience), t.stopAfter})
		}
	}
	return told, err
}
