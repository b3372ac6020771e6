// Package crash kills the real server, again and again, under load, and compares what it acknowledged
// with what its log holds. The journal of acknowledgements is this process's memory: the server never
// sees it.
package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ledgerline/tests/proc"
)

const writers = 64

// kills is 20 for make test, 200 for make test-crash (LEDGERLINE_KILLS).
func kills(t *testing.T) int {
	n := 20
	if v := os.Getenv("LEDGERLINE_KILLS"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil || n < 1 {
			t.Fatalf("LEDGERLINE_KILLS=%q", v)
		}
	}
	return n
}

// journal is what was acknowledged: user, line and device of one writer's step.
type journal struct {
	mu    sync.Mutex
	acked map[string]bool // ids
}

func (j *journal) add(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.acked[id] = true
}

// writer makes a user, a line and a device assigned to the user, over and over. A step interrupted by a
// kill is taken up again after the restart: what was written although nobody heard of it answers 409.
type writer struct {
	n, step, part int
	journal       *journal
}

func (w *writer) ids() (user, line, mac string) {
	return fmt.Sprintf("u%d.%d", w.n, w.step), fmt.Sprintf("l%d.%d", w.n, w.step), fmt.Sprintf("0015%02x%06x", w.n, w.step)
}

func (w *writer) run(ctx context.Context, s *proc.Server, client *http.Client, token, tenant string) error {
	for ctx.Err() == nil {
		user, line, mac := w.ids()
		calls := []struct {
			id, path string
			body     map[string]any
		}{
			{"user-" + user, "/users", map[string]any{"id": user, "tenant_id": tenant, "display_name": "User " + user}},
			{"line-" + line, "/lines", map[string]any{"id": line, "tenant_id": tenant, "user_id": user, "username": line, "password": "canary-" + line,
				"settings": map[string]any{"registrar_ip": "192.0.2.1"}}},
			{"device-" + mac, "/devices", map[string]any{"mac": mac, "vendor": "Yealink", "model": "T54W", "tenant_id": tenant, "user_id": user}},
		}
		for w.part < len(calls) {
			c := calls[w.part]
			status, body, err := s.Call(ctx, client, token, http.MethodPost, c.path, c.body)
			switch {
			case err != nil:
				return nil // killed; the next round takes this call up again
			case status == http.StatusCreated, status == http.StatusConflict:
				w.journal.add(c.id)
			case status >= 500:
				return nil // going down
			default:
				return fmt.Errorf("POST %s: %d %s", c.path, status, body)
			}
			w.part++
		}
		w.part = 0
		w.step++
	}
	return nil
}

func TestKillLosesNothing(t *testing.T) {
	dir := t.TempDir()
	s := proc.Start(t, dir)
	token, err := s.Token()
	if err != nil {
		t.Fatal(err)
	}
	tenant := s.API(t, http.StatusCreated, http.MethodPost, "/tenants", map[string]any{"id": "crash", "name": "Crash"})["id"].(string)
	j := &journal{acked: map[string]bool{}}
	team := make([]*writer, writers)
	for i := range team {
		team[i] = &writer{n: i, journal: j}
	}
	rounds := kills(t)
	var slowest time.Duration
	for round := range rounds {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: writers}}
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, writers)
		for _, w := range team {
			go func() { errs <- w.run(ctx, s, client, token, tenant) }()
		}
		// Killed at a moment of its own choosing: within the first half second of the load.
		pause(time.Duration(20+rand.IntN(480)) * time.Millisecond)
		s.Kill()
		cancel()
		for range writers {
			if err := <-errs; err != nil {
				t.Fatalf("round %d: %v\n%s", round, err, s.Log())
			}
		}
		client.CloseIdleConnections()
		s = proc.Start(t, dir)
		slowest = max(slowest, s.Ready)
	}
	settle(t, s, token)
	if code := s.Stop(t); code != 0 {
		t.Fatalf("exit status %d\n%s", code, s.Log())
	}
	check(t, dir, j)
	t.Logf("%d kills, %d acknowledged, slowest start %s", rounds, len(j.acked), slowest.Round(time.Millisecond))
}

// pause lets the load run; the length is part of the experiment, nothing is waited for.
func pause(d time.Duration) { <-time.After(d) }

// settle waits until every device has its own files: the reactions have caught up.
func settle(t *testing.T, s *proc.Server, token string) {
	t.Helper()
	for _, state := range []string{"assigned", "awaiting_line"} {
		proc.Eventually(t, "no device in state "+state, func() bool {
			status, b, err := s.Call(t.Context(), http.DefaultClient, token, http.MethodGet, "/devices?limit=500&state="+state, nil)
			if err != nil || status != http.StatusOK {
				return false
			}
			var page struct{ Items []struct{ ID string } }
			if json.Unmarshal(b, &page) != nil {
				return false
			}
			return len(page.Items) == 0
		})
	}
}

// check reads the log with the program's own tools and compares.
func check(t *testing.T, dir string, j *journal) {
	t.Helper()
	out, err := exec.Command(proc.Binary(t), "audit", "verify", "--data", dir, "-o", "json").CombinedOutput()
	if err != nil {
		t.Fatalf("verify: %v\n%s", err, out)
	}
	raw, err := exec.Command(proc.Binary(t), "audit", "replay", "--data", dir).Output()
	if err != nil {
		t.Fatalf("replay: %v", err)
	}
	first := map[string]int{"user.defined": 0, "line.defined": 0, "device.discovered": 0}
	begun := map[string]int{}   // stream -> times it began
	reacted := map[string]int{} // cause, reaction, type, stream -> times recorded
	lines := map[string]int{}   // device stream -> lines associated
	configured := map[string]bool{}
	for line := range strings.Lines(string(raw)) {
		var e struct {
			Stream, Type string
			Metadata     struct {
				Cause    string `json:"$causationId"`
				Reaction string `json:"reaction"`
			}
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if _, ok := first[e.Type]; ok {
			begun[e.Stream]++
		}
		switch e.Type {
		case "device.line_associated":
			lines[e.Stream]++
		case "device.config_regenerated":
			configured[e.Stream] = true
		}
		if e.Metadata.Reaction != "" {
			reacted[e.Metadata.Cause+" "+e.Metadata.Reaction+" "+e.Type+" "+e.Stream]++
		}
	}
	for id := range j.acked {
		if begun[id] == 0 {
			t.Errorf("%s was acknowledged and is lost", id)
		}
	}
	for stream, n := range begun {
		if n != 1 {
			t.Errorf("%s began %d times", stream, n)
		}
		if strings.HasPrefix(stream, "device-") && (lines[stream] != 1 || !configured[stream]) {
			t.Errorf("%s: %d lines associated, configured %v", stream, lines[stream], configured[stream])
		}
	}
	for what, n := range reacted {
		if n != 1 {
			t.Errorf("recorded %d times: %s", n, what)
		}
	}
	if strings.Contains(string(raw), "canary-") {
		t.Error("a password stands in the log")
	}
	if len(j.acked) < writers {
		t.Errorf("only %d acknowledgements: there was no load", len(j.acked))
	}
}
