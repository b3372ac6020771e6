package projections

import (
	"context"
	"iter"

	"ledgerline/domain"
)

// Line is one SIP account as readers see it; number and display name are sealed, the edge opens them. Where
// the line is used stands at the devices (DeviceFilter.Line).
type Line struct {
	ID       domain.LineID   `json:"id"`
	TenantID domain.TenantID `json:"tenant_id"`
	UserID   domain.UserID   `json:"user_id,omitempty"`
	domain.LineSpec
	State string `json:"state"` // live, removed
	// Password is sealed and never shown.
	Password domain.Secret `json:"-"`
	// Remote is its account on a border gateway, if any.
	Remote domain.LineRemote `json:"-"`
	// Extension is the sealed number to dial on a new phone, HasExtension tells whether there is one.
	Extension    domain.Secret `json:"-"`
	HasExtension bool          `json:"has_provisioning_extension"`
	Head
}

var lines = newNoun("line", "lines", 3,
	[]string{"live INTEGER NOT NULL", "known INTEGER NOT NULL", "tenant_id TEXT", "user_id TEXT", "gateway_id TEXT", "username TEXT", "auth_username TEXT",
		"created_commit INTEGER NOT NULL", "created_prepare INTEGER NOT NULL", "revision INTEGER NOT NULL"},
	func(_ string, d *Doc[domain.Line]) []any {
		s := d.State
		return []any{flag(s.Live() == nil), flag(s.Exists), orNull(s.TenantID), orNull(s.UserID), orNull(s.Remote.GatewayID), orNull(s.Username), orNull(s.AuthUsername),
			int64(d.Created.Commit), int64(d.Created.Prepare), int64(d.Head.Revision)}
	},
	"CREATE INDEX lines_tenant ON lines (tenant_id, key)",
	"CREATE INDEX lines_username ON lines (username) WHERE username IS NOT NULL",
	"CREATE INDEX lines_gateway ON lines (gateway_id, key) WHERE gateway_id IS NOT NULL",
	"CREATE INDEX lines_user ON lines (user_id) WHERE user_id IS NOT NULL")

func lineRow(key string, d *Doc[domain.Line]) Line {
	l := Line{ID: domain.LineID(key), TenantID: d.State.TenantID, UserID: d.State.UserID, LineSpec: d.State.LineSpec, State: StateLive,
		Password: d.State.Password, Remote: d.State.Remote, Extension: d.State.Extension, HasExtension: d.State.ExtensionHash != "", Head: d.Head}
	if d.State.Removed {
		l.State = StateRemoved
	}
	return l
}

// LineByID finds a line, also a removed one.
func LineByID(ctx context.Context, q Querier, id domain.LineID) (Line, bool, error) {
	return one(ctx, q, lines, lineRow, "key = ? AND known = 1", string(id))
}

// LineFilter narrows a list of lines; nil Tenants means all, Text is looked for in id and user names
// (SealedLines is the way to search numbers).
type LineFilter struct {
	Tenants []domain.TenantID
	User    domain.UserID
	Device  domain.DeviceID
	Text    string
	Removed bool // removed ones too
}

// ListLines lists lines by id.
func ListLines(ctx context.Context, q Querier, f LineFilter, p Page) (Listed[Line], error) {
	var c clause
	c.is(present(f.Removed))
	in(&c, "tenant_id", f.Tenants)
	equal(&c, "user_id", f.User)
	if f.Device != "" {
		c.is("key IN (SELECT line_id FROM device_lines WHERE owner = ?)", string(f.Device))
	}
	c.contains(f.Text, "key", "username", "auth_username")
	return list(ctx, q, lines, lineRow, "key", c, p)
}

// SealedLines yields the live lines of the tenants by id, for an edge that opens and compares what is
// sealed. No reader is held while the consumer works.
func SealedLines(ctx context.Context, q Querier, tenants []domain.TenantID) iter.Seq2[Line, error] {
	return pages(func(p Page) (Listed[Line], error) { return ListLines(ctx, q, LineFilter{Tenants: tenants}, p) })
}
