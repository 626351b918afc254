package metrics

import (
	"sync/atomic"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/retry"
)

// The keys of the series. Strings are compared, not interned; see table.get.
type (
	requestKey struct {
		listener, service string
		reason            policy.Reason
		class             uint8 // of the status: 0 to 5
		inbound           bool
	}
	routeKey struct {
		listener, route string
		class           uint8
	}
	sourceKey struct {
		source, service string
		class           uint8
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
	grpcKey struct {
		listener, service string
		status            policy.GRPCStatus
	}
	limitedKey struct{ listener, limit string }
	retryKey   struct {
		service string
		cause   retry.Cause
		result  retry.Result
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
		exemplars         exemplars
	}
	endpointCounts struct{ ok, failed count }
	connCounts     struct {
		opened count
		active atomic.Int64
	}
)

// admissions bound the series of all loops together. Of a histogram's key the class is not
// used.
type admissions struct {
	requests      *admission[requestKey]
	routes        *admission[routeKey]
	routeTimes    *admission[routeKey]
	sources       *admission[sourceKey]
	sourceTimes   *admission[sourceKey]
	services      *admission[serviceKey]
	serviceTimes  *admission[serviceKey] // the services whose histogram is shown
	endpoints     *admission[endpointKey]
	endpointTimes *admission[endpointKey]
	listeners     *admission[string]
	refused       *admission[refusedKey]
	cut           *admission[refusedKey]
	abuse         *admission[refusedKey]
	upstream      *admission[upstreamKey]
	hostile       *admission[upstreamKey]
	grpc          *admission[grpcKey]
	limited       *admission[limitedKey]
	quota         *admission[string]
	retries       *admission[retryKey]
}

func newAdmissions(series int) *admissions {
	return &admissions{
		requests:      newAdmission[requestKey](series, 1),
		routes:        newAdmission[routeKey](series, 1),
		routeTimes:    newAdmission[routeKey](series, histogramWeight),
		sources:       newAdmission[sourceKey](series, 1),
		sourceTimes:   newAdmission[sourceKey](series, histogramWeight),
		services:      newAdmission[serviceKey](series, 2),
		serviceTimes:  newAdmission[serviceKey](series, histogramWeight),
		endpoints:     newAdmission[endpointKey](series, 2),
		endpointTimes: newAdmission[endpointKey](series, histogramWeight),
		listeners:     newAdmission[string](series, 1),
		refused:       newAdmission[refusedKey](series, 1),
		cut:           newAdmission[refusedKey](series, 1),
		abuse:         newAdmission[refusedKey](series, 1),
		upstream:      newAdmission[upstreamKey](series, 1),
		hostile:       newAdmission[upstreamKey](series, 1),
		grpc:          newAdmission[grpcKey](series, 1),
		limited:       newAdmission[limitedKey](series, 1),
		quota:         newAdmission[string](series, 1),
		retries:       newAdmission[retryKey](series, 1),
	}
}

// shard is what one loop counts.
type shard struct {
	requests      table[requestKey, count]
	routes        table[routeKey, count]
	routeTimes    table[routeKey, durations]
	sources       table[sourceKey, count]
	sourceTimes   table[sourceKey, durations]
	services      table[serviceKey, serviceCounts]
	serviceTimes  table[serviceKey, struct{}]
	endpoints     table[endpointKey, endpointCounts]
	endpointTimes table[endpointKey, durations]
	listeners     table[string, connCounts]
	refused       table[refusedKey, count]
	cut           table[refusedKey, count]
	abuse         table[refusedKey, count]
	upstream      table[upstreamKey, count]
	hostile       table[upstreamKey, count]
	limited       table[limitedKey, count]
	quota         table[string, count]
	grpc          table[grpcKey, count]
	retries       table[retryKey, count]

	near near // owned by the loop
}

func newShard(a *admissions) *shard {
	return &shard{
		requests: newTable[requestKey, count](a.requests, func(k requestKey) requestKey {
			k.listener, k.service = Other, Other
			return k
		}),
		routes:        newTable[routeKey, count](a.routes, otherRoute),
		routeTimes:    newTable[routeKey, durations](a.routeTimes, otherRoute),
		sources:       newTable[sourceKey, count](a.sources, otherSource),
		sourceTimes:   newTable[sourceKey, durations](a.sourceTimes, otherSource),
		services:      newTable[serviceKey, serviceCounts](a.services, otherService),
		serviceTimes:  newTable[serviceKey, struct{}](a.serviceTimes, otherService),
		endpoints:     newTable[endpointKey, endpointCounts](a.endpoints, otherEndpoint),
		endpointTimes: newTable[endpointKey, durations](a.endpointTimes, otherEndpoint),
		listeners:     newTable[string, connCounts](a.listeners, func(string) string { return Other }),
		refused:       newTable[refusedKey, count](a.refused, otherRefused),
		cut:           newTable[refusedKey, count](a.cut, otherRefused),
		abuse:         newTable[refusedKey, count](a.abuse, otherRefused),
		hostile:       newTable[upstreamKey, count](a.hostile, otherUpstream),
		upstream:      newTable[upstreamKey, count](a.upstream, otherUpstream),
		limited:       newTable[limitedKey, count](a.limited, func(limitedKey) limitedKey { return limitedKey{Other, Other} }),
		quota:         newTable[string, count](a.quota, func(string) string { return Other }),
		retries: newTable[retryKey, count](a.retries, func(k retryKey) retryKey {
			k.service = Other
			return k
		}),
		grpc: newTable[grpcKey, count](a.grpc, func(k grpcKey) grpcKey {
			k.listener, k.service = Other, Other
			return k
		}),
	}
}

func otherRoute(k routeKey) routeKey {
	k.listener, k.route = Other, Other
	return k
}

func otherSource(k sourceKey) sourceKey {
	k.source, k.service = Other, Other
	return k
}

func otherService(k serviceKey) serviceKey {
	k.service = Other
	return k
}

func otherEndpoint(endpointKey) endpointKey { return endpointKey{Other, Other} }

func otherUpstream(k upstreamKey) upstreamKey {
	k.service = Other
	return k
}

func otherRefused(k refusedKey) refusedKey {
	k.listener = Other
	return k
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

func (s *shard) abused(listener string, reason policy.Reason) {
	s.abuse.get(slotOf(listener, "", uintptr(reason)), refusedKey{listener, reason}).add(1)
}

func (s *shard) cutOff(listener string, reason policy.Reason) {
	s.cut.get(slotOf(listener, "", uintptr(reason)), refusedKey{listener, reason}).add(1)
}

func (s *shard) upstreamAbuse(service string, reason policy.Reason) {
	s.hostile.get(slotOf(service, "", uintptr(reason)), upstreamKey{service, reason}).add(1)
}

func (s *shard) limit(listener, limit string) {
	s.limited.get(slotOf(listener, limit, 0), limitedKey{listener, limit}).add(1)
}

func (s *shard) asked(result string) { s.quota.get(slotOf(result, "", 0), result).add(1) }

func (s *shard) repeated(service string, c retry.Cause, r retry.Result) {
	s.retries.get(slotOf(service, "", uintptr(c)<<4|uintptr(r)), retryKey{service, c, r}).add(1)
}

func (s *shard) upstreamConn(service string, reason policy.Reason) {
	s.upstream.get(slotOf(service, "", uintptr(reason)), upstreamKey{service, reason}).add(1)
}
