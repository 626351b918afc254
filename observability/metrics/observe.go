package metrics

import (
	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
)

// An exchange is counted under its listener, route, service, endpoint and source, some
// fifteen counters in seven tables. To look into each would cost ten times the counting,
// so the loop keeps, by what exchanges have in common, the counters themselves: one look
// for listener, route and service, one for the endpoint and, inbound, one for the source
// (BenchmarkObserve). What is kept is a guess of where to look only: a slot that holds
// something else is filled anew out of the tables, without an allocation.

// Source of an exchange whose client has proven no SPIFFE ID.
const noSource = "none"

const classes = 6 // of status codes, 0 being none

type (
	// flow is what exchanges of one listener, route and service count in.
	flow struct {
		listener, route, service string
		inbound                  bool
		// By class, nil until the first; requests are those without a reason.
		requests, routes [classes]*count
		counts           *serviceCounts // nil: the slot is empty
		times            *durations     // of the route
	}
	// place is what exchanges at one endpoint count in.
	place struct {
		key    endpointKey
		counts *endpointCounts // nil: the slot is empty
		times  *durations
	}
	// origin is what exchanges of one source with one service count in.
	origin struct {
		source, service string
		requests        [classes]*count
		times           *durations // nil: the slot is empty
	}

	near struct {
		flows   [nearSlots]flow
		places  [nearSlots]place
		origins [nearSlots]origin
	}
)

// observe costs some 50 ns (BenchmarkObserve).
func (s *shard) observe(r *observability.Record) {
	class := classOf(r.Status)
	failed := Failed(r)
	fine := bucketOf(r.Total)

	f := s.flow(r)
	s.countRequest(f, r, class)
	c := f.counts
	c.buckets[fine].add(1)
	c.nanoseconds.add(uint64(max(r.Total, 0)))
	if failed {
		c.failed.add(1)
	}
	if r.BytesIn > 0 {
		c.bytesIn.add(uint64(r.BytesIn))
	}
	if r.BytesOut > 0 {
		c.bytesOut.add(uint64(r.BytesOut))
	}
	f.times.add(fine, r.Total)
	if r.Trace.Sampled {
		c.exemplars.note(r, fine)
		f.times.exemplars.note(r, fine)
	}
	if r.Inbound {
		s.countSource(r, class, fine)
	}
	s.countEndpoints(r, failed)
}

func (s *shard) countRequest(f *flow, r *observability.Record, class uint8) {
	routes := &f.routes[class]
	if *routes == nil {
		*routes = s.routes.find(routeKey{r.Listener, r.Route, class})
	}
	(*routes).add(1)
	if r.GRPC != policy.GRPCNone {
		s.grpc.get(slotOf(r.Listener, r.Service, uintptr(r.GRPC)), grpcKey{r.Listener, r.Service, r.GRPC}).add(1)
	}
	key := requestKey{r.Listener, r.Service, r.Reason, class, r.Inbound}
	if r.Reason != policy.None {
		what := uintptr(r.Reason)<<4 | uintptr(class)<<1 | bit(r.Inbound)
		s.requests.get(slotOf(r.Listener, r.Service, what), key).add(1)
		return
	}
	requests := &f.requests[class]
	if *requests == nil {
		*requests = s.requests.find(key)
	}
	(*requests).add(1)
}

func (s *shard) countSource(r *observability.Record, class uint8, fine int) {
	source := r.PeerID
	if source == "" {
		source = noSource
	}
	o := s.origin(source, r.Service)
	requests := &o.requests[class]
	if *requests == nil {
		*requests = s.sources.find(sourceKey{source, r.Service, class})
	}
	(*requests).add(1)
	o.times.add(fine, r.Total)
	if r.Trace.Sampled {
		o.times.exemplars.note(r, fine)
	}
}

// countEndpoints counts each attempt's time at its endpoint, and the exchange at its last.
func (s *shard) countEndpoints(r *observability.Record, failed bool) {
	for i := range r.Tries {
		t := &r.Tries[i]
		if r.EndpointLeft && t.Endpoint == r.Endpoint {
			continue
		}
		p := s.place(r.Service, t.Endpoint)
		fine := bucketOf(t.Total)
		p.times.add(fine, t.Total)
		if r.Trace.Sampled {
			p.times.exemplars.noteTry(r, t, fine)
		}
	}
	if r.Endpoint == "" || r.EndpointLeft {
		return
	}
	if p := s.place(r.Service, r.Endpoint); failed {
		p.counts.failed.add(1)
	} else {
		p.counts.ok.add(1)
	}
}

// flow returns the counters of r's listener, route and service.
func (s *shard) flow(r *observability.Record) *flow {
	at := slotOf(r.Route, r.Service, addressOf(r.Listener)) % nearSlots
	f := &s.near.flows[at]
	if f.is(r) {
		return f
	}
	second := &s.near.flows[at^1]
	if second.is(r) {
		return second
	}
	*second = *f
	*f = flow{
		listener: r.Listener, route: r.Route, service: r.Service, inbound: r.Inbound,
		counts: s.service(serviceKey{r.Service, r.Inbound}),
		times:  s.routeTimes.find(routeKey{r.Listener, r.Route, 0}),
	}
	return f
}

func (f *flow) is(r *observability.Record) bool {
	return f.route == r.Route && f.service == r.Service && f.listener == r.Listener && f.inbound == r.Inbound && f.counts != nil
}

// service returns the counters of a service, which are its own even where its histogram is
// shown under Other.
func (s *shard) service(key serviceKey) *serviceCounts {
	known := s.services.byKey[key] != nil
	c := s.services.find(key)
	if !known && s.services.byKey[key] != nil {
		s.serviceTimes.find(key)
	}
	return c
}

func (s *shard) place(service, endpoint string) *place {
	at := slotOf(service, endpoint, 0) % nearSlots
	p, key := &s.near.places[at], endpointKey{service, endpoint}
	if p.key == key && p.counts != nil {
		return p
	}
	second := &s.near.places[at^1]
	if second.key == key && second.counts != nil {
		return second
	}
	*second = *p
	*p = place{key, s.endpoints.find(key), s.endpointTimes.find(key)}
	return p
}

func (s *shard) origin(source, service string) *origin {
	at := slotOf(source, service, 0) % nearSlots
	o := &s.near.origins[at]
	if o.is(source, service) {
		return o
	}
	second := &s.near.origins[at^1]
	if second.is(source, service) {
		return second
	}
	*second = *o
	*o = origin{source: source, service: service, times: s.sourceTimes.find(sourceKey{source, service, 0})}
	return o
}

func (o *origin) is(source, service string) bool {
	return o.source == source && o.service == service && o.times != nil
}

// Failed reports whether the exchange counts as a failure of the service or of the
// proxy: a status of 5xx, a gRPC status that speaks against the server, or a reason
// that is not the client's doing.
func Failed(r *observability.Record) bool {
	if r.Reason != policy.None {
		return r.Status >= 500 || r.Side != policy.Downstream
	}
	return r.Status >= 500 || r.GRPC.Failed()
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
