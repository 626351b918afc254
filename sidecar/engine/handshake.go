package engine

import (
	"context"
	"crypto/tls"
	"runtime/debug"
	"slices"
	"sync/atomic"
)

// Handshakes beside the loop. A handshake is a millisecond of arithmetic: paced on the loop
// it lets requests come in between, as long as there are not too many. Under overload it is
// computed on a goroutine. No descriptor and nothing of the loop changes hands: the task
// moves the bytes, reading and writing when the goroutine asks for it, under the same
// deadlines and with the same errors as on the loop.

// HandshakeOffload says when TLS handshakes leave the loop.
type HandshakeOffload uint8

const (
	// OffloadOverload: while handshakes pile up on the loop, or make its turns long, which
	// slow (RSA) keys do sooner.
	OffloadOverload HandshakeOffload = iota
	OffloadAlways
	OffloadNever
)

const (
	// pileUp is how many handshakes wait for their turn on a loop that is overloaded.
	pileUp = 4
	// pileUpSlow is that of handshakes with a slow key: one that waits is enough.
	pileUpSlow = 1
	// longTurn is the average turn of one that is, in nanoseconds.
	longTurn = 1_000_000
	// overloadHold is for how long handshakes stay off the loop after that, in nanoseconds.
	overloadHold = 1_000_000_000
	// waitPerSlot bounds the handshakes that wait for a goroutine's turn, half a second of
	// work: those that come then are refused.
	waitPerSlot = 512
)

// handshakes bounds what is computed beside the loops at once, for all of them. It is the
// computing that is bounded: who waits for a slow peer holds no slot.
type handshakes struct {
	slots   chan struct{}
	waiting atomic.Int64
}

// admit reports whether another may begin.
func (h *handshakes) admit() bool { return h.waiting.Load() < int64(cap(h.slots)*waitPerSlot) }

func (h *handshakes) enter() {
	h.waiting.Add(1)
	h.slots <- struct{}{}
	h.waiting.Add(-1)
}

func (h *handshakes) leave() { <-h.slots }

// turned takes the length of a turn into the average of the last ones.
func (p *pacer) turned(nanos int64) { p.average += (nanos - p.average) / 16 }

// overloaded says whether a handshake that begins now belongs beside the loop: a slow one as
// soon as another waits.
func (l *Loop) overloaded(slow bool) bool {
	switch l.engine.options.HandshakeOffload {
	case OffloadAlways:
		return true
	case OffloadNever:
		return false
	}
	p, now := &l.pacer, l.Nanos()
	most := pileUp
	if slow {
		most = pileUpSlow
	}
	if p.queue.Waiting() >= most || p.average > longTurn {
		p.until = now + overloadHold
	}
	return now < p.until
}

// beside is a handshake on a goroutine, seen from both sides.
type beside struct {
	// Immutable.
	loop *Loop
	task TaskRef
	in   chan chunk // what the loop has read; closed when it waits no longer

	ask *ask // what the goroutine wants next; owned by the loop

	out []byte // not yet given to the loop; owned by the goroutine
}

// chunk is the outcome of a read.
type chunk struct {
	data []byte
	err  error
}

// ask is the goroutine's word to the loop: send out, then read up to room bytes, or done.
type ask struct {
	out  []byte
	room int
	done bool
	err  error
}

// shakeBeside is shake on a goroutine. It parks.
func (x *TLS) shakeBeside(t *Task) error {
	l := x.conn.loop
	if !l.engine.handshakes.admit() {
		return ErrOverload
	}
	b := &beside{loop: l, task: t.Ref(), in: make(chan chunk, 1)}
	x.wire.mode, x.wire.beside = wireBeside, b
	l.counts.beside++
	l.counts.offloads++
	defer func() { l.counts.offloads-- }()
	l.engine.offloads.Add(1)
	go b.run(x.tls)
	defer close(b.in)
	for {
		a, err := b.await(t)
		switch {
		case err != nil:
			x.abandoned = true // the goroutine may be at it still: it keeps the tls.Conn
			return err
		case a.done && a.err != nil:
			x.conn.Append(a.out)
			x.conn.flushNow() // the alert that says why
			return a.err
		case a.done:
			return x.send(a.out)
		}
		b.in <- x.exchange(a) // has room: the goroutine asks once and then takes
	}
}

// await parks until the goroutine has said something.
func (b *beside) await(t *Task) (*ask, error) {
	for b.ask == nil {
		if err := t.Park("handshake"); err != nil {
			return nil, err
		}
	}
	a := b.ask
	b.ask = nil
	return a, nil
}

// send writes what the handshake has to say.
func (x *TLS) send(out []byte) error {
	if x.conn.Append(out) < len(out) {
		return errQueueFull
	}
	return x.conn.Flush()
}

// exchange sends, and reads the peer's answer.
func (x *TLS) exchange(a *ask) chunk {
	if err := x.send(a.out); err != nil {
		return chunk{err: err}
	}
	l := x.conn.loop
	buf := l.Buffer(firstFlight)
	defer l.Release(buf)
	n, err := x.conn.Read(buf[:min(a.room, len(buf))])
	return chunk{slices.Clone(buf[:n]), err}
}

// firstFlight is room for what a peer usually sends at once, in bytes.
const firstFlight = 8 << 10

// run is the goroutine.
func (b *beside) run(conn *tls.Conn) {
	h := &b.loop.engine.handshakes
	a := &ask{done: true, err: &PanicError{}} // stays so if a callback calls Goexit
	defer b.loop.engine.offloads.Done()
	defer func() {
		a.out = b.out
		b.say(a)
	}()
	h.enter()
	defer h.leave()
	defer func() {
		if v := recover(); v != nil {
			a.err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	a.err = conn.HandshakeContext(context.WithoutCancel(b.loop.engine.ctx))
}

func (b *beside) say(a *ask) {
	b.loop.Post(func() {
		b.ask = a
		b.task.Wake()
	})
}

// Read is that of the wire, on the goroutine.
func (b *beside) Read(p []byte) (int, error) {
	e := b.loop.engine
	e.handshakes.leave()
	defer e.handshakes.enter()
	b.say(&ask{out: b.out, room: len(p)})
	b.out = nil
	select {
	case c, ok := <-b.in:
		if !ok {
			return 0, ErrClosed
		}
		return copy(p, c.data), c.err
	case <-e.ctx.Done():
		return 0, ErrClosed
	}
}

// Write is that of the wire, on the goroutine.
func (b *beside) Write(p []byte) (int, error) {
	if len(b.out)+len(p) > maxOut {
		return 0, errQueueFull
	}
	b.out = append(b.out, p...)
	return len(p), nil
}
