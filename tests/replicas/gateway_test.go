package replicas

import (
	"encoding/json"
	"fmt"
	"net/http"
	"syscall"
	"testing"

	"ledgerline/tests/border"
	"ledgerline/tests/proc"
)

// Of two replicas one pushes to a gateway: never two requests at once. It is killed in the middle, then the next one is
// stopped for longer than its lease; the other goes on each time, and every record was created once.
func TestOneReplicaPushes(t *testing.T) {
	const n = 32
	s, ok := open(t, 2)
	if !ok {
		return
	}
	gw := border.Open(t)
	gw.Connect(t, func(want int, method, path string, body any) { s.want(want, 1, method, path, body) })
	s.level()
	for i := range n {
		id, number := fmt.Sprintf("l%03d", i), fmt.Sprint(4000+i)
		s.want(http.StatusCreated, i%2, http.MethodPost, "/lines", map[string]any{"id": id, "tenant_id": "acme", "number": number, "username": number, "password": "canary-" + number})
		s.want(http.StatusNoContent, i%2, http.MethodPut, "/lines/"+id+"/remote", map[string]any{"gateway_id": "edge"})
	}
	gw.Act(t, "fault", map[string]string{"operation": "create_user", "kind": "delay", "probability": "1", "seconds": "0.05"})
	s.want(http.StatusNoContent, 0, http.MethodPost, "/gateways/edge/switch", map[string]any{"to": "enabled"})
	pushed := func(least int) {
		t.Helper()
		proc.Eventually(t, fmt.Sprintf("%d are pushed", least), func() bool { return len(gw.State().Users) >= least })
	}
	pushed(n / 4)
	if most := gw.AtOnce(); most != 1 {
		t.Errorf("%d requests at once", most)
	}
	s.restart(s.leader())
	pushed(n / 2)
	holder := s.leader()
	if err := syscall.Kill(s.replica(holder).PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	pushed(n)
	if err := syscall.Kill(s.replica(holder).PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	proc.Eventually(t, "all are in sync", func() bool {
		var v struct{ Queue map[string]int }
		if err := json.Unmarshal(s.want(http.StatusOK, 1-holder, http.MethodGet, "/gateways/edge/status", nil), &v); err != nil {
			t.Fatal(err)
		}
		return v.Queue["in_sync"] == n
	})
	st := gw.State()
	if len(st.Users) != n {
		t.Errorf("%d records, want %d", len(st.Users), n)
	}
	for set, times := range st.Created {
		if times != 1 {
			t.Errorf("%s was created %d times", set, times)
		}
	}
}
