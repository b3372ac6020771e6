package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ledgerline/adapters/blobs"
	"ledgerline/adapters/eventstoredb"
	"ledgerline/adapters/ledger"
	"ledgerline/adapters/vault"
	"ledgerline/commands"
	"ledgerline/domain"
)

// migration moves a history from one store to another.
type migration struct {
	from, to string // "ledger" or a connection string
	cfg      Config // data, master-key-file, credentials, postgres
	progress io.Writer
}

// migrated is what a migration did.
type migrated struct {
	Events      int             `json:"events"`
	Appended    int             `json:"appended"` // in this run; the others were there from one before
	Leaves      string          `json:"leaves"`   // SHA-256 over the leaf hashes, the same on both stores
	Position    domain.Position `json:"position"` // of the last event, where it has gone
	Reactions   int             `json:"reactions"`
	Parked      int             `json:"parked"`
	Keys        int             `json:"keys"`
	Tombstones  int             `json:"tombstones"`
	Blobs       int             `json:"blobs"`
	VaultMoved  bool            `json:"vault_moved"`
	NextCommand string          `json:"next_command"`
}

// migrateCmd moves the whole history, and with a postgres URL the vault and blobs as well.
func (a *app) migrateCmd() *cobra.Command {
	m := migration{progress: a.errOut}
	cmd := &cobra.Command{Use: "migrate --from STORE --to STORE", Short: "Move the history between the embedded ledger and EventStoreDB", Args: cobra.NoArgs,
		Long: `Copies every event, with its id, revision and metadata, from one store to the other: "ledger" is the one in --data, else
esdb://HOST:PORT?tls=…. The engine must be stopped. The place to go to is empty, or holds what an interrupted migration has brought:
begun again, it goes on there. At the end both histories are read and compared, leaf hash by leaf hash. Positions and parked messages of
reactions move along. Vault and blobs stay in --data, unless a postgres URL is given: then they move between there and PostgreSQL,
with the events. Nothing is deleted where it came from.`}
	flags := cmd.Flags()
	flags.StringVar(&m.from, "from", "", "store to copy from: ledger or esdb://…")
	flags.StringVar(&m.to, "to", "", "store to copy to: ledger or esdb://…")
	flags.StringVar(&m.cfg.Data, "data", envOr(a.getenv, "LEDGERLINE_DATA", "./data"), "data directory of the ledger, vault and blobs")
	flags.StringVar(&m.cfg.MasterKeyFile, "master-key-file", a.getenv("LEDGERLINE_MASTER_KEY_FILE"), "file with the master key; default master.key in the data directory")
	flags.StringVar(&m.cfg.StoreCredentials, "store-credentials-file", a.getenv("LEDGERLINE_STORE_CREDENTIALS_FILE"), "file with user:password for the esdb:// store")
	flags.StringVar(&m.cfg.PostgresURLFile, "postgres-url-file", a.getenv("LEDGERLINE_POSTGRES_URL_FILE"), "file with the postgres:// URL vault and blobs move to or from")
	_, _ = cmd.MarkFlagRequired("from"), cmd.MarkFlagRequired("to")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		m.cfg.secrets = secrets{storeCredentials: a.getenv("LEDGERLINE_STORE_CREDENTIALS"), postgresURL: a.getenv("LEDGERLINE_POSTGRES_URL")}
		if (m.from == "ledger") == (m.to == "ledger") {
			return usageError("one of --from and --to is ledger, the other esdb://…")
		}
		m.cfg.Store = m.from
		if m.from == "ledger" {
			m.cfg.Store = m.to
		}
		if !m.cfg.remote() || strings.Contains(m.cfg.Store, "@") {
			return usageError("the other store must begin with esdb:// or esdb+discover:// and hold no credentials: name a file with --store-credentials-file")
		}
		report, err := m.run(cmd.Context())
		if err != nil {
			return damaged(err)
		}
		return a.printValue(report)
	}
	return cmd
}

func (m *migration) run(ctx context.Context) (r migrated, err error) {
	if _, err := os.Stat(filepath.Join(m.cfg.Data, "ledger.db")); m.from == "ledger" && err != nil {
		return r, exitError{exitNotFound, fmt.Errorf("there is no ledger in %s (see --data)", m.cfg.Data)}
	}
	embedded, err := ledger.Open(ctx, ledger.Options{Dir: m.cfg.Data})
	if err != nil {
		return r, fmt.Errorf("open the ledger: %w", err)
	}
	defer func() { err = errors.Join(err, embedded.Close()) }()
	login, err := m.cfg.storeLogin()
	if err != nil {
		return r, err
	}
	remote, err := eventstoredb.Open(ctx, m.cfg.Store, login)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, remote.Close()) }()
	var from, to eventLog = embedded, remote
	if m.from != "ledger" {
		from, to = remote, embedded
	}
	if err := m.moveVault(ctx, &r); err != nil {
		return r, err
	}
	if err := m.copy(ctx, from, to, &r); err != nil {
		return r, err
	}
	if err := m.moveReactions(ctx, from, to, &r); err != nil {
		return r, err
	}
	r.NextCommand = "ledgerline serve --store '" + m.to + "' --data " + m.cfg.Data
	return r, nil
}

// copy appends what is not there yet, in the log's order.
func (m *migration) copy(ctx context.Context, from, to eventLog, r *migrated) error {
	after, err := resumeAt(ctx, from, to)
	if err != nil {
		return err
	}
	var batch []domain.NewEvent
	var last domain.Recorded // of batch
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		if _, err := to.Append(ctx, last.Stream, last.Revision-domain.Revision(len(batch)), batch); err != nil {
			if errors.Is(err, domain.ErrConflict) {
				err = errors.Join(err, errNotACopy)
			}
			return fmt.Errorf("append event %d of %s: %w", last.Revision, last.Stream, err)
		}
		r.Appended += len(batch)
		if r.Appended/5000 != (r.Appended-len(batch))/5000 {
			fmt.Fprintf(m.progress, "%d events copied, at position %s\n", r.Appended, last.Position)
		}
		batch, size = batch[:0], 0
		return nil
	}
	for e, err := range from.ReadAll(ctx, after) {
		if err != nil {
			return fmt.Errorf("read the events to copy: %w", err)
		}
		if e.Stream.Internal() {
			continue
		}
		bytes := len(e.Data) + len(e.Metadata)
		// One append of several events stays one: what follows in the same stream.
		if e.Stream != last.Stream || e.Revision != last.Revision+1 || size+bytes > domain.MaxAppend/2 || len(batch) == 100 {
			if err := flush(); err != nil {
				return err
			}
		}
		batch, size, last = append(batch, domain.NewEvent{ID: e.ID, Type: e.Type, Data: e.Data, Metadata: e.Metadata}), size+bytes, e
	}
	return flush()
}

// errNotACopy: the place to go to has a history of its own.
var errNotACopy = errors.New("the store to copy to holds other events: it must be empty, or hold what an interrupted migration brought")

// resumeAt is the position, where the events come from, of the last one that is there already. Events are
// copied in order, so all before it are there too; the comparison at the end makes sure.
func resumeAt(ctx context.Context, from, to eventLog) (domain.Position, error) {
	head, err := to.Head(ctx)
	if err != nil || head.IsZero() {
		return domain.Position{}, err
	}
	var last domain.Recorded
	for e, err := range to.ReadAll(ctx, domain.Position{}) {
		if err != nil {
			return domain.Position{}, fmt.Errorf("read what was copied: %w", err)
		}
		if !e.Stream.Internal() {
			last = e
		}
	}
	if last.Stream == "" {
		return domain.Position{}, nil
	}
	for e, err := range from.Read(ctx, last.Stream, last.Revision) {
		if err != nil {
			return domain.Position{}, fmt.Errorf("find event %d of %s where it came from: %w", last.Revision, last.Stream, errors.Join(err, errNotACopy))
		}
		if e.ID == last.ID {
			return e.Position, nil
		}
		break
	}
	return domain.Position{}, errNotACopy
}

// moveReactions compares both histories leaf by leaf, and brings over how far each reaction has come and what
// stands parked, at the positions of the other store.
func (m *migration) moveReactions(ctx context.Context, from, to eventLog, r *migrated) error {
	states := map[string]commands.ReactorState{}
	var wanted []domain.Position // where reactions stand, and what they are done with
	for _, row := range commands.Reactions {
		state, found, err := from.LoadReactor(ctx, row.Name)
		if err != nil {
			return err
		}
		if found {
			states[row.Name] = state
			wanted = append(append(wanted, state.Position), state.Done...)
		}
	}
	parked, err := from.Parked(ctx, "")
	if err != nil {
		return err
	}
	for _, p := range parked {
		wanted = append(wanted, p.Position)
	}
	at, err := compare(ctx, from, to, wanted, r)
	if err != nil {
		return err
	}
	for name, state := range states {
		moved := commands.ReactorState{Position: at[state.Position]}
		for _, p := range state.Done {
			moved.Done = append(moved.Done, at[p])
		}
		if err := to.SaveReactor(ctx, name, moved); err != nil {
			return err
		}
	}
	for _, p := range parked {
		p.Position = at[p.Position]
		if err := to.Park(ctx, p); err != nil {
			return err
		}
	}
	r.Reactions, r.Parked = len(states), len(parked)
	return nil
}

// compare reads both histories side by side. It answers, for each wanted position of the one, that of the same
// event in the other: of the last one not behind it, where it is no event's.
func compare(ctx context.Context, from, to eventLog, wanted []domain.Position, r *migrated) (map[domain.Position]domain.Position, error) {
	slices.SortFunc(wanted, domain.Position.Compare)
	at := make(map[domain.Position]domain.Position, len(wanted))
	digest := newLeaves()
	next, stop := iter.Pull2(history(to.ReadAll(ctx, domain.Position{})))
	defer stop()
	var before domain.Position // in to, of the event before
	for a, err := range history(from.ReadAll(ctx, domain.Position{})) {
		if err != nil {
			return nil, fmt.Errorf("read the events that were copied: %w", err)
		}
		b, err, ok := next()
		if err != nil {
			return nil, fmt.Errorf("read the copies: %w", err)
		}
		if !ok {
			return nil, fmt.Errorf("%w: event %d of %s is missing in the copy", domain.ErrDamaged, a.Revision, a.Stream)
		}
		if domain.LeafHash(a) != domain.LeafHash(b) {
			return nil, fmt.Errorf("%w: where event %d of %s should be, the copy has event %d of %s", domain.ErrDamaged, a.Revision, a.Stream, b.Revision, b.Stream)
		}
		for len(wanted) > 0 && wanted[0].Before(a.Position) {
			at[wanted[0]] = before
			wanted = wanted[1:]
		}
		before = b.Position
		digest.add(a)
	}
	if b, err, ok := next(); err != nil {
		return nil, fmt.Errorf("read the copies: %w", err)
	} else if ok {
		return nil, fmt.Errorf("event %d of %s is in the copy only: %w", b.Revision, b.Stream, errNotACopy)
	}
	for _, p := range wanted {
		at[p] = before
	}
	sum := digest.sum()
	r.Events, r.Leaves, r.Position = sum.events, fmt.Sprintf("%x", sum.digest), before
	return at, nil
}

// history leaves bookkeeping out.
func history(log iter.Seq2[domain.Recorded, error]) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for e, err := range log {
			if (err != nil || !e.Stream.Internal()) && !yield(e, err) {
				return
			}
		}
	}
}

// moveVault moves vault and blobs between the data directory and PostgreSQL, if that is named.
func (m *migration) moveVault(ctx context.Context, r *migrated) (err error) {
	url, err := secretOf(m.cfg.PostgresURLFile, m.cfg.secrets.postgresURL)
	if err != nil {
		return fmt.Errorf("read the postgres URL: %w", err)
	}
	if url == "" {
		fmt.Fprintf(m.progress, "vault and blobs stay in %s: serve there, with the same master key, or name a postgres URL for several replicas\n", m.cfg.Data)
		return nil
	}
	key := m.cfg.MasterKeyFile
	if key == "" {
		key = filepath.Join(m.cfg.Data, "master.key")
	}
	local, err := vault.Open(ctx, vault.Options{Dir: m.cfg.Data, MasterKeyFile: key})
	if err != nil {
		return fmt.Errorf("open the vault: %w", err)
	}
	defer func() { err = errors.Join(err, local.Close()) }()
	localBlobs, err := blobs.Open(ctx, blobs.Options{Dir: m.cfg.Data, Sealer: local})
	if err != nil {
		return fmt.Errorf("open the blobs: %w", err)
	}
	defer func() { err = errors.Join(err, localBlobs.Close()) }()
	pool, err := openPostgres(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	shared, err := vault.OpenShared(ctx, vault.SharedOptions{Pool: pool, MasterKeyFile: key})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shared.Close()) }()
	sharedBlobs, err := blobs.OpenShared(ctx, blobs.SharedOptions{Pool: pool, Sealer: shared})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sharedBlobs.Close()) }()
	r.VaultMoved = true
	if m.from == "ledger" {
		if r.Keys, r.Tombstones, err = vault.Copy(ctx, local, shared); err == nil {
			r.Blobs, err = blobs.Copy(ctx, localBlobs, sharedBlobs)
		}
	} else {
		if r.Keys, r.Tombstones, err = vault.Copy(ctx, shared, local); err == nil {
			r.Blobs, err = blobs.Copy(ctx, sharedBlobs, localBlobs)
		}
	}
	return err
}
