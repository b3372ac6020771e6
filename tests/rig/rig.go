// Package rig wires the engine's real parts in one process, without listeners, for benchmarks and tests
// that look inside. What users run is wired in cmd/ledgerline; tests/e2e and tests/crash drive that.
package rig

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"ledgerline/adapters/blobs"
	"ledgerline/adapters/ledger"
	"ledgerline/adapters/plugins"
	"ledgerline/adapters/plugins/tz"
	"ledgerline/adapters/reactor"
	"ledgerline/adapters/vault"
	"ledgerline/adapters/views"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// Rig is an engine on one directory.
type Rig struct {
	Ledger  *ledger.Ledger
	Vault   *vault.Vault
	Blobs   *blobs.Blobs
	Views   *views.Store
	Runner  *projections.Runner
	Shelf   *views.Shelf
	Reactor *reactor.Reactor
	Service *commands.Service
	Plugins *plugins.Set
	// OnChange, when set before Start, is told of each commit of the views, as projections.Options has it.
	OnChange func(projections.Change)

	closers []func() error
	stop    context.CancelFunc
	done    chan error
}

// Open opens the stores in dir and wires the parts, with the built-in plugins and those of further sources; Start sets
// them going. Whoever opens it closes it.
func Open(ctx context.Context, dir string, sources ...fs.FS) (_ *Rig, err error) {
	r := &Rig{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.Ledger, err = ledger.Open(ctx, ledger.Options{Dir: dir}); err != nil {
		return r, err
	}
	r.closers = append(r.closers, r.Ledger.Close)
	if r.Vault, err = vault.Open(ctx, vault.Options{Dir: dir}); err != nil {
		return r, err
	}
	r.closers = append(r.closers, r.Vault.Close)
	if r.Blobs, err = blobs.Open(ctx, blobs.Options{Dir: dir, Sealer: r.Vault}); err != nil {
		return r, err
	}
	r.closers = append(r.closers, r.Blobs.Close)
	if r.Views, err = views.Open(ctx, views.Options{Dir: filepath.Join(dir, "views")}); err != nil {
		return r, err
	}
	r.closers = append(r.closers, r.Views.Close)
	set, err := plugins.Load(append([]fs.FS{plugins.Builtin()}, sources...)...)
	if err != nil {
		return r, err
	}
	r.Plugins = set
	r.Shelf = &views.Shelf{Views: r.Views}
	r.Runner = projections.NewRunner(projections.Options{Log: r.Ledger, Store: r.Views, Projections: projections.All(), Now: time.Now, OnCommit: r.Shelf.OnCommit, OnChange: func(c projections.Change) {
		r.Shelf.OnChange(c)
		if r.OnChange != nil {
			r.OnChange(c)
		}
	}})
	r.Shelf.Runner = r.Runner
	r.Service = &commands.Service{Log: r.Ledger, Vault: r.Vault, Blobs: r.Blobs, Renderer: set, Recognizer: set,
		Candidates: projections.Candidates{Views: r.Views, Wait: r.Runner}, Shelf: r.Shelf, PublicURL: "http://127.0.0.1:8667/"}
	r.Plugins = set
	r.Service.ZoneOf = tz.Named
	depot, err := plugins.NewDepot(plugins.Options{Dir: filepath.Join(dir, "plugins"), Set: set, Archive: r.Service.PluginArchive, History: r.Service.Plugin})
	if err != nil {
		return r, err
	}
	r.Service.Packages = depot
	r.Reactor, err = reactor.New(reactor.Options{Log: r.Ledger, Store: r.Ledger, Service: r.Service, Reactions: commands.Reactions, From: reactor.FromHead})
	return r, err
}

// Start makes the master tenant and sets projections, reactor and deliveries going until Close.
func (r *Rig) Start(ctx context.Context) error {
	if err := r.Reactor.Prepare(ctx); err != nil {
		return err
	}
	if err := r.Service.EnsureMaster(ctx); err != nil {
		return err
	}
	ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.done = make(chan error, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.Runner.Run(ctx) })
	g.Go(func() error { return r.Reactor.Run(ctx) })
	g.Go(func() error { return r.Service.RunDeliveries(ctx) })
	go func() { r.done <- g.Wait() }()
	return nil
}

// Settle waits until nothing is left to react to and readers see all of it, and returns the end of the log at that moment:
// a phone that asks next gets the outcome. Reactor.Settle alone does not promise that, for views that are busy rest
// between commits.
func (r *Rig) Settle(ctx context.Context) (domain.Position, error) {
	at, err := r.Reactor.Settle(ctx)
	if err != nil {
		return at, err
	}
	return at, r.Runner.WaitFor(ctx, at)
}

// Close ends what runs and closes the stores.
func (r *Rig) Close() error {
	var errs []error
	if r.stop != nil {
		r.stop()
		if err := <-r.done; !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
		r.stop = nil
	}
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.closers = nil
	return errors.Join(errs...)
}
