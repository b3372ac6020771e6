package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/adapters/ledger"
	"ledgerline/domain"
)

// history writes n events in streams of ten into a new ledger and closes it.
func history(t *testing.T, n int) ledger.Options {
	t.Helper()
	o := ledger.Options{Dir: t.TempDir()}
	l := open(t, o)
	for s := range n / 10 {
		events := make([]domain.NewEvent, 10)
		for i := range events {
			events[i] = fact(s*10 + i)
		}
		if _, err := l.Append(t.Context(), device(s), domain.NoStream, events); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, l)
	return o
}

// meddle does to the file what somebody with sqlite3 could do.
func meddle(t *testing.T, o ledger.Options, script string) {
	t.Helper()
	conn, err := sqlite.OpenConn(filepath.Join(o.Dir, "ledger.db"), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
		t.Fatal(err)
	}
}

// TestDamageIsFoundWithItsPlace is D4 and D7: whatever is changed in the file is found, and the error
// says where.
func TestDamageIsFoundWithItsPlace(t *testing.T) {
	const swap = `
		create temp table s as select * from events where position in (25, 48);
		delete from events where position in (25, 48);
		insert into events (position, sid, stream, revision, id, type, chain, metadata, data) select 73 - position, sid, stream, revision, id, type, %s, metadata, data from s;`
	for _, c := range []struct{ name, script, place, what string }{
		{"a byte of data", `update events set data = replace(data, 'Werke 33', 'Werke 34') where position = 34`, "position 34 (revision 3 of device-000000000003)", "changed"},
		{"a byte of metadata", `update events set metadata = replace(metadata, 'apikey', 'apikez') where position = 34`, "position 34", "changed"},
		{"the type", `update events set type = 'tenant.deleted' where position = 1`, "position 1 ", "changed"},
		{"the id", `update events set id = '018f3a1c-9b7d-7e21-a4c5-d6e7f8091a2b' where position = 34`, "position 34", "changed"},
		{"an id that is none", `update events set id = 'x' where position = 34`, "position 34", "not a UUID"},
		{"the revision", `update events set revision = 11 where position = 40`, "position 40", "changed"},
		{"the stream", `update events set stream = 'device-x' where position = 40`, "position 40", "changed"},
		{"the sid", `update events set sid = 99 where position = 40`, "position 40", "sid"},
		{"a chain hash", `update events set chain = zeroblob(32) where position = 34`, "position 34", "chain hash"},
		{"the last chain hash", `update events set chain = zeroblob(32) where position = 100`, "position 100", "changed"},
		{"a row in the middle removed", `delete from events where position = 34`, "position 34", "missing; revisions are missing in device-000000000003"},
		{"three rows removed", `delete from events where position between 34 and 36`, "position 34", "the next 2 are missing"},
		{"the first row removed", `delete from events where position = 1`, "position 1", "missing"},
		{"the last row removed", `delete from events where position = 100`, "position 100", "missing"},
		{"removed, and the rest moved up", `delete from events where position = 34; update events set position = position - 1 where position > 34; update head set position = 99`, "position 34", "changed"},
		{"a row inserted behind the end", `insert into events select 101, sid, stream, 10, 'x', type, chain, metadata, data from events where position = 100`, "position 101", "outside the log"},
		{"two rows swapped", fmt.Sprintf(swap, "chain"), "position 25", "swapped with position 48"},
		{"the content of two rows swapped", fmt.Sprintf(swap, "(select chain from s o where o.position <> s.position)"), "position 25", "swapped with position 48"},
		{"all rows removed", `delete from events`, "position 1", "the next 99 are missing"},
		{"the head row removed", `delete from head`, "", "head row is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := history(t, 100)
			l := open(t, o)
			meddle(t, o, c.script)
			report, err := l.Verify(t.Context(), domain.Position{})
			if !errors.Is(err, domain.ErrDamaged) || !strings.Contains(err.Error(), c.place) || !strings.Contains(err.Error(), c.what) {
				t.Fatalf("verify says %v (%v), want %q and %q", err, report.Findings, c.place, c.what)
			}
			if n := len(report.Findings); n > 4 {
				t.Fatalf("%d findings for one change: %v", n, report.Findings)
			}
			shut(t, l)
			if c.name == "the sid" {
				return // only the full verification looks at indexes
			}
			if l, err := ledger.Open(t.Context(), o); !errors.Is(err, domain.ErrDamaged) || !strings.Contains(err.Error(), c.place) {
				t.Fatalf("open says %v (%v), want it refused at %q", err, l, c.place)
			}
		})
	}
}

// TestVerifyOfASoundLog holds that nothing is reported where nothing was changed, from any position.
func TestVerifyOfASoundLog(t *testing.T) {
	l := open(t, history(t, 1500))
	for _, from := range []uint64{0, 1, 700, 1499, 1500} {
		report, err := l.Verify(t.Context(), domain.At(from))
		if err != nil || len(report.Findings) > 0 || report.Events != 1500-int(from) || report.To != domain.At(1500) {
			t.Fatalf("from %d: %+v, %v", from, report, err)
		}
	}
	empty := open(t, ledger.Options{Dir: t.TempDir()})
	if report, err := empty.Verify(t.Context(), domain.Position{}); err != nil || report.Events != 0 {
		t.Fatalf("an empty log: %+v, %v", report, err)
	}
}

// TestFlippedBitOnDisk is D4 below SQLite: a bit of a stored payload changes on the disk. SQLite does not
// notice; the chain does, with the place.
func TestFlippedBitOnDisk(t *testing.T) {
	o := history(t, 100)
	path := filepath.Join(o.Dir, "ledger.db")
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(file, []byte("Werke 57"))
	file[at] ^= 1
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Open(t.Context(), o); !errors.Is(err, domain.ErrDamaged) || !strings.Contains(err.Error(), "position 58 (revision 7 of device-000000000005)") {
		t.Fatalf("open says %v", err)
	}
}

// TestTornTail is D3: the write-ahead log loses its end, at fifty places between and inside pages; what
// opens is a prefix, and it takes appends.
func TestTornTail(t *testing.T) {
	o := ledger.Options{Dir: t.TempDir()}
	l := open(t, o)
	for i := range 30 {
		if _, err := l.Append(t.Context(), device(i), domain.NoStream, []domain.NewEvent{fact(i)}); err != nil {
			t.Fatal(err)
		}
	}
	whole := readAll(t, l)
	db, wal := copyOf(t, o, "ledger.db"), copyOf(t, o, "ledger.db-wal")
	longest := 0
	for cut := len(wal); cut >= 0; cut -= len(wal)/50 | 1 {
		dir := ledger.Options{Dir: t.TempDir()}
		write(t, dir, "ledger.db", db)
		write(t, dir, "ledger.db-wal", wal[:cut])
		l, err := ledger.Open(t.Context(), dir)
		if err != nil {
			t.Fatalf("cut at %d of %d: %v", cut, len(wal), err)
		}
		got := readAll(t, l)
		for i, r := range got {
			if r.ID != whole[i].ID {
				t.Fatalf("cut at %d: event %d is another one", cut, i)
			}
		}
		longest = max(longest, len(got))
		if _, err := l.Append(t.Context(), "device-new", domain.NoStream, []domain.NewEvent{fact(0)}); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if _, err := l.Verify(t.Context(), domain.Position{}); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		shut(t, l)
	}
	if longest != len(whole) {
		t.Fatalf("the uncut log had %d of %d events", longest, len(whole))
	}
}

func readAll(t *testing.T, l *ledger.Ledger) []domain.Recorded {
	t.Helper()
	var list []domain.Recorded
	for r, err := range l.ReadAll(context.Background(), domain.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

func copyOf(t *testing.T, o ledger.Options, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(o.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, o ledger.Options, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(o.Dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}
