package phonehttp

import (
	"errors"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// vendors are the first words of User-Agents that get a label of their own; all others are "other".
var vendors = []string{"yealink", "snom", "grandstream", "polycom", "poly", "cisco", "linksys", "fanvil", "gigaset", "aastra", "mitel", "htek",
	"panasonic", "smartnode", "alcatel", "ale", "avaya", "digium", "sangoma", "thomson", "flyingvoice", "algo", "innovaphone"}

// vendorOf is the vendor a User-Agent claims, from a fixed set: a label must not grow with what is sent.
func vendorOf(agent string) string {
	agent = strings.ToLower(agent[:min(len(agent), 80)])
	if _, inside, ok := strings.Cut(agent, "compatible; "); ok { // Mozilla/4.0 (compatible; snomD785-SIP …)
		agent = inside
	}
	agent = strings.TrimPrefix(agent, "filetransport ")
	for _, v := range vendors {
		if strings.HasPrefix(agent, v) {
			return v
		}
	}
	return "other"
}

type metrics struct {
	requests    *prometheus.CounterVec // vendor, via, transport, status
	bytes       *prometheus.CounterVec // transport
	seconds     *prometheus.HistogramVec
	refusedConn *prometheus.CounterVec // reason
	budget      prometheus.Counter
	trips       prometheus.Counter
	connections prometheus.GaugeFunc
	discoveries prometheus.Collector // nil when the service does not tell
}

func newMetrics(open func() int, files Files) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ledgerline_phonehttp_requests_total",
			Help: "Requests of phones by the vendor the User-Agent claims, the kind of proof, transport and status."}, []string{"vendor", "via", "transport", "status"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ledgerline_phonehttp_bytes_total", Help: "Bytes of bodies written."}, []string{"transport"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "ledgerline_phonehttp_request_seconds", Help: "Time from request to whole answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}, []string{"via"}),
		refusedConn: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ledgerline_phonehttp_connections_refused_total",
			Help: "Connections there was no place for: total, or source (too many of one network)."}, []string{"reason"}),
		budget: prometheus.NewCounter(prometheus.CounterOpts{Name: "ledgerline_phonehttp_budget_refused_total", Help: "Requests refused unasked, the source's budget of unknown identities being spent."}),
		trips:  prometheus.NewCounter(prometheus.CounterOpts{Name: "ledgerline_phonehttp_budget_spent_total", Help: "Times a source has spent its budget of unknown identities."}),
		connections: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ledgerline_phonehttp_connections", Help: "Open connections."},
			func() float64 { return float64(open()) }),
	}
	if d, ok := files.(interface{ DiscoveryRefused() int }); ok {
		m.discoveries = prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ledgerline_phone_discoveries_refused_total",
			Help: "Phones not made known because the hourly cap was reached."}, func() float64 { return float64(d.DiscoveryRefused()) })
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	all := []prometheus.Collector{m.requests, m.bytes, m.seconds, m.refusedConn, m.budget, m.trips, m.connections}
	if m.discoveries != nil {
		all = append(all, m.discoveries)
	}
	var errs []error
	for _, c := range all {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}
