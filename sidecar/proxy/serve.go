package proxy

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// serveOn is the task of a connection that has something to read: one exchange
// after another until nothing more has arrived.
func (x *Exchange) serveOn(t *engine.Task) {
	d := x.Down
	x.task = t
	defer x.contain(d)
	for x.run() {
		x.reset()
		if d.server.Idle() {
			x.loop.recycle(x)
			d.idle()
			return
		}
	}
	lingering := x.sent && !x.body.read
	if x.body.running {
		x = nil // a pump that could not be waited for still uses it
	} else {
		x.loop.recycle(x)
	}
	if lingering {
		d.linger()
		return
	}
	d.close()
}

// contain turns a panic into the end of this exchange: a 500 where none was
// begun, a closed connection in any case.
func (x *Exchange) contain(d *Downstream) {
	v := recover()
	if v == nil {
		return
	}
	d.loop.proxy.log.Error("exchange panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	defer d.close()
	if x == nil || x.Down != d {
		return
	}
	err := &policy.Error{Reason: policy.Internal, Phase: policy.PhaseRecord, Err: fmt.Errorf("panic: %v", v)}
	if !x.sent && d.state == stateExchange {
		x.answer(err)
	}
	x.finish(err)
	if x.up != nil {
		x.loop.upstream.Close(x.up)
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

// setUpstreamDeadline allows d for the next read, and no more than the whole
// request has left.
func (x *Exchange) setUpstreamDeadline(d time.Duration) {
	if x.until != 0 {
		if left := time.Duration(x.until - x.loop.loop.Nanos()); d == 0 || left < d {
			d = max(left, 1)
		}
	}
	x.up.SetReadDeadline(x.loop.deadline(d))
}
