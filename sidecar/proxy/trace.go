package proxy

import (
	"encoding/binary"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/tracecontext"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Where an exchange stands in a distributed trace: the caller's context is read with the
// request's head, and each attempt tells its endpoint of one. Spans are made from the
// record, elsewhere.
//
// Cost: without tracing one comparison; for a request that is not recorded one look at
// each of its fields and, where its caller has said nothing, three random numbers and
// a field. No allocation (TestTracesAllocateNothing, BenchmarkJoinTrace).

// Tracing is how a listener takes part in traces.
type Tracing struct {
	// Sample is the share that is recorded of the requests whose caller has not decided.
	Sample tracecontext.Ratio
	// Trust: the caller's context counts. Else each request begins a trace of its own.
	Trust bool
	// Propagate is what endpoints are told in. What callers say is read in any format.
	Propagate tracecontext.Formats
}

// The fields of contexts by their place in carried.
const (
	traceparentField = iota
	tracestateField
	b3Field
	b3TraceIDField
	b3SpanIDField
	b3ParentField
	b3SampledField
	b3FlagsField
	traceFields
)

// carried is what a request's head holds of contexts.
type carried struct {
	values [traceFields][]byte // views of the head; nil: absent
	twice  [traceFields]bool   // it stands there more than once, and means nothing
	any    bool
}

func (s *carried) read(h *message.Head) {
	fields := h.Fields()
	for i := range fields {
		f := &fields[i]
		at := f.ID - message.NameTraceparent
		if at >= traceFields || f.Deleted() {
			continue
		}
		s.any = true
		s.twice[at] = s.values[at] != nil
		s.values[at] = h.Value(*f)
	}
}

// formats are those of which there is any field.
func (s *carried) formats() (f tracecontext.Formats) {
	if s.values[traceparentField] != nil || s.values[tracestateField] != nil {
		f |= tracecontext.W3C
	}
	if s.values[b3Field] != nil {
		f |= tracecontext.B3
	}
	for _, v := range s.values[b3TraceIDField:] {
		if v != nil {
			f |= tracecontext.B3Multi
		}
	}
	return f
}

// context is the first that is well-formed, of W3C, B3 in one field and B3 in several; a
// mere decision counts where there is none. from is the format it came in.
func (s *carried) context() (c tracecontext.Context, from tracecontext.Formats) {
	if v := s.values[traceparentField]; v != nil && !s.twice[traceparentField] {
		if c, ok := tracecontext.ParseTraceparent(v); ok {
			return c, tracecontext.W3C
		}
	}
	if v := s.values[b3Field]; v != nil && !s.twice[b3Field] {
		if read, ok := tracecontext.ParseB3(v); ok {
			if read.Valid() {
				return read, tracecontext.B3
			}
			c = read
		}
	}
	for _, twice := range s.twice[b3TraceIDField:] {
		if twice {
			return c, 0
		}
	}
	read, ok := tracecontext.ParseB3Multi(s.values[b3TraceIDField], s.values[b3SpanIDField], s.values[b3SampledField], s.values[b3FlagsField])
	switch {
	case !ok:
	case read.Valid():
		return read, tracecontext.B3Multi
	case c.Decision == tracecontext.Undecided:
		c = read
	}
	return c, 0
}

// joinTrace reads the caller's context and decides whether the exchange is recorded. A
// request that is not goes on with its caller's context, as it came where that is
// possible; one that is tells each attempt's endpoint of a span of the attempt's own.
func (x *Exchange) joinTrace() {
	how := x.conf.Tracing
	if how == nil {
		return
	}
	var held carried
	held.read(&x.Req)
	var c tracecontext.Context
	var from tracecontext.Formats
	if held.any && how.Trust {
		c, from = held.context()
	}
	said := c.Decision
	t := &x.record.Trace
	if from == 0 {
		*t = x.loop.newTrace()
		c.TraceID = t.TraceID
	} else {
		*t = observability.SpanContext{TraceID: c.TraceID, Parent: c.SpanID}
	}
	if said == tracecontext.Undecided {
		c.Decision = tracecontext.Dropped
		if how.Sample.Chooses(c.TraceID) {
			c.Decision = tracecontext.Sampled
		}
	}
	if t.Sampled = c.Decision == tracecontext.Sampled; t.Sampled && from != 0 {
		t.SpanID = x.loop.spanID()
	}
	if !t.Sampled && from != 0 && said == tracecontext.Dropped && from == how.Propagate && held.formats() == from && held.stateFits() {
		return // as it came
	}
	x.dropTrace(&held, how.Propagate&from&tracecontext.W3C != 0)
	x.traced = c
	if !t.Sampled {
		if from == 0 {
			x.traced.SpanID = t.SpanID
		}
		x.writeTrace()
	}
}

// stateFits reports whether the tracestate may go on as it is, or is absent.
func (s *carried) stateFits() bool {
	v := s.values[tracestateField]
	return v == nil || !s.twice[tracestateField] && tracecontext.StateFits(v)
}

// dropTrace removes what the head holds of contexts. What is left of its tracestate stays
// where the standard wants it passed on.
func (x *Exchange) dropTrace(held *carried, keepState bool) {
	if !held.any {
		return
	}
	keepAll := keepState && held.stateFits()
	if keepState && !keepAll {
		x.text = appendState(x.text[:0], &x.Req)
	}
	fields := x.Req.Fields()
	for i := range fields {
		f := &fields[i]
		if at := f.ID - message.NameTraceparent; at < traceFields && !(keepAll && at == tracestateField) {
			f.Flags |= message.Deleted
		}
	}
	if keepState && !keepAll && len(x.text) > 0 {
		x.Req.Add(message.NameTracestate, "", x.text)
	}
}

// stateRead bounds what is looked at of a tracestate before it is cut to size.
const stateRead = 8 << 10

// appendState appends what is passed on of h's tracestate, which may be several fields.
func appendState(dst []byte, h *message.Head) []byte {
	for _, f := range h.Fields() {
		if f.ID != message.NameTracestate || f.Deleted() {
			continue
		}
		if len(dst) > 0 {
			dst = append(dst, ',')
		}
		if dst = append(dst, h.Value(f)...); len(dst) > stateRead {
			return dst[:0]
		}
	}
	whole := len(dst)
	dst = tracecontext.AppendState(dst, dst)
	return append(dst[:0], dst[whole:]...)
}

// passTrace tells the endpoint of this attempt's span.
func (x *Exchange) passTrace() {
	if !x.record.Trace.Sampled {
		return
	}
	x.span = x.loop.spanID()
	x.traced.SpanID = x.span
	x.writeTrace()
}

// attemptSpan is the span of the attempt that ends, and none of the next; zero: the
// exchange is not recorded. An attempt that did not come to send has one too.
func (x *Exchange) attemptSpan() (span [8]byte) {
	if span = x.span; span == [8]byte{} && x.record.Trace.Sampled {
		span = x.loop.spanID()
	}
	x.span = [8]byte{}
	return span
}

// writeTrace writes x.traced in each format, in place of what it has written before.
func (x *Exchange) writeTrace() {
	c, formats := &x.traced, x.conf.Tracing.Propagate
	if formats&tracecontext.W3C != 0 {
		x.text = tracecontext.AppendTraceparent(x.text[:0], c)
		x.putTrace(message.NameTraceparent, x.text)
	}
	if formats&tracecontext.B3 != 0 {
		x.text = tracecontext.AppendB3(x.text[:0], c)
		x.putTrace(message.NameB3, x.text)
	}
	if formats&tracecontext.B3Multi != 0 {
		x.text = tracecontext.AppendB3TraceID(x.text[:0], c)
		x.putTrace(message.NameB3TraceID, x.text)
		x.text = tracecontext.AppendB3SpanID(x.text[:0], c)
		x.putTrace(message.NameB3SpanID, x.text)
		if c.Debug {
			x.text = append(x.text[:0], '1')
			x.putTrace(message.NameB3Flags, x.text)
		} else {
			x.text = append(x.text[:0], c.B3Sampled()...)
			x.putTrace(message.NameB3Sampled, x.text)
		}
	}
	x.retold = true
}

// putTrace sets a field. There is none of that name but what an earlier attempt has put, and
// the value needs no look, for it is ours.
func (x *Exchange) putTrace(id message.NameID, value []byte) {
	if x.retold {
		x.Req.Del(id)
	}
	x.Req.AppendCopy(id, []byte(id.String()), value)
}

// newTrace is a trace that begins here, not sampled.
func (s *loopState) newTrace() (t observability.SpanContext) {
	for t.TraceID == [16]byte{} {
		binary.LittleEndian.PutUint64(t.TraceID[:8], s.random.Uint64())
		binary.LittleEndian.PutUint64(t.TraceID[8:], s.random.Uint64())
	}
	t.SpanID = s.spanID()
	return t
}

func (s *loopState) spanID() (id [8]byte) {
	for id == [8]byte{} {
		binary.LittleEndian.PutUint64(id[:], s.random.Uint64())
	}
	return id
}

// beginTrace is the trace of a connection that carries no requests, and so no contexts.
func (s *loopState) beginTrace(how *Tracing) observability.SpanContext {
	if how == nil {
		return observability.SpanContext{}
	}
	t := s.newTrace()
	if !how.Sample.Chooses(t.TraceID) {
		return observability.SpanContext{}
	}
	t.Sampled = true
	return t
}
