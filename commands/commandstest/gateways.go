package commandstest

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Gateways implements commands.Candidates.
func (c *Candidates) Gateways(ctx context.Context, at domain.Position) (found []domain.GatewayID, err error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return nil, err
	}
	defer c.w.mu.Unlock()
	for id, g := range c.w.gateways {
		if g.Live() == nil {
			found = append(found, id)
		}
	}
	slices.Sort(found)
	return found, nil
}

// RemoteLines implements commands.Candidates.
func (c *Candidates) RemoteLines(ctx context.Context, at domain.Position, gateway domain.GatewayID, after domain.LineID, limit int) (found []domain.LineID, err error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return nil, err
	}
	defer c.w.mu.Unlock()
	for id, l := range c.w.lines {
		if l.Live() == nil && l.Remote.GatewayID == gateway && id > after {
			found = append(found, id)
		}
	}
	slices.Sort(found)
	return found[:min(limit, len(found))], nil
}

// SIPUsersOn implements commands.Candidates.
func (c *Candidates) SIPUsersOn(ctx context.Context, at domain.Position, gateway domain.GatewayID, pending bool) (found []domain.SIPUserRef, err error) {
	if err := c.w.waitFor(ctx, at); err != nil {
		return nil, err
	}
	defer c.w.mu.Unlock()
	for id, u := range c.w.sipUsers {
		if u.GatewayID == gateway && (!pending || u.Pending()) {
			found = append(found, domain.SIPUserRef{ID: id, MBGID: u.MBGID})
		}
	}
	slices.SortFunc(found, func(a, b domain.SIPUserRef) int { return c.w.touched[a.ID].Compare(c.w.touched[b.ID]) })
	return found, nil
}

// Alerts remembers what it is sent; each only once, as receivers do.
type Alerts struct {
	Faults *Faults

	mu   sync.Mutex
	sent []commands.Alert
}

// Send implements commands.Alerts.
func (a *Alerts) Send(_ context.Context, alert commands.Alert) error {
	return a.Faults.around(Call{Method: "Alert"}, func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		if !slices.ContainsFunc(a.sent, func(b commands.Alert) bool { return b.ID == alert.ID }) {
			a.sent = append(a.sent, alert)
		}
		return nil
	})
}

// Sent is what was sent, in order.
func (a *Alerts) Sent() []commands.Alert {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.sent)
}

// Borders is one border gateway, in memory: its exchange takes any verifier but "wrong", and it keeps SIP users.
type Borders struct {
	Faults *Faults
	Now    func() time.Time
	ICP    commands.BorderICP // the only one

	mu    sync.Mutex
	users map[string]commands.BorderUser
	next  int
}

// ReadMapping implements commands.Borders; every text is a mapping.
func (b *Borders) ReadMapping(text string) (domain.GatewayMappingSelected, error) {
	return domain.GatewayMappingSelected{Name: "test", Version: 1, SHA256: "0", Text: text + "mapping: test\n", LifetimeMonths: 12}, nil
}

// Dial implements commands.Borders.
func (b *Borders) Dial(commands.BorderAccess) (commands.Border, error) { return border{b}, nil }

// Users is what stands on the gateway, by id.
func (b *Borders) Users() map[string]commands.BorderUser {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.users)
}

type border struct{ b *Borders }

func (c border) around(method string, do func() error) error {
	return c.b.Faults.around(Call{Method: method}, func() error {
		c.b.mu.Lock()
		defer c.b.mu.Unlock()
		return do()
	})
}

func (c border) Clock(context.Context) (time.Time, error) {
	return c.b.Now().Truncate(time.Second), nil
}

func (c border) RequestToken(context.Context) (token, secret string, err error) {
	return "tmp-token", "tmp-secret", nil
}

func (c border) AccessToken(_ context.Context, _, _, verifier string) (final, finalSecret string, err error) {
	if verifier == "wrong" {
		return "", "", &commands.BorderError{Class: commands.ClassVerifier, Status: 401, Text: "wrong verifier"}
	}
	return "fin-token", "fin-secret", nil
}

func (c border) Ping(context.Context) error { return nil }

func (c border) ICPs(context.Context) ([]commands.BorderICP, error) {
	return []commands.BorderICP{c.b.ICP}, nil
}

func (c border) Users(context.Context) ([]commands.BorderUser, error) {
	return slices.Collect(maps.Values(c.b.Users())), nil
}

func (c border) FindUser(_ context.Context, setUsername string) (found []commands.BorderUser, err error) {
	for _, u := range c.b.Users() {
		if u.SetUsername == setUsername {
			found = append(found, u)
		}
	}
	return found, nil
}

func (c border) User(_ context.Context, id string) (commands.BorderUser, error) {
	u, ok := c.b.Users()[id]
	if !ok {
		return u, &commands.BorderError{Class: commands.ClassNotFound, Status: 404, Text: "no such user"}
	}
	return u, nil
}

func (c border) put(id string, w commands.BorderWish) {
	if c.b.users == nil {
		c.b.users = make(map[string]commands.BorderUser)
	}
	c.b.users[id] = commands.BorderUser{ID: id, Enabled: w.Enabled, ICPID: w.ICPID, Availability: w.Availability, SetUsername: w.SetUsername, ICPUsername: w.Extension}
}

func (c border) CreateUser(_ context.Context, w commands.BorderWish) (id string, err error) {
	err = c.around("CreateUser", func() error {
		c.b.next++
		id = strconv.Itoa(c.b.next)
		c.put(id, w)
		return nil
	})
	return id, err
}

func (c border) UpdateUser(_ context.Context, now commands.BorderUser, w commands.BorderWish, _ bool) error {
	return c.around("UpdateUser", func() error {
		c.put(now.ID, w)
		return nil
	})
}

func (c border) DeleteUser(_ context.Context, id string) error {
	return c.around("DeleteUser", func() error {
		delete(c.b.users, id)
		return nil
	})
}

func (c border) Differs(now commands.BorderUser, w commands.BorderWish) (fields []string) {
	if now.Enabled != w.Enabled || now.ICPID != w.ICPID || now.Availability != w.Availability || now.SetUsername != w.SetUsername || now.ICPUsername != w.Extension {
		fields = append(fields, "something")
	}
	return fields
}

func (c border) TokenExpiry(context.Context) (time.Time, bool, error) { return time.Time{}, false, nil }
func (c border) RenewToken(context.Context) (bool, error)             { return false, nil }

func (c border) Policy() commands.BorderPolicy {
	return commands.BorderPolicy{RetryFirst: time.Second, RetryMax: time.Minute, Probe: time.Minute, UnclearWait: 5 * time.Second, ClockSkew: time.Minute}
}
