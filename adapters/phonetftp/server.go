package phonetftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pin/tftp/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/time/rate"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Files decides which file a phone gets: *commands.Service.
type Files interface {
	// ServeFile answers with the file, or commands.ErrNoFile, ErrNotYet, ErrGuesses, domain.ErrCodeRefused; anything else is our trouble.
	ServeFile(ctx context.Context, in commands.ServeFile) (commands.Served, error)
	// Delivered notes that the phone has the file for sure. It does not block.
	Delivered(v commands.Served)
}

// Options of a Server. Files is needed; zero values are the defaults named.
type Options struct {
	Files     Files
	Sightings commands.Sightings // notes who was refused; may be nil

	// TrustedNetworks: who may fetch by address alone and get files with secrets. nil means PrivateNetworks; empty means none.
	TrustedNetworks []netip.Prefix

	BlockSize    int           // the largest blksize; 1428, which fits an Ethernet frame with tunnels to spare
	Timeout      time.Duration // for an acknowledgement; 2 s
	Retries      int           // of one block; 3
	MaxTime      time.Duration // of one transfer; 5 min
	Patience     time.Duration // with a file that is not ready; 6 s
	DrainTimeout time.Duration // transfers under way at the end; 10 s

	MaxTransfers          int // at once; 1,024
	MaxTransfersPerSource int // of one IPv4 /24 or IPv6 /56; 512
	RatePerSource         int // requests per second of a source in trusted networks, bursts of four times as many; 500
	RatePerStranger       int // of one outside; 5. All outside together have twenty times as many

	Metrics prometheus.Registerer // may be nil
	Now     func() time.Time      // nil means time.Now
}

// Server serves phones on any number of sockets, which share its limits. Safe for concurrent use.
type Server struct {
	opt     Options
	limits  *limits
	metrics *metrics
}

// ErrBadOptions: options that cannot hold together.
var ErrBadOptions = errors.New("bad options of the TFTP server")

// New checks the options and registers the metrics.
func New(opt Options) (*Server, error) {
	if opt.Files == nil {
		return nil, fmt.Errorf("%w: Files is needed", ErrBadOptions)
	}
	if opt.TrustedNetworks == nil {
		opt.TrustedNetworks = PrivateNetworks()
	}
	for n, fallback := range map[*int]int{&opt.BlockSize: 1428, &opt.Retries: 3, &opt.MaxTransfers: 1024, &opt.MaxTransfersPerSource: 512,
		&opt.RatePerSource: 500, &opt.RatePerStranger: 5} {
		if *n <= 0 {
			*n = fallback
		}
	}
	if opt.BlockSize < minBlock || opt.BlockSize > maxBlock {
		return nil, fmt.Errorf("%w: block size must be %d to %d", ErrBadOptions, minBlock, maxBlock)
	}
	for d, fallback := range map[*time.Duration]time.Duration{&opt.Timeout: 2 * time.Second, &opt.MaxTime: 5 * time.Minute,
		&opt.Patience: 6 * time.Second, &opt.DrainTimeout: 10 * time.Second} {
		if *d <= 0 {
			*d = fallback
		}
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	s := &Server{opt: opt, limits: &limits{total: opt.MaxTransfers, each: opt.MaxTransfersPerSource, trusted: rate.Limit(opt.RatePerSource),
		others: rate.Limit(opt.RatePerStranger), all: rate.NewLimiter(rate.Limit(20*opt.RatePerStranger), 20*opt.RatePerStranger),
		active: make(map[key]bool), per: make(map[netip.Prefix]int), rates: make(map[netip.Prefix]*bucket)}}
	s.metrics = newMetrics(s.limits.count)
	if err := s.metrics.register(opt.Metrics); err != nil {
		return nil, fmt.Errorf("register metrics of the TFTP server: %w", err)
	}
	return s, nil
}

// Serve answers requests sent to conn until ctx ends, then lets transfers under way finish for DrainTimeout.
// It closes conn, and answers nil after an orderly end. ctx carries the logger. With a *net.UDPConn answers
// come from the very address a phone asked, also on a machine that has several.
func (s *Server) Serve(ctx context.Context, conn net.PacketConn) error {
	read := receiver(conn)
	transfers, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var wg sync.WaitGroup
	var failed error
	inARow := 0
	for buf := make([]byte, maxRequest+1); ; {
		n, local, from, err := read(buf)
		if ctx.Err() != nil {
			break
		}
		if inARow++; err == nil {
			inARow = 0
		}
		if errors.Is(err, net.ErrClosed) || inARow == maxErrors {
			failed = fmt.Errorf("serve TFTP on %s: %w", conn.LocalAddr(), err)
			break
		}
		if err == nil && n > 0 { // any other error is about one datagram: an ICMP answer, no memory
			s.accept(transfers, &wg, bytes.Clone(buf[:n]), local, from)
		}
	}
	conn.Close()
	late := time.AfterFunc(s.opt.DrainTimeout, cut)
	defer late.Stop()
	wg.Wait()
	return failed
}

// maxErrors in a row are no longer about single datagrams.
const maxErrors = 1000

type readFunc func(buf []byte) (n int, local netip.Addr, from netip.AddrPort, err error)

// receiver reads datagrams with the address they were sent to, where the system tells it.
func receiver(conn net.PacketConn) readFunc {
	port := func(a net.Addr) netip.AddrPort {
		if u, ok := a.(*net.UDPAddr); ok {
			p := u.AddrPort()
			return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
		}
		return netip.AddrPort{}
	}
	sentTo := func(ip net.IP) netip.Addr {
		a, _ := netip.AddrFromSlice(ip)
		if a = a.Unmap(); a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			return netip.Addr{}
		}
		return a
	}
	if udp, ok := conn.(*net.UDPConn); ok {
		if port(udp.LocalAddr()).Addr().Is4() {
			p := ipv4.NewPacketConn(udp)
			if p.SetControlMessage(ipv4.FlagDst, true) == nil {
				return func(buf []byte) (int, netip.Addr, netip.AddrPort, error) {
					n, cm, from, err := p.ReadFrom(buf)
					if cm == nil {
						cm = new(ipv4.ControlMessage)
					}
					return n, sentTo(cm.Dst), port(from), err
				}
			}
		} else if p := ipv6.NewPacketConn(udp); p.SetControlMessage(ipv6.FlagDst, true) == nil {
			return func(buf []byte) (int, netip.Addr, netip.AddrPort, error) {
				n, cm, from, err := p.ReadFrom(buf)
				if cm == nil {
					cm = new(ipv6.ControlMessage)
				}
				return n, sentTo(cm.Dst), port(from), err
			}
		}
	}
	return func(buf []byte) (int, netip.Addr, netip.AddrPort, error) {
		n, from, err := conn.ReadFrom(buf)
		return n, netip.Addr{}, port(from), err
	}
}

// accept looks at a datagram and starts what it asks for, unless that would be too much.
func (s *Server) accept(ctx context.Context, wg *sync.WaitGroup, packet []byte, local netip.Addr, from netip.AddrPort) {
	r, err := parseRequest(packet)
	if errors.Is(err, errNoRequest) || !from.IsValid() || from.Port() == 0 {
		s.metrics.dropped.WithLabelValues("no request").Inc()
		return
	}
	trusted := within(s.opt.TrustedNetworks, from.Addr())
	if !s.limits.rated(from.Addr(), trusted, s.opt.Now()) {
		s.metrics.dropped.WithLabelValues("rate").Inc()
		return
	}
	end, reason := s.limits.begin(key{from, strings.Join(r.segments, "/")})
	if reason != "" {
		s.metrics.dropped.WithLabelValues(reason).Inc()
		return
	}
	wg.Go(func() {
		defer end()
		s.handle(ctx, r, err, local, from, trusted)
	})
}

// handle answers one request and accounts for it.
func (s *Server) handle(ctx context.Context, r request, malformed error, local netip.Addr, from netip.AddrPort, trusted bool) {
	start := s.opt.Now()
	ctx, id := commands.NewRequest(ctx)
	ctx = zerolog.Ctx(ctx).With().Str("request_id", id).Logger().WithContext(ctx)
	t := &transfer{request: r, ip: from.Addr().WithZone(""), trusted: trusted, outcome: "failed", via: "none", route: "none"}
	defer func() { s.account(ctx, t, s.opt.Now().Sub(start)) }()
	sock, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local.WithZone(from.Addr().Zone()), 0)), net.UDPAddrFromAddrPort(from))
	if err != nil && local.IsValid() { // a broadcast address, or one that has gone
		sock, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(from))
	}
	if err != nil {
		zerolog.Ctx(ctx).Error().Err(err).Msg("open a socket for a TFTP transfer")
		return
	}
	defer sock.Close()
	sending := ctx
	ctx, cancel := context.WithTimeout(ctx, s.opt.MaxTime)
	defer cancel()
	var served commands.Served
	if err = malformed; err == nil {
		served, err = s.ask(ctx, t)
	}
	if err == nil {
		t.device, t.file = served.Device, served.File.Path
		data, size := served.Content()
		if served.Body != nil {
			defer served.Body.Close()
			more, done := context.WithTimeout(sending, s.opt.MaxTime+time.Duration(size/slowest)*time.Second)
			defer done()
			ctx = more
		}
		if err = s.send(ctx, sock, t, data); err == nil {
			t.outcome, t.bytes = "served", size
			s.opt.Files.Delivered(served)
			return
		}
	}
	if p := s.fail(ctx, t, err); p != nil {
		_, _ = sock.Write(p) // a datagram: nobody tells whether it arrives
	}
}

// transfer is a request on its way, with what the log wants to know of it.
type transfer struct {
	request
	ip      netip.Addr
	trusted bool

	via, route, outcome string
	device              domain.DeviceID
	file                string
	bytes               int
}

// pollReady is how often a file that is not ready is asked for again.
const pollReady = 250 * time.Millisecond

// ask has the command decide; a file that is not ready is waited for.
func (s *Server) ask(ctx context.Context, t *transfer) (commands.Served, error) {
	c, ok := claimOf(t.segments)
	t.via, t.route = c.via, c.route
	if !ok {
		return commands.Served{}, errName
	}
	in := commands.ServeFile{Asked: commands.Asked{Path: c.file}, Via: c.via, Credential: c.credential, Transport: "tftp", IP: t.ip.String(), Trusted: t.trusted}
	ctx, cancel := context.WithTimeout(ctx, s.opt.Patience)
	defer cancel()
	for {
		v, err := s.opt.Files.ServeFile(ctx, in)
		if err != nil && ctx.Err() != nil {
			err = errors.Join(err, commands.ErrNotYet) // our patience has ended, not the store
		}
		if errors.Is(err, commands.ErrNoFile) && s.opt.Sightings != nil {
			s.opt.Sightings.Seen(commands.Sighting{MAC: macIn(c.file), IP: in.IP, Transport: "tftp", Path: c.via + " refused", At: s.opt.Now()})
		}
		if !errors.Is(err, commands.ErrNotYet) {
			return v, err
		}
		wait := time.NewTimer(pollReady)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return v, err
		}
	}
}

// macIn finds twelve hex digits in a name, with no further one beside them, for sightings.
func macIn(name string) domain.MAC {
	for word := range strings.FieldsFuncSeq(name, func(c rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", c) }) {
		if mac, err := domain.ParseMAC(word); err == nil {
			return mac
		}
	}
	return ""
}

// slowest is the bytes a second a phone is given time for.
const slowest = 16 << 10

// send has the library move data. It answers nil when the last block was acknowledged.
func (s *Server) send(ctx context.Context, sock *net.UDPConn, t *transfer, data io.Reader) error {
	l := newLink(sock, t.clean())
	defer context.AfterFunc(ctx, func() { l.fail(ctx.Err()) })()
	outcome := make(chan error, 1)
	var lib *tftp.Server
	lib = tftp.NewServer(func(_ string, to io.ReaderFrom) error {
		_, err := to.ReadFrom(data)
		outcome <- err
		lib.Shutdown()
		return nil
	}, nil)
	lib.SetTimeout(s.opt.Timeout)
	lib.SetRetries(s.opt.Retries)
	lib.SetBackoff(func(int) time.Duration { return 0 })
	lib.SetBlockSize(s.opt.BlockSize)
	lib.SetBlockSizeNegotiation(false)
	lib.EnableSinglePort() // its one port is our socket
	if err := run(lib, l); err != nil {
		return err
	}
	err := <-outcome
	if cause := l.failure(); err != nil && cause != nil {
		err = cause
	}
	return err
}

// run serves one transfer. The library hands datagrams on without a lock: one that comes at the very moment
// a transfer is given up makes it panic. That is the end of a transfer, not of the program.
func run(lib *tftp.Server, l *link) (err error) {
	defer func() {
		if r := recover(); r != nil {
			l.fail(errGone)
			err = fmt.Errorf("transfer broke off: %v", r)
		}
	}()
	return lib.Serve(l)
}

// fail turns an error into the datagram a phone understands; nil when nobody is left to read it. It is the
// one place that does.
func (s *Server) fail(ctx context.Context, t *transfer, err error) []byte {
	switch {
	case errors.Is(err, errWrite):
		t.outcome = "refused"
		return errorPacket(codeForbidden, "read-only server")
	case errors.Is(err, errMalformed), errors.Is(err, errMode):
		t.outcome = "refused"
		return errorPacket(codeIllegal, err.Error())
	case errors.Is(err, errName), errors.Is(err, domain.ErrCodeRefused), errors.Is(err, commands.ErrGuesses), errors.Is(err, commands.ErrNoFile):
		t.outcome = "refused"
		return errorPacket(codeNotFound, "file not found")
	case errors.Is(err, commands.ErrNotYet):
		t.outcome = "busy"
		return errorPacket(codeOther, "not ready, try again")
	case errors.Is(err, errPeer), errors.Is(err, errGone):
		t.outcome = "aborted"
		return nil
	case ctx.Err() != nil:
		t.outcome = "aborted"
		return errorPacket(codeOther, "transfer took too long, try again")
	case t.file != "": // the library gave up repeating
		t.outcome = "aborted"
		return errorPacket(codeOther, "no acknowledgement")
	}
	zerolog.Ctx(ctx).Error().Err(err).Str("route", t.route).Msg("serve a phone's file over TFTP")
	return errorPacket(codeOther, "try again later")
}

// account writes the one log line of a request, and counts it.
func (s *Server) account(ctx context.Context, t *transfer, took time.Duration) {
	s.metrics.requests.WithLabelValues(t.via, t.outcome).Inc()
	s.metrics.bytes.Add(float64(t.bytes))
	s.metrics.seconds.Observe(took.Seconds())
	e := zerolog.Ctx(ctx).Info()
	if t.file != "" { // only names we know: a mistyped path may hold a secret
		e = e.Str("device_id", string(t.device)).Str("file", t.file)
	}
	e.Str("route", t.route).Str("transport", "tftp").Stringer("ip", t.ip).Str("outcome", t.outcome).Int("bytes", t.bytes).Dur("elapsed_ms", took).
		Msg("phone asked for a file")
}
