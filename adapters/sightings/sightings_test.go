package sightings

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/commands"
	"ledgerline/domain"
)

var _ commands.Sightings = (*Sightings)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, opt Options) *Sightings {
	t.Helper()
	if opt.Dir == "" {
		opt.Dir = t.TempDir()
	}
	if opt.Every == 0 {
		opt.Every = time.Hour // reads write first
	}
	if opt.Now == nil {
		opt.Now = func() time.Time { return noon }
	}
	s, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func seen(device domain.DeviceID, mac domain.MAC, ip string, at time.Time) commands.Sighting {
	return commands.Sighting{Device: device, MAC: mac, IP: ip, UserAgent: "Yealink SIP-T54W 96.86.0.100", Transport: "http", Path: "mac", At: at}
}

func got(t *testing.T) func([]Row, error) []Row {
	return func(rows []Row, err error) []Row {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
}

func TestALaterSightingOfADeviceReplacesAddressAndKeepsTheFirstTime(t *testing.T) {
	s := open(t, Options{})
	s.Seen(seen("001565aabbcc", "001565aabbcc", "10.0.0.5", noon.Add(-time.Hour)))
	got(t)(s.ByDevice(t.Context(), "001565aabbcc")) // written once
	s.Seen(seen("001565aabbcc", "001565aabbcc", "10.0.0.6", noon.Add(-time.Minute)))
	s.Seen(seen("001565aabbcc", "001565aabbcc", "10.0.0.7", noon))
	want := []Row{{Device: "001565aabbcc", MAC: "001565aabbcc", IP: "10.0.0.7", UserAgent: "Yealink SIP-T54W 96.86.0.100", Transport: "http", Via: "mac",
		FirstAt: noon.Add(-time.Hour), LastAt: noon, Count: 3}}
	if diff := cmp.Diff(want, got(t)(s.ByDevice(t.Context(), "001565aabbcc"))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, got(t)(s.ByMAC(t.Context(), "001565aabbcc"))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, got(t)(s.ByIP(t.Context(), "10.0.0.7", 5))); diff != "" {
		t.Error(diff)
	}
	if rows := got(t)(s.ByIP(t.Context(), "10.0.0.5", 5)); len(rows) != 0 {
		t.Errorf("still at its former address: %+v", rows)
	}
}

func TestStrangersAreBoundedOldestFirst(t *testing.T) {
	s := open(t, Options{MaxUnknown: 3})
	for i := range 5 {
		s.Seen(seen("", domain.MAC(fmt.Sprintf("00156500000%d", i)), "10.0.0.5", noon.Add(time.Duration(i)*time.Second)))
		got(t)(s.Unknown(t.Context(), 1))
	}
	var macs []string
	for _, r := range got(t)(s.Unknown(t.Context(), 10)) {
		macs = append(macs, string(r.MAC))
	}
	if diff := cmp.Diff([]string{"001565000004", "001565000003", "001565000002"}, macs); diff != "" {
		t.Error(diff)
	}
}

func TestAFloodOfStrangersWithinOneIntervalStaysBounded(t *testing.T) {
	s := open(t, Options{MaxUnknown: 10})
	for i := range 500 {
		s.Seen(seen("", "", fmt.Sprintf("192.0.2.%d", i), noon))
	}
	if n := len(got(t)(s.Unknown(t.Context(), 1000))); n != 10 {
		t.Errorf("%d rows, want 10", n)
	}
	if s.Dropped() == 0 {
		t.Error("nothing was counted as dropped")
	}
}

func TestRowsOlderThanTheRetentionAreGone(t *testing.T) {
	now := noon
	s := open(t, Options{Retention: 24 * time.Hour, Now: func() time.Time { return now }})
	s.Seen(seen("a", "", "10.0.0.5", noon))
	s.Seen(seen("b", "", "10.0.0.6", noon.Add(time.Hour)))
	got(t)(s.ByDevice(t.Context(), "a"))
	if err := s.with(t.Context(), nothing); err != nil {
		t.Fatal(err)
	}
	now = noon.Add(24*time.Hour + time.Minute)
	if rows := got(t)(s.ByDevice(t.Context(), "a")); len(rows) != 0 {
		t.Errorf("kept: %+v", rows)
	}
	if rows := got(t)(s.ByDevice(t.Context(), "b")); len(rows) != 1 {
		t.Errorf("b: %+v", rows)
	}
}

func TestSightingsSurviveClosing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	s.Seen(seen("a", "", "10.0.0.5", noon))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.Seen(seen("a", "", "10.0.0.9", noon)) // no panic, nothing kept
	if _, err := s.ByDevice(t.Context(), "a"); !errors.Is(err, ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	s = open(t, Options{Dir: dir})
	if rows := got(t)(s.ByDevice(t.Context(), "a")); len(rows) != 1 || rows[0].IP != "10.0.0.5" {
		t.Errorf("%+v", rows)
	}
}

func TestADamagedFileIsBegunAnew(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"no database": func([]byte) []byte { return []byte("this is not a database, by no means at all") },
		"zeros":       func(b []byte) []byte { clear(b[:min(len(b), 4096)]); b[0] = 1; return b },
		"page":        func(b []byte) []byte { copy(b[4096:], bytes.Repeat([]byte{0xff}, 4096)); return b },
		"newer":       func(b []byte) []byte { b[63] = 99; return b },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, Options{Dir: dir})
			for i := range 200 {
				s.Seen(seen(domain.DeviceID(fmt.Sprint("d", i)), "", "10.0.0.5", noon))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, fileName)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(data), 0o600); err != nil {
				t.Fatal(err)
			}
			s = open(t, Options{Dir: dir})
			s.Seen(seen("b", "", "10.0.0.6", noon))
			if rows := got(t)(s.ByDevice(t.Context(), "b")); len(rows) != 1 {
				t.Errorf("%+v", rows)
			}
			if s.started.Load() != 1 {
				t.Error("it was not begun anew")
			}
		})
	}
}

func TestAFileDamagedWhileOpenIsBegunAnew(t *testing.T) {
	s := open(t, Options{})
	if err := s.with(t.Context(), func(c *conn) error { return exec(c, `DROP TABLE seen`) }); err != nil {
		t.Fatal(err)
	}
	s.Seen(seen("a", "", "10.0.0.5", noon))
	if rows := got(t)(s.ByDevice(t.Context(), "a")); len(rows) != 1 {
		t.Errorf("%+v", rows)
	}
}

func TestAFileOfTheFormatBeforeIsKept(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	s.Seen(seen("a", "001565aabbcc", "10.0.0.5", noon))
	want := got(t)(s.ByDevice(t.Context(), "a"))
	if err := s.with(t.Context(), func(c *conn) error {
		return sqlitex.ExecuteScript(c, `DROP INDEX seen_mac; DROP INDEX seen_ip; CREATE INDEX seen_mac ON seen (mac, last_at);
			CREATE INDEX seen_ip ON seen (ip, last_at); PRAGMA user_version = 1;`, nil)
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	if diff := cmp.Diff(want, got(t)(s.ByMAC(t.Context(), "001565aabbcc"))); len(want) != 1 || diff != "" {
		t.Error(diff)
	}
	if n := s.started.Load(); n != 0 {
		t.Errorf("begun anew %d times", n)
	}
}

func TestSeenNeverBlocks(t *testing.T) {
	s := open(t, Options{Queue: 2})
	held, release := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- s.with(context.Background(), func(*conn) error { close(held); <-release; return nil })
	}()
	<-held
	for i := range 10 {
		s.Seen(seen(domain.DeviceID(fmt.Sprint("phone", i)), "", "10.0.0.5", noon))
		s.Seen(seen("phone0", "", "10.0.0.5", noon)) // takes no place of its own
	}
	if s.Dropped() != 8 {
		t.Errorf("dropped %d, want 8", s.Dropped())
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestForgetLeavesNoTraceInTheFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	s.Seen(seen("001565aabbcc", "001565aabbcc", "198.51.100.77", noon))
	s.Seen(seen("", "001565aabbcc", "198.51.100.78", noon))
	s.Seen(seen("other", "", "10.0.0.5", noon))
	got(t)(s.Unknown(t.Context(), 1))
	if err := s.Forget(t.Context(), "001565aabbcc", "001565aabbcc"); err != nil {
		t.Fatal(err)
	}
	if rows := got(t)(s.ByMAC(t.Context(), "001565aabbcc")); len(rows) != 0 {
		t.Errorf("%+v", rows)
	}
	if rows := got(t)(s.ByDevice(t.Context(), "other")); len(rows) != 1 {
		t.Errorf("%+v", rows)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte("198.51.100.7")) {
			t.Errorf("%s still holds the address", filepath.Base(f))
		}
	}
}

func TestTextIsCutAndCleaned(t *testing.T) {
	s := open(t, Options{})
	v := seen("a", "", "10.0.0.5", noon)
	v.UserAgent = "bell\a" + strings.Repeat("x", 2000)
	s.Seen(v)
	rows := got(t)(s.ByDevice(t.Context(), "a"))
	if len(rows) != 1 || len(rows[0].UserAgent) != MaxText || !strings.HasPrefix(rows[0].UserAgent, "bell?xx") {
		t.Errorf("%+v", rows)
	}
}

func TestWhatWaitsIsWrittenWithoutARead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, Every: time.Millisecond, Metrics: prometheus.NewRegistry()})
	s.Seen(seen("a", "", "10.0.0.5", noon))
	other, err := openFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		n, err := one(other, `SELECT count(*) FROM seen`)
		if err != nil {
			t.Fatal(err)
		}
		if n == "1" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("not written")
		}
	}
}

func BenchmarkSeen(b *testing.B) {
	s, err := Open(b.Context(), Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for i := 0; b.Loop(); i++ {
		s.Seen(seen(domain.DeviceID(fmt.Sprintf("%012x", i%1000)), "", "10.0.0.5", noon))
	}
	b.ReportMetric(float64(s.Dropped())/float64(b.N), "dropped/op")
}

type conn = sqlite.Conn

func nothing(*conn) error { return nil }
