package sysclient

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	refused  prometheus.Counter
	outcomes *prometheus.CounterVec // outcome: code, token, operator, proved, denied, replaced
	all      []prometheus.Collector
}

func newMetrics(counts func() (in, out int)) *metrics {
	gauge := func(state string, pick func(in, out int) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ledgerline_sysclients", Help: "Connected sysclients: in, or waiting to be.",
			ConstLabels: prometheus.Labels{"state": state}}, func() float64 { return float64(pick(counts())) })
	}
	m := &metrics{
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "ledgerline_sysclients_refused_total", Help: "Sysclients there was no room for."}),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ledgerline_sysclient_admissions_total",
			Help: "What came of sysclients: let in (granted, proved), denied, replaced by a newer connection."}, []string{"outcome"}),
	}
	m.all = []prometheus.Collector{m.refused, m.outcomes, gauge("in", func(in, _ int) int { return in }), gauge("waiting", func(_, out int) int { return out })}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	var errs []error
	for _, c := range m.all {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}
