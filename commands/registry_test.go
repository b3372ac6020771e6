package commands_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

const devicesURL = "wss://apps.example.com/{domain}/devices/sysclients"

// lead begins a kit whose tenants have a Devices URL.
func lead(tb testing.TB, options ...commandstest.Option) *kit {
	return start(tb, append(options, commandstest.With(func(s *commands.Service) { s.DevicesURL = devicesURL }))...)
}

// elsewhere begins a kit whose codes a registry elsewhere draws.
func elsewhere(tb testing.TB) (*kit, *commandstest.Registry) {
	r := &commandstest.Registry{}
	k := lead(tb, func(k *commandstest.Kit) {
		r.Faults, r.Now = k.Faults, k.Clock.Now
		k.Service.Registry = r
	})
	return k, r
}

func (k *kit) resolve(code string, mac domain.MAC) (commands.Lead, commands.Outcome, error) {
	return k.ResolveCode(k.from("192.0.2.8"), commands.ResolveCode{Code: code, MAC: mac})
}

func TestResolvingBindsACodeToThePhone(t *testing.T) {
	k := lead(t)
	code := k.issue("self_service")
	got, out, err := k.resolve(code.Code, phone)
	k.news(out, err, "code.bound")
	if want := (commands.Lead{"wss://apps.example.com/acme.example/devices/sysclients", commandstest.Start, code.ValidUntil}); got != want {
		t.Errorf("%+v", got)
	}
	again, out, err := k.resolve(code.Code+"#", phone)
	k.news(out, err)
	if again != got {
		t.Errorf("again it is %+v", again)
	}
	k.refused(domain.ErrCodeRefused, func() error { _, _, err := k.resolve(code.Code, spare); return err })
	k.refused(domain.ErrCodeRefused, func() error { _, _, err := k.redeem(code.Code, spare); return err })
	_, out, err = k.redeem(code.Code, phone)
	k.news(out, err, "code.redeemed")
	if _, out, err = k.resolve(code.Code, phone); err != nil || len(out.Events) != 0 {
		t.Errorf("the phone that redeemed it is told %v", err)
	}
}

func TestABindingBeforeExpiryIsHonouredTenMoreMinutes(t *testing.T) {
	for _, c := range []struct {
		bound, used time.Duration // after issue
		want        error
	}{
		{9 * minute, 9*minute + 59*time.Second, nil},
		{10*minute - time.Second, 10 * minute, nil},
		{10*minute - time.Second, 20*minute - time.Second, nil},
		{10*minute - time.Second, 20 * minute, domain.ErrCodeRefused},
	} {
		for what, use := range map[string]func(*kit, string) error{
			"redeemed": func(k *kit, code string) error { _, _, err := k.redeem(code, phone); return err },
			"resolved": func(k *kit, code string) error { _, _, err := k.resolve(code, phone); return err },
		} {
			k := lead(t)
			code := k.issue("self_service").Code
			k.Clock.Advance(c.bound)
			_, _, err := k.resolve(code, phone)
			k.ok(err)
			k.Clock.Advance(c.used - c.bound)
			_, err = k.ExpireCodes(k.ctx)
			k.ok(err)
			if err := use(k, code); !errors.Is(err, c.want) {
				t.Errorf("bound after %s, %s after %s: %v, want %v", c.bound, what, c.used, err, c.want)
			}
		}
	}
	k := lead(t)
	code := k.issue("self_service").Code
	k.Clock.Advance(10 * minute)
	k.refused(domain.ErrCodeRefused, func() error { _, _, err := k.resolve(code, phone); return err })
	if n, err := k.ExpireCodes(k.ctx); n != 1 || err != nil {
		t.Errorf("%d expired, %v", n, err)
	}
}

func TestResolvingIsGuardedLikeRedeeming(t *testing.T) {
	k := lead(t)
	dead := k.issue("rollout")
	_, err := k.RevokeCode(k.ctx, commands.RevokeCode{ID: dead.ID})
	k.ok(err)
	for _, code := range []string{"123456789012", dead.Code, "12", "letters", "000000000000"} {
		k.refused(domain.ErrCodeRefused, func() error { _, _, err := k.resolve(code, phone); return err })
	}
	good := k.issue("rollout").Code
	k.refused(commands.ErrGuesses, func() error { _, _, err := k.resolve(good, phone); return err })
	k.Clock.Advance(15 * minute)
	_, out, err := k.resolve(good, phone)
	k.news(out, err, "code.bound")
}

func TestATenantWithoutDomainLeadsNowhere(t *testing.T) {
	k := lead(t)
	_, _, err := k.CreateTenant(k.ctx, commands.CreateTenant{ID: "bare", Name: "bare"})
	k.ok(err)
	_, _, err = k.DefineCategory(k.ctx, commands.DefineCategory{ID: "bare.desk", TenantID: "bare", Name: "desk", Kind: "provisioning"})
	k.ok(err)
	code := k.issue("rollout", func(in *commands.IssueCode) { in.TenantID, in.CategoryID, in.UserID = "bare", "bare.desk", "" }).Code
	k.refused(commands.ErrNoDevicesURL, func() error { _, _, err := k.resolve(code, phone); return err })
}

func TestCodesOfDevicesServersElsewhere(t *testing.T) {
	k := lead(t)
	const key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	const url = "wss://b.example.net/b.example/devices/sysclients"
	for _, id := range []domain.ServerID{"site-b", "site-c"} {
		_, out, err := k.RegisterServer(k.ctx, commands.RegisterServer{ID: id, Name: "Site", PublicKey: key})
		k.news(out, err, "registry.server_registered")
	}
	_, out, err := k.RegisterServer(k.ctx, commands.RegisterServer{ID: "site-b", Name: "Site", PublicKey: key})
	k.news(out, err)
	code, out, err := k.RegisterCode(k.ctx, commands.RegisterCode{ServerID: "site-b", DevicesURL: url, TTL: 10 * minute})
	k.news(out, err, "code.registered")
	if len(code.Code) != 12 || !code.ValidUntil.Equal(commandstest.Start.Add(10*minute)) {
		t.Errorf("%+v", code)
	}
	k.refused(domain.ErrCodeRefused, func() error { _, _, err := k.redeem(code.Code, phone); return err })
	k.refused(domain.ErrCodeRefused, func() error {
		_, _, err := k.ResolveCode(k.ctx, commands.ResolveCode{Code: code.Code, MAC: phone, ServerID: "site-c"})
		return err
	})
	k.refused(domain.ErrCodeRefused, func() error {
		_, err := k.ReleaseCode(k.ctx, commands.ReleaseCode{ServerID: "site-c", Code: code.Code})
		return err
	})
	got, out, err := k.resolve(code.Code, phone)
	k.news(out, err, "code.bound")
	if got.DevicesURL != url {
		t.Errorf("it leads to %s", got.DevicesURL)
	}
	out, err = k.ReleaseCode(k.ctx, commands.ReleaseCode{ServerID: "site-b", Code: code.Code})
	k.news(out, err, "code.revoked")
	k.refused(domain.ErrCodeRefused, func() error { _, _, err := k.resolve(code.Code, phone); return err })
	out, err = k.RemoveServer(k.ctx, commands.RemoveServer{ID: "site-b"})
	k.news(out, err, "registry.server_removed")
	for want, in := range map[error]commands.RegisterCode{
		domain.ErrServerUnknown: {ServerID: "site-b", DevicesURL: url, TTL: minute},
		commands.ErrInvalid:     {ServerID: "site-c", DevicesURL: "https://x", TTL: minute},
	} {
		k.refused(want, func() error { _, _, err := k.RegisterCode(k.ctx, in); return err })
	}
	k.refused(commands.ErrInvalid, func() error {
		_, _, err := k.RegisterCode(k.ctx, commands.RegisterCode{ServerID: "site-c", DevicesURL: url, TTL: 8 * 24 * time.Hour})
		return err
	})
	k.refused(commands.ErrInvalid, func() error {
		_, _, err := k.RegisterServer(k.ctx, commands.RegisterServer{Name: "x", PublicKey: "short"})
		return err
	})
}

func TestCodesDrawnByARegistryElsewhere(t *testing.T) {
	k, r := elsewhere(t)
	code := k.issue("self_service")
	if _, e := last[domain.CodeIssued](k); e.Registry != "https://registry.test" || r.Leads()[code.Code] != "wss://apps.example.com/acme.example/devices/sysclients" {
		t.Errorf("%+v, leading to %v", e, r.Leads())
	}
	// The phone was bound there before the code expired, and comes here after.
	r.Bind(code.Code, phone)
	k.Clock.Advance(15 * minute)
	_, err := k.ExpireCodes(k.ctx)
	k.ok(err)
	k.refused(domain.ErrCodeRefused, func() error { _, _, err := k.redeem(code.Code, spare); return err })
	down := errors.New("registry is down")
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Method == "Bound" {
			return commandstest.Fault{Before: down}
		}
		return commandstest.Fault{}
	})
	k.refused(down, func() error { _, _, err := k.redeem(code.Code, phone); return err })
	k.Faults.Set(nil)
	_, out, err := k.redeem(code.Code, phone)
	k.news(out, err, "code.bound", "code.redeemed")
	// Bound too late, or never asked in time.
	late := k.issue("self_service")
	k.Clock.Advance(11 * minute)
	r.Bind(late.Code, phone)
	k.refused(domain.ErrCodeRefused, func() error { _, _, err := k.redeem(late.Code, phone); return err })
	k.Clock.Advance(10 * minute)
	if n, err := k.ExpireCodes(k.ctx); n != 1 || err != nil {
		t.Errorf("%d expired, %v", n, err)
	}
}

// A registry that has drawn as many codes as it may fails the row, which says why and can be reissued; a row that waits keeps the
// code it has.
func TestARolloutBeyondWhatTheRegistryDraws(t *testing.T) {
	k, _ := elsewhere(t)
	full := func(c commandstest.Call) commandstest.Fault {
		if c.Method != "Draw" {
			return commandstest.Fault{}
		}
		return commandstest.Fault{Before: fmt.Errorf("the registry: %w", domain.ErrTooManyCodes)}
	}
	reissue := func(rows ...int) {
		t.Helper()
		_, err := k.ReissueRollout(k.ctx, commands.RolloutRows{ID: "r1", Rows: rows})
		k.ok(err)
		k.settle()
	}
	k.Faults.Set(full)
	k.rollout(domain.RolloutPlan{UserID: "anna"})
	k.settle()
	k.ok(rows(domain.RowFailed)(k))
	if cause := k.row(1).Cause; cause != "the registry: "+domain.ErrTooManyCodes.Error() {
		t.Errorf("the row failed by %q", cause)
	}
	k.Faults.Set(nil)
	reissue()
	k.ok(rows(domain.RowPending)(k))
	had := k.row(1).CodeID
	k.Faults.Set(full)
	reissue(1)
	k.ok(rows(domain.RowPending)(k))
	if now := k.row(1).CodeID; now != had {
		t.Error("the row has another code")
	}
}

// A plan draws nothing at the registry.
func TestADryRunAsksNoRegistry(t *testing.T) {
	k, r := elsewhere(t)
	plan, err := k.DryRun(k.ctx, func(ctx context.Context, s *commands.Service) error {
		_, _, err := s.IssueCode(ctx, commands.IssueCode{TenantID: "acme", CategoryID: desk, Purpose: "rollout"})
		return err
	})
	if err != nil || !slices.Contains(types(plan.Events), "code.issued") || len(r.Leads()) != 0 {
		t.Errorf("%v, %v leads", err, r.Leads())
	}
}
