package metrics

import (
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/larboard-proxy/larboard/observability"
)

const (
	coarseBuckets = 15 // of exportBounds, and one above
	// histogramWeight is how many series one label set of a histogram makes: its buckets,
	// sum and count.
	histogramWeight = coarseBuckets + 2
)

// coarseOf maps the fine buckets to the exported ones.
var coarseOf = makeCoarse()

func makeCoarse() (out [fineBuckets]uint8) {
	e := 0
	for b := range out {
		for e < len(exportBounds) && (b == len(fineBounds) || float64(fineBounds[b]) > exportBounds[e]*1e9) {
			e++
		}
		out[b] = uint8(e)
	}
	return out
}

// durations is a histogram as it is exported.
type durations struct {
	buckets     [coarseBuckets]count
	nanoseconds count
	exemplars   exemplars
}

// add counts a duration whose fine bucket the caller knows.
func (d *durations) add(fine int, took time.Duration) {
	d.buckets[coarseOf[fine]].add(1)
	d.nanoseconds.add(uint64(max(took, 0)))
}

func (d *durations) count() (n uint64) {
	for b := range d.buckets {
		n += d.buckets[b].value()
	}
	return n
}

// exemplarFor is how long an exemplar stays at least, so that a busy bucket costs nothing.
const exemplarFor = time.Second

// exemplars are those of one histogram, a bucket each; made with the first one.
type exemplars struct {
	list atomic.Pointer[[coarseBuckets]exemplar]
}

// exemplar is one exchange that stands for its bucket. Written by the loop between an odd
// and the next even version, so that a reader can tell a torn one.
type exemplar struct {
	version atomic.Uint64
	trace   [2]atomic.Uint64
	span    atomic.Uint64
	took, at/* Unix nanoseconds */ atomic.Int64
}

// noteTry is note for one attempt of r.
func (e *exemplars) noteTry(r *observability.Record, t *observability.Try, fine int) {
	e.keep(r.Trace.TraceID, t.Span, r.Start.Add(t.Start), t.Total, fine)
}

// note is keep for r as a whole.
func (e *exemplars) note(r *observability.Record, fine int) {
	e.keep(r.Trace.TraceID, r.Trace.SpanID, r.Start, r.Total, fine)
}

// keep makes a sampled exchange the exemplar of its bucket, where the one there has had
// its time.
func (e *exemplars) keep(trace [16]byte, span [8]byte, start time.Time, took time.Duration, fine int) {
	list := e.list.Load()
	if list == nil {
		list = new([coarseBuckets]exemplar)
		e.list.Store(list)
	}
	one, at := &list[coarseOf[fine]], start.Add(took).UnixNano()
	if at-one.at.Load() < int64(exemplarFor) {
		return
	}
	one.version.Add(1)
	one.trace[0].Store(wordOf(trace[:8]))
	one.trace[1].Store(wordOf(trace[8:]))
	one.span.Store(wordOf(span[:]))
	one.took.Store(int64(took))
	one.at.Store(at)
	one.version.Add(1)
}

// collect adds what is there to the exemplars of a point, the latest of each bucket.
func (e *exemplars) collect(into *[coarseBuckets]metricdata.Exemplar[float64]) {
	list := e.list.Load()
	if list == nil {
		return
	}
	for b := range list {
		if x, ok := list[b].read(); ok && x.Time.After(into[b].Time) {
			into[b] = x
		}
	}
}

func (e *exemplar) read() (x metricdata.Exemplar[float64], ok bool) {
	before := e.version.Load()
	ids := appendWord(appendWord(appendWord(nil, e.trace[0].Load()), e.trace[1].Load()), e.span.Load())
	x.Value, x.Time = time.Duration(e.took.Load()).Seconds(), time.Unix(0, e.at.Load())
	x.TraceID, x.SpanID = ids[:16:16], ids[16:]
	return x, before != 0 && before%2 == 0 && before == e.version.Load()
}

func wordOf(b []byte) (w uint64) {
	for _, c := range b[:8] {
		w = w<<8 | uint64(c)
	}
	return w
}

func appendWord(b []byte, w uint64) []byte {
	for shift := 56; shift >= 0; shift -= 8 {
		b = append(b, byte(w>>shift))
	}
	return b
}
