package views_test

import (
	"context"

	"math/rand/v2"

	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ledgerline/adapters/views"

	"ledgerline/projections"
	"ledgerline/projections/projectiontest"
)

// engine is a store and a runner that follows a log.
type engine struct {
	store  *views.Store
	runner *projections.Runner
	stop   func()
}

// start runs the views of log in dir; extra options may change what the runner gets.
func start(t testing.TB, dir string, log projections.Log, change ...func(*projections.Options)) *engine {
	t.Helper()
	store, err := views.Open(t.Context(), views.Options{Dir: dir, CacheBytes: 4096})
	if err != nil {
		t.Fatal(err)
	}
	o := projections.Options{Log: log, Store: store, Projections: projections.All(), Now: time.Now}
	for _, c := range change {
		c(&o)
	}
	e := &engine{store: store, runner: projections.NewRunner(o)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.runner.Run(ctx) }()
	e.stop = func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := store.Close(); err != nil {
			t.Errorf("close views: %v", err)
		}
		e.stop = func() {}
	}
	t.Cleanup(func() { e.stop() })
	return e
}

// caughtUp waits until the views show the whole log.
func (e *engine) caughtUp(t testing.TB, log projections.Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	head, err := log.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.runner.WaitFor(ctx, head); err != nil {
		s, _ := e.runner.Stats(context.Background())
		t.Fatalf("%v (%+v)", err, s)
	}
}

// dump is every row of every table as text.
func (e *engine) dump(t testing.TB) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	for _, table := range projections.NewPlan(projections.All()).Tables {
		names := []string{}
		for _, c := range table.Columns {
			names = append(names, "quote("+strings.Fields(c)[0]+")")
		}
		if table.Decode != nil {
			names = append(names, "quote(key)", "doc")
		}
		out[table.Name] = e.select_(t, "SELECT "+strings.Join(names, "||'|'||")+" FROM "+table.Name)
		for _, l := range table.Linked {
			names := []string{"owner"}
			for _, c := range l.Columns {
				names = append(names, strings.Fields(c)[0])
			}
			out[l.Name] = e.select_(t, "SELECT "+strings.Join(names, "||'|'||")+" FROM "+l.Name)
		}
	}
	return out
}

func (e *engine) select_(t testing.TB, sql string) []string {
	t.Helper()
	rows := []string{}
	err := e.store.Query(context.Background(), sql, nil, func(r projections.Row) error {
		rows = append(rows, r.Text(0))
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	slices.Sort(rows)
	return rows
}

func choose(seed uint64) func(int) int {
	r := rand.New(rand.NewPCG(seed, 1))
	return r.IntN
}

// So many events that a rebuild writes what is appended beside the folding, and reads back rows it had let
// go of, give what following them in small batches gives.
func TestLongRebuildEqualsLive(t *testing.T) {
	whole := grown(4000, 11)
	log := whole.Prefix(0)
	live := start(t, t.TempDir(), log)
	for log.Len() < whole.Len() {
		log.Extend(whole, min(whole.Len(), log.Len()+500))
		live.caughtUp(t, log)
	}
	kept := live.dump(t)
	if n := len(kept["history"]); n < 3000 {
		t.Fatalf("history has %d rows only", n)
	}
	fresh := start(t, t.TempDir(), whole)
	fresh.caughtUp(t, whole)
	if diff := cmp.Diff(kept, fresh.dump(t)); diff != "" {
		t.Errorf("rebuilt differs from live (-live +rebuilt):\n%.4000s", diff)
	}
}

func TestRebuiltEqualsLive(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		world := projectiontest.NewWorld(new(projectiontest.Log), func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "choice") })
		world.Grow(rapid.IntRange(2, 120).Draw(rt, "events"))
		whole := world.Log

		// Live: the log grows under the runner in pieces, which also stops and starts again.
		log, dir := whole.Prefix(0), t.TempDir()
		batch := func(o *projections.Options) { o.Batch = rapid.IntRange(1, 20).Draw(rt, "batch") }
		live := start(t, dir, log, batch)
		for log.Len() < whole.Len() {
			log.Extend(whole, min(whole.Len(), log.Len()+rapid.IntRange(1, 40).Draw(rt, "piece")))
			live.caughtUp(t, log)
			if rapid.IntRange(0, 3).Draw(rt, "restart") == 0 {
				live.stop()
				live = start(t, dir, log, batch)
			}
		}
		live.caughtUp(t, log)
		kept := live.dump(t)
		if err := live.runner.Rebuild(context.Background()); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(kept, live.dump(t)); diff != "" {
			rt.Fatalf("rebuilt beside differs from live (-live +rebuilt):\n%s", diff)
		}
		live.stop()

		fresh := start(t, t.TempDir(), whole)
		defer fresh.stop()
		fresh.caughtUp(t, whole)
		if diff := cmp.Diff(kept, fresh.dump(t)); diff != "" {
			rt.Fatalf("rebuilt from nothing differs from live (-live +rebuilt):\n%s", diff)
		}
	})
}
