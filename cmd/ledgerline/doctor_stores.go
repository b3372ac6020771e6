package main

import (
	"context"
	"strings"
	"time"

	"ledgerline/adapters/eventstoredb"
	"ledgerline/adapters/vault"
)

// stores looks at what several replicas share: the event store, and keys in PostgreSQL. Nothing is made there.
func (d *doctor) stores(ctx context.Context, cfg Config) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := reachStore(ctx, cfg); err != nil {
		d.say("event store", "fail", "%v", err)
	} else {
		d.say("event store", "ok", "%s answers", cfg.Store)
	}
	if strings.Contains(strings.ToLower(cfg.Store), "tls=false") {
		d.say("event store", "warn", "tls=false: events cross the network in clear, and nobody is asked who they are")
	}
	url, err := secretOf(cfg.PostgresURLFile, cfg.secrets.postgresURL)
	switch {
	case err != nil:
		d.say("vault", "fail", "read the postgres URL: %v", err)
	case url == "":
		d.say("vault", "warn", "stands in the data directory: only one replica can run (see postgres-url-file)")
		d.vault(ctx, cfg)
	default:
		d.sharedVault(ctx, cfg, url)
	}
}

func reachStore(ctx context.Context, cfg Config) error {
	login, err := cfg.storeLogin()
	if err != nil {
		return err
	}
	store, err := eventstoredb.Open(ctx, cfg.Store, login)
	if err != nil {
		return err
	}
	return store.Close()
}

func (d *doctor) sharedVault(ctx context.Context, cfg Config, url string) {
	report, exists, err := func() (report vault.CheckReport, exists bool, err error) {
		pool, err := openPostgres(ctx, url)
		if err != nil {
			return report, false, err
		}
		defer pool.Close()
		if exists, err = vault.SharedExists(ctx, pool); err != nil || !exists {
			return report, exists, err
		}
		v, err := vault.OpenShared(ctx, vault.SharedOptions{Pool: pool, MasterKeyFile: cfg.MasterKeyFile})
		if err != nil {
			return report, true, err
		}
		defer v.Close()
		report, err = v.Check(ctx)
		return report, true, err
	}()
	switch {
	case err != nil:
		d.say("vault", "fail", "%v", err)
	case !exists:
		d.say("vault", "ok", "PostgreSQL answers; there is no vault in it yet")
	case report.Bad > 0:
		d.say("vault", "fail", "%d of %d keys do not open", report.Bad, report.Live+report.Bad)
	default:
		d.say("vault", "ok", "in PostgreSQL; %d keys open, %d destroyed", report.Live, report.Destroyed)
	}
}
