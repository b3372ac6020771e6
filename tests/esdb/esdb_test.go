// Package esdb holds adapters/eventstoredb to the contract of the log without a cluster: the official
// client speaks to adapters/esdbserver, and that stands over the embedded ledger. What only the wire
// shows (wire_test.go) is asked with the official client itself.
package esdb

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"ledgerline/adapters/esdbserver"
	"ledgerline/adapters/eventstoredb"
	"ledgerline/adapters/ledger"
	"ledgerline/commands"
	"ledgerline/tests/contract"
	"ledgerline/tests/ports"
)

// node is a ledger with its EventStoreDB face on a loopback port.
type node struct {
	t       *testing.T
	options esdbserver.Options
	address string
	ledger  *ledger.Ledger
	dir     string
	stop    func()
	relayed atomic.Int32 // connections that came through relay
}

// up starts a node that takes writes; it ends with the test.
func up(t *testing.T, o esdbserver.Options) *node {
	t.Helper()
	n := &node{t: t, options: o, dir: t.TempDir(), address: ports.Address(t)}
	n.options.Write = true
	n.start()
	t.Cleanup(func() { n.stop() })
	return n
}

// start opens the ledger and listens, again on the same port after a stop.
func (n *node) start() { n.startOver(func(l commands.Log) commands.Log { return l }) }

// startOver is start with something between the ledger and its face.
func (n *node) startOver(between func(commands.Log) commands.Log) {
	n.t.Helper()
	l, err := ledger.Open(context.Background(), ledger.Options{Dir: n.dir})
	if err != nil {
		n.t.Fatal(err)
	}
	n.ledger = l
	o := n.options
	o.Log = between(l.Whole())
	server, err := esdbserver.New(context.Background(), o)
	if err != nil {
		n.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", n.address)
	if err != nil {
		n.t.Fatal(err)
	}
	n.address = listener.Addr().String()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	n.stop = func() {
		n.stop = func() {}
		for _, err := range []error{server.Close(), <-served, l.Close()} {
			if err != nil {
				n.t.Error(err)
			}
		}
	}
}

// store connects to the node as the engine does.
func (n *node) store(t *testing.T) *eventstoredb.Store {
	t.Helper()
	s, err := n.open(t)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (n *node) open(t *testing.T) (*eventstoredb.Store, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := eventstoredb.Open(ctx, "esdb://"+n.address+"?tls=false", eventstoredb.Credentials{})
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

func TestLogContract(t *testing.T) {
	contract.Log(t, func(t *testing.T) contract.LogUnderTest {
		n := up(t, esdbserver.Options{})
		return contract.LogUnderTest{Log: n.store(t), Reopen: func(t *testing.T) commands.Log {
			n.stop()
			n.start()
			return n.store(t)
		}}
	})
}

func TestReactorStoreContract(t *testing.T) {
	contract.ReactorStore(t, func(t *testing.T) contract.ReactorUnderTest {
		n := up(t, esdbserver.Options{})
		return contract.ReactorUnderTest{Store: n.store(t), Reopen: func(t *testing.T) commands.ReactorStore {
			n.stop()
			n.start()
			return n.store(t)
		}}
	})
}
