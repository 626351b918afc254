package proxy

import (
	"fmt"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// serveOn is the task of a connection that has something to read: one exchange
// after another until nothing more has arrived.
func (x *Exchange) serveOn(t *engine.Task) {
	d := x.Down
	x.task = t
	defer x.contain(d)
	for x.run() {
		x.reset()
		if x.http1.Idle() {
			x.loop.recycle(x)
			d.idle()
			return
		}
	}
	// What is not read, of a body or of requests behind it, makes a close a reset. A task that
	// was cancelled can wait for nothing, and the pump of its body may still be reading.
	lingering := t.Err() == nil && x.sent && (!x.body.read || x.http1.Buffered() > 0 || d.transport().Pending())
	x.http1.SetClose() // no request follows, so nothing that is buffered is kept
	x.leave()
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
	d.loop.proxy.panicked("exchange", v)
	defer d.close()
	if x.Down != d {
		return
	}
	err := &policy.Error{Reason: policy.Internal, Phase: policy.PhaseRecord, Err: fmt.Errorf("panic: %v", v)}
	if !x.sent && d.state == stateExchange {
		x.answer(err)
	}
	x.settle(err)
	x.finish(err)
	x.http1.SetClose()
	x.leave()
}
