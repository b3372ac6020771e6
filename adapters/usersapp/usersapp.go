// Package usersapp is the Devices side of the app protocol: innovaphone Users logs in over a JSON websocket, asks for
// categories and codes, and is told which phone came by which code.
//
// What always holds: nothing but the login is answered before it has succeeded; a connection sees the one tenant whose
// domain it logged in with; a wrong password of a known domain is a denial on record (D27) and draws on a budget per
// source; a notice is told to one connection at a time, to the next one when it is not answered within AnswerWithin, and
// ends when it was: at least once, and Users tells them apart by their codes. Codes and passwords are never logged.
//
// What an answer is (AnswerWithin): the websocket's own pong behind the message, which every client sends once it has read
// it (RFC 6455 §5.5.3), for the vendor documents none of its own: a guess that waits for the real Users. A Users that lost a notice can ask by GetProvisionedDevice.
//
// Device configurations are the tenant's jobs of configuration; passwords and scripts in them are not told.
//
// Not here: subscriptions to changes of devices, domains and configurations, passwords of a whole instance.
package usersapp

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
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

	LoginWithin  time.Duration // 15 s
	AnswerWithin time.Duration // to a notice; 30 s
	LookEvery    time.Duration // for notices; 500 ms
	PingEvery    time.Duration // 30 s
	MaxConns     int           // 1,000
	Now          func() time.Time
}

// Server serves connections of Users. Safe for concurrent use. Whoever makes it closes it.
type Server struct {
	opt    Options
	guard  commands.Guard
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	conns map[*conn]struct{}
	// logged are the connections of each tenant, in the order they came.
	logged map[domain.TenantID][]*conn
	wg     sync.WaitGroup
}

// New makes a server; Close ends its connections.
func New(o Options) *Server {
	for d, fallback := range map[*time.Duration]time.Duration{&o.LoginWithin: 15 * time.Second, &o.AnswerWithin: 30 * time.Second, &o.LookEvery: 500 * time.Millisecond, &o.PingEvery: 30 * time.Second} {
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
	s := &Server{opt: o, conns: make(map[*conn]struct{}), logged: make(map[domain.TenantID][]*conn)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close ends all connections and returns when they have ended.
func (s *Server) Close() {
	s.cancel()
	s.wg.Wait()
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
	c := &conn{s: s, client: client, log: zerolog.Ctx(r.Context())}
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

	challenge string
	tenant    domain.TenantID // empty before the login
	app       string

	mu      sync.Mutex
	sources map[string]json.RawMessage // src by code that was asked for here

	told map[domain.CodeID]time.Time // when what was answered had been stored; of the goroutine that tells
}

// errLogin: the login failed, or did not come in time.
var errLogin = errors.New("no login")

// request is any message of Users.
type request struct {
	MT       string          `json:"mt"`
	API      string          `json:"api"`
	Src      json.RawMessage `json:"src"`
	Category string          `json:"category"`
	SIP      string          `json:"sip"`
	Type     string          `json:"type"`
	Code     string          `json:"code"`
	ID       string          `json:"id"`
	Rollout  bool            `json:"rollout"`
	Admin    bool            `json:"administrative"`
	HWIDs    string          `json:"hwIds"`
}

// reply is a message to Users; src and api are those of the request.
type reply map[string]any

func (c *conn) serve(ctx context.Context) error {
	c.sources, c.told = make(map[string]json.RawMessage), make(map[domain.CodeID]time.Time)
	within, cancel := context.WithTimeout(ctx, c.s.opt.LoginWithin)
	err := c.login(within)
	cancel()
	if err != nil {
		return err
	}
	c.s.join(c)
	defer c.s.leave(c)
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
		var r request
		if err := c.read(ctx, &r); err != nil {
			return err
		}
		if err := c.answer(ctx, r); err != nil {
			return err
		}
	}
}

func (c *conn) read(ctx context.Context, into any) error {
	_, b, err := c.ws.Read(ctx)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

func (c *conn) write(ctx context.Context, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return c.ws.Write(ctx, websocket.MessageText, b)
}

// login lets the connection in, or ends it.
func (c *conn) login(ctx context.Context) error {
	for {
		var r struct {
			request request
			Login   wire.Login
		}
		_, b, err := c.ws.Read(ctx)
		if err != nil {
			return errors.Join(err, errLogin)
		}
		if err := json.Unmarshal(b, &r.request); err != nil {
			return errors.Join(err, errLogin)
		}
		switch r.request.MT {
		case "AppChallenge":
			var random [8]byte
			if _, err := rand.Read(random[:]); err != nil {
				return err
			}
			c.challenge = hex.EncodeToString(random[:])
			if err := c.write(ctx, r.request.reply("AppChallengeResult", reply{"challenge": c.challenge})); err != nil {
				return err
			}
		case "AppLogin":
			if err := json.Unmarshal(b, &r.Login); err != nil {
				return errors.Join(err, errLogin)
			}
			ok, err := c.admit(ctx, r.Login)
			if err != nil {
				return err
			}
			if err := c.write(ctx, r.request.reply("AppLoginResult", reply{"ok": ok})); err != nil || !ok {
				return errors.Join(err, errLogin)
			}
			return nil
		default:
			return errLogin
		}
	}
}

// admit tells whether the login is good: of a domain we have, with the password of its Users.
func (c *conn) admit(ctx context.Context, l wire.Login) (bool, error) {
	now, ip := c.s.opt.Now(), c.client.IP.String()
	if c.challenge == "" || c.s.guard.Allow(ip, "", now) != nil {
		return false, nil
	}
	challenge := c.challenge
	c.challenge = "" // good for one attempt
	tenant, password, err := c.s.opt.Service.UsersKey(ctx, l.Domain)
	if err != nil && !errors.Is(err, domain.ErrTenantUnknown) {
		return false, err
	}
	good := subtle.ConstantTimeCompare([]byte(strings.ToLower(l.Digest)), []byte(l.Sum(challenge, password))) == 1
	if !good || password == "" || len(l.App) > 100 || len(l.GUID) > 64 {
		c.s.guard.Wrong(ip, "", now)
		if password != "" {
			c.s.opt.Service.DenyUsers(tenant)
		}
		return false, nil
	}
	c.tenant = tenant
	c.app = strings.TrimSpace(l.App + " " + l.GUID)
	if c.app == "" {
		c.app = "users"
	}
	return true, nil
}

// reply is the frame of an answer.
func (r request) reply(mt string, fields reply) reply {
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
func (c *conn) answer(ctx context.Context, r request) error {
	var fields reply
	var err error
	switch r.MT {
	case "GetUserInfo":
		fields = reply{"admin": false}
	case "GetProvisioningCategories":
		err = c.categories(ctx, r)
	case "GetProvisioningCode":
		fields = c.code(ctx, r)
	case "GetProvisionedDevice":
		fields, err = c.provisioned(ctx, r)
	case "GetDomains":
		fields, err = c.domains(ctx)
	case "GetDevices", "GetFilteredDevices":
		err = c.devices(ctx, r)
	case "GetDeviceConfigs":
		err = c.configs(ctx, r)
	case "GetDeviceConfig":
		fields, err = c.config(ctx, r)
	case "GetUnassignedDevicesCount":
		fields = reply{"count": 0} // those that belong to no tenant are an administrator's to see
	default:
		return nil
	}
	if err != nil {
		if ctx.Err() == nil {
			c.log.Error().Err(err).Str("message", r.MT).Str("tenant_id", string(c.tenant)).Msg("users: a message could not be answered")
		}
		fields = reply{"error": "try again later"}
	}
	if fields == nil {
		return nil // it is answered
	}
	return c.write(ctx, r.reply(r.MT+"Result", fields))
}

// portion is how many things one message lists, well below wire.MaxMessage.
const portion = 100

func (c *conn) categories(ctx context.Context, r request) error {
	for p := (projections.Page{Limit: portion}); ; {
		l, err := projections.ListCategories(ctx, c.s.opt.Views, projections.CategoryFilter{Tenants: []domain.TenantID{c.tenant}}, p)
		if err != nil {
			return err
		}
		out := []wire.Category{}
		for _, row := range l.Items {
			if row.Kind == domain.Provisioning {
				out = append(out, wire.Category{ID: string(row.ID), DomainID: string(c.tenant), Name: row.Name, Config: true})
			}
		}
		if err := c.write(ctx, r.reply("GetProvisioningCategoriesResult", reply{"categories": out, "last": l.Next == ""})); err != nil || l.Next == "" {
			return err
		}
		p.Cursor = l.Next
	}
}

// caller is on whose behalf a connection asks.
func (c *conn) caller(ctx context.Context) context.Context {
	return commands.WithCaller(ctx, commands.Caller{Actor: "users:" + strings.ReplaceAll(c.app, " ", "/"), IP: c.client.IP.String(), Listener: "phones", Tenants: []domain.TenantID{c.tenant}})
}

// code issues a code. A sip name that is a user of ours gives the phone that user's lines.
func (c *conn) code(ctx context.Context, r request) reply {
	in := commands.IssueCode{TenantID: c.tenant, CategoryID: domain.CategoryID(r.Category), Purpose: "self_service"}
	switch {
	case r.Rollout:
		in.Purpose = "rollout"
	case r.Admin:
		in.Purpose = "administrative"
	}
	if domain.CheckID(r.SIP) == nil {
		if u, ok, err := projections.UserByID(ctx, c.s.opt.Views, domain.UserID(r.SIP)); err == nil && ok && u.TenantID == c.tenant && u.State == projections.StateLive {
			in.UserID = u.ID
		}
	}
	issued, _, err := c.s.opt.Service.IssueCode(c.caller(ctx), in)
	if err != nil {
		if errors.Is(err, commands.ErrInvalid) || errors.Is(err, domain.ErrCategoryUnknown) || errors.Is(err, domain.ErrCategoryOfOtherTenant) || errors.Is(err, domain.ErrNotProvisioning) || errors.Is(err, domain.ErrCategoryRetired) {
			return reply{"error": "no such provisioning category"}
		}
		c.log.Error().Err(err).Str("tenant_id", string(c.tenant)).Msg("users: a code could not be issued")
		return reply{"error": "try again later"}
	}
	c.subscribe(issued.Code, r.Src)
	return reply{"code": issued.Code, "validUntil": issued.ValidUntil.Unix()}
}

// subscribe remembers which src later news of a code carries.
func (c *conn) subscribe(code string, src json.RawMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sources) < 50_000 {
		c.sources[code] = src
	}
}

// provisioned tells the device that came by a code; while none did, the code is subscribed to.
func (c *conn) provisioned(ctx context.Context, r request) (reply, error) {
	out := reply{"code": r.Code}
	n, ok, err := c.s.opt.Service.NoticeOf(ctx, c.tenant, r.Code)
	if errors.Is(err, domain.ErrCodeRefused) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	if ok {
		out["device"] = string(n.MAC)
		return out, nil
	}
	c.subscribe(r.Code, r.Src)
	return out, nil
}

func (c *conn) domains(ctx context.Context) (reply, error) {
	t, ok, err := projections.TenantByID(ctx, c.s.opt.Views, c.tenant)
	if err != nil || !ok {
		return reply{"domains": []any{}, "last": true}, err
	}
	l, err := projections.ListCategories(ctx, c.s.opt.Views, projections.CategoryFilter{Tenants: []domain.TenantID{c.tenant}}, projections.Page{Limit: projections.MaxLimit})
	categories := []wire.Category{}
	for _, row := range l.Items {
		categories = append(categories, wire.Category{ID: string(row.ID), Name: row.Name, Config: row.Kind == domain.Provisioning})
	}
	return reply{"last": true, "domains": []any{map[string]any{"id": string(t.ID), "name": t.Domain, "hasRentalProducts": false, "deployAdminPasswords": false, "isInstanceDomain": false, "categories": categories}}}, err
}

func (c *conn) devices(ctx context.Context, r request) error {
	wanted := map[string]bool{}
	for id := range strings.SplitSeq(r.HWIDs, ",") {
		if mac, err := domain.ParseMAC(id); err == nil {
			wanted[string(mac)] = true
		}
	}
	for p := (projections.Page{Limit: portion}); ; {
		l, err := projections.ListDevices(ctx, c.s.opt.Views, projections.DeviceFilter{Tenants: []domain.TenantID{c.tenant}}, p)
		if err != nil {
			return err
		}
		out := []wire.Device{}
		for _, d := range l.Items {
			if len(wanted) > 0 && !wanted[string(d.MAC)] {
				continue
			}
			out = append(out, wire.Device{ID: string(d.ID), HWID: string(d.MAC), Name: d.Description, DomainID: string(c.tenant), Product: d.Model, Version: d.Firmware, Type: "PHONE",
				Online: c.s.opt.Online != nil && c.s.opt.Online(d.ID)})
		}
		if err := c.write(ctx, r.reply(r.MT+"Result", reply{"devices": out, "last": l.Next == ""})); err != nil || l.Next == "" {
			return err
		}
		p.Cursor = l.Next
	}
}

// configs lists the jobs of configuration of the tenant without their values, in as many messages as it takes.
func (c *conn) configs(ctx context.Context, r request) error {
	const most = wire.MaxMessage / 2 // bytes of one message's list; one config has a quarter of that at most
	out, size := []wire.Config{}, 0
	tell := func(last bool) error {
		err := c.write(ctx, r.reply("GetDeviceConfigsResult", reply{"configs": out, "last": last}))
		out, size = []wire.Config{}, 0
		return err
	}
	for p := (projections.Page{Limit: portion}); ; {
		l, err := projections.ListJobs(ctx, c.s.opt.Views, projections.JobFilter{Tenants: []domain.TenantID{c.tenant}}, p)
		if err != nil {
			return err
		}
		for _, j := range l.Items {
			if j.Type == domain.JobSoftware {
				continue
			}
			config := c.configOf(j)
			b, err := json.Marshal(config)
			if err != nil {
				return err
			}
			if size += len(b); size > most {
				if err := tell(false); err != nil {
					return err
				}
				size = len(b)
			}
			out = append(out, config)
		}
		if l.Next == "" {
			return tell(true)
		}
		p.Cursor = l.Next
	}
}

func (c *conn) configOf(j projections.Job) wire.Config {
	out := wire.Config{ID: string(j.JobID), DomainID: string(c.tenant), Type: j.Type, Name: j.Name, Categories: []string{}}
	for _, id := range j.Categories {
		out.Categories = append(out.Categories, string(id))
	}
	return out
}

// config tells the values of one configuration, each in a message of its own, and then which it was.
func (c *conn) config(ctx context.Context, r request) (reply, error) {
	j, ok, err := projections.JobByID(ctx, c.s.opt.Views, domain.JobID(r.ID))
	if err != nil {
		return nil, err
	}
	if !ok || j.TenantID != c.tenant || j.Type == domain.JobSoftware || j.State == projections.StateCancelled {
		return reply{"error": "no such device configuration"}, nil
	}
	values := j.Config.Shown()
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if values[name] == domain.Redacted {
			continue
		}
		if err := c.write(ctx, r.reply("GetDeviceConfigValueResult", reply{"name": name, "value": fmt.Sprint(values[name])})); err != nil {
			return nil, err
		}
	}
	of := c.configOf(j)
	return reply{"id": of.ID, "domainId": of.DomainID, "type": of.Type, "name": of.Name, "categories": of.Categories}, nil
}

// keep tells the connection's tenant's notices, while it is this connection's turn, and looks whether it is still there.
func (c *conn) keep(ctx context.Context) {
	look, ping := time.NewTicker(c.s.opt.LookEvery), time.NewTicker(c.s.opt.PingEvery)
	defer look.Stop()
	defer ping.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ping.C:
			if c.ping(ctx, 60*time.Second) != nil {
				return
			}
		case <-look.C:
			if !c.turn() {
				continue
			}
			if c.tell(ctx) != nil {
				return // the next connection has its turn
			}
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
}

func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := slices.DeleteFunc(s.logged[c.tenant], func(o *conn) bool { return o == c })
	if s.logged[c.tenant] = rest; len(rest) == 0 {
		delete(s.logged, c.tenant)
	}
}

// turn tells whether notices of the tenant are this connection's to tell: of those logged in the one that came first. One
// that does not answer is closed, and the next has its turn.
func (c *conn) turn() bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	of := c.s.logged[c.tenant]
	return len(of) > 0 && of[0] == c
}

// tell writes the notices that wait, and notes which were answered. An error means that the connection is of no use.
func (c *conn) tell(ctx context.Context) error {
	waiting, err := projections.PendingNotices(ctx, c.s.opt.Views, c.tenant, portion)
	if err != nil {
		return nil // the views will be back
	}
	ctx = c.caller(ctx)
	var told []projections.Notice
	for _, n := range waiting {
		if c.told[n.CodeID].Equal(n.StoredAt) {
			continue // the views have not seen its answer yet
		}
		digits, err := c.s.opt.Service.Open(ctx, n.Digits.Sealed)
		if err != nil || digits == "" {
			continue // it was erased: nobody can be told by which code
		}
		c.mu.Lock()
		src, asked := c.sources[digits]
		delete(c.sources, digits)
		c.mu.Unlock()
		m := reply{"mt": "DeviceProvisioned", "device": string(n.MAC), "code": digits}
		if asked && len(src) > 0 {
			m["src"] = src
		}
		if err := c.write(ctx, m); err != nil {
			return err
		}
		if _, err := c.s.opt.Service.DeliverNotice(ctx, commands.DeliverNotice{Code: n.CodeID, App: c.app}); err != nil {
			return nil // the log takes no writes: it will be told again
		}
		told = append(told, n)
	}
	if len(told) == 0 {
		return nil
	}
	if err := c.ping(ctx, c.s.opt.AnswerWithin); err != nil {
		return err
	}
	if len(c.told) > 10_000 {
		clear(c.told)
	}
	for _, n := range told {
		if _, err := c.s.opt.Service.DeliverNotice(ctx, commands.DeliverNotice{Code: n.CodeID, App: c.app, Acknowledged: true}); err != nil {
			return nil
		}
		c.told[n.CodeID] = n.StoredAt
	}
	return nil
}
