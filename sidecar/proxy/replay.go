package proxy

import (
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/message"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// replay keeps the beginning of a request's body that does not arrive with its head, so that
// another attempt can begin with it. It is one lent buffer, which grows with the body up to
// the policy's bound and counts among all buffers: where they are short, nothing is kept, and
// the request is not repeated.
type replay struct {
	kept  []byte // lent; nil: nothing
	limit int    // of kept; 0: nothing is kept
	sent  int    // of kept, in the attempt under way
	lost  bool   // more has been read than is kept
	over  bool   // nothing will be repeated: what is kept goes as soon as nobody sends it
}

// replayHead is how much of what is kept goes out with the head.
const replayHead = 8 << 10

// begin is called when the body begins to flow. One that is announced as longer than the
// bound is not kept from the beginning.
func (r *replay) begin(x *Exchange) {
	p, f := x.try.policy, &x.Req.Framing
	if r.over || p.Off() || f.Kind == message.Length && f.Length > int64(p.Replay) {
		r.lost = true
		return
	}
	r.limit = p.Replay
}

// keep adds what has been read and sent.
func (r *replay) keep(l *engine.Loop, p []byte) {
	if r.lost || r.over || len(p) == 0 {
		return
	}
	if n := len(r.kept) + len(p); n > r.limit || n > cap(r.kept) && !r.grow(l, n) {
		r.forget(l)
		r.lost, r.limit = true, 0
		return
	}
	r.kept = append(r.kept, p...)
	r.sent = len(r.kept)
}

// grow makes room for n bytes, and reports whether there is any.
func (r *replay) grow(l *engine.Loop, n int) bool {
	n = max(n, min(4*cap(r.kept), r.limit))
	if l.Short() || !l.HasRoom(n) {
		return false
	}
	larger := append(l.Buffer(n)[:0], r.kept...)
	r.forget(l)
	r.kept = larger
	return true
}

// forget gives the buffer back.
func (r *replay) forget(l *engine.Loop) {
	if r.kept != nil {
		l.Release(r.kept[:cap(r.kept)])
		r.kept = nil
	}
}

// commit ends the keeping: nothing is repeated from now on.
func (b *body) commit(l *engine.Loop) {
	r := &b.replay
	r.over = true
	if !b.running || r.sent == len(r.kept) {
		r.forget(l)
	}
}

// sendAgain follows the head of a repeat with the beginning of what is kept, and tells
// whether that is all of the body.
func (b *body) sendAgain(x *Exchange) (done bool, err error) {
	r := &b.replay
	n := min(len(r.kept), replayHead)
	r.sent = n
	if b.read && n == len(r.kept) {
		return true, relay(x.up, r.kept, true, x.server.Trailers())
	}
	if n == 0 {
		return false, x.up.Flush()
	}
	return false, x.up.WriteBody(r.kept[:n], false)
}

// sendKept is the pump's part of sendAgain, and tells whether there is more to come from the
// client.
func (x *Exchange) sendKept(up *upstream.Conn) bool {
	b, r := &x.body, &x.body.replay
	for r.sent < len(r.kept) {
		p := r.kept[r.sent:min(r.sent+tunnelBuffer, len(r.kept))]
		end := b.read && r.sent+len(p) == len(r.kept)
		up.WriteWithin(x.within(x.endpointSilence()))
		if relay(up, p, end, x.server.Trailers()) != nil {
			return false
		}
		r.sent += len(p)
	}
	if r.over {
		r.forget(x.loop.loop)
	}
	return !b.read
}

// stop ends the pump before a repeat, and nothing is lost of what its client sends; false: the
// exchange's own task was cancelled meanwhile.
func (b *body) stop(x *Exchange) bool {
	if !b.running {
		return true
	}
	if !b.settle(x.task) {
		return false
	}
	x.server.Resume()
	return true
}
