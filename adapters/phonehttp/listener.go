package phonehttp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"

	"ledgerline/domain"
)

// limiter bounds the connections of one or more listeners, in all and per source. Safe for concurrent use.
type limiter struct {
	total, each int
	exempt      []netip.Prefix // proxies: only the total counts
	refused     func(reason string)
	turnAway    chan struct{} // a place for each connection being told that we are busy

	mu    sync.Mutex
	open  int
	per   map[netip.Prefix]int
	wg    sync.WaitGroup
	conns map[net.Conn]bool // those being turned away
}

const turnedAwayAtOnce = 64

func newLimiter(total, each int, exempt []netip.Prefix, refused func(string)) *limiter {
	return &limiter{total: total, each: each, exempt: exempt, refused: refused, turnAway: make(chan struct{}, turnedAwayAtOnce),
		per: make(map[netip.Prefix]int), conns: make(map[net.Conn]bool)}
}

// take answers how to give the place back, or the reason why there is none.
func (l *limiter) take(peer netip.Addr) (release func(), reason string) {
	from := source(peer)
	counted := !within(l.exempt, peer)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.open >= l.total:
		return nil, "total"
	case counted && l.per[from] >= l.each:
		return nil, "source"
	}
	l.open++
	if counted {
		l.per[from]++
	}
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open--
		if !counted {
			return
		}
		if l.per[from]--; l.per[from] == 0 {
			delete(l.per, from)
		}
	}), ""
}

func (l *limiter) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// busy answers a connection there is no place for, without reading what it asks, in the background. Over
// TLS there is nothing to say before a handshake: it is closed.
func (l *limiter) busy(c net.Conn, overTLS bool) {
	select {
	case l.turnAway <- struct{}{}:
	default:
		overTLS = true
	}
	if overTLS {
		c.Close()
		return
	}
	l.mu.Lock()
	l.conns[c] = true
	l.mu.Unlock()
	l.wg.Go(func() {
		defer func() {
			c.Close()
			l.mu.Lock()
			delete(l.conns, c)
			l.mu.Unlock()
			<-l.turnAway
		}()
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := io.WriteString(c, busyAnswer()); err != nil {
			return
		}
		if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_, _ = io.CopyN(io.Discard, c, 32<<10) // closing on unread bytes would take the answer back
		}
	})
}

func busyAnswer() string {
	return fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nCache-Control: no-store\r\nConnection: close\r\nContent-Length: 0\r\nRetry-After: %d\r\n\r\n", later())
}

// later is when phones that find us busy should come back, in seconds: spread, not all at once.
func later() int { return 5 + rand.IntN(16) }

// wait closes what is being turned away and waits for it.
func (l *limiter) wait() {
	l.mu.Lock()
	for c := range l.conns {
		c.Close()
	}
	l.mu.Unlock()
	l.wg.Wait()
}

// limited is a listener whose connections are counted.
type limited struct {
	net.Listener
	limiter *limiter
	tls     bool
}

func (l limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer := addrOf(c.RemoteAddr())
		release, reason := l.limiter.take(peer)
		if reason == "" {
			return &conn{Conn: c, peer: peer, release: release}, nil
		}
		l.limiter.refused(reason)
		l.limiter.busy(c, l.tls)
	}
}

// conn is an accepted connection: who is really at its other end, and what its certificate proved.
type conn struct {
	net.Conn
	peer    netip.Addr
	release func()
	outer   net.Conn // the same after PROXY protocol

	once sync.Once
	mac  domain.MAC
	name string
}

func (c *conn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// proxied is the address a PROXY header gave, else the peer's. It may wait for the header.
func (c *conn) proxied() net.Addr { return c.outer.RemoteAddr() }

// proved is the address a client certificate proves, and its name, looked at once per connection.
func (c *conn) proved(chain []*x509.Certificate, roots *x509.CertPool) (domain.MAC, string) {
	c.once.Do(func() { c.mac, c.name = proveMAC(chain, roots) })
	return c.mac, c.name
}

type connKey struct{}

func connOf(ctx context.Context) *conn { return ctx.Value(connKey{}).(*conn) }

// withConn remembers our conn below the layers net/http was given.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	outer := c
	if p, ok := c.(*proxyproto.Conn); ok {
		c = p.Raw()
	}
	own := c.(*conn)
	own.outer = outer
	return context.WithValue(ctx, connKey{}, own)
}
