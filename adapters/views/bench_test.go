package views_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
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

// BenchmarkRebuild folds all views from 200,000 mixed events into an empty generation, ready to be served.
func BenchmarkRebuild(b *testing.B) {
	log := history(200_000)
	b.ResetTimer()
	for b.Loop() {
		dir := b.TempDir()
		store, err := views.Open(b.Context(), views.Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		r := projections.NewRunner(projections.Options{Log: log, Store: store, Projections: projections.All(), Now: time.Now})
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		head, _ := log.Head(ctx)
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
	b.ReportMetric(float64(b.N)*float64(log.Len())/b.Elapsed().Seconds(), "events/s")
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
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/1e6, "MB-heap")
	status, _ := os.ReadFile("/proc/self/status")
	if _, after, ok := strings.Cut(string(status), "VmHWM:"); ok {
		kb, _ := strconv.Atoi(strings.Fields(after)[0])
		b.ReportMetric(float64(kb)/1e3, "MB-peak")
	}
}

// BenchmarkScan is the limit Rebuild is measured against: a bare scan of the same events in SQLite, each
// decoded once.
func BenchmarkScan(b *testing.B) {
	log := history(200_000)
	path := filepath.Join(b.TempDir(), "events.db")
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenWAL)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	if err := sqlitex.ExecuteScript(conn, "CREATE TABLE e (n INTEGER PRIMARY KEY, stream TEXT, revision INTEGER, id BLOB, type TEXT, data BLOB, meta BLOB)", nil); err != nil {
		b.Fatal(err)
	}
	if err := sqlitex.ExecuteTransient(conn, "BEGIN", nil); err != nil {
		b.Fatal(err)
	}
	for r := range log.ReadAll(b.Context(), domain.Position{}) {
		err := sqlitex.Execute(conn, "INSERT INTO e VALUES (?,?,?,?,?,?,?)", &sqlitex.ExecOptions{Args: []any{int64(r.Position.Commit), string(r.Stream), int64(r.Revision), r.ID[:], r.Type, r.Data, r.Metadata}})
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := sqlitex.ExecuteTransient(conn, "COMMIT", nil); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for b.Loop() {
		err := sqlitex.Execute(conn, "SELECT n, stream, revision, id, type, data, meta FROM e ORDER BY n", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
			r := domain.Recorded{Position: domain.At(uint64(s.ColumnInt64(0))), Stream: domain.StreamID(s.ColumnText(1)), Revision: domain.Revision(s.ColumnInt64(2)), Type: s.ColumnText(4)}
			s.ColumnBytes(3, r.ID[:])
			r.Data, r.Metadata = make([]byte, s.ColumnLen(5)), make([]byte, s.ColumnLen(6))
			s.ColumnBytes(5, r.Data)
			s.ColumnBytes(6, r.Metadata)
			if f := projections.NewFact(r); f.Err != nil {
				return f.Err
			}
			return nil
		}})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*float64(log.Len())/b.Elapsed().Seconds(), "events/s")
}

func history(n int) *projectiontest.Log {
	world := projectiontest.NewWorld(new(projectiontest.Log), choose(7))
	world.Grow(n)
	return world.Log
}
