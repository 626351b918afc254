package http2

import "github.com/larboard-proxy/larboard/sidecar/engine"

// body holds what has been received of a body and not been read. Small frames are copied into
// lent buffers and share one, so that a crumb never pins a buffer; large ones stay where they
// were read, as far as the connection lends that (see loan). Each goes back as soon as it has
// been read. The stream's window bounds it.
type body struct {
	chunks []chunk
	off    int // read of the first
	size   int // unread bytes
}

// chunk is a buffer of the body's own, whose length is what is filled, or a view of a loan.
type chunk struct {
	p    []byte
	loan *loan // nil: own
}

const (
	smallChunk = 8 << 10
	largeChunk = 32 << 10
)

// append copies p behind what is there. A view given out by next stays valid.
func (b *body) append(l *engine.Loop, p []byte) {
	b.size += len(p)
	for len(p) > 0 {
		last := len(b.chunks) - 1
		if last < 0 || len(b.chunks[last].p) == cap(b.chunks[last].p) {
			size := smallChunk
			if len(p) > smallChunk {
				size = largeChunk
			}
			b.chunks = append(b.chunks, chunk{p: l.Buffer(size)[:0]})
			last++
		}
		have := b.chunks[last].p
		n := min(len(p), cap(have)-len(have))
		b.chunks[last].p = append(have, p[:n]...)
		p = p[n:]
	}
}

// borrow is append of a view.
func (b *body) borrow(p []byte, from *loan) {
	b.size += len(p)
	b.chunks = append(b.chunks, chunk{p[:len(p):len(p)], from})
}

// next gives out the unread bytes of the first chunk; the view is valid until the next call.
// What the call before gave out goes back.
func (b *body) next(l *engine.Loop) []byte {
	b.release(l)
	if b.size == 0 {
		return nil
	}
	p := b.chunks[0].p[b.off:]
	b.off += len(p)
	b.size -= len(p)
	return p[:len(p):len(p)]
}

// release gives back the first chunk if all that it held was given out.
func (b *body) release(l *engine.Loop) {
	if len(b.chunks) == 0 || b.off < len(b.chunks[0].p) {
		return
	}
	b.chunks[0].giveBack(l)
	last := copy(b.chunks, b.chunks[1:])
	b.chunks[last] = chunk{}
	b.chunks, b.off = b.chunks[:last], 0
}

// drop gives back all.
func (b *body) drop(l *engine.Loop) {
	for i := range b.chunks {
		b.chunks[i].giveBack(l)
		b.chunks[i] = chunk{}
	}
	b.chunks, b.off, b.size = b.chunks[:0], 0, 0
}

func (c *chunk) giveBack(l *engine.Loop) {
	if c.loan != nil {
		c.loan.end()
	} else {
		l.Release(c.p)
	}
}
