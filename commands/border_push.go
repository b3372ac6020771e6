package commands

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ledgerline/domain"
)

// The push is a process manager: it reads what is wanted (sipuser.push_intended, sipuser.removal_intended), asks the
// gateway, and records the outcome. Its queue is no list of its own but what is pending in the SIP users' streams, so
// that a crash loses none and the newest intention alone is carried out.
//
// Why no row of the reactions table does this: a row is tried eight times and parked, and of a gateway that is away for
// a day nothing may be parked, nothing be tried out of order, and 500 waiting jobs must not make 500 requests a
// minute. The rows decide what is wanted; that is quick and asks nobody. The push keeps its own patience.
//
// What always holds: one request at a time per gateway, gateways side by side; a creation whose answer was lost is
// looked for before it is repeated, by the random set-side name, and so is one that may have been under way when
// the program ended; nothing is written over or removed that is not ours or adopted on the record; replaying the log
// asks nobody.

// borders are the pushes under way, and what the phone plane asks of gateways. The zero value is ready.
type borders struct {
	mu      sync.Mutex
	pushes  map[domain.GatewayID]*push
	sources atomic.Pointer[map[netip.Addr]domain.GatewayID] // nil until known
}

// push is the work on one gateway. Everything below mu is volatile: losing it costs a few searches.
type push struct {
	s  *Service
	id domain.GatewayID

	mu       sync.Mutex
	began    domain.Position // end of the log when this began: creations intended before it may have been under way
	settled  time.Time       // when such creations may be repeated
	client   Border
	revision domain.Revision // of the gateway, the client was made from
	records  *records
	icps     []BorderICP
	icpsAt   time.Time
	failures int       // in a row, without an answer
	due      time.Time // nothing is asked before
	holds    int       // in a row, without a success between
	proof    time.Time // next daily look at the token
	compare  time.Time // next nightly comparison
	jobs     map[domain.SIPUserID]*job

	seen  Pushing // as of the last look; under its own lock for readers
	tried int     // failures before of what is being done now
	show  sync.Mutex
}

// job is what is remembered of one SIP user between tries.
type job struct {
	rev      int
	failures int
	due      time.Time
	unclear  bool // a creation may have been carried out
	searched int
	found    bool // by such a search
	adopted  bool
	verify   *verification
	weak     bool
}

// verification is a write that is to be read back.
type verification struct {
	id, icp, action string
	fields          []string
	reads, rewrites int
}

// records are the gateway's SIP users as listed, kept up with our own writes.
type records struct {
	at     time.Time
	byName map[string][]BorderUser
	byICP  map[string][]BorderUser // icp + "\x00" + ICP-side name
	owner  map[string]domain.SIPUserID
}

// Limits of what is remembered.
const (
	recordsLife = 10 * time.Minute
	serverTries = 5
	circuitOpen = 5
	longestHold = time.Hour
)

// Pushing is how the work on one gateway stands.
type Pushing struct {
	GatewayID domain.GatewayID `json:"gateway_id"`
	Token     string           `json:"token"`
	DaysLeft  int              `json:"days_left"` // of the token; -1: unknown
	// Stopped is why the queue stands still: empty when it runs, else disabled, paused, no_token, or what holds it.
	Stopped string `json:"stopped,omitempty"`
	// Circuit is closed, or open while nothing answers.
	Circuit   string           `json:"circuit"`
	Waiting   int              `json:"waiting"`
	NextAt    time.Time        `json:"next_at,omitzero"`
	LastError string           `json:"last_error,omitempty"`
	Exchanges []BorderExchange `json:"-"`
}

// pushOf is the push of a gateway, made when first asked for.
func (b *borders) pushOf(s *Service, id domain.GatewayID) *push {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pushes == nil {
		b.pushes = map[domain.GatewayID]*push{}
	}
	p := b.pushes[id]
	if p == nil {
		p = &push{s: s, id: id, jobs: map[domain.SIPUserID]*job{}, revision: domain.NoStream}
		b.pushes[id] = p
	}
	return p
}

// forget drops what is known of a gateway.
func (b *borders) forget(id domain.GatewayID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.pushes, id)
}

// Pushings tells how the work on every gateway known to this process stands, by id.
func (s *Service) Pushings() []Pushing {
	s.borders.mu.Lock()
	pushes := make([]*push, 0, len(s.borders.pushes))
	for _, p := range s.borders.pushes {
		pushes = append(pushes, p)
	}
	s.borders.mu.Unlock()
	out := make([]Pushing, 0, len(pushes))
	for _, p := range pushes {
		p.show.Lock()
		if p.seen.GatewayID != "" {
			out = append(out, p.seen)
		}
		p.show.Unlock()
	}
	slices.SortFunc(out, func(a, b Pushing) int { return strings.Compare(string(a.GatewayID), string(b.GatewayID)) })
	return out
}

// PushGateway does what is due on one gateway now, and answers when there is something next; zero when that takes an
// event. One call at a time per gateway; a second waits.
func (s *Service) PushGateway(ctx context.Context, id domain.GatewayID) (next time.Time, err error) {
	p := s.borders.pushOf(s, id)
	p.mu.Lock()
	defer p.mu.Unlock()
	caller := CallerFrom(ctx)
	caller.Actor = "system:gateway"
	ctx = WithCaller(ctx, caller)
	next, err = p.step(ctx)
	p.tell(ctx, next, err)
	return next, err
}

// tell notes how the work stands, for those who look.
func (p *push) tell(ctx context.Context, next time.Time, err error) {
	g, _, loadErr := load[domain.Gateway](ctx, p.s.Log, p.id.Stream())
	if loadErr != nil {
		return
	}
	now := p.s.now()
	p.show.Lock()
	defer p.show.Unlock()
	p.seen.GatewayID, p.seen.Token, p.seen.Stopped, p.seen.NextAt, p.seen.Circuit = p.id, g.TokenState(now), g.Stopped(), next, "closed"
	if g.Live() != nil {
		p.seen.GatewayID = ""
	}
	p.seen.DaysLeft = -1
	if g.Usable() && !g.Token.Proven {
		p.seen.DaysLeft = max(int(g.Token.ActAt.Sub(now)/(24*time.Hour)), 0)
	}
	if p.failures >= circuitOpen {
		p.seen.Circuit = "open"
	}
	if err != nil {
		p.seen.LastError = err.Error()
	}
}

func (p *push) trace(e BorderExchange) {
	const most = 100
	p.show.Lock()
	defer p.show.Unlock()
	e.Attempt += p.tried
	if p.seen.Exchanges = append(p.seen.Exchanges, e); len(p.seen.Exchanges) > most {
		p.seen.Exchanges = slices.Delete(p.seen.Exchanges, 0, len(p.seen.Exchanges)-most)
	}
}

// trying notes how often what is done now was tried before.
func (p *push) trying(before int) {
	p.show.Lock()
	defer p.show.Unlock()
	p.tried = before
}

// Exchanges are the latest exchanges with a gateway, the oldest first.
func (s *Service) Exchanges(id domain.GatewayID) []BorderExchange {
	p := s.borders.pushOf(s, id)
	p.show.Lock()
	defer p.show.Unlock()
	return slices.Clone(p.seen.Exchanges)
}

// earliest is the earlier of two times of which zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// step does what is due now.
func (p *push) step(ctx context.Context) (next time.Time, err error) {
	g, h, err := load[domain.Gateway](ctx, p.s.Log, p.id.Stream())
	if err != nil {
		return time.Time{}, err
	}
	if g.Live() != nil {
		return time.Time{}, nil
	}
	next, err = p.watchToken(ctx, g)
	if err != nil {
		return next, err
	}
	if !p.due.IsZero() && p.s.now().Before(p.due) {
		return earliest(next, p.due), nil
	}
	switch reason := g.Stopped(); {
	case reason == "":
	case reason == g.Held.Class && reason != ClassProtocol:
		at, err := p.probe(ctx, g, h)
		return earliest(next, at), err
	default:
		return next, nil
	}
	if p.began.IsZero() {
		if p.began, err = p.s.Log.Head(ctx); err != nil {
			return next, err
		}
	}
	at, err := p.drain(ctx, h.revision)
	if err == nil {
		var compareAt time.Time
		compareAt, err = p.nightly(ctx)
		at = earliest(at, compareAt)
	}
	return earliest(next, at), err
}

// connect makes a client, or keeps the one made from the same facts.
func (p *push) connect(ctx context.Context, g domain.Gateway, rev domain.Revision) (Border, error) {
	if p.client != nil && p.revision == rev {
		return p.client, nil
	}
	client, err := p.s.dial(ctx, g, true, p.trace)
	if err == nil {
		p.client, p.revision, p.records, p.icps = client, rev, nil, nil
	}
	return client, err
}

// drain carries out what is pending, the longest waiting first, until nothing is due.
func (p *push) drain(ctx context.Context, _ domain.Revision) (next time.Time, err error) {
	for {
		head, err := p.s.Log.Head(ctx)
		if err != nil {
			return next, err
		}
		pending, err := p.s.Candidates.SIPUsersOn(ctx, head, p.id, true)
		if err != nil {
			return next, err
		}
		p.show.Lock()
		p.seen.Waiting = len(pending)
		p.show.Unlock()
		next = time.Time{}
		worked := 0
		for _, ref := range pending {
			if ctx.Err() != nil {
				return next, ctx.Err()
			}
			if j := p.jobs[ref.ID]; j != nil && p.s.now().Before(j.due) {
				next = earliest(next, j.due)
				continue
			}
			// Asked anew each time: it may have been paused, or have lost its token, a moment ago.
			g, h, err := load[domain.Gateway](ctx, p.s.Log, p.id.Stream())
			if err != nil || g.Stopped() != "" {
				return next, err
			}
			client, err := p.connect(ctx, g, h.revision)
			if err != nil {
				return next, err
			}
			worked++
			stop, err := p.one(ctx, client, g, ref.ID)
			if err != nil {
				return next, err
			}
			if stop {
				return earliest(next, p.due), nil
			}
			p.show.Lock()
			p.seen.Waiting--
			p.show.Unlock()
			if j := p.jobs[ref.ID]; j != nil {
				next = earliest(next, j.due)
			}
		}
		if worked == 0 {
			return next, nil
		}
	}
}

// one carries out what is wanted of one SIP user. stop tells that the whole queue must wait.
func (p *push) one(ctx context.Context, client Border, g domain.Gateway, id domain.SIPUserID) (stop bool, err error) {
	u, h, err := load[domain.SIPUser](ctx, p.s.Log, id.Stream())
	if err != nil {
		return false, err
	}
	if !u.Pending() {
		delete(p.jobs, id)
		return false, nil
	}
	j := p.jobs[id]
	if j == nil || j.rev != u.Rev {
		j = &job{rev: u.Rev, unclear: j != nil && j.unclear}
		p.jobs[id] = j
	}
	p.trying(j.failures)
	defer p.trying(0)
	var events []domain.Event
	if u.Wanted {
		events, err = p.bring(ctx, client, g, u, j, p.wasUnderWay(u, h))
	} else {
		events, err = p.remove(ctx, client, u, j)
	}
	if err == nil {
		p.failures, p.holds = 0, 0
		if len(events) == 0 {
			return false, nil // to be looked at again: j.due
		}
		delete(p.jobs, id)
		return false, p.record(ctx, id, events...)
	}
	return p.fail(ctx, client, g, u, j, err)
}

func (p *push) record(ctx context.Context, id domain.SIPUserID, events ...domain.Event) error {
	_, err := decide(ctx, p.s, id.Stream(), func(domain.SIPUser) ([]domain.Event, error) { return events, nil })
	return err
}

// wasUnderWay tells whether an earlier process may have sent the creation of a record we do not know.
func (p *push) wasUnderWay(u domain.SIPUser, h history) bool {
	if u.MBGID != "" {
		return false
	}
	for i := len(h.events) - 1; i >= 0; i-- {
		if h.events[i].Type == (domain.SIPUserPushIntended{}).EventType() {
			return !p.began.Before(h.events[i].Position)
		}
	}
	return false
}

// open is the clear text of a sealed value of a SIP user.
func (p *push) open(ctx context.Context, v domain.Sealed) (string, error) {
	if v.IsZero() {
		return "", nil
	}
	clear, err := p.s.Vault.Open(ctx, v)
	if errors.Is(err, domain.ErrErased) {
		return "", &BorderError{Class: ClassErased, Text: "the line was erased: remove it, or set its remote credentials anew", Err: err}
	}
	return clear, err
}

// wish is a SIP user in clear text; the display name may have been erased with its user.
func (p *push) wish(ctx context.Context, spec domain.SIPUserSpec) (w BorderWish, err error) {
	w = BorderWish{Enabled: spec.Enabled, Availability: spec.Availability, SetUsername: spec.SetUsername}
	for _, v := range []struct {
		from domain.Sealed
		to   *string
	}{{spec.Extension.Sealed, &w.Extension}, {spec.SetPassword.Sealed, &w.SetPassword}, {spec.ICPPassword.Sealed, &w.ICPPassword}} {
		if *v.to, err = p.open(ctx, v.from); err != nil {
			return w, err
		}
	}
	w.DisplayName, err = p.s.Open(ctx, spec.DisplayName.Sealed)
	return w, err
}

// bring makes the gateway hold the record as wanted. No events and no error: it waits for j.due.
func (p *push) bring(ctx context.Context, client Border, g domain.Gateway, u domain.SIPUser, j *job, underWay bool) ([]domain.Event, error) {
	w, err := p.wish(ctx, u.Spec)
	if err != nil {
		return nil, err
	}
	if w.ICPID, err = p.icpOf(ctx, client, g, u.Spec.NodeID); err != nil {
		return nil, err
	}
	if j.verify != nil {
		return p.readBack(ctx, client, u, w, j)
	}
	now, found, err := p.find(ctx, client, g, u, w, j)
	if err != nil {
		return nil, err
	}
	if found {
		return p.overwrite(ctx, client, u, w, now, j)
	}
	if wait := p.mayCreate(client, j, underWay); wait {
		return nil, nil
	}
	id, err := client.CreateUser(ctx, w)
	var refused *BorderError
	switch errors.As(err, &refused); {
	case err == nil:
		p.records.add(id, u.ID, w)
		j.verify = &verification{id: id, icp: w.ICPID, action: "created", fields: nil}
		return p.readBack(ctx, client, u, w, j)
	case refused != nil && refused.Class == ClassDuplicate:
		// Somebody has our random name: nobody but an earlier try of ours.
		list, err := client.FindUser(ctx, w.SetUsername)
		if err != nil {
			return nil, err
		}
		if len(list) == 1 && p.free(list[0].ID, u.ID) {
			j.found = true
			return p.overwrite(ctx, client, u, w, list[0], j)
		}
		return nil, &BorderError{Class: ClassDuplicate, Status: refused.Status, Text: refused.Text + " (and a search does not show it)"}
	case refused != nil && refused.Unclear:
		j.unclear, j.searched, p.records = true, 0, nil
	}
	return nil, err
}

// mayCreate tells whether a creation must wait because an earlier one is unclear: it is repeated after two searches
// that do not find it, some seconds apart. underWay is of one that another process may have sent before it ended.
func (p *push) mayCreate(client Border, j *job, underWay bool) (wait bool) {
	now := p.s.now()
	if underWay && !j.unclear {
		if p.settled.IsZero() {
			p.settled = now.Add(client.Policy().UnclearWait)
		}
		if p.records.at.Before(p.settled) {
			if !now.Before(p.settled) {
				p.records = nil // list once more
				j.due = now
			} else {
				j.due = p.settled
			}
			return true
		}
		return false
	}
	if !j.unclear {
		return false
	}
	if j.searched++; j.searched < 2 {
		j.due = now.Add(client.Policy().UnclearWait)
		p.records = nil
		return true
	}
	j.unclear = false
	return false
}

// free tells whether no other SIP user of ours holds a record.
func (p *push) free(mbgID string, id domain.SIPUserID) bool {
	if p.records == nil {
		return true
	}
	owner, taken := p.records.owner[mbgID]
	return !taken || owner == id
}

// find looks for the record: by the id we hold, by the set-side name, which is random and so a perfect key, and at
// last by ICP and extension, which finds what somebody made by hand.
func (p *push) find(ctx context.Context, client Border, g domain.Gateway, u domain.SIPUser, w BorderWish, j *job) (BorderUser, bool, error) {
	if u.MBGID != "" {
		now, err := client.User(ctx, u.MBGID)
		switch {
		case classOf(err) == ClassNotFound: // forget the id, and look on
		case err != nil:
			return now, false, err
		case now.SetUsername != w.SetUsername && now.SetUsername != u.Pushed.SetUsername && now.ICPUsername != w.Extension && !j.adopted && u.On:
			return now, false, &BorderError{Class: ClassForeign, Text: fmt.Sprintf("record %s is now of %q, extension %q: the gateway was restored, or its ids were used again", u.MBGID, now.SetUsername, now.ICPUsername)}
		default:
			return now, true, nil
		}
	}
	if j.unclear {
		p.records = nil
	}
	if err := p.list(ctx, client); err != nil {
		return BorderUser{}, false, err
	}
	for _, list := range [][]BorderUser{p.records.byName[w.SetUsername], p.records.byICP[w.ICPID+"\x00"+w.Extension]} {
		var ours []BorderUser
		for _, r := range list {
			if p.free(r.ID, u.ID) && r.ID != u.MBGID {
				ours = append(ours, r)
			}
		}
		switch {
		case len(ours) > 1:
			return BorderUser{}, false, &BorderError{Class: ClassAmbiguous, Text: fmt.Sprintf("%d records fit: %s", len(ours), ids(ours))}
		case len(ours) == 0:
			continue
		}
		now, err := client.User(ctx, ours[0].ID)
		if classOf(err) == ClassNotFound {
			p.records = nil
			return now, false, &BorderError{Class: ClassServer, Text: "a record that was listed is gone"}
		}
		if err != nil {
			return now, false, err
		}
		if now.SetUsername == w.SetUsername {
			j.found = u.MBGID == ""
			return now, true, nil
		}
		return now, true, p.adopt(ctx, g, u, now, j)
	}
	return BorderUser{}, false, nil
}

func ids(list []BorderUser) string {
	var out []string
	for _, r := range list {
		out = append(out, r.ID)
	}
	return strings.Join(out, ", ")
}

// adopt takes over a record somebody made by hand for the extension, on the record and with what it said; unless the
// gateway's setting wants a person to say so first.
func (p *push) adopt(ctx context.Context, g domain.Gateway, u domain.SIPUser, now BorderUser, j *job) error {
	if j.adopted || u.MBGID == now.ID {
		return nil
	}
	if g.Adopt == "ask" && u.Why != "adopt" {
		return &BorderError{Class: ClassAdopt, Text: fmt.Sprintf("record %s was made by hand for this extension (set side %q): try again with adopt to take it over", now.ID, now.SetUsername)}
	}
	subject := u.LineID.Subject()
	was := domain.MBGRecord{SetUsername: now.SetUsername, ICPID: now.ICPID, Enabled: now.Enabled, Availability: now.Availability}
	var err error
	if was.ICPUsername, err = p.s.personal(ctx, subject, now.ICPUsername); err != nil {
		return err
	}
	if was.Description, err = p.s.personal(ctx, subject, now.Description); err != nil {
		return err
	}
	j.adopted = true
	return p.record(ctx, u.ID, domain.SIPUserAdopted{Rev: u.Rev, MBGID: now.ID, Was: was})
}

// overwrite brings a record to what is wanted: passwords, which cannot be read back, whenever they may differ.
func (p *push) overwrite(ctx context.Context, client Border, u domain.SIPUser, w BorderWish, now BorderUser, j *job) ([]domain.Event, error) {
	fields := client.Differs(now, w)
	passwords := u.Force || !u.On || j.found || j.adopted || !u.Pushed.SameCredentials(u.Spec)
	action := "updated"
	if j.found && !u.On {
		action = "created" // by the try whose answer was lost
	}
	if len(fields) == 0 && !passwords {
		return []domain.Event{domain.SIPUserPushed{Rev: u.Rev, Action: "unchanged", MBGID: now.ID, ICPID: w.ICPID, Attempts: j.failures + 1}}, nil
	}
	if passwords {
		fields = append(fields, "icp_password", "set_password")
	}
	err := client.UpdateUser(ctx, now, w, passwords)
	if classOf(err) == ClassNotFound {
		p.records = nil
		return nil, &BorderError{Class: ClassServer, Text: "the record vanished while it was written"}
	}
	if err != nil {
		return nil, err
	}
	p.records.add(now.ID, u.ID, w)
	j.verify = &verification{id: now.ID, icp: w.ICPID, action: action, fields: fields}
	return p.readBack(ctx, client, u, w, j)
}

// readBack compares what was written with what is read. A member of a cluster may lag: it is read thrice, some seconds
// apart, written once more, and then refused.
func (p *push) readBack(ctx context.Context, client Border, u domain.SIPUser, w BorderWish, j *job) ([]domain.Event, error) {
	v := j.verify
	now, err := client.User(ctx, v.id)
	gone := classOf(err) == ClassNotFound
	if err != nil && !gone {
		return nil, err
	}
	if !gone && len(client.Differs(now, w)) == 0 {
		return []domain.Event{domain.SIPUserPushed{Rev: u.Rev, Action: v.action, MBGID: v.id, ICPID: v.icp, Fields: v.fields, Attempts: j.failures + 1, Found: j.found}}, nil
	}
	if v.reads++; v.reads < 3 {
		j.due = p.s.now().Add(client.Policy().UnclearWait)
		return nil, nil
	}
	if gone || v.rewrites > 0 {
		j.verify = nil
		what := "it cannot be read"
		if !gone {
			what = strings.Join(client.Differs(now, w), ", ") + " differ"
		}
		return nil, &BorderError{Class: ClassNotApplied, Text: "record " + v.id + " was written, and read back " + what}
	}
	v.reads, v.rewrites = 0, 1
	if err := client.UpdateUser(ctx, now, w, true); err != nil {
		return nil, err
	}
	j.due = p.s.now().Add(client.Policy().UnclearWait)
	return nil, nil
}

// remove makes the gateway hold the record no more: only one whose id we hold, or that carries our random name.
func (p *push) remove(ctx context.Context, client Border, u domain.SIPUser, j *job) ([]domain.Event, error) {
	done := func(id string, found bool) []domain.Event {
		if p.records != nil {
			p.records.drop(id)
		}
		return []domain.Event{domain.SIPUserRemoved{Rev: u.Rev, MBGID: id, Found: found, Attempts: j.failures + 1}}
	}
	id := u.MBGID
	if id == "" {
		list, err := client.FindUser(ctx, u.Spec.SetUsername)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return done("", false), nil
		}
		id = list[0].ID
	} else {
		now, err := client.User(ctx, id)
		if classOf(err) == ClassNotFound {
			return done(id, false), nil
		}
		if err != nil {
			return nil, err
		}
		extension, err := p.s.Open(ctx, u.Spec.Extension.Sealed)
		if err != nil {
			return nil, err
		}
		if now.SetUsername != u.Spec.SetUsername && now.SetUsername != u.Pushed.SetUsername && now.ICPUsername != extension {
			return nil, &BorderError{Class: ClassForeign, Text: fmt.Sprintf("record %s is now of %q, extension %q, and is left alone", id, now.SetUsername, now.ICPUsername)}
		}
	}
	if err := client.DeleteUser(ctx, id); err != nil && classOf(err) != ClassNotFound {
		return nil, err
	}
	return done(id, true), nil
}

// list makes sure that the records are known, and not too old.
func (p *push) list(ctx context.Context, client Border) error {
	now := p.s.now()
	if p.records != nil && now.Sub(p.records.at) < recordsLife {
		return nil
	}
	users, err := client.Users(ctx)
	if err != nil {
		return err
	}
	head, err := p.s.Log.Head(ctx)
	if err != nil {
		return err
	}
	refs, err := p.s.Candidates.SIPUsersOn(ctx, head, p.id, false)
	if err != nil {
		return err
	}
	r := &records{at: now, byName: map[string][]BorderUser{}, byICP: map[string][]BorderUser{}, owner: map[string]domain.SIPUserID{}}
	for _, ref := range refs {
		if ref.MBGID != "" {
			r.owner[ref.MBGID] = ref.ID
		}
	}
	for _, u := range users {
		r.put(u)
	}
	p.records = r
	return nil
}

func (r *records) put(u BorderUser) {
	r.byName[u.SetUsername] = append(r.byName[u.SetUsername], u)
	key := u.ICPID + "\x00" + u.ICPUsername
	r.byICP[key] = append(r.byICP[key], u)
}

// add notes a record we wrote.
func (r *records) add(id string, owner domain.SIPUserID, w BorderWish) {
	if r == nil {
		return
	}
	r.drop(id)
	r.owner[id] = owner
	r.put(BorderUser{ID: id, SetUsername: w.SetUsername, ICPID: w.ICPID, ICPUsername: w.Extension})
}

func (r *records) drop(id string) {
	if r == nil || r.owner[id] == "" {
		return
	}
	for _, m := range []map[string][]BorderUser{r.byName, r.byICP} {
		for key, list := range m {
			if i := slices.IndexFunc(list, func(u BorderUser) bool { return u.ID == id }); i >= 0 {
				m[key] = slices.Delete(slices.Clone(list), i, i+1)
				break
			}
		}
	}
	delete(r.owner, id)
}

// fail decides what a failure means: for the queue, for this SIP user, or for the token.
func (p *push) fail(ctx context.Context, client Border, g domain.Gateway, u domain.SIPUser, j *job, cause error) (stop bool, err error) {
	var b *BorderError
	if !errors.As(cause, &b) {
		return true, cause // our own trouble: nothing is known of the gateway
	}
	policy := client.Policy()
	j.failures++
	switch b.Class {
	case ClassTransport, ClassOverloaded:
		p.failures++
		wait := backoff(policy, p.failures)
		if p.failures >= circuitOpen && b.Class == ClassTransport {
			wait = policy.Probe
		}
		p.wait(max(wait, b.RetryAfter), cause)
		return true, nil
	case ClassServer, ClassNonce:
		if j.failures < serverTries {
			j.due = p.s.now().Add(backoff(policy, j.failures))
			return false, nil
		}
	case ClassProtocol:
		if j.failures < 3 {
			j.due = p.s.now().Add(backoff(policy, j.failures))
			return false, nil
		}
		return true, p.hold(ctx, policy, b)
	case ClassTLS, ClassSignature, ClassConsumer, ClassPermission, ClassServicesOff, ClassClock:
		return true, p.hold(ctx, policy, b)
	case ClassTokenDead, ClassExpired:
		return true, p.doubtToken(ctx, client, g)
	case ClassWeak:
		if !j.weak && u.Failed.Class != ClassWeak {
			j.weak = true
			if err := p.record(ctx, u.ID, domain.SIPUserPushFailed{Rev: u.Rev, Class: b.Class, Text: b.Text + ": a new password is made, for the phone too", Attempts: j.failures}); err != nil {
				return false, err
			}
			return false, p.s.strengthen(ctx, u.LineID)
		}
	}
	delete(p.jobs, u.ID)
	return false, p.record(ctx, u.ID, domain.SIPUserPushFailed{Rev: u.Rev, Class: b.Class, Text: b.Text, Attempts: j.failures})
}

// backoff is the delay after the n-th failure: doubling from the first to the longest, with full jitter.
func backoff(p BorderPolicy, n int) time.Duration {
	most := p.RetryMax
	if n < 30 {
		most = min(most, p.RetryFirst<<(n-1))
	}
	return time.Duration(rand.Int64N(int64(most) + 1))
}

func (p *push) wait(d time.Duration, cause error) {
	p.due = p.s.now().Add(d)
	p.show.Lock()
	defer p.show.Unlock()
	p.seen.LastError = cause.Error()
}

// hold stops the queue for what a person must mend; it is looked at again, less and less often.
func (p *push) hold(ctx context.Context, policy BorderPolicy, b *BorderError) error {
	p.wait(min(policy.Probe<<min(p.holds, 10), longestHold), b)
	p.holds++
	_, err := decide(ctx, p.s, p.id.Stream(), func(g domain.Gateway) ([]domain.Event, error) { return g.Hold(b.Class, Advice(b.Class, b)), nil })
	return err
}

// probe looks whether what holds the queue is mended.
func (p *push) probe(ctx context.Context, g domain.Gateway, h history) (next time.Time, err error) {
	client, err := p.connect(ctx, g, h.revision)
	if err != nil {
		return time.Time{}, err
	}
	policy := client.Policy()
	if err := client.Ping(ctx); err != nil {
		if class := classOf(err); class == ClassTokenDead || class == ClassExpired {
			return time.Time{}, p.loseToken(ctx, class)
		}
		p.wait(min(policy.Probe<<min(p.holds, 10), longestHold), err)
		p.holds++
		return p.due, nil
	}
	_, err = decide(ctx, p.s, p.id.Stream(), func(g domain.Gateway) ([]domain.Event, error) { return g.Free(), nil })
	return p.s.now(), err
}

// doubtToken asks once more before the token is given up: one refusal may be a slip.
func (p *push) doubtToken(ctx context.Context, client Border, g domain.Gateway) error {
	err := client.Ping(ctx)
	switch class := classOf(err); class {
	case ClassTokenDead, ClassExpired:
		return p.loseToken(ctx, class)
	case "":
		if err == nil {
			p.due = p.s.now().Add(client.Policy().RetryFirst)
			return nil
		}
		return err
	}
	p.wait(client.Policy().Probe, err)
	return nil
}

func (p *push) loseToken(ctx context.Context, class string) error {
	_, err := decide(ctx, p.s, p.id.Stream(), func(g domain.Gateway) ([]domain.Event, error) { return g.LoseToken(class, p.s.now()), nil })
	return err
}

// watchToken warns of the token's end, and once a day past it, or where the gateway can tell, asks how it stands.
func (p *push) watchToken(ctx context.Context, g domain.Gateway) (next time.Time, err error) {
	if !g.Usable() {
		return time.Time{}, nil
	}
	now := p.s.now()
	_, err = decide(ctx, p.s, p.id.Stream(), func(g domain.Gateway) ([]domain.Event, error) { return g.Warn(now), nil })
	if err != nil {
		return now, err
	}
	const day = 24 * time.Hour
	next = now.Add(time.Hour)
	if now.Before(p.proof) {
		return earliest(next, p.proof), nil
	}
	g, h, err := load[domain.Gateway](ctx, p.s.Log, p.id.Stream())
	if err != nil {
		return next, err
	}
	client, err := p.connect(ctx, g, h.revision)
	if err != nil {
		return next, err
	}
	asked, err := p.askExpiry(ctx, client, g)
	if err == nil && g.Overdue(now) && !asked {
		if err = client.Ping(ctx); err == nil {
			_, err = decide(ctx, p.s, p.id.Stream(), func(g domain.Gateway) ([]domain.Event, error) { return g.Prove(now), nil })
		}
	}
	var b *BorderError
	switch errors.As(err, &b); {
	case err == nil:
		p.proof = now.Add(day)
	case b == nil:
		return next, err
	case b.Class == ClassTokenDead || b.Class == ClassExpired:
		return next, p.loseToken(ctx, b.Class)
	default:
		p.proof = now.Add(10 * time.Minute) // it says nothing of the token
		p.show.Lock()
		p.seen.LastError = b.Error()
		p.show.Unlock()
	}
	return earliest(next, p.proof), nil
}

// askExpiry learns the token's end from the gateway, where the mapping says how, and renews it 30 days before if that
// is wanted.
func (p *push) askExpiry(ctx context.Context, client Border, g domain.Gateway) (asked bool, err error) {
	expires, ok, err := client.TokenExpiry(ctx)
	if err != nil || !ok {
		return false, err
	}
	now := p.s.now()
	if g.AutoRenew && client.Policy().CanRenew && expires.Sub(now) < 30*24*time.Hour {
		if _, err := client.RenewToken(ctx); err != nil {
			return true, err
		}
		if expires, _, err = client.TokenExpiry(ctx); err != nil {
			return true, err
		}
	}
	_, err = decide(ctx, p.s, p.id.Stream(), func(g domain.Gateway) ([]domain.Event, error) { return g.LearnExpiry(expires, now), nil })
	return true, err
}
