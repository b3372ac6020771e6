package domain_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ledgerline/domain"
)

// deviceHistory is what a device goes through when its rules are asked at random.
func deviceHistory(t *rapid.T) []domain.Event {
	tenants := []domain.TenantID{domain.Master, "acme", "globex"}
	tenantOf := map[domain.LineID]domain.TenantID{"a1": "acme", "a2": "acme", "a3": "acme", "g1": "globex"}
	lines := slices.Sorted(maps.Keys(tenantOf))
	var history []domain.Event
	for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
		d := domain.Fold[domain.Device](history)
		var events []domain.Event
		line := rapid.SampledFrom(lines).Draw(t, "line")
		tenant := rapid.SampledFrom(tenants).Draw(t, "tenant")
		hash := fmt.Sprintf("s%d", i)
		switch rapid.IntRange(0, 12).Draw(t, "what") {
		case 0, 1:
			events, _ = d.Discover(phone, domain.MAC(phone), domain.DeviceFacts{Firmware: hash}, "auto")
		case 2, 3:
			user := rapid.SampledFrom([]domain.UserID{"", "anna", "bert"}).Draw(t, "user")
			events, _ = d.Assign(domain.DeviceAssigned{TenantID: tenant, UserID: user, Secret: stored(hash), SecretHash: hash})
		case 4, 5, 6:
			events, _ = d.Associate(line, tenantOf[line], rapid.IntRange(0, 4).Draw(t, "position"), stored(hash), hash)
		case 7:
			events, _ = d.Dissociate(line)
		case 8:
			events, _ = d.Configure(domain.DeviceSpec{Description: hash})
		case 9:
			events, _ = d.Reset()
		case 10:
			events = d.AwaitLine()
		case 11:
			events = d.Deliver(domain.DeviceConfigDelivered{Path: "a", MAC: rapid.SampledFrom([]string{"1", "2"}).Draw(t, "mac"), Via: rapid.SampledFrom([]string{"mac", "secret"}).Draw(t, "via")}, rapid.SampledFrom([]string{d.SecretHash, "past"}).Draw(t, "under"))
		case 12:
			if rapid.IntRange(0, 9).Draw(t, "delete") == 0 {
				events, _ = d.Delete(tenant)
			}
		}
		history = append(history, events...)
	}
	return history
}

// The tenant of a device never changes once it has left the master tenant; no position holds two lines, no line
// two positions, and all lines are of the device's tenant; what is over stays over.
func TestADeviceKeepsItsInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d domain.Device
		for _, e := range deviceHistory(t) {
			before := d
			taken := maps.Clone(d.Lines)
			d = d.Apply(e)
			if before.TenantID != "" && before.TenantID != domain.Master && d.TenantID != before.TenantID {
				t.Fatalf("%T took it from %s to %s", e, before.TenantID, d.TenantID)
			}
			if on, ok := e.(domain.DeviceLineAssociated); ok && taken[on.Position] != "" {
				t.Fatalf("%s was put over %s at %d", on.LineID, taken[on.Position], on.Position)
			}
			seen := map[domain.LineID]bool{}
			for _, p := range d.Positions() {
				line := d.Lines[p]
				if seen[line] || p < 1 || line == "" {
					t.Fatalf("lines %v", d.Lines)
				}
				seen[line] = true
				if want := map[byte]domain.TenantID{'a': "acme", 'g': "globex"}[line[0]]; d.TenantID != want {
					t.Fatalf("line %s of %s on a device of %s", line, want, d.TenantID)
				}
			}
			if before.Deleted {
				t.Fatalf("%T after the end", e)
			}
			if d.Awaiting && len(d.Lines) > 0 {
				t.Fatal("waits for a line and has one")
			}
			if len(d.Lines) > 0 && !d.Assigned() {
				t.Fatal("has lines and no files of its own")
			}
		}
	})
}

// The fold of a whole is the fold of its parts, no earlier state changes with a later event, and a history that
// went through JSON is the same history.
func TestFoldOfAWholeIsTheFoldOfItsParts(t *testing.T) {
	alike := cmp.Options{sealedAlike}
	rapid.Check(t, func(t *rapid.T) {
		history := deviceHistory(t)
		cut := rapid.IntRange(0, len(history)).Draw(t, "cut")
		head := domain.Fold[domain.Device](history[:cut])
		again := domain.Fold[domain.Device](history[:cut])
		whole := head
		for _, e := range history[cut:] {
			whole = whole.Apply(e)
		}
		if diff := cmp.Diff(domain.Fold[domain.Device](history), whole, alike); diff != "" {
			t.Fatalf("whole and parts:\n%s", diff)
		}
		if diff := cmp.Diff(again, head, alike); diff != "" {
			t.Fatalf("an earlier state changed:\n%s", diff)
		}
	})
}

// Every event of the catalogue moves some state, or is known to move none.
func TestEveryEventIsFolded(t *testing.T) {
	moves := func(e domain.Event) bool {
		return !reflect.DeepEqual(domain.Tenant{}.Apply(e), domain.Tenant{}) || domain.Tenant{Stopped: true}.Apply(e).Stopped == false || !reflect.DeepEqual(domain.Category{}.Apply(e), domain.Category{}) ||
			!reflect.DeepEqual(domain.Code{}.Apply(e), domain.Code{}) || !reflect.DeepEqual(domain.User{}.Apply(e), domain.User{}) ||
			!reflect.DeepEqual(domain.Line{}.Apply(e), domain.Line{}) || !reflect.DeepEqual(domain.APIKey{}.Apply(e), domain.APIKey{}) ||
			!reflect.DeepEqual(domain.Keyed{}.Apply(e), domain.Keyed{}) || !reflect.DeepEqual(domain.Request{}.Apply(e), domain.Request{}) || !reflect.DeepEqual(domain.Claim{}.Apply(e), domain.Claim{}) ||
			!reflect.DeepEqual(domain.Checkpoint{}.Apply(e), domain.Checkpoint{}) ||
			!reflect.DeepEqual(domain.Bound{}.Apply(e), domain.Bound{}) || !reflect.DeepEqual(domain.Parameters{}.Apply(e), domain.Parameters{}) ||
			!reflect.DeepEqual(signedIn.Apply(e), signedIn) || !reflect.DeepEqual(domain.Cloud{Exists: true}.Apply(e), domain.Cloud{Exists: true}) ||
			!reflect.DeepEqual(domain.RegistryServer{}.Apply(e), domain.RegistryServer{}) || !reflect.DeepEqual(domain.Token{}.Apply(e), domain.Token{}) || !reflect.DeepEqual(domain.UpdateState{}.Apply(e), domain.UpdateState{}) ||
			!reflect.DeepEqual(domain.Gateway{}.Apply(e), domain.Gateway{}) || !reflect.DeepEqual(busyGateway.Apply(e), busyGateway) ||
			!reflect.DeepEqual(domain.Notice{}.Apply(e), domain.Notice{}) || !reflect.DeepEqual(domain.Rollout{}.Apply(e), domain.Rollout{}) || !reflect.DeepEqual(domain.RolloutRow{}.Apply(e), domain.RolloutRow{}) ||
			!reflect.DeepEqual(domain.Rollout{Cancelled: true}.Apply(e), domain.Rollout{Cancelled: true}) ||
			!reflect.DeepEqual(domain.SIPUser{}.Apply(e), domain.SIPUser{}) || !reflect.DeepEqual(busySIPUser.Apply(e), busySIPUser) ||
			!reflect.DeepEqual(domain.Line{Remote: domain.LineRemote{GatewayID: "g"}}.Apply(e), domain.Line{Remote: domain.LineRemote{GatewayID: "g"}}) ||
			!reflect.DeepEqual(domain.Layer{Exists: true}.Apply(e), domain.Layer{Exists: true}) || !reflect.DeepEqual(full.Apply(e), full) || !reflect.DeepEqual(shelved.Apply(e), shelved) ||
			!reflect.DeepEqual(withJobs.Apply(e), withJobs) || !reflect.DeepEqual(jobbed.Apply(e), jobbed)
	}
	none := map[string]bool{"tenant.users_denied": true, "code.denied": true, "apikey.denied": true, "softphone.denied": true, "device.config_revealed": true, "subject.erased": true, "gateway.alert_sent": true, "token.denied": true,
		"device.sysclient_denied": true, "device.code_form_requested": true, "device.code_form_shown": true, "device.page_requested": true, "device.page_answered": true}
	for wire, data := range samples(t) {
		e, err := domain.Decode(wire, data)
		if err != nil {
			t.Fatal(err)
		}
		if wire == "claim.released" {
			continue // moves a claim that is held: TestClaim
		}
		if moves(e) == none[wire] {
			t.Errorf("%s moves a state: %v, want %v", wire, none[wire], !none[wire])
		}
	}
}

// busyGateway and busySIPUser are in the midst of everything that can end.
var (
	busyGateway = domain.Gateway{Enabled: true, Paused: true, Braked: true, Tries: 1, Held: domain.GatewayHeld{Class: "permission"},
		Nodes: []domain.GatewayNode{{NodeID: "zrh"}}, Token: domain.GatewayToken{Warned: 1}}
	busySIPUser = domain.SIPUser{Wanted: true, On: true, Rev: 1, Settled: 1}
)

// full is a device of which every event takes or changes something.
var full = domain.Fold[domain.Device](past(discovered, assigned, on("l1", 1), domain.DeviceConfigDelivered{Path: "x", MAC: "1", Via: "secret", DeliveredAt: time.Time{}},
	domain.DeviceSyncRequested{SyncID: "0193a1b2c3d47e5f8091a2b3c4d5e6f7"}))

// signedIn is a softphone of which every event takes or changes something.
var signedIn = domain.Fold[domain.Softphone](past(domain.SoftphoneDefined{SoftphoneID: "p1"}, domain.SoftphoneSignedIn{InstallID: "0193a1b2c3d47e5f8091a2b3c4d5e6fa", Via: "password"}))

// shelved is a plugin of which every event adds or changes something.
var shelved = domain.Fold[domain.Plugin](past(domain.PluginInstalled{Plugin: "yealink", PluginArchive: domain.PluginArchive{Version: "1.0.0"}},
	domain.PluginFilesInstalled{PluginFiles: domain.PluginFiles{Bundle: "t46s-66.86.0.15"}},
	domain.PluginDeviceUpgradeStarted{UpgradeID: "0193a1b2c3d47e5f8091a2b3c4d5e6f7"}))

// withJobs and jobbed are a tenant's jobs, and a device that got one of them.
var (
	sampleJob = domain.JobRef{JobID: "0193a1b2c3d47e5f8091a2b3c4d5e6f7", Sequence: 4}
	withJobs  = domain.Fold[domain.Jobs](past(domain.JobCreated{JobID: sampleJob.JobID, TenantID: "acme"}))
	jobbed    = domain.Fold[domain.Device](past(discovered, assigned, domain.DeviceJobsSelected{JobsRevision: 4, Jobs: []domain.SelectedJob{{JobRef: sampleJob, Type: "NTP"}}},
		domain.DeviceJobFailed{JobRef: sampleJob, Attempt: 1}))
)
