package proxy

import (
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/tracecontext"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/limit"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/http2"
	"github.com/larboard-proxy/larboard/sidecar/message"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Exchange is pooled by its loop and owned by one task at a time; a body pump is
// its sibling on the same loop. Steps see it through the exported fields.
type Exchange struct {
	Req, Resp message.Head
	Route     *Route
	Down      *Downstream

	server served // the client's side of it
	http1  http1Stream
	loop   *loopState
	task   *engine.Task
	serve  func(*engine.Task)
	stream *http2.Stream // nil: HTTP/1
	next   *Exchange     // of the connection's streams
	prev   *Exchange

	serveStream func(*engine.Task)

	conf     *ListenerConfig    // the snapshot of this exchange, loaded once
	settings *upstream.Settings // of the route's service, likewise
	record   observability.Record
	text     []byte // scratch

	body   body // of the request
	tried  upstream.Tried
	choice upstream.Choice
	up     *upstream.Conn
	start  int64 // Nanos
	picked int64 // Nanos of this attempt's pick
	until  int64 // Nanos by which it must end; 0: none
	fresh  bool  // the next attempt takes no pooled connection
	try    try   // of the attempt under way, and of its repeats
	sent   bool  // a byte of the final answer may have reached the client

	entered bool // it counts among the route's service's

	grpc  bool              // it is a gRPC call
	timed bool              // whose caller has said how long it may take
	told  policy.GRPCStatus // what the endpoint has said of how it ended

	traced tracecontext.Context // what endpoints are told of a trace that is recorded
	span   [8]byte              // of this attempt; zero: none yet
	retold bool                 // the head holds what an attempt before it was told

	claims  []limit.Claim // scratch; what Limits has taken for it
	limited limited       // what they say of it

	awaiting bool // for the head of the answer
	granted  bool // an endpoint has let the client send its body (100 Continue)
	siblings int  // tasks that use x beside its own: a pump, half of a tunnel
	orphaned bool // its own task has gone; the last sibling recycles it
}

// leave is the end of x's own task. A sibling that it could not wait for (it was
// cancelled) goes on for a moment and still uses x.
func (x *Exchange) leave() {
	if x.siblings > 0 {
		x.orphaned = true
		return
	}
	x.loop.recycle(x)
}

func (x *Exchange) siblingEnded() {
	x.siblings--
	if x.orphaned && x.siblings == 0 {
		x.orphaned = false
		x.loop.recycle(x)
	}
}

// reset makes x ready for the next request of the same connection.
func (x *Exchange) reset() {
	x.Req.Reset()
	x.Resp.Reset()
	x.Route, x.conf, x.settings, x.up, x.choice = nil, nil, nil, nil, upstream.Choice{}
	x.tried.Reset()
	x.body.reset()
	x.record = observability.Record{Tries: x.record.Tries[:0]}
	x.start, x.picked, x.until, x.sent, x.fresh, x.try = 0, 0, 0, false, false, try{}
	x.grpc, x.timed, x.granted, x.told = false, false, false, policy.GRPCNone
	x.limited = limited{}
	x.traced, x.span, x.retold = tracecontext.Context{}, [8]byte{}, false
}

// ask is what the request needs of the connection that carries it on.
func (x *Exchange) ask() upstream.Ask {
	return upstream.Ask{HTTP2: x.stream != nil, GRPC: x.grpc && x.stream != nil, Upgrade: x.Req.Framing.Upgrade.End != 0}
}

func (x *Exchange) since(nanos int64) time.Duration {
	return time.Duration(x.loop.loop.Nanos() - nanos)
}

func (x *Exchange) overdue() bool {
	return x.until != 0 && x.loop.loop.Nanos() >= x.until
}

// within is d, or what the whole request or this attempt has left if that is less.
func (x *Exchange) within(d time.Duration) time.Duration {
	if by := x.by(); by != 0 {
		if left := time.Duration(by - x.loop.loop.Nanos()); d == 0 || left < d {
			return max(left, 1)
		}
	}
	return d
}

// by is when the attempt under way must have its answer's head, and what comes later must
// be over; 0: never.
func (x *Exchange) by() int64 {
	if t := x.try.until; t != 0 && (x.until == 0 || t < x.until) {
		return t
	}
	return x.until
}

// setUpstreamDeadline allows d for the next read, and no more than the whole
// request has left.
func (x *Exchange) setUpstreamDeadline(d time.Duration) { x.up.ReadWithin(x.within(d)) }
