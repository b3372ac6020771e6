package domain_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/domain"
)

// files are those of a device, one per character of macs: "a", "b" … in that order, with that character as MAC.
func files(macs string) domain.DeviceConfigRegenerated {
	var c domain.DeviceConfigRegenerated
	for i, m := range macs {
		c.Files = append(c.Files, domain.GeneratedFile{Path: string(rune('a' + i)), MAC: string(m)})
	}
	return c
}

func fetch(path, mac string) domain.DeviceConfigDelivered {
	return domain.DeviceConfigDelivered{Path: path, MAC: mac, Via: "secret"}
}

// A phone has been synchronised when it has fetched what had changed, and by nothing less.
func TestASyncIsAppliedByTheFetch(t *testing.T) {
	asked := domain.DeviceSyncRequested{SyncID: "s1"}
	taken := domain.DeviceSyncOutcome{SyncID: "s1", Attempt: 1, Outcome: "answered", Status: 200}
	refused := domain.DeviceSyncOutcome{SyncID: "s1", Attempt: 1, Outcome: "answered", Status: 403}
	configured := past(discovered, assigned, files("12"), fetch("a", "1"), fetch("b", "2"))
	for what, c := range map[string]struct {
		history []domain.Event // before the request
		then    []domain.Event // after it
		fetches []domain.DeviceConfigDelivered
		want    string
	}{
		"nobody tried yet":                            {configured, nil, nil, domain.SyncRequested},
		"the phone took it and did nothing":           {configured, past(taken), nil, domain.SyncSent},
		"the phone refused":                           {configured, past(refused), nil, domain.SyncFailed},
		"the second try got through":                  {configured, past(domain.DeviceSyncOutcome{SyncID: "s1", Attempt: 1, Outcome: "timeout"}, taken), nil, domain.SyncSent},
		"nothing had changed, it fetched again":       {configured, past(taken), []domain.DeviceConfigDelivered{fetch("b", "2")}, domain.SyncApplied},
		"it fetched the file that had changed":        {append(configured, files("13")), past(taken), []domain.DeviceConfigDelivered{fetch("b", "3")}, domain.SyncApplied},
		"it fetched another file":                     {append(configured, files("13")), past(taken), []domain.DeviceConfigDelivered{fetch("a", "1")}, domain.SyncSent},
		"it fetched one of two":                       {append(configured, files("43")), past(taken), []domain.DeviceConfigDelivered{fetch("b", "3")}, domain.SyncSent},
		"it fetched both":                             {append(configured, files("43")), past(taken), []domain.DeviceConfigDelivered{fetch("b", "3"), fetch("a", "4")}, domain.SyncApplied},
		"an old download ended":                       {append(configured, files("13")), past(taken), []domain.DeviceConfigDelivered{fetch("b", "2")}, domain.SyncSent},
		"the files changed again, it fetched the new": {append(configured, files("13")), past(taken, files("15")), []domain.DeviceConfigDelivered{fetch("b", "5")}, domain.SyncApplied},
		"nobody answered, but it fetched":             {append(configured, files("13")), past(refused), []domain.DeviceConfigDelivered{fetch("b", "3")}, domain.SyncApplied},
		"it had never fetched":                        {past(discovered, assigned, files("12")), past(taken), []domain.DeviceConfigDelivered{fetch("a", "1")}, domain.SyncApplied},
		"it was reset meanwhile":                      {configured, past(taken, domain.DeviceReset{}), nil, ""},
	} {
		d := domain.Fold[domain.Device](c.history)
		events, err := d.RequestSync(asked)
		if err != nil || len(events) != 1 {
			t.Fatalf("%s: %v %v", what, events, err)
		}
		for _, e := range append(events, c.then...) {
			d = d.Apply(e)
		}
		for _, f := range c.fetches {
			for _, e := range d.Deliver(f, d.SecretHash) {
				d = d.Apply(e)
			}
		}
		if d.Sync.State != c.want {
			t.Errorf("%s: it is %q, want %q", what, d.Sync.State, c.want)
		}
	}
}

func TestWhatASyncAsksFor(t *testing.T) {
	d := domain.Fold[domain.Device](past(discovered, assigned, files("12"), fetch("a", "1"), files("39")))
	events, err := d.RequestSync(domain.DeviceSyncRequested{SyncID: "s1", Trigger: domain.SyncChanged, Paced: true})
	want := []domain.Event{domain.DeviceSyncRequested{SyncID: "s1", Trigger: "config_changed", Paced: true, Files: []domain.SyncFile{{Path: "a", MAC: "3"}}}}
	if diff := cmp.Diff(want, events); err != nil || diff != "" {
		t.Fatalf("%v\n%s", err, diff)
	}
	d = d.Apply(events[0])
	if again, _ := d.RequestSync(domain.DeviceSyncRequested{SyncID: "s2", Paced: true}); len(again) != 0 {
		t.Error("a second paced request while the first waits")
	}
	// Attempts belong to the latest request, and are made once.
	attempts := []domain.DeviceSyncOutcome{{Outcome: domain.OutcomeUnreachable}, {Outcome: domain.OutcomeAnswered, Status: 200}}
	if stale := d.NoteAttempts("s0", attempts); len(stale) != 0 {
		t.Error("attempts of another request were noted")
	}
	for i, e := range d.NoteAttempts("s1", attempts) {
		if o := e.(domain.DeviceSyncOutcome); o.Attempt != i+1 || o.SyncID != "s1" {
			t.Errorf("attempt %d is %+v", i, o)
		}
		d = d.Apply(e)
	}
	if twice := d.NoteAttempts("s1", attempts); len(twice) != 0 {
		t.Error("attempts were noted twice")
	}
	d = domain.Fold[domain.Device](past(discovered, assigned, files("1"), fetch("a", "1")))
	if none, _ := d.RequestSync(domain.DeviceSyncRequested{SyncID: "s1", Paced: true}); len(none) != 0 {
		t.Error("a phone that has everything is to be told")
	}
	if _, err := (domain.Device{}).RequestSync(domain.DeviceSyncRequested{}); err != domain.ErrDeviceUnknown {
		t.Error(err)
	}
	// Guest files are fetched by strangers: they end a sync, and are not noted as delivered.
	guest := files("1")
	guest.Guest = true
	d = domain.Fold[domain.Device](past(discovered, guest, domain.DeviceSyncRequested{SyncID: "s1"}))
	if got := d.Deliver(fetch("a", "1"), d.SecretHash); len(got) != 1 || got[0].EventType() != "device.sync_outcome" {
		t.Errorf("a guest file fetched: %v", got)
	}
}
