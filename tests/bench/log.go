package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/adapters/esdbserver"
	"ledgerline/adapters/eventstoredb"
	"ledgerline/adapters/ledger"
	"ledgerline/adapters/views"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// appends: durable appends a second, alone and from 64 writers, beside a bare fsync loop.
func appends(b *bench) error {
	l, dir, drop, err := newLedger(b, 0)
	if err != nil {
		return err
	}
	defer drop()
	fsyncs, err := fsyncLoop(dir, time.Second)
	if err != nil {
		return err
	}
	limit := fmt.Sprintf("%s bare fsyncs/s", thousands(fsyncs))
	for _, writers := range []int{1, 64} {
		n := b.scale(10_000)
		if writers > 1 {
			n = b.scale(200_000)
		}
		begun := time.Now()
		if err := appendFrom(b.ctx, l, writers, n); err != nil {
			return err
		}
		aim := ""
		if writers > 1 {
			aim = "≥ 40,000"
		}
		b.add(fmt.Sprintf("durable appends, %d writer(s), one event each", writers), perSecond(n, time.Since(begun), "appends"), limit, aim)
	}
	return nil
}

// adapter: the same over adapters/eventstoredb, the official client and adapters/esdbserver on a loopback
// connection in this process, beside the ledger it stands on.
func adapter(b *bench) error {
	l, _, drop, err := newLedger(b, 0)
	if err != nil {
		return err
	}
	defer drop()
	server, err := esdbserver.New(b.ctx, esdbserver.Options{Log: l.Whole(), Write: true})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() { _ = errors.Join(server.Close(), <-served) }()
	s, err := eventstoredb.Open(b.ctx, "esdb://"+listener.Addr().String()+"?tls=false", eventstoredb.Credentials{})
	if err != nil {
		return err
	}
	defer s.Close()
	rate := func(log commands.Log, writers, n int) (string, error) {
		begun := time.Now()
		err := appendFrom(b.ctx, log, writers, n)
		return perSecond(n, time.Since(begun), "appends"), err
	}
	for _, writers := range []int{1, 64} {
		n := b.scale(5_000)
		if writers > 1 {
			n = b.scale(50_000)
		}
		over, err := rate(s, writers, n)
		if err != nil {
			return err
		}
		embedded, err := rate(elsewhere{l}, writers, n)
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("appends over the EventStoreDB adapter, %d writer(s), one event each", writers), over, embedded+" to the ledger behind it", "")
	}
	scan := func(log commands.Log) (string, error) {
		n, begun := 0, time.Now()
		for _, err := range log.ReadAll(b.ctx, domain.Position{}) {
			if err != nil {
				return "", err
			}
			n++
		}
		return perSecond(n, time.Since(begun), "events"), nil
	}
	over, err := scan(s)
	if err != nil {
		return err
	}
	embedded, err := scan(l)
	if err != nil {
		return err
	}
	b.add("replay over the EventStoreDB adapter", over, embedded+" from the ledger behind it", "")
	return nil
}

// elsewhere appends to other streams than who wrote the same before.
type elsewhere struct{ *ledger.Ledger }

func (e elsewhere) Append(ctx context.Context, stream domain.StreamID, at domain.Revision, events []domain.NewEvent) (domain.Position, error) {
	return e.Ledger.Append(ctx, stream+".2", at, events)
}

// appendFrom appends n events of about 300 bytes from writers goroutines, each to streams of its own.
func appendFrom(ctx context.Context, l commands.Log, writers, n int) error {
	var g errgroup.Group
	for w := range writers {
		g.Go(func() error {
			for i := range n / writers {
				e, err := newEvent(domain.DeviceDiscovered{DeviceID: "0015651a2b3c", MAC: "0015651a2b3c", Added: "auto",
					DeviceFacts: domain.DeviceFacts{Vendor: "Yealink", Model: "T54W", Firmware: "96.86.0.70", Plugin: "yealink"}})
				if err != nil {
					return err
				}
				stream := domain.Stream("device", fmt.Sprintf("%d.%d.%d", writers, w, i/10))
				if _, err := l.Append(ctx, stream, domain.Revision(i%10-1), []domain.NewEvent{e}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// fsyncLoop is what the disk can do: 4 KiB written and synced, again and again.
func fsyncLoop(dir string, d time.Duration) (int, error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := make([]byte, 4096)
	n := 0
	for begun := time.Now(); time.Since(begun) < d; n++ {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return int(float64(n) / d.Seconds()), nil
}

func newEvent(e domain.Event) (domain.NewEvent, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return domain.NewEvent{}, err
	}
	id := uuid.Must(uuid.NewV7())
	meta, err := json.Marshal(domain.Metadata{Actor: "system:bench", RecordedAt: time.Now().UTC(), TenantID: "bench", CorrelationID: id.String()})
	return domain.NewEvent{ID: id, Type: e.EventType(), Data: data, Metadata: meta}, err
}

// fakeSealed has the size of a sealed value, without a key behind it.
func fakeSealed(n int) domain.Sealed {
	id := uuid.New()
	return domain.Sealed{KeyID: domain.IDFrom(id), Nonce: id[:12], Ciphertext: make([]byte, n), Fingerprint: domain.IDFrom(id), AAD: id.String() + "#/password"}
}

// eventsPerDevice is how many events seed writes for one device with its user and line.
const eventsPerDevice = 10

// newLedger opens a ledger in a folder of its own, with the history of that many devices; drop closes and removes it.
func newLedger(b *bench, devices int) (l *ledger.Ledger, dir string, drop func(), err error) {
	if dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return nil, "", nil, err
	}
	if l, err = ledger.Open(b.ctx, ledger.Options{Dir: dir}); err != nil {
		return nil, "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	drop = func() { _ = errors.Join(l.Close(), os.RemoveAll(dir)) } // only figures were wanted of it
	if devices > 0 {
		if err = seed(b.ctx, l, devices); err != nil {
			drop()
		}
	}
	return l, dir, drop, err
}

// seed writes the history of n devices, each with a user and a line, straight into a ledger.
func seed(ctx context.Context, l *ledger.Ledger, n int) error {
	first, err := json.Marshal(domain.TenantCreated{TenantID: "bench", Name: "Bench"})
	if err != nil {
		return err
	}
	meta := []byte(`{"actor":"system:bench","recorded_at":"2026-01-02T03:04:05Z","tenant_id":"bench"}`)
	if _, err := l.Append(ctx, "tenant-bench", domain.NoStream, []domain.NewEvent{{ID: uuid.Must(uuid.NewV7()), Type: "tenant.created", Data: first, Metadata: meta}}); err != nil {
		return err
	}
	var g errgroup.Group
	work := make(chan int, 256)
	for range 64 {
		g.Go(func() error {
			var first error
			for i := range work {
				if err := seedDevice(ctx, l, i); err != nil && first == nil {
					first = err
				}
			}
			return first
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	return g.Wait()
}

func seedDevice(ctx context.Context, l *ledger.Ledger, i int) error {
	user, line, mac := domain.UserID(fmt.Sprintf("user%07d", i)), domain.LineID(fmt.Sprintf("line%07d", i)), domain.MAC(fmt.Sprintf("001565%06x", i))
	device := domain.DeviceID(mac)
	personal, secret := domain.Personal{Sealed: fakeSealed(30)}, domain.Secret{Sealed: fakeSealed(32)}
	streams := []struct {
		stream domain.StreamID
		events []domain.Event
	}{
		{user.Stream(), []domain.Event{domain.KeyCreated{Subject: user.Subject(), KeyID: "k"},
			domain.UserDefined{UserID: user, TenantID: "bench", UserSpec: domain.UserSpec{DisplayName: personal}}}},
		{line.Stream(), []domain.Event{domain.KeyCreated{Subject: line.Subject(), KeyID: "k"},
			domain.LineDefined{LineID: line, TenantID: "bench", UserID: user, LineSpec: domain.LineSpec{Number: personal, Username: string(line)}, Password: secret}}},
		{device.Stream(), []domain.Event{domain.KeyCreated{Subject: device.Subject(), KeyID: "k"},
			domain.DeviceDiscovered{DeviceID: device, MAC: mac, Added: "auto", DeviceFacts: domain.DeviceFacts{Vendor: "Yealink", Model: "T54W", Firmware: "96.86.0.70", Plugin: "yealink"}},
			domain.DeviceAssigned{TenantID: "bench", UserID: user, Secret: secret, SecretHash: domain.IDFrom(uuid.New()) + domain.IDFrom(uuid.New())},
			domain.DeviceLineAssociated{LineID: line, Position: 1},
			domain.DeviceConfigRegenerated{Plugin: "yealink", PluginVersion: "1.0.0", Renderer: "1.0.0", TZData: "2026a",
				Inputs: []domain.Input{{Stream: "layer-base", Revision: domain.NoStream}, {Stream: "layer-tenant.bench", Revision: domain.NoStream}, {Stream: line.Stream(), Revision: 1}, {Stream: user.Stream(), Revision: 1}},
				Files: []domain.GeneratedFile{{Path: string(mac) + ".cfg", ContentType: "text/plain", Size: 4000, SkeletonSHA256: domain.IDFrom(uuid.New()) + domain.IDFrom(uuid.New()),
					MAC: domain.IDFrom(uuid.New()) + domain.IDFrom(uuid.New())}}},
			domain.DeviceConfigDelivered{Path: string(mac) + ".cfg", MAC: "m", Via: "secret", Transport: "http", DeliveredAt: time.Now().UTC()}}},
	}
	for _, s := range streams {
		fresh := make([]domain.NewEvent, len(s.events))
		for i, e := range s.events {
			var err error
			if fresh[i], err = newEvent(e); err != nil {
				return err
			}
		}
		if _, err := l.Append(ctx, s.stream, domain.NoStream, fresh); err != nil {
			return err
		}
	}
	return nil
}

// rebuild: all views from an empty file, and scan with decode alone, beside a bare scan of the table.
func rebuild(b *bench) error {
	devices := b.scale(30_000)
	l, dir, drop, err := newLedger(b, devices)
	if err != nil {
		return err
	}
	defer drop()
	n := devices*eventsPerDevice + 1
	limit, err := bareScan(l.Path(), n)
	if err != nil {
		return err
	}

	begun := time.Now()
	if err := scanAndDecode(b.ctx, l); err != nil {
		return err
	}
	b.add(fmt.Sprintf("scan and decode %s events", thousands(n)), perSecond(n, time.Since(begun), "events"), limit, "≥ 400,000")

	begun = time.Now()
	store, err := views.Open(b.ctx, views.Options{Dir: filepath.Join(dir, "views")})
	if err != nil {
		return err
	}
	defer store.Close()
	runner := projections.NewRunner(projections.Options{Log: l, Store: store, Projections: projections.All(), Now: time.Now})
	ctx, stop := context.WithCancel(b.ctx)
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	head, err := l.Head(b.ctx)
	if err != nil {
		stop()
		return err
	}
	err = runner.WaitFor(b.ctx, head)
	took := time.Since(begun)
	stop()
	if runErr := <-done; err == nil {
		err = runErr
	}
	b.add("rebuild of all views", perSecond(n, took, "events"), limit, "≥ 100,000")
	return err
}

// bareScan reads every column of every one of n events with the same driver, does nothing with them, and tells how fast.
func bareScan(path string, n int) (string, error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadOnly|sqlite.OpenWAL)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	begun := time.Now()
	err = sqlitex.ExecuteTransient(conn, "SELECT * FROM events ORDER BY position", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		for i := range s.ColumnCount() {
			_ = s.ColumnLen(i)
		}
		return nil
	}})
	return perSecond(n, time.Since(begun), "rows of a bare SQLite scan"), err
}

// scanAndDecode reads the whole log and decodes every payload and metadata, in a pipeline of two.
func scanAndDecode(ctx context.Context, l *ledger.Ledger) error {
	const chunk = 1024
	work := make(chan []domain.Recorded, 16)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	wg.Go(func() {
		for rs := range work {
			for _, r := range rs {
				if f := projections.NewFact(r); f.Err != nil {
					mu.Lock()
					failed = f.Err
					mu.Unlock()
				}
			}
		}
	})
	batch := make([]domain.Recorded, 0, chunk)
	for r, err := range l.ReadAll(ctx, domain.Position{}) {
		if err != nil {
			close(work)
			return err
		}
		if batch = append(batch, r); len(batch) == chunk {
			work <- batch
			batch = make([]domain.Recorded, 0, chunk)
		}
	}
	work <- batch
	close(work)
	wg.Wait()
	return failed
}
