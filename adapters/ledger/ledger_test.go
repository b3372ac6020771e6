package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/adapters/ledger"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/contract"
)

// open opens the ledger in dir and closes it with the test.
func open(t *testing.T, o ledger.Options) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func shut(t *testing.T, l *ledger.Ledger) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLogContract(t *testing.T) {
	contract.Log(t, func(t *testing.T) contract.LogUnderTest {
		o := ledger.Options{Dir: t.TempDir()}
		l := open(t, o)
		return contract.LogUnderTest{Log: l, Reopen: func(t *testing.T) commands.Log {
			shut(t, l)
			return open(t, o)
		}}
	})
}

func TestReactorStoreContract(t *testing.T) {
	contract.ReactorStore(t, func(t *testing.T) contract.ReactorUnderTest {
		o := ledger.Options{Dir: t.TempDir()}
		l := open(t, o)
		return contract.ReactorUnderTest{Store: l, Reopen: func(t *testing.T) commands.ReactorStore {
			shut(t, l)
			return open(t, o)
		}}
	})
}

// TestSecondServerIsRefused is D9: the refusal names the process that has the ledger; readers come in.
func TestSecondServerIsRefused(t *testing.T) {
	o := ledger.Options{Dir: t.TempDir()}
	l := open(t, o)
	_, err := ledger.Open(t.Context(), o)
	if !errors.Is(err, ledger.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d on host ", os.Getpid())) {
		t.Fatalf("second open: %v", err)
	}
	if _, err := l.Append(t.Context(), device(1), domain.NoStream, []domain.NewEvent{fact(1)}); err != nil {
		t.Fatalf("the first is disturbed: %v", err)
	}
	shut(t, l)
	open(t, o)
}

// TestReadOnly opens beside a running server, sees what it writes, and writes nothing.
func TestReadOnly(t *testing.T) {
	o := ledger.Options{Dir: t.TempDir()}
	if _, err := ledger.Open(t.Context(), ledger.Options{Dir: o.Dir, ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("read-only open of nothing: %v", err)
	}
	server := open(t, o)
	r := open(t, ledger.Options{Dir: o.Dir, ReadOnly: true})
	if _, err := r.Append(t.Context(), device(1), domain.NoStream, []domain.NewEvent{fact(1)}); !errors.Is(err, domain.ErrReadOnly) {
		t.Fatalf("append: %v", err)
	}
	if err := r.SaveReactor(t.Context(), "x", commands.ReactorState{}); !errors.Is(err, domain.ErrReadOnly) {
		t.Fatalf("save: %v", err)
	}
	next, stop := iter.Pull2(r.Subscribe(t.Context(), domain.Position{}))
	defer stop()
	for i := range 3 {
		p, err := server.Append(t.Context(), device(1), domain.Revision(i-1), []domain.NewEvent{fact(i)})
		if err != nil {
			t.Fatal(err)
		}
		if got, err, more := next(); err != nil || !more || got.Position != p {
			t.Fatalf("the reader sees %v, %v, %v", got.Position, err, more)
		}
		if head, err := r.Head(t.Context()); err != nil || head != p {
			t.Fatalf("its head is %s, %v", head, err)
		}
	}
	shut(t, server)
	if _, err := r.Verify(t.Context(), domain.Position{}); err != nil {
		t.Fatal(err)
	}
	cold := open(t, ledger.Options{Dir: o.Dir, ReadOnly: true})
	if got := readAll(t, cold); len(got) != 3 {
		t.Fatalf("with no server running %d events are seen, want 3", len(got))
	}
}

// TestNewerFormatIsRefused is D30.
func TestNewerFormatIsRefused(t *testing.T) {
	o := history(t, 10)
	meddle(t, o, `update meta set value = '99' where key = 'format'`)
	if _, err := ledger.Open(t.Context(), o); !errors.Is(err, ledger.ErrNewer) || !strings.Contains(err.Error(), "99") {
		t.Fatalf("open: %v", err)
	}
}

// TestNotALedger opens a file of something else.
func TestNotALedger(t *testing.T) {
	o := ledger.Options{Dir: t.TempDir()}
	write(t, o, "ledger.db", bytes.Repeat([]byte("no ledger "), 1000))
	if _, err := ledger.Open(t.Context(), o); !errors.Is(err, domain.ErrDamaged) {
		t.Fatalf("open: %v", err)
	}
}

// TestNetworkFileSystems are refused by their statfs number.
func TestNetworkFileSystems(t *testing.T) {
	for _, kind := range []uint32{0x6969, 0xff534d42, 0xfe534d42, 0x517b, 0x01021997} {
		if err := ledger.LocalType(kind); !errors.Is(err, ledger.ErrRemote) {
			t.Errorf("%#x: %v", kind, err)
		}
	}
	for _, kind := range []uint32{0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x2fc12fc1} { // ext4, xfs, btrfs, tmpfs, zfs
		if err := ledger.LocalType(kind); err != nil {
			t.Errorf("%#x: %v", kind, err)
		}
	}
}

// TestIDsAreUniqueInTheirStream is D6: at the right revision too, an id the stream has already is refused,
// and nothing of its append stays.
func TestIDsAreUniqueInTheirStream(t *testing.T) {
	l := open(t, ledger.Options{Dir: t.TempDir()})
	old := []domain.NewEvent{fact(0), fact(1)}
	if _, err := l.Append(t.Context(), device(1), domain.NoStream, old); err != nil {
		t.Fatal(err)
	}
	for _, expected := range []domain.Revision{1, domain.Any, domain.StreamExists} {
		if _, err := l.Append(t.Context(), device(1), expected, []domain.NewEvent{fact(2), fact(3), old[0]}); !errors.Is(err, domain.ErrConflict) {
			t.Fatalf("expected %d: %v", expected, err)
		}
	}
	twice := fact(9)
	if _, err := l.Append(t.Context(), device(1), 1, []domain.NewEvent{twice, twice}); err == nil {
		t.Fatal("one id twice in one append was taken")
	}
	if p, err := l.Append(t.Context(), device(1), 1, []domain.NewEvent{fact(4)}); err != nil || p != domain.At(3) {
		t.Fatalf("the next append: %s, %v", p, err)
	}
	if _, err := l.Verify(t.Context(), domain.Position{}); err != nil {
		t.Fatal(err)
	}
}

// TestBadAppends are refused before they reach the writer.
func TestBadAppends(t *testing.T) {
	l := open(t, ledger.Options{Dir: t.TempDir()})
	noID, noType := fact(1), fact(1)
	noID.ID, noType.Type = uuid.Nil, ""
	for name, a := range map[string]struct {
		stream   domain.StreamID
		expected domain.Revision
		event    domain.NewEvent
	}{
		"no stream name":      {"", domain.Any, fact(1)},
		"a name not UTF-8":    {"device-\xff", domain.Any, fact(1)},
		"a name with NUL":     {"device-\x00", domain.Any, fact(1)},
		"no such expectation": {device(1), -3, fact(1)},
		"no id":               {device(1), domain.Any, noID},
		"no type":             {device(1), domain.Any, noType},
	} {
		if _, err := l.Append(t.Context(), a.stream, a.expected, []domain.NewEvent{a.event}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if head, err := l.Head(t.Context()); err != nil || !head.IsZero() {
		t.Fatalf("head is %s, %v", head, err)
	}
}

// TestBinaryPayloads come back unchanged, though JSON text is stored as text.
func TestBinaryPayloads(t *testing.T) {
	l := open(t, ledger.Options{Dir: t.TempDir()})
	want := []domain.NewEvent{fact(1), fact(2), fact(3)}
	want[0].Data, want[0].Metadata = []byte{0, 1, 2, 0xff, 0}, nil
	want[1].Data = []byte("text\x00with NUL")
	want[2].Data = nil
	if _, err := l.Append(t.Context(), device(1), domain.NoStream, want); err != nil {
		t.Fatal(err)
	}
	for i, r := range readAll(t, l) {
		if !bytes.Equal(r.Data, want[i].Data) || !bytes.Equal(r.Metadata, want[i].Metadata) {
			t.Errorf("event %d came back as %q, %q", i, r.Data, r.Metadata)
		}
	}
	if _, err := l.Verify(t.Context(), domain.Position{}); err != nil {
		t.Fatal(err)
	}
}

// TestReadableWithPlainSQL holds that sqlite3 shows streams, types and JSON as text.
func TestReadableWithPlainSQL(t *testing.T) {
	o := history(t, 10)
	conn, err := sqlite.OpenConn(filepath.Join(o.Dir, "ledger.db"), sqlite.OpenReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rows := 0
	err = sqlitex.Execute(conn, "select stream, type, data ->> 'name', metadata ->> 'actor', typeof(data), id from events where stream = 'device-000000000000' order by revision", &sqlitex.ExecOptions{
		ResultFunc: func(s *sqlite.Stmt) error {
			if s.ColumnText(1) != "tenant.renamed" || s.ColumnText(2) != fmt.Sprintf("Städtische Werke %d", rows) || s.ColumnText(3) != "apikey:018f3a1c9b7d" || s.ColumnText(4) != "text" || len(s.ColumnText(5)) != 36 {
				t.Errorf("row %d: %s %s %s", rows, s.ColumnText(1), s.ColumnText(2), s.ColumnText(4))
			}
			rows++
			return nil
		}})
	if err != nil || rows != 10 {
		t.Fatalf("%d rows, %v", rows, err)
	}
}

// TestClose ends what waits: subscriptions say so, appends are refused, a second Close is no error.
func TestClose(t *testing.T) {
	l := open(t, ledger.Options{Dir: t.TempDir()})
	ended := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		var last error
		for r, err := range l.Subscribe(context.Background(), domain.Position{}) {
			if last = err; r.Position == domain.At(1) {
				close(ready)
			}
		}
		ended <- last
	}()
	if _, err := l.Append(t.Context(), device(1), domain.NoStream, []domain.NewEvent{fact(1)}); err != nil {
		t.Fatal(err)
	}
	<-ready
	shut(t, l)
	if err := <-ended; !errors.Is(err, ledger.ErrClosed) {
		t.Fatalf("the subscription ended with %v", err)
	}
	if _, err := l.Append(t.Context(), device(1), 0, []domain.NewEvent{fact(2)}); !errors.Is(err, domain.ErrReadOnly) || !errors.Is(err, ledger.ErrClosed) {
		t.Fatalf("append: %v", err)
	}
	for _, err := range l.Read(t.Context(), device(1), 0) {
		if !errors.Is(err, ledger.ErrClosed) {
			t.Fatalf("read: %v", err)
		}
	}
	shut(t, l)
}

// TestFilesArePrivate: payloads are sealed, names and times are not.
func TestFilesArePrivate(t *testing.T) {
	o := ledger.Options{Dir: t.TempDir()}
	open(t, o)
	for _, name := range []string{"ledger.db", "ledger.db-wal", "ledger.lock"} {
		info, err := os.Stat(filepath.Join(o.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
	}
}

// TestWhole: the ledger seen whole shows what the port leaves out, in the one order of positions, also live;
// its head is the last event there is.
func TestWhole(t *testing.T) {
	l := open(t, ledger.Options{Dir: t.TempDir()})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	put := func(s domain.StreamID) {
		t.Helper()
		if _, err := l.Append(ctx, s, domain.Any, []domain.NewEvent{{ID: uuid.Must(uuid.NewV7()), Type: "a.b", Data: []byte("{}")}}); err != nil {
			t.Fatal(err)
		}
	}
	streams := []domain.StreamID{"$$probe-1", "device-1", "$system", "device-2", "$$probe-1"}
	for _, s := range streams[:4] {
		put(s)
	}
	i := 0
	for r, err := range l.Whole().Subscribe(ctx, domain.Position{}) {
		if err != nil || r.Stream != streams[i] {
			t.Fatalf("event %d is of %s, %v; want %s", i, r.Stream, err, streams[i])
		}
		if i++; i == len(streams) {
			break
		}
		if i == 4 {
			put(streams[4])
		}
	}
	n := 0
	for _, err := range l.Whole().ReadAll(ctx, domain.At(1)) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	whole, err := l.Whole().Head(ctx)
	shown, err2 := l.Head(ctx)
	if n != 4 || err != nil || err2 != nil || !shown.Before(whole) {
		t.Errorf("%d events behind the first; head %s, %v; of what the port shows %s, %v", n, whole, err, shown, err2)
	}
}
