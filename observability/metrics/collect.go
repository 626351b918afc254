package metrics

import (
	"slices"

	"github.com/larboard-proxy/larboard/policy"
)

// collect sums one instrument over all loops and callbacks.
func (m *Metrics) collect(i Instrument) *points {
	p := &points{info: i.Info(), index: make(map[string]int), limit: m.series}
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
		callback(p.addWithin)
	}
	m.left[i].Add(p.left)
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
	case RouteRequests:
		for _, c := range s.routes.all() {
			emit(c.value.float(), c.key.listener, c.key.route, classNames[c.key.class])
		}
	case SourceRequests:
		for _, c := range s.sources.all() {
			emit(c.value.float(), c.key.source, c.key.service, classNames[c.key.class])
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
	case HTTP2Abuse:
		for _, c := range s.abuse.all() {
			emit(c.value.float(), c.key.listener, c.key.reason.String())
		}
	case UpstreamAbuse:
		for _, c := range s.hostile.all() {
			emit(c.value.float(), c.key.service, c.key.reason.String())
		}
	case UpstreamConnections:
		for _, c := range s.upstream.all() {
			emit(c.value.float(), c.key.service, outcomeOf(c.key.reason))
		}
	case GRPCRequests:
		for _, c := range s.grpc.all() {
			emit(c.value.float(), c.key.listener, c.key.service, c.key.status.String())
		}
	case Limited:
		for _, c := range s.limited.all() {
			emit(c.value.float(), c.key.listener, c.key.limit)
		}
	case QuotaRequests:
		for _, c := range s.quota.all() {
			emit(c.value.float(), c.key)
		}
	case Retries:
		for _, c := range s.retries.all() {
			emit(c.value.float(), c.key.service, c.key.cause.String(), c.key.result.String())
		}
	case EndpointRequests:
		for _, c := range s.endpoints.all() {
			emit(c.value.ok.float(), c.key.service, c.key.endpoint, "ok")
			emit(c.value.failed.float(), c.key.service, c.key.endpoint, "failed")
		}
	}
}

var classNames = [classes]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

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
