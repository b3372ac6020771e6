package commands_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

// synced is the state of the phone's latest sync.
func (k *kit) synced() string { return k.device(domain.DeviceID(phone)).Sync.State }

// fetches is the phone fetching its own file, to the end.
func (k *kit) fetches() {
	k.t.Helper()
	in := commands.ServeFile{Asked: commands.Asked{Path: string(phone) + ".cfg", UserAgent: agent}, Via: "secret", Credential: k.secretOf(domain.DeviceID(phone)),
		Transport: "https", IP: "192.0.2.7"}
	v, err := k.ServeFile(k.ctx, in)
	k.ok(err)
	k.Delivered(v)
	k.flush()
}

// A phone is asked; somebody takes the message; and only when the phone has fetched has it been applied.
func TestSynchronizeDevice(t *testing.T) {
	k := start(t)
	_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "tenant.acme", TenantID: "acme", Settings: domain.Settings{
		"sip_registrar_ip": "pbx.acme.example", "sip_outbound_proxy_ip": "edge.acme.example", "sip_outbound_proxy_port": 5070, "sip_transport": "tcp"}})
	k.ok(err)
	k.line("l1", "acme", "anna")
	id := k.assign(phone, "acme", "anna")
	k.settle()
	k.fetches()

	_, out, err := k.SynchronizeDevice(k.operator(), commands.SynchronizeDevice{ID: id})
	k.news(out, err, "device.sync_requested")
	k.settle()
	if k.synced() != domain.SyncSent {
		t.Fatalf("it is %s", k.synced())
	}
	want := []commands.Notification{{Device: id, MAC: phone, Event: "check-sync;reboot=false", Seen: []string{"192.0.2.7"}, Accounts: []commands.SIPAccount{{
		Username: "l1", AuthUsername: "l1", Password: "pw-of-l1", Transport: "tcp", Registrar: "pbx.acme.example", Proxy: "edge.acme.example", ProxyPort: 5070}}}}
	if diff := cmp.Diff(want, k.Notifier.Sent()); diff != "" {
		t.Errorf("it was told\n%s", diff)
	}
	if _, o := last[domain.DeviceSyncOutcome](k); o.Status != 200 || o.To.KeyID == "" {
		t.Errorf("the outcome on record is %+v", o)
	}
	// Nothing has changed: the same bytes again are what it was to fetch, and that is noted once.
	k.fetches()
	k.fetches()
	if n := k.count("device-", "device.sync_outcome"); k.synced() != domain.SyncApplied || n != 2 {
		t.Errorf("it is %s after %d outcomes", k.synced(), n)
	}
	if n := k.count("device-", "device.config_delivered"); n != 1 {
		t.Errorf("one content was delivered %d times", n)
	}
}

func TestASyncThatCannotBe(t *testing.T) {
	k := start(t)
	id := k.assign(phone, "acme", "")
	k.settle()
	k.refused(commands.ErrInvalid, func() error {
		_, _, err := k.SynchronizeDevice(k.ctx, commands.SynchronizeDevice{ID: id, Trigger: "whim"})
		return err
	})
	k.refused(domain.ErrDeviceUnknown, func() error {
		_, _, err := k.SynchronizeDevice(k.ctx, commands.SynchronizeDevice{ID: "0015650000ff"})
		return err
	})
	// Without a notifier it fails, and says why.
	k.service.Notifier = nil
	_, _, err := k.SynchronizeDevice(k.ctx, commands.SynchronizeDevice{ID: id, Reboot: true})
	k.ok(err)
	k.settle()
	if d := k.device(id); d.Sync.State != domain.SyncFailed || d.Sync.Last.Outcome != domain.OutcomeNotSent || d.Sync.Last.Detail == "" {
		t.Errorf("its sync is %+v", d.Sync)
	}
	// The notifier's own trouble is not the phone's answer: it is tried again.
	k.service.Notifier = k.Notifier
	_, _, err = k.SynchronizeDevice(k.ctx, commands.SynchronizeDevice{ID: id, Reboot: true})
	k.ok(err)
	broken := errors.New("no socket")
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Method == "Notify" {
			return commandstest.Fault{Before: broken}
		}
		return commandstest.Fault{}
	})
	if err := k.React(k.ctx); !errors.Is(err, broken) || k.synced() != domain.SyncRequested {
		t.Errorf("answered %v, it is %s", err, k.synced())
	}
	k.Faults.Set(nil)
	k.settle()
	if sent := k.Notifier.Sent(); k.synced() != domain.SyncSent || sent[len(sent)-1].Event != "check-sync;reboot=true" {
		t.Errorf("it is %s, told %+v", k.synced(), sent)
	}
	// A dry run tells nobody.
	before := len(k.Notifier.Sent())
	plan, err := k.DryRun(k.ctx, func(ctx context.Context, s *commands.Service) error {
		_, _, err := s.SynchronizeDevice(ctx, commands.SynchronizeDevice{ID: id})
		return err
	})
	k.ok(err)
	if got := types(plan.Events); len(k.Notifier.Sent()) != before || !slices.Equal(got, []string{"device.sync_requested"}) {
		t.Errorf("planned %q", got)
	}
}
