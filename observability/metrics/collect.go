package metrics

import (
	"slices"
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/larboard-proxy/larboard/policy"
)

// collect sums one instrument over all loops and callbacks.
func (m *Metrics) collect(i Instrument) *points {
	p := &points{info: i.Info(), index: make(map[string]int)}
	for _, s := range m.shards {
		s.collect(i, p.add)
	}
	if i == ConfigReloads {
		p.add(float64(m.applied.Load()), "applied")
		p.add(float64(m.refused.Load()), "refused")
	}
	m.mu.Lock()
	callbacks := slices.Clone(m.callbacks[i])
	m.mu.Unlock()
	for _, callback := range callbacks {
		callback(p.add)
	}
	return p
}

// collect emits what one loop has counted of i.
func (s *shard) collect(i Instrument, emit Emit) {
	switch i {
	case Requests:
		for _, c := range s.requests.all() {
			k := c.key
			emit(c.value.float(), k.listener, k.service, k.reason.String(), classNames[k.class], directionOf(k.inbound))
		}
	case Bytes:
		for _, c := range s.services.all() {
			emit(c.value.bytesIn.float(), c.key.service, "in")
			emit(c.value.bytesOut.float(), c.key.service, "out")
		}
	case Connections:
		for _, c := range s.listeners.all() {
			emit(c.value.opened.float(), c.key)
		}
	case ConnectionsActive:
		for _, c := range s.listeners.all() {
			emit(float64(c.value.active.Load()), c.key)
		}
	case Refused:
		for _, c := range s.refused.all() {
			emit(c.value.float(), c.key.listener, c.key.reason.String())
		}
	case Cut:
		for _, c := range s.cut.all() {
			emit(c.value.float(), c.key.listener, c.key.reason.String())
		}
	case UpstreamConnections:
		for _, c := range s.upstream.all() {
			emit(c.value.float(), c.key.service, outcomeOf(c.key.reason))
		}
	case EndpointRequests:
		for _, c := range s.endpoints.all() {
			emit(c.value.ok.float(), c.key.service, c.key.endpoint, "ok")
			emit(c.value.failed.float(), c.key.service, c.key.endpoint, "failed")
		}
	}
}

// histogram sums the durations of all loops by service and direction.
func (m *Metrics) histogram() metricdata.Aggregation {
	type sum struct {
		buckets     [fineBuckets]uint64
		nanoseconds uint64
	}
	sums := make(map[serviceKey]*sum)
	for _, s := range m.shards {
		for _, c := range s.services.all() {
			key := serviceKey{cleanLabel(c.key.service), c.key.inbound}
			total := sums[key]
			if total == nil {
				total = &sum{}
				sums[key] = total
			}
			total.nanoseconds += c.value.nanoseconds.value()
			for b := range c.value.buckets {
				total.buckets[b] += c.value.buckets[b].value()
			}
		}
	}
	if len(sums) == 0 {
		return nil
	}
	h := metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality}
	now := time.Now()
	for key, total := range sums {
		counts := fold(&total.buckets)
		point := metricdata.HistogramDataPoint[float64]{
			Attributes:   attributes(RequestDuration.Info().Labels, []string{key.service, directionOf(key.inbound)}),
			StartTime:    m.start,
			Time:         now,
			Bounds:       exportBounds,
			BucketCounts: counts,
			Sum:          float64(total.nanoseconds) / 1e9,
		}
		for _, n := range counts {
			point.Count += n
		}
		h.DataPoints = append(h.DataPoints, point)
	}
	return h
}

func (c *count) float() float64 { return float64(c.value()) }

var classNames = [6]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

func directionOf(inbound bool) string {
	if inbound {
		return "inbound"
	}
	return "outbound"
}

func outcomeOf(r policy.Reason) string {
	if r == policy.None {
		return "established"
	}
	return r.String()
}
