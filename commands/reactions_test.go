package commands_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

// reaction is one row of commands.Reactions in one situation: prepare makes the cause (the last event of that
// type), holds says what must be true afterwards, whatever happened in between.
type reaction struct {
	row     string
	when    string
	prepare func(*kit)
	cause   string
	holds   func(*kit) error
}

func want(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func add(k *kit, in commands.AmendDevice) {
	_, _, err := k.AmendDevice(k.ctx, in)
	k.ok(err)
}

// transient puts the device desk below the transient layer passing.
func transient(k *kit) {
	_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "passing", TenantID: domain.Master, LayerExtra: commands.LayerExtra{Lenient: true, Transient: true}})
	k.ok(err)
	add(k, commands.AmendDevice{ID: "desk", New: true, TenantID: domain.Master, MAC: phone, Config: "passing"})
}

var reactions = []reaction{
	{"assign-redeemed-device", "a phone redeemed a code", func(k *kit) {
		_, _, err := k.redeem(k.issue("rollout").Code, phone)
		k.ok(err)
	}, "code.redeemed", func(k *kit) error {
		d := k.device(domain.DeviceID(phone))
		return want(d.TenantID == "acme" && d.UserID == "anna" && d.Assigned() && k.count("code-", "code.assignment_failed") == 0, "it is of %s", d.TenantID)
	}},
	{"assign-redeemed-device", "the phone went to another tenant meanwhile", func(k *kit) {
		_, _, err := k.redeem(k.issue("rollout").Code, phone)
		k.ok(err)
		k.assign(phone, "globex", "")
	}, "code.redeemed", func(k *kit) error {
		n := k.count("code-", "code.assignment_failed")
		return want(n == 1 && k.device(domain.DeviceID(phone)).TenantID == "globex", "%d failures are on record", n)
	}},
	{"release-registry-code", "a code of a registry elsewhere was revoked", func(k *kit) {
		k.Kit.Service.DevicesURL, k.Kit.Service.Registry = devicesURL, &commandstest.Registry{Faults: k.Faults, Now: k.Clock.Now}
		_, err := k.RevokeCode(k.ctx, commands.RevokeCode{ID: k.issue("rollout").ID})
		k.ok(err)
	}, "code.revoked", func(k *kit) error {
		leads := k.Kit.Service.Registry.(*commandstest.Registry).Leads()
		return want(len(leads) == 0, "it still leads to %v", leads)
	}},
	{"carry-out-rollout", "a rollout began", func(k *kit) { k.rollout(domain.RolloutPlan{UserID: "anna"}) }, "rollout.started", rows(domain.RowPending)},
	{"carry-out-rollout", "the user has gone", func(k *kit) {
		k.rollout(domain.RolloutPlan{UserID: "anna"})
		_, err := k.RemoveUser(k.ctx, commands.RemoveUser{ID: "anna"})
		k.ok(err)
	}, "rollout.started", rows(domain.RowFailed)},
	{"carry-out-rollout", "a row that waits gets a new code", func(k *kit) {
		k.rollout(domain.RolloutPlan{UserID: "anna"})
		k.settle()
		_, err := k.ReissueRollout(k.ctx, commands.RolloutRows{ID: "r1", Rows: []int{1}})
		k.ok(err)
	}, "rollout.reissued", func(k *kit) error {
		n := k.count("code-", "code.revoked")
		return errors.Join(rows(domain.RowPending)(k), want(n == 1, "%d codes were taken back", n))
	}},
	{"carry-out-rollout", "a phone was faster than the new code", func(k *kit) {
		k.rollout(domain.RolloutPlan{UserID: "anna"})
		k.settle()
		_, err := k.ReissueRollout(k.ctx, commands.RolloutRows{ID: "r1", Rows: []int{1}})
		k.ok(err)
		_, _, err = k.redeem(k.digitsOf(1), phone)
		k.ok(err)
	}, "rollout.reissued", rows(domain.RowRegistered)},
	{"carry-out-rollout", "rows get more time on the day of their codes", func(k *kit) {
		k.rollout(domain.RolloutPlan{UserID: "anna"})
		k.settle()
		k.Clock.Advance(time.Hour)
		_, err := k.ExtendRollout(k.ctx, commands.RolloutRows{ID: "r1"})
		k.ok(err)
	}, "rollout.extended", func(k *kit) error {
		row := k.row(1)
		return want(row.ValidUntil.Equal(commandstest.Start.Add(7*24*time.Hour+time.Hour)), "it is valid until %s", row.ValidUntil)
	}},
	{"carry-out-rollout", "rows get more time days later", func(k *kit) {
		k.rollout(domain.RolloutPlan{UserID: "anna"})
		k.settle()
		k.Clock.Advance(3 * 24 * time.Hour)
		_, err := k.ExtendRollout(k.ctx, commands.RolloutRows{ID: "r1"})
		k.ok(err)
	}, "rollout.extended", func(k *kit) error {
		row := k.row(1)
		return errors.Join(rows(domain.RowPending)(k), want(row.ValidUntil.Equal(commandstest.Start.Add(10*24*time.Hour)), "it is valid until %s", row.ValidUntil))
	}},
	{"carry-out-rollout", "Users is to be told again", func(k *kit) {
		_, err := k.SetUsersKey(k.ctx, commands.SetUsersKey{ID: "acme", Key: "a-password-of-users"})
		k.ok(err)
		k.rollout(domain.RolloutPlan{UserID: "anna"})
		k.settle()
		_, _, err = k.redeem(k.digitsOf(1), phone)
		k.ok(err)
		k.settle()
		_, err = k.DeliverNotice(k.ctx, commands.DeliverNotice{Code: k.row(1).CodeID, App: "users", Acknowledged: true})
		k.ok(err)
		_, err = k.ResendRollout(k.ctx, commands.RolloutRows{ID: "r1"})
		k.ok(err)
	}, "rollout.resent", func(k *kit) error {
		n := k.count("notice-", "notice.stored")
		return want(n == 2, "the notice was stored %d times", n)
	}},
	{"carry-out-rollout", "a rollout was cancelled", func(k *kit) {
		k.rollout(domain.RolloutPlan{UserID: "anna"})
		k.settle()
		_, err := k.CancelRollout(k.ctx, commands.RolloutRows{ID: "r1"})
		k.ok(err)
	}, "rollout.cancelled", func(k *kit) error {
		n := k.count("code-", "code.revoked")
		return want(n == 1, "%d codes were taken back", n)
	}},
	{"store-notice", "a phone came by a code to a tenant with Users", func(k *kit) {
		_, err := k.SetUsersKey(k.ctx, commands.SetUsersKey{ID: "acme", Key: "a-password-of-users"})
		k.ok(err)
		code := k.issue("rollout")
		_, _, err = k.redeem(code.Code, phone)
		k.ok(err)
		_, err = k.AssignDevice(k.ctx, commands.AssignDevice{ID: domain.DeviceID(phone), TenantID: "acme", CategoryID: desk, UserID: "anna", CodeID: code.ID})
		k.ok(err)
	}, "device.assigned", func(k *kit) error {
		_, n := last[domain.NoticeStored](k)
		return want(n.MAC == phone && k.count("notice-", "notice.stored") == 1, "%+v", n)
	}},
	{"follow-rollout-row", "the phone came", func(k *kit) {
		k.rollout(domain.RolloutPlan{UserID: "anna"})
		k.settle()
		_, _, err := k.redeem(k.digitsOf(1), phone)
		k.ok(err)
		_, err = k.AssignDevice(k.ctx, commands.AssignDevice{ID: domain.DeviceID(phone), TenantID: "acme", CategoryID: desk, UserID: "anna", CodeID: k.row(1).CodeID})
		k.ok(err)
	}, "device.assigned", rows(domain.RowRegistered)},
	{"follow-rollout-row", "a code was taken back", func(k *kit) {
		k.rollout(domain.RolloutPlan{UserID: "anna"})
		k.settle()
		_, err := k.CancelRollout(k.ctx, commands.RolloutRows{ID: "r1", Rows: []int{1}})
		k.ok(err)
	}, "code.revoked", rows(domain.RowCancelled)},
	{"associate-user-lines", "the user has lines", func(k *kit) {
		k.line("l1", "acme", "anna")
		k.line("l2", "acme", "anna")
		k.assign(phone, "acme", "anna")
	}, "device.assigned", func(k *kit) error {
		d := k.device(domain.DeviceID(phone))
		return want(maps.Equal(d.Lines, map[int]domain.LineID{1: "l1", 2: "l2"}) && !d.Awaiting, "it has %v", d.Lines)
	}},
	{"associate-user-lines", "the user has none", func(k *kit) { k.assign(phone, "acme", "anna") }, "device.assigned", func(k *kit) error {
		return want(k.device(domain.DeviceID(phone)).Status() == domain.StateAwaitingLine, "it does not wait")
	}},
	{"give-waiting-device-its-line", "two devices wait", func(k *kit) {
		k.assign(phone, "acme", "anna")
		k.assign(spare, "acme", "anna")
		k.settle()
		k.line("l1", "acme", "anna")
	}, "line.defined", func(k *kit) error {
		n := len(k.device(domain.DeviceID(phone)).Lines) + len(k.device(domain.DeviceID(spare)).Lines)
		return want(n == 1, "the line is on %d devices", n)
	}},
	{"regenerate-config", "a device was assigned", func(k *kit) { k.assign(phone, "acme", "") }, "device.assigned", hasFiles(phone, "")},
	{"regenerate-line-devices", "a password was rotated", func(k *kit) {
		k.line("l1", "acme", "anna")
		k.assign(phone, "acme", "anna")
		k.settle()
		second := k.assign(spare, "acme", "")
		_, err := k.AssociateLine(k.ctx, commands.AssociateLine{DeviceID: second, LineID: "l1"})
		k.ok(err)
		k.settle()
		_, err = k.RotateLineSecret(k.ctx, commands.RotateLineSecret{ID: "l1", Password: "rotated"})
		k.ok(err)
	}, "line.secret_rotated", func(k *kit) error {
		return errors.Join(hasFiles(phone, "password = rotated")(k), hasFiles(spare, "password = rotated")(k))
	}},
	{"sweep-shared-change", "a layer above three devices was amended", func(k *kit) {
		_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "tenant.acme", TenantID: "acme"})
		k.ok(err)
		for _, mac := range []domain.MAC{phone, spare, "0015650000aa"} {
			k.assign(mac, "acme", "")
		}
		k.settle()
		_, err = k.AmendLayer(k.ctx, commands.AmendLayer{ID: "tenant.acme", Settings: domain.Settings{"vlan_id": 7}})
		k.ok(err)
	}, "layer.amended", func(k *kit) error {
		return errors.Join(hasFiles(phone, "vlan_id = 7")(k), hasFiles(spare, "vlan_id = 7")(k), hasFiles("0015650000aa", "vlan_id = 7")(k))
	}},
	{"offer-jobs", "one device is connected, one is to be told to fetch", func(k *kit) {
		k.sysclient("IP222", "134250")
		k.assign(spare, "acme", "")
		_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "tenant.acme", TenantID: "acme", Settings: domain.Settings{"resync_enabled": true}})
		k.ok(err)
		k.settle()
		k.comes(spare)
		k.settle()
		k.job(domain.JobNTP, domain.JobParameters{"ntp1": "192.0.2.1"})
	}, "job.created", func(k *kit) error {
		connected, told := k.device(domain.DeviceID(phone)), k.device(domain.DeviceID(spare))
		return errors.Join(want(len(connected.Jobs.Pinned()) == 1, "the connected one has %v", connected.Jobs.Runs),
			want(told.Sync.Trigger == domain.SyncJobs && len(told.Jobs.Runs) == 0, "the other one has %v and was told %+v", told.Jobs.Runs, told.Sync))
	}},
	{"send-jobs", "a connected device has two configurations", func(k *kit) {
		k.job(domain.JobNTP, domain.JobParameters{"ntp1": "192.0.2.1"})
		k.job(domain.JobExpert, domain.JobParameters{"script": "# first\r\nvars create X h 1\r\n"})
		k.sysclient("IP222", "134250")
	}, "device.jobs_selected", func(k *kit) error {
		d := k.device(domain.DeviceID(phone))
		return want(slices.Equal(states(d), []string{"NTP sent", "EXPERT sent"}), "they are %v", states(d))
	}},
	{"send-jobs", "a connected device has an older software", func(k *kit) {
		k.software("13r3", "135421", "IP222")
		k.job(domain.JobNTP, domain.JobParameters{"ntp1": "192.0.2.1"})
		k.sysclient("IP222", "134250")
	}, "device.jobs_selected", func(k *kit) error {
		d := k.device(domain.DeviceID(phone))
		return want(slices.Equal(states(d), []string{"software rebooting", "NTP queued"}), "they are %v", states(d))
	}},
	{"send-jobs", "a foreign device has two configurations", func(k *kit) {
		k.job(domain.JobNTP, domain.JobParameters{"ntp1": "192.0.2.1"})
		k.job(domain.JobMedia, domain.JobParameters{"turnServer": "turn.example.com", "turnUser": "u", "turnPassword": "s3cret"})
		k.registers(commands.Registration{Device: k.assign(phone, "acme", ""), Product: "Other", Foreign: true})
	}, "device.jobs_selected", func(k *kit) error {
		d := k.device(domain.DeviceID(phone))
		return want(slices.Equal(states(d), []string{"NTP sent", "MEDIA sent"}), "they are %v", states(d))
	}},
	{"dissociate-removed-line", "a line on two devices was removed", func(k *kit) {
		k.line("l1", "acme", "anna")
		for _, mac := range []domain.MAC{phone, spare} {
			_, err := k.AssociateLine(k.ctx, commands.AssociateLine{DeviceID: k.discover(mac), LineID: "l1"})
			k.ok(err)
		}
		k.settle()
		_, err := k.RemoveLine(k.ctx, commands.RemoveLine{ID: "l1"})
		k.ok(err)
	}, "line.removed", func(k *kit) error {
		n := len(k.device(domain.DeviceID(phone)).Lines) + len(k.device(domain.DeviceID(spare)).Lines)
		return want(n == 0, "the line is on %d devices", n)
	}},
	{"release-extension", "a line with a number to dial was removed", func(k *kit) {
		k.line("l1", "acme", "anna")
		_, _, err := k.SetProvisioningExtension(k.ctx, commands.SetProvisioningExtension{ID: "l1", Extension: "123456"})
		k.ok(err)
		_, err = k.RemoveLine(k.ctx, commands.RemoveLine{ID: "l1"})
		k.ok(err)
	}, "line.removed", func(k *kit) error {
		n := k.count("claim-extension", "claim.released")
		return want(n == 1, "its number was released %d times", n)
	}},
	{"release-mac", "a device was deleted", func(k *kit) {
		id := k.assign(phone, "acme", "")
		k.settle()
		_, err := k.DeleteDevice(k.ctx, commands.DeleteDevice{ID: id})
		k.ok(err)
	}, "device.deleted", func(k *kit) error {
		n := k.count("claim-mac", "claim.released")
		return want(n == 1, "its address was released %d times", n)
	}},
	{"release-mac", "a device got another address", func(k *kit) {
		add(k, commands.AmendDevice{ID: "desk", New: true, TenantID: "acme", MAC: phone})
		k.settle()
		add(k, commands.AmendDevice{ID: "desk", TenantID: "acme", MAC: spare})
	}, "device.amended", func(k *kit) error {
		n := k.count("claim-mac", "claim.released")
		return want(n == 1, "addresses were released %d times", n)
	}},
	{"drop-transient-layer", "the last device below it was deleted", func(k *kit) {
		transient(k)
		k.settle()
		_, err := k.DeleteDevice(k.ctx, commands.DeleteDevice{ID: "desk"})
		k.ok(err)
	}, "device.deleted", func(k *kit) error {
		n := k.count("layer-passing", "layer.removed")
		return want(n == 1, "the layer was removed %d times", n)
	}},
	{"continue-move", "a device was moved", func(k *kit) {
		id := k.assign(phone, "acme", "")
		k.settle()
		_, err := k.MoveDevice(k.ctx, commands.MoveDevice{ID: id, TenantID: "globex"})
		k.ok(err)
	}, "device.deleted", func(k *kit) error {
		d := k.device(domain.DeviceID(phone) + ".2")
		return want(d.TenantID == "globex" && d.Assigned() && d.MAC == phone, "its next life is in %q", d.TenantID)
	}},
	{"take-over", "a device was replaced", func(k *kit) {
		k.line("l1", "acme", "anna")
		id := k.assign(phone, "acme", "anna")
		k.settle()
		_, err := k.ConfigureDevice(k.ctx, commands.ConfigureDevice{ID: id, Settings: domain.Settings{"admin_password": "s3cret"}})
		k.ok(err)
		_, _, err = k.ReplaceDevice(k.ctx, commands.ReplaceDevice{ID: id, MAC: spare})
		k.ok(err)
	}, "device.replaced", func(k *kit) error {
		d := k.device(domain.DeviceID(spare))
		return want(d.TenantID == "acme" && d.UserID == "anna" && d.Lines[1] == "l1" && len(d.Settings) == 1 && d.MAC == spare, "the replacement is %+v", d)
	}},
	{"notify-phone", "an operator asked a phone to fetch", func(k *kit) {
		k.line("l1", "acme", "anna")
		k.assign(phone, "acme", "anna")
		k.settle()
		_, _, err := k.SynchronizeDevice(k.ctx, commands.SynchronizeDevice{ID: domain.DeviceID(phone)})
		k.ok(err)
	}, "device.sync_requested", func(k *kit) error {
		d := k.device(domain.DeviceID(phone))
		return want(d.Sync.State == domain.SyncSent && d.Sync.Last.Status == 200 && d.Sync.Last.Attempt == 1, "its sync is %+v", d.Sync)
	}},
	{"plan-sip-user", "a line was put behind a gateway", func(k *kit) {
		k.border(true)
		k.line("l1", "acme", "anna")
		k.behind("l1")
	}, "line.remote_authorization_set", wanted("edge.l1", 1)},
	{"plan-sip-user", "a line was removed", func(k *kit) {
		k.border(true)
		k.line("l1", "acme", "anna")
		k.behind("l1")
		k.settle()
		_, err := k.RemoveLine(k.ctx, commands.RemoveLine{ID: "l1"})
		k.ok(err)
	}, "line.removed", wanted("edge.l1", -2)},
	{"plan-sip-users-of-user", "the user of two lines has another name", func(k *kit) {
		k.border(true)
		for _, id := range []domain.LineID{"l1", "l2"} {
			k.line(id, "acme", "anna")
			k.behind(id)
		}
		k.settle()
		_, err := k.AmendUser(k.ctx, commands.AmendUser{ID: "anna", DisplayName: "Anna Neu"})
		k.ok(err)
	}, "user.amended", func(k *kit) error { return errors.Join(wanted("edge.l1", 2)(k), wanted("edge.l2", 2)(k)) }},
	{"sweep-gateway", "the push was switched on", func(k *kit) {
		k.border(false)
		for _, id := range []domain.LineID{"l1", "l2"} {
			k.line(id, "acme", "anna")
			k.behind(id)
		}
		k.settle()
		_, err := k.SwitchGateway(k.ctx, commands.SwitchGateway{ID: "edge", To: "enabled"})
		k.ok(err)
	}, "gateway.enabled", func(k *kit) error { return errors.Join(wanted("edge.l1", 1)(k), wanted("edge.l2", 1)(k)) }},
	{"regenerate-behind-gateway", "the gateway holds the line's record", func(k *kit) {
		k.border(true)
		k.line("l1", "acme", "anna")
		k.behind("l1")
		id := k.assign(phone, "acme", "anna")
		_, err := k.PlaceDevice(k.ctx, commands.PlaceDevice{ID: id, GatewayID: "edge"})
		k.ok(err)
		k.settle()
		_, err = k.PushGateway(k.ctx, "edge")
		k.ok(err)
	}, "sipuser.pushed", hasFiles(phone, "registrar_ip = mbg.acme.example")},
	{"announce-gateway", "a token nears its end", func(k *kit) {
		k.border(true)
		k.settle()
		k.Clock.Advance(306 * 24 * time.Hour)
		_, err := k.PushGateway(k.ctx, "edge")
		k.ok(err)
	}, "gateway.token_expiring", func(k *kit) error {
		sent := k.Alerts.Sent()
		return want(len(sent) == 1 && sent[0].Type == "gateway.token_expiring" && k.count("gateway-", "gateway.alert_sent") == 1, "%d alerts were sent: %+v", len(sent), sent)
	}},
	{"destroy-keys", "the erasure of a user was ordered", func(k *kit) {
		k.line("l1", "acme", "anna")
		k.line("l2", "acme", "anna")
		_, err := k.EraseSubject(k.ctx, commands.EraseSubject{Subject: "user-anna"})
		k.ok(err)
	}, "subject.erased", func(k *kit) error {
		var errs []error
		for _, s := range []domain.Subject{"user-anna", "line-l1", "line-l2"} {
			errs = append(errs, want(!k.Vault.Has(s) && k.count(string(s), "key.destroyed") == 1, "%s still has its key", s))
		}
		return errors.Join(errs...)
	}},
}

// border makes the gateway edge, with a token and a node, and the push on or off.
func (k *kit) border(on bool) {
	k.t.Helper()
	_, _, err := k.RegisterGateway(k.ctx, commands.RegisterGateway{ID: "edge", TenantID: "acme", GatewayWish: commands.GatewayWish{Address: "https://192.0.2.10",
		SourceAddresses: []string{"192.0.2.10"}, ExternalAddress: "mbg.acme.example", ExternalPort: 5062}})
	k.ok(err)
	_, err = k.SetGatewayConsumer(k.ctx, commands.SetGatewayConsumer{ID: "edge", ConsumerID: "MiVOAppSuite", Secret: "s3cret"})
	k.ok(err)
	_, err = k.RequestGatewayToken(k.ctx, commands.RequestGatewayToken{ID: "edge"})
	k.ok(err)
	_, err = k.SubmitVerifier(k.ctx, commands.SubmitVerifier{ID: "edge", Verifier: "12345678"})
	k.ok(err)
	_, err = k.DefineNode(k.ctx, commands.DefineNode{ID: "edge", NodeID: "zrh", InternalAddress: "10.1.2.3"})
	k.ok(err)
	if on {
		_, err = k.SwitchGateway(k.ctx, commands.SwitchGateway{ID: "edge", To: "enabled"})
		k.ok(err)
		_, err = k.PushGateway(k.ctx, "edge") // it runs from here on: what is intended later was never under way
		k.ok(err)
	}
}

// behind puts a line behind the gateway edge.
func (k *kit) behind(id domain.LineID) {
	k.t.Helper()
	_, err := k.SetLineRemote(k.ctx, commands.SetLineRemote{ID: id, GatewayID: "edge"})
	k.ok(err)
}

// wanted wants the latest intention of a SIP user to have that number, negative for a removal.
func wanted(id domain.SIPUserID, rev int) func(*kit) error {
	return func(k *kit) error {
		u := state[domain.SIPUser](k, id.Stream())
		now := u.Rev
		if !u.Wanted {
			now = -now
		}
		return want(now == rev, "%s is wanted as %d, not %d", id, now, rev)
	}
}

// hasFiles wants the bytes of a device's files to be there, to hold text, and to be what the device may fetch.
func hasFiles(mac domain.MAC, text string) func(*kit) error {
	return func(k *kit) error {
		d := k.device(domain.DeviceID(mac))
		if d.Status() != domain.StateConfigured {
			return fmt.Errorf("%s is %s", mac, d.Status())
		}
		for _, f := range d.Config.Files {
			data, err := k.Blobs.Get(k.ctx, d.ID.Subject(), f.MAC)
			if err != nil || f.Path != "common.cfg" && !strings.Contains(string(data), text) {
				return fmt.Errorf("%s of %s: %v, holds %q: %v", f.Path, mac, err, text, strings.Contains(string(data), text))
			}
		}
		return nil
	}
}

func TestEveryRowHasACase(t *testing.T) {
	var rows []string
	for _, row := range commands.Reactions {
		rows = append(rows, row.Name)
		if !slices.ContainsFunc(reactions, func(r reaction) bool { return r.row == row.Name }) {
			t.Errorf("%s: no case says what must hold", row.Name)
		}
		for _, on := range row.On {
			if !slices.Contains(domain.EventTypes(), on) {
				t.Errorf("%s waits for %s, which is no event", row.Name, on)
			}
		}
		if row.Key == nil || row.Do == nil || len(row.On) == 0 || strings.Trim(row.Name, "abcdefghijklmnopqrstuvwxyz-") != "" {
			t.Errorf("%s is not complete", row.Name)
		}
	}
	if len(slices.Compact(slices.Sorted(slices.Values(rows)))) != len(rows) {
		t.Errorf("two rows share a name, and so a position: %v", rows)
	}
	for _, r := range reactions {
		if !slices.Contains(rows, r.row) {
			t.Errorf("%s is the case of no row", r.row)
		}
	}
}

// run does what the reactor does with the cause, once.
func (r reaction) run(k *kit) error {
	k.t.Helper()
	row := commands.Reactions[slices.IndexFunc(commands.Reactions, func(row commands.Reaction) bool { return row.Name == r.row })]
	events := k.Log.Events()
	slices.Reverse(events)
	cause := events[slices.IndexFunc(events, func(e domain.Recorded) bool { return e.Type == r.cause })]
	e, err := cause.Event()
	k.ok(err)
	if !slices.Contains(row.On, cause.Type) || row.Key(cause, e) == "" {
		k.t.Fatalf("%s does not wait for %s, or has no key for it", row.Name, cause.Type)
	}
	err = row.Do(commands.WithCause(k.ctx, cause, row.Name), k.Service(), cause, e)
	if err == nil && r.row == "send-jobs" {
		err = k.SendDueJobs(k.ctx) // which it asks for
	}
	return err
}

// story is every fact and claim of the log, in any order, without what is random in the names of streams.
func (k *kit) story() []string {
	var out []string
	for _, r := range k.Log.Events() {
		stream := string(r.Stream)
		if c := r.Stream.Category(); c == "claim" || c == "code" || c == "notice" {
			stream = c
		}
		out = append(out, stream+" "+r.Type)
	}
	slices.Sort(out)
	return out
}

// Stopped before or after any call outside, lost or kept its effect: run again, every reaction comes to the same
// end, with every fact recorded once; run once more, it adds nothing.
func TestReactionsSurviveCrashes(t *testing.T) {
	died := errors.New("died")
	for _, r := range reactions {
		t.Run(r.row+"/"+r.when, func(t *testing.T) {
			prepare := func() *kit {
				k := start(t)
				r.prepare(k)
				return k
			}
			// Undisturbed, to know how it ends and how many calls there are to stop at.
			k := prepare()
			var calls []string
			k.Faults.Set(func(c commandstest.Call) commandstest.Fault {
				calls = append(calls, c.Method+" "+string(c.Stream)+string(c.Subject))
				return commandstest.Fault{}
			})
			before := len(k.Log.Events())
			k.ok(r.run(k))
			k.Faults.Set(nil)
			if err := r.holds(k); err != nil || len(k.Log.Events()) == before {
				t.Fatalf("undisturbed: %v, %d events", err, len(k.Log.Events())-before)
			}
			end := k.story()
			for at, call := range calls {
				for _, fault := range []commandstest.Fault{{Before: died}, {After: died}} {
					where := fmt.Sprintf("stopped at %s (effect kept: %v)", call, fault.After != nil)
					k := prepare()
					n := 0
					k.Faults.Set(func(commandstest.Call) commandstest.Fault {
						if n++; n > at { // and everything after it: the program is dead
							return fault
						}
						return commandstest.Fault{}
					})
					if err := r.run(k); !errors.Is(err, died) {
						t.Fatalf("%s: answered %v", where, err)
					}
					for again := range 2 {
						k.crash()
						if err := r.run(k); err != nil {
							t.Fatalf("%s: run again: %v", where, err)
						}
						if err := r.holds(k); err != nil {
							t.Errorf("%s: %v", where, err)
						}
						if got := k.story(); !slices.Equal(got, end) {
							t.Fatalf("%s, run again %d times: the log holds\n%s\nwant\n%s", where, again+1, strings.Join(got, "\n"), strings.Join(end, "\n"))
						}
					}
				}
			}
			// The state has moved on: a late redelivery adds nothing.
			k.settle()
			all := len(k.Log.Events())
			k.crash()
			k.ok(r.run(k))
			if late := k.Log.Events()[all:]; len(late) != 0 {
				t.Errorf("redelivered late it adds %q", types(late))
			}
		})
	}
}

// Where the phone, the line or the device is gone meanwhile there is nothing to do, and that is no error.
func TestReactionsToWhatIsGone(t *testing.T) {
	for what, c := range map[string]struct{ prepare, meanwhile func(*kit) }{
		"a device deleted before its files are made": {func(k *kit) { k.assign(phone, "acme", "anna") }, func(k *kit) {
			_, err := k.DeleteDevice(k.ctx, commands.DeleteDevice{ID: domain.DeviceID(phone)})
			k.ok(err)
		}},
		"a line removed before a device gets it": {func(k *kit) {
			k.line("l1", "acme", "anna")
			k.assign(phone, "acme", "anna")
		}, func(k *kit) {
			_, err := k.RemoveLine(k.ctx, commands.RemoveLine{ID: "l1"})
			k.ok(err)
		}},
		"a user removed before their device gets a line": {func(k *kit) { k.assign(phone, "acme", "anna") }, func(k *kit) {
			_, err := k.RemoveUser(k.ctx, commands.RemoveUser{ID: "anna"})
			k.ok(err)
		}},
		"a device reset before its lines are there": {func(k *kit) {
			k.line("l1", "acme", "anna")
			k.assign(phone, "acme", "anna")
		}, func(k *kit) {
			_, err := k.ResetDevice(k.ctx, commands.ResetDevice{ID: domain.DeviceID(phone)})
			k.ok(err)
		}},
	} {
		k := start(t)
		c.prepare(k)
		c.meanwhile(k)
		if err := k.React(k.ctx); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if d := k.device(domain.DeviceID(phone)); len(d.Lines) != 0 {
			t.Errorf("%s: it has %v", what, d.Lines)
		}
	}
}

// Of an event that is moot Do does nothing at all: it does not even read.
func TestMootReactionsDoNothing(t *testing.T) {
	r := domain.Recorded{Stream: domain.DeviceID("0080f0000001").Stream()}
	moot := 0
	for _, row := range commands.Reactions {
		if row.Moot == nil {
			continue
		}
		if e := (domain.DeviceAssigned{TenantID: "acme"}); row.Moot(r, e) {
			moot++
			if err := row.Do(t.Context(), nil, r, e); err != nil {
				t.Errorf("%s: %v", row.Name, err)
			}
		}
		if row.Moot(r, domain.DeviceAssigned{TenantID: "acme", UserID: "anna", CodeID: "c1"}) {
			t.Errorf("%s: passes over what it is there for", row.Name)
		}
	}
	if moot != 3 {
		t.Errorf("%d rows pass over an assignment without user and code, want 3", moot)
	}
}
