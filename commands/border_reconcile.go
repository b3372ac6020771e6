package commands

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"ledgerline/domain"
)

// ReconcileGateway compares everything on a gateway with what we want there. With PlanOnly the difference is answered
// and nothing else; Confirm lets a repair go on that the mass-change brake stopped.
type ReconcileGateway struct {
	ID       domain.GatewayID `json:"id" validate:"required,id"`
	PlanOnly bool             `json:"plan_only"`
	Confirm  bool             `json:"confirm"`

	nightly bool // nobody asked: no differences are no news
}

// Reconciled is the outcome of a comparison.
type Reconciled struct {
	Drift   domain.GatewayDriftFound `json:"drift"`
	Foreign int                      `json:"foreign"` // records of others
	Repairs int                      `json:"repairs"` // pushes asked for
}

// ErrBraked: so much is missing on the gateway that nothing is repaired until somebody confirms.
var ErrBraked = errors.New("more than a fifth of our SIP users is missing on the gateway, as after a restore or replacement: look there, then confirm the repair")

// ErrStopped: the gateway cannot be asked now.
var ErrStopped = errors.New("the queue of this gateway stands still")

// ReconcileGateway errors: ErrInvalid, ErrNoBorders, ErrStopped, ErrBraked, *BorderError, domain.ErrGatewayUnknown, domain.ErrGatewayRemoved.
func (s *Service) ReconcileGateway(ctx context.Context, in ReconcileGateway) (Reconciled, Outcome, error) {
	if err := check(in); err != nil {
		return Reconciled{}, Outcome{}, err
	}
	if s.Borders == nil {
		return Reconciled{}, Outcome{}, ErrNoBorders
	}
	p := s.borders.pushOf(s, in.ID)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reconcile(ctx, in)
}

func (p *push) reconcile(ctx context.Context, in ReconcileGateway) (done Reconciled, out Outcome, err error) {
	g, h, err := load[domain.Gateway](ctx, p.s.Log, p.id.Stream())
	if err != nil {
		return done, out, err
	}
	if err := g.Live(); err != nil {
		return done, out, err
	}
	if reason := g.Stopped(); reason != "" {
		return done, out, fmt.Errorf("%w: %s", ErrStopped, reason)
	}
	client, err := p.connect(ctx, g, h.revision)
	if err != nil {
		return done, out, err
	}
	if !in.PlanOnly {
		if err := p.matchAll(ctx, client, g); err != nil {
			return done, out, err
		}
	}
	found, err := p.compareAll(ctx, client, g)
	if err != nil {
		return done, out, err
	}
	done.Drift, done.Foreign = found.drift(), found.foreign
	done.Drift.Braked = done.Drift.Missing > 2 && done.Drift.Missing*5 > done.Drift.Users && !in.Confirm
	if in.PlanOnly {
		return done, Outcome{Stream: p.id.Stream(), Revision: h.revision, Position: h.position}, nil
	}
	if len(found.items) > 0 {
		if out, err = decide(ctx, p.s, p.id.Stream(), func(domain.Gateway) ([]domain.Event, error) { return []domain.Event{done.Drift}, nil }); err != nil {
			return done, out, err
		}
	}
	if done.Drift.Braked {
		return done, out, ErrBraked
	}
	if in.nightly && len(found.items) == 0 && !g.Braked {
		return done, out, nil
	}
	for _, it := range found.items {
		asked, err := p.repair(ctx, it)
		if err != nil {
			return done, out, err
		}
		done.Repairs += asked
	}
	out, err = decide(ctx, p.s, p.id.Stream(), func(domain.Gateway) ([]domain.Event, error) {
		return []domain.Event{domain.GatewayReconciled{Users: done.Drift.Users, Foreign: done.Foreign, Repairs: done.Repairs}}, nil
	})
	if err == nil {
		p.revision, p.records = out.Revision, nil
	}
	return done, out, err
}

// repair asks for what mends one difference; records of others are never touched.
func (p *push) repair(ctx context.Context, it domain.DriftItem) (asked int, err error) {
	if it.Kind == "clash" {
		return 0, nil
	}
	out, err := decide(ctx, p.s, it.SIPUserID.Stream(), func(u domain.SIPUser) ([]domain.Event, error) {
		switch {
		case u.Pending():
			return nil, nil
		case it.Kind == "unwanted":
			return u.Unwanted("drift"), nil
		case !u.Wanted:
			return nil, nil
		}
		return u.Retry("drift")
	})
	return len(out.Events), err
}

// comparison gathers differences.
type comparison struct {
	users, foreign int
	items          []domain.DriftItem
}

func (c comparison) drift() domain.GatewayDriftFound {
	const most = 100
	d := domain.GatewayDriftFound{Users: c.users, Items: c.items[:min(len(c.items), most)]}
	for _, it := range c.items {
		switch it.Kind {
		case "missing":
			d.Missing++
		case "drifted":
			d.Drifted++
		case "unwanted":
			d.Unwanted++
		case "clash":
			d.Clashes++
		}
	}
	return d
}

// compareAll classifies every SIP user of ours, and every record of others that has one of our names or extensions.
func (p *push) compareAll(ctx context.Context, client Border, g domain.Gateway) (c comparison, err error) {
	list, err := client.Users(ctx)
	if err != nil {
		return c, err
	}
	byID, byName := map[string]BorderUser{}, map[string]BorderUser{}
	for _, r := range list {
		byID[r.ID], byName[r.SetUsername] = r, r
	}
	head, err := p.s.Log.Head(ctx)
	if err != nil {
		return c, err
	}
	refs, err := p.s.Candidates.SIPUsersOn(ctx, head, p.id, false)
	if err != nil {
		return c, err
	}
	ours, extensions := map[string]bool{}, map[string]domain.SIPUserID{}
	for _, ref := range refs {
		u, _, err := load[domain.SIPUser](ctx, p.s.Log, ref.ID.Stream())
		if err != nil {
			return c, err
		}
		if err := p.compareOne(ctx, client, g, u, byID, byName, ours, extensions, &c); err != nil {
			return c, err
		}
	}
	for _, r := range list {
		if ours[r.ID] {
			continue
		}
		c.foreign++
		if id, clash := extensions[r.ICPID+"\x00"+r.ICPUsername]; clash {
			c.items = append(c.items, domain.DriftItem{SIPUserID: id, Kind: "clash", MBGID: r.ID})
		}
	}
	return c, nil
}

func (p *push) compareOne(ctx context.Context, client Border, g domain.Gateway, u domain.SIPUser, byID, byName map[string]BorderUser, ours map[string]bool,
	extensions map[string]domain.SIPUserID, c *comparison) error {
	if !u.Wanted {
		if r, there := byName[u.Spec.SetUsername]; there && u.Rev > 0 {
			ours[r.ID] = true
			if !u.Pending() {
				c.items = append(c.items, domain.DriftItem{SIPUserID: u.ID, Kind: "unwanted", MBGID: r.ID})
			}
		}
		return nil
	}
	c.users++
	w, err := p.wish(ctx, u.Spec)
	if classOf(err) == ClassErased {
		return nil
	}
	if err != nil {
		return err
	}
	w.ICPID = u.ICPID
	if n, ok := g.Node(u.Spec.NodeID); ok {
		if m := g.ICP(n.NodeID).Matched; m.ICPID != "" {
			w.ICPID = m.ICPID
		}
	}
	r, there := byID[u.MBGID]
	if !there || u.MBGID == "" || r.SetUsername != u.Pushed.SetUsername && r.SetUsername != w.SetUsername && r.ICPUsername != w.Extension {
		r, there = byName[w.SetUsername]
	}
	if there {
		ours[r.ID] = true
	}
	extensions[w.ICPID+"\x00"+w.Extension] = u.ID
	switch {
	case u.Pending() || !u.On:
	case !there:
		c.items = append(c.items, domain.DriftItem{SIPUserID: u.ID, Kind: "missing", MBGID: u.MBGID})
	default:
		if fields := client.Differs(r, w); len(fields) > 0 || r.ID != u.MBGID {
			c.items = append(c.items, domain.DriftItem{SIPUserID: u.ID, Kind: "drifted", MBGID: r.ID, Fields: fields})
		}
	}
	return nil
}

// nightly compares once a night, each gateway at a minute of its own between two and four o'clock UTC.
func (p *push) nightly(ctx context.Context) (next time.Time, err error) {
	now := p.s.now()
	if p.compare.IsZero() {
		p.compare = p.night(now)
	}
	if now.Before(p.compare) {
		return p.compare, nil
	}
	p.compare = p.night(now)
	_, _, err = p.reconcile(ctx, ReconcileGateway{ID: p.id, nightly: true})
	if errors.Is(err, ErrBraked) || errors.Is(err, ErrBorder) || errors.Is(err, ErrStopped) {
		return p.compare, nil // on record, or tried again next night
	}
	return p.s.now(), err
}

func (p *push) night(now time.Time) time.Time {
	h := fnv.New32()
	_, _ = h.Write([]byte(p.id)) // never fails
	minute := int(h.Sum32() % 120)
	at := time.Date(now.Year(), now.Month(), now.Day(), 2, minute, 0, 0, time.UTC)
	if !at.After(now) {
		at = at.AddDate(0, 0, 1)
	}
	return at
}

// SelfTestGateway tries what the push needs, read only: ping, ICPs, SIP users, the ICP of every node. WithProbe also
// creates a disabled SIP user, reads it, and removes it.
type SelfTestGateway struct {
	ID        domain.GatewayID `json:"id" validate:"required,id"`
	WithProbe bool             `json:"with_probe"`
}

// SelfTestGateway records the outcome and answers it. Errors: ErrInvalid, ErrNoBorders, domain.ErrGatewayUnknown, domain.ErrGatewayRemoved,
// domain.ErrGatewayNoToken.
func (s *Service) SelfTestGateway(ctx context.Context, in SelfTestGateway) (domain.GatewaySelfTested, Outcome, error) {
	var tested domain.GatewaySelfTested
	if err := check(in); err != nil {
		return tested, Outcome{}, err
	}
	if s.Borders == nil {
		return tested, Outcome{}, ErrNoBorders
	}
	p := s.borders.pushOf(s, in.ID)
	p.mu.Lock()
	defer p.mu.Unlock()
	g, h, err := load[domain.Gateway](ctx, s.Log, in.ID.Stream())
	if err != nil {
		return tested, Outcome{}, err
	}
	if err := g.Live(); err != nil {
		return tested, Outcome{}, err
	}
	tested.Checks = g.Preflight()
	if !g.Usable() {
		return tested, Outcome{}, domain.ErrGatewayNoToken
	}
	client, err := p.connect(ctx, g, h.revision)
	if err != nil {
		return tested, Outcome{}, err
	}
	tested.Checks = append(tested.Checks, p.test(ctx, client, g, in.WithProbe)...)
	if fresh, _, err := load[domain.Gateway](ctx, s.Log, in.ID.Stream()); err == nil {
		for _, c := range fresh.Checklist(s.now()) {
			if len(c.Name) > 7 && c.Name[:7] == "ICP of " {
				tested.Checks = append(tested.Checks, c)
			}
		}
	}
	tested.Passed = !slices.ContainsFunc(tested.Checks, func(c domain.Check) bool { return c.State == "failed" })
	out, err := decide(ctx, s, in.ID.Stream(), func(domain.Gateway) ([]domain.Event, error) { return []domain.Event{tested}, nil })
	return tested, out, err
}

func (p *push) test(ctx context.Context, client Border, g domain.Gateway, withProbe bool) (checks []domain.Check) {
	ok := func(name string, err error, good string) bool {
		c := domain.Check{Name: name, State: "ok", Text: good}
		if err != nil {
			c.State, c.Text = "failed", Advice(classOf(err), err)
		}
		checks = append(checks, c)
		return err == nil
	}
	date, err := client.Clock(ctx)
	if ok("web services answer", err, "") {
		off := date.Sub(p.s.now()).Round(time.Second)
		c := domain.Check{Name: "clock", State: "ok", Text: fmt.Sprintf("%s apart", off.Abs())}
		if off.Abs() > client.Policy().ClockSkew {
			c.State = "failed"
		}
		checks = append(checks, c)
	}
	if !ok("signed call", client.Ping(ctx), "") {
		return checks
	}
	icps, err := client.ICPs(ctx)
	ok("list ICPs", err, fmt.Sprintf("%d", len(icps)))
	if err == nil {
		_ = ok("match ICPs", p.matchAll(ctx, client, g), "")
	}
	users, err := client.Users(ctx)
	ok("list SIP users", err, fmt.Sprintf("%d", len(users)))
	if withProbe && err == nil && len(icps) > 0 {
		ok("create, read and remove a disabled SIP user", p.tryUser(ctx, client, icps[0].ID), "")
	}
	return checks
}

// tryUser creates a disabled record nobody can use, reads it and removes it.
func (p *push) tryUser(ctx context.Context, client Border, icp string) error {
	name, err := domain.NewSetUsername(p.s.pick)
	if err != nil {
		return err
	}
	password, err := domain.NewSetPassword(p.s.pick)
	if err != nil {
		return err
	}
	w := BorderWish{Extension: "probe-" + name, Description: "self-test, may be removed", ICPID: icp, SetUsername: name, SetPassword: password, ICPPassword: password}
	id, err := client.CreateUser(ctx, w)
	if err != nil {
		return err
	}
	now, err := client.User(ctx, id)
	if err == nil {
		if fields := client.Differs(now, w); len(fields) > 0 {
			err = &BorderError{Class: ClassNotApplied, Text: fmt.Sprintf("read back, %v differ: the mapping of these fields may not fit", fields)}
		}
	}
	return errors.Join(err, client.DeleteUser(ctx, id))
}
