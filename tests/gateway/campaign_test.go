// Package gateway pushes many extensions from the real server to a simulated border gateway that fails, over TLS with a
// CA of its own, and kills the server on the way. make test does it small, make test-gateway with 2,000 extensions.
package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ledgerline/adapters/mbg/simulator"
	"ledgerline/tests/border"
	"ledgerline/tests/proc"
)

func extensions(t *testing.T) int {
	n := 120
	if v := os.Getenv("LEDGERLINE_EXTENSIONS"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil || n < 10 {
			t.Fatalf("LEDGERLINE_EXTENSIONS=%q", v)
		}
	}
	return n
}

// kinds are the faults of the campaign; together they hit one request in twenty.
var kinds = []string{"drop_before", "drop_after", "500", "500_after", "503", "half_body", "429", "stale"}

func TestCampaign(t *testing.T) {
	n := extensions(t)
	gw := border.Open(t)
	sim := gw.Simulator
	dir := t.TempDir()
	s := proc.Start(t, dir)
	gw.Connect(t, func(want int, method, path string, body any) { s.API(t, want, method, path, body) })
	for _, kind := range kinds {
		gw.Act(t, "fault", map[string]string{"operation": "*", "kind": kind, "probability": fmt.Sprint(0.05 / float64(len(kinds))), "seconds": "0.1"})
	}
	define(t, s, n)
	begun := time.Now()
	s.API(t, 204, "POST", "/gateways/edge/switch", map[string]any{"to": "enabled"})
	for _, part := range []int{n / 3, 2 * n / 3} {
		proc.Eventually(t, "some are pushed", func() bool { return len(sim.State().Users) >= part })
		s.Kill()
		s = proc.Start(t, dir)
	}
	deadline := time.Now().Add(20 * time.Minute)
	for count(t, s, "in_sync") < n {
		if parked := count(t, s, "parked"); parked > 0 || time.Now().After(deadline) {
			t.Fatalf("%d of %d in sync, %d parked: %v", count(t, s, "in_sync"), n, parked, s.API(t, 200, "GET", "/sipusers?state=parked&limit=3", nil))
		}
		<-time.After(100 * time.Millisecond) // between two looks
	}
	took := time.Since(begun)
	requests := check(t, s, sim, dir, n)
	t.Logf("%d extensions, two kills, %s, %s", n, took.Round(time.Millisecond), requests)
}

// define makes the lines and gives them remote credentials, before the push is on.
func define(t *testing.T, s *proc.Server, n int) {
	t.Helper()
	token, err := s.Token()
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(16)
	for i := range n {
		g.Go(func() error {
			id, number := fmt.Sprintf("l%05d", i), fmt.Sprint(10000+i)
			return errorsOf(ctx, s, client, token, map[string]map[string]any{
				"POST /lines":                  {"id": id, "tenant_id": "acme", "number": number, "username": number, "display_name": "Person " + number, "password": "canary-" + number},
				"PUT /lines/" + id + "/remote": {"gateway_id": "edge"},
			}, "POST /lines", "PUT /lines/"+id+"/remote")
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func errorsOf(ctx context.Context, s *proc.Server, client *http.Client, token string, bodies map[string]map[string]any, calls ...string) error {
	for _, c := range calls {
		method, path, _ := strings.Cut(c, " ")
		status, body, err := s.Call(ctx, client, token, method, path, bodies[c])
		if err != nil || status >= 300 {
			return fmt.Errorf("%s: %d %s: %w", c, status, body, err)
		}
	}
	return nil
}

// count is how many SIP users are in a state.
func count(t *testing.T, s *proc.Server, state string) int {
	t.Helper()
	queue, _ := s.API(t, 200, "GET", "/gateways/edge/status", nil)["queue"].(map[string]any)
	n, _ := queue[state].(float64)
	return int(n)
}

// check compares the gateway with what was wanted, and reads in the log why each came to be.
func check(t *testing.T, s *proc.Server, sim *simulator.Simulator, dir string, n int) string {
	t.Helper()
	hits := 0
	for _, f := range sim.State().Faults {
		hits += f.Hits
	}
	if err := sim.Do("clear-faults", nil); err != nil {
		t.Fatal(err)
	}
	drift, _ := s.API(t, 200, "POST", "/gateways/edge/reconcile", map[string]any{"plan_only": true})["drift"].(map[string]any)
	if drift["missing"] != nil || drift["drifted"] != nil || drift["unwanted"] != nil || drift["clashes"] != nil {
		t.Errorf("the gateway differs: %v", drift)
	}
	st := sim.State()
	if len(st.Users) != n {
		t.Errorf("%d users on the gateway, want %d", len(st.Users), n)
	}
	for set, times := range st.Created {
		if times != 1 {
			t.Errorf("%s was created %d times", set, times)
		}
	}
	for _, u := range st.Users {
		if u.ICPPassword != "canary-"+u.ICPUsername || u.ICP != "3" || len(u.SetPassword) != 24 {
			t.Errorf("record %s of extension %s is not what was wanted", u.ID, u.ICPUsername)
		}
	}
	if code := s.Stop(t); code != 0 {
		t.Errorf("exit status %d", code)
	}
	raw, err := exec.Command(proc.Binary(t), "audit", "replay", "--data", dir).Output()
	if err != nil {
		t.Fatalf("replay: %v", err)
	}
	created, retried, found := map[string]int{}, 0, 0
	for line := range strings.Lines(string(raw)) {
		var e struct {
			Stream, Type string
			Data         struct {
				Action   string
				Attempts int
				Found    bool
			}
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Type == "sipuser.pushed" {
			created[e.Stream]++
			if e.Data.Attempts > 1 {
				retried++
			}
			if e.Data.Found {
				found++
			}
		}
	}
	if len(created) != n {
		t.Errorf("the log tells of %d", len(created))
	}
	for stream, times := range created {
		if times != 1 {
			t.Errorf("%s: pushed %d times on record", stream, times)
		}
	}
	if strings.Contains(string(raw), "canary-") || strings.Contains(s.Log(), "canary-") {
		t.Error("a secret stands in clear")
	}
	return fmt.Sprintf("%d faults hit, %d records took more than one try, %d were found after a lost answer", hits, retried, found)
}
