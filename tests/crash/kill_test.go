// Package crash kills the real server, again and again, under load (tests/load), and compares what it
// acknowledged with what its log holds.
package crash

import (
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"ledgerline/tests/load"
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

func TestKillLosesNothing(t *testing.T) {
	dir := t.TempDir()
	s := proc.Start(t, dir)
	token, err := s.Token()
	if err != nil {
		t.Fatal(err)
	}
	tenant := s.API(t, http.StatusCreated, http.MethodPost, "/tenants", map[string]any{"id": "crash", "name": "Crash"})["id"].(string)
	j := &load.Journal{}
	team := make([]*load.Writer, writers)
	for i := range team {
		team[i] = &load.Writer{N: i, Journal: j}
	}
	rounds := kills(t)
	var slowest time.Duration
	for round := range rounds {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: writers}}
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, writers)
		for _, w := range team {
			go func() { errs <- w.Run(ctx, s, client, token, tenant, 0) }()
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
	load.Settle(t, s, token)
	if code := s.Stop(t); code != 0 {
		t.Fatalf("exit status %d\n%s", code, s.Log())
	}
	load.Check(t, dir, j, writers)
	t.Logf("%d kills, %d acknowledged, slowest start %s", rounds, j.Len(), slowest.Round(time.Millisecond))
}

// pause lets the load run; the length is part of the experiment, nothing is waited for.
func pause(d time.Duration) { <-time.After(d) }
