// Package replicas runs several replicas of the real program over one event store, "ledgerline esdb" in a
// process of its own, and one PostgreSQL, and breaks them.
package replicas

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"ledgerline/adapters/eventstoredb"
	"ledgerline/domain"
	"ledgerline/tests/load"
	"ledgerline/tests/ports"
	"ledgerline/tests/postgres"
	"ledgerline/tests/proc"
)

// site is an event store, a database, and replicas on them.
type site struct {
	t     *testing.T
	store string // data directory of the event store
	addr  string // where it listens
	args  []string
	token string

	log *eventstoredb.Store // as a bystander sees it

	mu       sync.Mutex
	events   *proc.Server
	replicas []*proc.Server
}

// open starts the event store, the database, and n replicas at once on the empty log. ok is false where there
// is no PostgreSQL to be had.
func open(t *testing.T, n int, args ...string) (s *site, ok bool) {
	t.Helper()
	database, ok := postgres.Start(t)
	if !ok {
		return nil, false
	}
	url := filepath.Join(t.TempDir(), "postgres.url")
	if err := os.WriteFile(url, []byte(database.URL+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = &site{t: t, store: t.TempDir(), addr: ports.Address(t), replicas: make([]*proc.Server, n)}
	s.startEvents()
	t.Cleanup(s.killAll)
	log, err := eventstoredb.Open(t.Context(), "esdb://"+s.addr+"?tls=false", eventstoredb.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	s.log = log
	s.args = append([]string{"--store", "esdb://" + s.addr + "?tls=false", "--master-key-file", proc.MasterKey(t), "--postgres-url-file", url, "--reactor-lease", "2s", "--checkpoint-every", "24h"}, args...)
	started := make(chan error, n)
	for i := range n {
		dir := t.TempDir()
		go func() { started <- s.launch(i, dir) }()
	}
	for range n {
		if err := <-started; err != nil {
			t.Fatal(err)
		}
	}
	tokens := 0
	for _, r := range s.replicas {
		if token, err := r.Token(); err == nil {
			s.token = token
			tokens++
		}
	}
	if tokens != 1 {
		t.Fatalf("%d replicas made the administrator's key, want 1", tokens)
	}
	return s, true
}

func (s *site) startEvents() {
	s.t.Helper()
	events, err := proc.LaunchESDB(proc.Binary(s.t), s.store, s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events, s.addr = events, events.ESDB
}

func (s *site) launch(i int, dir string) error {
	r, err := proc.Launch(proc.Binary(s.t), dir, s.args...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replicas[i] = r
	return nil
}

func (s *site) replica(i int) *proc.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replicas[i]
}

// restart kills a replica as a power cut would, and starts it again on its directory.
func (s *site) restart(i int) {
	s.t.Helper()
	r := s.replica(i)
	r.Kill()
	if err := s.launch(i, r.Dir); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) killAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range append(s.replicas, s.events) {
		if p != nil {
			p.Kill()
		}
	}
}

// call asks a replica as the administrator.
func (s *site) call(i int, method, path string, body any, headers ...string) (int, []byte) {
	s.t.Helper()
	status, b, err := s.replica(i).Call(s.t.Context(), http.DefaultClient, s.token, method, path, body, headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	return status, b
}

func (s *site) want(status, i int, method, path string, body any, headers ...string) []byte {
	s.t.Helper()
	got, b := s.call(i, method, path, body, headers...)
	if got != status {
		s.t.Fatalf("replica %d: %s %s answers %d %s, want %d", i, method, path, got, b, status)
	}
	return b
}

// metric is a gauge or counter without labels.
func (s *site) metric(i int, name string) float64 {
	s.t.Helper()
	resp, err := http.Get("http://" + s.replica(i).Ops + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return v
		}
	}
	s.t.Fatalf("replica %d has no metric %s", i, name)
	return 0
}

// leader is the replica that runs the reactions, once exactly one does.
func (s *site) leader() (leader int) {
	s.t.Helper()
	proc.Eventually(s.t, "one replica has the lease", func() bool {
		n := 0
		for i := range s.replicas {
			if s.metric(i, "ledgerline_reactor_leads") == 1 {
				leader = i
				n++
			}
		}
		return n == 1
	})
	return leader
}

// level waits until the reactions have come to rest and every replica's views have come to the log's end.
func (s *site) level() {
	s.t.Helper()
	load.Settle(s.t, s.replica(0), s.token)
	var head domain.Position
	proc.Eventually(s.t, "nothing more is recorded and all views have seen everything", func() bool {
		now, err := s.log.Head(s.t.Context())
		if err != nil {
			return false // it may be on its way up
		}
		rest := now == head
		head = now
		for i := range s.replicas {
			status, _ := s.call(i, http.MethodGet, "/tenants?min_position="+head.String(), nil)
			rest = rest && status == http.StatusOK
		}
		return rest
	})
}
