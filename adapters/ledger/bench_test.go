package ledger_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"ledgerline/adapters/ledger"
	"ledgerline/domain"
)

// fact is an event of the usual size, one the catalogue knows.
func fact(n int) domain.NewEvent {
	return domain.NewEvent{
		ID:       uuid.Must(uuid.NewV7()),
		Type:     "tenant.renamed",
		Data:     fmt.Appendf(nil, `{"tenant_id":"018f3a1c9b7d7e21a4c5d6e7f8091a2b","name":"Städtische Werke %d","domain":"werke%d.example.org"}`, n, n),
		Metadata: fmt.Appendf(nil, `{"$correlationId":"0192f0c1-7c5e-7cc0-9d7e-3a1b2c3d4e5f","actor":"apikey:018f3a1c9b7d","tenant_id":"018f3a1c9b7d7e21a4c5d6e7f8091a2b","recorded_at":"2026-11-02T09:30:%02d.123456Z"}`, n%60),
	}
}

func openBench(b *testing.B) *ledger.Ledger {
	b.Helper()
	l, err := ledger.Open(context.Background(), ledger.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	return l
}

// BenchmarkFsync is the limit of one writer: a bare loop of writing a page and waiting for the disk.
func BenchmarkFsync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 8192)
	for i := range b.N {
		if _, err := f.WriteAt(page, int64(i%4096)*8192); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "fsyncs/s")
}

// BenchmarkAppendAlone is one writer that waits for each append; streams of about ten events.
func BenchmarkAppendAlone(b *testing.B) {
	l := openBench(b)
	for i := range b.N {
		if _, err := l.Append(b.Context(), device(i/10), domain.Revision(i%10-1), []domain.NewEvent{fact(i)}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}

// BenchmarkAppend64 is 64 such writers at once.
func BenchmarkAppend64(b *testing.B) {
	l := openBench(b)
	var writers atomic.Int64
	b.SetParallelism(64 / 2)
	b.RunParallel(func(pb *testing.PB) {
		w := int(writers.Add(1)) * 1_000_000
		for i := 0; pb.Next(); i++ {
			if _, err := l.Append(b.Context(), device(w+i/10), domain.Revision(i%10-1), []domain.NewEvent{fact(i)}); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}

func device(n int) domain.StreamID { return domain.Stream("device", fmt.Sprintf("%012x", n)) }

// fill writes n events in streams of ten, a hundred events to an append's worth of waiting.
func fill(b *testing.B, l *ledger.Ledger, n int) {
	b.Helper()
	done := make(chan error, 64)
	for w := range 64 {
		go func() {
			var err error
			for s := w; s < n/10 && err == nil; s += 64 {
				batch := make([]domain.NewEvent, 10)
				for i := range batch {
					batch[i] = fact(s*10 + i)
				}
				_, err = l.Append(context.Background(), device(s), domain.NoStream, batch)
			}
			done <- err
		}()
	}
	for range 64 {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkScan reads the whole log, bare and with payloads decoded. One op is one event.
func BenchmarkScan(b *testing.B) {
	const events = 200_000
	l := openBench(b)
	fill(b, l, events)
	for name, look := range map[string]func(domain.Recorded) error{
		"bare":   func(domain.Recorded) error { return nil },
		"decode": func(r domain.Recorded) error { _, err := r.Event(); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; n < b.N; {
				for r, err := range l.ReadAll(b.Context(), domain.Position{}) {
					if err == nil {
						err = look(r)
					}
					if err != nil {
						b.Fatal(err)
					}
					if n++; n == b.N {
						break
					}
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkReadStream reads one stream of ten events. One op is one stream.
func BenchmarkReadStream(b *testing.B) {
	l := openBench(b)
	fill(b, l, 100_000)
	b.ReportAllocs()
	for i := range b.N {
		for _, err := range l.Read(b.Context(), device(i*7919%10_000), 0) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkOpen opens and closes a ledger of a million events (LEDGERLINE_BENCH_EVENTS for another number).
func BenchmarkOpen(b *testing.B) {
	events := 1_000_000
	if n, err := strconv.Atoi(os.Getenv("LEDGERLINE_BENCH_EVENTS")); err == nil {
		events = n
	}
	dir := b.TempDir()
	l, err := ledger.Open(b.Context(), ledger.Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	fill(b, l, events)
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		l, err := ledger.Open(b.Context(), ledger.Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if info, err := os.Stat(filepath.Join(dir, "ledger.db")); err == nil {
		b.ReportMetric(float64(info.Size())/float64(events), "bytes/event")
	}
	if l, err = ledger.Open(b.Context(), ledger.Options{Dir: dir}); err != nil {
		b.Fatal(err)
	}
	begun := time.Now()
	if _, err := l.Verify(b.Context(), domain.Position{}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(events)/time.Since(begun).Seconds(), "verified/s")
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}
