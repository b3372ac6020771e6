package innovaphone

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"ledgerline/adapters/qr"
	"ledgerline/domain"
	"ledgerline/tests/phonesim/innovaphone"
	"ledgerline/tests/phonesim/users"
	"ledgerline/tests/proc"
)

// ear is a Users app that listens: which phone it was told came by which code.
type ear struct {
	client *users.Client
	ended  chan struct{}

	mu   sync.Mutex
	told map[string][]string
}

// listens connects Users, as soon as the server lets it.
func (s *site) listens(in users.Config) *ear {
	s.t.Helper()
	e := &ear{ended: make(chan struct{}), told: map[string][]string{}}
	proc.Eventually(s.t, "Users is in", func() (ok bool) {
		var err error
		e.client, err = users.Dial(s.t.Context(), in)
		return err == nil
	})
	go func() {
		defer close(e.ended)
		for m := range e.client.Heard {
			if m.Text("mt") == "DeviceProvisioned" {
				e.mu.Lock()
				e.told[m.Text("code")] = append(e.told[m.Text("code")], m.Text("device"))
				e.mu.Unlock()
			}
		}
	}()
	s.t.Cleanup(e.leave)
	return e
}

func (e *ear) leave() {
	e.client.Close()
	<-e.ended
}

// hears waits until Users knows that the phone came by the code, and no other.
func (s *site) hears(e *ear, code string, mac domain.MAC) {
	s.t.Helper()
	var told []string
	proc.Eventually(s.t, "Users is told", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		told = e.told[code]
		return len(told) > 0
	})
	for _, device := range told {
		if device != string(mac) {
			s.t.Errorf("Users is told of %s, not of %s", device, mac)
		}
	}
}

// sheet is a rollout's codes by row, from its CSV; rows that have none any more have "".
func (s *site) sheet(id, rows string) []string {
	s.t.Helper()
	body := s.file("/rollouts/" + id + "/export?format=csv" + rows)
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(body, "\ufeff")))
	r.Comma = ';'
	lines, err := r.ReadAll()
	if err != nil {
		s.t.Fatal(err)
	}
	codes := make([]string, 0, len(lines))
	for _, line := range lines[1:] {
		if c := line[2]; c != "" && line[3] != c[:4]+" "+c[4:8]+" "+c[8:] {
			s.t.Errorf("in groups the code is of %d characters", len(line[3]))
		}
		codes = append(codes, line[2])
	}
	return codes
}

// file is what the API answers that is not JSON.
func (s *site) file(path string) string {
	s.t.Helper()
	token, err := s.Token()
	if err != nil {
		s.t.Fatal(err)
	}
	status, body, err := s.Call(s.t.Context(), http.DefaultClient, token, http.MethodGet, path, nil)
	if err != nil || status != http.StatusOK {
		s.t.Fatalf("GET %s: %d %v", path, status, err)
	}
	return string(body)
}

// counts of a rollout's rows by state.
func (s *site) counts(id string) map[string]any {
	s.t.Helper()
	counts, _ := s.API(s.t, http.StatusOK, http.MethodGet, "/rollouts/"+id+"/progress", nil)["counts"].(map[string]any)
	return counts
}

// row waits until a row is in a state.
func (s *site) row(id string, n int, state string) {
	s.t.Helper()
	var got any
	proc.Eventually(s.t, fmt.Sprintf("row %d is %s", n, state), func() bool {
		items, _ := s.API(s.t, http.StatusOK, http.MethodGet, "/rollouts/"+id+"/rows", nil)["items"].([]any)
		if len(items) < n {
			return false
		}
		row, _ := items[n-1].(map[string]any)
		got = row["state"]
		return got == state
	})
}

// feed yields what the server sends as events, until it ends them; nothing while the server cannot be reached.
func (s *site) feed(ctx context.Context, token, path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		s.mu.Lock()
		admin := s.Admin
		s.mu.Unlock()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/api/v1"+path, nil)
		if err != nil {
			return
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Accept", "text/event-stream")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if data, is := strings.CutPrefix(lines.Text(), "data: "); is && !yield(data) {
				return
			}
		}
	}
}

// watch follows a rollout's progress, also over restarts of the server, until it is done; it answers the last.
func (s *site) watch(ctx context.Context, id string) <-chan string {
	out := make(chan string, 1)
	s.t.Helper()
	token, err := s.Token()
	if err != nil {
		s.t.Fatal(err)
	}
	go func() {
		last := ""
		for ctx.Err() == nil && !strings.Contains(last, `"state":"done"`) {
			for data := range s.feed(ctx, token, "/rollouts/"+id+"/progress") {
				last = data
			}
		}
		out <- last
	}()
	return out
}

// Flow B: codes for many users, handed out as a list, used over days by phones of which some nobody planned; with a server
// killed while the codes are issued, while Users is away and when a phone is half in, and a phone without power meanwhile.
// In the end every user has one phone, and Users was told of each by its code.
func TestRollout(t *testing.T) {
	s := newSite(t)
	in := s.asUsers()
	const n = 6
	planned := mac(0x202)
	people := make([]string, n)
	plan := make([]map[string]any, n)
	for i := range people {
		people[i] = s.create("/users", map[string]any{"tenant_id": s.tenant, "display_name": fmt.Sprintf("=User %d", i+1)})
		s.create("/lines", map[string]any{"tenant_id": s.tenant, "user_id": people[i], "number": fmt.Sprint(4720 + i), "username": fmt.Sprint("acme", 4720+i), "password": "canary-sip-password"})
		plan[i] = map[string]any{"user_id": people[i]}
	}
	plan[1]["mac"] = planned
	id := s.create("/rollouts", map[string]any{"tenant_id": s.tenant, "category_id": s.desk, "name": "First floor", "users": plan})
	s.kill()
	proc.Eventually(t, "all codes are issued", func() bool { return s.counts(id)["pending"] == float64(n) })
	watched := s.watch(t.Context(), id)
	codes := s.sheet(id, "")
	seen := map[string]bool{}
	page := s.file("/rollouts/" + id + "/export?format=sheet")
	for i, code := range codes {
		drawn, err := qr.New(code)
		if err != nil || seen[code] {
			t.Fatalf("row %d has digits that are none, or somebody else's: %v", i+1, err)
		}
		seen[code] = true
		if !strings.Contains(page, drawn.SVG()) {
			t.Errorf("the sheet does not draw the code of row %d", i+1)
		}
	}
	comes := func(row int, mac domain.MAC, model string) *phone {
		return s.phone(mac, func(c *innovaphone.Config) {
			c.Model, c.EnterCode = model, enters(codes[row-1], codes[row-1], codes[row-1])
		})
	}

	// Users listens. A phone that is not the one planned for row 2 gets its form back; the one planned comes.
	hearing := s.listens(in)
	first := comes(1, mac(0x201), "IP222")
	s.expectIn(first)
	s.hears(hearing, codes[0], first.MAC())
	stranger := s.phone(mac(0x2ff), func(c *innovaphone.Config) { c.EnterCode = enters(codes[1]) })
	proc.Eventually(t, "the stranger has typed the code, and sees the form again", func() bool {
		return stranger.times(innovaphone.StepForm) > 1
	})
	if stranger.did(innovaphone.StepURL) {
		t.Error("a code for another phone led a stranger to Devices")
	}
	stranger.unplug()
	second := comes(2, planned, "IP101")
	s.expectIn(second)
	s.hears(hearing, codes[1], second.MAC())

	// Users is away. The third phone comes, the fourth loses its power with the code typed, and the server is killed.
	hearing.leave()
	third := comes(3, mac(0x203), "IP222")
	s.expectIn(third)
	fourth := comes(4, mac(0x204), "IP102")
	proc.Eventually(t, "the fourth has its code", func() bool { return fourth.did(innovaphone.StepCode) })
	fourth.unplug()
	s.kill()
	fourth.on()
	s.expectIn(fourth)
	hearing = s.listens(in)
	s.hears(hearing, codes[2], third.MAC())
	s.hears(hearing, codes[3], fourth.MAC())

	// Row 5 is taken back: its code is of no use. It gets a new one; row 6 more time, with the digits it has.
	s.API(t, http.StatusNoContent, http.MethodPost, "/rollouts/"+id+"/cancel", map[string]any{"rows": []int{5}})
	s.row(id, 5, "cancelled")
	old := codes[4]
	s.API(t, http.StatusNoContent, http.MethodPost, "/rollouts/"+id+"/reissue", map[string]any{"rows": []int{5}})
	s.row(id, 5, "pending")
	s.API(t, http.StatusNoContent, http.MethodPost, "/rollouts/"+id+"/extend", map[string]any{})
	again := s.sheet(id, "&rows=5,6")
	if again[0] == old || again[1] != codes[5] {
		t.Error("a row issued anew keeps its digits, or one with more time does not")
	}
	codes[4] = again[0]
	fifth := s.phone(mac(0x205), func(c *innovaphone.Config) { c.EnterCode = enters(old, codes[4]) })
	s.expectIn(fifth)
	sixth := comes(6, mac(0x206), "IP222")
	proc.Eventually(t, "the sixth is led to Devices", func() bool { return sixth.did(innovaphone.StepURL) })
	s.kill()
	s.expectIn(sixth)
	hearing.leave()
	hearing = s.listens(in)
	s.hears(hearing, codes[4], fifth.MAC())
	s.hears(hearing, codes[5], sixth.MAC())

	for i, p := range []*phone{first, second, third, fourth, fifth, sixth} {
		s.row(id, i+1, "registered")
		s.once(p.MAC(), "device.discovered", "device.assigned", "device.sysclient_password_set")
		if d := s.device(p.MAC()); d["user_id"] != people[i] || d["category_id"] != s.desk {
			t.Errorf("the phone of row %d is of %v in %v", i+1, d["user_id"], d["category_id"])
		}
		events, _ := s.API(t, http.StatusOK, http.MethodGet, fmt.Sprintf("/events?stream=rolloutrow-%s.%d&type=rollout.row_registered", id, i+1), nil)["items"].([]any)
		if len(events) != 1 {
			t.Errorf("row %d was registered %d times", i+1, len(events))
		}
	}
	select {
	case last := <-watched:
		var p struct{ Counts map[string]int }
		if err := json.Unmarshal([]byte(last), &p); err != nil || p.Counts["registered"] != n {
			t.Errorf("the feed ends with %s", last)
		}
	case <-time.After(time.Minute):
		t.Error("the feed does not end")
	}
	for _, code := range append(codes, old) {
		if strings.Contains(s.Log(), code) {
			t.Error("a code is in the log")
		}
	}
}

// Flow B as Users itself does it: a code of a week per user, asked for one after the other.
func TestUsersAsksForRolloutCodes(t *testing.T) {
	s := newSite(t)
	in := s.asUsers()
	hearing := s.listens(in)
	answers, err := hearing.client.Ask(t.Context(), "GetProvisioningCode", users.Message{"category": s.desk, "sip": s.user, "rollout": true})
	if err != nil {
		t.Fatal(err)
	}
	code := answers[0].Text("code")
	if until, _ := answers[0]["validUntil"].(float64); time.Until(time.Unix(int64(until), 0)) < 6*24*time.Hour {
		t.Errorf("the code is good until %v", until)
	}
	p := s.phone(mac(0x210), func(c *innovaphone.Config) { c.EnterCode = enters(code) })
	s.expectIn(p)
	s.hears(hearing, code, p.MAC())
	s.once(p.MAC(), "device.discovered", "device.assigned", "device.sysclient_password_set")
	if d := s.device(p.MAC()); d["user_id"] != s.user {
		t.Errorf("the phone is of %v", d["user_id"])
	}
}

// A phone nobody planned waits in the quarantine category, without lines and without a word to Users; vouched for, it has
// its user's, and Users is told.
func TestRolloutQuarantine(t *testing.T) {
	s := newSite(t)
	hearing := s.listens(s.asUsers())
	id := s.create("/rollouts", map[string]any{"tenant_id": s.tenant, "category_id": s.desk, "quarantine_id": s.lobby, "users": []map[string]any{{"user_id": s.user}}})
	s.row(id, 1, "pending")
	code := s.sheet(id, "")[0]
	p := s.phone(mac(0x220), func(c *innovaphone.Config) { c.EnterCode = enters(code) })
	s.expectIn(p)
	s.row(id, 1, "quarantined")
	if d := s.device(p.MAC()); d["category_id"] != s.lobby || d["user_id"] != nil && d["user_id"] != "" {
		t.Errorf("in quarantine it is of %v in %v", d["user_id"], d["category_id"])
	}
	s.kill()
	s.API(t, http.StatusNoContent, http.MethodPost, "/rollouts/"+id+"/rows/1/confirm", map[string]any{})
	s.row(id, 1, "registered")
	hearing.leave()
	if len(hearing.told) != 0 {
		t.Error("Users was told of a phone in quarantine")
	}
	hearing = s.listens(s.asUsers())
	s.hears(hearing, code, p.MAC())
	if d := s.device(p.MAC()); d["category_id"] != s.desk || d["user_id"] != s.user {
		t.Errorf("vouched for it is of %v in %v", d["user_id"], d["category_id"])
	}
	s.expectIn(p)
}
