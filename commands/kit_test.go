package commands_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

// kit is a service over fakes, seen by one test: two tenants, a category of each, and a user of the first.
type kit struct {
	*commandstest.Kit
	service // its commands; its ports are those of Kit
	t       testing.TB
	ctx     context.Context
}

type service struct{ *commands.Service }

const (
	desk  = domain.CategoryID("desk")
	phone = domain.MAC("0015651a2b3c")
	spare = domain.MAC("0015651a2b3d")
	agent = "Testphone T1 1.0"
)

func start(tb testing.TB, options ...commandstest.Option) *kit {
	tb.Helper()
	k := &kit{Kit: commandstest.NewService(tb, options...), t: tb, ctx: tb.Context()}
	k.service = service{k.Kit.Service}
	for _, id := range []domain.TenantID{"acme", "globex"} {
		_, out, err := k.CreateTenant(k.ctx, commands.CreateTenant{ID: id, Name: string(id), Domain: string(id) + ".example"})
		k.news(out, err, "tenant.created")
	}
	_, out, err := k.DefineCategory(k.ctx, commands.DefineCategory{ID: desk, TenantID: "acme", Name: "Desk phones", Kind: "provisioning"})
	k.news(out, err, "category.defined")
	_, out, err = k.DefineUser(k.ctx, commands.DefineUser{ID: "anna", TenantID: "acme", DisplayName: "Anna Muster", Email: "anna@acme.example"})
	k.news(out, err, "user.defined")
	return k
}

// crash loses everything volatile, as a new start of the program does.
func (k *kit) crash() {
	k.Faults.Set(nil)
	k.Restart()
	k.service = service{k.Kit.Service}
}

func (k *kit) ok(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// news wants a command to have recorded exactly these types, beside the creation of keys.
func (k *kit) news(out commands.Outcome, err error, want ...string) {
	k.t.Helper()
	k.ok(err)
	if got := types(out.Events); !slices.Equal(got, want) {
		k.t.Fatalf("recorded %q, want %q", got, want)
	}
	if len(out.Events) > 0 && (out.Revision != out.Events[len(out.Events)-1].Revision || out.Position.IsZero() || out.Stream != out.Events[0].Stream) {
		k.t.Fatalf("the outcome %v %v is not of its events", out.Stream, out.Revision)
	}
}

// refused wants a command to have recorded nothing, in any stream of a noun, and to answer want.
func (k *kit) refused(want error, do func() error) {
	k.t.Helper()
	before := k.facts()
	if err := do(); !errors.Is(err, want) {
		k.t.Errorf("answered %v, want %v", err, want)
	}
	if after := k.facts(); !slices.Equal(before, after) {
		k.t.Errorf("recorded %q", after[len(before):])
	}
}

// facts is the log without claims and keys, as "stream type".
func (k *kit) facts() []string {
	var out []string
	for _, r := range k.Log.Events() {
		if c := r.Stream.Category(); c != "claim" && c != "settings" && !strings.HasPrefix(r.Type, "key.") {
			out = append(out, string(r.Stream)+" "+r.Type)
		}
	}
	return out
}

func types(events []domain.Recorded) []string {
	var out []string
	for _, r := range events {
		if !strings.HasPrefix(r.Type, "key.") {
			out = append(out, r.Type)
		}
	}
	return out
}

// count is how often a type was recorded, in streams with that prefix.
func (k *kit) count(prefix, kind string) (n int) {
	for _, r := range k.Log.Events() {
		if strings.HasPrefix(string(r.Stream), prefix) && r.Type == kind {
			n++
		}
	}
	return n
}

// last is the latest event of that type.
func last[E domain.Event](k *kit) (domain.Recorded, E) {
	k.t.Helper()
	var zero E
	events := k.Log.Events()
	for i := len(events) - 1; i >= 0; i-- {
		if events[i].Type == zero.EventType() {
			e, err := events[i].Event()
			k.ok(err)
			return events[i], e.(E)
		}
	}
	k.t.Fatalf("no %s was recorded", zero.EventType())
	return domain.Recorded{}, zero
}

// settle carries out all reactions.
func (k *kit) settle() {
	k.t.Helper()
	k.ok(k.React(k.ctx))
	k.ok(k.SendDueJobs(k.ctx))
}

// device is one life of a device as its stream tells it.
func (k *kit) device(id domain.DeviceID) domain.Device {
	k.t.Helper()
	return state[domain.Device](k, id.Stream())
}

func state[S domain.State[S]](k *kit, stream domain.StreamID) S {
	k.t.Helper()
	var s S
	for r, err := range k.Log.Read(k.ctx, stream, 0) {
		if errors.Is(err, domain.ErrNoStream) {
			break
		}
		k.ok(err)
		e, err := r.Event()
		k.ok(err)
		s = s.Apply(e)
	}
	return s
}

func (k *kit) discover(mac domain.MAC) domain.DeviceID {
	k.t.Helper()
	id, _, err := k.DiscoverDevice(k.ctx, commands.DiscoverDevice{MAC: mac, Vendor: "Testphone", Model: "T1", Firmware: "1.0", Added: "auto"})
	k.ok(err)
	return id
}

// assign makes a phone known and gives it to a tenant.
func (k *kit) assign(mac domain.MAC, tenant domain.TenantID, user domain.UserID) domain.DeviceID {
	k.t.Helper()
	id := k.discover(mac)
	out, err := k.AssignDevice(k.ctx, commands.AssignDevice{ID: id, TenantID: tenant, UserID: user})
	k.news(out, err, "device.assigned")
	return id
}

func (k *kit) line(id domain.LineID, tenant domain.TenantID, user domain.UserID) {
	k.t.Helper()
	_, out, err := k.DefineLine(k.ctx, commands.DefineLine{ID: id, TenantID: tenant, UserID: user, Username: string(id), Number: "1201", Password: "pw-of-" + string(id)})
	k.news(out, err, "line.defined")
}

func (k *kit) issue(purpose string, change ...func(*commands.IssueCode)) commands.IssuedCode {
	k.t.Helper()
	in := commands.IssueCode{TenantID: "acme", CategoryID: desk, UserID: "anna", Purpose: purpose}
	for _, c := range change {
		c(&in)
	}
	code, out, err := k.IssueCode(k.ctx, in)
	k.news(out, err, "code.issued")
	return code
}

// from is a phone that calls from an address.
func (k *kit) from(ip string) context.Context {
	return commands.WithCaller(k.ctx, commands.Caller{Actor: "phone:unknown", IP: ip, Listener: "phones"})
}

// confirms is an operator who vouches for a redemption.
func (k *kit) confirms() context.Context {
	c := commands.CallerFrom(k.operator())
	c.Confirmed = true
	return commands.WithCaller(k.ctx, c)
}

// operator is somebody at the admin listener.
func (k *kit) operator() context.Context {
	return commands.WithCaller(k.ctx, commands.Caller{Actor: "apikey:ops", IP: "192.0.2.99", Listener: "admin", RequestID: "req-1", Reason: "ticket 4711"})
}

func (k *kit) redeem(code string, mac domain.MAC) (commands.Redeemed, commands.Outcome, error) {
	return k.RedeemCode(k.from("192.0.2.7"), commands.RedeemCode{Code: code, MAC: mac, Vendor: "Testphone", Model: "T1", Firmware: "1.0"})
}

// asks is a phone that asks for its file in a trusted network.
func asks(mac domain.MAC) commands.ServeFile {
	return commands.ServeFile{Asked: commands.Asked{Path: string(mac) + ".cfg", UserAgent: agent}, Via: "mac", Transport: "http", IP: "192.0.2.7", Trusted: true}
}

// secretOf is the clear path secret of a device.
func (k *kit) secretOf(id domain.DeviceID) string {
	k.t.Helper()
	clear, err := k.Vault.Open(k.ctx, k.device(id).Secret.Sealed)
	k.ok(err)
	return clear
}

// whole is all of a file; empty when there is none.
func whole(v commands.Served) string {
	content, _ := v.Content()
	b, err := io.ReadAll(content)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (k *kit) serve(in commands.ServeFile) string {
	k.t.Helper()
	v, err := k.ServeFile(k.ctx, in)
	k.ok(err)
	return whole(v)
}

const minute = time.Minute
