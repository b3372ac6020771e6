package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"ledgerline/adapters/phonetftp"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/proc"
)

// What wazo-provd did with the same work (reference/wazo-provd.md §6 and issue 5): the figures beside ours.
const (
	wazoCreate  = "wazo-provd: 200 s"
	wazoFetches = "wazo-provd: 1,250/s"
	wazoShared  = "wazo-provd: 7.9 s"
	wazoToken   = "wazo-provd: stands still as long"
	wazoContact = "wazo-provd: 5.8/s"
)

// floorEnv makes this program a plain handler that answers with as many bytes as it says, for a figure beside ours.
const floorEnv = "BENCH_PLAIN_HANDLER"

// plainHandler is the program that floorEnv makes of this one.
func plainHandler(size int) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	data := bytes.Repeat([]byte("0123456789abcde\n"), size/16+1)[:size]
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
}

// floor measures a plain handler in a process of its own as fetches measures ours: requests per second of its processor time.
func floor(ctx context.Context, size, times int) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), fmt.Sprint(floorEnv, "=", size))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	defer func() { stop(); _ = cmd.Wait() }() // it is killed, which Wait reports
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", err
	}
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	defer c.CloseIdleConnections()
	var g errgroup.Group
	g.SetLimit(16)
	before, err := cpuOf(cmd.Process.Pid)
	if err != nil {
		return "", err
	}
	for range times {
		g.Go(func() error { _, err := fetch(c, "http://"+strings.TrimSpace(addr)+"/file", "bench"); return err })
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	after, err := cpuOf(cmd.Process.Pid)
	return perSecond(times, after-before, "of a plain handler"), err
}

// platform is the real program with a token service in front, as a Wazo platform has it.
type platform struct {
	*proc.Server
	admin   *http.Client
	hanging atomic.Bool
	service *httptest.Server
}

const provdType = "application/vnd.proformatique.provd+json"

// ServeHTTP is the token service: it allows everything, unless it hangs.
func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.hanging.Load() {
		select {
		case <-time.After(3 * time.Second):
		case <-r.Context().Done():
			return
		}
	}
	const master = "2c34c282-433e-4bb8-8d56-fec14ff7e1e9"
	switch {
	case r.Method == http.MethodHead:
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Path == "/0.1/tenants":
		_, _ = io.WriteString(w, `{"items":[{"uuid":"`+master+`","name":"master"}],"total":1}`)
	default:
		_, _ = io.WriteString(w, `{"data":{"token":"t","auth_id":"a","metadata":{"uuid":"u","tenant_uuid":"`+master+`"}}}`)
	}
}

func startPlatform() (*platform, error) {
	bin, err := proc.Build()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-provd-")
	if err != nil {
		return nil, err
	}
	p := &platform{}
	p.service = httptest.NewServer(p)
	credentials := filepath.Join(dir, "auth")
	if err := os.WriteFile(credentials, []byte("provd:key\n"), 0o600); err != nil {
		return nil, err
	}
	if p.Server, err = proc.Launch(bin, filepath.Join(dir, "data"), "--discovery-cap", "1000000", "--provd-auth-url", p.service.URL, "--provd-auth-credentials-file", credentials); err != nil {
		return nil, err
	}
	p.admin = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	return p, nil
}

func (p *platform) close() {
	p.Kill()
	p.service.Close()
	_ = os.RemoveAll(filepath.Dir(p.Dir))
}

// call is one request of a client that closes its connection each time, as wazo-provd's does.
func (p *platform) call(ctx context.Context, method, path string, body any) (map[string]any, error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+p.Admin+"/0.2"+path, in)
	if err != nil {
		return nil, err
	}
	r.Close = true
	r.Header.Set("X-Auth-Token", "t")
	r.Header.Set("Content-Type", provdType)
	answer, err := p.admin.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %d %s", method, path, answer.StatusCode, text)
	}
	var out map[string]any
	if err == nil && len(text) > 0 {
		err = json.Unmarshal(text, &out)
	}
	return out, err
}

func benchMAC(kind, i int) domain.MAC { return domain.MAC(fmt.Sprintf("001565%02x%04x", kind, i)) }

// provdConfig is the config of one phone as wazo-confd writes it.
func provdConfig(id, parent string) map[string]any {
	return map[string]any{"id": id, "parent_ids": []string{parent}, "deletable": true, "raw_config": map[string]any{"protocol": "SIP", "sip_dtmf_mode": "SIP-INFO",
		"sip_lines": map[string]any{"1": map[string]any{"username": "u" + id, "password": "secret-" + id, "proxy_ip": "10.0.0.1", "registrar_ip": "10.0.0.1",
			"display_name": "User " + id, "number": "1" + id, "auth_username": "u" + id}},
		"funckeys": map[string]any{"1": map[string]any{"type": "blf", "value": "101", "label": "Anna"}, "2": map[string]any{"type": "speeddial", "value": "102", "label": "Bert"}}}}
}

// onMACPath fetches a phone's own file by its MAC, without using its secret path.
func (p *platform) onMACPath(c *http.Client, mac domain.MAC) error {
	_, err := fetch(c, "http://"+p.Phones+"/"+string(mac)+".cfg", userAgent+mac.Colons())
	return err
}

// storm fetches from several phones at once until ctx ends; it answers how long every fetch took.
func (p *platform) storm(ctx context.Context, n, clients int, pause time.Duration) ([]time.Duration, error) {
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	var mu sync.Mutex
	var all []time.Duration
	var g errgroup.Group
	for k := range clients {
		g.Go(func() error {
			for i := k; ctx.Err() == nil; i += clients {
				begun := time.Now()
				if err := p.onMACPath(c, benchMAC(1, i%n)); err != nil {
					return err
				}
				took := time.Since(begun)
				mu.Lock()
				all = append(all, took)
				mu.Unlock()
				if pause > 0 {
					time.Sleep(pause)
				}
			}
			return nil
		})
	}
	err := g.Wait()
	slices.Sort(all)
	return all, err
}

// provdBench is the work of issue 5 beside wazo-provd's figures, with the real program as a process of its own.
func provdBench(b *bench) (err error) {
	p, err := startPlatform()
	if err != nil {
		return err
	}
	defer p.close()
	n := b.scale(5000)
	idle, err := p.rss()
	if err != nil {
		return err
	}
	b.add("/0.2: RSS just started", fmt.Sprintf("%d MB", idle>>20), "", "")
	if err := p.fleet(b, n); err != nil {
		return err
	}
	rss, err := p.rss()
	if err != nil {
		return err
	}
	b.add(fmt.Sprintf("/0.2: RSS with %s devices, just created", thousands(n)), fmt.Sprintf("%d MB", rss>>20), "", "120 MB")
	if err := p.fetches(b, n); err != nil {
		return err
	}
	if err := p.shared(b, n); err != nil {
		return err
	}
	if err := p.hang(b, n); err != nil {
		return err
	}
	if err := p.contact(b, n); err != nil {
		return err
	}
	if rss, err = p.rss(); err != nil {
		return err
	}
	b.add(fmt.Sprintf("/0.2: RSS at the end, with %s devices", thousands(2*n)), fmt.Sprintf("%d MB", rss>>20), "", "")
	return bigTFTP(b)
}

// fleet creates n devices, each with a config of its own below a shared one, and waits until every phone's files are made.
func (p *platform) fleet(b *bench, n int) error {
	for _, doc := range []map[string]any{
		{"id": "base", "parent_ids": []string{}, "deletable": false, "raw_config": map[string]any{"ntp_enabled": true, "ntp_ip": "10.0.0.1", "X_xivo_phonebook_ip": "10.0.0.1"}},
		{"id": "shared", "parent_ids": []string{"base"}, "raw_config": map[string]any{"timezone": "Europe/Paris", "admin_password": "1234", "exten_dnd": "*25"}},
	} {
		if _, err := p.call(b.ctx, "POST", "/cfg_mgr/configs", map[string]any{"config": doc}); err != nil {
			return err
		}
	}
	var g errgroup.Group
	g.SetLimit(8)
	idle, err := p.cpu()
	if err != nil {
		return err
	}
	begun := time.Now()
	for i := range n {
		g.Go(func() error {
			id := fmt.Sprintf("%032x", i)
			if _, err := p.call(b.ctx, "POST", "/cfg_mgr/configs", map[string]any{"config": provdConfig(id, "shared")}); err != nil {
				return err
			}
			_, err := p.call(b.ctx, "POST", "/dev_mgr/devices", map[string]any{"device": map[string]any{"id": id, "mac": benchMAC(1, i).Colons(), "ip": fmt.Sprintf("10.1.%d.%d", i/250, i%250+1),
				"plugin": "yealink", "vendor": "Yealink", "model": "T54W", "version": "96.86.0.70", "config": id}})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	answered := time.Since(begun)
	if err := p.made(b.ctx, n); err != nil {
		return err
	}
	b.add(fmt.Sprintf("/0.2: %s devices with a config each, 8 callers: answered", thousands(n)), fmt.Sprintf("%.1f s", answered.Seconds()), wazoCreate, "10 s")
	b.add("/0.2: the same, until the files of all are made", fmt.Sprintf("%.1f s", time.Since(begun).Seconds()), wazoCreate, "10 s")
	took, err := p.cpu()
	if err != nil {
		return err
	}
	b.add("the same: the server's processor time", fmt.Sprintf("%.2f ms a device", float64((took-idle).Microseconds())/1000/float64(n)), "", "4 ms: 10 s on 2 processors")
	one := b.scale(300)
	begun = time.Now()
	for i := range one {
		id := fmt.Sprintf("one%029x", i)
		if _, err := p.call(b.ctx, "POST", "/cfg_mgr/configs", map[string]any{"config": provdConfig(id, "shared")}); err != nil {
			return err
		}
		if _, err := p.call(b.ctx, "POST", "/dev_mgr/devices", map[string]any{"device": map[string]any{"id": id, "mac": benchMAC(9, i).Colons(), "plugin": "yealink", "config": id}}); err != nil {
			return err
		}
	}
	b.add("/0.2: config and device, one caller after the other", fmt.Sprintf("%.1f ms each pair", float64(time.Since(begun).Microseconds())/1000/float64(one)), "wazo-provd: 5.6 ms at 1,000, 40 ms at 5,000", "")
	return nil
}

// made waits until n devices are configured.
func (p *platform) made(ctx context.Context, n int) error {
	token, err := p.Token()
	if err != nil {
		return err
	}
	for {
		status, text, err := p.Call(ctx, p.admin, token, "GET", "/devices?state=assigned&limit=1", nil)
		if err != nil || status != http.StatusOK {
			return errors.Join(err, fmt.Errorf("list of devices: %d %s", status, text))
		}
		var page struct {
			Items []any `json:"items"`
		}
		if err := json.Unmarshal(text, &page); err != nil {
			return err
		}
		if len(page.Items) == 0 {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fetches measures cached config fetches against the processor time the server takes for them.
func (p *platform) fetches(b *bench, n int) error {
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	round := func(times int) error {
		var g errgroup.Group
		g.SetLimit(16)
		for i := range times {
			g.Go(func() error { return p.onMACPath(c, benchMAC(1, i%n)) })
		}
		return g.Wait()
	}
	for range 3 { // the first fetch of each is on record, and those that found the queue full come again
		if err := round(n); err != nil {
			return err
		}
		if err := p.quiet(b.ctx); err != nil {
			return err
		}
	}
	before, err := p.cpu()
	if err != nil {
		return err
	}
	times := b.scale(50_000)
	begun := time.Now()
	if err := round(times); err != nil {
		return err
	}
	took := time.Since(begun)
	after, err := p.cpu()
	if err != nil {
		return err
	}
	file, err := fetch(c, "http://"+p.Phones+"/"+string(benchMAC(1, 0))+".cfg", userAgent+benchMAC(1, 0).Colons())
	if err != nil {
		return err
	}
	rss, err := p.rss()
	if err != nil {
		return err
	}
	plain, err := floor(b.ctx, len(file), times)
	if err != nil {
		return err
	}
	b.add("config fetches per second of the server's processor time", perSecond(times, after-before, "fetches"), plain+"; "+wazoFetches, "12,500/s")
	b.add("RSS with the files at hand", fmt.Sprintf("%d MB", rss>>20), "", "")
	b.add("the same by the clock, client on the same processors", perSecond(times, took, "fetches"), "", "")
	return nil
}

// shared changes a config all devices stand on while phones fetch.
func (p *platform) shared(b *bench, n int) error {
	still, stop := context.WithTimeout(b.ctx, 5*time.Second)
	calm, err := p.storm(still, n, 4, 5*time.Millisecond)
	stop()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(b.ctx)
	var took []time.Duration
	var g errgroup.Group
	g.Go(func() (err error) { took, err = p.storm(ctx, n, 4, 5*time.Millisecond); return err })
	time.Sleep(time.Second)
	before, err := p.sweeps()
	if err != nil {
		stop()
		return errors.Join(err, g.Wait())
	}
	begun := time.Now()
	_, err = p.call(b.ctx, "PUT", "/cfg_mgr/configs/shared", map[string]any{"config": map[string]any{"parent_ids": []string{"base"},
		"raw_config": map[string]any{"timezone": "Europe/Paris", "admin_password": "changed", "exten_dnd": "*26"}}})
	if err == nil {
		err = p.swept(b.ctx, before)
	}
	swept := time.Since(begun)
	stop()
	if err := errors.Join(err, g.Wait()); err != nil {
		return err
	}
	b.add(fmt.Sprintf("a config shared by %s phones changed: worst of %s fetches meanwhile", thousands(n), thousands(len(took))), micros(took[len(took)-1]),
		fmt.Sprintf("before the change: %s; %s", micros(calm[len(calm)-1]), wazoShared), "50 ms")
	b.add("the same: 99th percentile; all files made anew after", fmt.Sprintf("%s; %.1f s", micros(took[len(took)*99/100]), swept.Seconds()), "before the change: "+micros(calm[len(calm)*99/100]), "")
	return nil
}

// quiet waits until nothing has been recorded for a second.
func (p *platform) quiet(ctx context.Context) error {
	last, since := -1.0, time.Now()
	return until(ctx, 50*time.Millisecond, func() (bool, error) {
		now, err := p.metric("ledgerline_projection_events_total ")
		if now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) >= time.Second, err
	})
}

// sweeps is how many sweeps have been carried out.
func (p *platform) sweeps() (float64, error) {
	return p.metric(`ledgerline_reaction_handled_total{reaction="sweep-shared-change"} `)
}

func (p *platform) metric(name string) (float64, error) {
	text, err := fetch(http.DefaultClient, "http://"+p.Ops+"/metrics", "bench")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// swept waits for one more sweep than before.
func (p *platform) swept(ctx context.Context, before float64) error {
	return until(ctx, 50*time.Millisecond, func() (bool, error) {
		now, err := p.sweeps()
		return now > before, err
	})
}

// hang lets the token service hang for 3 s while callers and phones ask.
func (p *platform) hang(b *bench, n int) error {
	ctx, stop := context.WithTimeout(b.ctx, 5*time.Second)
	defer stop()
	p.hanging.Store(true)
	var callers errgroup.Group
	for range 20 {
		callers.Go(func() error {
			_, err := p.call(b.ctx, "GET", "/dev_mgr/devices?limit=1", nil)
			return err
		})
	}
	took, err := p.storm(ctx, n, 4, 5*time.Millisecond)
	p.hanging.Store(false)
	_ = callers.Wait() // that they are told to come back is an answer too
	if err != nil {
		return err
	}
	b.add(fmt.Sprintf("token service hangs 3 s, 20 callers wait: worst of %s phone fetches", thousands(len(took))), micros(took[len(took)-1]), wazoToken, "50 ms")
	return nil
}

// contact is a site of unknown phones after a power cut: each becomes a device with a config of its own.
func (p *platform) contact(b *bench, n int) error {
	mould := provdConfig("autoprov", "base")
	mould["role"] = "autocreate"
	if _, err := p.call(b.ctx, "POST", "/cfg_mgr/configs", map[string]any{"config": mould}); err != nil {
		return err
	}
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	run := func(kind int) (took, used time.Duration, err error) {
		before, err := p.cpu()
		if err != nil {
			return 0, 0, err
		}
		var g errgroup.Group
		g.SetLimit(64)
		begun := time.Now()
		for i := range n {
			g.Go(func() error { return p.onMACPath(c, benchMAC(kind, i)) })
		}
		err = g.Wait()
		took = time.Since(begun)
		after, cpuErr := p.cpu()
		return took, after - before, errors.Join(err, cpuErr)
	}
	took, used, err := run(2)
	if err != nil {
		return err
	}
	b.add(fmt.Sprintf("first contact of %s unknown phones, each gets a copy of the mould", thousands(n)), perSecond(n, took, "phones")+fmt.Sprintf(", %.2f ms of processor time each", float64(used.Microseconds())/1000/float64(n)), wazoContact, "1,000/s")
	if err := p.quiet(b.ctx); err != nil {
		return err
	}
	if _, err := p.call(b.ctx, "DELETE", "/cfg_mgr/configs/autoprov", nil); err != nil {
		return err
	}
	if err := p.quiet(b.ctx); err != nil { // the files of those that stand on the mould are made anew, which is not first contact
		return err
	}
	if took, used, err = run(3); err != nil {
		return err
	}
	b.add(fmt.Sprintf("first contact of %s unknown phones, without a mould", thousands(n)), perSecond(n, took, "phones")+fmt.Sprintf(", %.2f ms of processor time each", float64(used.Microseconds())/1000/float64(n)), wazoContact, "1,000/s")
	return nil
}

// cpu is the processor time the server has had.
func (p *platform) cpu() (time.Duration, error) { return cpuOf(p.PID()) }

// cpuOf is the processor time a process has used.
func cpuOf(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+1:])
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	const ticks = 100 // USER_HZ, the same everywhere
	return time.Duration(user+system) * time.Second / ticks, errors.Join(err1, err2)
}

// rss is the server's resident memory in bytes.
func (p *platform) rss() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kb << 10, err
}

// oneFile is a phone plane with one big file.
type oneFile struct{ data []byte }

func (o oneFile) ServeFile(context.Context, commands.ServeFile) (commands.Served, error) {
	return commands.Served{File: domain.GeneratedFile{Path: "firmware.rom", Size: len(o.data)}, Data: o.data}, nil
}

func (oneFile) Delivered(commands.Served) {}

// bigTFTP reads 5 MB over TFTP with blocks of 1428 bytes over a line that takes 1 ms each way.
func bigTFTP(b *bench) error {
	data := bytes.Repeat([]byte("0123456789"), b.scale(5<<20)/10)
	server, err := phonetftp.New(phonetftp.Options{Files: oneFile{data}})
	if err != nil {
		return err
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(b.ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ctx, pc) }()
	defer func() { stop(); <-done }()
	begun := time.Now()
	if got, err := tftpGet(pc.LocalAddr().String(), "firmware.rom"); err != nil || len(got) != len(data) {
		return errors.Join(err, fmt.Errorf("%d bytes of %d", len(got), len(data)))
	}
	near := time.Since(begun)
	relay, err := newDelay(pc.LocalAddr().String(), time.Millisecond)
	if err != nil {
		return err
	}
	defer relay.close()
	begun = time.Now()
	got, err := tftpGet(relay.address(), "firmware.rom")
	if err != nil || len(got) != len(data) {
		return errors.Join(err, fmt.Errorf("%d bytes of %d", len(got), len(data)))
	}
	far, blocks := time.Since(begun), len(data)/1428+1
	b.add(fmt.Sprintf("TFTP, %d MB, blksize 1428, 1 ms each way, one block per round trip", len(data)>>20), fmt.Sprintf("%.1f s", far.Seconds()),
		fmt.Sprintf("%.1f s of waiting (%s round trips)", (2*time.Millisecond*time.Duration(blocks)).Seconds(), thousands(blocks)), "")
	b.add("the same without the delay", fmt.Sprintf("%.2f s", near.Seconds()), "", "")
	return nil
}

// delay is a line between one client and a TFTP server: every packet takes a while. The server answers from a port of its
// own per transfer, as TFTP has it.
type delay struct {
	front, back *net.UDPConn
	server      *net.UDPAddr
	takes       time.Duration
}

func newDelay(server string, takes time.Duration) (*delay, error) {
	to, err := net.ResolveUDPAddr("udp", server)
	if err != nil {
		return nil, err
	}
	d := &delay{server: to, takes: takes}
	if d.front, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		return nil, err
	}
	if d.back, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		return nil, errors.Join(err, d.front.Close())
	}
	var mu sync.Mutex
	var client *net.UDPAddr
	pump := func(from *net.UDPConn, each func(from *net.UDPAddr, packet []byte)) {
		buf := make([]byte, 64<<10)
		for {
			k, addr, err := from.ReadFromUDP(buf)
			if err != nil {
				return
			}
			packet := bytes.Clone(buf[:k])
			time.AfterFunc(d.takes, func() { each(addr, packet) })
		}
	}
	go pump(d.front, func(from *net.UDPAddr, packet []byte) {
		mu.Lock()
		client = from
		to := d.server
		mu.Unlock()
		_, _ = d.back.WriteToUDP(packet, to)
	})
	go pump(d.back, func(from *net.UDPAddr, packet []byte) {
		mu.Lock()
		d.server = from // the port of the transfer
		to := client
		mu.Unlock()
		_, _ = d.front.WriteToUDP(packet, to)
	})
	return d, nil
}

func (d *delay) address() string { return d.front.LocalAddr().String() }

func (d *delay) close() { _, _ = d.front.Close(), d.back.Close() }
