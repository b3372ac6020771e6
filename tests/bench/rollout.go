package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"ledgerline/domain"
)

// rollouts: codes for 10,000 users, from the request until all can be seen; their CSV; and a phone for each of them that
// uses its code as a sysclient, while somebody watches the progress.
func rollouts(b *bench) error {
	s, err := start("rollout")
	if err != nil {
		return err
	}
	defer s.end()
	key, err := s.Token()
	if err != nil {
		return err
	}
	r := &rolloutBench{bench: b, measured: s, key: key, users: b.scale(10_000)}
	if err := r.furnish(); err != nil {
		return err
	}
	for _, part := range []func() error{r.issue, r.export, r.redeem} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

type rolloutBench struct {
	*bench
	*measured
	key   string
	users int
	codes []string
}

func (r *rolloutBench) call(want int, method, path string, body any) ([]byte, error) {
	status, b, err := r.Call(r.ctx, http.DefaultClient, r.key, method, path, body)
	if err == nil && status != want {
		err = fmt.Errorf("%s %s: %d %.300s", method, path, status, b)
	}
	return b, err
}

// furnish makes the tenant, its category and its users, each with a line.
func (r *rolloutBench) furnish() error {
	_, err := r.call(http.StatusCreated, http.MethodPost, "/tenants", map[string]any{"id": "bench", "name": "Bench", "domain": "bench.example"})
	if err != nil {
		return err
	}
	if _, err := r.call(http.StatusCreated, http.MethodPost, "/categories", map[string]any{"id": "desk", "tenant_id": "bench", "name": "desk", "kind": "provisioning"}); err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(32)
	for i := range r.users {
		g.Go(func() error {
			user := fmt.Sprintf("u%05d", i)
			_, err := r.call(http.StatusCreated, http.MethodPost, "/users", map[string]any{"id": user, "tenant_id": "bench", "display_name": fmt.Sprintf("Anna Bench %d", i)})
			if err == nil {
				_, err = r.call(http.StatusCreated, http.MethodPost, "/lines", map[string]any{"tenant_id": "bench", "user_id": user, "number": fmt.Sprint(10_000 + i), "username": user, "password": "secret"})
			}
			return err
		})
	}
	return g.Wait()
}

// progress of a rollout, as the API has it.
type progress struct {
	State  string         `json:"state"`
	Rows   int            `json:"rows"`
	Counts map[string]int `json:"counts"`
}

// progress is where the rollout stands; the zero one while it cannot be seen yet.
func (r *rolloutBench) progress() (p progress, err error) {
	status, b, err := r.Call(r.ctx, http.DefaultClient, r.key, http.MethodGet, "/rollouts/r1/progress", nil)
	switch {
	case err != nil || status == http.StatusNotFound:
		return p, err
	case status != http.StatusOK:
		return p, fmt.Errorf("progress: %d %.300s", status, b)
	}
	return p, json.Unmarshal(b, &p)
}

func (r *rolloutBench) issue() error {
	before, err := cpuOf(r.PID())
	if err != nil {
		return err
	}
	begun := time.Now()
	if _, err := r.call(http.StatusCreated, http.MethodPost, "/rollouts", map[string]any{"id": "r1", "tenant_id": "bench", "category_id": "desk", "all": true}); err != nil {
		return err
	}
	answered := time.Since(begun)
	ctx, cancel := context.WithTimeout(r.ctx, 5*time.Minute)
	defer cancel()
	var p progress
	if err := until(ctx, 20*time.Millisecond, func() (_ bool, err error) {
		p, err = r.progress()
		return p.Counts[domain.RowPending] == r.users, err
	}); err != nil {
		return fmt.Errorf("the rollout is %+v: %w", p, err)
	}
	took := time.Since(begun)
	after, err := cpuOf(r.PID())
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("rollout of %s users: from the request until every code can be seen", thousands(r.users)),
		fmt.Sprintf("%.2f s, %s", took.Seconds(), perSecond(r.users, took, "codes")), thousands(r.fsyncs)+" bare fsyncs/s", "≤ 5 s")
	r.add("the same: the request answered; the server's processor time", fmt.Sprintf("%.2f s; %s a code", answered.Seconds(), micros((after-before)/time.Duration(r.users))), "", "")
	return nil
}

func (r *rolloutBench) export() error {
	begun := time.Now()
	b, err := r.call(http.StatusOK, http.MethodGet, "/rollouts/r1/export?format=csv", nil)
	took := time.Since(begun)
	if err != nil {
		return err
	}
	sheet := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(b), "\ufeff")))
	sheet.Comma = ';'
	rows, err := sheet.ReadAll()
	if err != nil {
		return err
	}
	for _, row := range rows[1:] {
		if len(row[2]) != 12 {
			return fmt.Errorf("a row of the CSV has a code of %d digits", len(row[2]))
		}
		r.codes = append(r.codes, row[2])
	}
	if len(r.codes) != r.users {
		return fmt.Errorf("the CSV has %d codes", len(r.codes))
	}
	r.add(fmt.Sprintf("CSV of %s codes, opened from their seals", thousands(r.users)), fmt.Sprintf("%.2f s, %d KiB", took.Seconds(), len(b)>>10), "", "≤ 1 s")
	return nil
}

// redeem connects a phone for each code, 100 at a time: it shows its code, gets its password, and leaves.
func (r *rolloutBench) redeem() error {
	before, err := cpuOf(r.PID())
	if err != nil {
		return err
	}
	begun := time.Now()
	seen := make(chan watched, 1)
	go func() { seen <- r.watch(begun) }()
	g, ctx := errgroup.WithContext(r.ctx)
	g.SetLimit(100)
	url := "ws://" + r.Phones + "/bench.example/devices/sysclients"
	for i, code := range r.codes {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			d := &benchDevice{mac: fmt.Sprintf("009033%06x", i), code: code}
			if err := d.connect(ctx, url, i); err != nil {
				return err
			}
			defer d.ws.CloseNow()
			return d.let(ctx)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	let := time.Since(begun)
	w := <-seen
	if w.err != nil {
		return w.err
	}
	after, err := cpuOf(r.PID())
	if err != nil {
		return err
	}
	if w.last.State != "done" || w.last.Counts[domain.RowRegistered] != r.users {
		return fmt.Errorf("in the end the rollout is %+v", w.last)
	}
	r.add(fmt.Sprintf("%s phones, each with its code: all have their password", thousands(r.users)), fmt.Sprintf("%.1f s, %s", let.Seconds(), perSecond(r.users, let, "phones")), thousands(r.fsyncs)+" bare fsyncs/s", "")
	r.add("the same, as the feed of progress tells it", fmt.Sprintf("all registered after %.1f s, told in %d steps", w.took.Seconds(), w.steps), "", "")
	r.add("the same: the server's processor time", micros((after-before)/time.Duration(r.users))+" a phone", "", "")
	return nil
}

// watched is what the feed of progress said.
type watched struct {
	steps int
	last  progress
	took  time.Duration
	err   error
}

// watch follows the progress until it is done.
func (r *rolloutBench) watch(begun time.Time) (w watched) {
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Admin+"/api/v1/rollouts/r1/progress", nil)
	if err != nil {
		return watched{err: err}
	}
	req.Header.Set("Authorization", "Bearer "+r.key)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return watched{err: err}
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		data, is := strings.CutPrefix(lines.Text(), "data: ")
		if !is {
			continue
		}
		w.last = progress{}
		if w.err = json.Unmarshal([]byte(data), &w.last); w.err != nil {
			return w
		}
		w.steps, w.took = w.steps+1, time.Since(begun)
	}
	return watched{w.steps, w.last, w.took, errors.Join(w.err, lines.Err())}
}
