package proxy

import (
	"errors"

	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/message"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// body is the request's body on its way to the endpoint. What arrived with the
// head goes out with the head; the rest is moved by a sibling task, so that an
// early answer reaches the client while it still uploads.
type body struct {
	present bool
	first   []byte // a view, valid until the pump reads on
	whole   bool   // first is all of it
	read    bool   // all of it has been read from the client
	flowing bool   // a pump has taken over: first is no view any more
	replay  replay
	running bool
	pump    *engine.Task
	to      *upstream.Conn // where the pump sends it
	ended   engine.Cond
	err     error // the client's failure
	run     func(*engine.Task)
}

var errSettled = errors.New("the exchange is over")

// expect notes whether a body follows the head.
func (b *body) expect(h *message.Head) {
	b.present = h.Framing.Kind != message.NoBody
	b.read = !b.present
}

// begin takes what has already arrived.
func (b *body) begin(x *Exchange) error {
	if !b.present || !x.server.BodyReady() {
		return nil
	}
	var err error
	b.first, b.whole, err = x.server.ReadBody()
	b.read = b.whole
	return err
}

func (b *body) reset() {
	b.present, b.first, b.whole, b.read, b.flowing, b.pump, b.to, b.err = false, nil, false, false, false, nil, nil, nil
	b.replay = replay{}
}

// replayable reports whether all that was read of it can be sent again.
func (b *body) replayable() bool { return !b.flowing || !b.replay.lost }

// send follows the request head that is pending on x.up.
func (b *body) send(x *Exchange) error {
	switch {
	case !b.present:
		return x.up.Flush()
	case b.whole:
		return relay(x.up, b.first, true, x.server.Trailers())
	case b.flowing:
		if done, err := b.sendAgain(x); done || err != nil {
			return err
		}
	default:
		if err := b.sendFirst(x); err != nil {
			return err
		}
	}
	x.try.until = 0 // begins anew when the client has sent all
	b.flowing, b.running, b.to = true, true, x.up
	b.to.Hold()
	x.siblings++
	b.pump = x.loop.loop.Go("pump", b.run)
	return nil
}

// sendFirst sends what has arrived with the head, and keeps it.
func (b *body) sendFirst(x *Exchange) error {
	if len(b.first) == 0 {
		b.replay.begin(x)
		return x.up.Flush()
	}
	if err := x.up.WriteBody(b.first, false); err != nil {
		return err
	}
	b.replay.begin(x)
	b.replay.keep(x.loop.loop, b.first)
	return nil
}

// pumpBody is the sibling task. x.up is not its to look at: an exchange that could not
// wait for its pump has let it go.
func (x *Exchange) pumpBody(*engine.Task) {
	up, kept := x.body.to, &x.body.replay
	defer x.pumped(up)
	if !x.sendKept(up) {
		return
	}
	for {
		if kept.limit == 0 && x.spliceRequest(up) != errCopy {
			return
		}
		x.server.ReadWithin(x.clientSilence())
		p, end, err := x.server.ReadBody()
		if err != nil {
			x.clientFailed(up, err)
			return
		}
		x.body.read = end
		kept.keep(x.loop.loop, p)
		x.requestMoved(up)
		up.WriteWithin(x.within(x.endpointSilence()))
		// An endpoint that no longer reads may have answered already: what counts is
		// found by the task that reads the answer.
		failed := relay(up, p, end, x.server.Trailers()) != nil
		if end {
			x.server.ReadBody() // has no more, and takes the last piece back: the answer may be long in coming
		}
		if failed || end {
			return
		}
	}
}

// clientFailed notes that the request's body will not come to its end.
func (x *Exchange) clientFailed(up *upstream.Conn, err error) {
	if !errors.Is(err, errSettled) {
		x.body.err = err
		up.Break() // wakes the reader of the answer
	}
}

// pumped ends the pump. From now on the endpoint is to answer.
func (x *Exchange) pumped(up *upstream.Conn) {
	up.Drop()
	if x.awaiting {
		x.limitTry()
		x.setUpstreamDeadline(x.headSilence())
	}
	x.body.running = false
	if x.body.replay.over {
		x.body.replay.forget(x.loop.loop)
	}
	x.body.ended.Broadcast()
	x.siblingEnded()
}

// settle stops the pump and waits for it; false: it could not wait.
func (b *body) settle(t *engine.Task) bool {
	if b.running {
		b.pump.Cancel(errSettled)
	}
	for b.running {
		if b.ended.Wait(t) != nil {
			return false
		}
	}
	return true
}

// writer is the sending half of a message.Stream.
type writer interface {
	WriteBody(p []byte, end bool) error
	WriteTrailers(*message.Head) error
}

// relay passes one piece of a body on, and at its end the trailers.
func relay(to writer, p []byte, end bool, trailers *message.Head) error {
	if !end || trailers == nil {
		return to.WriteBody(p, end)
	}
	if len(p) > 0 {
		if err := to.WriteBody(p, false); err != nil {
			return err
		}
	}
	return to.WriteTrailers(trailers)
}
