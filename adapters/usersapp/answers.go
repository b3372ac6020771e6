package usersapp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"ledgerline/adapters/usersapp/wire"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// largest is how many bytes of a list, or of a value, one message carries: what is around it has ample room.
const largest = wire.MaxMessage / 2

// every goes through all rows of a list, page by page.
func every[R any](list func(projections.Page) (projections.Listed[R], error)) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		for p := (projections.Page{Limit: projections.MaxLimit}); ; {
			l, err := list(p)
			if err != nil {
				yield(*new(R), err)
				return
			}
			for _, row := range l.Items {
				if !yield(row, nil) {
					return
				}
			}
			if p.Cursor = l.Next; p.Cursor == "" {
				return
			}
		}
	}
}

// list is an answer of many things, in as many messages as it takes; end sends the last one.
type list struct {
	c     *conn
	r     wire.Request
	field string
	items []json.RawMessage
	size  int
}

func (l *list) add(ctx context.Context, item json.RawMessage) error {
	if l.size += len(item); l.size > largest && len(l.items) > 0 {
		if err := l.send(ctx, false); err != nil {
			return err
		}
		l.size = len(item)
	}
	l.items = append(l.items, item)
	return nil
}

func (l *list) end(ctx context.Context) error { return l.send(ctx, true) }

func (l *list) send(ctx context.Context, last bool) error {
	items := l.items
	if items == nil {
		items = []json.RawMessage{}
	}
	l.items, l.size = nil, 0
	return l.c.write(ctx, answerTo(l.r, l.r.MT+"Result", reply{l.field: items, "last": last}))
}

// categoriesOf are the live categories of tenants, nil for all.
func (c *conn) categoriesOf(ctx context.Context, tenants []domain.TenantID) iter.Seq2[projections.Category, error] {
	return every(func(p projections.Page) (projections.Listed[projections.Category], error) {
		return projections.ListCategories(ctx, c.s.opt.Views, projections.CategoryFilter{Tenants: tenants}, p)
	})
}

// jobsOf are the live jobs of tenants, nil for all; of one type if it is named.
func (c *conn) jobsOf(ctx context.Context, tenants []domain.TenantID, kind string) iter.Seq2[projections.Job, error] {
	return every(func(p projections.Page) (projections.Listed[projections.Job], error) {
		return projections.ListJobs(ctx, c.s.opt.Views, projections.JobFilter{Tenants: tenants, Type: kind}, p)
	})
}

// given are the domains a question names: none for all.
func given(id wire.Text) []string {
	if id == "" {
		return nil
	}
	return []string{string(id)}
}

func (c *conn) categories(ctx context.Context, r wire.Request) error {
	out := list{c: c, r: r, field: "categories"}
	forPhones := map[domain.TenantID]func(domain.CategoryID) bool{}
	for row, err := range c.categoriesOf(ctx, c.among(given(r.DomainID)...)) {
		if err != nil {
			return err
		}
		if row.Kind != domain.Provisioning || row.TenantID == domain.Master {
			continue
		}
		if strings.EqualFold(string(r.Type), "PHONE") {
			if forPhones[row.TenantID] == nil {
				if forPhones[row.TenantID], err = c.forPhones(ctx, row.TenantID); err != nil {
					return err
				}
			}
			if !forPhones[row.TenantID](row.ID) {
				continue
			}
		}
		b, err := json.Marshal(wire.Category{ID: string(row.ID), DomainID: string(row.TenantID), Name: row.Name, Config: true})
		if err != nil {
			return err
		}
		if err := out.add(ctx, b); err != nil {
			return err
		}
	}
	return out.end(ctx)
}

// forPhones tells which categories of a tenant configure phones: those of its configurations of type PHONE or FXS_PHONE, one
// without categories being for all. In a tenant without any of them phones are configured otherwise, and every category is.
func (c *conn) forPhones(ctx context.Context, tenant domain.TenantID) (func(domain.CategoryID) bool, error) {
	some := map[domain.CategoryID]bool{}
	for _, kind := range []string{"PHONE", "FXS_PHONE"} {
		for j, err := range c.jobsOf(ctx, []domain.TenantID{tenant}, kind) {
			if err != nil {
				return nil, err
			}
			if len(j.Categories) == 0 {
				return func(domain.CategoryID) bool { return true }, nil
			}
			for _, id := range j.Categories {
				some[id] = true
			}
		}
	}
	return func(id domain.CategoryID) bool { return len(some) == 0 || some[id] }, nil
}

// code issues a code. A sip name that is a user of ours gives the phone that user's lines.
func (c *conn) code(ctx context.Context, r wire.Request) reply {
	in := commands.IssueCode{TenantID: domain.TenantID(cmp.Or(string(r.DomainID), string(c.tenant))), CategoryID: domain.CategoryID(r.Category), Purpose: "self_service"}
	switch {
	case r.Rollout:
		in.Purpose = "rollout"
	case r.Admin:
		in.Purpose = "administrative"
	}
	if r.DomainID == "" && c.administers() {
		if row, ok, err := projections.CategoryByID(ctx, c.s.opt.Views, in.CategoryID); err == nil && ok {
			in.TenantID = row.TenantID
		}
	}
	if !c.sees(in.TenantID) || in.TenantID == domain.Master {
		return reply{"error": "no such provisioning category"}
	}
	if sip := string(r.SIP); domain.CheckID(sip) == nil {
		if u, ok, err := projections.UserByID(ctx, c.s.opt.Views, domain.UserID(sip)); err == nil && ok && u.TenantID == in.TenantID && u.State == projections.StateLive {
			in.UserID = u.ID
		}
	}
	issued, _, err := c.s.opt.Service.IssueCode(c.caller(ctx), in)
	if err != nil {
		if errors.Is(err, commands.ErrInvalid) || errors.Is(err, domain.ErrTenantUnknown) || errors.Is(err, domain.ErrTenantDeleted) || errors.Is(err, domain.ErrCategoryUnknown) ||
			errors.Is(err, domain.ErrCategoryOfOtherTenant) || errors.Is(err, domain.ErrNotProvisioning) || errors.Is(err, domain.ErrCategoryRetired) {
			return reply{"error": "no such provisioning category"}
		}
		if errors.Is(err, domain.ErrTooManyCodes) {
			return reply{"error": domain.ErrTooManyCodes.Error()}
		}
		c.log.Error().Err(err).Str("tenant_id", string(in.TenantID)).Msg("users: a code could not be issued")
		return reply{"error": "try again later"}
	}
	c.awaits(issued.Code, r.Src)
	return reply{"code": issued.Code, "validUntil": issued.ValidUntil.Unix()}
}

// awaits remembers which src later news of a code carries.
func (c *conn) awaits(code string, src json.RawMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sources) < 50_000 {
		c.sources[code] = src
	}
}

// provisioned tells the device that came by a code; while none did, news of the code are awaited.
func (c *conn) provisioned(ctx context.Context, r wire.Request) (reply, error) {
	out := reply{"code": string(r.Code)}
	n, ok, err := c.s.opt.Service.NoticeOf(ctx, c.tenant, string(r.Code))
	if errors.Is(err, domain.ErrCodeRefused) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	if ok {
		out["device"] = string(n.MAC)
		return out, nil
	}
	c.awaits(string(r.Code), r.Src)
	return out, nil
}

// domains are the tenants seen here, but for the master tenant, which is no domain.
func (c *conn) domains(wire.Request) selection {
	word := func(ctx context.Context, t projections.Tenant) (item, error) {
		d := wire.Domain{ID: string(t.ID), Name: t.Domain}
		if d.Name == "" {
			d.Name = t.Name
		}
		master, _, err := projections.TenantByID(ctx, c.s.opt.Views, domain.Master)
		if err != nil {
			return item{}, err
		}
		d.IsInstanceDomain = t.Domain != "" && t.Domain == master.UsersDomain
		if d.DeployAdminPasswords, err = c.s.opt.Service.DeploysAdminPassword(ctx, t.ID); err != nil {
			return item{}, err
		}
		it, size := item{id: string(t.ID), group: string(t.ID)}, 0
		part := func() error { return it.part(d) }
		d.Categories = []wire.Category{}
		for row, err := range c.categoriesOf(ctx, []domain.TenantID{t.ID}) {
			if err != nil {
				return it, err
			}
			if size += len(row.ID) + 6*len(row.Name) + 50; size > largest {
				if err := part(); err != nil {
					return it, err
				}
				d.Categories, size = []wire.Category{}, 0
			}
			d.Categories = append(d.Categories, wire.Category{ID: string(row.ID), Name: row.Name, Config: row.Kind == domain.Provisioning})
		}
		return it, part()
	}
	return selection{kind: domainKind,
		all: func(ctx context.Context) iter.Seq2[item, error] {
			return words(ctx, every(func(p projections.Page) (projections.Listed[projections.Tenant], error) {
				return projections.ListTenants(ctx, c.s.opt.Views, projections.TenantFilter{Tenants: c.among()}, p)
			}), func(t projections.Tenant) bool { return t.ID != domain.Master }, word)
		},
		of: func(ctx context.Context, group string) iter.Seq2[item, error] {
			return words(ctx, found(projections.TenantByID(ctx, c.s.opt.Views, domain.TenantID(group))), func(t projections.Tenant) bool {
				return t.ID != domain.Master && t.State == projections.StateLive && c.sees(t.ID)
			}, word)
		}}
}

// devices are those that a question selects: of domains and categories, by type and hardware id, and those that belong to
// no domain when it asks for them, which only an administrator of all sees.
func (c *conn) devices(r wire.Request) selection {
	asked := append(given(r.DomainID), r.DomainIDs...)
	if r.Unassigned {
		asked = append(asked, string(domain.Master))
	}
	tenants := c.among(asked...)
	wanted := map[domain.MAC]bool{}
	for _, id := range r.HWIDs {
		if mac, err := domain.ParseMAC(id); err == nil {
			wanted[mac] = true
		}
	}
	takes := func(d projections.Device) bool {
		return (tenants == nil && d.TenantID != domain.Master || slices.Contains(tenants, d.TenantID)) && d.State != domain.StateDeleted && d.State != domain.StateReplaced &&
			(len(r.HWIDs) == 0 || wanted[d.MAC]) && r.Categories.Takes(string(d.CategoryID)) && r.Types.Takes(typeOf(d)) && (!r.JustFXS || d.Sysclient.FXS)
	}
	word := func(_ context.Context, d projections.Device) (item, error) {
		w := wire.Device{ID: string(d.ID), HWID: string(d.MAC), Name: d.Description, DomainID: string(d.TenantID), Product: d.Model, Version: d.Firmware, Type: typeOf(d),
			PBXActive: d.Sysclient.PBXActive, Other: d.Sysclient.Foreign, EthIfs: []any{}, Online: c.s.opt.Online != nil && c.s.opt.Online(d.ID)}
		if d.TenantID == domain.Master {
			w.DomainID = ""
		}
		it := item{id: w.ID, group: w.ID}
		return it, it.part(w)
	}
	return selection{kind: deviceKind,
		all: func(ctx context.Context) iter.Seq2[item, error] {
			return words(ctx, every(func(p projections.Page) (projections.Listed[projections.Device], error) {
				return projections.ListDevices(ctx, c.s.opt.Views, projections.DeviceFilter{Tenants: tenants}, p)
			}), takes, word)
		},
		of: func(ctx context.Context, group string) iter.Seq2[item, error] {
			return words(ctx, found(projections.DeviceLife(ctx, c.s.opt.Views, domain.DeviceID(group))), takes, word)
		}}
}

// typeOf is the type of a device; what does not speak the sysclient protocol is a phone.
func typeOf(d projections.Device) string { return cmp.Or(d.Sysclient.Platform, "PHONE") }

func (c *conn) unassigned(ctx context.Context) (reply, error) {
	n := 0
	if c.administers() {
		var err error
		if n, err = projections.CountDevices(ctx, c.s.opt.Views, domain.Master); err != nil {
			return nil, err
		}
	}
	return reply{"count": n}, nil // those that belong to no tenant are an administrator's to see
}

// configs are jobs of configuration, without their values.
func (c *conn) configs(r wire.Request) selection {
	tenants := c.among(given(r.DomainID)...)
	word := func(_ context.Context, j projections.Job) (item, error) {
		it := item{id: string(j.JobID), group: string(j.TenantID), version: uint64(j.Sequence)}
		return it, it.part(configOf(j))
	}
	jobs := func(ctx context.Context, tenants []domain.TenantID) iter.Seq2[item, error] {
		return words(ctx, c.jobsOf(ctx, tenants, ""), func(j projections.Job) bool { return j.Type != domain.JobSoftware }, word)
	}
	return selection{kind: configKind,
		all: func(ctx context.Context) iter.Seq2[item, error] { return jobs(ctx, tenants) },
		of: func(ctx context.Context, group string) iter.Seq2[item, error] {
			only := []domain.TenantID{}
			if t := domain.TenantID(group); tenants == nil || slices.Contains(tenants, t) {
				only = append(only, t)
			}
			return jobs(ctx, only)
		}}
}

func configOf(j projections.Job) wire.Config {
	out := wire.Config{ID: string(j.JobID), DomainID: string(j.TenantID), Type: j.Type, Name: j.Name, Categories: []string{}}
	for _, id := range j.Categories {
		out.Categories = append(out.Categories, string(id))
	}
	return out
}

// config tells the values of one configuration, each in as many messages as it takes, and then which it was.
func (c *conn) config(ctx context.Context, r wire.Request) (reply, error) {
	j, ok, err := projections.JobByID(ctx, c.s.opt.Views, domain.JobID(r.ID))
	if err != nil {
		return nil, err
	}
	if !ok || !c.sees(j.TenantID) || j.Type == domain.JobSoftware || j.State == projections.StateCancelled {
		return reply{"error": "no such device configuration"}, nil
	}
	values := j.Config.Shown()
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if values[name] == domain.Redacted {
			continue
		}
		for _, part := range wire.Split(fmt.Sprint(values[name]), largest) {
			if err := c.write(ctx, answerTo(r, "GetDeviceConfigValueResult", reply{"name": name, "value": part})); err != nil {
				return nil, err
			}
		}
	}
	of := configOf(j)
	return reply{"id": of.ID, "domainId": of.DomainID, "type": of.Type, "name": of.Name, "categories": of.Categories}, nil
}
