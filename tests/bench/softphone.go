package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"ledgerline/adapters/phonehttp"
	"ledgerline/adapters/softphone"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/appsim"
)

// appsRefresh lets 10,000 apps of Cloud Softphone sign in and then refresh account and quick dials every hour by a clock
// that does not wait: the rate is what the server and the apps, in one process on the same processors, can do.
func appsRefresh(b *bench) error {
	n := b.scale(10_000)
	f, err := newFleet(b, 0)
	if err != nil {
		return err
	}
	defer f.close()
	metrics := prometheus.NewRegistry()
	server, err := phonehttp.New(phonehttp.Options{Files: f.timed, Mounts: []phonehttp.Mount{{Segment: softphone.Segment, Handler: softphone.New(softphone.Options{Provisioner: f.Service, Metrics: metrics,
		Client: func(context.Context) softphone.Client { return softphone.Client{IP: "127.0.0.1", Private: true} }})}}})
	if err != nil {
		return err
	}
	base, err := f.listen(b.ctx, server)
	if err != nil {
		return err
	}
	f.Service.PublicURL = "https://" + base + "/" // so that accounts say where to come back to
	apps, err := f.signInApps(b, base, n)
	if err != nil {
		return err
	}
	if path := os.Getenv("BENCH_PROFILE"); path != "" {
		out, err := os.Create(path)
		if err != nil {
			return err
		}
		defer out.Close()
		if err := pprof.StartCPUProfile(out); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	const hours = 5 // the first two settle what was recorded of the sign-in and of the first refresh
	var calls, kept int
	var took, cpu time.Duration
	for hour := range hours {
		for _, a := range apps {
			a.now = a.now.Add(time.Hour)
		}
		before, begun := cpuTime(), time.Now()
		keptBefore, madeBefore := sum(metrics, "cache"), sum(metrics, "log")
		if err := refreshAll(b.ctx, apps); err != nil {
			return err
		}
		if hour > 1 {
			took, cpu = took+time.Since(begun), cpu+cpuTime()-before
			kept += sum(metrics, "cache") - keptBefore
			calls += sum(metrics, "cache") - keptBefore + sum(metrics, "log") - madeBefore
		} else if hour == 0 {
			b.add(fmt.Sprintf("first refresh of %s apps after their sign-in", thousands(n)), perSecond(2*n, time.Since(begun), "requests"), "", "")
		}
	}
	b.add(fmt.Sprintf("%s apps refresh every hour: account and quick dials", thousands(n)), perSecond(calls, took, "requests"), "", "")
	b.add("  of these from the cache, one look-up each", fmt.Sprintf("%s of %s", thousands(kept), thousands(calls)), "", "all")
	b.add("  processor time of server and apps per request", micros(cpu/time.Duration(max(calls, 1))), "", "")
	b.add("  an hour of all of them keeps one processor busy for", fmt.Sprintf("%.1f s", cpu.Seconds()/(hours-2)), "", "")
	return nil
}

// simApp is an app and its clock.
type simApp struct {
	*appsim.App
	now time.Time
}

// signInApps defines a softphone for each of n users and lets their apps sign in with a code.
func (f *fleet) signInApps(b *bench, base string, n int) ([]*simApp, error) {
	ctx := commands.WithCaller(b.ctx, commands.Caller{Actor: "system:bench"})
	if _, _, _, err := f.Service.DefineCloudID(ctx, commands.DefineCloudID{ID: "BENCH", TenantID: "bench", Document: domain.SoftphoneDocument{Nodes: map[string]string{"host": "sip.bench.example"},
		QuickDials: []domain.QuickDial{{ID: "desk", DisplayName: "Front desk", URI: "4000", Priority: 50}, {ID: "it", DisplayName: "Service desk", URI: "4001"}}}}); err != nil {
		return nil, err
	}
	portal := make(map[string]string)
	for _, d := range domain.PortalDefinitions("http://"+base, "BENCH") {
		if !strings.HasPrefix(d.Name, appsim.InitialGlobal) { // another check of argon2id for each app
			portal[d.Name] = d.Value
		}
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	apps := make([]*simApp, n)
	var g errgroup.Group
	g.SetLimit(32)
	begun := time.Now()
	for i := range n {
		g.Go(func() error {
			user, line, id := domain.UserID(fmt.Sprintf("u%d", i)), domain.LineID(fmt.Sprintf("l%d", i)), domain.SoftphoneID(fmt.Sprintf("p%d", i))
			if _, _, err := f.Service.DefineUser(ctx, commands.DefineUser{ID: user, TenantID: "bench", DisplayName: fmt.Sprintf("User %d", i)}); err != nil {
				return err
			}
			if _, _, err := f.Service.DefineLine(ctx, commands.DefineLine{ID: line, TenantID: "bench", UserID: user, Username: string(line), Password: fmt.Sprintf("secret-%d", i)}); err != nil {
				return err
			}
			if _, _, _, err := f.Service.DefineSoftphone(ctx, commands.DefineSoftphone{ID: id, TenantID: "bench", CloudID: "BENCH", LineID: line, Username: string(user)}); err != nil {
				return err
			}
			code, _, err := f.Service.IssueSoftphoneCode(ctx, commands.IssueSoftphoneCode{ID: id})
			if err != nil {
				return err
			}
			typed, err := appsim.Scan(code.QRText)
			if err != nil {
				return err
			}
			a := &simApp{now: time.Now()}
			a.App = appsim.New(appsim.Config{Portal: portal, HTTP: plain{transport, base}, Now: func() time.Time { return a.now }})
			a.Enter(typed)
			apps[i] = a
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	b.add(fmt.Sprintf("softphones defined, with user, line and code (%s)", thousands(n)), perSecond(n, time.Since(begun), "softphones"), "", "")
	// Codes are checked with argon2id, two at a time: as many apps as wait for that without being told to come back.
	g.SetLimit(16)
	begun = time.Now()
	for _, a := range apps {
		g.Go(func() error { return a.SignIn(b.ctx) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	b.add("  sign-ins, each a check of argon2id", perSecond(n, time.Since(begun), "sign-ins"), "", "")
	return apps, nil
}

func refreshAll(ctx context.Context, apps []*simApp) error {
	var g errgroup.Group
	g.SetLimit(64)
	for _, a := range apps {
		g.Go(func() error {
			if err := a.Tick(ctx); err != nil {
				return err
			}
			calls := a.Calls()
			for _, c := range calls[max(0, len(calls)-2):] {
				if c.Err != "" {
					return fmt.Errorf("%s: %s", c.Service, c.Err)
				}
			}
			return nil
		})
	}
	return g.Wait()
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

// sum is how many documents came from where.
func sum(g prometheus.Gatherer, from string) (n int) {
	families, err := g.Gather()
	if err != nil {
		return 0
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "ledgerline_softphone_answers_total" && l.GetName() == "from" && l.GetValue() == from {
					n += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return n
}

// cpuTime is what this process has used of the processors so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
