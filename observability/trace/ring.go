package trace

import (
	"math/bits"
	"sync/atomic"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
)

// How many bytes of a value are kept at most, and how many attempts.
const (
	targetLimit = 2048
	valueLimit  = 256
	triesLimit  = 32
)

// item is a copy of what a sampled exchange leaves behind. Its memory is used again.
type item struct {
	record observability.Record // its byte slices are in buf
	tries  []observability.Try
	buf    []byte
}

// ring is a queue of items with one producer (a loop) and one consumer (Run).
type ring struct {
	items []item // their number is a power of two

	head atomic.Uint64 // read up to here; moved by the consumer
	_    [64]byte      // the two sides on cache lines of their own
	tail atomic.Uint64 // written up to here; moved by the producer
	// roused is set by the producer with the wake-up and cleared by the consumer
	// before it looks.
	roused  atomic.Bool
	dropped atomic.Uint64 // spans; counted by the producer
}

func newRing(size int) *ring {
	return &ring{items: make([]item, 1<<bits.Len(uint(size-1)))}
}

// put copies r into the ring, or counts it as dropped where there is no room. Called by
// the producer only.
func (q *ring) put(r *observability.Record) bool {
	tail := q.tail.Load()
	if tail-q.head.Load() == uint64(len(q.items)) {
		q.dropped.Store(q.dropped.Load() + spansOf(r))
		return false
	}
	q.items[tail&uint64(len(q.items)-1)].keep(r)
	q.tail.Store(tail + 1)
	return true
}

// needsWake reports, once until the consumer looks, that the ring is half full. Called by
// the producer only.
func (q *ring) needsWake() bool {
	if q.tail.Load()-q.head.Load() < uint64(len(q.items))/2 || q.roused.Load() {
		return false
	}
	q.roused.Store(true)
	return true
}

// next is the oldest item, valid until it is released; nil: there is none. Called by the
// consumer only.
func (q *ring) next() *item {
	q.roused.Store(false)
	head := q.head.Load()
	if head == q.tail.Load() {
		return nil
	}
	return &q.items[head&uint64(len(q.items)-1)]
}

// release gives the oldest item back to the producer.
func (q *ring) release() { q.head.Store(q.head.Load() + 1) }

// keep makes x a copy of r that shares nothing with it but strings.
func (x *item) keep(r *observability.Record) {
	x.record = *r
	k := &x.record
	x.tries = append(x.tries[:0], r.Tries[:min(len(r.Tries), triesLimit)]...)
	k.Tries, k.Fields, k.Err = x.tries, nil, nil
	x.buf = x.buf[:0]
	if need := len(r.Method) + len(r.Authority) + len(r.Path) + len(r.UserAgent) + len(r.RequestID); cap(x.buf) < need {
		x.buf = make([]byte, 0, min(need, targetLimit+4*valueLimit))
	}
	k.Method = x.copied(r.Method, valueLimit)
	k.Authority = x.copied(r.Authority, valueLimit)
	k.Path = x.copied(r.Path, targetLimit)
	k.UserAgent = x.copied(r.UserAgent, valueLimit)
	k.RequestID = x.copied(r.RequestID, valueLimit)
}

// copied appends what fits of v to buf, which has room for it.
func (x *item) copied(v []byte, limit int) []byte {
	start := len(x.buf)
	x.buf = append(x.buf, v[:min(len(v), limit)]...)
	return x.buf[start:]
}

// spansOf is how many spans r makes.
func spansOf(r *observability.Record) uint64 {
	if isTunnel(r) {
		return 1
	}
	return 1 + uint64(min(len(r.Tries), triesLimit))
}

// isTunnel: the exchange is a connection that carries no requests.
func isTunnel(r *observability.Record) bool { return r.Protocol == "tcp" }

// isCall: the exchange is a gRPC call.
func isCall(r *observability.Record) bool { return r.GRPC != policy.GRPCNone }
