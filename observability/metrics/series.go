package metrics

import (
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// gathered is what one metric shows.
type gathered interface {
	series() int
	aggregation(start time.Time) metricdata.Aggregation
}

// gather sums i over all loops and callbacks. shown is how many series those before i in
// the table have.
func (m *Metrics) gather(i Instrument, shown *[instrumentCount]int) gathered {
	switch {
	case i == Series:
		p := m.collect(i)
		for of, n := range shown {
			if n > 0 {
				p.add(float64(n), Instrument(of).Info().Name)
			}
		}
		return p
	case i == Overflow:
		p := m.collect(i)
		for _, of := range Instruments() {
			if len(of.Info().Labels) > 0 {
				p.add(float64(m.refusals(of)), of.Info().Name)
			}
		}
		return p
	case i.Info().Kind == Histogram:
		return m.histogram(i)
	}
	return m.collect(i)
}

// refusals is how often a label set of i found no room.
func (m *Metrics) refusals(i Instrument) uint64 {
	a := m.admissions
	n := m.left[i].Load()
	switch i {
	case Requests:
		n += a.requests.refused.Load()
	case RequestDuration:
		n += a.serviceTimes.refused.Load() + a.services.refused.Load()
	case RouteRequests:
		n += a.routes.refused.Load()
	case RouteDuration:
		n += a.routeTimes.refused.Load()
	case SourceRequests:
		n += a.sources.refused.Load()
	case SourceDuration:
		n += a.sourceTimes.refused.Load()
	case Bytes:
		n += a.services.refused.Load()
	case Connections, ConnectionsActive:
		n += a.listeners.refused.Load()
	case Refused:
		n += a.refused.refused.Load()
	case Cut:
		n += a.cut.refused.Load()
	case HTTP2Abuse:
		n += a.abuse.refused.Load()
	case UpstreamAbuse:
		n += a.hostile.refused.Load()
	case UpstreamConnections:
		n += a.upstream.refused.Load()
	case EndpointRequests:
		n += a.endpoints.refused.Load()
	case EndpointDuration:
		n += a.endpointTimes.refused.Load()
	case Retries:
		n += a.retries.refused.Load()
	case GRPCRequests:
		n += a.grpc.refused.Load()
	case Limited:
		n += a.limited.refused.Load()
	case QuotaRequests:
		n += a.quota.refused.Load()
	}
	return n
}
