package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"ledgerline/domain"
	"ledgerline/tests/appsim"
)

// softphones lets 10,000 apps of Cloud Softphone sign in, each with a code, and then refresh account and quick dials every
// hour by a clock that does not wait: the rate is what the server, and the apps beside it on the same processors, can do.
// A sign-in by password, which is slow on purpose, is measured on fewer.
func softphones(b *bench) error {
	s, err := start("softphone", "--public-url", "https://phones.bench.example/") // so that accounts say where to come back to
	if err != nil {
		return err
	}
	defer s.end()
	key, err := s.Token()
	if err != nil {
		return err
	}
	p := &softphoneBench{bench: b, measured: s, key: key, apps: make([]*simApp, b.scale(10_000)), withPassword: b.scale(500),
		api:   &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}},
		phone: plain{&http.Transport{MaxIdleConnsPerHost: 64}, s.Phones}}
	for _, part := range []func() error{p.furnish, p.codes, p.hours, p.passwords} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

type softphoneBench struct {
	*bench
	*measured
	key          string
	withPassword int // how many of the users sign in with a password, too
	portal       map[string]string
	apps         []*simApp
	api          *http.Client
	phone        http.RoundTripper
}

// simApp is an app and its clock.
type simApp struct {
	*appsim.App
	now time.Time
}

// newApp is an app that has what a code or the user says.
func (p *softphoneBench) newApp(in appsim.Inputs) *simApp {
	a := &simApp{now: time.Now()}
	a.App = appsim.New(appsim.Config{Portal: p.portal, HTTP: p.phone, Now: func() time.Time { return a.now }})
	a.Enter(in)
	return a
}

func (p *softphoneBench) call(want int, method, path string, body, answer any) error {
	status, b, err := p.Call(p.ctx, p.api, p.key, method, path, body)
	switch {
	case err != nil:
		return err
	case status != want:
		return fmt.Errorf("%s %s: %d %.300s", method, path, status, b)
	case answer == nil:
		return nil
	}
	return json.Unmarshal(b, answer)
}

// measure is how long do takes, by the clock and of the server's processor time.
func (p *softphoneBench) measure(do func() error) (took, cpu time.Duration, err error) {
	before, err := cpuOf(p.PID())
	if err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	if err := do(); err != nil {
		return 0, 0, err
	}
	took = time.Since(begun)
	after, err := cpuOf(p.PID())
	return took, after - before, err
}

// parallel does n things, some at a time.
func parallel(n, atATime int, do func(i int) error) error {
	var g errgroup.Group
	g.SetLimit(atATime)
	for i := range n {
		g.Go(func() error { return do(i) })
	}
	return g.Wait()
}

// furnish gives each of the users a line, a softphone and a code.
func (p *softphoneBench) furnish() error {
	if err := p.call(http.StatusCreated, http.MethodPost, "/tenants", map[string]any{"id": "bench", "name": "Bench", "domain": "bench.example"}, nil); err != nil {
		return err
	}
	if err := p.call(http.StatusCreated, http.MethodPost, "/cloudids", map[string]any{"id": "BENCH", "tenant_id": "bench", "document": domain.SoftphoneDocument{Nodes: map[string]string{"host": "sip.bench.example"},
		QuickDials: []domain.QuickDial{{ID: "desk", DisplayName: "Front desk", URI: "4000", Priority: 50}, {ID: "it", DisplayName: "Service desk", URI: "4001"}}}}, nil); err != nil {
		return err
	}
	p.portal = make(map[string]string)
	for _, d := range domain.PortalDefinitions("http://"+p.Phones, "BENCH") {
		p.portal[d.Name] = d.Value
	}
	delete(p.portal, appsim.Contacts+"Url") // every three minutes: another matter
	took, cpu, err := p.measure(func() error {
		return parallel(len(p.apps), 32, func(i int) error {
			id := fmt.Sprintf("u%05d", i)
			if err := p.call(http.StatusCreated, http.MethodPost, "/users", map[string]any{"id": id, "tenant_id": "bench", "display_name": fmt.Sprintf("Anna Bench %d", i)}, nil); err != nil {
				return err
			}
			if err := p.call(http.StatusCreated, http.MethodPost, "/lines", map[string]any{"id": id, "tenant_id": "bench", "user_id": id, "username": id, "password": "secret-" + id}, nil); err != nil {
				return err
			}
			if err := p.call(http.StatusCreated, http.MethodPost, "/softphones", map[string]any{"id": id, "tenant_id": "bench", "cloud_id": "BENCH", "line_id": id, "username": id + "@bench.example"}, nil); err != nil {
				return err
			}
			var code struct {
				Text string `json:"qr_text"`
			}
			if err := p.call(http.StatusCreated, http.MethodPost, "/softphones/"+id+"/code", struct{}{}, &code); err != nil {
				return err
			}
			typed, err := appsim.Scan(code.Text)
			p.apps[i] = p.newApp(typed)
			return err
		})
	})
	if err != nil {
		return err
	}
	n := len(p.apps)
	p.add(fmt.Sprintf("%s users with line, softphone and code, over the API", thousands(n)), perSecond(n, took, "users"), thousands(p.fsyncs)+" bare fsyncs/s", "")
	p.add("  the server's processor time", micros(cpu/time.Duration(n))+" a user", "", "")
	return nil
}

// passwords gives some users one and lets them sign in with it: account only, so that it is one check of argon2id each. Two
// are computed at a time: no more ask at once than can wait for that.
func (p *softphoneBench) passwords() error {
	apps := make([]*simApp, p.withPassword)
	if err := parallel(len(apps), 8, func(i int) error {
		id := fmt.Sprintf("u%05d", i)
		return p.call(http.StatusNoContent, http.MethodPut, "/softphones/"+id+"/password", map[string]any{"password": "password-" + id}, nil)
	}); err != nil {
		return err
	}
	for i := range apps {
		id := fmt.Sprintf("u%05d", i)
		apps[i] = p.newApp(appsim.Inputs{CloudID: "BENCH", Username: id + "@bench.example", Password: "password-" + id})
		apps[i].Portal = maps.Clone(p.portal)
		delete(apps[i].Portal, appsim.InitialGlobal+"Url")
	}
	took, cpu, err := p.measure(func() error { return parallel(len(apps), 8, func(i int) error { return apps[i].SignIn(p.ctx) }) })
	if err != nil {
		return err
	}
	p.add(fmt.Sprintf("sign-ins with a password (%s), each a check of argon2id", thousands(len(apps))), perSecond(len(apps), took, "sign-ins"), "", "")
	p.add("  the server's processor time", micros(cpu/time.Duration(len(apps)))+" each", "", "")
	return nil
}

// codes lets all apps sign in with their codes, account and quick dials.
func (p *softphoneBench) codes() error {
	before, _, err := memory(p.PID())
	if err != nil {
		return err
	}
	took, cpu, err := p.measure(func() error { return parallel(len(p.apps), 64, func(i int) error { return p.apps[i].SignIn(p.ctx) }) })
	if err != nil {
		return err
	}
	after, _, err := memory(p.PID())
	if err != nil {
		return err
	}
	n := len(p.apps)
	p.add(fmt.Sprintf("%s apps sign in with their codes: account, then quick dials", thousands(n)), fmt.Sprintf("%.1f s, %s", took.Seconds(), perSecond(n, took, "sign-ins")), thousands(p.fsyncs)+" bare fsyncs/s", "")
	p.add("  the server's processor time", micros(cpu/time.Duration(n))+" each", "", "")
	p.add("  memory after and before", fmt.Sprintf("%d MiB RSS", after>>10), fmt.Sprintf("%d MiB", before>>10), "")
	return nil
}

// hours lets an hour go by for all apps, several times.
func (p *softphoneBench) hours() error {
	n := len(p.apps)
	var bytes atomic.Int64
	hour := func() error {
		bytes.Store(0)
		return parallel(n, 64, func(i int) error {
			a := p.apps[i]
			a.now = a.now.Add(time.Hour)
			if err := a.Tick(p.ctx); err != nil {
				return err
			}
			calls := a.Calls()
			for _, c := range calls[len(calls)-2:] {
				if c.Err != "" || c.At != a.now {
					return fmt.Errorf("%s: %d %s", c.Service, c.Status, c.Err)
				}
				bytes.Add(int64(c.Bytes))
			}
			return nil
		})
	}
	took, cpu, err := p.measure(hour)
	if err != nil {
		return err
	}
	p.add("first hour after it: account and quick dials of each, read from the log", perSecond(2*n, took, "requests"), "", "")
	p.add("  the server's processor time", micros(cpu/time.Duration(2*n))+" a request", "", "")
	const times = 5
	kept, made, err := p.answered()
	if err != nil {
		return err
	}
	took, cpu, err = p.measure(func() error {
		for range times {
			if err := hour(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	keptAfter, madeAfter, err := p.answered()
	if err != nil {
		return err
	}
	kept, made = keptAfter-kept, madeAfter-made
	rss, peak, err := memory(p.PID())
	if err != nil {
		return err
	}
	requests := 2 * n * times
	limit, err := floor(p.ctx, int(bytes.Load())/(2*n), requests)
	if err != nil {
		return err
	}
	p.add(fmt.Sprintf("%s apps refresh every hour, %d hours", thousands(n), times), perSecond(requests, took, "requests"), "", "")
	p.add("  requests per second of the server's processor time", perSecond(requests, cpu, "requests"), limit, "")
	p.add("  the server's processor time", micros(cpu/time.Duration(requests))+" a request", "", "")
	p.add("  answered from what is kept, one look-up each", fmt.Sprintf("%s of %s", thousands(kept), thousands(kept+made)), "", "all")
	p.add("  an hour of all of them keeps one processor busy for", fmt.Sprintf("%.1f s", cpu.Seconds()/times), "", "")
	p.add("  memory", fmt.Sprintf("%d MiB RSS (peak %d)", rss>>10, peak>>10), "", "")
	return nil
}

// answered is how many documents came from what is kept, and how many were made.
func (p *softphoneBench) answered() (kept, made int, err error) {
	text, err := fetch(p.api, "http://"+p.Ops+"/metrics", "bench")
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "ledgerline_softphone_answers_total{"); ok {
			labels, value, _ := strings.Cut(rest, "} ")
			n := 0
			if _, err := fmt.Sscan(value, &n); err != nil {
				return 0, 0, err
			}
			if strings.Contains(labels, `from="cache"`) {
				kept += n
			} else {
				made += n
			}
		}
	}
	return kept, made, err
}

// plain carries what accounts say has to go over https to the server of this run, which has no certificate.
type plain struct {
	http.RoundTripper
	base string
}

func (p plain) RoundTrip(r *http.Request) (*http.Response, error) {
	r.URL.Scheme, r.URL.Host = "http", p.base
	return p.RoundTripper.RoundTrip(r)
}
