package ledger_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"ledgerline/adapters/ledger"
	"ledgerline/domain"
)

// TestMain runs the child of TestKill instead of the tests when asked to.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LEDGERLINE_TEST_VICTIM"); dir != "" {
		victim(dir)
	}
	os.Exit(m.Run())
}

// victim appends with 8 writers for ever and prints each acknowledged event: stream, revision, id.
func victim(dir string) {
	l, err := ledger.Open(context.Background(), ledger.Options{Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for range 8 {
		go func() {
			for {
				stream := domain.Stream("device", uuid.NewString())
				for i := range 20 {
					events := []domain.NewEvent{fact(i), fact(i)}
					if _, err := l.Append(context.Background(), stream, domain.Revision(2*i-1), events); err != nil {
						fmt.Fprintln(os.Stderr, err)
						os.Exit(1)
					}
					// One write each: whole lines, before anything else happens.
					fmt.Printf("%s %d %s %s\n", stream, 2*i, events[0].ID, events[1].ID)
				}
			}
		}()
	}
	select {}
}

// TestKill is D1: killed under load with SIGKILL, again and again, the log has every acknowledged event
// at its place, no append by half, and a chain that holds.
func TestKill(t *testing.T) {
	o := ledger.Options{Dir: t.TempDir()}
	acknowledged := map[string]string{} // "stream revision" -> id
	for round := range 5 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "LEDGERLINE_TEST_VICTIM="+o.Dir)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := 0
		for s := bufio.NewScanner(out); s.Scan(); {
			f := strings.Fields(s.Text())
			if len(f) != 4 || len(f[3]) != 36 {
				continue // the line the kill cut short
			}
			revision, _ := strconv.Atoi(f[1])
			acknowledged[f[0]+" "+f[1]] = f[2]
			acknowledged[f[0]+" "+strconv.Itoa(revision+1)] = f[3]
			if lines++; lines == 100+137*round {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = child.Wait() // killed: its error says only that
		l := open(t, o)
		if _, err := l.Verify(t.Context(), domain.Position{}); err != nil {
			t.Fatal(err)
		}
		found, streams := map[string]string{}, map[domain.StreamID]int{}
		for _, r := range readAll(t, l) {
			key := fmt.Sprintf("%s %d", r.Stream, r.Revision)
			if found[key] != "" {
				t.Fatalf("%s is there twice", key)
			}
			found[key] = r.ID.String()
			streams[r.Stream]++
		}
		for key, id := range acknowledged {
			if found[key] != id {
				t.Fatalf("acknowledged event %s at %s is lost: there is %q", id, key, found[key])
			}
		}
		for s, n := range streams {
			if n%2 != 0 {
				t.Fatalf("%s has %d events: half an append", s, n)
			}
		}
		shut(t, l)
	}
	if len(acknowledged) < 1000 {
		t.Fatalf("only %d events were acknowledged: nothing was shown", len(acknowledged))
	}
}

// TestDiskFull is D5: without space an append fails whole and says so, reading goes on, and once there is
// space the same append succeeds, without a restart.
func TestDiskFull(t *testing.T) {
	l := open(t, ledger.Options{Dir: t.TempDir()})
	if _, err := l.Append(t.Context(), device(0), domain.NoStream, []domain.NewEvent{fact(0)}); err != nil {
		t.Fatal(err)
	}
	if err := l.Exec(t.Context(), "pragma max_page_count = 40"); err != nil {
		t.Fatal(err)
	}
	big := fact(1)
	big.Data = []byte(`"` + strings.Repeat("x", 400<<10) + `"`)
	several := []domain.NewEvent{fact(2), big, fact(3)}
	for range 3 {
		_, err := l.Append(t.Context(), device(1), domain.NoStream, several)
		if !errors.Is(err, ledger.ErrNoSpace) || !errors.Is(err, domain.ErrReadOnly) || errors.Is(err, domain.ErrOutcomeUnknown) {
			t.Fatalf("append without space: %v", err)
		}
		if got := readAll(t, l); len(got) != 1 {
			t.Fatalf("%d events, want the one from before", len(got))
		}
		if err := l.Err(); err != nil {
			t.Fatalf("the writer gave up: %v", err)
		}
	}
	if err := l.Exec(t.Context(), "pragma max_page_count = 100000"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), device(1), domain.NoStream, several); err != nil {
		t.Fatalf("append with space again: %v", err)
	}
	if got := readAll(t, l); len(got) != 4 {
		t.Fatalf("%d events, want 4", len(got))
	}
	if _, err := l.Verify(t.Context(), domain.Position{}); err != nil {
		t.Fatal(err)
	}
}

// TestFailingDisk holds that a commit that fails on the disk is never called written, that the writer
// stops for good, and that reading goes on. The file descriptors of the write-ahead log are replaced by
// ones that cannot write.
func TestFailingDisk(t *testing.T) {
	o := ledger.Options{Dir: t.TempDir()}
	l := open(t, o)
	if _, err := l.Append(t.Context(), device(0), domain.NoStream, []domain.NewEvent{fact(0)}); err != nil {
		t.Fatal(err)
	}
	if n := breakWAL(t, filepath.Join(o.Dir, "ledger.db-wal")); n == 0 {
		t.Fatal("no descriptor of the write-ahead log found")
	}
	_, err := l.Append(t.Context(), device(1), domain.NoStream, []domain.NewEvent{fact(1)})
	if !errors.Is(err, domain.ErrOutcomeUnknown) {
		t.Fatalf("append on a failing disk: %v", err)
	}
	for range 2 {
		if _, err := l.Append(t.Context(), device(2), domain.NoStream, []domain.NewEvent{fact(2)}); !errors.Is(err, domain.ErrReadOnly) {
			t.Fatalf("append after the failure: %v", err)
		}
	}
	if l.Err() == nil {
		t.Fatal("Err says nothing")
	}
	if got := readAll(t, l); len(got) != 1 {
		t.Fatalf("%d events are shown, want 1", len(got))
	}
	_ = l.Close() // may fail for the same reason
	l = open(t, o)
	if _, err := l.Verify(t.Context(), domain.Position{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), device(1), domain.Any, []domain.NewEvent{fact(1)}); err != nil {
		t.Fatalf("append after a restart: %v", err)
	}
}

// breakWAL replaces every descriptor of the file in this process by a read-only one.
func breakWAL(t *testing.T, path string) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		fd, _ := strconv.Atoi(e.Name())
		if target != path {
			continue
		}
		ro, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Dup3(int(ro.Fd()), fd, syscall.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		if err := ro.Close(); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// TestBackupUnderLoad is D6: a backup taken while 8 writers append opens as a ledger and is a prefix.
func TestBackupUnderLoad(t *testing.T) {
	l := open(t, ledger.Options{Dir: t.TempDir()})
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if _, err := l.Append(context.Background(), device(w), domain.Revision(i-1), []domain.NewEvent{fact(i)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var lengths []int
	for round := range 3 {
		for r, err := range l.Subscribe(ctx, domain.Position{}) { // until there is enough to copy
			if err != nil {
				t.Fatal(err)
			}
			if r.Position == domain.At(uint64(300*(round+1))) {
				break
			}
		}
		dir := t.TempDir()
		if err := l.Backup(t.Context(), filepath.Join(dir, "ledger.db")); err != nil {
			t.Fatal(err)
		}
		b := open(t, ledger.Options{Dir: dir})
		if b.ID() != l.ID() {
			t.Fatal("the backup is of another log")
		}
		if _, err := b.Verify(t.Context(), domain.Position{}); err != nil {
			t.Fatal(err)
		}
		got, whole := readAll(t, b), readAll(t, l)
		if len(got) < 300*(round+1) || len(got) > len(whole) {
			t.Fatalf("the backup has %d events, the log %d", len(got), len(whole))
		}
		for i := range got {
			if domain.LeafHash(got[i]) != domain.LeafHash(whole[i]) || got[i].Position != whole[i].Position {
				t.Fatalf("event %d of the backup is another one", i)
			}
		}
		if err := l.Backup(t.Context(), filepath.Join(dir, "ledger.db")); !errors.Is(err, os.ErrExist) {
			t.Fatalf("backup over an existing file: %v", err)
		}
		lengths = append(lengths, len(got))
	}
	stop()
	writers.Wait()
	if lengths[2] <= lengths[0] {
		t.Fatalf("nothing was written meanwhile: %v", lengths)
	}
}

// TestOneBatch: appends in one transaction are judged each on its own. A conflict fails only its caller, a
// repetition is answered as the first, a later one sees what an earlier one wrote.
func TestOneBatch(t *testing.T) {
	l := open(t, ledger.Options{Dir: t.TempDir()})
	events := []domain.NewEvent{fact(0), fact(1), fact(2)}
	var errs [5]error
	var at [5]domain.Position
	try := func(i int, s domain.StreamID, expected domain.Revision, e ...domain.NewEvent) func() {
		return func() { at[i], errs[i] = l.Append(context.Background(), s, expected, e) }
	}
	l.Batch(t.Context(),
		try(0, device(1), domain.NoStream, events[0]),
		try(1, device(1), domain.NoStream, fact(9)), // conflict
		try(2, device(1), 0, events[1], events[2]),  // behind the first
		try(3, device(1), domain.NoStream, events[0]),
		try(4, device(2), domain.Any, fact(7)))
	if !errors.Is(errs[1], domain.ErrConflict) || errors.Join(errs[0], errs[2], errs[3], errs[4]) != nil {
		t.Fatalf("%v", errs)
	}
	if at != [5]domain.Position{domain.At(1), {}, domain.At(3), domain.At(1), domain.At(4)} {
		t.Fatalf("positions %v", at)
	}
}

// TestDiskFullInABatch: when one append of a transaction finds no space none of it is written, and the
// streams of the others are where they were.
func TestDiskFullInABatch(t *testing.T) {
	l := open(t, ledger.Options{Dir: t.TempDir()})
	if err := l.Exec(t.Context(), "pragma max_page_count = 40"); err != nil {
		t.Fatal(err)
	}
	big := fact(1)
	big.Data = []byte(`"` + strings.Repeat("x", 400<<10) + `"`)
	var errs [2]error
	l.Batch(t.Context(),
		func() {
			_, errs[0] = l.Append(context.Background(), device(1), domain.NoStream, []domain.NewEvent{fact(0)})
		},
		func() {
			_, errs[1] = l.Append(context.Background(), device(2), domain.NoStream, []domain.NewEvent{big})
		})
	for i, err := range errs {
		if !errors.Is(err, ledger.ErrNoSpace) {
			t.Fatalf("append %d: %v", i, err)
		}
	}
	if p, err := l.Append(t.Context(), device(1), domain.NoStream, []domain.NewEvent{fact(5)}); err != nil || p != domain.At(1) {
		t.Fatalf("a small append after it: %s, %v", p, err)
	}
	if _, err := l.Append(t.Context(), device(3), domain.NoStream, []domain.NewEvent{fact(6)}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Verify(t.Context(), domain.Position{}); err != nil {
		t.Fatal(err)
	}
}
