package projections

import (
	"context"
	"time"

	"ledgerline/domain"
)

// Code is one provisioning code as readers see it.
type Code struct {
	ID         domain.CodeID     `json:"id"`
	Stream     domain.StreamID   `json:"-"`
	TenantID   domain.TenantID   `json:"tenant_id"`
	CategoryID domain.CategoryID `json:"category_id"`
	UserID     domain.UserID     `json:"user_id,omitempty"`
	Purpose    string            `json:"purpose"`
	// State is live, redeemed, revoked, expired or failed as recorded; a live code past ValidUntil is dead
	// although its expiry is not recorded yet (StateAt).
	State      string     `json:"state"`
	IssuedAt   time.Time  `json:"issued_at"`
	ValidUntil time.Time  `json:"valid_until"`
	MAC        domain.MAC `json:"mac,omitempty"` // the only phone that may redeem it
	// BoundTo is the phone a registry led to Devices with it: of use to no other. ServerID is the Devices server it is of.
	BoundTo    domain.MAC      `json:"bound_to,omitempty"`
	ServerID   domain.ServerID `json:"server_id,omitempty"`
	RedeemedBy domain.MAC      `json:"redeemed_by,omitempty"`
	RedeemedAt time.Time       `json:"redeemed_at,omitzero"`
	DeviceID   domain.DeviceID `json:"device_id,omitempty"`
	Failure    string          `json:"failure,omitempty"` // why the assignment failed
	Epoch      domain.Subject  `json:"epoch"`
	// Digits are sealed under the epoch's key.
	Digits domain.Secret `json:"-"`
	Head
}

// States of a code.
const (
	CodeLive     = "live"
	CodeRedeemed = "redeemed"
	CodeRevoked  = "revoked"
	CodeExpired  = "expired"
	CodeFailed   = "failed" // redeemed, but its device could not be assigned
)

// StateAt is the code's state at now: a code is dead at exactly ValidUntil, recorded or not.
func (c Code) StateAt(now time.Time) string {
	if c.State == CodeLive && !now.Before(c.ValidUntil) {
		return CodeExpired
	}
	return c.State
}

func codeState(c domain.Code) string {
	switch {
	case c.Failed != "":
		return CodeFailed
	case c.RedeemedBy != "":
		return CodeRedeemed
	case c.Revoked:
		return CodeRevoked
	case c.Expired:
		return CodeExpired
	}
	return CodeLive
}

var codes = newNoun("code", "codes", 4, []string{"code_id TEXT", "tenant_id TEXT", "category_id TEXT", "user_id TEXT", "purpose TEXT", "state TEXT NOT NULL", "epoch TEXT", "deadline INTEGER", "drawn_for TEXT"},
	func(_ string, d *Doc[domain.Code]) []any {
		return []any{orNull(d.State.CodeID), orNull(d.State.TenantID), orNull(d.State.CategoryID), orNull(d.State.UserID), orNull(d.State.Purpose), codeState(d.State), orNull(d.State.Epoch), micros(d.State.Deadline()), orNull(drawnFor(d.State))}
	},
	"CREATE INDEX codes_id ON codes (code_id) WHERE code_id IS NOT NULL",
	"CREATE INDEX codes_tenant ON codes (tenant_id, code_id)",
	"CREATE INDEX codes_user ON codes (user_id) WHERE user_id IS NOT NULL",
	"CREATE INDEX codes_alive ON codes (tenant_id, purpose, user_id) WHERE state = 'live'",
	"CREATE INDEX codes_drawn ON codes (drawn_for) WHERE state = 'live' AND drawn_for IS NOT NULL",
	"CREATE INDEX codes_due ON codes (deadline) WHERE state = 'live'",
	"CREATE INDEX codes_epoch ON codes (epoch) WHERE state = 'live'")

// drawnFor is the Devices server elsewhere a code was drawn for, until a phone was led by it: then it is of use to no other.
func drawnFor(c domain.Code) domain.ServerID {
	if c.Bound != "" {
		return ""
	}
	return c.Server
}

func codeRow(key string, d *Doc[domain.Code]) Code {
	s := d.State
	return Code{ID: s.CodeID, Stream: domain.CodeStream(key), TenantID: s.TenantID, CategoryID: s.CategoryID, UserID: s.UserID, Purpose: s.Purpose,
		State: codeState(s), IssuedAt: s.IssuedAt, ValidUntil: s.ValidUntil, MAC: s.MAC, BoundTo: s.Bound, ServerID: s.Server, RedeemedBy: s.RedeemedBy, RedeemedAt: s.RedeemedAt,
		DeviceID: s.DeviceID, Failure: s.Failed, Epoch: s.Epoch, Digits: s.Digits, Head: d.Head}
}

// CodeByID finds a code, dead or alive. Erased tells that its epoch's key is gone, and the digits with it.
func CodeByID(ctx context.Context, q Querier, id domain.CodeID) (Code, bool, error) {
	c, ok, err := one(ctx, q, codes, codeRow, "code_id = ?", string(id))
	if err != nil || !ok {
		return c, ok, err
	}
	gone, err := erasedEpochs(ctx, q, c)
	c.Erased = gone[c.Epoch]
	return c, true, err
}

// CodeFilter narrows a list of codes; nil Tenants means all, empty fields are no condition.
type CodeFilter struct {
	Tenants  []domain.TenantID
	Category domain.CategoryID
	User     domain.UserID
	State    string
	Purpose  string
}

// ListCodes lists codes by id, which is the order of issue.
func ListCodes(ctx context.Context, q Querier, f CodeFilter, p Page) (Listed[Code], error) {
	var c clause
	c.is("code_id IS NOT NULL")
	in(&c, "tenant_id", f.Tenants)
	equal(&c, "category_id", f.Category)
	equal(&c, "user_id", f.User)
	equal(&c, "state", f.State)
	equal(&c, "purpose", f.Purpose)
	l, err := list(ctx, q, codes, codeRow, "code_id", c, p)
	if err != nil {
		return l, err
	}
	gone, err := erasedEpochs(ctx, q, l.Items...)
	for i := range l.Items {
		l.Items[i].Erased = gone[l.Items[i].Epoch]
	}
	return l, err
}

// epochs notes the code epochs whose key is destroyed: one small row stands for all codes of a day.
var epochs = &epochProjection{Schema{Name: "code_epochs", Columns: []string{"erased_at INTEGER"},
	Encode: encoderOf[epoch](),
	Decode: func([]byte) (any, error) { return new(epoch), nil },
	Values: func(_ string, row any) []any { return []any{micros(row.(*epoch).at)} }}}

type epoch struct{ at time.Time }

type epochProjection struct{ schema Schema }

func (*epochProjection) Name() string        { return "code_epochs" }
func (*epochProjection) Version() int        { return 1 }
func (p *epochProjection) Tables() []*Schema { return []*Schema{&p.schema} }

func (p *epochProjection) Apply(tx Tx, f *Fact) error {
	if e, ok := f.Event.(domain.KeyDestroyed); ok && f.Category == "codeepoch" {
		tx.Put(&p.schema, string(e.Subject), &epoch{f.At})
	}
	return nil
}

func erasedEpochs(ctx context.Context, q Querier, of ...Code) (map[domain.Subject]bool, error) {
	asked := []domain.Subject{}
	gone := make(map[domain.Subject]bool)
	for _, c := range of {
		if _, known := gone[c.Epoch]; !known {
			asked, gone[c.Epoch] = append(asked, c.Epoch), false
		}
	}
	var c clause
	in(&c, "key", asked)
	err := q.Query(ctx, "SELECT key FROM code_epochs"+c.sql(), c.args, func(r Row) error {
		gone[domain.Subject(r.Text(0))] = true
		return nil
	})
	return gone, err
}
