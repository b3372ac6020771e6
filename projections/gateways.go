package projections

import (
	"context"

	"ledgerline/domain"
)

// Gateway is one border gateway as readers see it; secrets stay sealed and are never shown.
type Gateway struct {
	domain.Gateway
	Head
}

var gateways = newNoun("gateway", "gateways", 2,
	[]string{"live INTEGER NOT NULL", "known INTEGER NOT NULL", "tenant_id TEXT", "name TEXT", "address TEXT", "revision INTEGER NOT NULL"},
	func(_ string, d *Doc[domain.Gateway]) []any {
		s := d.State
		return []any{flag(s.Live() == nil), flag(s.Exists), orNull(s.TenantID), orNull(s.Name), orNull(s.Address), int64(d.Head.Revision)}
	})

func gatewayRow(_ string, d *Doc[domain.Gateway]) Gateway { return Gateway{d.State, d.Head} }

// GatewayByID finds a gateway, also a removed one.
func GatewayByID(ctx context.Context, q Querier, id domain.GatewayID) (Gateway, bool, error) {
	return one(ctx, q, gateways, gatewayRow, "key = ? AND known = 1", string(id))
}

// GatewayFilter narrows a list of gateways; nil Tenants means all, Text is looked for in id, name and address.
type GatewayFilter struct {
	Tenants []domain.TenantID
	Text    string
	Removed bool // removed ones too
}

// ListGateways lists gateways by id.
func ListGateways(ctx context.Context, q Querier, f GatewayFilter, p Page) (Listed[Gateway], error) {
	var c clause
	c.is(present(f.Removed))
	in(&c, "tenant_id", f.Tenants)
	c.contains(f.Text, "key", "name", "address")
	return list(ctx, q, gateways, gatewayRow, "key", c, p)
}

// SIPUser is one record on a border gateway as readers see it; number and name are sealed, the edge opens them.
type SIPUser struct {
	domain.SIPUser
	State string
	Head
}

var sipUsers = newNoun("sipuser", "sip_users", 1,
	[]string{"live INTEGER NOT NULL", "known INTEGER NOT NULL", "tenant_id TEXT", "gateway_id TEXT", "line_id TEXT", "state TEXT NOT NULL", "pending INTEGER NOT NULL",
		"set_username TEXT", "mbg_id TEXT", "class TEXT", "changed_commit INTEGER NOT NULL", "changed_prepare INTEGER NOT NULL", "revision INTEGER NOT NULL"},
	func(_ string, d *Doc[domain.SIPUser]) []any {
		s := d.State
		class := ""
		if s.Status() == domain.SIPUserParked {
			class = s.Failed.Class
		}
		return []any{flag(s.Wanted || s.On || s.Pending()), flag(s.Rev > 0), orNull(s.TenantID), orNull(s.GatewayID), orNull(s.LineID), s.Status(), flag(s.Pending()),
			orNull(s.Spec.SetUsername), orNull(s.MBGID), orNull(class), int64(d.Head.Position.Commit), int64(d.Head.Position.Prepare), int64(d.Head.Revision)}
	},
	"CREATE INDEX sip_users_gateway ON sip_users (gateway_id, pending)",
	"CREATE INDEX sip_users_tenant ON sip_users (tenant_id, key)",
	"CREATE INDEX sip_users_line ON sip_users (line_id)")

func sipUserRow(_ string, d *Doc[domain.SIPUser]) SIPUser {
	return SIPUser{d.State, d.State.Status(), d.Head}
}

// SIPUserByID finds a SIP user, also a removed one.
func SIPUserByID(ctx context.Context, q Querier, id domain.SIPUserID) (SIPUser, bool, error) {
	return one(ctx, q, sipUsers, sipUserRow, "key = ? AND known = 1", string(id))
}

// SIPUserFilter narrows a list of SIP users; nil Tenants means all, Text is looked for in id, set-side name and gateway's id.
type SIPUserFilter struct {
	Tenants []domain.TenantID
	Gateway domain.GatewayID
	Line    domain.LineID
	State   string
	Text    string
	Removed bool // removed ones too
}

// ListSIPUsers lists SIP users by id.
func ListSIPUsers(ctx context.Context, q Querier, f SIPUserFilter, p Page) (Listed[SIPUser], error) {
	var c clause
	c.is(present(f.Removed || f.State == domain.SIPUserIsOff))
	in(&c, "tenant_id", f.Tenants)
	equal(&c, "gateway_id", f.Gateway)
	equal(&c, "line_id", f.Line)
	equal(&c, "state", f.State)
	c.contains(f.Text, "key", "set_username", "mbg_id")
	return list(ctx, q, sipUsers, sipUserRow, "key", c, p)
}

// SIPUserCounts counts a gateway's SIP users by state.
func SIPUserCounts(ctx context.Context, q Querier, gateway domain.GatewayID) (map[string]int, error) {
	counts := map[string]int{}
	err := q.Query(ctx, "SELECT state, count(*) FROM sip_users WHERE gateway_id = ? GROUP BY state", []any{string(gateway)}, func(r Row) error {
		counts[r.Text(0)] = int(r.Int(1))
		return nil
	})
	return counts, err
}

// Gateways lists the gateways that were not removed, by id.
func (c Candidates) Gateways(ctx context.Context, at domain.Position) ([]domain.GatewayID, error) {
	return texts[domain.GatewayID](ctx, c, at, "SELECT key FROM gateways WHERE live = 1 ORDER BY key")
}

// RemoteLines lists up to limit lines that have remote credentials on a gateway, by id and after after.
func (c Candidates) RemoteLines(ctx context.Context, at domain.Position, gateway domain.GatewayID, after domain.LineID, limit int) ([]domain.LineID, error) {
	return texts[domain.LineID](ctx, c, at, "SELECT key FROM lines WHERE gateway_id = ? AND live = 1 AND key > ? ORDER BY key LIMIT ?", string(gateway), string(after), limit)
}

// SIPUsersOn lists every SIP user a gateway ever was to hold, or only the pending ones, the longest untouched first.
func (c Candidates) SIPUsersOn(ctx context.Context, at domain.Position, gateway domain.GatewayID, pending bool) (found []domain.SIPUserRef, err error) {
	sql := "SELECT key, mbg_id FROM sip_users WHERE gateway_id = ?"
	if pending {
		sql += " AND pending = 1"
	}
	err = c.query(ctx, at, sql+" ORDER BY changed_commit, changed_prepare, key", []any{string(gateway)}, func(r Row) error {
		found = append(found, domain.SIPUserRef{ID: domain.SIPUserID(r.Text(0)), MBGID: r.Text(1)})
		return nil
	})
	return found, err
}
