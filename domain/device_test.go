package domain_test

import (
	"slices"
	"testing"
	"time"

	"ledgerline/domain"
)

const (
	phone = domain.DeviceID("0015651a2b3c")
	spare = domain.DeviceID("0015651a2b3d")
)

var (
	facts      = domain.DeviceFacts{Vendor: "Yealink", Model: "T54W", Firmware: "96.86", Plugin: "yealink"}
	discovered = domain.DeviceDiscovered{DeviceID: phone, MAC: domain.MAC(phone), DeviceFacts: facts, Added: "auto"}
	assigned   = domain.DeviceAssigned{TenantID: "acme", CategoryID: "desk", UserID: "anna", CodeID: "c1", Secret: stored("aa"), SecretHash: "aa"}
	deskSpec   = domain.DeviceSpec{Parents: []domain.LayerID{"l"}, Settings: domain.Settings{"vlan_id": 1}, Description: "left"}
)

func on(line domain.LineID, position int) domain.Event {
	return domain.DeviceLineAssociated{LineID: line, Position: position}
}

func off(line domain.LineID, position int) domain.Event {
	return domain.DeviceLineDissociated{LineID: line, Position: position}
}

func TestDeviceIsKnown(t *testing.T) {
	discover := func(f domain.DeviceFacts) func(domain.Device) ([]domain.Event, error) {
		return func(d domain.Device) ([]domain.Event, error) { return d.Discover(phone, domain.MAC(phone), f, "auto") }
	}
	identified := func(change func(*domain.DeviceFacts)) []domain.Event {
		f := facts
		change(&f)
		return past(domain.DeviceIdentified{DeviceFacts: f})
	}
	bare := domain.DeviceDiscovered{DeviceID: phone, MAC: domain.MAC(phone), Added: "auto"}
	check(t, []rule[domain.Device]{
		{"a phone is discovered", nil, discover(facts), past(discovered), nil},
		{"seen again alike is no news", past(discovered), discover(facts), nil, nil},
		{"a new firmware is news", past(discovered), discover(domain.DeviceFacts{Firmware: "97"}), identified(func(f *domain.DeviceFacts) { f.Firmware = "97" }), nil},
		{"what it does not show stays", past(discovered), discover(domain.DeviceFacts{}), nil, nil},
		{"a plugin once chosen stays", past(discovered), discover(domain.DeviceFacts{Plugin: "snom", PluginVersion: "2"}), nil, nil},
		{"a plugin is chosen when there was none", past(bare), discover(domain.DeviceFacts{Plugin: "snom", PluginVersion: "2"}),
			past(domain.DeviceIdentified{DeviceFacts: domain.DeviceFacts{Plugin: "snom", PluginVersion: "2"}}), nil},
		{"the deleted is not discovered", past(discovered, domain.DeviceDeleted{}), discover(facts), nil, domain.ErrDeviceDeleted},
	})
}

func TestDeviceIsAssigned(t *testing.T) {
	assign := func(change func(*domain.DeviceAssigned)) func(domain.Device) ([]domain.Event, error) {
		to := assigned
		change(&to)
		return func(d domain.Device) ([]domain.Event, error) { return d.Assign(to) }
	}
	same := func(*domain.DeviceAssigned) {}
	again := func(change func(*domain.DeviceAssigned)) []domain.Event { // without a new secret
		to := assigned
		to.Secret, to.SecretHash = domain.Secret{}, ""
		change(&to)
		return past(to)
	}
	category := func(a *domain.DeviceAssigned) { a.CategoryID = "lobby" }
	user := func(a *domain.DeviceAssigned) { a.UserID = "bert" }
	code := func(a *domain.DeviceAssigned) { a.CodeID = "c2" }
	tenant := func(a *domain.DeviceAssigned) { a.TenantID = "globex" }
	check(t, []rule[domain.Device]{
		{"a phone leaves the master tenant", past(discovered), assign(same), past(assigned), nil},
		{"as it is already is no news", past(discovered, assigned), assign(same), nil, nil},
		{"without naming the code that is no news either", past(discovered, assigned), assign(func(a *domain.DeviceAssigned) { a.CodeID = "" }), nil, nil},
		{"another category keeps the secret", past(discovered, assigned), assign(category), again(category), nil},
		{"another user keeps the secret", past(discovered, assigned), assign(user), again(user), nil},
		{"and takes the lines of the one before off", past(discovered, assigned, domain.DeviceLineAssociated{LineID: "l1", Position: 1}), assign(user),
			append(past(domain.DeviceLineDissociated{LineID: "l1", Position: 1}), again(user)...), nil},
		{"another code keeps the secret", past(discovered, assigned), assign(code), again(code), nil},
		{"it never changes its tenant", past(discovered, assigned), assign(tenant), nil, domain.ErrDeviceOfOtherTenant},
		{"nor after a reset", past(discovered, assigned, domain.DeviceReset{}), assign(tenant), nil, domain.ErrDeviceOfOtherTenant},
		{"nor back to master", past(discovered, assigned), assign(func(a *domain.DeviceAssigned) { a.TenantID = domain.Master }), nil, domain.ErrDeviceOfOtherTenant},
		{"after a reset it gets a new secret", past(discovered, assigned, domain.DeviceReset{}), assign(same), past(assigned), nil},
		{"nobody is not assigned", nil, assign(same), nil, domain.ErrDeviceUnknown},
		{"nor the deleted", past(discovered, domain.DeviceDeleted{}), assign(same), nil, domain.ErrDeviceDeleted},
		{"nor the replaced", past(discovered, domain.DeviceReplaced{By: spare}), assign(same), nil, domain.ErrDeviceDeleted},
	})
	d := domain.Fold[domain.Device](append(past(discovered, assigned), again(user)...))
	if d.SecretHash != "aa" || d.UserID != "bert" || !d.Assigned() {
		t.Errorf("assigned anew it is %+v", d)
	}
}

func TestLinesOfADevice(t *testing.T) {
	associate := func(line domain.LineID, tenant domain.TenantID, position int) func(domain.Device) ([]domain.Event, error) {
		return func(d domain.Device) ([]domain.Event, error) {
			return d.Associate(line, tenant, position, stored("bb"), "bb")
		}
	}
	dissociate := func(line domain.LineID) func(domain.Device) ([]domain.Event, error) {
		return func(d domain.Device) ([]domain.Event, error) { return d.Dissociate(line) }
	}
	own := past(discovered, assigned)
	toAcme := domain.DeviceAssigned{TenantID: "acme", Secret: stored("bb"), SecretHash: "bb"}
	check(t, []rule[domain.Device]{
		{"the first line goes to position 1", own, associate("l1", "acme", 0), past(on("l1", 1)), nil},
		{"the next to the first free one", append(own, on("l1", 1), on("l3", 3)), associate("l2", "acme", 0), past(on("l2", 2)), nil},
		{"or where it is wanted", own, associate("l1", "acme", 7), past(on("l1", 7)), nil},
		{"it is there already", append(own, on("l1", 7)), associate("l1", "acme", 0), nil, nil},
		{"it is exactly there already", append(own, on("l1", 7)), associate("l1", "acme", 7), nil, nil},
		{"it moves", append(own, on("l1", 7)), associate("l1", "acme", 2), past(off("l1", 7), on("l1", 2)), nil},
		{"not to where another is", append(own, on("l1", 1), on("l2", 2)), associate("l1", "acme", 2), nil, domain.ErrPositionTaken},
		{"not below 1", own, associate("l1", "acme", -1), nil, domain.ErrPosition},
		{"not above 1000", own, associate("l1", "acme", 1001), nil, domain.ErrPosition},
		{"up to 1000", own, associate("l1", "acme", 1000), past(on("l1", 1000)), nil},
		{"not of another tenant", own, associate("l1", "globex", 0), nil, domain.ErrLineOfOtherTenant},
		{"a phone in the master tenant goes to the line's", past(discovered), associate("l1", "acme", 0), past(toAcme, on("l1", 1)), nil},
		{"a phone that was reset is assigned anew", append(own, domain.DeviceReset{}), associate("l1", "acme", 0), past(toAcme, on("l1", 1)), nil},
		{"but not to another tenant", append(own, domain.DeviceReset{}), associate("l1", "globex", 0), nil, domain.ErrLineOfOtherTenant},
		{"nobody has no lines", nil, associate("l1", "acme", 0), nil, domain.ErrDeviceUnknown},
		{"nor the deleted", append(own, domain.DeviceDeleted{}), associate("l1", "acme", 0), nil, domain.ErrDeviceDeleted},
		{"a line is taken off", append(own, on("l1", 3)), dissociate("l1"), past(off("l1", 3)), nil},
		{"not one that is not there", append(own, on("l1", 3), off("l1", 3)), dissociate("l1"), nil, domain.ErrLineNotOnDevice},
		{"not from the deleted", append(own, on("l1", 3), domain.DeviceDeleted{}), dissociate("l1"), nil, domain.ErrDeviceDeleted},
		{"a phone without a line waits", own, of(domain.Device.AwaitLine), past(domain.DeviceAwaitingLine{UserID: "anna"}), nil},
		{"once", append(own, domain.DeviceAwaitingLine{UserID: "anna"}), of(domain.Device.AwaitLine), nil, nil},
		{"not when it has one", append(own, on("l1", 1)), of(domain.Device.AwaitLine), nil, nil},
		{"not without a user", past(discovered), of(domain.Device.AwaitLine), nil, nil},
	})
}

func TestDeviceIsConfiguredAndReset(t *testing.T) {
	configure := func(spec domain.DeviceSpec) func(domain.Device) ([]domain.Event, error) {
		return func(d domain.Device) ([]domain.Event, error) { return d.Configure(spec) }
	}
	own, configured := past(discovered, assigned), domain.DeviceConfigured{DeviceSpec: deskSpec}
	closed := domain.DeviceConfigDelivered{Path: "a", MAC: "1", Via: "secret"}
	check(t, []rule[domain.Device]{
		{"an operator's wishes are news", own, configure(deskSpec), past(configured), nil},
		{"the same are none", append(own, configured), configure(deskSpec), nil, nil},
		{"no wishes are news", append(own, configured), configure(domain.DeviceSpec{}), past(domain.DeviceConfigured{}), nil},
		{"nobody has none", nil, configure(deskSpec), nil, domain.ErrDeviceUnknown},
		{"nor the deleted", append(own, domain.DeviceDeleted{}), configure(deskSpec), nil, domain.ErrDeviceDeleted},
		{"an assigned phone is reset", own, domain.Device.Reset, past(domain.DeviceReset{}), nil},
		{"one with wishes is reset", past(discovered, configured), domain.Device.Reset, past(domain.DeviceReset{}), nil},
		{"one with a description only too", past(discovered, domain.DeviceConfigured{DeviceSpec: domain.DeviceSpec{Description: "x"}}), domain.Device.Reset, past(domain.DeviceReset{}), nil},
		{"resetting again is no news", append(own, domain.DeviceReset{}), domain.Device.Reset, nil, nil},
		{"nor of a phone just found", past(discovered), domain.Device.Reset, nil, nil},
		{"nobody is not reset", nil, domain.Device.Reset, nil, domain.ErrDeviceUnknown},
		{"nor the deleted", append(own, domain.DeviceDeleted{}), domain.Device.Reset, nil, domain.ErrDeviceDeleted},
		{"a closed MAC path is reopened", append(own, closed), domain.Device.ReopenMACPath, past(domain.DeviceMACPathReopened{}), nil},
		{"an open one is open", own, domain.Device.ReopenMACPath, nil, nil},
		{"nobody has no path", nil, domain.Device.ReopenMACPath, nil, domain.ErrDeviceUnknown},
	})
	d := domain.Fold[domain.Device](append(own, configured, on("l1", 1), closed, domain.DeviceReset{}))
	if d.TenantID != "acme" || d.Assigned() || len(d.Lines) != 0 || d.UserID != "" || d.CategoryID != "" || d.Description != "" || d.MACPathClosed || d.Status() != domain.StateAutoprov {
		t.Errorf("a reset leaves %+v", d)
	}
}

func TestDeviceEnds(t *testing.T) {
	remove := func(to domain.TenantID) func(domain.Device) ([]domain.Event, error) {
		return func(d domain.Device) ([]domain.Event, error) { return d.Delete(to) }
	}
	by := func(history ...domain.Event) domain.Device { return domain.Fold[domain.Device](history) }
	replace := func(other domain.Device, id domain.DeviceID) func(domain.Device) ([]domain.Event, error) {
		return func(d domain.Device) ([]domain.Event, error) { return d.Replace(other, id, domain.MAC(id)) }
	}
	found := domain.DeviceDiscovered{DeviceID: spare, MAC: domain.MAC(spare), Added: "auto"}
	own, replaced := past(discovered, assigned), domain.DeviceReplaced{By: spare, ByMAC: domain.MAC(spare)}
	check(t, []rule[domain.Device]{
		{"a device is deleted", own, remove(""), past(domain.DeviceDeleted{}), nil},
		{"and moved", own, remove("globex"), past(domain.DeviceDeleted{MovedTo: "globex"}), nil},
		{"not to where it is", own, remove("acme"), nil, domain.ErrSameTenant},
		{"deleting again is no news", append(own, domain.DeviceDeleted{}), remove(""), nil, nil},
		{"nobody is not deleted", nil, remove(""), nil, domain.ErrDeviceUnknown},
		{"a phone never seen takes over", own, replace(domain.Device{}, spare), past(replaced), nil},
		{"also one just found", own, replace(by(found), spare), past(replaced), nil},
		{"also one of the same tenant that was reset", own, replace(by(found, assigned, domain.DeviceReset{}), spare), past(replaced), nil},
		{"not one in use", own, replace(by(found, assigned), spare), nil, domain.ErrReplacementInUse},
		{"not one of another tenant", own, replace(by(found, domain.DeviceAssigned{TenantID: "globex", SecretHash: "x"}, domain.DeviceReset{}), spare), nil, domain.ErrReplacementInUse},
		{"not itself", own, replace(by(own...), phone), nil, domain.ErrReplaceSelf},
		{"replacing again alike is no news", append(own, replaced), replace(domain.Device{}, spare), nil, nil},
		{"not twice", append(own, replaced), replace(domain.Device{}, "other"), nil, domain.ErrDeviceDeleted},
		{"nobody is not replaced", nil, replace(domain.Device{}, spare), nil, domain.ErrDeviceUnknown},
	})

	old := by(append(own, domain.DeviceConfigured{DeviceSpec: deskSpec}, on("l2", 5), on("l1", 1), replaced)...)
	takeOver := func(d domain.Device) ([]domain.Event, error) {
		return d.TakeOver(old, domain.Settings{"vlan_id": 1}, stored("bb"), "bb")
	}
	becomes := past(domain.DeviceAssigned{TenantID: "acme", CategoryID: "desk", UserID: "anna", CodeID: "c1", Secret: stored("bb"), SecretHash: "bb", Replaces: phone},
		domain.DeviceConfigured{DeviceSpec: deskSpec}, on("l1", 1), on("l2", 5))
	check(t, []rule[domain.Device]{
		{"the replacement becomes what the old one was", past(found), takeOver, becomes, nil},
		{"not when it is in use meanwhile", past(found, assigned), takeOver, nil, domain.ErrReplacementInUse},
		{"not when it went elsewhere meanwhile", past(found, domain.DeviceAssigned{TenantID: "globex", SecretHash: "x"}), takeOver, nil, domain.ErrDeviceOfOtherTenant},
		{"not when it is deleted", past(found, domain.DeviceDeleted{}), takeOver, nil, domain.ErrDeviceDeleted},
		{"nobody takes over", nil, takeOver, nil, domain.ErrDeviceUnknown},
	})
}

func TestFilesOfADevice(t *testing.T) {
	made := domain.DeviceConfigRegenerated{Plugin: "yealink", PluginVersion: "1", Files: []domain.GeneratedFile{{Path: "a.cfg", MAC: "0123456789abcdef0123456789abcdef01", ContentType: "text/plain"}}}
	regenerate := func(change func(*domain.DeviceConfigRegenerated)) (func(domain.Device) ([]domain.Event, error), []domain.Event) {
		c := made
		c.Files = []domain.GeneratedFile{made.Files[0]}
		change(&c)
		return func(d domain.Device) ([]domain.Event, error) { return d.Regenerate(c) }, past(c)
	}
	own := past(discovered, assigned)
	rules := []rule[domain.Device]{}
	for what, r := range map[string]struct {
		change func(*domain.DeviceConfigRegenerated)
		news   bool
	}{
		"the same": {func(*domain.DeviceConfigRegenerated) {}, false},
		"newer inputs and the same bytes": {func(c *domain.DeviceConfigRegenerated) {
			c.Inputs = slices.Clone(c.Inputs)
			for i := range c.Inputs {
				c.Inputs[i].Revision++
			}
			c.Renderer, c.TZData = "2", "2027a"
		}, false},
		"one more input and the same bytes": {func(c *domain.DeviceConfigRegenerated) {
			c.Inputs = append(slices.Clone(c.Inputs), domain.Input{Stream: "layer-x", Revision: 7})
		}, true},
		"other bytes":        {func(c *domain.DeviceConfigRegenerated) { c.Files[0].MAC = "x" }, true},
		"another path":       {func(c *domain.DeviceConfigRegenerated) { c.Files[0].Path = "b.cfg" }, true},
		"another alias":      {func(c *domain.DeviceConfigRegenerated) { c.Files[0].Aliases = []string{"A.cfg"} }, true},
		"another type":       {func(c *domain.DeviceConfigRegenerated) { c.Files[0].ContentType = "text/xml" }, true},
		"another file":       {func(c *domain.DeviceConfigRegenerated) { c.Files = append(c.Files, domain.GeneratedFile{Path: "b"}) }, true},
		"no file":            {func(c *domain.DeviceConfigRegenerated) { c.Files = nil }, true},
		"another version":    {func(c *domain.DeviceConfigRegenerated) { c.PluginVersion = "2" }, true},
		"a warning":          {func(c *domain.DeviceConfigRegenerated) { c.Warnings = []domain.ConfigWarning{{Text: "x"}} }, true},
		"guest files of its": {func(c *domain.DeviceConfigRegenerated) { c.Guest = true }, true},
	} {
		when, then := regenerate(r.change)
		if !r.news {
			then = nil
		}
		rules = append(rules, rule[domain.Device]{what, append(own, made), when, then, nil})
	}
	first, then := regenerate(func(*domain.DeviceConfigRegenerated) {})
	at := time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)
	deliver := func(e domain.DeviceConfigDelivered) func(domain.Device) ([]domain.Event, error) {
		return of(func(d domain.Device) []domain.Event { return d.Deliver(e, "aa") })
	}
	byMAC := domain.DeviceConfigDelivered{Path: "a.cfg", MAC: "1", Via: "mac", Transport: "http", DeliveredAt: at}
	bySecret := byMAC
	bySecret.Via, bySecret.DeliveredAt = "secret", at.Add(time.Hour)
	newer := byMAC
	newer.MAC = "2"
	check(t, append(rules, []rule[domain.Device]{
		{"first files", own, first, then, nil},
		{"nobody has no files", nil, first, nil, domain.ErrDeviceUnknown},
		{"nor the deleted", append(own, domain.DeviceDeleted{}), first, nil, domain.ErrDeviceDeleted},
		{"a delivery is recorded", append(own, made), deliver(byMAC), past(byMAC), nil},
		{"once for the same bytes", append(own, made, byMAC), deliver(byMAC), nil, nil},
		{"new bytes are news", append(own, made, byMAC), deliver(newer), past(newer), nil},
		{"the first use of the secret path is news", append(own, made, byMAC), deliver(bySecret), past(bySecret), nil},
		{"the second is not", append(own, made, byMAC, bySecret), deliver(bySecret), nil, nil},
		{"after reopening it is again", append(own, made, byMAC, bySecret, domain.DeviceMACPathReopened{}), deliver(bySecret), past(bySecret), nil},
		{"below the path of an assignment that is past it says nothing", append(own, domain.DeviceReset{}, domain.DeviceAssigned{TenantID: "acme", Secret: stored("bb"), SecretHash: "bb"}, made), deliver(bySecret), nil, nil},
		{"nor below one that a reset took off", append(own, made, domain.DeviceReset{}), deliver(bySecret), nil, nil},
		{"the deleted gets nothing", append(own, made, domain.DeviceDeleted{}), deliver(byMAC), nil, nil},
	}...))
	if tag := made.Files[0].ETag(); tag != `"0123456789abcdef0123456789abcdef"` {
		t.Error(tag)
	}
	if tag := (domain.GeneratedFile{}).ETag(); tag != `""` {
		t.Error(tag)
	}
}

func TestStatus(t *testing.T) {
	files := []domain.GeneratedFile{{Path: "a"}}
	for want, histories := range map[string][][]domain.Event{
		domain.StateAutoprov:     {past(discovered), past(discovered, assigned, domain.DeviceReset{}), past(discovered, domain.DeviceConfigRegenerated{Guest: true, Files: files})},
		domain.StateAwaitingLine: {past(discovered, assigned, domain.DeviceAwaitingLine{UserID: "anna"})},
		domain.StateAssigned:     {past(discovered, assigned), past(discovered, domain.DeviceConfigRegenerated{Guest: true, Files: files}, assigned)},
		domain.StateConfigured: {past(discovered, assigned, domain.DeviceConfigRegenerated{Files: files}),
			past(discovered, assigned, domain.DeviceAwaitingLine{UserID: "anna"}, on("l1", 1), domain.DeviceConfigRegenerated{Files: files})},
		domain.StateReplaced: {past(discovered, assigned, domain.DeviceReplaced{By: spare})},
		domain.StateDeleted:  {past(discovered, assigned, domain.DeviceDeleted{})},
	} {
		for _, h := range histories {
			if got := domain.Fold[domain.Device](h).Status(); got != want {
				t.Errorf("after %v: %s, want %s", h, got, want)
			}
		}
	}
}
