package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"ledgerline/domain"
)

// CreateRollout gives many users a code each.
type CreateRollout struct {
	ID         domain.RolloutID  `json:"id" validate:"omitempty,id"` // without dots; a new one when empty
	TenantID   domain.TenantID   `json:"tenant_id" validate:"required,id"`
	CategoryID domain.CategoryID `json:"category_id" validate:"required,id"`
	// QuarantineID, when set, is where a phone comes first whose MAC is not in Users; ConfirmRolloutRow brings it further.
	QuarantineID domain.CategoryID `json:"quarantine_id" validate:"omitempty,id"`
	Name         string            `json:"name" validate:"max=128,text"`
	// PhoneApp is the category's when empty.
	PhoneApp string `json:"phone_app" validate:"max=64,text"`
	// ValidForS is how many seconds each code lives; zero means the instance's (7 days), which is the most as well.
	ValidForS int `json:"valid_for_s" validate:"gte=0"`
	// Users get a row each, in this order; All means every user the tenant has, by id.
	Users []domain.RolloutPlan `json:"users"`
	All   bool                 `json:"all"`
}

// CreateRollout records who is to get a code; the reaction carry-out-rollout issues them. Errors: ErrInvalid,
// domain.ErrRolloutExists, domain.ErrTenantUnknown, domain.ErrTenantDeleted, those of domain.Category.Takes,
// domain.ErrNotProvisioning.
func (s *Service) CreateRollout(ctx context.Context, in CreateRollout) (domain.RolloutID, Outcome, error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	if in.ID == "" {
		in.ID = domain.RolloutID(newID())
	}
	most := int(s.ttl("rollout").Seconds())
	switch {
	case strings.Contains(string(in.ID), "."):
		return "", Outcome{}, &InvalidError{"id", "must have no dots"}
	case in.All == (len(in.Users) > 0):
		return "", Outcome{}, &InvalidError{"users", "is required, or all"}
	case in.ValidForS > most:
		return "", Outcome{}, &InvalidError{"valid_for_s", fmt.Sprintf("must be at most %d", most)}
	case in.QuarantineID == in.CategoryID:
		return "", Outcome{}, &InvalidError{"quarantine_id", "must be another category"}
	}
	if in.ValidForS == 0 {
		in.ValidForS = most
	}
	if err := s.liveTenant(ctx, in.TenantID); err != nil {
		return "", Outcome{}, err
	}
	category, err := s.provisioning(ctx, in.TenantID, in.CategoryID)
	if err != nil {
		return "", Outcome{}, err
	}
	if in.QuarantineID != "" {
		if _, err := s.provisioning(ctx, in.TenantID, in.QuarantineID); err != nil {
			return "", Outcome{}, err
		}
	}
	if in.PhoneApp == "" {
		in.PhoneApp = category.PhoneApp
	}
	plan, err := s.planRollout(ctx, in)
	if err != nil {
		return "", Outcome{}, err
	}
	started := domain.RolloutStarted{RolloutID: in.ID, TenantID: in.TenantID, Name: in.Name, CategoryID: in.CategoryID, QuarantineID: in.QuarantineID,
		PhoneApp: in.PhoneApp, ValidForS: in.ValidForS, Rows: len(plan)}
	out, err := s.startRollout(ctx, started, plan)
	return in.ID, out, err
}

// startRollout plans the rows in portions that an append can hold, the last of them together with the start.
func (s *Service) startRollout(ctx context.Context, started domain.RolloutStarted, plan []domain.RolloutPlan) (out Outcome, err error) {
	const portion = 2000
	from := 1
	for rows := range slices.Chunk(plan, portion) {
		events := []domain.Event{domain.RolloutRowsPlanned{RolloutID: started.RolloutID, TenantID: started.TenantID, From: from, Rows: rows}}
		out, err = decide(ctx, s, started.RolloutID.Stream(), func(r domain.Rollout) ([]domain.Event, error) {
			if r.Exists || len(r.Plan) != from-1 {
				return nil, domain.ErrRolloutExists
			}
			if from+len(rows) <= len(plan) {
				return events, nil
			}
			start, err := r.Start(started)
			return append(events, start...), err
		})
		if err != nil {
			return Outcome{}, err
		}
		from += len(rows)
	}
	return out, nil
}

// provisioning is a category codes of the tenant may lead to.
func (s *Service) provisioning(ctx context.Context, tenant domain.TenantID, id domain.CategoryID) (domain.Category, error) {
	c, _, err := load[domain.Category](ctx, s.Log, id.Stream())
	if err == nil {
		err = c.Takes(tenant, "", "")
	}
	if err == nil && c.Kind != domain.Provisioning {
		err = domain.ErrNotProvisioning
	}
	return c, err
}

// planRollout is the rows asked for, each checked.
func (s *Service) planRollout(ctx context.Context, in CreateRollout) ([]domain.RolloutPlan, error) {
	if in.All {
		return s.everyUser(ctx, in.TenantID)
	}
	if len(in.Users) > domain.MaxRolloutRows {
		return nil, errTooManyRows
	}
	plan := slices.Clone(in.Users)
	users, macs := make(map[domain.UserID]bool, len(plan)), make(map[domain.MAC]bool)
	for i := range plan {
		p := &plan[i]
		field := fmt.Sprintf("users[%d].", i)
		if err := domain.CheckID(string(p.UserID)); err != nil {
			return nil, &InvalidError{field + "user_id", err.Error()}
		}
		if users[p.UserID] {
			return nil, &InvalidError{field + "user_id", "is named twice"}
		}
		users[p.UserID] = true
		if p.MAC != "" {
			mac, err := domain.ParseMAC(string(p.MAC))
			if err != nil {
				return nil, &InvalidError{field + "mac", domain.ErrBadMAC.Error()}
			}
			if macs[mac] {
				return nil, &InvalidError{field + "mac", "is named twice"}
			}
			macs[mac], p.MAC = true, mac
		}
		u, _, err := load[domain.User](ctx, s.Log, p.UserID.Stream())
		if err != nil {
			return nil, err
		}
		if u.Live(in.TenantID) != nil {
			return nil, &InvalidError{field + "user_id", "is no user of this tenant"}
		}
	}
	return plan, nil
}

var errTooManyRows = &InvalidError{"users", fmt.Sprintf("must be at most %d", domain.MaxRolloutRows)}

// everyUser plans a row for each user of the tenant.
func (s *Service) everyUser(ctx context.Context, tenant domain.TenantID) (plan []domain.RolloutPlan, err error) {
	const batch = 1000
	head, err := s.Log.Head(ctx)
	if err != nil {
		return nil, err
	}
	for after := domain.UserID(""); ; {
		users, err := s.Candidates.UsersOf(ctx, head, tenant, after, batch)
		if err != nil {
			return nil, err
		}
		for _, u := range users {
			plan, after = append(plan, domain.RolloutPlan{UserID: u}), u
		}
		switch {
		case len(plan) > domain.MaxRolloutRows:
			return nil, errTooManyRows
		case len(users) == batch:
			continue
		case len(plan) == 0:
			return nil, &InvalidError{"users", "there are none in this tenant"}
		}
		return plan, nil
	}
}

// RolloutRows names rows of a rollout; none means all.
type RolloutRows struct {
	ID   domain.RolloutID `json:"id" validate:"required,id"`
	Rows []int            `json:"rows" validate:"max=20000"`
}

// ask records what is asked of a rollout and its rows.
func (s *Service) askRollout(ctx context.Context, in RolloutRows, ask func(domain.Rollout) ([]domain.Event, error)) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(r domain.Rollout) ([]domain.Event, error) {
		if err := r.Live(in.Rows...); err != nil {
			return nil, err
		}
		return ask(r)
	})
}

// CancelRollout takes the codes of the rows that wait back: of all rows, or of those named, of which each must wait. What
// was used stays as it is. Errors: ErrInvalid, domain.ErrRolloutUnknown, domain.ErrRolloutRow; for rows that are named
// domain.ErrCodeRedeemed, domain.ErrCodeRevoked, domain.ErrCodeExpired.
func (s *Service) CancelRollout(ctx context.Context, in RolloutRows) (Outcome, error) {
	out, err := s.askRollout(ctx, in, func(r domain.Rollout) ([]domain.Event, error) {
		if len(in.Rows) > 0 {
			return nil, nil // the code's own stream tells
		}
		return r.Cancel()
	})
	for _, n := range in.Rows {
		if err != nil {
			return out, err
		}
		var row domain.RolloutRow
		if row, _, err = load[domain.RolloutRow](ctx, s.Log, in.ID.Row(n)); err == nil {
			out, err = decide(ctx, s, row.Code, func(c domain.Code) ([]domain.Event, error) { return c.Revoke(s.now()) })
		}
	}
	return out, err
}

// ExtendRollout lets rows that wait do so for the rollout's full time from now on: all of them, or those named, of which
// each must wait; their digits stay as they are. Errors: ErrInvalid, domain.ErrRolloutUnknown, domain.ErrRolloutRow,
// domain.ErrRolloutRowSettled, ErrDrawnElsewhere.
func (s *Service) ExtendRollout(ctx context.Context, in RolloutRows) (Outcome, error) {
	if s.Registry != nil {
		return Outcome{}, ErrDrawnElsewhere
	}
	return s.askRollout(ctx, in, func(domain.Rollout) ([]domain.Event, error) {
		err := s.eachRow(ctx, in, func(row domain.RolloutRow) error {
			if !row.Waits() || !s.now().Before(row.ValidUntil) {
				return domain.ErrRolloutRowSettled
			}
			return nil
		})
		return []domain.Event{domain.RolloutExtended{Rows: in.Rows, AskedAt: s.now()}}, err
	})
}

// ErrDrawnElsewhere: the life of the code is the registry's that drew it, which gives no more of it.
var ErrDrawnElsewhere = errors.New("codes drawn by a registry elsewhere cannot be extended: reissue them")

// ReissueRollout gives rows without a phone new codes: all of those that expired, were cancelled or failed, or the rows
// named, which may also wait still, or have a phone in quarantine that is not to come further. Errors: ErrInvalid, domain.ErrRolloutUnknown, domain.ErrRolloutRow,
// domain.ErrRolloutRowRegistered.
func (s *Service) ReissueRollout(ctx context.Context, in RolloutRows) (Outcome, error) {
	return s.askRollout(ctx, in, func(domain.Rollout) ([]domain.Event, error) {
		return []domain.Event{domain.RolloutReissued{Rows: in.Rows}}, s.eachRow(ctx, in, domain.RolloutRow.Issuable)
	})
}

// ResendRollout tells innovaphone Users again of the phones that came: of all rows that have one, or of those named, of
// which each must have one. A notice that still waits is not doubled. Errors: ErrInvalid, domain.ErrRolloutUnknown,
// domain.ErrRolloutRow, domain.ErrRolloutRowOpen, domain.ErrNoUsers.
func (s *Service) ResendRollout(ctx context.Context, in RolloutRows) (Outcome, error) {
	return s.askRollout(ctx, in, func(r domain.Rollout) ([]domain.Event, error) {
		listen, err := s.usersListen(ctx, r.TenantID)
		if err != nil {
			return nil, err
		}
		if !listen {
			return nil, domain.ErrNoUsers
		}
		return []domain.Event{domain.RolloutResent{Rows: in.Rows}}, s.eachRow(ctx, in, func(row domain.RolloutRow) error {
			if row.State != domain.RowRegistered {
				return domain.ErrRolloutRowOpen
			}
			return nil
		})
	})
}

// eachRow is the first error that may has of a row that is named, with its number.
func (s *Service) eachRow(ctx context.Context, in RolloutRows, may func(domain.RolloutRow) error) error {
	for _, n := range in.Rows {
		row, _, err := load[domain.RolloutRow](ctx, s.Log, in.ID.Row(n))
		if err == nil {
			err = may(row)
		}
		if err != nil {
			return fmt.Errorf("row %d: %w", n, err)
		}
	}
	return nil
}

// ExportRollout notes that the caller is about to get the codes of rows, or of all, in clear text; Codes is how many.
type ExportRollout struct {
	RolloutRows
	Format string `json:"format" validate:"required,oneof=csv sheet"`
	Codes  int    `json:"codes"`
}

// ExportRollout errors: ErrInvalid, domain.ErrRolloutUnknown, domain.ErrRolloutRow.
func (s *Service) ExportRollout(ctx context.Context, in ExportRollout) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return s.askRollout(ctx, in.RolloutRows, func(domain.Rollout) ([]domain.Event, error) {
		return []domain.Event{domain.RolloutExported{Format: in.Format, Rows: in.Rows, Codes: in.Codes}}, nil
	})
}

// ConfirmRolloutRow brings the phone that waits in quarantine to the rollout's category and the row's user. UserID, when
// set, must be that user.
type ConfirmRolloutRow struct {
	ID     domain.RolloutID `json:"id" validate:"required,id"`
	Row    int              `json:"row" validate:"gte=1"`
	UserID domain.UserID    `json:"user_id" validate:"omitempty,id"`
}

// ConfirmRolloutRow errors: ErrInvalid, domain.ErrRolloutUnknown, domain.ErrRolloutRow, domain.ErrRolloutRowPlain,
// domain.ErrUserUnknown for another user's row, and those of AssignDevice.
func (s *Service) ConfirmRolloutRow(ctx context.Context, in ConfirmRolloutRow) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	r, _, err := load[domain.Rollout](ctx, s.Log, in.ID.Stream())
	if err == nil {
		err = r.Live(in.Row)
	}
	if err != nil {
		return Outcome{}, err
	}
	row, _, err := load[domain.RolloutRow](ctx, s.Log, in.ID.Row(in.Row))
	switch {
	case err != nil:
		return Outcome{}, err
	case in.UserID != "" && in.UserID != row.UserID:
		return Outcome{}, domain.ErrUserUnknown
	case row.State != domain.RowQuarantined:
		return Outcome{}, domain.ErrRolloutRowPlain
	}
	return s.AssignDevice(ctx, AssignDevice{ID: row.DeviceID, TenantID: r.TenantID, CategoryID: r.CategoryID, UserID: row.UserID, CodeID: row.CodeID})
}

// rolloutWorkers is how many rows are worked on at once: enough that appends share one write to the disk.
const rolloutWorkers = 256

// CarryOutRollout does for each row what the event e at r asks of the rollout. Interrupted, it goes on where it was when
// it is called again: what a row has got already it does not get twice.
func (s *Service) CarryOutRollout(ctx context.Context, r domain.Recorded, e domain.Event) error {
	rollout, _, err := load[domain.Rollout](ctx, s.Log, r.Stream)
	if err != nil {
		return err
	}
	w := rolloutWork{Service: s, rollout: rollout, now: s.now()}
	for _, epoch := range domain.LiveEpochs(w.now)[1:] {
		if s.ownKeys.known(ctx, s, epoch) {
			w.older = append(w.older, epoch)
		}
	}
	var only []int
	var do func(ctx context.Context, n int) error
	switch e := e.(type) {
	case domain.RolloutStarted:
		do = func(ctx context.Context, n int) error { return w.issue(ctx, n, false) }
	case domain.RolloutReissued:
		only, do = e.Rows, func(ctx context.Context, n int) error { return w.issue(ctx, n, true, e.Rows...) }
	case domain.RolloutExtended:
		until := e.AskedAt.Add(time.Duration(rollout.ValidForS) * time.Second)
		only, do = e.Rows, func(ctx context.Context, n int) error { return w.extend(ctx, n, until) }
	case domain.RolloutCancelled:
		do = w.cancel
	case domain.RolloutResent:
		only, do = e.Rows, w.resend
	}
	if only == nil {
		only = make([]int, rollout.Rows)
		for i := range only {
			only[i] = i + 1
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(rolloutWorkers)
	for _, n := range only {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := do(ctx, n); err != nil {
				return fmt.Errorf("row %d: %w", n, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// rolloutWork is one walk over the rows of a rollout.
type rolloutWork struct {
	*Service
	rollout domain.Rollout
	now     time.Time
	older   []domain.Subject // epochs before today's that live codes may be of
}

// afterwards is ctx without the reaction it runs for: for what a row's stream gets behind the event that stands for the
// reaction there, and is kept from getting twice by the row's own rules.
func afterwards(ctx context.Context) context.Context {
	c := CallerFrom(ctx)
	c.reaction = ""
	return WithCaller(ctx, c)
}

// issue gives the row a code unless it has one, or, again, a new one. A row that waits gets a new one only if it is named.
func (w *rolloutWork) issue(ctx context.Context, n int, again bool, named ...int) error {
	plan := w.rollout.Plan[n-1]
	u, _, err := load[domain.User](ctx, w.Log, plan.UserID.Stream())
	if err != nil {
		return err
	}
	gone := u.Live(w.rollout.TenantID)
	stream := w.rollout.RolloutID.Row(n)
	failed := func(row domain.RolloutRow, why error) []domain.Event {
		return row.Follow(row.CodeID, domain.RolloutRowFailed{CodeID: row.CodeID, Cause: why.Error(), RolloutID: w.rollout.RolloutID, Row: n, TenantID: w.rollout.TenantID, UserID: plan.UserID})
	}
	var drawn drawnRow
	_, err = decide(ctx, w.Service, stream, func(row domain.RolloutRow) ([]domain.Event, error) {
		switch {
		case row.State != "" && !again, row.Issuable() != nil, row.Awaits() && len(named) == 0:
			return nil, nil
		case gone != nil:
			return failed(row, gone), nil
		}
		drawn, err = w.draw(ctx, n)
		switch {
		case errors.Is(err, domain.ErrTooManyCodes) && row.Awaits():
			return nil, nil // it keeps the code it has
		case errors.Is(err, domain.ErrTooManyCodes):
			return failed(row, err), nil
		case row.Waits():
			drawn.Replaces = row.Code
		}
		return []domain.Event{drawn.RolloutRowIssued}, err
	})
	if err != nil {
		return err
	}
	return w.seat(ctx, stream, drawn)
}

// drawnRow is a row's code whose digits are still at hand.
type drawnRow struct {
	domain.RolloutRowIssued
	digits string
}

// draw makes the row's next code: digits that no live code has.
func (w *rolloutWork) draw(ctx context.Context, n int) (row drawnRow, err error) {
	row.RolloutRowIssued = w.next(n)
	for try := range attempts {
		code := codeOfRow(row.RolloutRowIssued)
		if row.digits, err = w.drawCode(ctx, &code, try); err != nil {
			return row, err
		}
		row.ValidUntil = code.ValidUntil // a registry elsewhere may shorten it
		if row.Code, err = w.codeStream(ctx, row.Epoch, row.digits); err != nil {
			return row, err
		}
		taken, err := w.taken(ctx, row.Code, row.digits)
		if err != nil {
			return row, err
		}
		if !taken {
			row.Digits = domain.NewSecret(row.Epoch, row.digits, "")
			return row, nil
		}
	}
	return row, fmt.Errorf("draw a code: %w", ErrBusy)
}

// next is row n with a code of now that has no digits yet.
func (w *rolloutWork) next(n int) domain.RolloutRowIssued {
	plan := w.rollout.Plan[n-1]
	row := domain.RolloutRowIssued{RolloutID: w.rollout.RolloutID, Row: n, TenantID: w.rollout.TenantID, UserID: plan.UserID, MAC: plan.MAC, CategoryID: w.rollout.CategoryID,
		CodeID: domain.CodeID(newID()), Epoch: domain.Epoch(w.now), IssuedAt: w.now, ValidUntil: w.now.Add(time.Duration(w.rollout.ValidForS) * time.Second)}
	if w.rollout.QuarantineID != "" && plan.MAC == "" {
		row.CategoryID, row.Quarantine = w.rollout.QuarantineID, true
	}
	if w.Registry != nil {
		row.Registry = w.Registry.URL()
	}
	return row
}

// codeOfRow is the row's code, without its digits.
func codeOfRow(row domain.RolloutRowIssued) domain.CodeIssued {
	c := domain.CodeIssued{CodeID: row.CodeID, TenantID: row.TenantID, CategoryID: row.CategoryID, UserID: row.UserID, Purpose: "rollout", Epoch: row.Epoch,
		IssuedAt: row.IssuedAt, ValidUntil: row.ValidUntil, MAC: row.MAC, Registry: row.Registry, RolloutID: row.RolloutID, Row: row.Row, Quarantine: row.Quarantine}
	if row.Quarantine {
		c.UserID = "" // whose lines the phone would get at once
	}
	return c
}

// taken tells whether today's epoch knows the digits, or a live code of an older one has them.
func (w *rolloutWork) taken(ctx context.Context, today domain.StreamID, digits string) (bool, error) {
	c, _, err := load[domain.Code](ctx, w.Log, today)
	for i := 0; err == nil && !c.Exists && i < len(w.older); i++ {
		var at domain.StreamID
		if at, err = w.codeStream(ctx, w.older[i], digits); err == nil {
			c, _, err = load[domain.Code](ctx, w.Log, at)
			c.Exists = c.Dead(w.now) == nil
		} else if errors.Is(err, domain.ErrErased) {
			err = nil
		}
	}
	return c.Exists, err
}

// seat makes the row's code what the row says: the code before it is taken back, the new one issued. drawn is what the
// caller believes to have recorded; another server that woke up late may have been first with other digits, so the row is
// read again. A phone that was faster with the old code has the row.
func (w *rolloutWork) seat(ctx context.Context, stream domain.StreamID, drawn drawnRow) error {
	row, _, err := load[domain.RolloutRow](ctx, w.Log, stream)
	if err != nil || !row.Waits() {
		return err
	}
	if row.Replaces != "" {
		var old domain.Code
		_, err := decide(ctx, w.Service, row.Replaces, func(c domain.Code) ([]domain.Event, error) {
			old = c
			if c.Dead(w.now) != nil {
				return nil, nil
			}
			return c.Revoke(w.now)
		})
		if err != nil {
			return err
		}
		if old.RedeemedBy != "" && old.Failed == "" {
			return w.followed(afterwards(ctx), stream, row.CodeID, came(old, row.CodeID, old.DeviceID, old.CategoryID))
		}
	}
	issued := codeOfRow(row.RolloutRowIssued)
	digits, history := "", load[domain.Code]
	if drawn.CodeID == row.CodeID {
		digits, history = drawn.digits, nothingYet[domain.Code]()
	}
	_, err = decideBy(ctx, w.Service, row.Code, history, func(c domain.Code) ([]domain.Event, error) {
		if c.CodeID == row.CodeID {
			return nil, nil
		}
		if digits == "" {
			if digits, err = w.Vault.Open(ctx, row.Digits.Sealed); err != nil {
				return nil, err
			}
		}
		issued.Digits = domain.NewSecret(row.Epoch, digits, "")
		return c.Issue(issued)
	})
	if errors.Is(err, domain.ErrCodeExists) { // somebody drew the same digits in the meantime
		return w.followed(afterwards(ctx), stream, row.CodeID, domain.RolloutRowFailed{CodeID: row.CodeID, Cause: err.Error()})
	}
	return err
}

// nothingYet loads a stream that was empty a moment ago as empty, and when that turns out to be no longer so, as it is.
func nothingYet[S domain.State[S]]() func(context.Context, Log, domain.StreamID) (S, history, error) {
	tried := false
	return func(ctx context.Context, log Log, stream domain.StreamID) (S, history, error) {
		if tried {
			return load[S](ctx, log, stream)
		}
		tried = true
		var empty S
		return empty, history{revision: domain.NoStream}, nil
	}
}

// extend gives the row's code until then: its own stream says so while it is of today's epoch; else the same digits
// become a code of today's, for older epochs are not looked up in for longer (D19).
func (w *rolloutWork) extend(ctx context.Context, n int, until time.Time) error {
	stream := w.rollout.RolloutID.Row(n)
	row, _, err := load[domain.RolloutRow](ctx, w.Log, stream)
	if err != nil || !row.Waits() || row.Registry != "" {
		return err
	}
	if row.Epoch != domain.Epoch(w.now) {
		return w.reseat(ctx, row, until)
	}
	if err := w.seat(ctx, stream, drawnRow{}); err != nil { // the code may be missing that an extension stopped in its midst made way for
		return err
	}
	_, err = decide(ctx, w.Service, row.Code, func(c domain.Code) ([]domain.Event, error) {
		if c.Dead(w.now) != nil {
			return nil, nil // the row will follow
		}
		return c.Extend(until, w.now)
	})
	if err != nil {
		return err
	}
	c, _, err := load[domain.Code](ctx, w.Log, row.Code)
	if err != nil {
		return err
	}
	_, err = decide(ctx, w.Service, stream, func(r domain.RolloutRow) ([]domain.Event, error) { return r.Extend(c.CodeID, c.ValidUntil), nil })
	return err
}

// reseat makes the row's digits a code of today's epoch.
func (w *rolloutWork) reseat(ctx context.Context, row domain.RolloutRow, until time.Time) error {
	digits, err := w.Vault.Open(ctx, row.Digits.Sealed)
	if err != nil {
		return err
	}
	stream := w.rollout.RolloutID.Row(row.Row)
	_, err = decide(ctx, w.Service, stream, func(r domain.RolloutRow) ([]domain.Event, error) {
		if r.CodeID != row.CodeID || !r.Waits() || !w.now.Before(r.ValidUntil) {
			return nil, nil
		}
		again := w.next(row.Row)
		again.ValidUntil, again.Replaces, again.Digits = until, r.Code, domain.NewSecret(again.Epoch, digits, "")
		again.Code, err = w.codeStream(ctx, again.Epoch, digits)
		return []domain.Event{again}, err
	})
	if err != nil {
		return err
	}
	return w.seat(ctx, stream, drawnRow{})
}

// cancel takes the row's code back if it waits; the row follows.
func (w *rolloutWork) cancel(ctx context.Context, n int) error {
	row, _, err := load[domain.RolloutRow](ctx, w.Log, w.rollout.RolloutID.Row(n))
	if err != nil || !row.Waits() {
		return err
	}
	_, err = decide(ctx, w.Service, row.Code, func(c domain.Code) ([]domain.Event, error) {
		if c.Dead(w.now) != nil {
			return nil, nil
		}
		return c.Revoke(w.now)
	})
	return err
}

// resend makes the notice about the row's phone due again: for a row that has one, while its user's tenant has it, and as
// long as the digits can be read, by which alone Users knows the row.
func (w *rolloutWork) resend(ctx context.Context, n int) error {
	row, _, err := load[domain.RolloutRow](ctx, w.Log, w.rollout.RolloutID.Row(n))
	if err != nil || row.State != domain.RowRegistered {
		return err
	}
	d, _, err := load[domain.Device](ctx, w.Log, row.DeviceID.Stream())
	if err != nil || d.TenantID != row.TenantID {
		return err
	}
	c, _, err := load[domain.Code](ctx, w.Log, row.Code)
	if err != nil {
		return err
	}
	if c.CodeID != row.CodeID { // the row is registered by the code before
		return nil
	}
	if err := w.keepNotice(ctx, c, row.DeviceID, row.TenantID); !errors.Is(err, domain.ErrErased) {
		return err
	}
	return nil
}

// followed records on the row what became of its code.
func (s *Service) followed(ctx context.Context, stream domain.StreamID, code domain.CodeID, e domain.Event) error {
	_, err := decide(ctx, s, stream, func(row domain.RolloutRow) ([]domain.Event, error) { return row.Follow(code, e), nil })
	return err
}

// came is what a row hears when a phone came to a category by its code: one that leads to quarantine, and there only, is
// not the end of the way.
func came(c domain.Code, code domain.CodeID, device domain.DeviceID, category domain.CategoryID) domain.Event {
	if c.Quarantine && category == c.CategoryID {
		return domain.RolloutRowQuarantined{CodeID: code, DeviceID: device}
	}
	return domain.RolloutRowRegistered{CodeID: code, DeviceID: device}
}

// FollowRolloutRow moves the row of a rollout after its code, or the phone that used it: r is code.expired, code.revoked,
// code.assignment_failed or device.assigned.
func (s *Service) FollowRolloutRow(ctx context.Context, r domain.Recorded, e domain.Event) error {
	code, ok, err := s.codeOf(ctx, r, e)
	if err != nil || !ok || code.RolloutID == "" {
		return err
	}
	var news domain.Event
	switch e := e.(type) {
	case domain.CodeExpired:
		news = domain.RolloutRowExpired(e)
	case domain.CodeRevoked:
		news = domain.RolloutRowCancelled(e)
	case domain.CodeAssignmentFailed:
		news = domain.RolloutRowFailed{CodeID: e.CodeID, DeviceID: e.DeviceID, Cause: e.Cause}
	case domain.DeviceAssigned:
		news = came(code, code.CodeID, domain.DeviceID(r.Stream.ID()), e.CategoryID)
	}
	return s.followed(ctx, code.RolloutID.Row(code.Row), code.CodeID, news)
}

// codeOf is the code an event of it, or an assignment by it, is about.
func (s *Service) codeOf(ctx context.Context, r domain.Recorded, e domain.Event) (domain.Code, bool, error) {
	stream := r.Stream
	if a, assigned := e.(domain.DeviceAssigned); assigned {
		if a.CodeID == "" {
			return domain.Code{}, false, nil
		}
		ref, ok, err := s.Candidates.CodeByID(ctx, r.Position, a.CodeID)
		if err != nil || !ok {
			return domain.Code{}, false, err
		}
		stream = ref.Stream
	}
	c, _, err := load[domain.Code](ctx, s.Log, stream)
	return c, c.Exists, err
}
