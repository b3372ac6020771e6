package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"

	"ledgerline/adapters/sysclient/wire"
	"ledgerline/tests/proc"
)

// sysclients: 5,000 innovaphone devices on one server at once: their first connection with a token, the storm when all
// come back and are challenged, and what a message takes then.
func sysclients(b *bench) error {
	s, err := start("sysclient")
	if err != nil {
		return err
	}
	defer s.end()
	const token = "bench-token-0001"
	if err := furnishSysclients(b.ctx, s.Server, token); err != nil {
		return err
	}
	empty, _, err := memory(s.PID())
	if err != nil {
		return err
	}
	n := b.scale(5000)
	f := &storming{server: s.Server, url: "ws://" + s.Phones + "/bench.example/devices/sysclients", devices: make([]*benchDevice, n)}
	for i := range f.devices {
		f.devices[i] = &benchDevice{mac: fmt.Sprintf("009033%06x", i)}
	}
	for _, storm := range []struct{ what, query string }{{"first connection, with a token", "?domain=bench.example&category=desk&token=" + token}, {"all come back, challenged", ""}} {
		took, err := f.storm(b.ctx, storm.query)
		if err != nil {
			return err
		}
		rss, peak, err := memory(s.PID())
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("%s sysclients: %s", thousands(n), storm.what), fmt.Sprintf("%.1f s, %s", took.Seconds(), perSecond(n, took, "devices")), thousands(s.fsyncs)+" bare fsyncs/s", "")
		b.add("memory with them connected, "+storm.what, fmt.Sprintf("%d MiB RSS (peak %d)", rss>>10, peak>>10), fmt.Sprintf("%d MiB before", empty>>10), "")
		if storm.query != "" {
			f.leave()
			if err := f.until(b.ctx, 0); err != nil {
				return err
			}
		}
	}
	defer f.leave()
	if err := f.latencies(b); err != nil {
		return err
	}
	return nil
}

// furnishSysclients makes a tenant and a category whose token lets devices in.
func furnishSysclients(ctx context.Context, s *proc.Server, token string) error {
	key, err := s.Token()
	if err != nil {
		return err
	}
	for _, c := range []struct {
		path string
		body map[string]any
	}{{"/tenants", map[string]any{"id": "bench", "name": "Bench", "domain": "bench.example"}},
		{"/categories", map[string]any{"id": "desk", "tenant_id": "bench", "name": "desk", "kind": "provisioning"}},
		{"/tokens", map[string]any{"category_id": "desk", "existing_token": token}}} {
		status, body, err := s.Call(ctx, http.DefaultClient, key, http.MethodPost, c.path, c.body)
		if err != nil || status != http.StatusCreated {
			return errors.Join(err, fmt.Errorf("POST %s: %d %s", c.path, status, body))
		}
	}
	return nil
}

// storming is devices that connect to one server.
type storming struct {
	server  *proc.Server
	url     string
	devices []*benchDevice
}

// storm connects all, 200 dials at a time, and waits until the server has let them in.
func (f *storming) storm(ctx context.Context, query string) (time.Duration, error) {
	begun := time.Now()
	var g errgroup.Group
	g.SetLimit(200)
	for i, d := range f.devices {
		g.Go(func() error { return d.connect(ctx, f.url+query, i) })
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	err := f.until(ctx, len(f.devices))
	return time.Since(begun), err
}

// until waits until that many devices are in, as the server's metrics have it.
func (f *storming) until(ctx context.Context, n int) error {
	want := fmt.Sprintf(`ledgerline_sysclients{state="in"} %d`, n)
	last := ""
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := until(ctx, 20*time.Millisecond, func() (bool, error) {
		resp, err := http.Get("http://" + f.server.Ops + "/metrics")
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), `ledgerline_sysclients{state="in"}`) {
				last = lines.Text()
			}
		}
		return last == want, nil
	}); err != nil {
		return fmt.Errorf("%s, want %d: %w", last, n, err)
	}
	return nil
}

func (f *storming) leave() {
	for _, d := range f.devices {
		d.ws.CloseNow()
		<-d.gone
	}
}

// latencies: an answer to Identify, and a page of a device through its tunnel, while all are connected.
func (f *storming) latencies(b *bench) error {
	key, err := f.server.Token()
	if err != nil {
		return err
	}
	var asked, pages []time.Duration
	for i := range b.scale(1000) {
		d := f.devices[(i*7)%len(f.devices)]
		select {
		case <-d.challenged: // of the storm
		default:
		}
		begun := time.Now()
		if err := d.identify(b.ctx, ""); err != nil {
			return err
		}
		<-d.challenged
		asked = append(asked, time.Since(begun))
	}
	if err := f.until(b.ctx, len(f.devices)); err != nil {
		return err
	}
	for i := range b.scale(1000) {
		d := f.devices[(i*11)%len(f.devices)]
		begun := time.Now()
		status, body, err := f.server.Call(b.ctx, http.DefaultClient, key, http.MethodGet, "/devices/"+d.mac+"/passthrough/admin.xml", nil)
		if err != nil || status != http.StatusOK {
			return errors.Join(err, fmt.Errorf("page of %s: %d %s", d.mac, status, body))
		}
		pages = append(pages, time.Since(begun))
	}
	for _, row := range []struct {
		what string
		took []time.Duration
	}{{"Identify to challenge with them connected, median (p99)", asked}, {"page of one through API and tunnel, two durable events, median (p99)", pages}} {
		slices.Sort(row.took)
		b.add(row.what, fmt.Sprintf("%s (%s)", micros(row.took[len(row.took)/2]), micros(row.took[len(row.took)*99/100])), "", "")
	}
	return nil
}

// benchDevice is as little of a device as will do: it proves itself, and its web server has one page.
type benchDevice struct {
	mac        string
	code       string // that it shows
	ws         *websocket.Conn
	gone       chan struct{}
	challenged chan struct{}
	given      chan struct{} // a password

	mu       sync.Mutex
	password string
}

// connect opens the connection from an address of its own /24, for the server bounds those of one network.
func (d *benchDevice) connect(ctx context.Context, url string, n int) error {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(1+n/50_000), byte(n/200%250), 1)}, Timeout: 30 * time.Second}
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	tries := 0
	if err := until(ctx, 50*time.Millisecond, func() (_ bool, err error) {
		if d.ws, _, err = websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: client}); err != nil && tries < 20 {
			tries++
			return false, nil
		}
		return true, err
	}); err != nil {
		return err
	}
	d.gone, d.challenged, d.given = make(chan struct{}), make(chan struct{}, 1), make(chan struct{}, 1)
	if err := d.identify(ctx, ""); err != nil {
		return err
	}
	go d.read(ctx)
	return nil
}

// let waits until the device was given a password.
func (d *benchDevice) let(ctx context.Context) error {
	select {
	case <-d.given:
		return nil
	case <-d.gone:
		return fmt.Errorf("%s was not let in", d.mac)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *benchDevice) identify(ctx context.Context, challenge string) error {
	i := wire.Identify{ID: d.mac, Product: "IP222", Version: "13r3 sr1 [13.5421/135421/1300]", Platform: wire.Platform{Type: "PHONE"}, FwBuild: "135421", BcBuild: "135421", ProvisioningCode: d.code}
	if challenge != "" {
		d.mu.Lock()
		i.Digest = wire.Digest(i.ID, i.Product, i.Version, challenge, d.password)
		d.mu.Unlock()
	}
	return d.ws.Write(ctx, websocket.MessageBinary, wire.Admin(wire.TypeIdentify, i))
}

func (d *benchDevice) read(ctx context.Context) {
	defer close(d.gone)
	const page = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>"
	answer := func(t *wire.Tunnel, event uint32, data string) {
		_ = d.ws.Write(ctx, websocket.MessageBinary, wire.Frame{Tunnel: &wire.Tunnel{ID: t.ID, Event: event, Data: []byte(data)}}.Bytes()) // a lost connection shows below
	}
	for {
		_, raw, err := d.ws.Read(ctx)
		if err != nil {
			return
		}
		f, err := wire.Parse(raw)
		if err != nil {
			return
		}
		switch t := f.Tunnel; {
		case t != nil && t.Event == wire.EventSend:
			answer(t, wire.EventSendResult, "")
		case t != nil && t.Event == wire.EventReceive:
			answer(t, wire.EventReceiveResult, page)
		case t != nil && t.Event == wire.EventShutdown:
			answer(t, wire.EventShutdown, "")
		case t != nil:
		case f.Type == wire.TypePassword:
			var m wire.Password
			if json.Unmarshal(f.JSON, &m) == nil {
				d.mu.Lock()
				d.password = m.Password
				d.mu.Unlock()
				select {
				case d.given <- struct{}{}:
				default:
				}
			}
		case f.Type == wire.TypeChallenge:
			var m wire.Challenge
			if json.Unmarshal(f.JSON, &m) == nil {
				select {
				case d.challenged <- struct{}{}:
				default:
				}
				_ = d.identify(ctx, m.Challenge)
			}
		}
	}
}
