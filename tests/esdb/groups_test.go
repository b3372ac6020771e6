package esdb

import (
	"testing"

	"ledgerline/adapters/esdbserver"
	"ledgerline/tests/contract"
)

// The persistent subscriptions of the face, with the official client.
func TestGroupsContract(t *testing.T) {
	contract.Groups(t, func(t *testing.T) contract.WireUnderTest {
		n := up(t, esdbserver.Options{})
		return contract.WireUnderTest{Client: client(t, "esdb://"+n.address+"?tls=false"), Restart: func(t *testing.T) {
			n.stop()
			n.start()
		}}
	})
}
