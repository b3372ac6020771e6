package innovaphone

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"

	"ledgerline/adapters/sysclient/wire"
)

// piece is how much of an answer goes into one result.
const piece = 8000

// sysclient keeps the connection to Devices as long as the phone has power.
func (p *Phone) sysclient(ctx context.Context) {
	wait := p.cfg.Retry
	for ctx.Err() == nil {
		p.mu.Lock()
		reset, link := p.reset, p.link
		p.mu.Unlock()
		pause := min(p.cfg.Retry, 50*time.Millisecond) // until there is an address
		if target := p.Option("SYSCLIENT", "/sysadmin"); target != "" {
			began := time.Now()
			on, cancel := context.WithCancel(ctx)
			go func() {
				defer cancel()
				p.until(on, reset, link, target)
			}()
			p.connection(on, target)
			cancel()
			if time.Since(began) > time.Minute {
				wait = p.cfg.Retry
			}
			pause, wait = wait, min(2*wait, time.Minute)
			p.mu.Lock()
			if p.in {
				pause, wait = p.cfg.Retry, p.cfg.Retry
			}
			p.in = false
			p.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// until waits for what ends a connection: the power, a restart, another address of Devices.
func (p *Phone) until(ctx context.Context, reset chan struct{}, link, target string) {
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-reset:
			return
		case <-look.C:
			p.mu.Lock()
			again := p.link != link
			p.mu.Unlock()
			if again || p.Option("SYSCLIENT", "/sysadmin") != target {
				return
			}
		}
	}
}

// connection is one connection, until it ends.
func (p *Phone) connection(ctx context.Context, target string) {
	ws, _, err := websocket.Dial(ctx, target, &websocket.DialOptions{HTTPClient: p.cfg.HTTP})
	if err != nil {
		if ctx.Err() == nil {
			p.step(StepFailed, "connect to Devices")
		}
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(wire.MaxFrame)
	p.step(StepConnected, "")
	l := &line{phone: p, ws: ws, ctx: ctx, tunnels: map[uint32]*exchange{}}
	go l.provisionPorts()
	if err := l.identify(""); err != nil {
		return
	}
	p.step(StepIdentified, "")
	for {
		_, b, err := ws.Read(ctx)
		if err != nil {
			p.step(StepLost, fmt.Sprint(int(websocket.CloseStatus(err))))
			return
		}
		f, err := wire.Parse(b)
		if err != nil {
			p.step(StepFailed, "not a frame")
			return
		}
		if f.Tunnel != nil {
			l.tunnel(f.Tunnel)
			continue
		}
		if err := l.admin(f); err != nil {
			return
		}
	}
}

// line is one connection of a phone.
type line struct {
	phone   *Phone
	ws      *websocket.Conn
	ctx     context.Context
	tunnels map[uint32]*exchange
}

func (l *line) send(b []byte) error { return l.ws.Write(l.ctx, websocket.MessageBinary, b) }

// identify says who the phone is, and answers challenge unless it is empty.
func (l *line) identify(challenge string) error {
	p := l.phone
	p.mu.Lock()
	i := wire.Identify{ID: string(p.cfg.MAC), Product: p.cfg.Model, Version: p.version(), Platform: wire.Platform{Type: p.cfg.Platform}, FwBuild: p.firmware, BcBuild: p.bootcode,
		Major: strings.Fields(p.cfg.Release)[0], Other: p.cfg.Foreign, EthIfs: []wire.Interface{{If: "ETH0", IPv4: "127.0.0.1"}}}
	if code := p.vars[varCode]; digits(code) {
		i.ProvisioningCode = code
	}
	if challenge != "" {
		i.Digest = wire.Digest(i.ID, i.Product, i.Version, challenge, p.password)
	}
	p.mu.Unlock()
	return l.send(wire.Admin(wire.TypeIdentify, i))
}

// admin takes an admin message; unknown ones are ignored.
func (l *line) admin(f wire.Frame) error {
	p := l.phone
	switch f.Type {
	case wire.TypePassword:
		var m wire.Password
		if err := json.Unmarshal(f.JSON, &m); err != nil {
			return err
		}
		p.mu.Lock()
		p.password, p.in = m.Password, true
		p.mu.Unlock()
		p.step(StepPassword, "")
	case wire.TypeChallenge:
		var m wire.Challenge
		if err := json.Unmarshal(f.JSON, &m); err != nil {
			return err
		}
		p.step(StepChallenge, "")
		return l.identify(m.Challenge)
	case wire.TypeAdminPassword:
		var m wire.AdminPassword
		if err := json.Unmarshal(f.JSON, &m); err != nil {
			return err
		}
		p.mu.Lock()
		clear, err := wire.Decrypt(m.Seed, p.password, m.Pwd)
		if err == nil {
			p.admin, p.in = clear, true
		}
		p.mu.Unlock()
		p.step(StepAdmin, "")
		return err
	case wire.TypePortResult:
		var m wire.PortResult
		if err := json.Unmarshal(f.JSON, &m); err != nil {
			return err
		}
		select {
		case p.results <- m:
		default:
		}
	case wire.TypeConfig:
		var m wire.Config
		if err := json.Unmarshal(f.JSON, &m); err != nil {
			return err
		}
		var kind struct{ Type string }
		_ = json.Unmarshal(m.Config, &kind) // for the step alone
		p.mu.Lock()
		p.configs, p.in = append(p.configs, m), true
		p.mu.Unlock()
		p.step(StepConfig, kind.Type)
	}
	return nil
}

// provisionPorts sends what is typed in at analog ports.
func (l *line) provisionPorts() {
	for {
		select {
		case <-l.ctx.Done():
			return
		case port := <-l.phone.ports:
			if l.send(wire.Admin(wire.TypePort, port)) != nil {
				return
			}
		}
	}
}

// exchange is one request to the phone's web server, as it comes in, and its answer, as it goes out.
type exchange struct {
	request bytes.Buffer
	answer  []byte
	done    bool
}

// tunnel serves the web server through the connection: it acknowledges each piece of a request, and answers each receive
// with a piece of the answer.
func (l *line) tunnel(t *wire.Tunnel) {
	reply := func(event uint32, data []byte) {
		_ = l.send(wire.Frame{Tunnel: &wire.Tunnel{ID: t.ID, Event: event, Data: data}}.Bytes()) // a lost line shows in the reader
	}
	x := l.tunnels[t.ID]
	if x == nil {
		x = &exchange{}
		l.tunnels[t.ID] = x
	}
	switch t.Event {
	case wire.EventSend:
		x.request.Write(t.Data)
		reply(wire.EventSendResult, nil)
	case wire.EventReceive:
		if !x.done {
			x.answer, x.done = l.phone.serve(l.ctx, x.request.Bytes()), true
		}
		if l.phone.powerless(l.ctx) {
			return
		}
		n := min(piece, len(x.answer))
		if n == 0 {
			reply(wire.EventShutdown, nil)
			return
		}
		l.phone.mu.Lock()
		l.phone.in = true
		l.phone.mu.Unlock()
		reply(wire.EventReceiveResult, x.answer[:n])
		x.answer = x.answer[n:]
	case wire.EventShutdown:
		delete(l.tunnels, t.ID)
		reply(wire.EventShutdown, nil)
	}
}

func (p *Phone) powerless(ctx context.Context) bool { return ctx.Err() != nil }

// serve is the phone's web server: one request, one answer.
func (p *Phone) serve(ctx context.Context, request []byte) []byte {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
	if err != nil {
		return []byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
	}
	w := httptest.NewRecorder()
	p.page(ctx, w, r)
	resp := w.Result()
	resp.ContentLength = int64(w.Body.Len())
	resp.Header.Set("Server", "innovaphone")
	var b bytes.Buffer
	_ = resp.Write(&b) // to memory
	return b.Bytes()
}

// page answers one request: commands behind "/!", the configuration, and what identifies the phone.
func (p *Phone) page(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	path, err := url.PathUnescape(r.URL.EscapedPath())
	if err != nil {
		path = r.URL.Path
	}
	p.step(StepRequest, r.Method+" "+path)
	if p.powerless(ctx) {
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	switch command, isCommand := strings.CutPrefix(path, "/!"); {
	case isCommand:
		// A URL is decoded once on its way here, so an argument that is encoded in a script is encoded twice in one.
		out, ok := p.command(ctx, command)
		if !ok {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = fmt.Fprintf(w, "%s\r\n", strings.TrimSpace(out))
	case path == "/cfg.txt":
		p.mu.Lock()
		defer p.mu.Unlock()
		_, _ = fmt.Fprint(w, p.dump())
	case path == "/CMD0/box_info.xml":
		w.Header().Set("Content-Type", "text/xml")
		_, _ = fmt.Fprintf(w, `<info><sys version="%s"/></info>`, p.Version())
	case path == "/admin.xml" || path == "/":
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Set-Cookie", "phone=1")
		_, _ = fmt.Fprintf(w, "<html><title>%s %s</title><script>alert(1)</script></html>", p.cfg.Model, p.cfg.MAC)
	case path == "/log.txt":
		_, _ = fmt.Fprint(w, strings.Repeat("0:0000:00:000 - log line of a phone\r\n", 2000))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}
