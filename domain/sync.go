package domain

import "slices"

// DeviceSyncRequested: the phone is to be asked to fetch its files again. Who asked stands in the metadata.
// What came of it follows as device.sync_outcome events of the same SyncID, until the next request.
type DeviceSyncRequested struct {
	SyncID string `json:"sync_id"`
	// Trigger is why: "asked" (somebody's wish), "config_changed" (the settings say so), "dialled" (a code
	// dialled on the phone), "jobs" (there are jobs for it, and the settings say so).
	Trigger string `json:"trigger"`
	Reboot  bool   `json:"reboot,omitempty"` // restart as well
	// Paced: it waits its turn, in the hours and at the rate the settings allow; else it goes out at once.
	Paced bool `json:"paced,omitempty"`
	// Files are those of which the phone has other bytes than it should. None: whatever it fetches will do.
	Files []SyncFile `json:"files,omitempty"`
}

// SyncFile is a file's path and the MAC of its bytes, as in GeneratedFile.
type SyncFile struct {
	Path string `json:"path"`
	MAC  string `json:"mac"`
}

// DeviceSyncOutcome: one attempt to tell the phone, and what came of it; or, at last, that the phone fetched.
type DeviceSyncOutcome struct {
	SyncID string `json:"sync_id"`
	// Attempt counts from 1 within the request; 0 for "fetched", which is the phone's doing.
	Attempt int `json:"attempt,omitempty"`
	// Outcome is "sent" (handed over, no answer is to be had), "answered" (Status tells how), "timeout",
	// "unreachable", "not_sent" (Detail tells why), or "fetched": the phone has all of the request's Files, or
	// what has taken their place.
	Outcome string `json:"outcome"`
	Status  int    `json:"status,omitempty"` // of a SIP answer: 200
	// Method is "sip-notify" or "ami"; Event the event asked for ("check-sync;reboot=false").
	Method    string `json:"method,omitempty"`
	Transport string `json:"transport,omitempty"` // udp, tcp, tls
	Event     string `json:"event,omitempty"`
	// Route is "contact" (to the phone itself), "proxy" (through its registrar or outbound proxy) or "ami";
	// To the address asked.
	Route  string   `json:"route,omitempty"`
	To     Personal `json:"to,omitzero"`
	Detail string   `json:"detail,omitempty"`
	// Path and MAC are of the file whose fetch completed it.
	Path string `json:"path,omitempty"`
	MAC  string `json:"mac,omitempty"`
}

func (DeviceSyncRequested) EventType() string { return "device.sync_requested" }
func (DeviceSyncOutcome) EventType() string   { return "device.sync_outcome" }

// Triggers of a sync.
const (
	SyncAsked   = "asked"
	SyncChanged = "config_changed"
	SyncDialled = "dialled"
	SyncJobs    = "jobs"
)

// Outcomes of a sync.
const (
	OutcomeSent        = "sent"
	OutcomeAnswered    = "answered"
	OutcomeTimeout     = "timeout"
	OutcomeUnreachable = "unreachable"
	OutcomeNotSent     = "not_sent"
	OutcomeFetched     = "fetched"
)

// States of a sync.
const (
	SyncRequested = "requested"
	SyncFailed    = "failed"           // nobody took the message
	SyncSent      = "sent_not_fetched" // somebody took it, but the phone has not fetched since
	SyncApplied   = "applied"          // the phone fetched what it was to fetch
)

// Sync is the latest request to a phone and what came of it. The zero value: there was none.
type Sync struct {
	DeviceSyncRequested
	State string
	// Last is the latest attempt, or the fetch.
	Last DeviceSyncOutcome
}

// Open tells whether the phone is still expected to fetch.
func (s Sync) Open() bool { return s.SyncID != "" && s.State != SyncApplied }

// Pending tells whether nobody has tried yet to tell the phone.
func (s Sync) Pending() bool { return s.State == SyncRequested }

// Waiting tells whether it waits for its turn to be carried out.
func (s Sync) Waiting() bool { return s.Pending() && s.Paced }

// Accepted tells whether somebody took the message.
func (o DeviceSyncOutcome) Accepted() bool {
	return o.Outcome == OutcomeSent || o.Outcome == OutcomeAnswered && o.Status >= 200 && o.Status < 300
}

func (s Sync) apply(e Event) Sync {
	switch e := e.(type) {
	case DeviceSyncRequested:
		return Sync{DeviceSyncRequested: e, State: SyncRequested}
	case DeviceSyncOutcome:
		switch {
		case e.SyncID != s.SyncID || s.State == SyncApplied:
			return s
		case e.Outcome == OutcomeFetched:
			s.State = SyncApplied
		case e.Accepted():
			s.State = SyncSent
		case s.State == SyncRequested:
			s.State = SyncFailed
		}
		s.Last = e
	}
	return s
}

// RequestSync asks that the phone fetch its files again. A paced request is no news while another waits, or
// while the phone has what it should have or never fetched at all; jobs it is told of even so, for they make its files when
// it comes.
func (d Device) RequestSync(r DeviceSyncRequested) ([]Event, error) {
	if err := d.Live(); err != nil {
		return nil, err
	}
	r.Files = d.outdated()
	if r.Paced && (len(r.Files) == 0 && (r.Trigger != SyncJobs || len(d.Delivered) == 0) || d.Sync.Pending()) {
		return nil, nil
	}
	return []Event{r}, nil
}

// outdated are the files the phone has fetched before and now has other bytes of than it should.
func (d Device) outdated() (files []SyncFile) {
	for _, f := range d.Config.Files {
		if has := d.Delivered[f.Path]; has != "" && has != f.MAC {
			files = append(files, SyncFile{f.Path, f.MAC})
		}
	}
	return files
}

// NoteAttempts records what came of telling the phone; no news for a request that is not the latest, or that
// others have tried already.
func (d Device) NoteAttempts(id string, attempts []DeviceSyncOutcome) []Event {
	if d.Live() != nil || d.Sync.SyncID != id || !d.Sync.Pending() {
		return nil
	}
	events := make([]Event, len(attempts))
	for i, a := range attempts {
		a.SyncID, a.Attempt = id, i+1
		events[i] = a
	}
	return events
}

// fetched is the end of an open sync: the phone now has this file, and with it all it was to fetch.
func (d Device) fetched(e DeviceConfigDelivered) []Event {
	current := func(path string) string {
		if i := slices.IndexFunc(d.Config.Files, func(f GeneratedFile) bool { return f.Path == path }); i >= 0 {
			return d.Config.Files[i].MAC
		}
		return ""
	}
	if !d.Sync.Open() || current(e.Path) != e.MAC {
		return nil
	}
	for _, f := range d.Sync.Files {
		if mac := current(f.Path); mac != "" && d.Delivered[f.Path] != mac {
			return nil
		}
	}
	return []Event{DeviceSyncOutcome{SyncID: d.Sync.SyncID, Outcome: OutcomeFetched, Path: e.Path, MAC: e.MAC}}
}

// WaitingSync is a device of which a paced sync waits.
type WaitingSync struct {
	Device   DeviceID
	Category CategoryID
}
