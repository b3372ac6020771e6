// Package sysclient is the Devices side of the sysclient protocol: innovaphone phones, gateways and foreign devices that
// pose as such keep a binary websocket open here, prove who they are, get their passwords, and let us speak to their own
// web server through the connection.
//
// A connection waits, is challenged, or is in. It says who it is (Identify); commands.AdmitSysclient decides. A code or
// token that holds lets it in and gives it a password of its own; a device that has one must answer a challenge; anybody
// else waits, belongs to no tenant, and is let in when an operator assigns it while it is connected from a network whose
// devices are believed their address. Being in is a matter of this process's memory (D25): who is online is asked of it,
// and noted as a sighting.
//
// What always holds:
//   - Of several connections of one device the newest that has authenticated stays; one that has not never disturbs it.
//   - A wrong answer to a challenge is counted against the device as a denial (D27); after three the connection is closed
//     with 4401. A device whose password, tenant or life ends is no longer in, and waits.
//   - What a device sends is never trusted: frames, tunnels, answers, time and connections are bounded (Options), unknown
//     messages are ignored, as the protocol wants it, and what belongs to no tunnel is dropped.
//   - Over plain HTTP only trusted networks are served, for the password travels in clear inside the connection (D24).
//   - Nothing here logs a code, token, password or the query of a URL.
//
// The tenant in the path bounds whose codes and devices a connection may have to do with.
//
// Not here: what is sent through tunnels (jobs), tokens and codes (commands), the Registry.
package sysclient

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ledgerline/adapters/sysclient/wire"
	"ledgerline/commands"
	"ledgerline/domain"
)

// Client is where a connection comes from.
type Client struct {
	IP netip.Addr
	// Trusted: from a network whose devices are believed their address. Secure: over TLS.
	Trusted, Secure bool
	// MAC is the address a client certificate proved; empty for none.
	MAC domain.MAC
}

// Options of a Server. Service and Client are needed; zero values are the defaults named.
type Options struct {
	Service *commands.Service
	// Client tells where a request comes from.
	Client func(context.Context) Client
	// Sightings notes who is connected; may be nil.
	Sightings commands.Sightings
	// Presence is called when a device has come, and when it has gone; may be nil. It does not block.
	Presence func(domain.DeviceID)
	// Registered is called, in a goroutine of its own, after a device has authenticated; may be nil.
	Registered func(ctx context.Context, device domain.DeviceID, facts domain.SysclientFacts) error
	Metrics    prometheus.Registerer // may be nil

	IdentifyWithin time.Duration // from the connection to the first Identify; 15 s
	AnswerWithin   time.Duration // from a challenge to its answer; 15 s
	WaitAtMost     time.Duration // without authenticating; then the device has to connect anew; 1 h
	PingEvery      time.Duration // 30 s
	DropAfter      time.Duration // without a sign of life; 90 s
	WriteWithin    time.Duration // one message; 15 s
	// MaxWaiting bounds connections that have not authenticated, in all (20,000) and of one address (an IPv6 /64; 512).
	MaxWaiting, MaxWaitingPerSource int
	// MaxAuthenticated bounds the others; 50,000.
	MaxAuthenticated int

	Now func() time.Time // nil means time.Now
}

// Codes that connections are closed with, beside those of RFC 6455.
const (
	closeDenied   websocket.StatusCode = 4401
	closeTimeout  websocket.StatusCode = 4408
	closeReplaced websocket.StatusCode = 4409
	closeBusy     websocket.StatusCode = 4429
)

// decisions is how many are made at a time on what devices say; looks, how many connections' standing is looked at again at
// a time, when something was recorded.
const decisions, looks = 64, 16

// Server keeps the connections. It is commands.Sysclients. Safe for concurrent use.
type Server struct {
	opt     Options
	metrics *metrics
	// deciding bounds decisions at a time: when all devices of a site come back at once, they take turns. looking bounds looks,
	// beside it: a device that waits for an answer does not stand behind all those that something was recorded for.
	deciding, looking chan struct{}

	mu       sync.Mutex
	settling bool // ChangedAll is under way
	closing  bool
	in       map[domain.DeviceID]*conn
	out      map[*conn]struct{}            // not in
	waiting  map[domain.MAC]map[*conn]bool // of out, those that have said who they are
	sources  map[netip.Prefix]int          // of out
	wg       sync.WaitGroup
}

// New checks the options and registers the metrics. Whoever makes it closes it.
func New(opt Options) (*Server, error) {
	if opt.Service == nil || opt.Client == nil {
		return nil, errors.New("sysclient: Service and Client are needed")
	}
	for _, d := range []struct {
		at    *time.Duration
		value time.Duration
	}{{&opt.IdentifyWithin, 15 * time.Second}, {&opt.AnswerWithin, 15 * time.Second}, {&opt.WaitAtMost, time.Hour}, {&opt.PingEvery, 30 * time.Second},
		{&opt.DropAfter, 90 * time.Second}, {&opt.WriteWithin, 15 * time.Second}} {
		if *d.at <= 0 {
			*d.at = d.value
		}
	}
	for _, n := range []struct {
		at    *int
		value int
	}{{&opt.MaxWaiting, 20_000}, {&opt.MaxWaitingPerSource, 512}, {&opt.MaxAuthenticated, 50_000}} {
		if *n.at <= 0 {
			*n.at = n.value
		}
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	s := &Server{opt: opt, deciding: make(chan struct{}, decisions), looking: make(chan struct{}, looks), in: make(map[domain.DeviceID]*conn), out: make(map[*conn]struct{}), waiting: make(map[domain.MAC]map[*conn]bool), sources: make(map[netip.Prefix]int)}
	s.metrics = newMetrics(s.counts)
	if err := s.metrics.register(opt.Metrics); err != nil {
		return nil, fmt.Errorf("register metrics of sysclients: %w", err)
	}
	return s, nil
}

// Match tells whether a request is a sysclient's: GET /{domain}/{instance}/sysclients that wants a websocket.
func Match(r *http.Request) bool {
	_, ok := domainOf(r.URL.Path)
	return ok && r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// domainOf is the first segment of /{domain}/{instance}/sysclients.
func domainOf(path string) (string, bool) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(parts) != 3 || parts[2] != "sysclients" || parts[0] == "" || parts[1] == "" {
		return "", false
	}
	return parts[0], true
}

// ServeHTTP takes one connection, and leaves it to a goroutine of its own: what the request needed is let go.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	client := s.opt.Client(r.Context())
	name, ok := domainOf(r.URL.Path)
	if !ok || !client.Secure && !client.Trusted {
		http.NotFound(w, r)
		return
	}
	tenant, err := s.opt.Service.TenantByDomain(r.Context(), name)
	if errors.Is(err, domain.ErrTenantUnknown) {
		http.NotFound(w, r)
		return
	}
	if err != nil {
		zerolog.Ctx(r.Context()).Error().Err(err).Msg("find the tenant of a sysclient")
		w.Header().Set("Retry-After", "10")
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		return
	}
	c := &conn{server: s, client: client, opened: s.opt.Now(), query: r.URL.Query(), path: r.URL.Path, tunnels: make(map[uint32]*tunnel), slots: make(chan struct{}, maxTunnels)}
	caller := commands.Caller{Actor: "phone", IP: client.IP.String(), Listener: "phones"}
	if tenant.ID != domain.Master {
		caller.Tenants = []domain.TenantID{tenant.ID}
	}
	c.ctx, c.cancel = context.WithCancel(commands.WithCaller(context.WithoutCancel(r.Context()), caller))
	if !s.enlist(c) {
		c.cancel()
		s.metrics.refused.Inc()
		w.Header().Set("Retry-After", "30")
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		return
	}
	// What devices say has nothing to do with a browser's origin.
	ws, err := websocket.Accept(lean{w}, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil || !s.accepted(c, ws) {
		c.cancel()
		s.leave(c)
		return
	}
	go c.serve()
}

// lean gives a connection that is taken over buffers that fit what devices say, for net/http's of 4 KiB each would stay
// with it as long as it lasts. Longer frames pass by the buffers.
type lean struct{ http.ResponseWriter }

const buffer = 1 << 10 // bytes, each way

// Hijack is http.Hijacker.
func (w lean) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, _ := rw.Reader.Peek(rw.Reader.Buffered()) // no error: it is there
	in := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(early), conn), max(buffer, len(early)))
	_, _ = in.Peek(len(early)) // no error either
	return conn, bufio.NewReadWriter(in, bufio.NewWriterSize(conn, buffer)), nil
}

// enlist makes room for a connection; false when there is none.
func (s *Server) enlist(c *conn) bool {
	from := source(c.client.IP)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || len(s.out) >= s.opt.MaxWaiting || s.sources[from] >= s.opt.MaxWaitingPerSource {
		return false
	}
	s.out[c] = struct{}{}
	s.sources[from]++
	s.wg.Add(1)
	return true
}

// accepted hands the connection its websocket; false when the server has stopped meanwhile.
func (s *Server) accepted(c *conn, ws *websocket.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		_ = ws.CloseNow()
		return false
	}
	c.ws = ws
	return true
}

// source is what one source is: an IPv4 address, an IPv6 /64.
func source(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// unlist takes a connection off those that are out. s.mu is held.
func (s *Server) unlist(c *conn) {
	if _, out := s.out[c]; !out {
		return
	}
	delete(s.out, c)
	if from := source(c.client.IP); s.sources[from] > 1 {
		s.sources[from]--
	} else {
		delete(s.sources, from)
	}
	s.unwait(c)
}

func (s *Server) unwait(c *conn) {
	if m := s.waiting[c.mac]; m != nil {
		if delete(m, c); len(m) == 0 {
			delete(s.waiting, c.mac)
		}
	}
}

// leave forgets a connection that has ended.
func (s *Server) leave(c *conn) {
	defer s.wg.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlist(c)
	if c.device != "" && s.in[c.device] == c {
		delete(s.in, c.device)
		s.moved(c.device)
	}
}

// moved tells who wants to know that a device has come or gone.
func (s *Server) moved(device domain.DeviceID) {
	if s.opt.Presence != nil {
		s.opt.Presence(device)
	}
}

// identified notes under which address a connection that is out waits.
func (s *Server) identified(c *conn, mac domain.MAC) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unwait(c)
	c.mac = mac
	if _, out := s.out[c]; !out {
		return
	}
	if s.waiting[mac] == nil {
		s.waiting[mac] = make(map[*conn]bool)
	}
	s.waiting[mac][c] = true
}

// enter makes a connection the device's, and answers the one it takes the place of. ok is false when there is no room.
func (s *Server) enter(c *conn, device domain.DeviceID) (before *conn, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before = s.in[device]
	if before == nil && len(s.in) >= s.opt.MaxAuthenticated || s.closing {
		return nil, false
	}
	s.unlist(c)
	if c.device != "" && c.device != device && s.in[c.device] == c {
		delete(s.in, c.device)
		s.moved(c.device)
	}
	s.in[device], c.device = c, device
	s.moved(device)
	if before == c {
		before = nil
	}
	return before, true
}

// demote takes a connection out of the devices that are in: it waits again.
func (s *Server) demote(c *conn) {
	s.mu.Lock()
	if s.in[c.device] == c {
		delete(s.in, c.device)
		s.moved(c.device)
	}
	c.device = ""
	if _, out := s.out[c]; !out {
		s.out[c] = struct{}{}
		s.sources[source(c.client.IP)]++
	}
	s.mu.Unlock()
	s.identified(c, c.mac)
}

func (s *Server) of(device domain.DeviceID) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in[device]
}

func (s *Server) counts() (in, out int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.in), len(s.out)
}

// Connected tells whether the device has authenticated here and is there.
func (s *Server) Connected(device domain.DeviceID) bool { return s.of(device) != nil }

// Since is when the connection of a device that is there was opened, and from where it came; ok is false when it is not.
func (s *Server) Since(device domain.DeviceID) (at time.Time, from netip.Addr, ok bool) {
	c := s.of(device)
	if c == nil {
		return time.Time{}, netip.Addr{}, false
	}
	return c.opened, c.client.IP, true
}

// Fetch is commands.Sysclients.
func (s *Server) Fetch(ctx context.Context, device domain.DeviceID, method, path string, body []byte) (int, []byte, error) {
	c := s.of(device)
	if c == nil {
		return 0, nil, commands.ErrOffline
	}
	return c.fetch(ctx, method, path, body)
}

// Configure is commands.Sysclients.
func (s *Server) Configure(ctx context.Context, device domain.DeviceID, configs []json.RawMessage) error {
	c := s.of(device)
	if c == nil {
		return commands.ErrOffline
	}
	for i, config := range configs {
		if err := c.write(ctx, wire.Admin(wire.TypeConfig, wire.Config{Config: config, Last: i == len(configs)-1})); err != nil {
			return commands.ErrOffline
		}
	}
	return nil
}

// settle is how long changes of settings that many devices share are gathered.
const settle = time.Second

// Changed tells connections that something was recorded in these streams: a device that waits may be let in, one that is
// in may have to go, or to be given another administrator's password. It does not block.
func (s *Server) Changed(streams []domain.StreamID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	for _, stream := range streams {
		switch stream.Category() {
		case "layer", "tenant", "category":
			if !s.settling {
				s.settling = true
				time.AfterFunc(settle, s.ChangedAll)
			}
		case "device":
			id := domain.DeviceID(stream.ID())
			if c := s.in[id]; c != nil {
				c.kick()
			}
			base, _ := id.Life()
			for c := range s.waiting[domain.MAC(base)] {
				c.kick()
			}
		}
	}
}

// ChangedAll has every connection looked at again: anything may have been recorded. It does not block.
func (s *Server) ChangedAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settling = false
	if s.closing {
		return
	}
	for _, c := range s.in {
		c.kick()
	}
	for _, waiting := range s.waiting {
		for c := range waiting {
			c.kick()
		}
	}
}

// Close ends all connections, telling them to come back, and waits for what they were doing.
func (s *Server) Close() {
	s.mu.Lock()
	s.closing = true
	var all []*conn
	for c := range s.out {
		all = append(all, c)
	}
	for _, c := range s.in {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.end(websocket.StatusGoingAway, "server stops")
	}
	s.wg.Wait()
}
