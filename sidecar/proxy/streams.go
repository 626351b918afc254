package proxy

import (
	"fmt"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/http2"
)

// streams is the HTTP/2 side of a connection: each of its streams is an exchange with a
// task of its own. It is its server's http2.Handler. Owned by the loop.
type streams struct {
	d      *Downstream
	server *http2.Server
	first  *Exchange     // of those under way
	ends   *engine.Timer // says goodbye before a certificate expires; nil: none was proven
}

// http2Stream is one stream as the client's side of its exchange.
type http2Stream struct{ *http2.Stream }

// Resume does nothing: what interrupts a reader spoils nothing.
func (s http2Stream) Resume() {}

// Abort ends the stream; the connection goes on.
func (s http2Stream) Abort(r policy.Reason) { s.Reset(r) }

// serveStreams goes on with HTTP/2, of which first has been read into buf, a lent buffer.
func (d *Downstream) serveStreams(conf *ListenerConfig, buf []byte, n int) {
	d.state = stateStreams
	d.streams = &streams{d: d}
	d.raw.SetDeadline(time.Time{})
	d.streams.server = http2.Serve(d.transport(), conf.HTTP2, d.streams, buf[:n], buf)
	if d.expires != 0 {
		d.streams.ends = d.loop.loop.NewTimer()
	}
	d.streams.watch()
}

// endsEvery is how often it is looked whether a certificate is about to expire: a timer that
// is stopped long before it comes up would still turn the loop then.
const endsEvery = 30 * time.Second

// watch ends the connection in time.
func (n *streams) watch() {
	d := n.d
	d.endStreams()
	if left := time.Duration(d.expires - d.loop.loop.Nanos()); d.state == stateStreams && n.ends != nil && left > 0 {
		n.ends.Arm(min(left, endsEvery), n.watch)
	}
}

// endStreams says goodbye to the client of a connection that should carry nothing further.
func (d *Downstream) endStreams() {
	if d.state == stateStreams && d.last() {
		d.streams.server.Drain()
	}
}

// Open implements http2.Handler.
func (n *streams) Open(s *http2.Stream) {
	d := n.d
	if d.peer != nil && d.peer.cut { // and may not have heard of it yet
		s.Reset(policy.Draining)
		s.Close()
		return
	}
	if d.last() && n.server != nil {
		n.server.Drain()
	}
	x := d.loop.exchange()
	x.Down, x.stream, x.server = d, s, http2Stream{s}
	x.next = n.first
	if n.first != nil {
		n.first.prev = x
	}
	n.first = x
	x.task = d.loop.loop.Go("http2", x.serveStream)
}

// remove takes an exchange that is over out of those under way.
func (n *streams) remove(x *Exchange) {
	if x.prev != nil {
		x.prev.next = x.next
	} else if n.first == x {
		n.first = x.next
	}
	if x.next != nil {
		x.next.prev = x.prev
	}
	x.next, x.prev = nil, nil
}

// Malformed implements http2.Handler: the request is recorded like one that HTTP/1 has
// refused.
func (n *streams) Malformed(s *http2.Stream, status int, err error) {
	d := n.d
	conf, loop := d.listener.conf.Load(), d.loop.loop
	r := &observability.Record{Loop: d.loop.index, Listener: conf.Name, Inbound: conf.Inbound, Protocol: protocolHTTP2, Version: "2", Status: status,
		Reason: policy.ReasonOf(err), Side: sideOf(err), Err: err, Start: loop.Now(),
		Client: d.client(), Unix: d.unix(), PeerID: d.PeerID(), BytesIn: int64(s.BytesIn()), BytesOut: int64(s.BytesOut())}
	for _, o := range d.loop.proxy.observers {
		o.Observe(r)
	}
}

// Abuse implements http2.Handler.
func (n *streams) Abuse(r policy.Reason, what error) {
	d := n.d
	d.loop.proxy.meter.HTTP2Abuse(d.loop.index, d.listener.name, r)
	err := &policy.Error{Reason: r, Side: policy.Downstream, Err: what}
	d.loop.proxy.refusals.log("connection ended", d.listener.name, err, "listener", d.listener.name, "client", d.clientName())
	d.loop.proxy.witness(d, err)
}

// Closed implements http2.Handler.
func (n *streams) Closed(error) {
	if n.ends != nil {
		n.ends.Stop()
	}
	n.d.close()
}

// sever ends the connection for err, a *policy.Error: exchanges under way answer with it
// where they still can.
func (n *streams) sever(err error) {
	for x := n.first; x != nil; x = x.next {
		x.task.Cancel(err)
	}
	n.server.Drain()
}

// serveStreamOn is the task of one stream.
func (x *Exchange) serveStreamOn(t *engine.Task) {
	x.task = t
	defer x.containStream()
	x.run()
	x.leaveStream()
}

func (x *Exchange) leaveStream() {
	x.Down.streams.remove(x)
	x.leave()
}

// containStream turns a panic into the end of this exchange alone.
func (x *Exchange) containStream() {
	v := recover()
	if v == nil {
		return
	}
	d := x.Down
	if d == nil { // it was over
		return
	}
	d.loop.proxy.panicked("exchange", v)
	err := &policy.Error{Reason: policy.Internal, Phase: policy.PhaseRecord, Err: fmt.Errorf("panic: %v", v)}
	x.answer(err)
	x.settle(err)
	x.finish(err)
	x.leaveStream()
}
