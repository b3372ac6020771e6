// Package innovaphone simulates innovaphone phones: the update client that polls a script and runs it, the form for a
// provisioning code, the sysclient that keeps a websocket open to Devices, and the phone's own web server behind it.
//
// It is written from the vendor's documentation and shares with our server only the codec of the frames
// (adapters/sysclient/wire). Where the documentation is silent it does what our reference guesses, and says so here: the
// code travels as the update variable PROVISIONING-CODE, and models without a display for it (IP101, IP102) append the
// "#" that confirmed it.
//
// What holds: what was not written ("config write") is lost when the power goes; variables and the sysclient password are not.
// Firmware that was loaded runs once the phone has started anew. A phone is switched on with Run and off by ending its context,
// and may be switched on again.
//
// Not here: telephony, TLS certificates of the phone's own, the phone's display.
package innovaphone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"ledgerline/adapters/sysclient/wire"
	"ledgerline/domain"
)

// Config describes a phone. MAC is needed; zero values are the defaults named.
type Config struct {
	MAC   domain.MAC
	Model string // IP222
	// Release, Firmware and BootCode make the version "13r3 sr1 [13.5421/135421/1300]"; builds are digits.
	Release  string // 13r3 sr1
	Firmware string // 135421
	BootCode string // 135421
	Platform string // PHONE
	// UpdateURL is the one from the factory; empty for a phone that asks nobody.
	UpdateURL string
	// DevicesURL, when set, is stored as the address of Devices from the start (automatic provisioning).
	DevicesURL string
	// Code is one that was typed in already: the phone shows it to Devices.
	Code string
	// Foreign poses as a device of another make: it gets configuration messages, and has no web server.
	Foreign bool
	// EnterCode is the person at the phone: asked when the form is shown, and again after a refusal. "" types nothing yet.
	// nil: nobody is there.
	EnterCode func() string
	// Step is told of everything that happens, in order, as it does; it may be nil. See the Step constants.
	Step func(step, detail string)
	HTTP *http.Client // for the update client and the websocket; nil means one of its own
	// Poll is how often the update client asks; 0 is one minute. Retry is the first wait of a lost sysclient connection,
	// doubled up to a minute; 0 is one second.
	Poll, Retry time.Duration
}

// What a phone goes through. Detail is in parentheses, never a secret.
const (
	StepPolled     = "polled"         // a script was fetched and run (number of commands)
	StepForm       = "form"           // the form for a code is shown
	StepCode       = "code"           // somebody has typed one
	StepURL        = "url"            // it has another address of Devices
	StepConnected  = "connected"      // the websocket is open
	StepIdentified = "identified"     // Identify was sent
	StepChallenge  = "challenge"      // a challenge came; the answer follows
	StepPassword   = "password"       // it was given a password of its own
	StepAdmin      = "admin password" // and the one of its administrator
	StepConfig     = "config"         // a configuration message came (type)
	StepRequest    = "request"        // its web server was asked (method and path)
	StepReboot     = "reboot"         // it starts anew
	StepLost       = "lost"           // the connection has ended (code)
	StepFailed     = "failed"         // something could not be done (what)
)

// Phone is one phone. Its methods may be called at any time.
type Phone struct {
	cfg Config

	mu       sync.Mutex
	running  config // what "config" commands work on
	flash    config // what survives the power
	vars     map[string]string
	firmware string
	bootcode string
	loaded   images // what it has and will run once it starts anew
	password string // of the sysclient
	admin    string
	configs  []wire.Config
	commands []string // every line run, without update scripts' comments
	link     string   // address and code that the connection is to be made with; see activate
	touched  bool     // the address was set, and is not active yet
	in       bool     // last known: a password came, or a challenge was answered and the connection stays
	wake     chan struct{}
	reset    chan struct{} // closed and made anew when the phone restarts
	ports    chan wire.Port
	results  chan wire.PortResult
}

// images are builds of firmware and boot code; empty for none.
type images struct{ firmware, bootcode string }

// starts has the phone run what it has loaded. p.mu is held.
func (p *Phone) starts() {
	p.firmware, p.bootcode = cmp.Or(p.loaded.firmware, p.firmware), cmp.Or(p.loaded.bootcode, p.bootcode)
	p.loaded = images{}
	p.running = p.flash.clone()
}

// config is module by module what "config change" set: options in order.
type config map[string][]string

func (c config) clone() config {
	out := make(config, len(c))
	for k, v := range c {
		out[k] = slices.Clone(v)
	}
	return out
}

// get is the argument of an option.
func (c config) get(module, option string) string {
	words := c[module]
	if i := slices.Index(words, option); i >= 0 && i+1 < len(words) {
		return words[i+1]
	}
	return ""
}

// New makes a phone as it leaves the factory. Errors: domain.ErrBadMAC.
func New(c Config) (*Phone, error) {
	mac, err := domain.ParseMAC(string(c.MAC))
	if err != nil {
		return nil, err
	}
	c.MAC = mac
	for _, d := range []struct {
		at    *string
		value string
	}{{&c.Model, "IP222"}, {&c.Release, "13r3 sr1"}, {&c.Firmware, "135421"}, {&c.BootCode, "135421"}, {&c.Platform, "PHONE"}} {
		if *d.at == "" {
			*d.at = d.value
		}
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{Timeout: 30 * time.Second}
	}
	if c.Poll <= 0 {
		c.Poll = time.Minute
	}
	if c.Retry <= 0 {
		c.Retry = time.Second
	}
	p := &Phone{cfg: c, firmware: c.Firmware, bootcode: c.BootCode, wake: make(chan struct{}, 1), reset: make(chan struct{}), ports: make(chan wire.Port), results: make(chan wire.PortResult, 1)}
	p.FactoryReset()
	return p, nil
}

// FactoryReset forgets everything but the firmware.
func (p *Phone) FactoryReset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flash, p.vars, p.password, p.admin, p.configs, p.in = config{}, map[string]string{}, "", "", nil, false
	if p.cfg.UpdateURL != "" {
		p.flash["UP1"] = []string{"/url", escape(p.cfg.UpdateURL)}
	}
	if p.cfg.DevicesURL != "" {
		p.flash["SYSCLIENT"] = []string{"/sysadmin", escape(p.cfg.DevicesURL)}
	}
	if p.cfg.Code != "" {
		p.vars[varCode] = p.cfg.Code
	}
	p.running = p.flash.clone()
}

// escape percent-encodes as an argument of a command.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// Run is the phone under power: it polls, shows the form, and keeps its connection to Devices, until ctx ends. What was
// not written is lost then. Run is not called twice at a time.
func (p *Phone) Run(ctx context.Context) {
	p.mu.Lock()
	p.starts()
	p.in = false
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { p.update(ctx) })
	wg.Go(func() { p.sysclient(ctx) })
	wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running, p.in = p.flash.clone(), false
}

func (p *Phone) step(step, detail string) {
	if p.cfg.Step != nil {
		p.cfg.Step(step, detail)
	}
}

// nudge has the update client and the sysclient look at what has changed.
func (p *Phone) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Version is the version line: "13r3 sr1 [13.5421/135421/1300]".
func (p *Phone) Version() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.version()
}

func (p *Phone) version() string {
	build := p.firmware
	if len(build) > 2 {
		build = build[:2] + "." + build[2:]
	}
	return fmt.Sprintf("%s [%s/%s/1300]", p.cfg.Release, build, p.bootcode)
}

// MAC is the phone's address.
func (p *Phone) MAC() domain.MAC { return p.cfg.MAC }

// Var is an update variable or another stored one, "" when there is none.
func (p *Phone) Var(path string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.vars[path]
}

// Option is the argument of an option in the running configuration, decoded: Option("SYSCLIENT", "/sysadmin").
func (p *Phone) Option(module, option string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text, err := url.PathUnescape(p.running.get(module, option))
	if err != nil {
		return ""
	}
	return text
}

// AdminPassword is what the administrator's password was set to over the connection; "" when it was not.
func (p *Phone) AdminPassword() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.admin
}

// Password is the phone's own, as a sysclient; "" when it was given none.
func (p *Phone) Password() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.password
}

// Configs are the configuration messages a foreign device got.
func (p *Phone) Configs() []wire.Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.configs)
}

// Commands are all the lines the phone has run, from scripts and from its web server.
func (p *Phone) Commands() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.commands)
}

// ErrOff: the phone is not connected.
var ErrOff = errors.New("the phone is not connected")

// ProvisionPort types a code in at an analog port and answers what Devices says: "" for success.
func (p *Phone) ProvisionPort(ctx context.Context, port, code string) (string, error) {
	select {
	case p.ports <- wire.Port{ID: port, Code: code}:
	case <-ctx.Done():
		return "", ErrOff
	}
	select {
	case r := <-p.results:
		return r.Error, nil
	case <-ctx.Done():
		return "", ErrOff
	}
}

// activate has the sysclient connect anew when its address was set, also to the same one, with another code. p.mu is held.
func (p *Phone) activate() {
	if p.touched {
		p.touched, p.link = false, p.running.get("SYSCLIENT", "/sysadmin")+" "+p.vars[varCode]
	}
}

// dump is the configuration as the phone prints it. p.mu is held.
func (p *Phone) dump() string {
	var b strings.Builder
	for _, module := range slices.Sorted(maps.Keys(p.running)) {
		fmt.Fprintf(&b, "config change %s %s\r\n", module, strings.Join(p.running[module], " "))
	}
	for _, path := range slices.Sorted(maps.Keys(p.vars)) {
		fmt.Fprintf(&b, "vars create %s p %s\r\n", path, p.vars[path])
	}
	return b.String()
}
