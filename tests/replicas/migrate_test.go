package replicas

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ledgerline/adapters/eventstoredb"
	"ledgerline/adapters/ledger"
	"ledgerline/domain"
	"ledgerline/tests/load"
	"ledgerline/tests/postgres"
	"ledgerline/tests/proc"
)

// moved is what migrate prints.
type moved struct {
	Events     int    `json:"events"`
	Appended   int    `json:"appended"`
	Leaves     string `json:"leaves"`
	Reactions  int    `json:"reactions"`
	Keys       int    `json:"keys"`
	Tombstones int    `json:"tombstones"`
	Blobs      int    `json:"blobs"`
}

func migrate(t *testing.T, args ...string) moved {
	t.Helper()
	cmd := exec.Command(proc.Binary(t), append([]string{"migrate", "-o", "json"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("migrate: %v\n%s", err, stderrOf(err))
	}
	var m moved
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return m
}

func stderrOf(err error) []byte {
	if e, ok := err.(*exec.ExitError); ok {
		return e.Stderr
	}
	return nil
}

// TestMigrate: a history, its keys and files move from a ledger to an event store and PostgreSQL, by a
// migration that is killed in the middle and begun again, and back into another directory. Every leaf hash is
// the same, what was sealed opens, what was erased stays so, and no reaction runs again.
func TestMigrate(t *testing.T) {
	database, ok := postgres.Start(t)
	if !ok {
		return
	}
	url := filepath.Join(t.TempDir(), "postgres.url")
	if err := os.WriteFile(url, []byte(database.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	home, key := t.TempDir(), proc.MasterKey(t)
	first := proc.Start(t, home, "--master-key-file", key, "--checkpoint-every", "24h", "--public-url", "http://phones.example/")
	token, err := first.Token()
	if err != nil {
		t.Fatal(err)
	}
	first.API(t, http.StatusCreated, http.MethodPost, "/tenants", map[string]any{"id": "crash", "name": "Crash"})
	j := &load.Journal{}
	if err := (&load.Writer{N: 1, Journal: j}).Run(t.Context(), first, http.DefaultClient, token, "crash", 30); err != nil {
		t.Fatal(err)
	}
	load.Settle(t, first, token)
	first.API(t, http.StatusOK, http.MethodPost, "/erase", map[string]any{"subject": "user-u1.3", "reason": "asked to be forgotten"})
	names := func(s *proc.Server) string {
		t.Helper()
		var list []string
		for n := range 10 {
			list = append(list, fmt.Sprint(s.API(t, http.StatusOK, http.MethodGet, fmt.Sprint("/users/u1.", n), nil)["display_name"]))
		}
		return strings.Join(list, ", ")
	}
	proc.Eventually(t, "the user reads as erased", func() bool { return strings.Contains(names(first), "[erased]") })
	before, file := names(first), fetch(t, first)
	reacted(t, first)
	if code := first.Stop(t); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	lengthen(t, home, 2000)

	store := t.TempDir()
	events, err := proc.LaunchESDB(proc.Binary(t), store, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(events.Kill)
	remote := "esdb://" + events.ESDB + "?tls=false"
	there := []string{"--from", "ledger", "--to", remote, "--data", home, "--master-key-file", key, "--postgres-url-file", url}
	interrupt(t, remote, there)
	m := migrate(t, there...)
	if m.Events < 2100 || m.Appended == 0 || m.Appended >= m.Events || m.Keys < 30 || m.Tombstones == 0 || m.Blobs == 0 || m.Reactions < 8 {
		t.Errorf("moved %+v", m)
	}
	if again := migrate(t, there...); again.Appended != 0 || again.Leaves != m.Leaves || again.Events != m.Events {
		t.Errorf("a second migration: %+v, after %+v", again, m)
	}

	replica := proc.Start(t, t.TempDir(), "--store", remote, "--master-key-file", key, "--postgres-url-file", url, "--checkpoint-every", "24h", "--public-url", "http://phones.example/")
	if err := os.WriteFile(filepath.Join(replica.Dir, "admin.token"), []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	if after := names(replica); after != before {
		t.Errorf("users are %s, and were %s", after, before)
	}
	if after := fetch(t, replica); after != file {
		t.Errorf("the phone's file has changed:\n%s\nwas\n%s", after, file)
	}
	if code := replica.Stop(t); code != 0 {
		t.Fatalf("exit status %d", code)
	}

	home2 := t.TempDir()
	back := migrate(t, "--from", remote, "--to", "ledger", "--data", home2, "--master-key-file", key, "--postgres-url-file", url)
	// The replica has said which vault the log belongs to, and signed what nobody had signed if it had the time; nothing else
	// is new: no reaction ran again.
	history, err := exec.Command(proc.Binary(t), "audit", "replay", "--data", home2).Output()
	if err != nil {
		t.Fatal(err)
	}
	signed := strings.Count(string(history), `"type":"checkpoint.signed"`)
	if back.Events != m.Events+1+signed || back.Keys != m.Keys || back.Tombstones != m.Tombstones || back.Blobs != m.Blobs {
		lines := strings.Split(strings.TrimSpace(string(history)), "\n")
		t.Errorf("moved back %+v, there %+v, %d checkpoints; it ends with\n%s", back, m, signed, strings.Join(lines[max(0, len(lines)-3):], "\n"))
	}
	if out, err := exec.Command(proc.Binary(t), "audit", "verify", "--data", home2).CombinedOutput(); err != nil {
		t.Fatalf("verify: %v\n%s", err, out)
	}
	last := proc.Start(t, home2, "--master-key-file", key)
	if err := os.WriteFile(filepath.Join(home2, "admin.token"), []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	if after := names(last); after != before {
		t.Errorf("users are %s, and were %s", after, before)
	}
	if after := fetch(t, last); after != file {
		t.Errorf("the phone's file has changed:\n%s\nwas\n%s", after, file)
	}
	last.Kill()

	// Another history is not overwritten, and not continued.
	other := t.TempDir()
	lengthen(t, other, 3)
	if out, err := exec.Command(proc.Binary(t), "migrate", "--from", "ledger", "--to", remote, "--data", other).CombinedOutput(); err == nil || !strings.Contains(string(out), "holds other events") {
		t.Errorf("a second history was copied over the first: %v\n%s", err, out)
	}
}

// reacted waits until every reaction has handled the whole log: what is left to do when a server stops, the next one does.
func reacted(t *testing.T, s *proc.Server) {
	t.Helper()
	proc.Eventually(t, "nothing is left to react to", func() bool {
		_, metrics := proc.Get(t, "http://"+s.Ops+"/metrics", "test")
		rows := 0
		for line := range strings.Lines(metrics) {
			if strings.HasPrefix(line, "ledgerline_reaction_lag_position{") {
				if rows++; !strings.HasSuffix(line, " 0\n") {
					return false
				}
			}
		}
		return rows > 0
	})
}

// fetch is the file of the first device, as its phone gets it.
func fetch(t *testing.T, s *proc.Server) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Phones+"/001501000000.cfg", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "Yealink SIP-T54W 96.86.0.70 00:15:01:00:00:00")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(b), "canary-l1.0") {
		t.Fatalf("the phone gets %s, %v: %s", resp.Status, err, b)
	}
	return string(b)
}

// lengthen writes n events nobody knows into a ledger, so that copying takes a while.
func lengthen(t *testing.T, dir string, n int) {
	t.Helper()
	l, err := ledger.Open(t.Context(), ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i := range n {
		stream := domain.Stream("notice", fmt.Sprint("x", i%500))
		e := domain.NewEvent{ID: uuid.Must(uuid.NewV7()), Type: "probe.noted", Data: []byte(`{}`), Metadata: []byte(`{"recorded_at":"2026-11-21T00:00:00Z"}`)}
		if _, err := l.Append(t.Context(), stream, domain.Revision(i/500-1), []domain.NewEvent{e}); err != nil {
			t.Fatal(err)
		}
	}
}

// interrupt kills a migration once it has brought some events.
func interrupt(t *testing.T, remote string, args []string) {
	t.Helper()
	s, err := eventstoredb.Open(t.Context(), remote, eventstoredb.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cmd := exec.Command(proc.Binary(t), append([]string{"migrate"}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := 0
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range s.Subscribe(ctx, domain.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 400 {
			break
		}
	}
	_ = cmd.Process.Kill()
	if err := cmd.Wait(); err == nil {
		t.Fatal("the migration was over before it was killed")
	}
}
