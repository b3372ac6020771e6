package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"ledgerline/adapters/blobs"
	"ledgerline/adapters/eventstoredb"
	"ledgerline/adapters/ledger"
	"ledgerline/adapters/plugins"
	"ledgerline/adapters/plugins/tz"
	"ledgerline/adapters/proof"
	"ledgerline/adapters/reactor"
	"ledgerline/adapters/sightings"
	"ledgerline/adapters/sipnotify"
	"ledgerline/adapters/sysclient"
	"ledgerline/adapters/usersapp"
	"ledgerline/adapters/vault"
	"ledgerline/adapters/views"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// log is what the engine needs of an event store.
type eventLog interface {
	commands.Log
	commands.ReactorStore
	Close() error
}

// keyVault is what the engine needs of a vault, one process's or a shared one.
type keyVault interface {
	commands.Vault
	ID() string
	MasterFingerprint() string
	Forget(...domain.Subject)
	Close() error
}

// blobStore is what the engine needs of blobs.
type blobStore interface {
	commands.Blobs
	PutContent(ctx context.Context, subject domain.Subject, data []byte) (sha256Hex string, err error)
	GetContent(ctx context.Context, subject domain.Subject, sha256Hex string) ([]byte, error)
	Close() error
}

// engine is everything but the listeners: stores, service, projections, reactor.
type engine struct {
	cfg        Config
	log        eventLog
	ledger     *ledger.Ledger // nil with another store
	vault      keyVault
	blobs      blobStore
	plugins    *plugins.Set
	depot      *plugins.Depot
	changed    *changedPlugins
	views      *views.Store
	past       *views.Past
	runner     *projections.Runner
	shelf      *views.Shelf
	sightings  *sightings.Sightings
	service    *commands.Service
	sysclients *sysclient.Server
	users      *usersapp.Server
	reactor    *reactor.Reactor
	metrics    *prometheus.Registry
	rewritten  prometheus.Gauge
	closers    []func() error
}

// openEngine opens the stores and wires the parts; nothing runs yet. On an error what was opened is closed.
func openEngine(ctx context.Context, cfg Config) (_ *engine, err error) {
	e := &engine{cfg: cfg, metrics: prometheus.NewRegistry(), changed: newChangedPlugins()}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	if err := e.openLog(ctx); err != nil {
		return nil, err
	}
	if err := e.openVault(ctx); err != nil {
		return nil, err
	}
	if e.plugins, err = loadPlugins(cfg.Plugins); err != nil {
		return nil, err
	}
	if e.sightings, err = sightings.Open(ctx, sightings.Options{Dir: cfg.Data, Retention: time.Duration(cfg.SightingsDays) * 24 * time.Hour, Metrics: e.metrics}); err != nil {
		return nil, fmt.Errorf("open the sightings: %w", err)
	}
	e.onClose(e.sightings.Close)
	if e.views, err = views.Open(ctx, views.Options{Dir: filepath.Join(cfg.Data, "views")}); err != nil {
		return nil, fmt.Errorf("open the views: %w", err)
	}
	e.onClose(e.views.Close)
	snapshots := filepath.Join(cfg.Data, "past")
	if err := os.RemoveAll(snapshots); err != nil { // as disposable as views, and perhaps of another log
		return nil, fmt.Errorf("clear the snapshots: %w", err)
	}
	e.past = views.NewPast(views.PastOptions{Dir: snapshots, Log: e.log})
	e.onClose(e.past.Close)
	e.shelf = &views.Shelf{Views: e.views}
	e.runner = projections.NewRunner(projections.Options{Log: e.log, Store: e.views, Projections: projections.All(), Now: time.Now, OnCommit: e.shelf.OnCommit, OnChange: e.onChange})
	e.shelf.Runner = e.runner
	if err := e.makeService(); err != nil {
		return nil, err
	}
	e.openUsers()
	if err := e.openSysclients(); err != nil {
		return nil, err
	}
	if err := e.openDepot(); err != nil {
		return nil, err
	}
	options := reactor.Options{Log: e.log, Store: e.log, Service: e.service, Reactions: commands.Reactions,
		From: reactor.From(cfg.ReactorFrom), Lanes: cfg.Lanes, Registerer: e.metrics}
	if groups, ok := e.log.(commands.Groups); ok {
		options.Groups = groups
	}
	if leases, ok := e.log.(commands.Leases); ok {
		options.Leases, options.Holder, options.LeaseTTL = leases, replicaName(), cfg.ReactorLease
	}
	e.reactor, err = reactor.New(options)
	if err != nil {
		return nil, err
	}
	e.registerMetrics()
	return e, nil
}

func (e *engine) onClose(f func() error) { e.closers = append(e.closers, f) }

// close closes the stores in the reverse order of their opening.
func (e *engine) close() error {
	var errs []error
	for i := len(e.closers) - 1; i >= 0; i-- {
		errs = append(errs, e.closers[i]())
	}
	e.closers = nil
	return errors.Join(errs...)
}

func (e *engine) openLog(ctx context.Context) error {
	switch {
	case e.cfg.Store == "ledger":
		l, err := ledger.Open(ctx, ledger.Options{Dir: e.cfg.Data})
		if err != nil {
			return damaged(fmt.Errorf("open the ledger: %w", err))
		}
		e.log, e.ledger = l, l
	default:
		if err := e.lockData(); err != nil {
			return err
		}
		credentials, err := e.cfg.storeLogin()
		if err != nil {
			return err
		}
		zerolog.Ctx(ctx).Info().Str("store", e.cfg.Store).Msg("waiting for the event store")
		store, err := eventstoredb.Open(ctx, e.cfg.Store, credentials)
		if err != nil {
			return fmt.Errorf("open the event store: %w", err)
		}
		e.log = store
	}
	e.onClose(e.log.Close)
	return nil
}

// lockData keeps a second replica out of the data directory; views and sightings are one replica's own. The
// ledger has a lock of its own.
func (e *engine) lockData() error {
	f, err := os.OpenFile(filepath.Join(e.cfg.Data, "replica.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock the data directory: %w", err)
	}
	e.onClose(f.Close)
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return fmt.Errorf("%s is in use by another replica: each needs a data directory of its own", e.cfg.Data)
	case err != nil:
		return fmt.Errorf("lock the data directory: %w", err)
	}
	return nil
}

// openVault opens keys and blobs: in the data directory, or in PostgreSQL where replicas share them.
func (e *engine) openVault(ctx context.Context) error {
	url, err := secretOf(e.cfg.PostgresURLFile, e.cfg.secrets.postgresURL)
	if err != nil {
		return fmt.Errorf("read the postgres URL: %w", err)
	}
	if url == "" {
		v, err := vault.Open(ctx, vault.Options{Dir: e.cfg.Data, MasterKeyFile: e.cfg.MasterKeyFile})
		if err != nil {
			return fmt.Errorf("open the vault: %w", err)
		}
		e.vault = v
		e.onClose(v.Close)
		if made := v.CreatedMasterKey(); made != "" {
			zerolog.Ctx(ctx).Warn().Str("file", made).Msg("made a new master key: keep a copy off this machine, without it nothing sealed can be read again")
		}
		b, err := blobs.Open(ctx, blobs.Options{Dir: e.cfg.Data, Sealer: v})
		if err != nil {
			return fmt.Errorf("open the blobs: %w", err)
		}
		e.blobs = b
		e.onClose(b.Close)
		return nil
	}
	pool, err := openPostgres(ctx, url)
	if err != nil {
		return err
	}
	e.onClose(func() error { pool.Close(); return nil })
	v, err := vault.OpenShared(ctx, vault.SharedOptions{Pool: pool, MasterKeyFile: e.cfg.MasterKeyFile})
	if err != nil {
		return err
	}
	e.vault = v
	e.onClose(v.Close)
	b, err := blobs.OpenShared(ctx, blobs.SharedOptions{Pool: pool, Sealer: v})
	if err != nil {
		return err
	}
	e.blobs = b
	e.onClose(b.Close)
	return nil
}

// openPostgres connects. No error holds the password.
func openPostgres(ctx context.Context, url string) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the postgres URL is malformed: it looks like postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full")
	}
	c.MaxConns = max(c.MaxConns, 16)
	c.ConnConfig.RuntimeParams["synchronous_commit"] = "on" // acknowledged means durable, whatever the server's default
	c.ConnConfig.RuntimeParams["application_name"] = "ledgerline"
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err == nil {
		err = pool.Ping(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("reach PostgreSQL at %s: %w", c.ConnConfig.Host, err)
	}
	return pool, nil
}

// replicaName is this process's name among replicas.
func replicaName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "replica"
	}
	return host + "/" + uuid.NewString()
}

// onChange hands every commit of the views on to what keeps things in memory.
func (e *engine) onChange(c projections.Change) {
	switch {
	case c.All:
		e.vault.Forget()
	case len(c.Destroyed) > 0:
		e.vault.Forget(c.Destroyed...)
	}
	e.shelf.OnChange(c)
	switch {
	case e.sysclients == nil:
	case c.All:
		e.sysclients.ChangedAll()
	default:
		e.sysclients.Changed(c.Streams)
	}
	if e.users != nil {
		e.users.Changed(c)
	}
	e.changed.note(c)
}

// secretOf is the content of the file, if one is named, else value.
func secretOf(path, value string) (string, error) {
	if path == "" {
		return value, nil
	}
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// storeLogin is the user of the event store; the zero value for none.
func (c Config) storeLogin() (eventstoredb.Credentials, error) {
	text, err := secretOf(c.StoreCredentials, c.secrets.storeCredentials)
	if err != nil {
		return eventstoredb.Credentials{}, fmt.Errorf("read the store's credentials: %w", err)
	}
	user, password, ok := strings.Cut(text, ":")
	if text != "" && !ok {
		return eventstoredb.Credentials{}, errors.New("the store's credentials must be user:password")
	}
	return eventstoredb.Credentials{User: user, Password: password}, nil
}

// userAndSecret reads a file that holds user:password.
func userAndSecret(path string) (user, secret string, err error) {
	text, err := secretOf(path, "")
	if err != nil {
		return "", "", err
	}
	user, secret, ok := strings.Cut(text, ":")
	if !ok {
		return "", "", fmt.Errorf("%s must hold user:password", path)
	}
	return user, secret, nil
}

// loadPlugins loads the built-in packages and those below dir, if any.
func loadPlugins(dir string) (*plugins.Set, error) {
	sources := []fs.FS{plugins.Builtin()}
	if dir != "" {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, fmt.Errorf("open the plugins directory: %w", err)
		}
		sources = append(sources, root.FS())
	}
	set, err := plugins.Load(sources...)
	if err != nil {
		return nil, fmt.Errorf("load the plugins: %w", err)
	}
	return set, nil
}

func (e *engine) makeService() error {
	base := domain.Settings{}
	if e.cfg.BaseSettings != "" {
		b, err := os.ReadFile(e.cfg.BaseSettings)
		if err != nil {
			return fmt.Errorf("read the base settings: %w", err)
		}
		if base, err = domain.ParseSettings(b); err != nil {
			return fmt.Errorf("base settings %s: %w", e.cfg.BaseSettings, err)
		}
	}
	e.service = &commands.Service{
		Log: e.log, Vault: e.vault, Blobs: e.blobs, Renderer: e.plugins, Recognizer: e.plugins,
		Candidates: projections.Candidates{Views: e.views, Wait: e.runner}, Shelf: e.shelf, Sightings: e.sightings, Whereabouts: e.sightings,
		PublicURL: e.cfg.publicURL(), Base: base, CodeLength: e.cfg.CodeLength, DiscoveryCap: e.cfg.DiscoveryCap, SoftphoneLinks: e.cfg.SoftphoneLinks,
		CodesPerTenant: e.cfg.CodesPerTenant, CodesPerUser: e.cfg.CodesPerUser, CodesPerServer: e.cfg.CodesPerServer,
		CodeTTL: map[string]time.Duration{"self_service": e.cfg.CodeTTLSelf, "rollout": e.cfg.CodeTTLRollout},
	}
	e.service.ZoneOf = tz.Named
	var err error
	if e.service.JobCommands, err = jobCommands(e.cfg.JobCommands); err != nil {
		return err
	}
	e.service.Guard().Global = e.cfg.GuessBudget
	if err := e.joinRegistry(); err != nil {
		return err
	}
	notifier, err := e.notifier()
	if err != nil {
		return err
	}
	e.service.Notifier = notifier
	return e.gatewayPorts()
}

// notifier tells phones to fetch: by SIP, and through an Asterisk first where one is named.
func (e *engine) notifier() (*sipnotify.Notifier, error) {
	o := sipnotify.Options{Metrics: e.metrics}
	roots, err := pemRoots(e.cfg.SIPRoots)
	if err != nil {
		return nil, fmt.Errorf("sip-roots: %w", err)
	}
	o.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if e.cfg.AMI != "" {
		user, secret, err := userAndSecret(e.cfg.AMICredentials)
		if err != nil {
			return nil, fmt.Errorf("ami-credentials-file: %w", err)
		}
		o.AMI = &sipnotify.AMI{Addr: e.cfg.AMI, Username: user, Secret: secret}
		if addr, secure := strings.CutPrefix(e.cfg.AMI, "tls://"); secure {
			o.AMI.Addr, o.AMI.TLS = addr, o.TLS
		}
	}
	return sipnotify.New(o)
}

// publicURL is the URL phones come back to: the one set, or this machine's address and the phones' port.
func (c Config) publicURL() string {
	if c.PublicURL != "" {
		return c.PublicURL
	}
	host, port, err := net.SplitHostPort(c.Phones)
	if err != nil {
		return ""
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = outwardAddress()
	}
	return "http://" + net.JoinHostPort(host, port) + "/"
}

// outwardAddress is the first address of this machine that is not loopback; nothing is sent.
func outwardAddress() string {
	addresses, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
				return n.IP.String()
			}
		}
	}
	return "127.0.0.1"
}

// run keeps projections, reactor and schedules going until ctx ends.
func (e *engine) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.runner.Run(ctx) })
	g.Go(func() error { return e.reactor.Run(ctx) })
	g.Go(func() error { return ignoreCanceled(e.service.RunDeliveries(ctx)) })
	g.Go(func() error { return ignoreCanceled(e.followPlugins(ctx)) })
	g.Go(func() error { return e.schedule(ctx) })
	g.Go(func() error { return e.sendResyncs(ctx) })
	for range commands.JobWorkers {
		g.Go(func() error { return e.sendJobs(ctx) })
	}
	g.Go(func() error { return e.pushToGateways(ctx) })
	g.Go(func() error { return e.keepCheckpoints(ctx) })
	return g.Wait()
}

// keepCheckpoints signs checkpoints of the log. A log that contradicts what was signed is still served from:
// phones must work, and whoever put an older copy in its place has to say so by moving checkpoints.log away.
func (e *engine) keepCheckpoints(ctx context.Context) error {
	seed, err := e.service.CheckpointSeed(ctx)
	if err != nil {
		return fmt.Errorf("derive the checkpoints' key: %w", err)
	}
	signer, err := proof.NewSigner(seed)
	if err != nil {
		return err
	}
	k := &proof.Keeper{Log: e.log, Signer: signer, Dir: e.cfg.Data, Every: e.cfg.CheckpointEvery, Leader: e.reactor.Leads, Record: func(ctx context.Context, c domain.CheckpointSigned) error {
		_, err := e.service.SignCheckpoint(commands.WithCaller(ctx, commands.Caller{Actor: "system:checkpoints"}), c)
		return err
	}}
	err = k.Run(ctx)
	for errors.Is(err, eventstoredb.ErrUnavailable) {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
			err = k.Run(ctx)
		}
	}
	if errors.Is(err, proof.ErrRewritten) {
		zerolog.Ctx(ctx).Error().Err(err).Str("file", proof.LogFile(e.cfg.Data)).Msg("no checkpoint is signed any more: look into it with ledgerline audit verify; if an older copy was put in place on purpose, move the file away")
		e.rewritten.Set(1)
		return nil
	}
	return ignoreCanceled(err)
}

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// sendResyncs tells phones of changes, at the pace their settings allow, until ctx ends.
func (e *engine) sendResyncs(ctx context.Context) error {
	return everySecond(ctx, "SendResyncs", "system:resync", func(ctx context.Context) error {
		if !e.reactor.Leads() {
			return nil
		}
		n, err := e.service.SendResyncs(ctx)
		if n > 0 {
			zerolog.Ctx(ctx).Info().Int("phones", n).Str("command", "SendResyncs").Msg("phones told of a change")
		}
		return err
	})
}

// sendJobs sends devices connected here what they wait for, until ctx ends; commands.JobWorkers of it run.
func (e *engine) sendJobs(ctx context.Context) error {
	return everySecond(ctx, "SendDueJobs", "system:jobs", e.service.SendDueJobs)
}

// everySecond runs a command on behalf of actor until ctx ends; what goes wrong is told and tried again.
func everySecond(ctx context.Context, command, actor string, do func(context.Context) error) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := do(commands.WithCaller(ctx, commands.Caller{Actor: actor})); err != nil && ctx.Err() == nil {
			zerolog.Ctx(ctx).Error().Err(err).Str("command", command).Msg("schedule failed")
		}
	}
}

// schedule expires codes every half minute and records denials whose hour is over; what was gathered when
// ctx ends is recorded then.
func (e *engine) schedule(ctx context.Context) error {
	const every = 30 * time.Second
	tick := time.NewTicker(every)
	defer tick.Stop()
	log := zerolog.Ctx(ctx)
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return e.service.RecordDenials(last, true)
		case <-tick.C:
		}
		ctx := commands.WithCaller(ctx, commands.Caller{Actor: "system:schedule"})
		if err := e.service.RecordDenials(ctx, false); err != nil && ctx.Err() == nil {
			log.Error().Err(err).Str("command", "RecordDenials").Msg("schedule failed")
		}
		if !e.reactor.Leads() { // what follows from the log alone, one replica does
			continue
		}
		if n, err := e.service.ExpireCodes(ctx); err != nil && ctx.Err() == nil {
			log.Error().Err(err).Str("command", "ExpireCodes").Msg("schedule failed")
		} else if n > 0 {
			log.Info().Int("codes", n).Str("command", "ExpireCodes").Msg("codes expired")
		}
		if n, err := e.service.DropNotices(ctx); err != nil && ctx.Err() == nil {
			log.Error().Err(err).Str("command", "DropNotices").Msg("schedule failed")
		} else if n > 0 {
			log.Warn().Int("notices", n).Str("command", "DropNotices").Msg("notices nobody took for 30 days were dropped")
		}
		if err := e.service.ForgetAnswers(ctx); err != nil && ctx.Err() == nil {
			log.Error().Err(err).Str("command", "ForgetAnswers").Msg("schedule failed")
		}
	}
}

// bootstrap settles the reactor's positions on a new log, makes the master tenant, and on the first start
// an administrator's key in DIR/admin.token.
func (e *engine) bootstrap(ctx context.Context) (tokenFile string, err error) {
	if err := e.reactor.Prepare(ctx); err != nil {
		return "", err
	}
	ctx = commands.WithCaller(ctx, commands.Caller{Actor: "system:bootstrap"})
	if e.cfg.remote() {
		if _, err := e.service.BindVault(ctx, commands.BindVault{VaultID: e.vault.ID(), MasterFingerprint: e.vault.MasterFingerprint()}); err != nil {
			return "", fmt.Errorf("bind the vault to the log: %w", err)
		}
	}
	if err := e.service.EnsureMaster(ctx); err != nil {
		return "", fmt.Errorf("make the master tenant: %w", err)
	}
	if err := e.adoptPlugins(ctx); err != nil {
		return "", err
	}
	_, token, _, err := e.service.IssueAPIKey(ctx, commands.IssueAPIKey{ID: commands.BootstrapKey, Name: "administrator (first start)", Role: domain.Admin})
	if errors.Is(err, domain.ErrAPIKeyExists) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("make the administrator's key: %w", err)
	}
	tokenFile = filepath.Join(e.cfg.Data, "admin.token")
	if err := renameio.WriteFile(tokenFile, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the administrator's key: %w", err)
	}
	return tokenFile, nil
}

// registerMetrics exposes what no part registers itself.
func (e *engine) registerMetrics() {
	e.metrics.MustRegister(gatewayMetrics{e})
	gauge := func(name, help string, f func() float64) {
		e.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ledgerline_" + name, Help: help}, f))
	}
	stats := func(pick func(projections.Stats) float64) func() float64 {
		return func() float64 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			s, err := e.runner.Stats(ctx)
			if err != nil {
				return -1
			}
			return pick(s)
		}
	}
	gauge("projection_lag_seconds", "How long the oldest event the views have not seen has been waiting.", stats(func(s projections.Stats) float64 { return s.Lag.Seconds() }))
	gauge("projection_events_total", "Events the views have applied since the start, rebuilds included.", stats(func(s projections.Stats) float64 { return float64(s.Events) }))
	gauge("projection_unknown_events_total", "Events of a type this program does not know.", stats(func(s projections.Stats) float64 { return float64(s.Unknown) }))
	e.rewritten = prometheus.NewGauge(prometheus.GaugeOpts{Name: "ledgerline_log_rewritten", Help: "1 when the log contradicts a signed checkpoint."})
	e.metrics.MustRegister(e.rewritten)
	gauge("wrong_codes_week", "Wrong provisioning codes within the last week.", func() float64 { return float64(e.service.Guard().Total(time.Now())) })
	gauge("discoveries_refused_total", "Unknown phones not made known because the hourly cap was reached.", func() float64 { return float64(e.service.DiscoveryRefused()) })
}
