// Package ports finds ports for programs that cannot say which one they got, or that come back to the same one.
//
// A port the system chose and that is given up again may be the next one it chooses for somebody else: another test's
// server, or any connection going out. So these lie below the range the system chooses from.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

const (
	first = 20_000
	end   = 32_768 // where Linux begins to choose by itself
)

// Pick is a port of 127.0.0.1 on which nobody listens, over TCP or UDP.
func Pick() (int, error) {
	for range 1000 {
		port := first + rand.IntN(end-first)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		_ = l.Close()
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		_ = c.Close()
		return port, nil
	}
	return 0, errors.New("no port is free")
}

// Free is Pick for a test.
func Free(t testing.TB) int {
	t.Helper()
	port, err := Pick()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Address is 127.0.0.1 with such a port.
func Address(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", Free(t))
}
