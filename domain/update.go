package domain

import "time"

// DeviceScriptDelivered: an innovaphone phone was given an update script with commands. The bytes are kept sealed under
// the device's key; MAC is their HMAC under it (hex). Recorded once per content.
type DeviceScriptDelivered struct {
	// Serial is what the phone stores as UPDATE/CHECK when it has carried the commands out.
	Serial string `json:"serial"`
	MAC    string `json:"mac"`
	Size   int    `json:"size"`
	// Via is how the phone proved itself: mac, secret or certificate.
	Via         string    `json:"via"`
	Transport   string    `json:"transport"`
	DeliveredAt time.Time `json:"delivered_at"`
}

// DeviceScriptRun: the phone has shown, by its UPDATE/CHECK, that it ran the script of this serial to its end.
type DeviceScriptRun struct {
	Serial string    `json:"serial"`
	RunAt  time.Time `json:"run_at"`
	// Via is how the phone proved itself: mac, secret or certificate.
	Via string `json:"via,omitempty"`
}

// DeviceConfigBackedUp: the phone has uploaded its own configuration, and it is not what it uploaded before. The bytes
// are kept sealed under the device's key.
type DeviceConfigBackedUp struct {
	// MAC is the HMAC of the bytes under the device's key (hex), and their name in the blobs. Stable is the HMAC of
	// what is left of them without the lines that change with every upload.
	MAC    string `json:"mac"`
	Stable string `json:"stable"`
	Size   int    `json:"size"`
	// Via is how the phone proved itself: mac, secret or certificate.
	Via       string    `json:"via"`
	Transport string    `json:"transport"`
	StoredAt  time.Time `json:"stored_at"`
}

func (DeviceScriptDelivered) EventType() string { return "device.script_delivered" }
func (DeviceScriptRun) EventType() string       { return "device.script_run" }
func (DeviceConfigBackedUp) EventType() string  { return "device.config_backed_up" }

var updateEvents = []entry{of[DeviceScriptDelivered](), of[DeviceScriptRun](), of[DeviceConfigBackedUp]()}

// UpdateState is what an innovaphone phone's update client is known to have done.
type UpdateState struct {
	// Script is the script delivered last, Run the serial the phone proved to have run; Backup is its upload that was
	// kept last.
	Script DeviceScriptDelivered
	Run    string
	Backup DeviceConfigBackedUp
}

// Apply returns the state after e. A reset begins it anew: a phone that is reset has forgotten.
func (u UpdateState) Apply(e Event) UpdateState {
	switch e := e.(type) {
	case DeviceScriptDelivered:
		u.Script = e
	case DeviceScriptRun:
		u.Run = e.Serial
	case DeviceConfigBackedUp:
		u.Backup = e
	case DeviceReset:
		u.Script, u.Run = DeviceScriptDelivered{}, ""
	}
	return u
}

// Deliver records the script; the one delivered last again is no news.
func (u UpdateState) Deliver(s DeviceScriptDelivered) []Event {
	if u.Script.MAC == s.MAC && u.Script.Serial == s.Serial {
		return nil
	}
	return []Event{s}
}

// Confirm records that the phone shows serial; only the serial delivered last is news, and once.
func (u UpdateState) Confirm(serial, via string, now time.Time) []Event {
	if serial == "" || serial != u.Script.Serial || serial == u.Run {
		return nil
	}
	return []Event{DeviceScriptRun{Serial: serial, RunAt: now, Via: via}}
}

// BackUp records an upload; one that differs from the last in nothing but what always differs is no news.
func (u UpdateState) BackUp(b DeviceConfigBackedUp) []Event {
	if u.Backup.Stable == b.Stable {
		return nil
	}
	return []Event{b}
}
