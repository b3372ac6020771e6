package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"ledgerline/adapters/plugins"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// openDepot makes the place where packages are kept, over the plugins loaded.
func (e *engine) openDepot() error {
	var keys plugins.Keys
	if e.cfg.PluginKeys != "" {
		b, err := os.ReadFile(e.cfg.PluginKeys)
		if err != nil {
			return fmt.Errorf("read the trusted keys: %w", err)
		}
		if keys, err = plugins.ParseKeys(string(b)); err != nil {
			return fmt.Errorf("%s: %w", e.cfg.PluginKeys, err)
		}
	}
	depot, err := plugins.NewDepot(plugins.Options{Dir: filepath.Join(e.cfg.Data, "plugins"), Set: e.plugins, Index: e.cfg.PluginIndex, Keys: keys,
		TrustedHosts: e.cfg.PluginHosts, Archive: e.service.PluginArchive, Part: e.service.FilePart, History: e.service.Plugin})
	if err != nil {
		return err
	}
	e.depot, e.service.Packages = depot, depot
	e.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return e.service.Operations().Stop(ctx)
	})
	return nil
}

// adoptPlugins records the packages this program brings and those of the plugins directory, and loads what else is installed
// of these plugins.
func (e *engine) adoptPlugins(ctx context.Context) error {
	found, err := plugins.Archives(plugins.Builtin(), "builtin")
	if err != nil {
		return fmt.Errorf("pack the built-in plugins: %w", err)
	}
	if e.cfg.Plugins != "" {
		more, err := plugins.Archives(os.DirFS(e.cfg.Plugins), "directory")
		if err != nil {
			return fmt.Errorf("pack the plugins of %s: %w", e.cfg.Plugins, err)
		}
		found = append(found, more...)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, p := range found {
		g.Go(func() error {
			e.depot.Adopted(p)
			if _, err := e.service.AdoptPlugin(ctx, p); err != nil {
				return fmt.Errorf("record plugin %s: %w", p.Plugin, err)
			}
			if err := e.service.SyncPlugin(ctx, p.Plugin); err != nil {
				zerolog.Ctx(ctx).Error().Err(err).Str("plugin", string(p.Plugin)).Msg("load an installed version")
			}
			return nil
		})
	}
	return g.Wait()
}

// changedPlugins collects the plugins whose history has grown, by whichever replica.
type changedPlugins struct {
	mu    sync.Mutex
	names map[domain.PluginID]bool
	all   bool
	wake  chan struct{}
}

func newChangedPlugins() *changedPlugins {
	return &changedPlugins{names: map[domain.PluginID]bool{}, wake: make(chan struct{}, 1)}
}

// note is for the runner's OnChange.
func (c *changedPlugins) note(change projections.Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = c.all || change.All
	for _, s := range change.Streams {
		if s.Category() == "plugin" {
			c.names[domain.PluginID(s.ID())] = true
		}
	}
	if c.all || len(c.names) > 0 {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

func (c *changedPlugins) take() (names map[domain.PluginID]bool, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	names, all = c.names, c.all
	c.names, c.all = map[domain.PluginID]bool{}, false
	return names, all
}

// followPlugins loads what is installed, here or by another replica, and keeps vendors' files, until ctx ends.
func (e *engine) followPlugins(ctx context.Context) error {
	again := time.NewTicker(time.Minute) // another replica may have stopped moving devices
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.changed.wake:
		case <-again.C:
			e.changed.note(projections.Change{All: true})
		}
		names, all := e.changed.take()
		if all {
			listed, err := projections.ListPlugins(ctx, e.views, true, projections.Page{Limit: 500})
			if err != nil && !errors.Is(err, projections.ErrNotReady) {
				zerolog.Ctx(ctx).Error().Err(err).Msg("list the plugins")
			}
			for _, p := range listed.Items {
				names[p.Name] = true
			}
		}
		for name := range names {
			if err := e.followPlugin(ctx, name); err != nil && ctx.Err() == nil {
				zerolog.Ctx(ctx).Error().Err(err).Str("plugin", string(name)).Msg("load what is installed")
			}
		}
	}
}

func (e *engine) followPlugin(ctx context.Context, name domain.PluginID) error {
	p, err := e.service.Plugin(ctx, name)
	if err != nil {
		return err
	}
	err = e.depot.Sync(ctx, p)
	for _, b := range p.Bundles {
		err = errors.Join(err, e.depot.Keep(ctx, string(name), b))
	}
	for id := range p.DeviceUpgrades {
		if !e.reactor.Leads() {
			break // another replica moves them
		}
		_, startErr := e.service.Operations().Start(ctx, commands.Work{Label: "upgrade_devices", Key: "upgrade-" + id, Do: func(ctx context.Context, progress *commands.Progress) error {
			return e.service.CarryDeviceUpgrade(ctx, name, id, progress)
		}})
		if !errors.Is(startErr, commands.ErrOperationRunning) {
			err = errors.Join(err, startErr)
		}
	}
	return err
}
