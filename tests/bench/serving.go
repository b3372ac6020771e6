package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pin/tftp/v3"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"ledgerline/adapters/phonehttp"
	"ledgerline/adapters/phonetftp"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/rig"
)

// fleet is a running engine with configured devices, and the phone plane over it.
type fleet struct {
	*rig.Rig
	dir     string
	macs    []domain.MAC
	http    string // address of the phone plane
	timed   *timedFiles
	stopped []func()
}

const userAgent = "Yealink SIP-T54W 96.86.0.70 "

// newFleet makes n devices, each with a user and a line, below one tenant layer.
func newFleet(b *bench, n int) (*fleet, error) {
	dir, err := os.MkdirTemp("", "bench-fleet-")
	if err != nil {
		return nil, err
	}
	f := &fleet{dir: dir}
	if f.Rig, err = rig.Open(b.ctx, dir); err != nil {
		return nil, err
	}
	if err := f.Start(b.ctx); err != nil {
		return nil, err
	}
	ctx := commands.WithCaller(b.ctx, commands.Caller{Actor: "system:bench"})
	if _, _, err := f.Service.CreateTenant(ctx, commands.CreateTenant{ID: "bench", Name: "Bench"}); err != nil {
		return nil, err
	}
	if _, _, err := f.Service.DefineLayer(ctx, commands.DefineLayer{ID: domain.TenantLayer("bench"), TenantID: "bench",
		Settings: domain.Settings{"sip_proxy_ip": "192.0.2.1", "sip_registrar_ip": "192.0.2.1", "timezone": "Europe/Berlin"}}); err != nil {
		return nil, err
	}
	var g errgroup.Group
	g.SetLimit(32)
	f.macs = make([]domain.MAC, n)
	for i := range n {
		g.Go(func() error {
			f.macs[i] = domain.MAC(fmt.Sprintf("001565%06x", i))
			user, line := domain.UserID(fmt.Sprintf("u%d", i)), domain.LineID(fmt.Sprintf("l%d", i))
			if _, _, err := f.Service.DefineUser(ctx, commands.DefineUser{ID: user, TenantID: "bench", DisplayName: fmt.Sprintf("User %d", i)}); err != nil {
				return err
			}
			if _, _, err := f.Service.DefineLine(ctx, commands.DefineLine{ID: line, TenantID: "bench", UserID: user, Username: string(line), Password: fmt.Sprintf("secret-%d", i)}); err != nil {
				return err
			}
			_, _, err := f.Service.DiscoverDevice(ctx, commands.DiscoverDevice{MAC: f.macs[i], Vendor: "Yealink", Model: "T54W", Firmware: "96.86.0.70", Added: "operator", TenantID: "bench", UserID: user})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if _, err := f.Settle(b.ctx); err != nil {
		return nil, err
	}
	return f, f.serveHTTP(b.ctx)
}

// timedFiles measures every decision of the phone plane on the server's side.
type timedFiles struct {
	*commands.Service
	mu    sync.Mutex
	took  []time.Duration
	watch atomic.Bool
}

func (t *timedFiles) ServeFile(ctx context.Context, in commands.ServeFile) (commands.Served, error) {
	if !t.watch.Load() {
		return t.Service.ServeFile(ctx, in)
	}
	begun := time.Now()
	v, err := t.Service.ServeFile(ctx, in)
	d := time.Since(begun)
	t.mu.Lock()
	t.took = append(t.took, d)
	t.mu.Unlock()
	return v, err
}

func (f *fleet) serveHTTP(ctx context.Context) error {
	f.timed = &timedFiles{Service: f.Service}
	server, err := phonehttp.New(phonehttp.Options{Files: f.timed})
	if err != nil {
		return err
	}
	f.http, err = f.listen(ctx, server)
	return err
}

// listen lets server serve until the fleet is closed, and answers its address.
func (f *fleet) listen(ctx context.Context, server *phonehttp.Server) (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	f.background(ctx, func(ctx context.Context) error { return server.Serve(ctx, ln) })
	return ln.Addr().String(), nil
}

// background runs serve until the fleet is closed.
func (f *fleet) background(ctx context.Context, serve func(context.Context) error) {
	ctx, stop := context.WithCancel(zerolog.Nop().WithContext(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = serve(ctx) // ends with the fleet
	}()
	f.stopped = append(f.stopped, func() { stop(); <-done })
}

func (f *fleet) close() error {
	for _, stop := range slices.Backward(f.stopped) {
		stop()
	}
	err := f.Close()
	return errors.Join(err, os.RemoveAll(f.dir))
}

// plainServer is a bare net/http handler that answers the same bytes.
func plainServer(body []byte) (address string, stop func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(body) // the client counts
	})}
	go func() { _ = s.Serve(ln) }()
	return ln.Addr().String(), func() { _ = s.Close() }, nil
}

// fetch gets one file and answers its body.
func fetch(client *http.Client, url, agent string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", agent)
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return body, err
}

// fetchAll makes n requests from 32 clients, over kept connections or new ones, and answers how long it took.
func fetchAll(n int, keepAlive bool, url func(i int) (string, string)) (time.Duration, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableKeepAlives: !keepAlive}}
	defer client.CloseIdleConnections()
	var g errgroup.Group
	var next atomic.Int64
	begun := time.Now()
	for range 32 {
		g.Go(func() error {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				u, agent := url(i)
				if _, err := fetch(client, u, agent); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return time.Since(begun), err
}

// serving: cached reads over HTTP beside a plain handler, and the first render of a device.
func serving(b *bench) (err error) {
	f, err := newFleet(b, b.scale(1000))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	ours := func(i int) (string, string) {
		mac := f.macs[i%len(f.macs)]
		return "http://" + f.http + "/" + string(mac) + ".cfg", userAgent + mac.Colons()
	}
	u, agent := ours(0)
	body, err := fetch(http.DefaultClient, u, agent)
	if err != nil {
		return err
	}
	address, stop, err := plainServer(body)
	if err != nil {
		return err
	}
	defer stop()
	bare := func(int) (string, string) { return "http://" + address + "/x.cfg", userAgent }
	for _, kept := range []bool{true, false} {
		n, how, aim := b.scale(100_000), "keep-alive", "≥ 10,000"
		if !kept {
			n, how, aim = b.scale(20_000), "new connections", ""
		}
		if _, err := fetchAll(n/10, kept, ours); err != nil {
			return err
		}
		took, err := fetchAll(n, kept, ours)
		if err != nil {
			return err
		}
		plain, err := fetchAll(n, kept, bare)
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("cached config reads over HTTP, %s (client on the same cores)", how), perSecond(n, took, "reads"), perSecond(n, plain, "reads of a plain handler"), aim)
	}
	return firstRender(b, f)
}

// firstRender makes the files of devices anew from their streams, one after the other, beside the template alone.
func firstRender(b *bench, f *fleet) error {
	n := min(b.scale(500), len(f.macs))
	var all, bare []time.Duration
	for _, mac := range f.macs[:n] {
		begun := time.Now()
		if _, _, err := f.Service.RegenerateConfig(b.ctx, commands.RegenerateConfig{ID: domain.DeviceID(mac)}); err != nil {
			return err
		}
		all = append(all, time.Since(begun))
		d, _, err := f.Service.CurrentDevice(b.ctx, domain.DeviceID(mac))
		if err != nil {
			return err
		}
		stack, err := f.Service.Settings(b.ctx, d)
		if err != nil {
			return err
		}
		settings := stack.Merged()
		begun = time.Now()
		if _, err := f.Service.Renderer.Render(b.ctx, commands.Render{Plugin: commands.PluginRef{Name: d.Plugin}, MAC: d.MAC, Model: d.Model, Fw: d.Firmware, ID: d.ID, Settings: settings, BaseURL: "http://192.0.2.1/d/x/"}); err != nil {
			return err
		}
		bare = append(bare, time.Since(begun))
	}
	slices.Sort(all)
	slices.Sort(bare)
	b.add("render of one device from its streams, median (p99)", fmt.Sprintf("%s (%s)", micros(all[n/2]), micros(all[n*99/100])), micros(bare[n/2])+" the template alone", "")
	return nil
}

// tftpReads: config reads over TFTP beside a bare TFTP server with the same bytes.
func tftpReads(b *bench) (err error) {
	f, err := newFleet(b, b.scale(200))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	server, err := phonetftp.New(phonetftp.Options{Files: f.Service, MaxTransfers: 1 << 16, MaxTransfersPerSource: 1 << 16, RatePerSource: 1 << 30})
	if err != nil {
		return err
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	f.background(b.ctx, func(ctx context.Context) error { return server.Serve(ctx, pc) })
	name := func(i int) string { return string(f.macs[i%len(f.macs)]) + ".cfg" }
	body, err := tftpGet(pc.LocalAddr().String(), name(0))
	if err != nil {
		return err
	}
	plain := tftp.NewServer(func(_ string, rf io.ReaderFrom) error {
		_, err := rf.ReadFrom(bytes.NewReader(body))
		return err
	}, nil)
	ppc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = plain.Serve(ppc.(*net.UDPConn)) }()
	defer plain.Shutdown()
	n := b.scale(5000)
	rate := func(address string) (time.Duration, error) {
		var g errgroup.Group
		g.SetLimit(16)
		begun := time.Now()
		for i := range n {
			g.Go(func() error { _, err := tftpGet(address, name(i)); return err })
		}
		err := g.Wait()
		return time.Since(begun), err
	}
	took, err := rate(pc.LocalAddr().String())
	if err != nil {
		return err
	}
	bare, err := rate(ppc.LocalAddr().String())
	if err != nil {
		return err
	}
	b.add(fmt.Sprintf("config reads over TFTP, %d bytes, blksize 1428", len(body)), perSecond(n, took, "reads"), perSecond(n, bare, "reads of a bare server"), "")
	return nil
}

func tftpGet(address, name string) ([]byte, error) {
	c, err := tftp.NewClient(address)
	if err != nil {
		return nil, err
	}
	c.SetBlockSize(1428)
	wt, err := c.Receive(name, "octet")
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	_, err = wt.WriteTo(&buf)
	return buf.Bytes(), err
}

// sweepUnderFetches: a layer that 5,000 phones share changes while phones fetch at a steady rate.
func sweepUnderFetches(b *bench) (err error) {
	f, err := newFleet(b, b.scale(5000))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	u := "http://" + f.http + "/"
	body, err := fetch(http.DefaultClient, u+string(f.macs[0])+".cfg", userAgent+f.macs[0].Colons())
	if err != nil {
		return err
	}
	address, stop, err := plainServer(body)
	if err != nil {
		return err
	}
	defer stop()
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	var bare []time.Duration
	ours := steadyLoad(ctx, func(i int) {
		mac := f.macs[(i*7919)%len(f.macs)]
		_, _ = fetch(http.DefaultClient, u+string(mac)+".cfg", userAgent+mac.Colons()) // its time is what counts
	})
	barely := steadyLoad(ctx, func(int) {
		begun := time.Now()
		_, _ = fetch(http.DefaultClient, "http://"+address+"/x", userAgent)
		bare = append(bare, time.Since(begun))
	})
	f.timed.watch.Store(true)
	begun := time.Now()
	out, err := f.Service.AmendLayer(commands.WithCaller(ctx, commands.Caller{Actor: "system:bench"}), commands.AmendLayer{ID: domain.TenantLayer("bench"),
		Settings: domain.Settings{"sip_proxy_ip": "192.0.2.2", "sip_registrar_ip": "192.0.2.2", "timezone": "America/New_York"}})
	if err != nil {
		return err
	}
	if err := f.Reactor.WaitFor(ctx, out.Position); err != nil {
		return err
	}
	took := time.Since(begun)
	f.timed.watch.Store(false)
	cancel()
	<-ours
	<-barely
	slices.Sort(f.timed.took)
	slices.Sort(bare)
	n := len(f.timed.took)
	if n == 0 || len(bare) == 0 {
		return errors.New("no fetch fell into the sweep")
	}
	p := func(d []time.Duration, q float64) time.Duration { return d[min(len(d)-1, int(float64(len(d))*q))] }
	b.add(fmt.Sprintf("fetch while a layer of %s phones changes: worst (p99.9, median) of %d", thousands(len(f.macs)), n),
		fmt.Sprintf("%s (%s, %s)", micros(f.timed.took[n-1]), micros(p(f.timed.took, 0.999)), micros(p(f.timed.took, 0.5))),
		fmt.Sprintf("bare handler, same load: %s (%s)", micros(bare[len(bare)-1]), micros(p(bare, 0.5))), "≤ 50 ms")
	b.add(fmt.Sprintf("sweep of %s devices after the change", thousands(len(f.macs))), fmt.Sprintf("%.1f s, %s", took.Seconds(), perSecond(len(f.macs), took, "devices")), "", "")
	return nil
}

// steadyLoad calls do every 5 ms until ctx ends; the channel is closed when it has stopped.
func steadyLoad(ctx context.Context, do func(i int)) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				do(i)
			}
		}
	}()
	return done
}
