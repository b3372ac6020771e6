// Package load works a running server, or several replicas, over the API as programs would, and compares what
// was acknowledged with what the log holds. The journal of acknowledgements is the test's memory: no server
// ever sees it.
package load

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"ledgerline/tests/proc"
)

// Journal is what was acknowledged: the streams that began. Safe for concurrent use.
type Journal struct {
	mu    sync.Mutex
	acked map[string]bool
}

func (j *Journal) add(stream string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.acked == nil {
		j.acked = map[string]bool{}
	}
	j.acked[stream] = true
}

// Len is how many acknowledgements there are.
func (j *Journal) Len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.acked)
}

// Writer makes a user, a line and a device assigned to the user, over and over. A step interrupted by a kill is
// taken up again by the next Run: what was written although nobody heard of it answers 409.
type Writer struct {
	N       int // unlike any other writer's
	Journal *Journal

	step, part int
}

// Step is one user, line and device.
const Step = 3

func (w *Writer) ids() (user, line, mac string) {
	return fmt.Sprintf("u%d.%d", w.N, w.step), fmt.Sprintf("l%d.%d", w.N, w.step), fmt.Sprintf("0015%02x%06x", w.N, w.step)
}

// Run works until ctx ends, enough acknowledgements stand in the journal (0: there are never enough), or the
// server goes away; only another answer than those is an error.
func (w *Writer) Run(ctx context.Context, s *proc.Server, client *http.Client, token, tenant string, enough int) error {
	for ctx.Err() == nil && (enough == 0 || w.Journal.Len() < enough) {
		user, line, mac := w.ids()
		calls := [Step]struct {
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
				w.Journal.add(c.id)
			case status >= 500:
				return nil // going down, or the store is
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

// Settle waits until every device has its own files: the reactions have caught up.
func Settle(t testing.TB, s *proc.Server, token string) {
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

// Check reads the log of a data directory nobody uses with the program's own tools, and compares: what was
// acknowledged stands there once, every device has its line once and its files, for every cause and reaction
// each event was recorded once, and no password stands there. least is how many acknowledgements make a load.
func Check(t testing.TB, dir string, j *Journal, least int) {
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
	if len(j.acked) < least {
		t.Errorf("only %d acknowledgements: there was no load", len(j.acked))
	}
}
