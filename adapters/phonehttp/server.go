package phonehttp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ledgerline/commands"
)

// Files decides which file a phone gets: *commands.Service. If it has DiscoveryRefused() int, that becomes a metric.
type Files interface {
	// ServeFile answers with the file, or commands.ErrNoFile, ErrNotYet, ErrGuesses, domain.ErrCodeRefused; anything else is our trouble.
	ServeFile(ctx context.Context, in commands.ServeFile) (commands.Served, error)
	// Delivered notes that the phone has the file for sure. It does not block.
	Delivered(v commands.Served)
	// CodeOfUser reads a code from the user name of HTTP Basic credentials.
	CodeOfUser(user string) (string, bool)
}

// Mount hangs another handler into the phone plane, by first path segment ("update") or by a function
// (for "/{domain}/{instance}/sysclients" with Upgrade). Mounts come before files, in order; limits on
// connections, headers and times hold for them too; a handler that streams longer than
// Options.WriteTimeout extends its own deadline. ClientOf tells it who asks.
type Mount struct {
	Segment string
	Match   func(*http.Request) bool // used when Segment is empty
	Handler http.Handler
}

// Options of a Server. Files is needed; zero values are the defaults named.
type Options struct {
	Files     Files
	Sightings commands.Sightings // notes who was refused; may be nil
	Mounts    []Mount
	Entry     commands.CodeEntry // pages at /enter on which phones ask for a code; nil for none

	// TrustedNetworks: who may fetch by address alone, and in clear. nil means PrivateNetworks; empty means none.
	TrustedNetworks []netip.Prefix
	// TrustedProxies may open with a PROXY header (v1, v2) and are believed in ForwardedHeader.
	TrustedProxies []netip.Prefix
	// ForwardedHeader is "X-Forwarded-For" (the default) or "Forwarded", the one the proxies append to.
	ForwardedHeader string
	// ClientRoots, when set, makes the TLS listener ask for client certificates (none is needed) and believe
	// the address in one that leads to these roots.
	ClientRoots *x509.CertPool

	// Challenge answers 401 instead of 404 to refused /{file} requests from outside trusted networks, for
	// phones that show their Basic credentials (a code) only when asked. As uniform as the 404.
	Challenge bool

	HeaderTimeout time.Duration // whole request header, PROXY header and TLS handshake each; 5 s
	ReadTimeout   time.Duration // whole request; 15 s
	WriteTimeout  time.Duration // from the header to the end of the answer; 60 s
	IdleTimeout   time.Duration // between requests; 60 s
	DrainTimeout  time.Duration // requests under way at the end; 25 s
	MaxHeader     int           // bytes, request line included; 16 KiB

	MaxConns          int           // open connections; 16,384
	MaxConnsPerSource int           // of one IPv4 /24 or IPv6 /56; 2,048
	UnknownPerHour    int           // identities one source outside trusted networks may miss with; 30
	Tarpit            time.Duration // how slowly a spent budget is answered; 1 s, negative for none

	Metrics prometheus.Registerer // may be nil
	Now     func() time.Time      // nil means time.Now
}

// CertSource gives the certificate for a handshake. CertFiles is one that reloads.
type CertSource interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// Server serves phones on any number of listeners, which share its limits. Safe for concurrent use.
type Server struct {
	opt     Options
	limiter *limiter
	budget  *budget
	metrics *metrics
}

// ErrBadOptions: options that cannot hold together.
var ErrBadOptions = errors.New("bad options of the phone plane")

// New checks the options and registers the metrics.
func New(opt Options) (*Server, error) {
	if opt.Files == nil {
		return nil, fmt.Errorf("%w: Files is needed", ErrBadOptions)
	}
	for _, m := range opt.Mounts {
		switch {
		case m.Handler == nil || m.Segment == "" && m.Match == nil:
			return nil, fmt.Errorf("%w: a mount needs a handler, and a segment or a match", ErrBadOptions)
		case m.Segment == "t" || m.Segment == "d" || m.Segment == "c" || m.Segment == entrySegment || strings.Contains(m.Segment, "/"):
			return nil, fmt.Errorf("%w: nothing can be mounted at %q", ErrBadOptions, m.Segment)
		}
	}
	if opt.TrustedNetworks == nil {
		opt.TrustedNetworks = PrivateNetworks()
	}
	opt.ForwardedHeader = http.CanonicalHeaderKey(opt.ForwardedHeader)
	switch opt.ForwardedHeader {
	case "":
		opt.ForwardedHeader = "X-Forwarded-For"
	case "X-Forwarded-For", "Forwarded":
	default:
		return nil, fmt.Errorf("%w: forwarded header must be X-Forwarded-For or Forwarded", ErrBadOptions)
	}
	for d, fallback := range map[*time.Duration]time.Duration{&opt.HeaderTimeout: 5 * time.Second, &opt.ReadTimeout: 15 * time.Second,
		&opt.WriteTimeout: time.Minute, &opt.IdleTimeout: time.Minute, &opt.DrainTimeout: 25 * time.Second, &opt.Tarpit: time.Second} {
		if *d == 0 {
			*d = fallback
		}
	}
	for n, fallback := range map[*int]int{&opt.MaxHeader: 16 << 10, &opt.MaxConns: 16_384, &opt.MaxConnsPerSource: 2048, &opt.UnknownPerHour: 30} {
		if *n <= 0 {
			*n = fallback
		}
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	s := &Server{opt: opt, budget: newBudget(opt.UnknownPerHour)}
	s.limiter = newLimiter(opt.MaxConns, opt.MaxConnsPerSource, opt.TrustedProxies, func(reason string) { s.metrics.refusedConn.WithLabelValues(reason).Inc() })
	s.metrics = newMetrics(s.limiter.count, opt.Files)
	if err := s.metrics.register(opt.Metrics); err != nil {
		return nil, fmt.Errorf("register metrics of the phone plane: %w", err)
	}
	return s, nil
}

// Serve serves plain HTTP on l until ctx ends, then lets requests under way finish for DrainTimeout. It
// closes l, and answers nil after an orderly end. ctx carries the logger.
func (s *Server) Serve(ctx context.Context, l net.Listener) error { return s.serve(ctx, l, nil) }

// ServeTLS is Serve over TLS 1.2 or later.
func (s *Server) ServeTLS(ctx context.Context, l net.Listener, certs CertSource) error {
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certs.GetCertificate, NextProtos: []string{"http/1.1"}}
	if s.opt.ClientRoots != nil {
		c.ClientAuth = tls.RequestClientCert // looked at in clientOf: a bad one is no better than none
	}
	return s.serve(ctx, l, c)
}

func (s *Server) serve(ctx context.Context, l net.Listener, secure *tls.Config) error {
	l = limited{l, s.limiter, secure != nil}
	if len(s.opt.TrustedProxies) > 0 {
		l = &proxyproto.Listener{Listener: l, ConnPolicy: s.proxyPolicy, ReadHeaderTimeout: s.opt.HeaderTimeout}
	}
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.opt.HeaderTimeout,
		ReadTimeout:       s.opt.ReadTimeout,
		WriteTimeout:      s.opt.WriteTimeout,
		IdleTimeout:       s.opt.IdleTimeout,
		MaxHeaderBytes:    max(s.opt.MaxHeader-4096, 1), // net/http allows 4 KiB more than it is told
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ConnContext:       withConn,
		Protocols:         new(http.Protocols),
		ErrorLog:          log.New(complaints{zerolog.Ctx(ctx)}, "", 0),
	}
	server.Protocols.SetHTTP1(true)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return errors.Join(fmt.Errorf("serve phones on %s: %w", l.Addr(), err), server.Close())
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opt.DrainTimeout)
	defer cancel()
	err := server.Shutdown(drain)
	if err != nil {
		err = errors.Join(fmt.Errorf("drain phones on %s: %w", l.Addr(), err), server.Close())
	}
	<-done
	s.limiter.wait()
	return err
}

// complaints are what net/http has to say: mostly of clients that went away.
type complaints struct{ log *zerolog.Logger }

func (c complaints) Write(p []byte) (int, error) {
	event := c.log.Debug()
	if strings.Contains(string(p), "panic") {
		event = c.log.Error()
	}
	event.Msg(strings.TrimSpace(string(p)))
	return len(p), nil
}
