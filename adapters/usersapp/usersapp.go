// Package usersapp is the Devices side of the app protocol: innovaphone Users logs in over a JSON websocket, asks for
// categories and codes, reads devices, domains and configurations, and is told what becomes of them, first of all which
// phone came by which code.
//
// What always holds:
//   - Nothing but the login, and what this app is, is answered before the login has succeeded. A connection sees the one
//     tenant whose domain and password it logged in with; with the instance's, which are the master tenant's, all of them.
//   - A connection ends when the password it logged in with is replaced or taken away, or its tenant ends.
//   - A wrong password of a known domain is a denial on record (D27) and draws on a budget per source.
//   - A notice is told to one connection at a time: the tenant's own that came first, else the instance's that came first,
//     and to the next one when it is not answered within AnswerWithin, and ends when it was: at least once, and Users tells
//     them apart by their codes.
//   - A subscriber is told of each thing as it is when its turn comes, not of each step there. Nobody waits for a slow one:
//     what it has to be told is kept as names of things, each once, and a message it does not take in 15 s ends it.
//   - No message is longer than wire.MaxMessage. Codes, keys and passwords are never logged.
//
// What an answer is (AnswerWithin): the websocket's own pong behind the message, which every client sends once it has read
// it (RFC 6455 §5.5.3), for the vendor documents none of its own: a guess that waits for the real Users. A Users that lost a
// notice can ask by GetProvisionedDevice.
//
// Device configurations are the tenant's jobs of configuration; passwords and scripts in them are not told.
package usersapp

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/rs/zerolog"

	"ledgerline/adapters/usersapp/wire"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// Client is where a connection comes from. Private: over TLS, or from a trusted network.
type Client struct {
	IP      netip.Addr
	Private bool
}

// Options of a Server; zero values are the defaults named.
type Options struct {
	Service *commands.Service
	Views   projections.Querier
	Client  func(context.Context) Client
	// Online tells whether a device is connected just now; may be nil.
	Online func(domain.DeviceID) bool

	// Title is what phones of other makes are offered under to a telephone system (com.innovaphone.provisioning); empty: they
	// are not. Decrypt reads a field that is hidden under a seed and a session key; nil: none can be read. Proxy says which
	// field of ProvisioningPhone names the host of the telephone system: ProxyDNS, ProxyDomain, or empty for none.
	Title   string
	Decrypt func(seed, sessionKey, hidden string) (string, error)
	Proxy   string

	// Passthrough lets who has logged in fetch pages of the connected devices it sees, by a key that is good while it is
	// connected.
	Passthrough bool

	LoginWithin  time.Duration // 15 s
	AnswerWithin time.Duration // to a notice; 30 s
	WriteWithin  time.Duration // one message; 15 s
	LookEvery    time.Duration // for notices; 500 ms
	PingEvery    time.Duration // 30 s
	MaxConns     int           // 1,000
	Now          func() time.Time
}

// Fields of ProvisioningPhone that may name the host of the telephone system. Which one does is not documented.
const (
	ProxyDNS    = "dns"
	ProxyDomain = "domain"
)

// catchUp is how long an answer waits for the views to show what is recorded.
const catchUp = time.Second

// Server serves connections of Users. Safe for concurrent use. Whoever makes it closes it.
type Server struct {
	opt    Options
	guard  commands.Guard
	ctx    context.Context
	cancel context.CancelFunc
	feeds  atomic.Int64 // subscriptions there are
	news   chan struct{}

	mu    sync.Mutex
	conns map[*conn]struct{}
	// logged are the connections of each tenant, in the order they came; the instance's are the master tenant's.
	logged map[domain.TenantID][]*conn
	keys   map[[sha256.Size]byte]*conn // for the passthrough, by hash, so that no look-up tells how much of a key was right
	// changed are streams that changed, and all that anything may have; nobody has been told yet.
	changed map[domain.StreamID]bool
	all     bool
	wg      sync.WaitGroup
}

// New makes a server; Close ends its connections.
func New(o Options) *Server {
	for d, fallback := range map[*time.Duration]time.Duration{&o.LoginWithin: 15 * time.Second, &o.AnswerWithin: 30 * time.Second, &o.WriteWithin: 15 * time.Second,
		&o.LookEvery: 500 * time.Millisecond, &o.PingEvery: 30 * time.Second} {
		if *d == 0 {
			*d = fallback
		}
	}
	if o.MaxConns == 0 {
		o.MaxConns = 1000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{opt: o, conns: make(map[*conn]struct{}), logged: make(map[domain.TenantID][]*conn), keys: make(map[[sha256.Size]byte]*conn), changed: make(map[domain.StreamID]bool), news: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.distribute)
	return s
}

// Close ends all connections and returns when they have ended.
func (s *Server) Close() {
	s.cancel()
	s.wg.Wait()
}

// Counts are how many connections there are, and how many subscriptions they have.
func (s *Server) Counts() (connections, subscriptions int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), int(s.feeds.Load())
}

// Match tells whether a request is a connection of Users: an upgrade of /{domain}/{instance}/users.
func Match(r *http.Request) bool {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	return len(parts) == 3 && parts[2] == "users" && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// ServeHTTP carries one connection until it ends.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	client := s.opt.Client(r.Context())
	if !client.Private { // codes travel in clear
		http.NotFound(w, r)
		return
	}
	c := &conn{s: s, client: client, log: zerolog.Ctx(r.Context()), woken: make(chan struct{}, 1), sources: make(map[string]json.RawMessage),
		told: make(map[domain.CodeID]time.Time), dirty: make(map[change]bool)}
	s.mu.Lock()
	full := s.ctx.Err() != nil || len(s.conns) >= s.opt.MaxConns
	if !full {
		s.conns[c] = struct{}{}
		s.wg.Add(1)
	}
	s.mu.Unlock()
	if full {
		w.Header().Set("Retry-After", "10")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer s.wg.Done()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	}()
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // what apps say has nothing to do with a browser's origin
	if err != nil {
		return
	}
	ws.SetReadLimit(wire.MaxMessage)
	c.ws = ws
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	c.end = cancel
	err = c.serve(ctx)
	code := websocket.StatusNormalClosure
	if errors.Is(err, errLogin) {
		code = 4401
	}
	_ = ws.Close(code, "") // it may have gone
}

// conn is one connection.
type conn struct {
	s      *Server
	client Client
	log    *zerolog.Logger
	ws     *websocket.Conn
	end    context.CancelFunc

	challenge string
	// session is the key of hidden fields: it follows from seed, the challenge that was answered, and the password.
	session, seed string
	tenant        domain.TenantID // empty before the login; the master tenant's may do everything to all
	app           string

	key string // for the passthrough; empty for none

	told map[domain.CodeID]time.Time // when what was answered had been stored; of the goroutine that tells

	// telling is held while things that are subscribed to are read and told, so that nobody is told older news after newer.
	telling sync.Mutex
	feeds   []*feed

	woken chan struct{} // there is something in dirty
	mu    sync.Mutex
	// sources are the src of codes that were asked for here.
	sources map[string]json.RawMessage
	kinds   map[*kind]int // how many feeds there are of each
	// dirty is what has changed and was not told yet; resync tells that anything may have.
	dirty  map[change]bool
	resync bool
}

// errLogin: the login failed, or did not come in time.
var errLogin = errors.New("no login")

// reply is a message to Users; src and api are those of the request.
type reply map[string]any

func (c *conn) serve(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, c.s.opt.LoginWithin)
	err := c.login(within)
	cancel()
	if err != nil {
		return err
	}
	c.s.join(c)
	defer c.s.leave(c)
	defer c.unsubscribe()
	ctx, end := context.WithCancel(ctx)
	defer end()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer end()
		c.keep(ctx)
	}()
	defer func() { end(); <-done }()
	for {
		r, err := c.read(ctx)
		if err != nil {
			return err
		}
		if err := c.answer(ctx, r); err != nil {
			return err
		}
	}
}

func (c *conn) read(ctx context.Context) (wire.Request, error) {
	_, b, err := c.ws.Read(ctx)
	if err != nil {
		return wire.Request{}, err
	}
	return wire.Parse(b)
}

func (c *conn) write(ctx context.Context, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.s.opt.WriteWithin)
	defer cancel()
	return c.ws.Write(ctx, websocket.MessageText, b)
}

// login lets the connection in, or ends it.
func (c *conn) login(ctx context.Context) error {
	for {
		_, b, err := c.ws.Read(ctx)
		if err != nil {
			return errors.Join(err, errLogin)
		}
		r, err := wire.Parse(b)
		if err != nil {
			return errors.Join(err, errLogin)
		}
		switch r.MT {
		case "AppChallenge":
			var random [8]byte
			if _, err := rand.Read(random[:]); err != nil {
				return err
			}
			c.challenge = hex.EncodeToString(random[:])
			if err := c.write(ctx, answerTo(r, "AppChallengeResult", reply{"challenge": c.challenge})); err != nil {
				return err
			}
		case "AppLogin":
			var l wire.Login
			if err := json.Unmarshal(b, &l); err != nil {
				return errors.Join(err, errLogin)
			}
			ok, err := c.admit(ctx, l)
			if err != nil {
				return err
			}
			if err := c.write(ctx, answerTo(r, "AppLoginResult", reply{"app": l.App, "domain": l.Domain, "ok": ok})); err != nil || !ok {
				return errors.Join(err, errLogin)
			}
			return nil
		case "AppInfo": // what it is, an app says to everybody
			if err := c.write(ctx, answerTo(r, "AppInfoResult", c.s.info(r))); err != nil {
				return err
			}
		default:
			return errLogin
		}
	}
}

// admit tells whether the login is good: of a domain we have, with the password of its Users, or with the instance's.
func (c *conn) admit(ctx context.Context, l wire.Login) (bool, error) {
	now, ip := c.s.opt.Now(), c.client.IP.String()
	if c.challenge == "" || c.s.guard.Allow(ip, "", now) != nil {
		return false, nil
	}
	challenge := c.challenge
	c.challenge = "" // good for one attempt
	keys, err := c.s.opt.Service.UsersKeys(ctx, l.Domain)
	if err != nil {
		return false, err
	}
	for _, k := range keys {
		if subtle.ConstantTimeCompare([]byte(strings.ToLower(l.Digest)), []byte(l.Sum(challenge, k.Key))) == 1 {
			c.tenant, c.seed, c.session = k.TenantID, challenge, wire.SessionKey(challenge, k.Key)
		}
	}
	if c.tenant == "" || len(l.App) > 100 || len(l.GUID) > 64 {
		c.tenant = ""
		c.s.guard.Wrong(ip, "", now)
		if len(keys) > 0 {
			c.s.opt.Service.DenyUsers(keys[0].TenantID)
		}
		return false, nil
	}
	c.app = strings.TrimSpace(l.App + " " + l.GUID)
	if c.app == "" {
		c.app = "users"
	}
	return true, nil
}

// answerTo is the frame of an answer.
func answerTo(r wire.Request, mt string, fields reply) reply {
	fields["mt"] = mt
	if len(r.Src) > 0 {
		fields["src"] = r.Src
	}
	if r.API != "" {
		fields["api"] = r.API
	}
	return fields
}

// answer answers one message; those it does not know are ignored, as the protocol wants it.
func (c *conn) answer(ctx context.Context, r wire.Request) error {
	var fields reply
	var err error
	// What an administrator has just set up is there; views that are far behind are told from as they are.
	current, done := context.WithTimeout(ctx, catchUp)
	_ = c.s.opt.Service.CatchUp(current)
	done()
	switch r.MT {
	case "AppInfo":
		fields = c.s.info(r)
	case "ProvisioningPhone":
		fields = c.phone(ctx, r)
	case "GetUserInfo":
		fields = reply{"admin": c.administers()}
		if c.key != "" {
			fields["key"] = c.key
		}
	case "GetProvisioningCategories":
		err = c.categories(ctx, r)
	case "GetProvisioningCode":
		fields = c.code(ctx, r)
	case "GetProvisionedDevice":
		fields, err = c.provisioned(ctx, r)
	case "GetDomains":
		err = c.subscribe(ctx, r, "domains", c.domains(r))
	case "GetDevices":
		err = c.subscribe(ctx, r, "devices", c.devices(r))
	case "GetFilteredDevices":
		r.RecvUpdates = false
		err = c.subscribe(ctx, r, "devices", c.devices(r))
	case "GetDeviceConfigs":
		err = c.subscribe(ctx, r, "configs", c.configs(r))
	case "GetDeviceConfig":
		fields, err = c.config(ctx, r)
	case "GetUnassignedDevicesCount":
		fields, err = c.unassigned(ctx)
	default:
		return nil
	}
	switch {
	case errors.Is(err, errFull):
		fields = reply{"error": errFull.Error()}
	case err != nil:
		if ctx.Err() == nil {
			c.log.Error().Err(err).Str("message", r.MT).Str("tenant_id", string(c.tenant)).Msg("users: a message could not be answered")
		}
		fields = reply{"error": "try again later"}
	case fields == nil:
		return nil // it is answered
	}
	return c.write(ctx, answerTo(r, r.MT+"Result", fields))
}

// administers tells whether the connection is the instance's, an administrator of all domains.
func (c *conn) administers() bool { return c.tenant == domain.Master }

// sees tells whether what is the tenant's may be told here.
func (c *conn) sees(tenant domain.TenantID) bool { return c.administers() || c.tenant == tenant }

// among are the tenants of these domains that are seen here, nil for all; none named means all of them.
func (c *conn) among(domains ...string) []domain.TenantID {
	if len(domains) == 0 && c.administers() {
		return nil
	}
	tenants := []domain.TenantID{}
	if len(domains) == 0 {
		domains = []string{string(c.tenant)}
	}
	for _, d := range domains {
		if t := domain.TenantID(d); c.sees(t) {
			tenants = append(tenants, t)
		}
	}
	return tenants
}

// caller is on whose behalf a connection asks.
func (c *conn) caller(ctx context.Context) context.Context {
	return commands.WithCaller(ctx, commands.Caller{Actor: "users:" + strings.ReplaceAll(c.app, " ", "/"), IP: c.client.IP.String(), Listener: "phones", Tenants: c.among()})
}

// keep tells what the connection is to be told unasked, and looks whether it is still there.
func (c *conn) keep(ctx context.Context) {
	look, ping := time.NewTicker(c.s.opt.LookEvery), time.NewTicker(c.s.opt.PingEvery)
	defer look.Stop()
	defer ping.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-ping.C:
			err = c.ping(ctx, 60*time.Second)
		case <-c.woken:
			err = c.updates(ctx)
		case <-look.C:
			if err = c.updates(ctx); err == nil {
				err = c.tell(ctx)
			}
		}
		if err != nil {
			return // the next connection has its turn
		}
	}
}

func (c *conn) ping(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return c.ws.Ping(ctx)
}

// join puts a connection that has logged in behind the others of its tenant; leave takes it away.
func (s *Server) join(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logged[c.tenant] = append(s.logged[c.tenant], c)
	if s.opt.Passthrough {
		c.key = strings.ToLower(rand.Text())
		s.keys[sha256.Sum256([]byte(c.key))] = c
	}
}

func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, sha256.Sum256([]byte(c.key)))
	rest := slices.DeleteFunc(s.logged[c.tenant], func(o *conn) bool { return o == c })
	if s.logged[c.tenant] = rest; len(rest) == 0 {
		delete(s.logged, c.tenant)
	}
}
