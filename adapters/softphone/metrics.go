package softphone

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	answers *prometheus.CounterVec // service, from: where the answer came from
	status  *prometheus.CounterVec // service, status
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ledgerline_softphone_answers_total",
			Help: "Documents for apps of Cloud Softphone, by service and whether they were kept (cache) or made anew (log)."}, []string{"service", "from"}),
		status: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ledgerline_softphone_requests_total",
			Help: "Requests of apps of Cloud Softphone by service and status."}, []string{"service", "status"}),
	}
	if r != nil {
		r.MustRegister(m.answers, m.status)
	}
	return m
}

func (m metrics) answered(service string, status int) {
	m.status.WithLabelValues(service, strconv.Itoa(status)).Inc()
}
