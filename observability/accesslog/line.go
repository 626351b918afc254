package accesslog

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/larboard-proxy/larboard/observability"
)

// producer is what one loop needs to make its lines; all but the ring's far side and the
// counter is owned by the loop.
type producer struct {
	ring   *ring
	line   []byte // reused
	stamps []stamp
	format *Format
	random rand.PCG // for samples

	head      *syslogHead // nil: lines have none
	headStamp stamp

	skipped atomic.Uint64 // written by the loop
}

func newProducer(ringBytes int, f *Format, head *syslogHead, seed uint64) *producer {
	p := &producer{
		ring:   newRing(ringBytes),
		line:   make([]byte, 0, 2048),
		stamps: make([]stamp, len(f.stamps)),
		format: f,
		head:   head,
	}
	p.random.Seed(rand.Uint64(), seed)
	return p
}

// appendLine appends the record's line with its end.
func (p *producer) appendLine(dst []byte, r *observability.Record) []byte {
	if p.head == nil {
		return append(p.format.append(dst, p, r), '\n')
	}
	dst = p.head.append(dst, &p.headStamp, r)
	return append(p.head.cut(p.format.append(dst, p, r)), '\n')
}

// appendStamp appends t up to its second in one of the format's forms.
func (p *producer) appendStamp(dst []byte, i int, t time.Time) []byte {
	return p.stamps[i].append(dst, t, &p.format.stamps[i])
}
