// Package metrics counts what the proxy does and shows it to Prometheus, to the
// admin API and to the demo. It exists so that counting costs a request next to
// nothing: each loop writes counters of its own, without a lock or an allocation,
// and a scrape sums them through an OpenTelemetry metric.Producer. The package must
// not know of connections, configuration or discovery: what it does not count
// itself it asks callbacks for.
package metrics

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	client "github.com/prometheus/client_golang/prometheus"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/retry"
)

// SeriesLimit is how many series each metric may have where nothing else is said. What
// comes above that is counted under the label value Other in place of listener, route,
// service, endpoint and source; those series come on top.
const SeriesLimit = 2000

// Other is the label value of what is over the limit.
const Other = "other"

// Metrics counts for one process. Observe, Conn, Refused, Cut, UpstreamConn and
// ForgetEndpoint are called on the loop they name and by nobody else; they neither
// lock nor wait, and allocate only when they meet a label value for the first
// time. The other methods may be called from any goroutine but a loop.
type Metrics struct {
	// immutable after New
	shards     []*shard
	admissions *admissions
	series     int // most of each metric
	start      time.Time
	processes  *client.Registry
	handler    http.Handler

	applied, refused atomic.Uint64                  // reloads
	left             [instrumentCount]atomic.Uint64 // label sets of callbacks that found no room

	sweeping sync.Mutex // one sweep at a time; guards the rest of each cell

	mu        sync.Mutex // guards callbacks
	callbacks [instrumentCount][]func(Emit)
}

// New returns metrics for the loops 0 to loops-1, of SeriesLimit series each.
func New(loops int) *Metrics { return NewWithin(loops, SeriesLimit) }

// NewWithin is New with another limit.
func NewWithin(loops, series int) *Metrics {
	m := &Metrics{start: time.Now(), series: series, admissions: newAdmissions(series), processes: newProcess()}
	for range loops {
		m.shards = append(m.shards, newShard(m.admissions))
	}
	m.handler = newHandler(m)
	return m
}

// Observe counts a finished exchange. It implements observability.Observer.
func (m *Metrics) Observe(r *observability.Record) { m.shards[r.Loop].observe(r) }

// Conn counts a connection that listener accepted (+1) or that has ended (-1).
func (m *Metrics) Conn(loop int, listener string, delta int) { m.shards[loop].conn(listener, delta) }

// Refused counts a connection of listener that was refused before its first request.
func (m *Metrics) Refused(loop int, listener string, reason policy.Reason) {
	m.shards[loop].refuse(listener, reason)
}

// Cut counts a live connection of listener whose peer may not be connected any more.
func (m *Metrics) Cut(loop int, listener string, reason policy.Reason) {
	m.shards[loop].cutOff(listener, reason)
}

// HTTP2Abuse counts a connection of listener that a protection of HTTP/2 has ended.
func (m *Metrics) HTTP2Abuse(loop int, listener string, reason policy.Reason) {
	m.shards[loop].abused(listener, reason)
}

// Retry counts an attempt at service that was to be repeated.
func (m *Metrics) Retry(loop int, service string, c retry.Cause, r retry.Result) {
	m.shards[loop].repeated(service, c, r)
}

// UpstreamAbuse counts a connection to an endpoint of service that was ended for what the
// endpoint did.
func (m *Metrics) UpstreamAbuse(loop int, service string, reason policy.Reason) {
	m.shards[loop].upstreamAbuse(service, reason)
}

// UpstreamConn counts an attempt to connect to an endpoint of service; None means
// that the connection was established.
func (m *Metrics) UpstreamConn(loop int, service string, reason policy.Reason) {
	m.shards[loop].upstreamConn(service, reason)
}

// Limited counts a request or a connection of listener that a rate limit has refused.
func (m *Metrics) Limited(loop int, listener, limit string) { m.shards[loop].limit(listener, limit) }

// Quota counts a question to the rate limit service by its result.
func (m *Metrics) Quota(loop int, result string) { m.shards[loop].asked(result) }

// ForgetEndpoint gives up the series of an endpoint that discovery has removed, so
// that endpoints which come and go do not use up the SeriesLimit. It is to be
// called on every loop; the service's own totals are unaffected.
func (m *Metrics) ForgetEndpoint(loop int, service, endpoint string) {
	m.shards[loop].forgetEndpoints(endpointKey{service, endpoint})
}

// Reloaded counts a reload of the configuration.
func (m *Metrics) Reloaded(applied bool) {
	if applied {
		m.applied.Add(1)
	} else {
		m.refused.Add(1)
	}
}

// Emit takes one value of a metric with its label values, in the order of
// Info.Labels. A wrong number of label values is a programmer's error and panics.
type Emit func(value float64, labels ...string)

// Register adds a callback that is asked for the values of i at each scrape, on the
// goroutine of the scrape; several scrapes may run at once, so it must be safe for
// that, and it must not call back into m. Several callbacks of one instrument add
// up. Histograms cannot be registered.
func (m *Metrics) Register(i Instrument, collect func(Emit)) {
	if i.Info().Kind == Histogram {
		panic("metrics: a histogram has no callback")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.callbacks[i] = append(m.callbacks[i], collect)
}

// Handler serves the metrics in the Prometheus text and OpenMetrics formats.
func (m *Metrics) Handler() http.Handler { return m.handler }
