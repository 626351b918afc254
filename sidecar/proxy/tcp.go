package proxy

import (
	"fmt"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/retry"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// tunnelBuffer is the size of a TCP tunnel's buffer in each direction.
const tunnelBuffer = 32 << 10

// tcpExchange is one TCP connection carried to one endpoint: an exchange without
// heads.
type tcpExchange struct {
	d      *Downstream
	conf   *ListenerConfig
	start  int64
	choice upstream.Choice
	up     *upstream.Conn
	picked int64 // Nanos of the last attempt's pick
	// entered: it counts among the service's.
	entered bool
	record  observability.Record
	tries   [1]observability.Try // where one is enough

	// The tunnel's ends; far only where there is a connection. What detection has read
	// waits in them.
	near, far *bare
}

func newTCPExchange(d *Downstream) *tcpExchange {
	x := &tcpExchange{d: d, conf: d.listener.conf.Load(), start: d.loop.loop.Nanos(),
		near: &bare{raw: d.raw, transport: d.transport(), loop: d.loop.loop}}
	x.record.Trace = d.loop.beginTrace(x.conf.Tracing)
	return x
}

// serveTCP is the task of a connection to a TCP listener.
func (d *Downstream) serveTCP(t *engine.Task) { newTCPExchange(d).serve(t, nil) }

// serve is the rest of the connection's task; err: it is over already.
func (x *tcpExchange) serve(t *engine.Task, err error) {
	defer x.d.close()
	defer func() {
		if v := recover(); v != nil {
			x.d.loop.proxy.panicked("tunnel", v)
			x.finish(&policy.Error{Reason: policy.Internal, Phase: policy.PhaseRecord, Err: fmt.Errorf("panic: %v", v)})
		}
	}()
	if err == nil && x.up == nil {
		err = x.admit()
	}
	if err == nil && x.up == nil {
		err = x.connect()
		if err != nil && x.conf.Capture != nil {
			defer x.d.raw.Abort() // nobody has answered where the client thinks it has got through to
		}
	}
	if err == nil {
		err = x.carry(t)
	} else {
		x.release()
	}
	x.finish(err)
}

// admit asks whether there may be an exchange.
func (x *tcpExchange) admit() error {
	if err := x.d.authorize(x.conf); err != nil {
		x.d.loop.proxy.refusedCaller(x.d, err)
		return err
	}
	return x.d.loop.mayBegin()
}

// release gives the ends' buffers back.
func (x *tcpExchange) release() {
	x.near.release()
	if x.far != nil {
		x.far.release()
	}
}

// without is x without the connection to an endpoint that is being made on another task, which is
// the one to end that, and without the choice of the endpoint.
func (x *tcpExchange) without() *tcpExchange {
	rest := *x
	rest.up, rest.far, rest.choice, rest.entered, rest.record.Tries = nil, nil, upstream.Choice{}, false, nil
	return &rest
}

// drop ends a connection to the endpoint that has not been used.
func (x *tcpExchange) drop() {
	if x.far != nil {
		x.far.release()
		x.far = nil
	}
	x.leaveService()
	if x.up == nil {
		return
	}
	x.d.loop.upstream.Close(x.up)
	x.d.loop.upstream.Done(&x.choice, policy.Outcome{Connected: true, Latency: x.record.Connect})
	x.up, x.choice = nil, upstream.Choice{}
}

// leaveService ends what connect began, once.
func (x *tcpExchange) leaveService() {
	if x.entered {
		x.entered = false
		x.conf.Service.End()
	}
}

// connect tries endpoints until one accepts.
func (x *tcpExchange) connect() error {
	x.record.Attempts = 0
	x.record.Tries = x.tries[:0]
	if !x.entered {
		x.entered = true
		x.conf.Service.Begin()
	}
	var tried upstream.Tried
	local := x.d.loop.upstream
	var last error
	for {
		x.picked = x.d.loop.loop.Nanos()
		choice, err := x.pick(local, &tried)
		if err != nil && tried.Any() && !hopeless(last) {
			tried.Reset()
			choice, err = local.Pick(x.conf.Service, &tried)
		}
		if err != nil {
			if last != nil {
				return last
			}
			return err
		}
		if x.record.Attempts++; x.record.Attempts == 1 {
			x.record.Queue = time.Duration(x.picked - x.start)
		}
		choice.For = x.d.origin(x.conf.Service.Settings())
		x.choice = choice
		x.up, err = local.Dial(&x.choice)
		x.record.Connect = time.Duration(x.d.loop.loop.Nanos() - x.picked)
		if err == nil {
			x.far = &bare{raw: x.up.Raw(), transport: x.up.Transport, loop: x.d.loop.loop}
			return nil
		}
		x.d.loop.proxy.refusedEndpoint(&choice, err)
		x.noteTry(choice.Member.Address, "", err)
		local.Done(&x.choice, policy.Outcome{Reason: policy.ReasonOf(err), Side: sideOf(err)})
		x.choice = upstream.Choice{}
		if !x.again(err) {
			return err
		}
		last = err
	}
}

// pick chooses an endpoint: where a captured connection passes, it has been chosen.
func (x *tcpExchange) pick(local *upstream.Local, tried *upstream.Tried) (upstream.Choice, error) {
	if x.conf.Capture == nil {
		return local.Pick(x.conf.Service, tried)
	}
	to, err := x.d.raw.OriginalDestination()
	if err != nil {
		return upstream.Choice{}, &policy.Error{Reason: policy.CaptureUnknown, Side: policy.Downstream, Phase: policy.PhasePick, Err: err}
	}
	return upstream.Direct(x.conf.Service, to), nil
}

// again waits until another endpoint may be tried after err, and tells whether one may.
// Nothing has been sent, so that all that counts is the number of attempts.
func (x *tcpExchange) again(err error) bool {
	s, l := x.conf.Service, x.d.loop
	p := s.Settings().Retries
	v := p.Decide(retry.Attempt{Err: err, Number: x.record.Attempts, Idempotent: true, Replayable: true})
	if v.Result == retry.Made && !v.AtOnce {
		if l.loop.Current().Sleep(p.Backoff.Before(x.record.Attempts+1, l.loop.Rand().Float64())) != nil {
			return false
		}
	}
	if v.Result != retry.Nothing {
		l.proxy.meter.Retry(l.index, s.Name, v.Cause, v.Result)
	}
	return v.Result == retry.Made
}

// carry serves the tunnel.
func (x *tcpExchange) carry(t *engine.Task) error {
	n := tunnel{
		down: x.near, up: x.far,
		idle: x.conf.Service.Settings().Timeouts.Tunnel, loop: x.d.loop,
	}
	defer func() { // also after a panic
		x.record.BytesIn, x.record.BytesOut = n.in, n.out
		if n.running {
			n.released = x.release // the sibling still uses them
		} else {
			x.release()
		}
	}()
	return n.run(t)
}

// finish ends the choice and records the tunnel.
func (x *tcpExchange) finish(err error) {
	r, d := &x.record, x.d
	if x.up != nil {
		r.Endpoint, r.EndpointLeft, r.EndpointID = x.up.Endpoint.Address, x.up.Endpoint.Left(), x.up.PeerID
		x.noteTry(r.Endpoint, r.EndpointID, err)
		d.loop.upstream.Close(x.up)
		x.up = nil
	}
	r.Active.Service = x.conf.Service.Active()
	if x.choice.Service != nil {
		r.Active.Endpoint = x.choice.Member.Inflight()
		d.loop.upstream.Done(&x.choice, policy.Outcome{Reason: policy.ReasonOf(err), Side: sideOf(err), Connected: true, Latency: r.Connect})
		x.choice = upstream.Choice{}
	}
	r.Loop, r.Listener, r.Inbound, r.Protocol = d.loop.index, x.conf.Name, x.conf.Inbound, "tcp"
	r.Service = x.conf.Service.Name
	r.Reason, r.Err, r.Side = policy.ReasonOf(err), err, sideOf(err)
	r.Total = time.Duration(d.loop.loop.Nanos() - x.start)
	r.Start = d.loop.loop.Now().Add(-r.Total)
	r.Client, r.Unix, r.TLS, r.PeerID = d.client(), d.unix(), d.tls != nil, d.PeerID()
	d.active(&r.Active)
	x.leaveService()
	for _, o := range d.loop.proxy.observers {
		o.Observe(r)
	}
}

// noteTry adds an attempt to the record.
func (x *tcpExchange) noteTry(endpoint, id string, err error) {
	t := observability.Try{Endpoint: endpoint, EndpointID: id, Start: time.Duration(x.picked - x.start),
		Connect: x.record.Connect, Total: time.Duration(x.d.loop.loop.Nanos() - x.picked)}
	if err != nil {
		t.Reason, t.Side, t.Phase = policy.ReasonOf(err), sideOf(err), phaseOf(err)
	}
	x.record.Tries = append(x.record.Tries, t)
}
