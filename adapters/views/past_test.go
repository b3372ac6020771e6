package views_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/views"
	"ledgerline/domain"
	"ledgerline/projections"
	"ledgerline/projections/projectiontest"
)

// rowsOf is all devices and users, as JSON.
func rowsOf(t *testing.T, q projections.Querier) string {
	t.Helper()
	d, err := projections.ListDevices(t.Context(), q, projections.DeviceFilter{Ended: true}, projections.Page{Limit: projections.MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	u, err := projections.ListUsers(t.Context(), q, projections.UserFilter{Removed: true}, projections.Page{Limit: projections.MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := json.MarshalIndent([]any{d.Items, u.Items}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(rows)
}

// foldedAt is what views of the first events say that were made by nothing else.
func foldedAt(t *testing.T, log *projectiontest.Log, events int) string {
	t.Helper()
	e := start(t, t.TempDir(), log.Prefix(events))
	e.caughtUp(t, log.Prefix(events))
	return rowsOf(t, e.store)
}

func positionOf(t *testing.T, log *projectiontest.Log, events int) domain.Position {
	t.Helper()
	at, err := log.Prefix(events).Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// Whatever order moments are asked for in, at once or one after the other, with snapshots to begin from or
// without, the past is what the log's beginning folds to.
func TestPastIsWhatThePrefixFoldsTo(t *testing.T) {
	log, dir := grown(300, 3), t.TempDir()
	past := views.NewPast(views.PastOptions{Dir: dir, Log: log, Keep: 2})
	defer past.Close()
	var wg sync.WaitGroup
	for _, n := range []int{200, 50, 200, 120, 300, 50} {
		want := foldedAt(t, log, n)
		wg.Go(func() {
			q, release, err := past.At(t.Context(), positionOf(t, log, n))
			if err != nil {
				t.Errorf("at event %d: %v", n, err)
				return
			}
			defer release()
			if diff := cmp.Diff(want, rowsOf(t, q)); diff != "" {
				t.Errorf("at event %d (-folded +past):\n%s", n, diff)
			}
		})
	}
	wg.Wait()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("snapshots kept: %v %v; want 2", left, err)
	}
}

// A snapshot on disk may be of another log, or damaged: it is made anew.
func TestPastDistrustsWhatItFinds(t *testing.T) {
	one, other, dir := grown(200, 5), grown(200, 6), t.TempDir()
	at := positionOf(t, one, 100)
	open := func(log *projectiontest.Log) string {
		past := views.NewPast(views.PastOptions{Dir: dir, Log: log})
		defer past.Close()
		q, release, err := past.At(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		return rowsOf(t, q)
	}
	open(one)
	if diff := cmp.Diff(foldedAt(t, other, 100), open(other)); diff != "" {
		t.Errorf("after the log changed (-folded +past):\n%s", diff)
	}
	files, err := filepath.Glob(filepath.Join(dir, at.String(), "views-*.db"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files: %v %v", files, err)
	}
	if err := os.WriteFile(files[0], slices.Repeat([]byte("x"), 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(foldedAt(t, other, 100), open(other)); diff != "" {
		t.Errorf("after damage (-folded +past):\n%s", diff)
	}
}

// Whoever waits may give up; the folding does not, until Close.
func TestPastOutlivesWhoAsked(t *testing.T) {
	log := &heldLog{Log: grown(100, 7), release: make(chan struct{})}
	past := views.NewPast(views.PastOptions{Dir: t.TempDir(), Log: log})
	at := positionOf(t, log.Log, 100)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := past.At(ctx, at); !errors.Is(err, context.Canceled) {
		t.Errorf("asked with an ended context: %v", err)
	}
	close(log.release)
	q, release, err := past.At(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(foldedAt(t, log.Log, 100), rowsOf(t, q)); diff != "" {
		t.Errorf("(-folded +past):\n%s", diff)
	}
	release()
	if err := past.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := past.At(t.Context(), at); !errors.Is(err, context.Canceled) {
		t.Errorf("after Close: %v", err)
	}
}
