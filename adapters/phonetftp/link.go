package phonetftp

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

var (
	errPeer = errors.New("phone ended the transfer")
	errGone = errors.New("phone is gone")
)

// link is the connection the library serves one transfer on: it reads the request first and then what the
// phone sends to the transfer's socket. The library is in lock step with the phone, so at most the one
// datagram it waits for gets through, and nothing does once the transfer is over. The library's own ERROR
// datagrams are not sent: ours say more. Safe for concurrent use.
type link struct {
	sock *net.UDPConn // connected to the phone
	peer *net.UDPAddr
	over chan struct{} // closed when the library shuts down

	mu      sync.Mutex
	request []byte // not read yet
	waiting bool   // the library waits for the acknowledgement of block
	block   uint16
	err     error // ends the transfer
	ended   bool
}

func newLink(sock *net.UDPConn, request []byte) *link {
	return &link{sock: sock, peer: sock.RemoteAddr().(*net.UDPAddr), over: make(chan struct{}), request: request}
}

// fail ends the transfer with err, if it has not ended.
func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
	_ = l.sock.SetReadDeadline(time.Unix(1, 0)) // wakes ReadFrom; fails only on a closed socket
}

func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// ReadFrom implements net.PacketConn.
func (l *link) ReadFrom(p []byte) (int, net.Addr, error) {
	if n := l.first(p); n > 0 {
		return n, l.peer, nil
	}
	for {
		select {
		case <-l.over:
			return 0, nil, os.ErrDeadlineExceeded
		default:
		}
		n, err := l.sock.Read(p)
		if errors.Is(err, syscall.ECONNREFUSED) {
			l.fail(errGone)
		}
		if l.failure() == nil && err == nil {
			if l.expected(p[:n]) {
				return n, l.peer, nil
			}
			continue
		}
		if n := l.breakOff(p); n > 0 {
			return n, l.peer, nil
		}
		<-l.over // the library's next write fails
	}
}

func (l *link) first(p []byte) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := copy(p, l.request)
	l.request = nil
	return n
}

// expected tells whether the library is to see a datagram of the phone: the acknowledgement it waits for, or an error.
func (l *link) expected(p []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(p) < 4 || p[0] != 0 {
		return false
	}
	switch p[1] {
	case opAck:
		if !l.waiting || binary.BigEndian.Uint16(p[2:]) != l.block {
			return false
		}
	case opError:
		l.err = errPeer
		if !l.waiting || len(p) < 5 {
			return false
		}
	default:
		return false
	}
	l.waiting = false
	return true
}

// breakOff writes into p the ERROR that makes a waiting library give up.
func (l *link) breakOff(p []byte) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.waiting {
		return 0
	}
	l.waiting = false
	return copy(p, errorPacket(codeOther, "over"))
}

// WriteTo implements net.PacketConn.
func (l *link) WriteTo(p []byte, _ net.Addr) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case p[1] == opError:
		l.waiting = false
		return len(p), nil
	case l.err != nil:
		return 0, l.err
	case p[1] == opOACK:
		l.block = 0
	default:
		l.block = binary.BigEndian.Uint16(p[2:])
	}
	l.waiting = true
	n, err := l.sock.Write(p)
	if errors.Is(err, syscall.ECONNREFUSED) { // not the network error the library would repeat for
		l.err = errGone
		return n, l.err
	}
	return n, err
}

// SetReadDeadline implements net.PacketConn. The library sets one only to end the transfer.
func (l *link) SetReadDeadline(time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.ended = true
		close(l.over)
	}
	return l.sock.SetReadDeadline(time.Unix(1, 0))
}

// Close implements net.PacketConn. The socket belongs to the transfer.
func (l *link) Close() error { return nil }

// LocalAddr implements net.PacketConn.
func (l *link) LocalAddr() net.Addr { return l.sock.LocalAddr() }

// SetDeadline implements net.PacketConn.
func (l *link) SetDeadline(t time.Time) error { return l.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn.
func (l *link) SetWriteDeadline(time.Time) error { return nil }
