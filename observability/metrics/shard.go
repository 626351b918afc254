package metrics

import (
	"sync/atomic"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
)

// The keys of the series. Strings are compared, not interned; see table.get.
type (
	requestKey struct {
		listener, service string
		reason            policy.Reason
		class             uint8 // of the status: 0 to 5
		inbound           bool
	}
	serviceKey struct {
		service string
		inbound bool
	}
	endpointKey struct{ service, endpoint string }
	refusedKey  struct {
		listener string
		reason   policy.Reason
	}
	upstreamKey struct {
		service string
		reason  policy.Reason
	}
)

// The values of the series.
type (
	serviceCounts struct {
		buckets           [fineBuckets]count
		nanoseconds       count
		failed            count
		bytesIn, bytesOut count
	}
	endpointCounts struct{ ok, failed count }
	connCounts     struct {
		opened count
		active atomic.Int64
	}
)

// admissions bound the series of all loops together.
type admissions struct {
	requests  *admission[requestKey]
	services  *admission[serviceKey]
	endpoints *admission[endpointKey]
	listeners *admission[string]
	refused   *admission[refusedKey]
	cut       *admission[refusedKey]
	upstream  *admission[upstreamKey]
}

func newAdmissions(limit int) *admissions {
	return &admissions{
		requests:  newAdmission[requestKey](limit),
		services:  newAdmission[serviceKey](limit),
		endpoints: newAdmission[endpointKey](limit),
		listeners: newAdmission[string](limit),
		refused:   newAdmission[refusedKey](limit),
		cut:       newAdmission[refusedKey](limit),
		upstream:  newAdmission[upstreamKey](limit),
	}
}

// shard is what one loop counts.
type shard struct {
	requests  table[requestKey, count]
	services  table[serviceKey, serviceCounts]
	endpoints table[endpointKey, endpointCounts]
	listeners table[string, connCounts]
	refused   table[refusedKey, count]
	cut       table[refusedKey, count]
	upstream  table[upstreamKey, count]
}

func newShard(a *admissions) *shard {
	return &shard{
		requests: newTable[requestKey, count](a.requests, func(k requestKey) requestKey {
			k.listener, k.service = Other, Other
			return k
		}),
		services: newTable[serviceKey, serviceCounts](a.services, func(k serviceKey) serviceKey {
			k.service = Other
			return k
		}),
		endpoints: newTable[endpointKey, endpointCounts](a.endpoints, func(endpointKey) endpointKey {
			return endpointKey{Other, Other}
		}),
		listeners: newTable[string, connCounts](a.listeners, func(string) string { return Other }),
		refused:   newTable[refusedKey, count](a.refused, otherRefused),
		cut:       newTable[refusedKey, count](a.cut, otherRefused),
		upstream: newTable[upstreamKey, count](a.upstream, func(k upstreamKey) upstreamKey {
			k.service = Other
			return k
		}),
	}
}

func otherRefused(k refusedKey) refusedKey {
	k.listener = Other
	return k
}

// observe costs about 60 ns, most of it the stores (BenchmarkObserve).
func (s *shard) observe(r *observability.Record) {
	class := classOf(r.Status)
	what := uintptr(r.Reason)<<4 | uintptr(class)<<1 | bit(r.Inbound)
	s.requests.get(slotOf(r.Listener, r.Service, what),
		requestKey{r.Listener, r.Service, r.Reason, class, r.Inbound}).add(1)

	failed := Failed(r)
	sv := s.services.get(slotOf(r.Service, "", bit(r.Inbound)), serviceKey{r.Service, r.Inbound})
	sv.buckets[bucketOf(r.Total)].add(1)
	sv.nanoseconds.add(uint64(max(r.Total, 0)))
	if failed {
		sv.failed.add(1)
	}
	if r.BytesIn > 0 {
		sv.bytesIn.add(uint64(r.BytesIn))
	}
	if r.BytesOut > 0 {
		sv.bytesOut.add(uint64(r.BytesOut))
	}

	if r.Endpoint == "" {
		return
	}
	ep := s.endpoints.get(slotOf(r.Service, r.Endpoint, 0), endpointKey{r.Service, r.Endpoint})
	if failed {
		ep.failed.add(1)
	} else {
		ep.ok.add(1)
	}
}

func (s *shard) conn(listener string, delta int) {
	c := s.listeners.get(slotOf(listener, "", 0), listener)
	if delta > 0 {
		c.opened.add(uint64(delta))
	}
	c.active.Store(c.active.Load() + int64(delta))
}

func (s *shard) refuse(listener string, reason policy.Reason) {
	s.refused.get(slotOf(listener, "", uintptr(reason)), refusedKey{listener, reason}).add(1)
}

func (s *shard) cutOff(listener string, reason policy.Reason) {
	s.cut.get(slotOf(listener, "", uintptr(reason)), refusedKey{listener, reason}).add(1)
}

func (s *shard) upstreamConn(service string, reason policy.Reason) {
	s.upstream.get(slotOf(service, "", uintptr(reason)), upstreamKey{service, reason}).add(1)
}

// Failed reports whether the exchange counts as a failure of the service or of the
// proxy: a status of 5xx, or a reason that is not the client's doing.
func Failed(r *observability.Record) bool {
	return r.Status >= 500 || r.Reason != policy.None && r.Side != policy.Downstream
}

// classOf returns the first digit of an HTTP status, 0 where there is none.
func classOf(status int) uint8 {
	if status < 100 || status > 599 {
		return 0
	}
	return uint8(status / 100)
}

func bit(b bool) uintptr {
	if b {
		return 1
	}
	return 0
}
