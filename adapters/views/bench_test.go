package views_test

import (
	"context"
	"iter"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/adapters/views"
	"ledgerline/domain"
	"ledgerline/projections"
	"ledgerline/projections/projectiontest"
)

// BenchmarkRebuild folds all views from 200,000 mixed events, scanned from SQLite as a ledger would, into an
// empty generation, until it is served. MB-peak is what the process held at most meanwhile.
func BenchmarkRebuild(b *testing.B) {
	log, n := storedHistory(b, 200_000)
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		store, err := views.Open(b.Context(), views.Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		debug.FreeOSMemory()
		_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // Linux: forget the peak so far
		r := projections.NewRunner(projections.Options{Log: log, Store: store, Projections: projections.All(), Now: time.Now})
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		b.StartTimer()
		go func() { done <- r.Run(ctx) }()
		head, err := log.Head(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := r.WaitFor(ctx, head); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		cancel()
		<-done
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
		report(b, dir)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "events/s")
}

// report adds what the process holds and how big the files are.
func report(b *testing.B, dir string) {
	var size int64
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		if s, err := os.Stat(f); err == nil {
			size += s.Size()
		}
	}
	b.ReportMetric(float64(size)/1e6, "MB-file")
	status, _ := os.ReadFile("/proc/self/status")
	if _, after, ok := strings.Cut(string(status), "VmHWM:"); ok {
		kb, _ := strconv.Atoi(strings.Fields(after)[0])
		b.ReportMetric(float64(kb)/1e3, "MB-peak")
	}
}

// BenchmarkScan is the limit Rebuild is measured against: a bare scan of the same events in the same
// table, each decoded once.
func BenchmarkScan(b *testing.B) {
	log, n := storedHistory(b, 200_000)
	b.ResetTimer()
	for b.Loop() {
		for r, err := range log.ReadAll(b.Context(), domain.Position{}) {
			if err != nil {
				b.Fatal(err)
			}
			if f := projections.NewFact(r); f.Err != nil {
				b.Fatal(f.Err)
			}
		}
	}
	b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "events/s")
}

// storedLog is a finished log in a SQLite table.
type storedLog struct {
	path string
	head domain.Position
}

// storedHistory grows a history of about n events and stores it.
func storedHistory(b *testing.B, n int) (storedLog, int) {
	b.Helper()
	world := projectiontest.NewWorld(new(projectiontest.Log), choose(7))
	world.Grow(n)
	l := storedLog{path: filepath.Join(b.TempDir(), "events.db")}
	conn, err := sqlite.OpenConn(l.path, sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenWAL)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	for _, sql := range []string{"CREATE TABLE e (n INTEGER PRIMARY KEY, stream TEXT, revision INTEGER, id BLOB, type TEXT, data BLOB, meta BLOB)", "BEGIN"} {
		if err := sqlitex.ExecuteTransient(conn, sql, nil); err != nil {
			b.Fatal(err)
		}
	}
	for r := range world.Log.ReadAll(b.Context(), domain.Position{}) {
		err := sqlitex.Execute(conn, "INSERT INTO e VALUES (?,?,?,?,?,?,?)", &sqlitex.ExecOptions{Args: []any{int64(r.Position.Commit), string(r.Stream), int64(r.Revision), r.ID[:], r.Type, r.Data, r.Metadata}})
		if err != nil {
			b.Fatal(err)
		}
		l.head = r.Position
	}
	if err := sqlitex.ExecuteTransient(conn, "COMMIT", nil); err != nil {
		b.Fatal(err)
	}
	return l, world.Log.Len()
}

func (l storedLog) Head(context.Context) (domain.Position, error) { return l.head, nil }

func (l storedLog) ReadAll(_ context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		conn, err := sqlite.OpenConn(l.path, sqlite.OpenReadOnly)
		if err != nil {
			yield(domain.Recorded{}, err)
			return
		}
		defer conn.Close()
		s, _, err := conn.PrepareTransient("SELECT n, stream, revision, id, type, data, meta FROM e WHERE n > ? ORDER BY n")
		if err != nil {
			yield(domain.Recorded{}, err)
			return
		}
		defer s.Finalize()
		s.BindInt64(1, int64(after.Commit))
		for {
			more, err := s.Step()
			if err != nil {
				yield(domain.Recorded{}, err)
			}
			if err != nil || !more {
				return
			}
			r := domain.Recorded{Position: domain.At(uint64(s.ColumnInt64(0))), Stream: domain.StreamID(s.ColumnText(1)), Revision: domain.Revision(s.ColumnInt64(2)),
				Type: s.ColumnText(4), Data: make([]byte, s.ColumnLen(5)), Metadata: make([]byte, s.ColumnLen(6))}
			s.ColumnBytes(3, r.ID[:])
			s.ColumnBytes(5, r.Data)
			s.ColumnBytes(6, r.Metadata)
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (l storedLog) Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for r, err := range l.ReadAll(ctx, after) {
			if !yield(r, err) {
				return
			}
		}
		<-ctx.Done()
		yield(domain.Recorded{}, ctx.Err())
	}
}

// BenchmarkVisible is how long an appended event takes until readers see it, when nothing else goes on.
func BenchmarkVisible(b *testing.B) {
	log := new(projectiontest.Log)
	log.Append("tenant-t1", "t1", noon, domain.TenantCreated{TenantID: "t1", Name: "One"})
	e := start(b, b.TempDir(), log)
	e.caughtUp(b, log)
	for b.Loop() {
		at := log.Append("tenant-t1", "t1", noon, domain.TenantRenamed{Name: "Two"})
		if err := e.runner.WaitFor(b.Context(), at); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDeviceAndFiles is what the phone plane reads for a phone it has not cached.
func BenchmarkDeviceAndFiles(b *testing.B) {
	o := newOffice()
	o.add("device-"+mac, regenerated(false, mac+".cfg", domain.Input{Stream: "layer-base", Revision: 3}))
	e := o.open(b)
	for b.Loop() {
		ds, err := projections.DevicesByMAC(b.Context(), e.store, mac)
		if err != nil || len(ds) != 1 {
			b.Fatal(len(ds), err)
		}
		if _, ok, err := projections.ConfigByDevice(b.Context(), e.store, ds[0].ID); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
