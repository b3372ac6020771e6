package views_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/adapters/views"
	"ledgerline/domain"
	"ledgerline/projections"
	"ledgerline/projections/projectiontest"
)

var noon = time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)

func grown(n int, seed uint64) *projectiontest.Log {
	world := projectiontest.NewWorld(new(projectiontest.Log), choose(seed))
	world.Grow(n)
	return world.Log
}

// twice is a log that tells every event twice and starts again from the beginning on every subscription.
type twice struct{ *projectiontest.Log }

func (l twice) Subscribe(ctx context.Context, _ domain.Position) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for r, err := range l.Log.Subscribe(ctx, domain.Position{}) {
			if !yield(r, err) || err == nil && !yield(r, nil) {
				return
			}
		}
	}
}

func TestPositionAppliedTwiceChangesNothing(t *testing.T) {
	whole := grown(300, 1)
	once := start(t, t.TempDir(), whole)
	once.caughtUp(t, whole)

	log := whole.Prefix(100)
	again := start(t, t.TempDir(), twice{log})
	again.caughtUp(t, log)
	log.Drop()
	log.Extend(whole, whole.Len())
	again.caughtUp(t, log)
	if diff := cmp.Diff(once.dump(t), again.dump(t)); diff != "" {
		t.Errorf("told twice (-once +twice):\n%s", diff)
	}
}

// failing breaks the fold at one position, as often as asked.
type failing struct {
	projections.Projection
	at    domain.Position
	times *atomic.Int32
}

func (p failing) Apply(tx projections.Tx, f *projections.Fact) error {
	if err := p.Projection.Apply(tx, f); err != nil {
		return err
	}
	if f.Position == p.at && p.times.Add(-1) >= 0 {
		return errors.New("no luck")
	}
	return nil
}

func TestFailedBatchLeavesRowsAndPositionTogether(t *testing.T) {
	whole := grown(400, 2)
	log := whole.Prefix(50)
	var times atomic.Int32
	last := projections.All()
	last[len(last)-1] = failing{last[len(last)-1], domain.At(10 * 300), &times}
	e := start(t, t.TempDir(), log, func(o *projections.Options) { o.Projections, o.Batch = last, 64 })
	e.caughtUp(t, log)
	times.Store(3)
	log.Extend(whole, whole.Len())
	e.caughtUp(t, log)
	if times.Load() >= 0 {
		t.Fatal("the fold was not broken")
	}
	fresh := start(t, t.TempDir(), whole)
	fresh.caughtUp(t, whole)
	if diff := cmp.Diff(fresh.dump(t), e.dump(t)); diff != "" {
		t.Errorf("after broken batches (-fresh +broken):\n%s", diff)
	}
}

// TestCrash copies the files of a running store, as a crash would leave them, and goes on from the copy.
func TestCrash(t *testing.T) {
	whole := grown(600, 3)
	log, dir := whole.Prefix(200), t.TempDir()
	e := start(t, dir, log)
	e.caughtUp(t, log)
	log.Extend(whole, 400)
	e.caughtUp(t, log)
	crashed := t.TempDir()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), "-shm") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(crashed, f.Name()), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A rebuild that did not come to its end is worth nothing.
	if err := os.WriteFile(filepath.Join(crashed, "views-000099.db"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	log.Extend(whole, whole.Len())
	e.caughtUp(t, log)
	after := start(t, crashed, log)
	after.caughtUp(t, log)
	if s, _ := after.runner.Stats(t.Context()); s.Rebuilds != 0 || int(s.Events) != whole.Len()-400 {
		t.Errorf("after the crash %d rebuilds and %d events, want 0 and the %d it had missed", s.Rebuilds, s.Events, whole.Len()-400)
	}
	if diff := cmp.Diff(e.dump(t), after.dump(t)); diff != "" {
		t.Errorf("after the crash (-whole +crashed):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(crashed, "views-000099.db")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the half-made generation is still there")
	}
}

func TestDamagedFileIsRebuilt(t *testing.T) {
	log := grown(500, 4)
	tests := map[string]func(t *testing.T, path string){
		"no database": func(t *testing.T, path string) { overwrite(t, path, 0, 100) },
		"cut": func(t *testing.T, path string) {
			if err := os.Truncate(path, 3*8192); err != nil {
				t.Fatal(err)
			}
		},
		"empty": func(t *testing.T, path string) {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		},
		"gone": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		"schema":       func(t *testing.T, path string) { overwritePages(t, path, 0.0, 0.2) },
		"rows":         func(t *testing.T, path string) { overwritePages(t, path, 0.2, 0.7) },
		"indexes":      func(t *testing.T, path string) { overwritePages(t, path, 0.6, 1.0) },
		"all but page": func(t *testing.T, path string) { overwritePages(t, path, 0.0, 1.0) },
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			e := start(t, dir, log)
			e.caughtUp(t, log)
			want := e.dump(t)
			e.stop()
			files, err := filepath.Glob(filepath.Join(dir, "views-*.db"))
			if err != nil || len(files) != 1 {
				t.Fatalf("files: %v %v", files, err)
			}
			damage(t, files[0])
			e = start(t, dir, log)
			e.caughtUp(t, log)
			// Damage found only by reading is told to the runner, which rebuilds.
			for ctx := t.Context(); ; {
				_, err := projections.ListDevices(ctx, e.store, projections.DeviceFilter{}, projections.Page{})
				if s, _ := e.runner.Stats(ctx); err == nil && s.Rebuilds > 0 {
					break
				}
				if ctx.Err() != nil {
					t.Fatal("never rebuilt")
				}
			}
			e.caughtUp(t, log)
			if diff := cmp.Diff(want, e.dump(t)); diff != "" {
				t.Errorf("rebuilt (-before +after):\n%s", diff)
			}
		})
	}
}

// overwritePages damages every page of a part of the file but the first two.
func overwritePages(t *testing.T, path string, from, to float64) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	pages := float64(info.Size() / 8192)
	for p := max(2, int64(from*pages)); p < int64(to*pages); p++ {
		overwrite(t, path, 8192*p, 200)
	}
}

func overwrite(t *testing.T, path string, at int64, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(slices.Repeat([]byte{0xA5}, n), at); err != nil {
		t.Fatal(err)
	}
}

func TestOtherLogIsRebuilt(t *testing.T) {
	dir, one, other := t.TempDir(), grown(200, 5), grown(150, 6)
	e := start(t, dir, one)
	e.caughtUp(t, one)
	e.stop()
	e = start(t, dir, other) // an older backup of another history was put back
	<-e.runner.Ready()
	fresh := start(t, t.TempDir(), other)
	fresh.caughtUp(t, other)
	if diff := cmp.Diff(fresh.dump(t), e.dump(t)); diff != "" {
		t.Errorf("after the log changed (-fresh +rebuilt):\n%s", diff)
	}
}

// newer is a projection of a later program.
type newer struct{ projections.Projection }

func (p newer) Version() int { return p.Projection.Version() + 1 }

func TestNewVersionIsBuiltBesideTheOld(t *testing.T) {
	log, dir := grown(300, 8), t.TempDir()
	e := start(t, dir, log)
	e.caughtUp(t, log)
	want := e.dump(t)
	e.stop()

	held := &heldLog{Log: log, release: make(chan struct{})}
	upgraded := projections.All()
	upgraded[0] = newer{upgraded[0]}
	e = start(t, dir, held, func(o *projections.Options) { o.Projections = upgraded })
	held.waiting(t)
	if diff := cmp.Diff(want, e.dump(t)); diff != "" {
		t.Errorf("old views while the new ones are built (-before +meanwhile):\n%s", diff)
	}
	close(held.release)
	<-e.runner.Ready()
	if s, _ := e.runner.Stats(t.Context()); s.Rebuilds != 1 {
		t.Errorf("%d rebuilds, want 1", s.Rebuilds)
	}
	if diff := cmp.Diff(want, e.dump(t)); diff != "" {
		t.Errorf("new views (-before +after):\n%s", diff)
	}
}

// heldLog keeps whoever reads all of the log from the start waiting.
type heldLog struct {
	*projectiontest.Log
	release chan struct{}
	asked   atomic.Bool
}

func (l *heldLog) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error] {
	if after.IsZero() {
		l.asked.Store(true)
		select {
		case <-l.release:
		case <-ctx.Done():
		}
	}
	return l.Log.ReadAll(ctx, after)
}

func (l *heldLog) waiting(t *testing.T) {
	t.Helper()
	for !l.asked.Load() {
		if t.Context().Err() != nil {
			t.Fatal("nobody reads the log")
		}
	}
}

func TestSwapUnderReaders(t *testing.T) {
	log := grown(400, 9)
	e := start(t, t.TempDir(), log)
	e.caughtUp(t, log)
	want, err := projections.ListDevices(t.Context(), e.store, projections.DeviceFilter{}, projections.Page{Limit: 500})
	if err != nil || len(want.Items) == 0 {
		t.Fatalf("list: %v, %d devices", err, len(want.Items))
	}
	wantJSON, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var reads atomic.Int32
	stop := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := projections.ListDevices(t.Context(), e.store, projections.DeviceFilter{}, projections.Page{Limit: 500})
				if err != nil {
					t.Errorf("read while swapping: %v", err)
					return
				}
				if b, _ := json.Marshal(got); string(b) != string(wantJSON) {
					t.Error("a reader saw other devices while swapping")
					return
				}
				reads.Add(1)
			}
		})
	}
	for range 5 {
		if err := e.runner.Rebuild(t.Context()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	if reads.Load() == 0 {
		t.Error("nobody read")
	}
}

func TestUnknownEventsAreCountedAndShown(t *testing.T) {
	log := new(projectiontest.Log)
	log.Append("tenant-t1", "t1", noon, domain.TenantCreated{TenantID: "t1", Name: "One"})
	log.Append("tenant-t1", "t1", noon, domain.Unknown{Type: "tenant.painted", Data: []byte(`{}`)})
	log.Append("tenant-t1", "t1", noon, domain.Unknown{Type: "tenant.renamed", Data: []byte(`{"name":7}`)})
	e := start(t, t.TempDir(), log)
	e.caughtUp(t, log)
	s, err := e.runner.Stats(t.Context())
	if err != nil || s.Unknown != 1 || s.Undecoded != 1 || s.Events != 3 {
		t.Errorf("stats %+v, %v; want 1 unknown, 1 undecoded of 3", s, err)
	}
	tenant, ok, err := projections.TenantByID(t.Context(), e.store, "t1")
	if err != nil || !ok || tenant.Name != "One" || tenant.Revision != 0 {
		t.Errorf("tenant %+v, %v, %v", tenant, ok, err)
	}
	l, err := projections.Timeline(t.Context(), e.store, projections.TimelineFilter{Tenant: "t1"}, projections.Page{})
	if err != nil || len(l.Items) != 3 || l.Items[1].Type != "tenant.painted" {
		t.Errorf("timeline %+v, %v", l, err)
	}
}

func TestWaitFor(t *testing.T) {
	log := new(projectiontest.Log)
	at := log.Append("tenant-t1", "t1", noon, domain.TenantCreated{TenantID: "t1", Name: "One"})
	e := start(t, t.TempDir(), log)
	if err := e.runner.WaitFor(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.runner.WaitFor(ctx, domain.At(999)); !errors.Is(err, context.Canceled) {
		t.Errorf("wait for what never comes: %v, want context.Canceled", err)
	}
	if err := e.runner.WaitFor(ctx, at); err != nil {
		t.Errorf("wait for what is there, with a dead context: %v", err)
	}
	done := make(chan error, 1)
	next := domain.At(20)
	go func() { done <- e.runner.WaitFor(t.Context(), next) }()
	log.Append("tenant-t1", "t1", noon, domain.TenantRenamed{Name: "Two"})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	tenant, _, err := projections.TenantByID(t.Context(), e.store, "t1")
	if err != nil || tenant.Name != "Two" {
		t.Errorf("tenant after waiting: %+v, %v", tenant, err)
	}
}

func TestDropsAreSurvivedAndLagIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(projectiontest.Log)
		log.Append("tenant-t1", "t1", noon, domain.TenantCreated{TenantID: "t1", Name: "One"})
		e := start(t, t.TempDir(), log)
		defer e.stop()
		<-e.runner.Ready()
		for range 4 {
			synctest.Wait()
			log.Drop()
			synctest.Wait()
			at := log.Append("tenant-t1", "t1", noon, domain.TenantRenamed{Name: "Two"})
			if s, err := e.runner.Stats(t.Context()); err != nil || s.Head != at || s.Position == at || !strings.Contains(s.Problem, "dropped") {
				t.Errorf("while dropped: %+v, %v", s, err)
			}
			began := time.Now()
			if err := e.runner.WaitFor(t.Context(), at); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(began); waited > 10*time.Second {
				t.Errorf("resubscribed after %v", waited)
			}
			if s, err := e.runner.Stats(t.Context()); err != nil || s.Lag != 0 {
				t.Errorf("caught up: %+v, %v", s, err)
			}
		}
	})
}

func TestDamageAfterACrashIsFoundWithoutAQuery(t *testing.T) {
	log, dir := grown(500, 4), t.TempDir()
	e := start(t, dir, log)
	e.caughtUp(t, log)
	crashed := t.TempDir()
	files, err := filepath.Glob(filepath.Join(dir, "views-*.db*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(crashed, filepath.Base(f)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overwritePages(t, filepath.Join(crashed, "views-000001.db"), 0.1, 0.3) // the schema stands elsewhere: it opens
	rebuilt := make(chan bool, 1)
	after := start(t, crashed, log, func(o *projections.Options) {
		o.OnChange = func(c projections.Change) {
			// Whether the damaged file was served for a moment is a matter of who is faster.
			if _, err := os.Stat(filepath.Join(crashed, "views-000002.db")); c.All && err == nil {
				select {
				case rebuilt <- true:
				default:
				}
			}
		}
	})
	select {
	case <-rebuilt:
	case <-time.After(30 * time.Second):
		t.Fatal("never rebuilt")
	}
	if diff := cmp.Diff(e.dump(t), after.dump(t)); diff != "" {
		t.Errorf("rebuilt (-whole +rebuilt):\n%s", diff)
	}
}

func TestLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(projectiontest.Log)
		log.Append("tenant-t1", "t1", noon, domain.TenantCreated{TenantID: "t1", Name: "One"})
		var times atomic.Int32
		all := projections.All()
		all[0] = failing{all[0], domain.At(20), &times}
		e := start(t, t.TempDir(), log, func(o *projections.Options) { o.Projections = all })
		defer e.stop()
		<-e.runner.Ready()
		times.Store(10)
		log.Append("tenant-t1", "t1", noon, domain.TenantRenamed{Name: "Two"})
		synctest.Wait()
		lag := func() time.Duration {
			t.Helper()
			s, err := e.runner.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return s.Lag
		}
		if got := lag(); got != 0 {
			t.Errorf("lag when first seen behind: %v, want 0", got)
		}
		<-time.After(3 * time.Second)
		if got := lag(); got != 3*time.Second {
			t.Errorf("lag 3 s later: %v", got)
		}
		if err := e.runner.WaitFor(t.Context(), domain.At(20)); err != nil {
			t.Fatal(err)
		}
		if got := lag(); got != 0 {
			t.Errorf("lag when caught up: %v", got)
		}
	})
}

func TestNothingToAnswerWith(t *testing.T) {
	store, err := views.Open(t.Context(), views.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := projections.TenantByID(t.Context(), store, "t1"); !errors.Is(err, projections.ErrNotReady) {
		t.Errorf("query before anything was built: %v, want ErrNotReady", err)
	}
}

// Live and rebuilt views have the same digest; one changed cell is named by its table.
func TestDigestNamesWhatDiffers(t *testing.T) {
	log := grown(400, 7)
	dirs := []string{t.TempDir(), t.TempDir()}
	for _, dir := range dirs {
		e := start(t, dir, log)
		e.caughtUp(t, log)
		e.stop()
	}
	digest := func(dir string) views.Digest {
		t.Helper()
		d, err := views.DigestOf(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	a, b := digest(dirs[0]), digest(dirs[1])
	if len(a.Differing(b)) != 0 || a.Rows < 400 || a.Position != b.Position || a.Fingerprint != b.Fingerprint {
		t.Fatalf("%v differ; %d rows at %s and %s", a.Differing(b), a.Rows, a.Position, b.Position)
	}
	files, err := filepath.Glob(filepath.Join(dirs[1], "views-*.db"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	conn, err := sqlite.OpenConn(files[0], sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(sqlitex.ExecuteTransient(conn, "UPDATE users SET doc = replace(doc, '{', '{ ') WHERE rowid = (SELECT min(rowid) FROM users)", nil), conn.Close())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"users"}, a.Differing(digest(dirs[1]))); diff != "" {
		t.Error(diff)
	}
	if _, err := views.DigestOf(t.Context(), t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no views: %v", err)
	}
}
