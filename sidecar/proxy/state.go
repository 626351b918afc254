package proxy

import (
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/message"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Exchange is pooled by its loop and owned by one task at a time; a body pump is
// its sibling on the same loop. Steps see it through the exported fields.
type Exchange struct {
	Req, Resp message.Head
	Route     *Route
	Down      *Downstream

	server   http1.Server // the codec of the connection being served
	loop     *loopState
	task     *engine.Task
	serve    func(*engine.Task)
	conf     *ListenerConfig    // the snapshot of this exchange, loaded once
	settings *upstream.Settings // of the route's service, likewise
	record   observability.Record
	text     []byte // scratch

	body   body // of the request
	tried  upstream.Tried
	choice upstream.Choice
	up     *upstream.Conn
	start  int64  // Nanos
	picked int64  // Nanos of this attempt's pick
	until  int64  // Nanos by which it must end; 0: none
	fresh  bool   // the next attempt takes no pooled connection
	in     uint64 // bytes of the connection at the start, for the difference
	out    uint64
	sent   bool // a byte of the final answer may have reached the client

	awaiting bool // for the head of the answer
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
	x.record = observability.Record{}
	x.start, x.picked, x.until, x.sent, x.fresh = 0, 0, 0, false, false
}

func (x *Exchange) since(nanos int64) time.Duration {
	return time.Duration(x.loop.loop.Nanos() - nanos)
}

func (x *Exchange) overdue() bool {
	return x.until != 0 && x.loop.loop.Nanos() >= x.until
}

// within is d, or what the whole request has left if that is less.
func (x *Exchange) within(d time.Duration) time.Duration {
	if x.until != 0 {
		if left := time.Duration(x.until - x.loop.loop.Nanos()); d == 0 || left < d {
			return max(left, 1)
		}
	}
	return d
}

// setUpstreamDeadline allows d for the next read, and no more than the whole
// request has left.
func (x *Exchange) setUpstreamDeadline(d time.Duration) { x.up.ReadWithin(x.within(d)) }
