package metrics

import (
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// newProcess returns what tells of Go (go_*) and of the process (process_*): memory,
// goroutines, collections, CPU time, descriptors, start.
func newProcess() *client.Registry {
	r := client.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// process is what a scrape shows beside our own metrics, its counters and gauges, for
// those who are sent to.
func (m *Metrics) process() metricdata.ScopeMetrics {
	families, _ := m.processes.Gather() // what cannot be read is left out
	all := metricdata.ScopeMetrics{Scope: instrumentation.Scope{Name: scope}}
	now := time.Now()
	for _, f := range families {
		if data := m.familyOf(f, now); data != nil {
			all.Metrics = append(all.Metrics, metricdata.Metrics{Name: f.GetName(), Description: f.GetHelp(), Data: data})
		}
	}
	return all
}

// familyOf returns a counter or a gauge as OpenTelemetry data, nil of anything else.
func (m *Metrics) familyOf(f *dto.MetricFamily, now time.Time) metricdata.Aggregation {
	var points []metricdata.DataPoint[float64]
	for _, one := range f.GetMetric() {
		var labels []attribute.KeyValue
		for _, l := range one.GetLabel() {
			labels = append(labels, attribute.String(l.GetName(), l.GetValue()))
		}
		value := one.GetCounter().GetValue() + one.GetGauge().GetValue() // one of them
		points = append(points, metricdata.DataPoint[float64]{Attributes: attribute.NewSet(labels...), StartTime: m.start, Time: now, Value: value})
	}
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		return metricdata.Sum[float64]{DataPoints: points, IsMonotonic: true, Temporality: metricdata.CumulativeTemporality}
	case dto.MetricType_GAUGE:
		return metricdata.Gauge[float64]{DataPoints: points}
	}
	return nil
}
