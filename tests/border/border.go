// Package border is a simulated border gateway over TLS for tests of the whole program: its administrator has done his
// part, and the program's is done over its API. What is asked of the gateway can be watched.
package border

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"ledgerline/adapters/mbg/simulator"
	"ledgerline/adapters/mbg/wire"
)

// Secret is the consumer's: it must never be seen anywhere else.
const Secret = "canary-consumer"

// Impatient is the generic mapping with the waits of a test.
func Impatient() string {
	return strings.NewReplacer("min_interval: 100ms", "min_interval: 0s", "retry_first: 1s ", "retry_first: 20ms ", "retry_max: 5m", "retry_max: 1s",
		"probe_interval: 60s", "probe_interval: 500ms", "unclear_wait: 5s ", "unclear_wait: 200ms ").Replace(wire.Generic)
}

// Gateway is one simulated gateway, with an ICP at 10.1.2.3.
type Gateway struct {
	*simulator.Simulator
	URL string
	CA  string // PEM

	mu     sync.Mutex
	asking int
	most   int
}

// Open starts one; it ends with the test.
func Open(t testing.TB) *Gateway {
	t.Helper()
	sim, err := simulator.New(simulator.Options{Mapping: Impatient(), Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	g := &Gateway{Simulator: sim}
	server := httptest.NewUnstartedServer(g)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // connections it cuts on purpose
	server.StartTLS()
	t.Cleanup(server.Close)
	g.URL, g.CA = server.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	g.Act(t, "start", nil)
	g.Act(t, "consumer", map[string]string{"id": "MiVOAppSuite", "secret": Secret})
	g.Act(t, "icp", map[string]string{"id": "3", "name": "PBX", "address": "10.1.2.3"})
	return g
}

// ServeHTTP is the simulator, with a count of requests under way.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.asking++
	g.most = max(g.most, g.asking)
	g.mu.Unlock()
	defer func() { g.mu.Lock(); defer g.mu.Unlock(); g.asking-- }()
	g.Simulator.ServeHTTP(w, r)
}

// AtOnce is the greatest number of requests that were under way together since it was asked last.
func (g *Gateway) AtOnce() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer func() { g.most = g.asking }()
	return g.most
}

// Act is one deed of the gateway's administrator.
func (g *Gateway) Act(t testing.TB, action string, v map[string]string) {
	t.Helper()
	if err := g.Do(action, v); err != nil {
		t.Fatal(err)
	}
}

// Connect makes the tenant acme and the gateway edge with a token and a phone system, over the API.
func (g *Gateway) Connect(t testing.TB, api func(want int, method, path string, body any)) {
	t.Helper()
	api(201, "POST", "/tenants", map[string]any{"id": "acme", "name": "Acme"})
	api(201, "POST", "/gateways", map[string]any{"id": "edge", "tenant_id": "acme", "address": g.URL, "external_address": "mbg.acme.example", "ca": g.CA})
	api(204, "PUT", "/gateways/edge/mapping", map[string]any{"text": Impatient()})
	api(204, "PUT", "/gateways/edge/consumer", map[string]any{"consumer_id": "MiVOAppSuite", "secret": Secret})
	api(204, "POST", "/gateways/edge/token/request", map[string]any{})
	g.Act(t, "approve", nil)
	api(204, "POST", "/gateways/edge/token/verifier", map[string]any{"verifier": g.State().Temporary[0].Verifier})
	api(204, "PUT", "/gateways/edge/nodes/zrh", map[string]any{"internal_address": "10.1.2.3"})
}
