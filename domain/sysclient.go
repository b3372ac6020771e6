package domain

import (
	"errors"
	"strings"
	"time"
)

// DeviceSysclientIdentified: a device that speaks the sysclient protocol, and has proved that it is this one, showed
// these facts of itself. Recorded when one of them has changed, not per connection: who is connected is no fact for
// the log (D25).
type DeviceSysclientIdentified struct{ SysclientFacts }

// SysclientFacts is what a sysclient says of itself, in the protocol's words.
type SysclientFacts struct {
	Product  string `json:"product"`         // "IP222"
	Version  string `json:"version"`         // "13r2 dvl [13.4250/131286/1300]"
	Platform string `json:"platform"`        // PHONE, GW, VA, DECT, APP_PLATFORM
	Name     string `json:"name,omitempty"`  // the device's own
	Major    string `json:"major,omitempty"` // "13r2"
	// FwBuild and BcBuild are the builds of firmware and boot code: "134250". Not always digits.
	FwBuild string `json:"fw_build,omitempty"`
	BcBuild string `json:"bc_build,omitempty"`
	// Mini: its emergency firmware runs. PBXActive: a call server runs on it. Foreign: it is no innovaphone device, but
	// something that takes configuration messages in its place.
	Mini      bool `json:"mini,omitempty"`
	PBXActive bool `json:"pbx_active,omitempty"`
	Foreign   bool `json:"foreign,omitempty"`
	// FXS: it has analog ports.
	FXS bool `json:"fxs,omitempty"`
}

// DeviceSysclientPasswordSet: the device has a new password of its own, with which it answers challenges from now on.
// Drawn by us; that the device has it is not known before device.sysclient_proved.
type DeviceSysclientPasswordSet struct {
	Password Secret `json:"password"`
	// Grant is what let the device have it: "code", "token", or "operator" (assigned while, or before, it was connected).
	Grant string `json:"grant"`
	// CodeHash, of Grant "code", is the keyed hash of the digits under the device's key: they are no news when the
	// device shows them again. It outlives the code's own key, for phones go on showing the code that let them in, with
	// each connection, and every one would else be a wrong guess. What the holder of the device's key can find out by it
	// are digits that open nothing any more; it goes when that key goes.
	CodeHash string `json:"code_hash,omitempty"`
	// Administrative: the code asked for the password of the device's administrator as well.
	Administrative bool `json:"administrative,omitempty"`
}

// DeviceSysclientProved: the device answered a challenge with the password it was given last.
type DeviceSysclientProved struct{}

// DeviceSysclientDenied: connections that claimed to be the device answered challenges wrongly, Count times in the hour
// that began at Hour (D27).
type DeviceSysclientDenied struct {
	Hour  time.Time `json:"hour"`
	Count int       `json:"count"`
}

// DeviceURLChecked: the address of Devices that the device has stored was read back. Problem is empty when it is as it
// should be. The address itself may hold a token and is not recorded.
type DeviceURLChecked struct {
	Problem string `json:"problem,omitempty"`
}

// DevicePortAttached: this device is an analog port ("TEL1") of another device, and has no address of its own.
type DevicePortAttached struct {
	PartOf DeviceID `json:"part_of"` // the id its creator knows, whatever its life
	Port   string   `json:"port"`
}

// DeviceCodeFormRequested: the device is to ask for a provisioning code on its display. It follows
// device.code_form_shown when the device took the command.
type DeviceCodeFormRequested struct{}

// DeviceCodeFormShown: the device took the command to ask for a provisioning code.
type DeviceCodeFormShown struct{}

// DevicePageRequested: the actor is about to fetch a page of the device's own web server through us, or to send it one.
type DevicePageRequested struct {
	RequestID string `json:"request_id"`
	Method    string `json:"method"` // GET, POST
	// Path is up to the first "?", or the first two words of a command ("/!config change"); Target is the whole, which may
	// hold secrets.
	Path   string `json:"path"`
	Target Secret `json:"target"`
	Size   int    `json:"size,omitempty"` // bytes sent
}

// DevicePageAnswered: what came of it. Failure is set instead of Status when there was no answer.
type DevicePageAnswered struct {
	RequestID string `json:"request_id"`
	Status    int    `json:"status,omitempty"`
	Size      int    `json:"size,omitempty"` // bytes of the answer
	Failure   string `json:"failure,omitempty"`
}

func (DeviceSysclientIdentified) EventType() string  { return "device.sysclient_identified" }
func (DeviceSysclientPasswordSet) EventType() string { return "device.sysclient_password_set" }
func (DeviceSysclientProved) EventType() string      { return "device.sysclient_proved" }
func (DeviceSysclientDenied) EventType() string      { return "device.sysclient_denied" }
func (DeviceURLChecked) EventType() string           { return "device.url_checked" }
func (DevicePortAttached) EventType() string         { return "device.port_attached" }
func (DeviceCodeFormRequested) EventType() string    { return "device.code_form_requested" }
func (DeviceCodeFormShown) EventType() string        { return "device.code_form_shown" }
func (DevicePageRequested) EventType() string        { return "device.page_requested" }
func (DevicePageAnswered) EventType() string         { return "device.page_answered" }

var sysclientEvents = []entry{of[DeviceSysclientIdentified](), of[DeviceSysclientPasswordSet](), of[DeviceSysclientProved](), of[DeviceSysclientDenied](),
	of[DeviceURLChecked](), of[DevicePortAttached](), of[DeviceCodeFormRequested](), of[DeviceCodeFormShown](), of[DevicePageRequested](), of[DevicePageAnswered]()}

// What lets a device have a sysclient password.
const (
	GrantCode     = "code"
	GrantToken    = "token"
	GrantOperator = "operator"
)

// Sysclient is what a device is to Devices. The zero value: it never was one, or was reset.
type Sysclient struct {
	SysclientFacts
	// Password is the one it answers challenges with; zero while it has none.
	Password DeviceSysclientPasswordSet
	Proved   bool // it has answered one with this password
	// URLProblem is what is wrong with the address it has stored; URLRead tells that it was read at all.
	URLProblem string
	URLRead    bool
	// Port, of an analog port, tells whose it is.
	Port DevicePortAttached
}

func (s Sysclient) apply(e Event) Sysclient {
	switch e := e.(type) {
	case DeviceSysclientIdentified:
		s.SysclientFacts = e.SysclientFacts
	case DeviceSysclientPasswordSet:
		s.Password, s.Proved = e, false
	case DeviceSysclientProved:
		s.Proved = true
	case DeviceURLChecked:
		s.URLProblem, s.URLRead = e.Problem, true
	case DevicePortAttached:
		s.Port = e
	}
	return s
}

// HasPassword tells whether the device can be challenged.
func (s Sysclient) HasPassword() bool { return !s.Password.Password.IsZero() }

// ErrNoSysclient: the device is not assigned, so nothing may make it a sysclient of a tenant.
var ErrNoSysclient = errors.New("device is not assigned to a tenant")

// GiveSysclientPassword records the password drawn for the device. It keeps one that was granted by the same code, and
// one it was given otherwise and has not proved yet: then the message got lost, and is to be sent again.
func (d Device) GiveSysclientPassword(p DeviceSysclientPasswordSet) ([]Event, error) {
	if err := d.Live(); err != nil {
		return nil, err
	}
	if !d.Assigned() {
		return nil, ErrNoSysclient
	}
	same := d.Sysclient.Password.Grant == p.Grant && d.Sysclient.Password.CodeHash == p.CodeHash
	if d.Sysclient.HasPassword() && same && (p.Grant == GrantCode || !d.Sysclient.Proved) {
		return nil, nil
	}
	return []Event{p}, nil
}

// IdentifySysclient records what an authenticated sysclient shows of itself, as far as it is news; proved tells that it
// answered a challenge.
func (d Device) IdentifySysclient(facts SysclientFacts, proved bool) ([]Event, error) {
	if err := d.Live(); err != nil {
		return nil, err
	}
	var events []Event
	if proved && !d.Sysclient.Proved {
		events = append(events, DeviceSysclientProved{})
	}
	if d.Sysclient.SysclientFacts != facts {
		events = append(events, DeviceSysclientIdentified{facts})
	}
	seen := DeviceFacts{Model: facts.Product, Firmware: facts.Version}
	if !facts.Foreign {
		seen.Vendor = VendorInnovaphone
	}
	return append(events, d.Identify(seen)...), nil
}

// VendorInnovaphone is the vendor of native sysclients.
const VendorInnovaphone = "innovaphone"

// AttachPort makes a new device an analog port of another.
func (d Device) AttachPort(to DevicePortAttached) []Event {
	if d.Live() != nil || d.Sysclient.Port == to {
		return nil
	}
	return []Event{to}
}

// PortID is the id of the device that an analog port of d is; ok is false when port is no name of one: a letter and
// letters and digits, 16 at most.
func (d DeviceID) PortID(port string) (id DeviceID, ok bool) {
	base, _ := d.Life()
	if port == "" || len(port) > 16 || strings.ContainsFunc(port, func(c rune) bool { return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') }) {
		return "", false
	}
	id = base + DeviceID("-"+strings.ToLower(port))
	return id, CheckID(string(id)) == nil
}

// CheckURL records whether the address of Devices that the device has stored is right, when that is news.
func (d Device) CheckURL(problem string) []Event {
	if d.Live() != nil || d.Sysclient.URLRead && d.Sysclient.URLProblem == problem {
		return nil
	}
	return []Event{DeviceURLChecked{problem}}
}
