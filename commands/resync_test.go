package commands_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// fleet is n phones of acme that are told of changes, each with its files fetched.
func (k *kit) fleet(n int, settings domain.Settings) (ids []domain.DeviceID) {
	k.t.Helper()
	all := domain.Merge(domain.Settings{"resync_enabled": true}, settings)
	_, _, err := k.DefineLayer(k.ctx, commands.DefineLayer{ID: "tenant.acme", TenantID: "acme", Settings: all})
	k.ok(err)
	for i := range n {
		ids = append(ids, k.assign(domain.MAC(fmt.Sprintf("00156500%04x", i)), "acme", ""))
	}
	k.settle()
	for _, id := range ids {
		k.fetch(id)
	}
	return ids
}

// fetch is the phone fetching its file, by its secret path.
func (k *kit) fetch(id domain.DeviceID) {
	k.t.Helper()
	k.deliver(commands.ServeFile{Asked: commands.Asked{Path: string(id) + ".cfg", UserAgent: agent}, Via: "secret", Credential: k.secretOf(id), Transport: "https", IP: "192.0.2.7"})
}

// change makes every phone's files anew.
func (k *kit) change(vlan int) {
	k.t.Helper()
	layer := state[domain.Layer](k, "layer-tenant.acme")
	_, err := k.AmendLayer(k.ctx, commands.AmendLayer{ID: "tenant.acme", Settings: domain.Merge(layer.Settings, domain.Settings{"vlan_id": vlan})})
	k.ok(err)
	k.settle()
}

// rounds lets that many seconds pass, and answers how many phones were told in each.
func (k *kit) rounds(n int) (told []int) {
	k.t.Helper()
	for range n {
		k.Clock.Advance(time.Second)
		one, err := k.SendResyncs(k.ctx)
		k.ok(err)
		told = append(told, one)
	}
	return told
}

func sum(list []int) (n int) {
	for _, i := range list {
		n += i
	}
	return n
}

// After a change every phone is told once, at the rate of the settings; one that fetched by itself is not.
func TestPhonesAreToldOfAChange(t *testing.T) {
	k := start(t)
	ids := k.fleet(12, domain.Settings{"resync_per_minute": 120})
	if n := k.count("device-", "device.sync_requested"); n != 0 {
		t.Fatalf("%d were to be told of their first files", n)
	}
	k.change(7)
	k.fetch(ids[0])
	if got := k.rounds(3); slices.Max(got) > 4 || sum(got) < 3 || sum(got) > 8 {
		t.Errorf("told %v in three seconds, at two a second", got)
	}
	// A second change while some still wait tells nobody twice.
	k.change(8)
	k.rounds(30)
	sent := map[domain.DeviceID]int{}
	for _, n := range k.Notifier.Sent() {
		sent[n.Device]++
	}
	for i, id := range ids {
		d := k.device(id)
		if want := 1; i > 0 && (sent[id] < want || sent[id] > 2 || d.Sync.State != domain.SyncSent) {
			t.Errorf("%s was told %d times, its sync is %s", id, sent[id], d.Sync.State)
		}
		k.fetch(id)
		if d := k.device(id); d.Sync.State != domain.SyncApplied {
			t.Errorf("%s has fetched, and is %s", id, d.Sync.State)
		}
	}
	if got := k.rounds(5); sum(got) != 0 {
		t.Errorf("told %v when all was done", got)
	}
}

// Where the settings do not ask for it nobody is told, and a phone that is fetching need not be.
func TestNobodyIsToldUnasked(t *testing.T) {
	k := start(t)
	ids := k.fleet(1, domain.Settings{"resync_enabled": false})
	k.change(7)
	k.rounds(3)
	if n := k.count("device-", "device.sync_requested"); n != 0 {
		t.Errorf("%d requests", n)
	}
	_, err := k.AmendLayer(k.ctx, commands.AmendLayer{ID: "tenant.acme", Settings: domain.Settings{"resync_enabled": true, "vlan_id": 8}})
	k.ok(err)
	k.fetch(ids[0]) // before the sweep came: its files are made while it waits
	k.settle()
	if n := k.count("device-", "device.sync_requested"); n != 0 {
		t.Errorf("%d requests for a phone that has fetched", n)
	}
}

// Hours and days are those of the phone's time zone; the clock of the kit begins on a Monday, 09:30 UTC.
func TestPhonesAreToldInTheirHours(t *testing.T) {
	for _, c := range []struct {
		settings domain.Settings
		now      time.Duration // from the start
		want     bool
	}{
		{domain.Settings{}, 0, true},
		{domain.Settings{"resync_from": "09:00", "resync_until": "17:00"}, 0, true},
		{domain.Settings{"resync_from": "09:31", "resync_until": "17:00"}, 0, false},
		{domain.Settings{"resync_from": "09:00", "resync_until": "09:30"}, 0, false},
		{domain.Settings{"resync_from": "10:00", "resync_until": "17:00", "timezone": "Europe/Berlin"}, 0, true},
		{domain.Settings{"resync_from": "10:31", "resync_until": "17:00", "timezone": "Europe/Berlin"}, 0, false},
		{domain.Settings{"resync_from": "22:00", "resync_until": "05:00"}, 0, false},
		{domain.Settings{"resync_from": "22:00", "resync_until": "05:00"}, 13 * time.Hour, true},
		{domain.Settings{"resync_from": "22:00", "resync_until": "05:00"}, 18 * time.Hour, true},
		{domain.Settings{"resync_from": "22:00", "resync_until": "05:00", "resync_days": []any{"mon"}}, 18 * time.Hour, true},
		{domain.Settings{"resync_from": "22:00", "resync_until": "05:00", "resync_days": []any{"tue"}}, 18 * time.Hour, false},
		{domain.Settings{"resync_days": []any{"tue", "wed"}}, 0, false},
		{domain.Settings{"resync_days": []any{"tue", "wed"}}, 24 * time.Hour, true},
		{domain.Settings{"resync_from": "18:00"}, 0, false},
		{domain.Settings{"resync_until": "18:00"}, 0, true},
	} {
		k := start(t)
		k.fleet(1, c.settings)
		k.change(7)
		k.Clock.Advance(c.now)
		if got, err := k.SendResyncs(k.ctx); err != nil || (got == 1) != c.want {
			t.Errorf("%v at +%s: told %d, %v", c.settings, c.now, got, err)
		}
	}
}

// Too many failures in a row stop a tenant's resyncs, on record, until somebody resumes them.
func TestResyncsStopAfterFailures(t *testing.T) {
	for what, c := range map[string]struct {
		answer domain.DeviceSyncOutcome
		wait   time.Duration
	}{
		"nobody answers":         {domain.DeviceSyncOutcome{Outcome: domain.OutcomeTimeout}, 0},
		"told, but none fetches": {domain.DeviceSyncOutcome{Outcome: domain.OutcomeAnswered, Status: 200}, 11 * time.Minute},
	} {
		t.Run(what, func(t *testing.T) {
			k := start(t)
			k.fleet(9, domain.Settings{"resync_per_minute": 60, "resync_stop_after": 3})
			k.Notifier.Answer = func(commands.Notification) []domain.DeviceSyncOutcome { return []domain.DeviceSyncOutcome{c.answer} }
			k.change(7)
			k.rounds(4)
			k.Clock.Advance(c.wait)
			k.rounds(1)
			stopped := state[domain.Tenant](k, "tenant-acme")
			if _, e := last[domain.TenantResyncsStopped](k); !stopped.Stopped || e.Failures != 3 || e.DeviceID == "" {
				t.Fatalf("recorded %+v", e)
			}
			told := len(k.Notifier.Sent())
			k.rounds(5)
			if more := len(k.Notifier.Sent()); more != told || told >= 9 {
				t.Errorf("%d were told, then %d", told, more)
			}
			k.Notifier.Answer = nil
			out, err := k.ResumeResyncs(k.ctx, commands.ResumeResyncs{ID: "acme"})
			k.news(out, err, "tenant.resyncs_resumed")
			k.rounds(30)
			if sent := len(k.Notifier.Sent()); sent != 9 {
				t.Errorf("%d were told in the end", sent)
			}
			out, err = k.ResumeResyncs(k.ctx, commands.ResumeResyncs{ID: "acme"})
			k.news(out, err)
		})
	}
}
