package usersapp

import (
	"context"
	"maps"
	"slices"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// turn tells whose notices are this connection's to tell: tenant's, or for the instance with tenant empty those of all but
// some. Of those logged in for a tenant the one that came first tells them; the instance does for those of nobody else.
func (c *conn) turn() (tenant domain.TenantID, but []domain.TenantID, mine bool) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	of := c.s.logged[c.tenant]
	if len(of) == 0 || of[0] != c {
		return "", nil, false
	}
	if !c.administers() {
		return c.tenant, nil, true
	}
	but = slices.Collect(maps.Keys(c.s.logged))
	return "", slices.DeleteFunc(but, func(t domain.TenantID) bool { return t == domain.Master }), true
}

// noticesAtOnce is how many notices are told before they are to be answered.
const noticesAtOnce = 100

// tell writes the notices that wait, while it is this connection's turn, and notes which were answered. An error means that
// the connection is of no use.
func (c *conn) tell(ctx context.Context) error {
	tenant, but, mine := c.turn()
	if !mine {
		return nil
	}
	waiting, err := projections.PendingNotices(ctx, c.s.opt.Views, tenant, but, noticesAtOnce)
	if err != nil {
		return nil // the views will be back
	}
	ctx = c.caller(ctx)
	var told []projections.Notice
	for _, n := range waiting {
		if c.told[n.CodeID].Equal(n.StoredAt) {
			continue // the views have not seen its answer yet
		}
		digits, err := c.s.opt.Service.Open(ctx, n.Digits.Sealed)
		if err != nil || digits == "" {
			continue // it was erased: nobody can be told by which code
		}
		c.mu.Lock()
		src, asked := c.sources[digits]
		delete(c.sources, digits)
		c.mu.Unlock()
		m := reply{"mt": "DeviceProvisioned", "device": string(n.MAC), "code": digits}
		if asked && len(src) > 0 {
			m["src"] = src
		}
		if err := c.write(ctx, m); err != nil {
			return err
		}
		if _, err := c.s.opt.Service.DeliverNotice(ctx, commands.DeliverNotice{Code: n.CodeID, App: c.app}); err != nil {
			return nil // the log takes no writes: it will be told again
		}
		told = append(told, n)
	}
	if len(told) == 0 {
		return nil
	}
	if err := c.ping(ctx, c.s.opt.AnswerWithin); err != nil {
		return err
	}
	if len(c.told) > 10_000 {
		clear(c.told)
	}
	for _, n := range told {
		if _, err := c.s.opt.Service.DeliverNotice(ctx, commands.DeliverNotice{Code: n.CodeID, App: c.app, Acknowledged: true}); err != nil {
			return nil
		}
		c.told[n.CodeID] = n.StoredAt
	}
	return nil
}
