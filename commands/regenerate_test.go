package commands_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

func regenerate(k *kit, id domain.DeviceID) commands.Regenerated {
	k.t.Helper()
	made, _, err := k.RegenerateConfig(k.ctx, commands.RegenerateConfig{ID: id})
	k.ok(err)
	return made
}

func TestRegeneratingFiles(t *testing.T) {
	k := start(t)
	id := k.assign(phone, "acme", "")
	made := regenerate(k, id)
	r, e := last[domain.DeviceConfigRegenerated](k)
	if !made.Changed || e.Plugin != "test" || e.PluginVersion != "1" || e.Renderer != "commandstest" || e.TZData != "none" || e.Guest || len(e.Files) != 2 || r.Stream != id.Stream() {
		t.Errorf("%+v", e)
	}
	own := e.Files[0]
	data, err := k.Blobs.Get(k.ctx, id.Subject(), own.MAC)
	if err != nil || len(data) != own.Size || own.Path != string(phone)+".cfg" || !slices.Equal(own.Aliases, []string{"0015651A2B3C.cfg"}) || len(own.MAC) != 64 || len(own.SkeletonSHA256) != 64 {
		t.Errorf("%+v %v", own, err)
	}
	if !strings.Contains(string(data), "base = http://phones.test:8667/d/"+k.secretOf(id)+"/") {
		t.Errorf("it does not come back by its secret path:\n%s", data)
	}
	if again := regenerate(k, id); again.Changed || len(again.Config.Files) != 2 {
		t.Errorf("made again it changed: %+v", again.Config)
	}
	if n := k.count("device-", "device.config_regenerated"); n != 1 {
		t.Errorf("%d regenerations", n)
	}
	k.refused(domain.ErrDeviceUnknown, func() error {
		_, _, err := k.RegenerateConfig(k.ctx, commands.RegenerateConfig{ID: "nobody"})
		return err
	})
	_, err = k.DeleteDevice(k.ctx, commands.DeleteDevice{ID: id})
	k.ok(err)
	k.refused(domain.ErrDeviceDeleted, func() error { _, _, err := k.RegenerateConfig(k.ctx, commands.RegenerateConfig{ID: id}); return err })
}

func TestADeviceWithoutAPluginHasNoFiles(t *testing.T) {
	k := start(t)
	id, _, err := k.DiscoverDevice(k.ctx, commands.DiscoverDevice{MAC: "aabbccddeeff", Added: "operator"})
	k.ok(err)
	if made := regenerate(k, id); made.Changed || len(made.Config.Files) != 0 {
		t.Errorf("%+v", made)
	}
	_, _, err = k.DiscoverDevice(k.ctx, commands.DiscoverDevice{MAC: "aabbccddeeff", Plugin: "gone", Added: "auto"})
	k.ok(err)
	k.refused(commands.ErrNoPlugin, func() error { _, _, err := k.RegenerateConfig(k.ctx, commands.RegenerateConfig{ID: id}); return err })
	if err := k.React(k.ctx); !errors.Is(err, commands.ErrPermanent) {
		t.Errorf("a missing plugin is retried: %v", err)
	}
}

// D5: the event names every input with the revision it was read at, also those that do not exist yet.
func TestInputsAreAVectorOfRevisions(t *testing.T) {
	k := start(t)
	k.line("l1", "acme", "anna")
	id := k.discover(phone)
	_, err := k.AssignDevice(k.ctx, commands.AssignDevice{ID: id, TenantID: "acme", CategoryID: desk, UserID: "anna"})
	k.ok(err)
	_, err = k.AssociateLine(k.ctx, commands.AssociateLine{DeviceID: id, LineID: "l1"})
	k.ok(err)
	regenerate(k, id)
	_, e := last[domain.DeviceConfigRegenerated](k)
	want := []domain.Input{{Stream: "layer-base", Revision: domain.NoStream}, {Stream: "layer-tenant.acme", Revision: domain.NoStream},
		{Stream: "category-desk", Revision: 0}, {Stream: "jobs-acme", Revision: domain.NoStream}, {Stream: "line-l1", Revision: 1}, {Stream: "user-anna", Revision: 1}}
	if !slices.Equal(e.Inputs, want) {
		t.Errorf("%v, want %v", e.Inputs, want)
	}
	if k.Shelf.Stale(e.Inputs) {
		t.Error("stale at once")
	}
	_, _, err = k.DefineLayer(k.ctx, commands.DefineLayer{ID: "base", TenantID: domain.Master})
	k.ok(err)
	if !k.Shelf.Stale(e.Inputs) {
		t.Error("a layer that came to be makes nothing stale")
	}
}

// D5: if the device changes while its files are made, all is read and made again.
func TestAConflictMakesTheFilesAnew(t *testing.T) {
	k := start(t)
	id := k.assign(phone, "acme", "")
	renders := 0
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Method == "Render" {
			if renders++; renders == 1 {
				_, err := k.ConfigureDevice(k.ctx, commands.ConfigureDevice{ID: id, Settings: domain.Settings{"vlan_id": 99}})
				k.ok(err)
			}
		}
		return commandstest.Fault{}
	})
	made := regenerate(k, id)
	data, err := k.Blobs.Get(k.ctx, id.Subject(), made.Config.Files[0].MAC)
	if err != nil || renders != 2 || !strings.Contains(string(data), "vlan_id = 99") || k.count("device-", "device.config_regenerated") != 1 {
		t.Errorf("after %d renderings the file is\n%s", renders, data)
	}
}

// The bytes are kept before the fact is recorded: no recorded file is without bytes.
func TestBytesAreKeptFirst(t *testing.T) {
	k := start(t)
	id := k.assign(phone, "acme", "")
	full := errors.New("no space left")
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Method == "Put" {
			return commandstest.Fault{Before: full}
		}
		return commandstest.Fault{}
	})
	k.refused(full, func() error { _, _, err := k.RegenerateConfig(k.ctx, commands.RegenerateConfig{ID: id}); return err })
}

func TestWarningsAreRecorded(t *testing.T) {
	k := start(t)
	k.Renderer.MaxLines = 1
	k.line("l1", "acme", "anna")
	k.line("l2", "acme", "anna")
	id := k.assign(phone, "acme", "anna")
	k.settle()
	if w := k.device(id).Config.Warnings; len(w) != 1 || w[0].Setting != "sip_lines.2" || w[0].Model != "T1" {
		t.Errorf("%v", w)
	}
}

// D16: a shared change records itself only; the sweep makes anew what is below it, once for several changes, in
// bounded batches, and nothing that is not below.
func TestTheSweep(t *testing.T) {
	k := start(t)
	const phones = 450 // more than two batches
	_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "tenant.acme", TenantID: "acme"})
	k.ok(err)
	for i := range phones {
		k.assign(domain.MAC(fmt.Sprintf("00156500%04x", i)), "acme", "")
	}
	k.assign(spare, "globex", "")
	k.settle()
	made, rendered := k.count("device-", "device.config_regenerated"), 0
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Method == "Render" {
			rendered++
		}
		return commandstest.Fault{}
	})
	for vlan := range 3 {
		out, err := k.AmendLayer(k.ctx, commands.AmendLayer{ID: "tenant.acme", Settings: domain.Settings{"vlan_id": vlan + 1}})
		k.news(out, err, "layer.amended")
	}
	if n := k.count("device-", "device.config_regenerated"); n != made {
		t.Errorf("the change itself regenerated %d devices", n-made)
	}
	k.settle()
	if n := k.count("device-", "device.config_regenerated"); n != made+phones || rendered != phones {
		t.Errorf("three changes: %d devices regenerated in %d renderings, want %d", n-made, rendered, phones)
	}
	if data := k.serve(asks("001565000001")); !strings.Contains(data, "vlan_id = 3") {
		t.Errorf("the last change is not in\n%s", data)
	}
}

// One device that cannot be made anew keeps no other from it, and the sweep says so at the end.
func TestASweepGoesOnBehindAFailure(t *testing.T) {
	k := start(t)
	_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "tenant.acme", TenantID: "acme"})
	k.ok(err)
	for i := range 5 {
		k.assign(domain.MAC(fmt.Sprintf("00156500000%d", i)), "acme", "")
	}
	k.settle()
	made := k.count("device-", "device.config_regenerated")
	_, err = k.AmendLayer(k.ctx, commands.AmendLayer{ID: "tenant.acme", Settings: domain.Settings{"vlan_id": 9}})
	k.ok(err)
	broken := errors.New("template broken")
	k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
		if c.Method == "Render" && c.Stream == "device-001565000002" {
			return commandstest.Fault{Before: broken}
		}
		return commandstest.Fault{}
	})
	if err := k.React(k.ctx); !errors.Is(err, broken) {
		t.Errorf("the sweep answers %v", err)
	}
	if n := k.count("device-", "device.config_regenerated") - made; n != 4 {
		t.Errorf("%d of the 4 others were made anew", n)
	}
	k.Faults.Set(nil)
	k.settle()
	if n := k.count("device-", "device.config_regenerated") - made; n != 5 {
		t.Errorf("in the end %d of 5", n)
	}
}

// D22: a dry run says what the real run records, and records nothing; it fails on what the real run fails on.
func TestADryRunEqualsTheRealRun(t *testing.T) {
	k := start(t)
	k.line("l1", "acme", "anna")
	id := k.assign(phone, "acme", "")
	k.settle()
	assign := func(ctx context.Context, s *commands.Service) error {
		_, err := s.AssignDevice(ctx, commands.AssignDevice{ID: id, TenantID: "acme", CategoryID: desk, UserID: "anna"})
		return err
	}
	before := len(k.Log.Events())
	plan, err := k.DryRun(k.ctx, assign)
	k.ok(err)
	if len(k.Log.Events()) != before {
		t.Fatal("the dry run recorded something")
	}
	k.ok(assign(k.ctx, k.Service()))
	k.settle()
	var want, got []string
	for _, r := range k.Log.Events()[before:] {
		want = append(want, string(r.Stream)+" "+r.Type)
	}
	for _, r := range plan.Events {
		got = append(got, string(r.Stream)+" "+r.Type)
	}
	if !slices.Equal(got, want) {
		t.Errorf("planned %q, done %q", got, want)
	}
	if len(plan.Files) != 1 || !strings.Contains(plan.Files[0].After, "sip_lines.1.username = l1") || strings.Contains(plan.Files[0].After, "pw-of-l1") || plan.Files[0].Before == plan.Files[0].After {
		t.Errorf("%+v", plan.Files)
	}
	if _, err := k.DryRun(k.ctx, func(ctx context.Context, s *commands.Service) error {
		_, err := s.AssignDevice(ctx, commands.AssignDevice{ID: id, TenantID: "globex"})
		return err
	}); !errors.Is(err, domain.ErrDeviceOfOtherTenant) {
		t.Errorf("%v", err)
	}
}

// A command that leads to more events than a small one does is no loop: a layer shared by 10,000 phones.
func TestManyEventsAreNoLoop(t *testing.T) {
	k := start(t)
	k.ok(k.service.Settle(k.ctx, slices.Repeat([]domain.Recorded{{Stream: "checkpoint-log", Type: "checkpoint.signed"}}, 10_001)))
}
