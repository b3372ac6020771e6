package phonetftp

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec // via, outcome
	bytes    prometheus.Counter
	seconds  prometheus.Histogram
	dropped  *prometheus.CounterVec // reason
	active   prometheus.GaugeFunc
}

func newMetrics(active func() int) *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ledgerline_phonetftp_requests_total",
			Help: "TFTP requests by the kind of proof and outcome: served, refused, busy, aborted, failed."}, []string{"via", "outcome"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "ledgerline_phonetftp_bytes_total", Help: "Bytes of files delivered whole."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "ledgerline_phonetftp_request_seconds", Help: "Time from request to the last acknowledgement.",
			Buckets: []float64{.001, .005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ledgerline_phonetftp_dropped_total",
			Help: "Datagrams not answered: no request, rate, repeated, total, source."}, []string{"reason"}),
		active: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ledgerline_phonetftp_transfers", Help: "Transfers under way."}, func() float64 { return float64(active()) }),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, m.bytes, m.seconds, m.dropped, m.active} {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}
