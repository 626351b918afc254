package accesslog

import (
	"math/bits"
	"sync/atomic"
)

// ring is a queue of bytes with one producer (a loop) and one consumer (the writing
// goroutine). Lines enter whole or not at all, so that what lies between the two
// positions always ends with a line.
type ring struct {
	buf []byte // its length is a power of two

	head atomic.Uint64 // read up to here; moved by the consumer
	_    [64]byte      // the two sides on cache lines of their own
	tail atomic.Uint64 // written up to here; moved by the producer
	// roused is set by the producer with the wake-up and cleared by the consumer
	// before it looks.
	roused  atomic.Bool
	dropped atomic.Uint64 // counted by the producer
}

func newRing(size int) *ring {
	return &ring{buf: make([]byte, 1<<bits.Len(uint(size-1)))}
}

// put copies line into the ring, or counts it as dropped where it does not fit.
// Called by the producer only.
func (r *ring) put(line []byte) bool {
	tail := r.tail.Load()
	if free := uint64(len(r.buf)) - (tail - r.head.Load()); uint64(len(line)) > free {
		r.dropped.Store(r.dropped.Load() + 1)
		return false
	}
	at := tail & uint64(len(r.buf)-1)
	n := copy(r.buf[at:], line)
	copy(r.buf, line[n:])
	r.tail.Store(tail + uint64(len(line)))
	return true
}

// needsWake reports, once until the consumer looks, that the ring is half full.
// Called by the producer only.
func (r *ring) needsWake() bool {
	if r.tail.Load()-r.head.Load() < uint64(len(r.buf))/2 || r.roused.Load() {
		return false
	}
	r.roused.Store(true)
	return true
}

// pending returns what there is to read, in up to two pieces, and the position that
// release takes. The pieces are valid until then. Called by the consumer only.
func (r *ring) pending() (first, second []byte, end uint64) {
	r.roused.Store(false)
	head, end := r.head.Load(), r.tail.Load()
	at, n := head&uint64(len(r.buf)-1), end-head
	if room := uint64(len(r.buf)) - at; n > room {
		return r.buf[at:], r.buf[:n-room], end
	}
	return r.buf[at : at+n], nil, end
}

// release gives the bytes up to end back to the producer.
func (r *ring) release(end uint64) { r.head.Store(end) }
