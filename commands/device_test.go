package commands_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

func assignTo(id domain.DeviceID, change func(*commands.AssignDevice)) func(*kit) (commands.Outcome, error) {
	in := commands.AssignDevice{ID: id, TenantID: "acme", CategoryID: desk, UserID: "anna"}
	change(&in)
	return func(k *kit) (commands.Outcome, error) { return k.AssignDevice(k.ctx, in) }
}

func discoverAs(in commands.DiscoverDevice) func(*kit) (commands.Outcome, error) {
	return func(k *kit) (commands.Outcome, error) { _, out, err := k.DiscoverDevice(k.ctx, in); return out, err }
}

func TestDevices(t *testing.T) {
	const id = domain.DeviceID(phone)
	on := func(method func(*kit, domain.DeviceID) (commands.Outcome, error), id domain.DeviceID) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) { return method(k, id) }
	}
	reset := func(k *kit, id domain.DeviceID) (commands.Outcome, error) {
		return k.ResetDevice(k.ctx, commands.ResetDevice{ID: id})
	}
	remove := func(k *kit, id domain.DeviceID) (commands.Outcome, error) {
		return k.DeleteDevice(k.ctx, commands.DeleteDevice{ID: id})
	}
	reopen := func(k *kit, id domain.DeviceID) (commands.Outcome, error) {
		return k.ReopenMACPath(k.ctx, commands.ReopenMACPath{ID: id})
	}
	configure := func(id domain.DeviceID, settings domain.Settings, parents ...domain.LayerID) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) {
			return k.ConfigureDevice(k.ctx, commands.ConfigureDevice{ID: id, Settings: settings, Parents: parents})
		}
	}
	move := func(id domain.DeviceID, tenant domain.TenantID) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) {
			return k.MoveDevice(k.ctx, commands.MoveDevice{ID: id, TenantID: tenant})
		}
	}
	seen := commands.DiscoverDevice{MAC: "00:15:65:1A:2B:3C", Vendor: "Testphone", Model: "T1", Firmware: "1.0", Added: "auto"}
	byHand, newer := seen, seen
	byHand.Added, newer.Firmware = "operator", "1.1"
	same := func(*commands.AssignDevice) {}
	k := story(t, []said{
		{"a phone is discovered", discoverAs(seen), []string{"device.discovered"}, nil},
		{"again is no news", discoverAs(seen), nil, nil},
		{"an operator cannot add it again", discoverAs(byHand), nil, domain.ErrDeviceExists},
		{"a new firmware is news", discoverAs(newer), []string{"device.identified"}, nil},
		{"nobody is not assigned", assignTo("nobody", same), nil, domain.ErrDeviceUnknown},
		{"not to nobody", assignTo(id, func(in *commands.AssignDevice) { in.TenantID, in.CategoryID, in.UserID = "nobody", "", "" }), nil, domain.ErrTenantUnknown},
		{"not to another's category", assignTo(id, func(in *commands.AssignDevice) { in.TenantID, in.UserID = "globex", "" }), nil, domain.ErrCategoryOfOtherTenant},
		{"not to another's user", assignTo(id, func(in *commands.AssignDevice) { in.TenantID, in.CategoryID = "globex", "" }), nil, domain.ErrUserOfOtherTenant},
		{"not to no category", assignTo(id, func(in *commands.AssignDevice) { in.CategoryID = "nobody" }), nil, domain.ErrCategoryUnknown},
		{"not to no user", assignTo(id, func(in *commands.AssignDevice) { in.UserID = "nobody" }), nil, domain.ErrUserUnknown},
		{"it is assigned", assignTo(id, same), []string{"device.assigned"}, nil},
		{"again is no news", assignTo(id, same), nil, nil},
		{"not to another tenant", assignTo(id, func(in *commands.AssignDevice) { in.TenantID, in.CategoryID, in.UserID = "globex", "", "" }), nil, domain.ErrDeviceOfOtherTenant},
		{"to no user", assignTo(id, func(in *commands.AssignDevice) { in.UserID = "" }), []string{"device.assigned"}, nil},
		{"it is configured", configure(id, domain.Settings{"vlan_id": "12"}), []string{"device.configured"}, nil},
		{"the same is no news", configure(id, domain.Settings{"vlan_id": 12}), nil, nil},
		{"not wrongly", configure(id, domain.Settings{"vlan_id": "x"}), nil, domain.ErrSettings},
		{"not with nobody's layer", configure(id, nil, "nobody"), nil, domain.ErrLayerParent},
		{"nobody is not", configure("nobody", nil), nil, domain.ErrDeviceUnknown},
		{"its MAC path is open", on(reopen, id), nil, nil},
		{"it is reset", on(reset, id), []string{"device.reset"}, nil},
		{"again is no news", on(reset, id), nil, nil},
		{"nobody is not", on(reset, "nobody"), nil, domain.ErrDeviceUnknown},
		{"it stays with its tenant", assignTo(id, func(in *commands.AssignDevice) { in.TenantID, in.CategoryID, in.UserID = "globex", "", "" }), nil, domain.ErrDeviceOfOtherTenant},
		{"not moved to where it is", move(id, "acme"), nil, domain.ErrSameTenant},
		{"nor to nobody", move(id, "nobody"), nil, domain.ErrTenantUnknown},
		{"it is deleted", on(remove, id), []string{"device.deleted"}, nil},
		{"once", on(remove, id), nil, domain.ErrDeviceDeleted},
		{"nobody is not", on(remove, "nobody"), nil, domain.ErrDeviceUnknown},
		{"the deleted is not assigned", assignTo(id, same), nil, domain.ErrDeviceDeleted},
		{"nor reset", on(reset, id), nil, domain.ErrDeviceDeleted},
		{"nor configured", configure(id, nil), nil, domain.ErrDeviceDeleted},
		{"nor moved", move(id, "globex"), nil, domain.ErrDeviceDeleted},
		{"nor reopened", on(reopen, id), nil, domain.ErrDeviceDeleted},
		{"an operator adds its next life", discoverAs(byHand), []string{"device.discovered"}, nil},
		{"which may go elsewhere", assignTo(id, func(in *commands.AssignDevice) { in.TenantID, in.CategoryID, in.UserID = "globex", "", "" }), []string{"device.assigned"}, nil},
	})
	if first, second := k.device(id), k.device(id+".2"); first.TenantID != "acme" || !first.Deleted || second.TenantID != "globex" || second.Deleted {
		t.Errorf("%s and %s", first.TenantID, second.TenantID)
	}
	named, _, err := k.DiscoverDevice(k.ctx, commands.DiscoverDevice{ID: "desk-7", MAC: spare, Added: "operator"})
	k.ok(err)
	if d, id, err := k.DeviceOfMAC(k.ctx, spare); err != nil || id != named || d.ID != "desk-7" {
		t.Errorf("%s carries the address, %v", id, err)
	}
	if _, id, err := k.DeviceOfMAC(k.ctx, "0015650000ff"); err != nil || id != "0015650000ff" {
		t.Errorf("an unknown phone would be %s, %v", id, err)
	}
}

func TestLinesOnDevices(t *testing.T) {
	const id = domain.DeviceID(phone)
	line := func(id domain.LineID, tenant domain.TenantID) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) {
			_, out, err := k.DefineLine(k.ctx, commands.DefineLine{ID: id, TenantID: tenant, Username: string(id), Password: "x"})
			return out, err
		}
	}
	on := func(line domain.LineID, position int) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) {
			return k.AssociateLine(k.ctx, commands.AssociateLine{DeviceID: id, LineID: line, Position: position})
		}
	}
	off := func(line domain.LineID) func(*kit) (commands.Outcome, error) {
		return func(k *kit) (commands.Outcome, error) {
			return k.DissociateLine(k.ctx, commands.DissociateLine{DeviceID: id, LineID: line})
		}
	}
	k := story(t, []said{
		{"a line", line("l1", "acme"), []string{"line.defined"}, nil},
		{"another", line("l2", "acme"), []string{"line.defined"}, nil},
		{"a stranger's", line("g1", "globex"), []string{"line.defined"}, nil},
		{"not on nobody", on("l1", 0), nil, domain.ErrDeviceUnknown},
		{"a phone", discoverAs(commands.DiscoverDevice{MAC: phone, Added: "auto"}), []string{"device.discovered"}, nil},
		{"not nobody's line", on("nobody", 0), nil, domain.ErrLineUnknown},
		{"a line brings a phone to its tenant", on("l1", 0), []string{"device.assigned", "device.line_associated"}, nil},
		{"again is no news", on("l1", 0), nil, nil},
		{"not a stranger's line", on("g1", 0), nil, domain.ErrLineOfOtherTenant},
		{"not at the same position", on("l2", 1), nil, domain.ErrPositionTaken},
		{"at the next", on("l2", 0), []string{"device.line_associated"}, nil},
		{"it moves", on("l2", 5), []string{"device.line_dissociated", "device.line_associated"}, nil},
		{"it is taken off", off("l2"), []string{"device.line_dissociated"}, nil},
		{"once", off("l2"), nil, domain.ErrLineNotOnDevice},
	})
	if d := k.device(id); d.TenantID != "acme" || !d.Assigned() || !maps.Equal(d.Lines, map[int]domain.LineID{1: "l1"}) {
		t.Errorf("%+v", d)
	}
	_, err := k.RemoveLine(k.ctx, commands.RemoveLine{ID: "l1"})
	k.ok(err)
	k.refused(domain.ErrLineRemoved, func() error { _, err := on("l1", 2)(k); return err })
	k.settle()
	if d := k.device(id); len(d.Lines) != 0 {
		t.Errorf("a removed line is still on %v", d.Lines)
	}
}

// D17: the lines of the user that are on no device yet, in creation order, positions 1…n; none: it waits.
func TestTheLinesOfAUser(t *testing.T) {
	k := start(t)
	for _, l := range []domain.LineID{"z-first", "a-second", "taken", "removed", "m-third"} {
		k.line(l, "acme", "anna")
	}
	k.line("nobodys", "acme", "")
	other := k.assign(spare, "acme", "")
	_, err := k.AssociateLine(k.ctx, commands.AssociateLine{DeviceID: other, LineID: "taken"})
	k.ok(err)
	_, err = k.RemoveLine(k.ctx, commands.RemoveLine{ID: "removed"})
	k.ok(err)
	id := k.assign(phone, "acme", "anna")
	k.settle()
	if want := map[int]domain.LineID{1: "z-first", 2: "a-second", 3: "m-third"}; !maps.Equal(k.device(id).Lines, want) {
		t.Errorf("%v, want %v", k.device(id).Lines, want)
	}
	second := k.assign("0015650000aa", "acme", "anna")
	k.settle()
	if d := k.device(second); d.Status() != domain.StateAwaitingLine || len(d.Lines) != 0 {
		t.Errorf("all lines are in use, and it is %s with %v", d.Status(), d.Lines)
	}
	k.line("new", "acme", "anna")
	k.settle()
	if d := k.device(second); !maps.Equal(d.Lines, map[int]domain.LineID{1: "new"}) || d.Status() != domain.StateConfigured {
		t.Errorf("a new line: %s with %v", d.Status(), d.Lines)
	}
	if d := k.device(id); len(d.Lines) != 3 {
		t.Errorf("a device that did not wait got %v", d.Lines)
	}
}

// Two devices of one user wait; one line comes: one of them gets it.
func TestOneLineForTwoWaitingDevices(t *testing.T) {
	k := start(t)
	a, b := k.assign(phone, "acme", "anna"), k.assign(spare, "acme", "anna")
	k.settle()
	k.line("l1", "acme", "anna")
	k.settle()
	if n := len(k.device(a).Lines) + len(k.device(b).Lines); n != 1 {
		t.Errorf("the line is on %d devices", n)
	}
}

func TestReplacingADevice(t *testing.T) {
	k := start(t)
	k.line("l1", "acme", "anna")
	_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "quiet", TenantID: "acme"})
	k.ok(err)
	old := k.assign(phone, "acme", "anna")
	k.settle()
	_, err = k.ConfigureDevice(k.ctx, commands.ConfigureDevice{ID: old, Parents: []domain.LayerID{"quiet"}, Description: "left", Settings: domain.Settings{"admin_password": "s3cret", "vlan_id": 7}})
	k.ok(err)
	k.settle()
	inUse := k.assign("0015650000aa", "acme", "")
	for want, in := range map[error]commands.ReplaceDevice{
		commands.ErrInvalid:        {ID: old, MAC: "x"},
		domain.ErrDeviceUnknown:    {ID: "nobody", MAC: spare},
		domain.ErrReplaceSelf:      {ID: old, MAC: phone},
		domain.ErrReplacementInUse: {ID: old, MAC: domain.MAC(inUse)},
	} {
		k.refused(want, func() error { _, _, err := k.ReplaceDevice(k.ctx, in); return err })
	}
	by, out, err := k.ReplaceDevice(k.ctx, commands.ReplaceDevice{ID: old, MAC: "00:15:65:1A:2B:3D"})
	k.news(out, err, "device.replaced")
	k.settle()
	was, is := k.device(old), k.device(by)
	if was.Status() != domain.StateReplaced || is.Status() != domain.StateConfigured || is.MAC != spare || is.TenantID != "acme" || is.UserID != "anna" || is.Description != "left" ||
		!maps.Equal(is.Lines, was.Lines) || !slices.Equal(is.Parents, was.Parents) || is.SecretHash == was.SecretHash || is.SecretHash == "" {
		t.Errorf("%+v", is)
	}
	if pw := is.Settings["admin_password"].(domain.Secret); pw.KeyID == was.Settings["admin_password"].(domain.Secret).KeyID {
		t.Error("the secret is still sealed under the old device's key")
	} else if clear, err := k.Vault.Open(k.ctx, pw.Sealed); err != nil || clear != "s3cret" {
		t.Errorf("the secret opens with %v", err)
	}
	if data := k.serve(asks(spare)); !strings.Contains(data, "s3cret") || !strings.Contains(data, "pw-of-l1") {
		t.Errorf("the new phone gets\n%s", data)
	}
	// The broken phone comes back from repair: a new life, and nothing of the old one.
	if data := k.serve(asks(phone)); strings.Contains(data, "pw-of-l1") || !strings.Contains(data, "guest = true") {
		t.Errorf("the broken phone gets\n%s", data)
	}
	if d := k.device(old + ".2"); d.TenantID != domain.Master {
		t.Errorf("it begins in %q", d.TenantID)
	}
	k.refused(domain.ErrReplacementInUse, func() error { _, err := k.TakeOver(k.ctx, commands.TakeOver{Old: old}); return err })
	k.refused(domain.ErrDeviceUnknown, func() error { _, err := k.TakeOver(k.ctx, commands.TakeOver{Old: by}); return err })
}

// Settle tells the end of the story at once; the reactor that comes later records nothing.
func TestSettleAndTheReactorAgree(t *testing.T) {
	k := start(t)
	k.line("l1", "acme", "anna")
	old := k.assign(phone, "acme", "anna")
	k.settle()
	by, out, err := k.ReplaceDevice(k.ctx, commands.ReplaceDevice{ID: old, MAC: spare})
	k.ok(err)
	k.ok(k.Settle(k.ctx, out.Events))
	if d := k.device(by); d.Status() != domain.StateConfigured {
		t.Fatalf("settled, it is %s", d.Status())
	}
	before := len(k.Log.Events())
	k.settle()
	if after := k.Log.Events(); len(after) != before {
		t.Errorf("the reactor adds %q", types(after[before:]))
	}
	out, err = k.MoveDevice(k.ctx, commands.MoveDevice{ID: by, TenantID: "globex"})
	k.ok(err)
	k.ok(k.Settle(k.ctx, out.Events))
	if d := k.device(by + ".2"); d.TenantID != "globex" || d.Status() != domain.StateConfigured {
		t.Errorf("moved, it is %s in %s", d.Status(), d.TenantID)
	}
}

func TestMovingADevice(t *testing.T) {
	k := start(t)
	k.line("l1", "acme", "anna")
	id := k.assign(phone, "acme", "anna")
	k.settle()
	secret := k.secretOf(id)
	out, err := k.MoveDevice(k.ctx, commands.MoveDevice{ID: id, TenantID: "globex"})
	k.news(out, err, "device.deleted")
	k.settle()
	next := k.device(id + ".2")
	if next.TenantID != "globex" || len(next.Lines) != 0 || next.UserID != "" || next.Model != "T1" || next.MAC != phone || !next.Assigned() {
		t.Errorf("%+v", next)
	}
	if d, current, err := k.DeviceOfMAC(k.ctx, phone); err != nil || current != id+".2" || d.TenantID != "globex" {
		t.Errorf("the address leads to %s, %v", current, err)
	}
	old := asks(phone)
	old.Via, old.Credential = "secret", secret
	if _, err := k.ServeFile(k.ctx, old); !errors.Is(err, commands.ErrNoFile) {
		t.Errorf("the old secret path: %v", err)
	}
	if data := k.serve(asks(phone)); strings.Contains(data, "pw-of-l1") {
		t.Errorf("the new tenant's phone gets\n%s", data)
	}
	out, err = k.MoveDevice(k.ctx, commands.MoveDevice{ID: id, TenantID: domain.Master})
	k.news(out, err, "device.deleted")
	k.settle()
	if d := k.device(id + ".3"); d.TenantID != domain.Master || d.Status() != domain.StateAutoprov {
		t.Errorf("%s in %s", d.Status(), d.TenantID)
	}
	k.refused(domain.ErrDeviceUnknown, func() error { _, err := k.BeginLife(k.ctx, commands.BeginLife{After: id + ".3"}); return err })
}

// What became of the phone or the tenant while a move was on its way stands in the way visibly.
func TestAMoveThatCannotGoOnIsPermanent(t *testing.T) {
	for what, meanwhile := range map[string]struct {
		do  func(*kit)
		err error
	}{
		"the tenant is deleted": {func(k *kit) {
			_, err := k.DeleteTenant(k.ctx, commands.DeleteTenant{ID: "globex"})
			k.ok(err)
		}, domain.ErrTenantDeleted},
		"the phone is assigned elsewhere": {func(k *kit) { k.assign(phone, "acme", "") }, domain.ErrDeviceOfOtherTenant},
	} {
		k := start(t)
		id := k.assign(phone, "acme", "")
		k.settle()
		_, err := k.MoveDevice(k.ctx, commands.MoveDevice{ID: id, TenantID: "globex"})
		k.ok(err)
		meanwhile.do(k)
		if err := k.React(k.ctx); !errors.Is(err, commands.ErrPermanent) || !errors.Is(err, meanwhile.err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	k := start(t) // seen meanwhile is no obstacle
	id := k.assign(phone, "acme", "")
	_, err := k.MoveDevice(k.ctx, commands.MoveDevice{ID: id, TenantID: "globex"})
	k.ok(err)
	k.discover(phone)
	k.settle()
	if d := k.device(id + ".2"); d.TenantID != "globex" {
		t.Errorf("it is in %s", d.TenantID)
	}
}

// Uniqueness is taken first; what a crash left is free after a minute, and not before (D13).
func TestAnOrphanedClaimIsFreeAfterAMinute(t *testing.T) {
	claims := map[string]struct{ first, second func(*kit) error }{
		"domain": {
			func(k *kit) error {
				_, _, err := k.CreateTenant(k.ctx, commands.CreateTenant{ID: "one", Name: "1", Domain: "new.example"})
				return err
			},
			func(k *kit) error {
				_, _, err := k.CreateTenant(k.ctx, commands.CreateTenant{ID: "two", Name: "2", Domain: "new.example"})
				return err
			}},
		"provisioning key": {
			func(k *kit) error {
				_, err := k.SetProvisioningKey(k.ctx, commands.SetProvisioningKey{ID: "acme", Key: "the-same-key"})
				return err
			},
			func(k *kit) error {
				_, err := k.SetProvisioningKey(k.ctx, commands.SetProvisioningKey{ID: "globex", Key: "the-same-key"})
				return err
			}},
	}
	taken := map[string]error{"domain": domain.ErrDomainTaken, "provisioning key": domain.ErrKeyTaken}
	for what, c := range claims {
		k := start(t)
		died := errors.New("died")
		k.Faults.Set(func(c commandstest.Call) commandstest.Fault { // the claim is taken, the tenant is not written
			if c.Stream.Category() == "tenant" {
				return commandstest.Fault{Before: died}
			}
			return commandstest.Fault{}
		})
		k.refused(died, func() error { return c.first(k) })
		k.crash()
		k.Clock.Advance(domain.OrphanAge - 1)
		k.refused(taken[what], func() error { return c.second(k) })
		k.Clock.Advance(1)
		k.ok(c.second(k))
		k.Clock.Advance(domain.OrphanAge)
		k.refused(taken[what], func() error { return c.first(k) })
	}
}

// The reactor may be a step ahead: whoever settles goes on from what it recorded.
func TestSettleGoesOnFromTheReactor(t *testing.T) {
	k := start(t)
	k.line("l1", "acme", "anna")
	code := k.issue("self_service")
	_, out, err := k.redeem(code.Code, phone)
	k.ok(err)
	for _, row := range commands.Reactions {
		if row.Name == "assign-redeemed-device" {
			e, err := out.Events[0].Event()
			k.ok(err)
			k.ok(row.Do(commands.WithCause(k.ctx, out.Events[0], row.Name), k.service.Service, out.Events[0], e))
		}
	}
	k.ok(k.Settle(k.ctx, out.Events))
	if d := k.device(domain.DeviceID(phone)); d.Status() != domain.StateConfigured || len(d.Config.Files) == 0 {
		t.Errorf("settled, it is %s with %d files", d.Status(), len(d.Config.Files))
	}
}
