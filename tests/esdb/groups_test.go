package esdb

import (
	"testing"

	"ledgerline/adapters/esdbserver"
	"ledgerline/tests/contract"
)

// What only the wire shows, and persistent subscriptions, with the official client.
func TestWireContract(t *testing.T) { contract.Wire(t, served) }

func TestGroupsContract(t *testing.T) { contract.Groups(t, served) }

func served(t *testing.T) contract.WireUnderTest {
	n := up(t, esdbserver.Options{})
	return contract.WireUnderTest{Client: client(t, "esdb://"+n.address+"?tls=false"), Restart: func(t *testing.T) {
		n.stop()
		n.start()
	}}
}
