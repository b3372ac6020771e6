package domain

import (
	"errors"
	"slices"
	"strconv"
	"time"
)

// A rollout gives many users a phone at once: a code for each, and one row per user that tells what became of it.
// What is asked of the whole stands in the rollout's own stream; each row has a stream of its own, so that ten
// thousand rows can move at once. Of a code, its own stream is the truth: rows follow it, and never lead.

// RolloutRowsPlanned: these users get a row, numbered From upwards. Recorded before the rollout starts, in portions;
// a plan that was never started is nothing.
type RolloutRowsPlanned struct {
	RolloutID RolloutID     `json:"rollout_id"`
	TenantID  TenantID      `json:"tenant_id"`
	From      int           `json:"from"`
	Rows      []RolloutPlan `json:"rows"`
}

// RolloutPlan is one row before it has a code. MAC, when known, is the only phone that may use the row's code.
type RolloutPlan struct {
	UserID UserID `json:"user_id"`
	MAC    MAC    `json:"mac,omitempty"`
}

// RolloutStarted: every planned row is to get a code.
type RolloutStarted struct {
	RolloutID  RolloutID  `json:"rollout_id"`
	TenantID   TenantID   `json:"tenant_id"`
	Name       string     `json:"name,omitempty"`
	CategoryID CategoryID `json:"category_id"`
	// QuarantineID, when set, is where a phone comes first whose MAC was not planned, without its user's lines, until
	// somebody confirms it.
	QuarantineID CategoryID `json:"quarantine_id,omitempty"`
	// PhoneApp is what the users' phones are entered as in their phone system (innovaphone).
	PhoneApp string `json:"phone_app,omitempty"`
	// ValidForS is how long each code lives from its issue.
	ValidForS int `json:"valid_for_s"`
	Rows      int `json:"rows"`
}

// RolloutCancelled: the codes of all rows that wait are taken back.
type RolloutCancelled struct{}

// RolloutExtended: the rows that wait, all or those named, may wait anew from AskedAt on; their digits stay.
type RolloutExtended struct {
	Rows    []int     `json:"rows,omitempty"`
	AskedAt time.Time `json:"asked_at"`
}

// RolloutReissued: the rows without a phone, all or those named, get a new code; the old one is taken back. A row that is
// named and has a phone in quarantine gets one too: that phone is none of its user's.
type RolloutReissued struct {
	Rows []int `json:"rows,omitempty"`
}

// RolloutResent: whoever keeps the users (innovaphone Users) is told again of the phones of these rows, or all.
type RolloutResent struct {
	Rows []int `json:"rows,omitempty"`
}

// RolloutExported: the actor got the codes of these rows, or all, in clear text. Format is csv or sheet; Codes is how
// many could still be used.
type RolloutExported struct {
	Format string `json:"format"`
	Rows   []int  `json:"rows,omitempty"`
	Codes  int    `json:"codes"`
}

// RolloutRowIssued: the row has this code now. Recorded before the code itself, so that a code is never issued twice
// for one row. Replaces is the code the row had before, to be taken back. Digits are sealed under the epoch's key.
type RolloutRowIssued struct {
	RolloutID RolloutID `json:"rollout_id"`
	Row       int       `json:"row"`
	TenantID  TenantID  `json:"tenant_id"`
	UserID    UserID    `json:"user_id"`
	MAC       MAC       `json:"mac,omitempty"`
	// CategoryID is where the code leads; Quarantine tells that it is the rollout's quarantine.
	CategoryID CategoryID `json:"category_id"`
	Quarantine bool       `json:"quarantine,omitempty"`
	CodeID     CodeID     `json:"code_id"`
	Code       StreamID   `json:"code"`
	Digits     Secret     `json:"digits"`
	Epoch      Subject    `json:"epoch"`
	IssuedAt   time.Time  `json:"issued_at"`
	ValidUntil time.Time  `json:"valid_until"`
	Registry   string     `json:"registry,omitempty"` // as in CodeIssued
	Replaces   StreamID   `json:"replaces,omitempty"`
}

// RolloutRowExtended: the row's code is valid until then.
type RolloutRowExtended struct {
	CodeID     CodeID    `json:"code_id"`
	ValidUntil time.Time `json:"valid_until"`
}

// RolloutRowQuarantined: a phone used the row's code and waits in the quarantine category to be confirmed.
type RolloutRowQuarantined struct {
	CodeID   CodeID   `json:"code_id"`
	DeviceID DeviceID `json:"device_id"`
}

// RolloutRowRegistered: the user has the phone. Final for this code.
type RolloutRowRegistered struct {
	CodeID   CodeID   `json:"code_id"`
	DeviceID DeviceID `json:"device_id"`
}

// RolloutRowExpired: the row's code ran out unused.
type RolloutRowExpired struct {
	CodeID CodeID `json:"code_id"`
}

// RolloutRowCancelled: the row's code was taken back unused.
type RolloutRowCancelled struct {
	CodeID CodeID `json:"code_id"`
}

// RolloutRowFailed: the row has no phone and its code is of no use: none could be issued, or the phone that used it
// could not be assigned.
type RolloutRowFailed struct {
	CodeID   CodeID   `json:"code_id,omitempty"`
	DeviceID DeviceID `json:"device_id,omitempty"`
	Cause    string   `json:"cause"`
	// Of the first code of a row that never had one, so that the row can be told at all.
	RolloutID RolloutID `json:"rollout_id,omitempty"`
	Row       int       `json:"row,omitempty"`
	TenantID  TenantID  `json:"tenant_id,omitempty"`
	UserID    UserID    `json:"user_id,omitempty"`
}

func (RolloutRowsPlanned) EventType() string    { return "rollout.rows_planned" }
func (RolloutStarted) EventType() string        { return "rollout.started" }
func (RolloutCancelled) EventType() string      { return "rollout.cancelled" }
func (RolloutExtended) EventType() string       { return "rollout.extended" }
func (RolloutReissued) EventType() string       { return "rollout.reissued" }
func (RolloutResent) EventType() string         { return "rollout.resent" }
func (RolloutExported) EventType() string       { return "rollout.exported" }
func (RolloutRowIssued) EventType() string      { return "rollout.row_issued" }
func (RolloutRowExtended) EventType() string    { return "rollout.row_extended" }
func (RolloutRowQuarantined) EventType() string { return "rollout.row_quarantined" }
func (RolloutRowRegistered) EventType() string  { return "rollout.row_registered" }
func (RolloutRowExpired) EventType() string     { return "rollout.row_expired" }
func (RolloutRowCancelled) EventType() string   { return "rollout.row_cancelled" }
func (RolloutRowFailed) EventType() string      { return "rollout.row_failed" }

var rolloutEvents = []entry{of[RolloutRowsPlanned](), of[RolloutStarted](), of[RolloutCancelled](), of[RolloutExtended](), of[RolloutReissued](),
	of[RolloutResent](), of[RolloutExported](), of[RolloutRowIssued](), of[RolloutRowExtended](), of[RolloutRowQuarantined](), of[RolloutRowRegistered](),
	of[RolloutRowExpired](), of[RolloutRowCancelled](), of[RolloutRowFailed]()}

// MaxRolloutRows bounds the users of one rollout.
const MaxRolloutRows = 20_000

// Stream is where what is asked of the rollout stands.
func (id RolloutID) Stream() StreamID { return Stream("rollout", string(id)) }

// Row is where the facts of its row n (1 is the first) stand.
func (id RolloutID) Row(n int) StreamID {
	return Stream("rolloutrow", string(id)+"."+strconv.Itoa(n))
}

// Rollout is what a rollout stream adds up to.
type Rollout struct {
	RolloutStarted
	// Plan are the rows; row n is Plan[n-1].
	Plan      []RolloutPlan
	Exists    bool // it was started
	Cancelled bool
	Exports   int
	Resends   int
}

// Apply returns the rollout after e.
func (r Rollout) Apply(e Event) Rollout {
	switch e := e.(type) {
	case RolloutRowsPlanned:
		r.TenantID, r.Plan = e.TenantID, append(slices.Clip(r.Plan), e.Rows...)
	case RolloutStarted:
		r.RolloutStarted, r.Exists = e, true
	case RolloutCancelled:
		r.Cancelled = true
	case RolloutExtended, RolloutReissued:
		r.Cancelled = false // rows are asked for again
	case RolloutExported:
		r.Exports++
	case RolloutResent:
		r.Resends++
	}
	return r
}

var (
	ErrRolloutUnknown       = errors.New("no such rollout")
	ErrRolloutExists        = errors.New("rollout exists already")
	ErrRolloutRow           = errors.New("rollout has no such row")
	ErrRolloutRowRegistered = errors.New("the row's user has a phone already")
	ErrRolloutRowOpen       = errors.New("no phone has come for the row's user yet")
	ErrNoUsers              = errors.New("no innovaphone Users can log in for this tenant")
	ErrRolloutRowPlain      = errors.New("no phone waits on this row to be confirmed")
	ErrRolloutRowSettled    = errors.New("the row does not wait for a phone any more")
)

// Start begins the rollout over the rows planned before.
func (r Rollout) Start(s RolloutStarted) ([]Event, error) {
	if r.Exists {
		return nil, ErrRolloutExists
	}
	return []Event{s}, nil
}

// Live is nil for a rollout of which something can be asked, of these rows.
func (r Rollout) Live(rows ...int) error {
	if !r.Exists {
		return ErrRolloutUnknown
	}
	for _, n := range rows {
		if n < 1 || n > r.Rows {
			return ErrRolloutRow
		}
	}
	return nil
}

// Cancel takes back what waits. Cancelling again is no news.
func (r Rollout) Cancel() ([]Event, error) {
	if err := r.Live(); err != nil || r.Cancelled {
		return nil, err
	}
	return []Event{RolloutCancelled{}}, nil
}

// Owner is the tenant the rollout belongs to; empty before its first event.
func (r Rollout) Owner() TenantID { return r.TenantID }

// RolloutRow is what the stream of one row adds up to.
type RolloutRow struct {
	RolloutRowIssued
	State    string // one of the Row… constants; empty before the first event
	DeviceID DeviceID
	Cause    string // why it failed
}

// States of a row, in the words users know.
const (
	RowPending     = "pending"     // the code waits to be used
	RowQuarantined = "quarantined" // a phone used it and waits to be confirmed
	RowRegistered  = "registered"
	RowExpired     = "expired"
	RowCancelled   = "cancelled"
	RowFailed      = "failed"
)

// RowStates are all states of a row.
var RowStates = []string{RowPending, RowQuarantined, RowRegistered, RowExpired, RowCancelled, RowFailed}

// Apply returns the row after e.
func (r RolloutRow) Apply(e Event) RolloutRow {
	switch e := e.(type) {
	case RolloutRowIssued:
		r.RolloutRowIssued, r.State, r.DeviceID, r.Cause = e, RowPending, "", ""
	case RolloutRowExtended:
		r.ValidUntil = e.ValidUntil
	case RolloutRowQuarantined:
		r.State, r.DeviceID = RowQuarantined, e.DeviceID
	case RolloutRowRegistered:
		r.State, r.DeviceID = RowRegistered, e.DeviceID
	case RolloutRowExpired:
		r.State = RowExpired
	case RolloutRowCancelled:
		r.State = RowCancelled
	case RolloutRowFailed:
		r.State, r.DeviceID, r.Cause = RowFailed, e.DeviceID, e.Cause
		if e.RolloutID != "" {
			r.RolloutID, r.Row, r.TenantID, r.UserID = e.RolloutID, e.Row, e.TenantID, e.UserID
		}
	}
	return r
}

// Waits tells whether the row's code is still to be used.
func (r RolloutRow) Waits() bool { return r.State == RowPending }

// Issuable is nil when the row can get a (new) code: its user has no phone by it.
func (r RolloutRow) Issuable() error {
	if r.State == RowRegistered {
		return ErrRolloutRowRegistered
	}
	return nil
}

// Awaits tells whether the row can still come to its end by itself or by a confirmation: it gets a new code only when it
// is named.
func (r RolloutRow) Awaits() bool { return r.Waits() || r.State == RowQuarantined }

// Follow is the row after what became of a code or of the phone that used it: e is RolloutRowQuarantined, Registered,
// Expired, Cancelled or Failed, of code. News of a code the row has no longer, and of a row that is settled, is none.
func (r RolloutRow) Follow(code CodeID, e Event) []Event {
	if r.CodeID != code || r.State == RowRegistered {
		return nil
	}
	switch e.(type) {
	case RolloutRowRegistered:
	case RolloutRowQuarantined, RolloutRowFailed:
		if r.State == RowQuarantined || r.State == RowFailed {
			return nil
		}
	default:
		if !r.Waits() {
			return nil
		}
	}
	return []Event{e}
}

// Extend gives the row's code more time; no news for a row that does not wait.
func (r RolloutRow) Extend(code CodeID, until time.Time) []Event {
	if r.CodeID != code || !r.Waits() || !until.After(r.ValidUntil) {
		return nil
	}
	return []Event{RolloutRowExtended{code, until}}
}

// Owner is the tenant the row belongs to; empty before its first event.
func (r RolloutRow) Owner() TenantID { return r.TenantID }
