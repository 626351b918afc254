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
	flowing bool   // the pump has taken over: not replayable any more
	running bool
	pump    *engine.Task
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
	if !b.present || x.server.Buffered() == 0 {
		return nil
	}
	var err error
	b.first, b.whole, err = x.server.ReadBody()
	b.read = b.whole
	return err
}

func (b *body) reset() {
	b.present, b.first, b.whole, b.read, b.flowing, b.pump, b.err = false, nil, false, false, false, nil, nil
}

func (b *body) replayable() bool { return !b.flowing }

// send follows the request head that is pending on x.up.
func (b *body) send(x *Exchange) error {
	switch {
	case !b.present:
		return x.up.Flush()
	case b.whole:
		return relay(x.up, b.first, true, x.server.Trailers())
	case len(b.first) > 0:
		if err := x.up.WriteBody(b.first, false); err != nil {
			return err
		}
	default:
		if err := x.up.Flush(); err != nil {
			return err
		}
	}
	b.flowing, b.running = true, true
	x.siblings++
	b.pump = x.loop.loop.Go("pump", b.run)
	return nil
}

// pumpBody is the sibling task. x.up is not its to look at twice: an exchange that
// could not wait for its pump has let it go.
func (x *Exchange) pumpBody(*engine.Task) {
	up := x.up
	defer x.pumped()
	if up == nil {
		return
	}
	for {
		if x.spliceRequest(up) != errCopy {
			return
		}
		x.Down.raw.ReadWithin(x.conf.Timeouts.Body)
		p, end, err := x.server.ReadBody()
		if err != nil {
			x.clientFailed(up, err)
			return
		}
		x.body.read = end
		up.WriteWithin(x.within(x.settings.Timeouts.Body))
		// An endpoint that no longer reads may have answered already: what counts is
		// found by the task that reads the answer.
		if relay(up, p, end, x.server.Trailers()) != nil || end {
			return
		}
	}
}

// clientFailed notes that the request's body will not come to its end.
func (x *Exchange) clientFailed(up *upstream.Conn, err error) {
	if !errors.Is(err, errSettled) {
		x.body.err = err
		up.Transport.Close() // wakes the reader of the answer
	}
}

// pumped ends the pump. From now on the endpoint is to answer.
func (x *Exchange) pumped() {
	if x.awaiting {
		x.setUpstreamDeadline(x.settings.Timeouts.ResponseHead)
	}
	x.body.running = false
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
