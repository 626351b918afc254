package metrics

import (
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// histogram sums the durations of all loops for i, nil where there are none.
func (m *Metrics) histogram(i Instrument) *histogram {
	h := &histogram{info: i.Info(), index: map[string]int{}}
	for _, s := range m.shards {
		switch i {
		case RequestDuration:
			s.collectServices(h)
		case RouteDuration:
			for _, c := range s.routeTimes.all() {
				h.add(&c.value, c.key.listener, c.key.route)
			}
		case SourceDuration:
			for _, c := range s.sourceTimes.all() {
				h.add(&c.value, c.key.source, c.key.service)
			}
		case EndpointDuration:
			for _, c := range s.endpointTimes.all() {
				h.add(&c.value, c.key.service, c.key.endpoint)
			}
		}
	}
	return h
}

// collectServices adds the fine histograms of one loop's services; those that are not
// among the shown ones under Other.
func (s *shard) collectServices(h *histogram) {
	shown := map[serviceKey]bool{}
	for _, c := range s.serviceTimes.all() {
		shown[c.key] = true
	}
	for _, c := range s.services.all() {
		key := c.key
		if !shown[key] {
			key = otherService(key)
		}
		var fine [fineBuckets]uint64
		for b := range fine {
			fine[b] = c.value.buckets[b].value()
		}
		p := h.at(key.service, directionOf(key.inbound))
		for b, n := range fold(&fine) {
			p.buckets[b] += n
		}
		p.nanoseconds += c.value.nanoseconds.value()
		c.value.exemplars.collect(&p.exemplars)
	}
}

// histogram gathers the points of one metric, adding up those with equal labels.
type histogram struct {
	info  *Info
	index map[string]int // by joined labels
	list  []histogramPoint
}

type histogramPoint struct {
	labels      []string
	buckets     [coarseBuckets]uint64
	nanoseconds uint64
	exemplars   [coarseBuckets]metricdata.Exemplar[float64]
}

func (h *histogram) add(d *durations, labels ...string) {
	p := h.at(labels...)
	for b := range p.buckets {
		p.buckets[b] += d.buckets[b].value()
	}
	p.nanoseconds += d.nanoseconds.value()
	d.exemplars.collect(&p.exemplars)
}

// at returns the point of the labels, until the next call.
func (h *histogram) at(labels ...string) *histogramPoint {
	clean, key := cleanLabels(labels)
	i, known := h.index[key]
	if !known {
		i = len(h.list)
		h.index[key] = i
		h.list = append(h.list, histogramPoint{labels: clean})
	}
	return &h.list[i]
}

// series is how many Prometheus makes of it.
func (h *histogram) series() int { return len(h.list) * histogramWeight }

// aggregation returns the points as OpenTelemetry data, nil where there are none.
func (h *histogram) aggregation(start time.Time) metricdata.Aggregation {
	if len(h.list) == 0 {
		return nil
	}
	out, now := make([]metricdata.HistogramDataPoint[float64], len(h.list)), time.Now()
	for i := range h.list {
		p := &h.list[i]
		point := metricdata.HistogramDataPoint[float64]{
			Attributes:   attributes(h.info.Labels, p.labels),
			StartTime:    start,
			Time:         now,
			Bounds:       exportBounds,
			BucketCounts: p.buckets[:],
			Sum:          float64(p.nanoseconds) / 1e9,
		}
		for b, n := range p.buckets {
			point.Count += n
			if x := &p.exemplars[b]; x.TraceID != nil {
				point.Exemplars = append(point.Exemplars, *x)
			}
		}
		out[i] = point
	}
	return metricdata.Histogram[float64]{DataPoints: out, Temporality: metricdata.CumulativeTemporality}
}
