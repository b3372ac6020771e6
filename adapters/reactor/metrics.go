package reactor

import (
	"github.com/prometheus/client_golang/prometheus"
)

// collector reads the state of the reactions when it is scraped.
type collector struct{ r *Reactor }

var (
	label = []string{"reaction"}

	handledTotal = prometheus.NewDesc("ledgerline_reaction_handled_total", "Messages a reaction has handled.", label, nil)
	retriedTotal = prometheus.NewDesc("ledgerline_reaction_retried_total", "Attempts that failed and were put back.", label, nil)
	parkedTotal  = prometheus.NewDesc("ledgerline_reaction_parked_total", "Messages a reaction has parked, those held behind others too.", label, nil)
	parkedNow    = prometheus.NewDesc("ledgerline_reaction_parked", "Messages standing parked.", label, nil)
	inFlight     = prometheus.NewDesc("ledgerline_reaction_in_flight", "Messages under way.", label, nil)
	pending      = prometheus.NewDesc("ledgerline_reaction_lag_events", "Messages read and not handled yet (at most the window).", label, nil)
	leads        = prometheus.NewDesc("ledgerline_reactor_leads", "1 while reactions run on this one of several replicas.", nil, nil)
	lag          = prometheus.NewDesc("ledgerline_reaction_lag_position", "Distance from what is handled to the end of the log, in the store's positions.", label, nil)
)

func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect is safe for concurrent use.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	if c.r.opt.Leases != nil {
		here := 0.0
		if c.r.Leads() {
			here = 1
		}
		ch <- prometheus.MustNewConstMetric(leads, prometheus.GaugeValue, here)
	}
	end := c.r.subscriber().end()
	for _, row := range c.r.opt.Reactions {
		var st Status
		if s := c.r.shared[row.Name]; s != nil {
			st = s.status()
		} else if s := c.r.subscriber().named(row.Name); s != nil {
			st = s.status()
		}
		put := func(d *prometheus.Desc, t prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, t, v, row.Name)
		}
		put(handledTotal, prometheus.CounterValue, float64(st.Handled))
		put(retriedTotal, prometheus.CounterValue, float64(st.Retried))
		put(parkedTotal, prometheus.CounterValue, float64(st.ParkedTotal))
		put(parkedNow, prometheus.GaugeValue, float64(st.Parked))
		put(inFlight, prometheus.GaugeValue, float64(st.InFlight))
		put(pending, prometheus.GaugeValue, float64(st.Pending))
		put(lag, prometheus.GaugeValue, float64(max(end.Commit, st.Position.Commit)-st.Position.Commit))
	}
}
