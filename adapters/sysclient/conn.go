package sysclient

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/rs/zerolog"

	"ledgerline/adapters/sysclient/wire"
	"ledgerline/commands"
	"ledgerline/domain"
)

// Limits of one connection.
const (
	maxTries     = 3  // wrong answers to challenges
	maxIdentify  = 20 // Identify messages between two ticks
	sightedEvery = 5 * time.Minute
	checkTime    = time.Minute // what follows an authentication, each
)

// conn is one connection. Its goroutine reads; decisions are made one at a time.
type conn struct {
	server *Server
	client Client
	opened time.Time
	query  url.Values
	path   string
	ws     *websocket.Conn // set under server.mu
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup // what runs beside the reader; see do
	heard  atomic.Int64   // unix nanoseconds of the latest sign of life
	kicked atomic.Bool
	ending atomic.Bool // it is being closed: what still comes is not looked at

	mac    domain.MAC      // under server.mu: as it has said
	device domain.DeviceID // under server.mu: as which it is in

	deciding   sync.Mutex // held while a decision is made; guards what follows
	timer      *time.Timer
	said       wire.Identify
	password   string // it is challenged for, or in with
	challenge  string // unanswered
	due        time.Time
	tries      int
	said20     int    // Identify messages since the last tick
	unanswered string // the password of a challenge that was not answered: it is not asked again
	again      bool   // its code was redeemed, and the assignment is not through yet
	sighted    time.Time
	admin      string // the administrator's password it was sent last

	tunnelMu sync.Mutex
	tunnels  map[uint32]*tunnel
	last     uint32
	gone     bool
	slots    chan struct{}
}

// serve reads until the connection ends.
func (c *conn) serve() {
	defer c.server.leave(c)
	defer c.over()
	defer c.contain()
	c.ws.SetReadLimit(wire.MaxFrame)
	c.heard.Store(c.server.opt.Now().UnixNano())
	c.deciding.Lock()
	c.timer = time.AfterFunc(c.server.opt.IdentifyWithin, c.tick)
	c.deciding.Unlock()
	for {
		kind, b, err := c.ws.Read(context.Background()) // over, which ends c.ctx, comes after it
		if err != nil {
			return
		}
		c.heard.Store(c.server.opt.Now().UnixNano())
		f, err := wire.Parse(b)
		switch {
		case c.ending.Load():
		case kind != websocket.MessageBinary:
			c.end(websocket.StatusUnsupportedData, "binary messages only")
		case err != nil:
			c.end(websocket.StatusProtocolError, "not a frame")
		case f.Tunnel != nil:
			c.tunnelled(f.Tunnel)
		case f.Type == wire.TypeIdentify:
			c.aside(func() { c.identify(f.JSON) })
		case f.Type == wire.TypePort:
			c.aside(func() { c.port(f.JSON) })
		}
	}
}

// over ends what belongs to the connection, and waits for it.
func (c *conn) over() {
	c.cancel()
	c.tunnelMu.Lock()
	c.gone = true
	for _, t := range c.tunnels {
		t.close()
	}
	c.tunnelMu.Unlock()
	_ = c.ws.CloseNow()
	c.work.Wait()
	c.deciding.Lock()
	defer c.deciding.Unlock()
	c.timer.Stop()
	if c.said.ID != "" {
		c.sight(c.inAs())
	}
}

// do runs f beside the reader, unless the connection is over.
func (c *conn) do(f func()) {
	c.tunnelMu.Lock()
	defer c.tunnelMu.Unlock()
	if !c.gone {
		c.work.Go(func() {
			defer c.contain()
			f()
		})
	}
}

// aside runs f and waits for it, on a stack of its own: a decision needs much, which would stay with the reader.
func (c *conn) aside(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer c.contain()
		f()
	}()
	<-done
}

// contain is deferred: a panic ends this connection, not the server.
func (c *conn) contain() {
	if p := recover(); p != nil {
		c.log().Error().Str("panic", fmt.Sprint(p)).Str("stack", string(debug.Stack())).Msg("serve a sysclient")
		_ = c.ws.CloseNow()
	}
}

// end closes the connection in the background: the other side may not be listening.
func (c *conn) end(code websocket.StatusCode, reason string) {
	if c.ending.Swap(true) {
		return
	}
	c.server.mu.Lock()
	ws := c.ws
	c.server.mu.Unlock()
	if ws != nil {
		go func() { _ = ws.Close(code, reason) }()
	}
}

// write sends one message, within WriteWithin; a peer that does not take it loses the connection.
func (c *conn) write(ctx context.Context, b []byte) error {
	ctx, cancel := context.WithTimeout(ctx, c.server.opt.WriteWithin)
	defer cancel()
	return c.ws.Write(ctx, websocket.MessageBinary, b)
}

func (c *conn) log() *zerolog.Logger {
	mac, device := c.names()
	l := zerolog.Ctx(c.ctx).With().Str("mac", string(mac)).Str("device_id", string(device)).Logger()
	return &l
}

// names are the address the device has said, and the device it is in as.
func (c *conn) names() (domain.MAC, domain.DeviceID) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return c.mac, c.device
}

func (c *conn) inAs() domain.DeviceID {
	_, device := c.names()
	return device
}

// trusted tells whether the address the device gives is to be believed.
func (c *conn) trusted(mac domain.MAC) bool {
	return c.client.Trusted || c.client.MAC != "" && c.client.MAC == mac
}

// tick looks after a connection: that it says who it is, answers, and is alive.
func (c *conn) tick() {
	o, now := c.server.opt, c.server.opt.Now()
	c.deciding.Lock()
	if c.ctx.Err() != nil {
		c.deciding.Unlock()
		return
	}
	said, in := c.said.ID != "", c.inAs()
	overdue := c.challenge != "" && !now.Before(c.due)
	c.said20 = 0
	if said && in != "" && now.Sub(c.sighted) >= sightedEvery {
		c.sight(in)
	}
	c.deciding.Unlock()
	switch silent := now.Sub(time.Unix(0, c.heard.Load())); {
	case !said:
		c.end(closeTimeout, "no Identify")
		return
	case silent >= o.DropAfter:
		_ = c.ws.CloseNow()
		return
	case in == "" && now.Sub(c.opened) >= o.WaitAtMost:
		c.end(closeTimeout, "not assigned, connect again")
		return
	}
	switch {
	case overdue:
		c.do(c.unansweredChallenge)
	case in == "":
		c.kick()
	}
	c.do(c.ping)
	c.deciding.Lock()
	defer c.deciding.Unlock()
	if c.ctx.Err() == nil {
		c.timer.Reset(o.PingEvery)
	}
}

func (c *conn) ping() {
	ctx, cancel := context.WithTimeout(c.ctx, c.server.opt.PingEvery)
	defer cancel()
	if c.ws.Ping(ctx) == nil {
		c.heard.Store(c.server.opt.Now().UnixNano())
	}
}

// kick has the connection's standing looked at again, in the background: once for all that happens until its turn comes.
// It is called with server.mu held or not.
func (c *conn) kick() {
	if c.kicked.CompareAndSwap(false, true) {
		c.do(c.reconsider)
	}
}

// turn waits until this connection may decide, and the server has a place for the decision; done gives both back.
func (c *conn) turn() (done func()) {
	c.deciding.Lock()
	c.server.deciding <- struct{}{}
	return func() {
		<-c.server.deciding
		c.deciding.Unlock()
	}
}

// facts are what the device has said of itself.
func facts(i wire.Identify) domain.SysclientFacts {
	return domain.SysclientFacts{Product: i.Product, Version: i.Version, Platform: i.Platform.Type, Name: i.Name, Major: i.Major, FwBuild: i.FwBuild, BcBuild: i.BcBuild,
		Mini: i.Mini, PBXActive: i.PBXActive, Foreign: i.Other, FXS: i.Platform.HasFXS()}
}

// question is what is asked about the device. c.deciding is held.
func (c *conn) question() commands.AdmitSysclient {
	return commands.AdmitSysclient{MAC: c.mac, Facts: facts(c.said), Code: c.said.ProvisioningCode, Trusted: c.trusted(c.mac),
		Domain: c.query.Get("domain"), Token: c.query.Get("token"), Category: c.query.Get("category")}
}

// identify is a device that says who it is, and maybe proves it.
func (c *conn) identify(raw []byte) {
	var said wire.Identify
	mac, err := domain.MAC(""), json.Unmarshal(raw, &said)
	if err == nil {
		mac, err = domain.ParseMAC(said.ID)
	}
	if err != nil {
		c.end(websocket.StatusPolicyViolation, "an Identify must be JSON with a hardware id")
		return
	}
	defer c.turn()()
	if c.said20++; c.said20 > maxIdentify {
		c.end(closeDenied, "too many Identify messages")
		return
	}
	challenge, password := c.challenge, c.password
	challenged := challenge != "" && mac == c.mac
	if c.mac != mac && c.inAs() != "" {
		c.server.demote(c)
	}
	c.said, c.challenge, c.unanswered = said, "", ""
	c.server.identified(c, mac)
	switch {
	case challenged && said.Proves(challenge, password):
		c.proved(password)
	case challenged:
		c.failed()
	default:
		a, err := c.server.opt.Service.AdmitSysclient(c.caller(), c.question())
		c.follow(a, err)
	}
}

// caller is ctx with the phone as the actor.
func (c *conn) caller() context.Context {
	who := commands.CallerFrom(c.ctx)
	mac, _ := c.names()
	who.Actor = "phone:" + string(mac)
	return commands.WithCaller(c.ctx, who)
}

// proved lets in a device that has answered the challenge for password. A code it shows that is news counts as well.
func (c *conn) proved(password string) {
	a, err := c.server.opt.Service.AdmitSysclient(c.caller(), c.question())
	if err == nil && a.Challenge && a.Password == password {
		c.enter(a, true)
		return
	}
	c.follow(a, err) // a new code was redeemed, or its password is another meanwhile
}

// failed counts a wrong answer, unless what let the device have its password lets it have it again.
func (c *conn) failed() {
	a, err := c.server.opt.Service.ReadmitSysclient(c.caller(), c.question())
	if err != nil || a.Password != "" {
		c.follow(a, err)
		return
	}
	a, err = c.server.opt.Service.AdmitSysclient(c.caller(), c.question())
	if err != nil || !a.Challenge {
		c.follow(a, err)
		return
	}
	c.server.opt.Service.DenySysclient(a.Device)
	c.server.metrics.outcomes.WithLabelValues("denied").Inc()
	if c.tries++; c.tries >= maxTries {
		c.end(closeDenied, "wrong digest")
		return
	}
	c.follow(a, nil)
}

// unansweredChallenge is for a device that does not answer: maybe it never got its password.
func (c *conn) unansweredChallenge() {
	defer c.turn()()
	if c.challenge == "" || c.server.opt.Now().Before(c.due) {
		return
	}
	c.challenge, c.unanswered = "", c.password
	a, err := c.server.opt.Service.ReadmitSysclient(c.caller(), c.question())
	if err != nil || a.Password != "" {
		c.follow(a, err)
	}
}

// follow does what an admission says. c.deciding is held.
func (c *conn) follow(a commands.Admission, err error) {
	switch {
	case errors.Is(err, commands.ErrInvalid):
		c.end(websocket.StatusPolicyViolation, "an Identify needs id, product, version and platform.type")
	case err != nil:
		if c.ctx.Err() == nil {
			c.log().Error().Err(err).Msg("admit a sysclient")
			c.end(websocket.StatusTryAgainLater, "try again")
		}
	case a.Challenge:
		c.ask(a.Password)
	case a.Password != "":
		if c.write(c.ctx, wire.Admin(wire.TypePassword, wire.Password{Password: a.Password})) == nil {
			c.enter(a, false)
		}
	default:
		c.wait(a.Refused)
	}
}

// ask challenges the device for password: ten digits, as the vendor's own server does.
func (c *conn) ask(password string) {
	n, err := rand.Int(rand.Reader, big.NewInt(9_000_000_000))
	if err != nil {
		c.end(websocket.StatusInternalError, "try again")
		return
	}
	c.challenge, c.password, c.due = n.Add(n, big.NewInt(1_000_000_000)).String(), password, c.server.opt.Now().Add(c.server.opt.AnswerWithin)
	if c.inAs() != "" {
		c.server.demote(c)
	}
	if c.write(c.ctx, wire.Admin(wire.TypeChallenge, wire.Challenge{Challenge: c.challenge})) == nil {
		c.timer.Reset(c.server.opt.AnswerWithin)
	}
}

// wait leaves the device unassigned, and makes it known where its address is believed.
func (c *conn) wait(refused error) {
	if c.inAs() != "" {
		c.server.demote(c)
	}
	c.again = errors.Is(refused, commands.ErrNotYet)
	if refused != nil {
		c.log().Info().Str("reason", refused.Error()).Msg("sysclient waits: its code was not accepted")
	}
	c.sight("")
	if c.trusted(c.mac) {
		if err := c.server.opt.Service.DiscoverSysclient(c.caller(), c.mac, facts(c.said)); err != nil && c.ctx.Err() == nil {
			c.log().Error().Err(err).Msg("make a sysclient known")
		}
	}
}

// reconsider looks again at what the connection may be.
func (c *conn) reconsider() {
	c.server.looking <- struct{}{}
	defer func() { <-c.server.looking }()
	c.deciding.Lock()
	defer c.deciding.Unlock()
	c.kicked.Store(false)
	if c.said.ID == "" || c.challenge != "" || c.ctx.Err() != nil {
		return
	}
	if in := c.inAs(); in != "" {
		stands, err := c.server.opt.Service.SysclientStands(c.ctx, in, c.password)
		if err == nil && stands {
			c.renewAdminPassword(in)
		}
		if err != nil || stands {
			return
		}
		c.server.demote(c)
		c.log().Info().Str("device_id", string(in)).Msg("sysclient is no longer in")
	}
	q := c.question()
	if !c.again {
		q.Code, q.Token = "", "" // it was told already
	}
	a, err := c.server.opt.Service.AdmitSysclient(c.caller(), q)
	if err == nil && (a.Device == "" || a.Challenge && a.Password == c.unanswered) {
		return
	}
	c.follow(a, err)
}

// enter makes the connection the device's.
func (c *conn) enter(a commands.Admission, proved bool) {
	c.password, c.tries, c.again, c.admin = a.Password, 0, false, ""
	before, ok := c.server.enter(c, a.Device)
	if !ok {
		c.end(closeBusy, "no room")
		return
	}
	if before != nil {
		c.server.metrics.outcomes.WithLabelValues("replaced").Inc()
		before.end(closeReplaced, "a newer connection of this device has authenticated")
	}
	outcome := "granted"
	if proved {
		outcome = "proved"
	}
	c.server.metrics.outcomes.WithLabelValues(outcome).Inc()
	c.sight(a.Device)
	standing, err := c.server.opt.Service.IdentifySysclient(c.caller(), commands.IdentifySysclient{Device: a.Device, Facts: facts(c.said), Proved: proved})
	if err != nil {
		if c.ctx.Err() == nil {
			c.log().Error().Err(err).Msg("record a sysclient")
			c.end(websocket.StatusTryAgainLater, "try again")
		}
		return
	}
	if standing.AdminPassword != "" {
		c.sendAdminPassword(standing.AdminPassword)
	}
	said := facts(c.said)
	c.do(func() { c.afterwards(a.Device, said, standing.CheckURL || !proved) })
}

// sendAdminPassword gives the device the password of its administrator, hidden under its own.
func (c *conn) sendAdminPassword(clear string) {
	seed := rand.Text()[:16]
	hidden, err := wire.Encrypt(seed, c.password, clear)
	if err == nil {
		err = c.write(c.ctx, wire.Admin(wire.TypeAdminPassword, wire.AdminPassword{Seed: seed, Pwd: hidden}))
	}
	if err == nil {
		c.admin = clear
	} else if c.ctx.Err() == nil {
		c.log().Warn().Err(err).Msg("give a sysclient the administrator's password")
	}
}

// renewAdminPassword gives the device the password of its administrator where that is another now. c.deciding is held.
func (c *conn) renewAdminPassword(in domain.DeviceID) {
	switch clear, err := c.server.opt.Service.SysclientAdminPassword(c.ctx, in); {
	case err != nil && c.ctx.Err() == nil:
		c.log().Error().Err(err).Msg("find the administrator's password of a sysclient")
	case err == nil && clear != "" && clear != c.admin:
		c.sendAdminPassword(clear)
	}
}

// afterwards is what follows an authentication and may take a while.
func (c *conn) afterwards(device domain.DeviceID, said domain.SysclientFacts, checkURL bool) {
	if registered := c.server.opt.Registered; registered != nil {
		ctx, cancel := context.WithTimeout(c.caller(), checkTime)
		defer cancel()
		if err := registered(ctx, device, said); err != nil && c.ctx.Err() == nil {
			c.log().Error().Err(err).Msg("register a sysclient")
		}
	}
	if checkURL && !said.Foreign {
		c.checkURL(device)
	}
}

// checkURL reads the address of Devices that the device has stored, and records whether it is right. A device that does
// not tell is left alone.
func (c *conn) checkURL(device domain.DeviceID) {
	ctx, cancel := context.WithTimeout(c.caller(), checkTime)
	defer cancel()
	status, dump, err := c.fetch(ctx, http.MethodGet, "/cfg.txt", nil)
	if err != nil || status != http.StatusOK {
		return
	}
	if err := c.server.opt.Service.CheckSysclientURL(ctx, device, urlProblem(string(dump), c.path, c.query)); err != nil && c.ctx.Err() == nil {
		c.log().Error().Err(err).Msg("record the address a sysclient has stored")
	}
}

// sight notes where the device was seen. c.deciding is held.
func (c *conn) sight(device domain.DeviceID) {
	c.sighted = c.server.opt.Now()
	if c.server.opt.Sightings != nil {
		c.server.opt.Sightings.Seen(commands.Sighting{Device: device, MAC: c.mac, IP: c.client.IP.String(), UserAgent: c.said.Product + " " + c.said.Version,
			Transport: "sysclient", Path: "sysclient", At: c.sighted})
	}
}

// port provisions an analog port with the code that somebody dialled there.
func (c *conn) port(raw []byte) {
	var asked wire.Port
	if err := json.Unmarshal(raw, &asked); err != nil {
		c.end(websocket.StatusPolicyViolation, "not a port")
		return
	}
	defer c.turn()()
	if c.said20++; c.said20 > maxIdentify {
		c.end(closeDenied, "too many messages")
		return
	}
	var result wire.PortResult
	if in := c.inAs(); in == "" {
		result.Error = "not authenticated"
	} else if _, err := c.server.opt.Service.ProvisionPort(c.caller(), commands.ProvisionPort{Device: in, Port: asked.ID, Code: asked.Code}); err != nil {
		result.Error = "code not accepted"
		if c.ctx.Err() == nil {
			c.log().Info().Str("reason", err.Error()).Msg("analog port was not provisioned")
		}
	}
	_ = c.write(c.ctx, wire.Admin(wire.TypePortResult, result)) // a lost connection shows in the reader
}
