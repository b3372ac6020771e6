package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"ledgerline/adapters/fastagi"
	"ledgerline/adapters/httpapi"
	"ledgerline/adapters/phonehttp"
	"ledgerline/adapters/phonetftp"
	"ledgerline/adapters/registry"
	"ledgerline/adapters/sightings"
	"ledgerline/adapters/softphone"
	softphonewire "ledgerline/adapters/softphone/wire"
	"ledgerline/adapters/sysclient"
	"ledgerline/adapters/updateserver"
	"ledgerline/adapters/updateserver/script"
	"ledgerline/adapters/usersapp"
	"ledgerline/commands"
	"ledgerline/domain"
)

// serveCmd starts the server.
func (a *app) serveCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "serve", Short: "Start the server", Args: cobra.NoArgs,
		Long: "Starts the engine and its listeners: the API, the phones over HTTP, HTTPS and TFTP, and operations. Every flag can also be\nset by an environment variable (LEDGERLINE_ and the name in capitals) or in the file named by --config."}
	(&Config{}).flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig(cmd.Flags(), a.getenv)
		if err != nil {
			return exitError{exitUsage, err}
		}
		if a.getenv("GOGC") == "" {
			debug.SetGCPercent(gcPercent)
		}
		logger, err := a.logger(cfg)
		if err != nil {
			return exitError{exitUsage, err}
		}
		return serve(logger.WithContext(cmd.Context()), cfg, nil)
	}
	return cmd
}

// gcPercent is how much the heap may grow between two collections where GOGC does not say: a fifth of the memory less
// than with Go's 100, for one to two hundredths of the processor time.
const gcPercent = 70

// logger writes JSON, or text on a terminal, to standard error.
func (a *app) logger(cfg Config) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(cfg.LogLevel)
	if err != nil {
		return zerolog.Nop(), fmt.Errorf("log-level: %w", err)
	}
	out := a.errOut
	f, isFile := out.(*os.File)
	switch cfg.LogFormat {
	case "json":
	case "console":
		out = zerolog.ConsoleWriter{Out: a.errOut, TimeFormat: time.TimeOnly}
	case "auto":
		if isFile && term.IsTerminal(int(f.Fd())) {
			out = zerolog.ConsoleWriter{Out: a.errOut, TimeFormat: time.TimeOnly}
		}
	default:
		return zerolog.Nop(), fmt.Errorf("log-format must be json, console or auto")
	}
	return zerolog.New(out).Level(level).With().Timestamp().Logger(), nil
}

// addresses are where a running server can be reached.
type addresses struct {
	admin, phones, phonesTLS, tftp, ops, esdb, fastagi, registry string
	tokenFile                                                    string // of an administrator's key made just now
}

// serve runs the whole server until ctx ends. started, if not nil, is called once everything answers.
// Wiring reads top-down: stores, service, projections, reactor, servers; shutdown is the list upwards.
func serve(ctx context.Context, cfg Config, started func(*engine, addresses)) (err error) {
	log := zerolog.Ctx(ctx)
	listeners, err := listen(&cfg)
	if err != nil {
		return err
	}
	defer listeners.close()
	e, err := openEngine(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	at := listeners.addresses()
	if at.tokenFile, err = e.bootstrap(ctx); err != nil {
		return err
	}
	if at.tokenFile != "" {
		log.Warn().Str("file", at.tokenFile).Msg("made an administrator's API key on this first start")
	}
	servers, err := e.servers(ctx, listeners)
	if err != nil {
		return err
	}

	// The engine outlives the servers: what they accepted is carried through before it stops.
	engineCtx, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEngine()
	engineDone := make(chan error, 1)
	go func() { engineDone <- e.run(engineCtx) }()

	g, serving := errgroup.WithContext(ctx)
	for _, s := range servers {
		g.Go(func() error { return s(serving) })
	}
	g.Go(func() error {
		select {
		case <-e.runner.Ready():
			debug.FreeOSMemory() // what starting took, views built from nothing above all
			log.Info().Str("admin", at.admin).Str("phones", at.phones).Str("phones_tls", at.phonesTLS).Str("tftp", at.tftp).Str("ops", at.ops).Str("esdb", at.esdb).Str("fastagi", at.fastagi).Str("registry", at.registry).
				Str("public_url", e.service.PublicURL).Str("version", version).Msg("ready")
			if started != nil {
				started(e, at)
			}
		case <-serving.Done():
		}
		return nil
	})
	g.Go(func() error {
		select {
		case err := <-engineDone:
			engineDone <- err
			if err == nil {
				err = errors.New("engine stopped")
			}
			return err
		case <-serving.Done():
			return nil
		}
	})
	err = g.Wait()
	log.Info().Msg("stopping")
	stopEngine()
	return errors.Join(ignoreCanceled(err), ignoreCanceled(<-engineDone))
}

// listeners are the sockets, taken before anything else, so that a taken port is told at once.
type listeners struct {
	admin, phones, phonesTLS, ops, esdb, fastagi, registry, registryTLS net.Listener
	tftp                                                                net.PacketConn
}

func listen(cfg *Config) (*listeners, error) {
	l := &listeners{}
	var errs []error
	tcp := func(name, addr string) net.Listener {
		if addr == "" {
			return nil
		}
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			errs = append(errs, fmt.Errorf("listen for %s: %w", name, err))
			return nil
		}
		return ln
	}
	l.admin, l.phones = tcp("admin", cfg.Admin), tcp("phones", cfg.Phones)
	l.phonesTLS, l.ops = tcp("phones-tls", cfg.PhonesTLS), tcp("ops", cfg.Ops)
	l.esdb = tcp("esdb", cfg.ESDBListen)
	l.registry, l.registryTLS = tcp("registry", cfg.Registry), tcp("registry-tls", cfg.RegistryTLS)
	l.fastagi = tcp("fastagi", cfg.FastAGI)
	if cfg.TFTP != "" {
		var err error
		if l.tftp, err = net.ListenPacket("udp", cfg.TFTP); err != nil {
			errs = append(errs, fmt.Errorf("listen for tftp: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		l.close()
		return nil, err
	}
	if l.phones != nil {
		// A port of 0 has become a real one; phones must be told that one.
		host, _, err := net.SplitHostPort(cfg.Phones)
		if err == nil {
			_, port, _ := net.SplitHostPort(l.phones.Addr().String())
			cfg.Phones = net.JoinHostPort(host, port)
		}
	}
	return l, nil
}

func (l *listeners) close() {
	for _, ln := range []net.Listener{l.admin, l.phones, l.phonesTLS, l.ops, l.esdb, l.fastagi, l.registry, l.registryTLS} {
		if ln != nil {
			_ = ln.Close()
		}
	}
	if l.tftp != nil {
		_ = l.tftp.Close()
	}
}

func (l *listeners) addresses() addresses {
	text := func(ln net.Listener) string {
		if ln == nil {
			return ""
		}
		return ln.Addr().String()
	}
	at := addresses{admin: text(l.admin), phones: text(l.phones), phonesTLS: text(l.phonesTLS), ops: text(l.ops), esdb: text(l.esdb), fastagi: text(l.fastagi), registry: text(l.registry)}
	if l.tftp != nil {
		at.tftp = l.tftp.LocalAddr().String()
	}
	return at
}

// servers makes one function per listener, each serving until its context ends.
func (e *engine) servers(ctx context.Context, l *listeners) ([]func(context.Context) error, error) {
	trusted, err := prefixes(e.cfg.TrustedNetworks)
	if err != nil {
		return nil, err
	}
	proxies, err := prefixes(e.cfg.TrustedProxies)
	if err != nil {
		return nil, err
	}
	roots, err := pemRoots(e.cfg.PhoneRoots)
	if err != nil {
		return nil, fmt.Errorf("phone-roots: %w", err)
	}
	reg := e.registry()
	updates, err := e.updateServer()
	if err != nil {
		return nil, err
	}
	phones, err := phonehttp.New(phonehttp.Options{Files: e.service, Entry: e.plugins, Sightings: e.sightings, TrustedNetworks: trusted, TrustedProxies: proxies, ClientRoots: roots, Metrics: e.metrics, MaxConnsPerSource: e.cfg.PhonesPerNetwork,
		Mounts: []phonehttp.Mount{{Segment: softphone.Segment, Handler: e.softphones()}, {Match: sysclient.Match, Handler: e.sysclients}, {Segment: registry.Init, Handler: reg},
			{Segment: updateserver.Segment, Handler: updates}, {Match: usersapp.Match, Handler: e.users}, {Match: usersapp.MatchPage, Handler: http.HandlerFunc(e.users.Page)}}})
	if err != nil {
		return nil, err
	}
	api, err := httpapi.New(httpapi.Options{Service: e.service, Log: e.log, Views: e.views, Wait: e.runner, Past: e.past, Parked: e.reactor, SoftphoneXML: httpapi.SoftphoneXML{Read: softphonewire.Read, Account: softphonewire.Account, Level: softphonewire.Level, Global: softphonewire.Global}, Seen: e.seen, SeenAt: e.seenAt,
		Verify: e.verify(), QR: svg, Sysadmin: sysadminLine, Mask: func() func([]byte) string { return script.NewMasker().Mask }, Version: version, Metrics: e.metrics})
	if err != nil {
		return nil, err
	}
	wazo, beside, err := e.provd()
	if err != nil {
		return nil, err
	}
	ops := httpapi.Ops{Alive: e.alive, Ready: e.ready, Metrics: e.metrics}.Handler()
	servers := []func(context.Context) error{
		func(ctx context.Context) error { return serveHTTP(ctx, l.admin, withProvd(api, wazo)) },
		func(ctx context.Context) error { return phones.Serve(ctx, l.phones) },
		func(ctx context.Context) error { return serveHTTP(ctx, l.ops, ops) },
		func(ctx context.Context) error { <-ctx.Done(); e.sysclients.Close(); e.users.Close(); return nil },
	}
	servers = append(servers, beside...)
	if l.tftp != nil {
		tftp, err := phonetftp.New(phonetftp.Options{Files: e.service, Sightings: e.sightings, TrustedNetworks: trusted, Metrics: e.metrics})
		if err != nil {
			return nil, err
		}
		servers = append(servers, func(ctx context.Context) error { return tftp.Serve(ctx, l.tftp) })
	}
	if l.esdb != nil {
		face, err := e.cfg.esdb().open(ctx, e.ledger)
		if err != nil {
			return nil, err
		}
		servers = append(servers, func(ctx context.Context) error { return serveESDB(ctx, face, l.esdb) })
	}
	if l.registry != nil || l.registryTLS != nil {
		more, err := e.registryServers(l.registry, l.registryTLS, trusted, proxies, reg)
		if err != nil {
			return nil, err
		}
		servers = append(servers, more...)
	}
	if l.fastagi != nil {
		networks, err := prefixes(e.cfg.FastAGINetworks)
		if err != nil {
			return nil, err
		}
		plans := fastagi.New(fastagi.Options{Dialler: e.service, Networks: networks})
		servers = append(servers, func(ctx context.Context) error { return plans.Serve(ctx, l.fastagi) })
	}
	if l.phonesTLS != nil {
		certs, err := phonehttp.OpenCerts(phonehttp.CertPair{Cert: e.cfg.TLSCert, Key: e.cfg.TLSKey})
		if err != nil {
			return nil, err
		}
		servers = append(servers,
			func(ctx context.Context) error { return phones.ServeTLS(ctx, l.phonesTLS, certs) },
			func(ctx context.Context) error { return ignoreCanceled(certs.Watch(ctx)) })
	}
	return servers, nil
}

// softphones answers apps of Cloud Softphone on the phone plane.
func (e *engine) softphones() http.Handler {
	links := ""
	if e.cfg.SoftphoneLinks {
		links = e.cfg.publicURL()
	}
	return softphone.New(softphone.Options{Provisioner: e.service, Views: e.views, Links: links, Metrics: e.metrics, Client: func(ctx context.Context) softphone.Client {
		c := phonehttp.ClientOf(ctx)
		return softphone.Client{IP: c.IP.String(), Private: c.Secure || c.Trusted}
	}})
}

// pemRoots reads roots that certificates may lead to; nil when no file is named.
func pemRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no PEM certificate", path)
	}
	return pool, nil
}

// serveHTTP serves h on ln until ctx ends, then lets requests under way finish for 30 seconds.
func serveHTTP(ctx context.Context, ln net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 60 * time.Second, IdleTimeout: 60 * time.Second, MaxHeaderBytes: 16 << 10,
		// Requests outlive ctx by the time they are given to finish; they carry its logger.
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) }}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := s.Shutdown(end); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// alive fails when only a restart can help: the log's writer has stopped for good.
func (e *engine) alive(context.Context) error {
	if e.ledger != nil {
		return e.ledger.Err()
	}
	return nil
}

// readyLag is how far the views may be behind for the server to count as ready.
const readyLag = 30 * time.Second

// ready fails while phones and programs should go elsewhere.
func (e *engine) ready(ctx context.Context) error {
	if err := e.alive(ctx); err != nil {
		return err
	}
	select {
	case <-e.runner.Ready():
	default:
		return errors.New("views have not caught up since the start")
	}
	stats, err := e.runner.Stats(ctx)
	if err != nil {
		return fmt.Errorf("ask the log: %w", err)
	}
	if stats.Lag > readyLag {
		return fmt.Errorf("views of this replica are %s behind: at position %s, the log is at %s; %s", stats.Lag.Round(time.Second), stats.Position, stats.Head, cmp.Or(stats.Problem, "catching up"))
	}
	return nil
}

// verify is the API's way to verify the chain; nil for a store without one.
func (e *engine) verify() func(context.Context) (httpapi.Verified, error) {
	if e.ledger == nil {
		return nil
	}
	return func(ctx context.Context) (httpapi.Verified, error) {
		report, err := e.ledger.Verify(ctx, domain.Position{})
		v := httpapi.Verified{Verified: err == nil, Events: report.Events, To: report.To}
		for _, f := range report.Findings {
			v.Findings = append(v.Findings, f.String())
		}
		if errors.Is(err, domain.ErrDamaged) {
			err = nil // damage is the answer, not a failure to answer
		}
		return v, err
	}
}

// seen tells when and where a device, or the phone with this MAC, was last seen.
func (e *engine) seen(ctx context.Context, id domain.DeviceID, mac domain.MAC) ([]commands.Sighting, error) {
	var rows []sightings.Row
	var err error
	if id != "" {
		rows, err = e.sightings.ByDevice(ctx, id)
	}
	if err == nil && mac != "" {
		var more []sightings.Row
		if more, err = e.sightings.ByMAC(ctx, mac); err == nil {
			for _, r := range more {
				if r.Device != id || id == "" {
					rows = append(rows, r)
				}
			}
		}
	}
	return sightingsOf(rows), err
}

func (e *engine) seenAt(ctx context.Context, ip string) ([]commands.Sighting, error) {
	if _, err := netip.ParseAddr(ip); err != nil {
		return nil, nil
	}
	rows, err := e.sightings.ByIP(ctx, ip, 100)
	return sightingsOf(rows), err
}

func sightingsOf(rows []sightings.Row) []commands.Sighting {
	out := make([]commands.Sighting, len(rows))
	for i, r := range rows {
		out[i] = commands.Sighting{Device: r.Device, MAC: r.MAC, IP: r.IP, UserAgent: r.UserAgent, Transport: r.Transport, Path: r.Via, At: r.LastAt}
	}
	return out
}
