package sysclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"ledgerline/adapters/sysclient/wire"
	"ledgerline/commands"
)

// Limits of tunnels.
const (
	maxTunnels = 8 // of one connection at a time
	tunnelIdle = 30 * time.Second
	fetchTime  = 60 * time.Second
	maxAnswer  = 8 << 20 // bytes of a body
	chunk      = 8000    // bytes of a request sent at once, as the known device answers
	ahead      = 16      // results that may arrive before they are read
	idlePause  = 100 * time.Millisecond
)

var (
	// ErrAnswerTooBig: the answer has more than 8 MiB. It is a commands.ErrNoAnswer.
	ErrAnswerTooBig = fmt.Errorf("%w with 8 MiB or less", commands.ErrNoAnswer)
	// ErrBadRequest: the path is none that can be asked for.
	ErrBadRequest = errors.New("not a path on a device")
)

// tunnel is one HTTP exchange with the device's own web server, as a stream of bytes both ways. We ask for each piece of
// the answer, so no more arrives than is read.
type tunnel struct {
	conn *conn
	id   uint32
	ctx  context.Context
	acks chan struct{}
	data chan []byte
	shut chan struct{} // closed when the device has shut it, or the connection is gone
	once sync.Once

	rest  []byte
	asked bool // a piece is on its way
}

func (t *tunnel) close() { t.once.Do(func() { close(t.shut) }) }

// openTunnel waits for a place.
func (c *conn) openTunnel(ctx context.Context) (*tunnel, error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, commands.ErrNoAnswer
	}
	c.tunnelMu.Lock()
	defer c.tunnelMu.Unlock()
	if c.gone {
		<-c.slots
		return nil, commands.ErrOffline
	}
	for c.last++; c.last == 0 || c.tunnels[c.last] != nil; c.last++ {
	}
	t := &tunnel{conn: c, id: c.last, ctx: ctx, acks: make(chan struct{}, 1), data: make(chan []byte, ahead), shut: make(chan struct{})}
	c.tunnels[t.id] = t
	return t, nil
}

// release shuts the tunnel. The device confirms, which nobody waits for: an id does not come again for a long while.
func (t *tunnel) release() {
	t.conn.tunnelMu.Lock()
	delete(t.conn.tunnels, t.id)
	gone := t.conn.gone
	t.conn.tunnelMu.Unlock()
	if !gone {
		_ = t.conn.write(t.conn.ctx, wire.Frame{Tunnel: &wire.Tunnel{ID: t.id, Event: wire.EventShutdown}}.Bytes())
	}
	<-t.conn.slots
}

// tunnelled takes what the device sends in a tunnel. It never blocks: what was not asked for ends the tunnel.
func (c *conn) tunnelled(f *wire.Tunnel) {
	c.tunnelMu.Lock()
	t := c.tunnels[f.ID]
	c.tunnelMu.Unlock()
	if t == nil {
		return // released meanwhile, or never there
	}
	switch f.Event {
	case wire.EventSendResult:
		select {
		case t.acks <- struct{}{}:
		default:
			t.close()
		}
	case wire.EventReceiveResult:
		select {
		case t.data <- f.Data:
		default:
			t.close()
		}
	case wire.EventShutdown:
		t.close()
	}
}

// end is why a tunnel that was shut has ended.
func (t *tunnel) end(orderly error) error {
	t.conn.tunnelMu.Lock()
	defer t.conn.tunnelMu.Unlock()
	if t.conn.gone {
		return commands.ErrOffline
	}
	return orderly
}

// Write sends bytes in pieces, each of which the device acknowledges.
func (t *tunnel) Write(p []byte) (int, error) {
	idle := time.NewTimer(tunnelIdle)
	defer idle.Stop()
	sent := 0
	for sent < len(p) {
		piece := p[sent:min(sent+chunk, len(p))]
		if err := t.conn.write(t.ctx, wire.Frame{Tunnel: &wire.Tunnel{ID: t.id, Event: wire.EventSend, Data: piece}}.Bytes()); err != nil {
			return sent, commands.ErrOffline
		}
		idle.Reset(tunnelIdle)
		select {
		case <-t.acks:
		case <-t.shut:
			return sent, t.end(commands.ErrNoAnswer)
		case <-idle.C:
			return sent, commands.ErrNoAnswer
		case <-t.ctx.Done():
			return sent, commands.ErrNoAnswer
		}
		sent += len(piece)
	}
	return sent, nil
}

// Read asks for the next piece of the answer. io.EOF when the device has shut the tunnel.
func (t *tunnel) Read(p []byte) (int, error) {
	idle := time.NewTimer(tunnelIdle)
	defer idle.Stop()
	for len(t.rest) == 0 {
		if !t.asked && len(t.data) == 0 {
			select {
			case <-t.shut:
				return 0, t.end(io.EOF)
			default:
			}
			if err := t.conn.write(t.ctx, wire.Receive(t.id, 0)); err != nil {
				return 0, commands.ErrOffline
			}
			t.asked = true
		}
		select {
		case t.rest = <-t.data:
			if t.asked = false; len(t.rest) == 0 { // nothing yet
				if err := t.pause(); err != nil {
					return 0, err
				}
			}
			continue
		default:
		}
		select {
		case t.rest = <-t.data:
			t.asked = false
		case <-t.shut:
			if len(t.data) == 0 {
				return 0, t.end(io.EOF)
			}
		case <-idle.C:
			return 0, commands.ErrNoAnswer
		case <-t.ctx.Done():
			return 0, commands.ErrNoAnswer
		}
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// pause is before a device that had nothing yet is asked again.
func (t *tunnel) pause() error {
	select {
	case <-time.After(idlePause):
		return nil
	case <-t.ctx.Done():
		return commands.ErrNoAnswer
	}
}

// fetch carries one exchange. Errors: commands.ErrOffline, commands.ErrNoAnswer, ErrAnswerTooBig, ErrBadRequest.
func (c *conn) fetch(ctx context.Context, method, path string, body []byte) (int, []byte, error) {
	if !strings.HasPrefix(path, "/") || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return 0, nil, ErrBadRequest
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	t, err := c.openTunnel(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer t.release()
	var request bytes.Buffer
	fmt.Fprintf(&request, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", method, path)
	if len(body) > 0 || method != http.MethodGet {
		fmt.Fprintf(&request, "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n", len(body))
	}
	request.WriteString("\r\n")
	request.Write(body)
	if _, err := t.Write(request.Bytes()); err != nil {
		return 0, nil, err
	}
	answer, err := http.ReadResponse(bufio.NewReader(io.LimitReader(t, maxAnswer+64<<10)), &http.Request{Method: method})
	if err != nil {
		return 0, nil, known(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, known(err)
	case len(b) > maxAnswer:
		return 0, nil, ErrAnswerTooBig
	}
	return answer.StatusCode, b, nil
}

// known is an error of reading an answer in the words above.
func known(err error) error {
	if errors.Is(err, commands.ErrOffline) || errors.Is(err, commands.ErrNoAnswer) {
		return err
	}
	return commands.ErrNoAnswer // not HTTP, or cut short
}
