package proxy

import (
	"errors"
	"fmt"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
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
	record observability.Record
}

// serveTCP is the task of a connection to a TCP listener.
func (d *Downstream) serveTCP(t *engine.Task) {
	x := &tcpExchange{d: d, conf: d.listener.conf.Load(), start: d.loop.loop.Nanos()}
	defer d.close()
	defer func() {
		if v := recover(); v != nil {
			d.loop.proxy.panicked("tunnel", v)
			x.finish(&policy.Error{Reason: policy.Internal, Phase: policy.PhaseRecord, Err: fmt.Errorf("panic: %v", v)})
		}
	}()
	err := d.authorize(x.conf)
	if err != nil {
		d.loop.proxy.refusedCaller(d, err)
	}
	if err == nil {
		err = d.loop.mayBegin()
	}
	if err == nil {
		err = x.connect()
	}
	if err == nil {
		err = x.carry(t)
	}
	x.finish(err)
}

// connect tries endpoints until one accepts.
func (x *tcpExchange) connect() error {
	var tried upstream.Tried
	local := x.d.loop.upstream
	var last error
	for {
		picked := x.d.loop.loop.Nanos()
		choice, err := local.Pick(x.conf.Service, &tried)
		if err != nil {
			if last != nil {
				return last
			}
			return err
		}
		x.record.Attempts++
		x.choice = choice
		x.up, err = local.Dial(choice)
		x.record.Connect = time.Duration(x.d.loop.loop.Nanos() - picked)
		if err == nil {
			return nil
		}
		x.d.loop.proxy.refusedEndpoint(choice, err)
		local.Done(choice, policy.Outcome{Reason: policy.ReasonOf(err), Side: sideOf(err)})
		x.choice = upstream.Choice{}
		var e *policy.Error
		if !errors.As(err, &e) || !e.Retryable || x.record.Attempts >= maxAttempts {
			return err
		}
		last = err
	}
}

// carry serves the tunnel.
func (x *tcpExchange) carry(t *engine.Task) error {
	loop := x.d.loop.loop
	down := &bare{transport: x.d.transport(), loop: loop}
	up := &bare{transport: x.up.Transport, loop: loop}
	n := tunnel{
		down: tunnelEnd{down, x.d.raw, x.d.transport()},
		up:   tunnelEnd{up, x.up.Raw(), x.up.Transport},
		idle: x.conf.Service.Settings().Timeouts.Tunnel, loop: x.d.loop,
	}
	defer func() { // also after a panic
		x.record.BytesIn, x.record.BytesOut = n.in, n.out
		release := func() {
			down.release()
			up.release()
		}
		if n.running {
			n.released = release // the sibling still uses them
		} else {
			release()
		}
	}()
	return n.run(t)
}

// finish ends the choice and records the tunnel.
func (x *tcpExchange) finish(err error) {
	r, d := &x.record, x.d
	if x.up != nil {
		r.Endpoint, r.EndpointID = x.up.Endpoint.Address, x.up.PeerID
		d.loop.upstream.Close(x.up)
		x.up = nil
	}
	if x.choice.Service != nil {
		d.loop.upstream.Done(x.choice, policy.Outcome{Reason: policy.ReasonOf(err), Side: sideOf(err), Connected: true, Latency: r.Connect})
		x.choice = upstream.Choice{}
	}
	r.Loop, r.Listener, r.Inbound, r.Protocol = d.loop.index, x.conf.Name, x.conf.Inbound, "tcp"
	r.Service = x.conf.Service.Name
	r.Reason, r.Err, r.Side = policy.ReasonOf(err), err, sideOf(err)
	r.Total = time.Duration(d.loop.loop.Nanos() - x.start)
	r.Start = d.loop.loop.Now().Add(-r.Total)
	r.Client, r.Unix, r.PeerID = d.raw.Remote(), d.raw.Unix(), d.PeerID()
	for _, o := range d.loop.proxy.observers {
		o.Observe(r)
	}
}
