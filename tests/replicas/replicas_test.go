package replicas

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"ledgerline/adapters/views"

	"ledgerline/adapters/eventstoredb"
	"ledgerline/domain"
	"ledgerline/tests/load"
	"ledgerline/tests/proc"
)

// number is an environment variable, or what make test does.
func number(t *testing.T, name string, otherwise int) int {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q", name, v)
	}
	return n
}

const writers = 16

// work lets writers work, each on any replica that answers, until enough is acknowledged. meanwhile runs beside
// them, with how much is acknowledged.
func (s *site) work(j *load.Journal, tenant string, enough int, meanwhile func(acked func() int)) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Minute)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: writers}}
	defer client.CloseIdleConnections()
	errs := make(chan error, writers)
	for n := range writers {
		w := &load.Writer{N: n, Journal: j}
		go func() {
			var err error
			for turn := n; err == nil && ctx.Err() == nil && j.Len() < enough; turn++ {
				err = w.Run(ctx, s.replica(turn%len(s.replicas)), client, s.token, tenant, enough)
				select { // the replica has gone, or a while has passed: the next one's turn
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
				}
			}
			errs <- err
		}()
	}
	meanwhile(j.Len)
	for range writers {
		if err := <-errs; err != nil {
			s.t.Fatal(err)
		}
	}
	if j.Len() < enough {
		s.t.Fatalf("%d acknowledged in time, want %d", j.Len(), enough)
	}
}

func (s *site) tenant() string {
	s.t.Helper()
	var made struct{ ID string }
	if err := json.Unmarshal(s.want(http.StatusCreated, 0, http.MethodPost, "/tenants", map[string]any{"id": "crash", "name": "Crash"}), &made); err != nil {
		s.t.Fatal(err)
	}
	return made.ID
}

// compare stops everything in order and wants both replicas' views to be equal; then it checks the log.
func (s *site) compare(j *load.Journal, least int) {
	s.t.Helper()
	for try := 0; ; try++ {
		s.level()
		for i := range s.replicas {
			if code := s.replica(i).Stop(s.t); code != 0 {
				s.t.Fatalf("replica %d: exit status %d\n%s", i, code, s.replica(i).Log())
			}
		}
		digest := func(i int) views.Digest {
			d, err := views.DigestOf(s.t.Context(), filepath.Join(s.replica(i).Dir, "views"))
			if err != nil {
				s.t.Fatal(err)
			}
			return d
		}
		first := digest(0)
		same := true
		for i := 1; i < len(s.replicas); i++ {
			other := digest(i)
			if differing := first.Differing(other); other.Position == first.Position && len(differing) > 0 {
				s.t.Fatalf("at position %s the views of replica %d differ from those of replica 0 in %v", first.Position, i, differing)
			}
			same = same && other.Position == first.Position
		}
		if same {
			s.t.Logf("views equal at position %s: %d rows in %d tables", first.Position, first.Rows, len(first.Tables))
			break
		}
		if try == 5 {
			s.t.Fatal("one replica always records something while the other stops")
		}
		for i := range s.replicas {
			s.restart(i)
		}
	}
	if code := s.events.Stop(s.t); code != 0 {
		s.t.Fatalf("event store: exit status %d", code)
	}
	load.Check(s.t, s.store, j, least)
}

// TestReplicas: two replicas, commands on both, one or the other killed and restarted again and again: every
// acknowledged command is in the log once, every reaction's events are recorded once, and both replicas' views
// are equal afterwards.
func TestReplicas(t *testing.T) {
	commands, kills := number(t, "LEDGERLINE_REPLICA_COMMANDS", 600), number(t, "LEDGERLINE_REPLICA_KILLS", 3)
	s, ok := open(t, 2)
	if !ok {
		return
	}
	j := &load.Journal{}
	begun := time.Now()
	var slowest time.Duration
	s.work(j, s.tenant(), commands, func(acked func() int) {
		for k := range kills {
			for share := (k + 1) * commands / (kills + 1); acked() < share; {
				<-time.After(5 * time.Millisecond)
			}
			victim := rand.IntN(len(s.replicas))
			if k%2 == 0 { // every other time the one that runs the reactions
				for i := range s.replicas {
					if s.metric(i, "ledgerline_reactor_leads") == 1 {
						victim = i
					}
				}
			}
			s.restart(victim)
			slowest = max(slowest, s.replica(victim).Ready)
		}
	})
	worked := time.Since(begun)
	s.compare(j, commands)
	t.Logf("%d commands acknowledged in %s on two replicas, %d kills, slowest start after one %s", j.Len(), worked.Round(time.Millisecond), kills, slowest.Round(time.Millisecond))
}

// TestPausedHolder: the replica with the lease is stopped for longer than the lease lasts, while commands go on;
// the other takes over, and when the first wakes up nothing is recorded twice.
func TestPausedHolder(t *testing.T) {
	s, ok := open(t, 2)
	if !ok {
		return
	}
	j, tenant := &load.Journal{}, s.tenant()
	for round := range number(t, "LEDGERLINE_REPLICA_PAUSES", 1) {
		holder := s.leader()
		s.work(j, tenant, (2*round+1)*60, func(func() int) {})
		if err := syscall.Kill(s.replica(holder).PID(), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		paused := s.replica(holder)
		s.mu.Lock()
		s.replicas[holder] = s.replicas[1-holder] // all work goes to the other
		s.mu.Unlock()
		s.work(j, tenant, (2*round+2)*60, func(func() int) {})
		proc.Eventually(t, "the other replica takes over", func() bool { return s.metric(1-holder, "ledgerline_reactor_leads") == 1 })
		load.Settle(t, s.replica(1-holder), s.token)
		s.mu.Lock()
		s.replicas[holder] = paused
		s.mu.Unlock()
		if err := syscall.Kill(paused.PID(), syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if s.leader() == holder {
			t.Fatal("the paused replica has the lease again, and the other had never died")
		}
	}
	s.compare(j, 120)
}

// TestStoreRestarts: the event store is killed and restarted under load; nothing acknowledged is lost, and what
// both replicas see is equal afterwards.
func TestStoreRestarts(t *testing.T) {
	s, ok := open(t, 2)
	if !ok {
		return
	}
	j := &load.Journal{}
	s.work(j, s.tenant(), 300, func(acked func() int) {
		for k := range 3 {
			for acked() < (k+1)*60 {
				<-time.After(5 * time.Millisecond)
			}
			s.events.Kill()
			s.startEvents()
		}
	})
	s.compare(j, 300)
}

// TestReplicasAgree: what one replica is told, the other knows: a change by its position, an answer by its
// idempotency key, an erasure at once.
func TestReplicasAgree(t *testing.T) {
	s, ok := open(t, 2)
	if !ok {
		return
	}
	s.tenant()
	t.Run("read your writes on the other replica", func(t *testing.T) {
		for n := range 30 {
			body, err := json.Marshal(map[string]any{"id": fmt.Sprint("u", n), "tenant_id": "crash", "display_name": fmt.Sprint("User ", n)})
			if err != nil {
				t.Fatal(err)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.replica(n%2).Admin+"/api/v1/users", strings.NewReader(string(body)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+s.token)
			req.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			at := resp.Header.Get("Ledger-Position")
			if resp.StatusCode != http.StatusCreated || at == "" {
				t.Fatalf("%s at %q", resp.Status, at)
			}
			if b := s.want(http.StatusOK, 1-n%2, http.MethodGet, fmt.Sprintf("/users/u%d?min_position=%s", n, at), nil); !strings.Contains(string(b), fmt.Sprintf(`"User %d"`, n)) {
				t.Fatalf("the other replica answers %s", b)
			}
		}
	})
	t.Run("one answer to one idempotency key", func(t *testing.T) {
		body := map[string]any{"tenant_id": "crash", "display_name": "Once"}
		first := s.want(http.StatusCreated, 0, http.MethodPost, "/users", body, "Idempotency-Key", "k1")
		if again := s.want(http.StatusCreated, 1, http.MethodPost, "/users", body, "Idempotency-Key", "k1"); string(again) != string(first) {
			t.Errorf("%s, and on the other replica %s", first, again)
		}
		body["display_name"] = "Another"
		if status, b := s.call(1, http.MethodPost, "/users", body, "Idempotency-Key", "k1"); status < 400 {
			t.Errorf("another request under the same key: %d %s", status, b)
		}
	})
	t.Run("erased is erased", func(t *testing.T) {
		for i := range s.replicas { // both have the key in memory
			s.want(http.StatusOK, i, http.MethodGet, "/users/u7", nil)
		}
		s.want(http.StatusOK, 0, http.MethodPost, "/erase", map[string]any{"subject": "user-u7", "reason": "asked to be forgotten"})
		for i := range s.replicas {
			proc.Eventually(t, fmt.Sprintf("replica %d shows the user as erased", i), func() bool {
				return strings.Contains(string(s.want(http.StatusOK, i, http.MethodGet, "/users/u7", nil)), `"[erased]"`)
			})
		}
	})
	t.Run("a reaction whose order does not matter runs on both", func(t *testing.T) {
		const phones = 40
		for n := range phones {
			mac := fmt.Sprintf("0015650000%02x", n)
			s.want(http.StatusCreated, n%2, http.MethodPost, "/devices", map[string]any{"mac": mac, "vendor": "Yealink", "model": "T54W", "tenant_id": "crash"})
			s.want(http.StatusAccepted, 1-n%2, http.MethodPost, "/devices/"+mac+"/sync", map[string]any{})
		}
		handled := func(i int) int { return int(s.metric(i, `ledgerline_reaction_handled_total{reaction="notify-phone"}`)) }
		proc.Eventually(t, "all phones were notified", func() bool { return handled(0)+handled(1) >= phones })
		if handled(0) == 0 || handled(1) == 0 {
			t.Errorf("one replica ran %d, the other %d", handled(0), handled(1))
		}
	})
	t.Run("a replica with another vault is turned away, and one on a directory in use", func(t *testing.T) {
		for _, c := range []struct {
			dir  string
			args []string
			want string
		}{
			{t.TempDir(), []string{"--store", s.args[1], "--master-key-file", proc.MasterKey(t)}, "another vault"},
			{t.TempDir(), append(s.args[:len(s.args):len(s.args)], "--master-key-file", proc.MasterKey(t)), "wrong master key"},
			{s.replica(0).Dir, s.args, "in use by another replica"},
		} {
			if r, err := proc.Launch(proc.Binary(t), c.dir, c.args...); err == nil {
				r.Kill()
				t.Errorf("started, want: %s", c.want)
			} else if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want: %s", err, c.want)
			}
		}
	})
}

// TestNoCallerHangs: while the event store is killed and restarted, callers with contexts of their own come back
// in time: none outlives its context by more than 100 ms beyond what a bystander with the same timer sees.
func TestNoCallerHangs(t *testing.T) {
	s := &site{t: t, store: t.TempDir(), addr: "127.0.0.1:0"}
	s.startEvents()
	t.Cleanup(s.killAll)
	log, err := eventstoredb.Open(t.Context(), "esdb://"+s.addr+"?tls=false", eventstoredb.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	const patience = 300 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	var late, seen atomic.Int64 // of callers and of bystanders, the worst, in ns
	var calls, failed atomic.Int64
	note := func(worst *atomic.Int64, end time.Time) {
		for d, now := int64(time.Since(end)), worst.Load(); d > now && !worst.CompareAndSwap(now, d); now = worst.Load() {
		}
	}
	var all sync.WaitGroup
	for n := range 48 {
		all.Go(func() {
			stream := domain.Stream("notice", fmt.Sprint(n))
			for i := 0; ctx.Err() == nil; i++ {
				call, done := context.WithTimeout(ctx, patience)
				end, _ := call.Deadline()
				var err error
				switch i % 3 {
				case 0:
					_, err = log.Append(call, stream, domain.Any, []domain.NewEvent{{ID: uuid.Must(uuid.NewV7()), Type: "probe.noted", Data: []byte("{}")}})
				case 1:
					_, err = log.Head(call)
				default:
					for _, err = range log.Read(call, stream, 0) {
						if err != nil {
							break
						}
					}
				}
				note(&late, end)
				done()
				calls.Add(1)
				if err != nil && !errors.Is(err, domain.ErrNoStream) {
					failed.Add(1)
				}
			}
		})
	}
	for range 48 { // as many, for the machine may be busy
		all.Go(func() {
			for ctx.Err() == nil {
				call, done := context.WithTimeout(ctx, patience)
				end, _ := call.Deadline()
				<-call.Done()
				note(&seen, end)
				done()
			}
		})
	}
	for range 3 {
		for before := calls.Load(); calls.Load() < before+200; {
			<-time.After(5 * time.Millisecond)
		}
		s.events.Kill()
		for before := failed.Load(); failed.Load() < before+96; {
			<-time.After(5 * time.Millisecond)
		}
		s.startEvents()
	}
	cancel()
	all.Wait()
	t.Logf("%d calls, %d failed, the latest %s after its context, a bystander %s", calls.Load(), failed.Load(), time.Duration(late.Load()), time.Duration(seen.Load()))
	if over := time.Duration(late.Load() - seen.Load()); over > 100*time.Millisecond {
		t.Errorf("a caller came back %s after its context's end, a bystander sees that %s late", time.Duration(late.Load()), time.Duration(seen.Load()))
	}
}
