//go:build !race && !larboard_debug

package proxy

import (
	"testing"

	"github.com/larboard-proxy/larboard/observability/tracecontext"
	"github.com/larboard-proxy/larboard/sidecar/message"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Exchanges of which one in a hundred is sampled allocate nothing, whatever their
// callers say; nor does what a sampled one costs here.
func TestTracesAllocateNothing(t *testing.T) {
	const head = "GET /a?b=c HTTP/1.1\r\nHost: api.example\r\nUser-Agent: test\r\n"
	for _, c := range []struct {
		name, request string
		share         float64
		formats       tracecontext.Formats
	}{
		{"nothing said", head + "\r\n", 0.01, tracecontext.W3C},
		{"not sampled", head + "Traceparent: 00-" + aTrace + "-" + aSpan + "-00\r\nTracestate: a=1\r\n\r\n", 0.01, tracecontext.W3C},
		{"not sampled, another format", head + "B3: " + aTrace + "-" + aSpan + "-0\r\n\r\n", 0.01, tracecontext.W3C | tracecontext.B3Multi},
		{"sampled", head + "Traceparent: 00-" + aTrace + "-" + aSpan + "-01\r\nTracestate: a=1\r\n\r\n", 1, tracecontext.W3C | tracecontext.B3},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, HTTP, func(l *ListenerConfig, _ *upstream.Settings) {
				l.Tracing = &Tracing{Sample: tracecontext.NewRatio(c.share), Trust: true, Propagate: c.formats}
			}, cannedOrigin(t, []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
			r.counted()
			r.allocatesNothing(t, c.request)
		})
	}
}

// TestTracedStreamsAllocateNothing is the same for HTTP/2 on both sides.
func TestTracedStreamsAllocateNothing(t *testing.T) {
	endpoint := countingRig(t, upstream.OnlyHTTP1, cannedOrigin(t, []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
	r := newRig(t, HTTP, withHTTP2(upstream.OnlyHTTP2, func(l *ListenerConfig, _ *upstream.Settings) {
		l.Tracing = &Tracing{Sample: tracecontext.NewRatio(0.01), Trust: true, Propagate: tracecontext.W3C}
	}), endpoint.addr)
	r.counted()
	s := newFrameClient(t, r.addr)
	costsNothing(t, 200, 1000, s.exchange)
}

// BenchmarkJoinTrace is what a request costs that is not recorded, beside one for which
// traces are not taken part in, and one that is.
func BenchmarkJoinTrace(b *testing.B) {
	for _, c := range []struct {
		name   string
		how    *Tracing
		parent string
	}{
		{"off", nil, ""},
		{"nothing said", never(tracecontext.W3C), ""},
		{"not sampled", never(tracecontext.W3C), "00-" + aTrace + "-" + aSpan + "-00"},
		{"sampled", every(tracecontext.W3C), "00-" + aTrace + "-" + aSpan + "-01"},
	} {
		b.Run(c.name, func(b *testing.B) {
			x := &Exchange{loop: &loopState{random: newRandom()}, conf: &ListenerConfig{Tracing: c.how}}
			head := message.Head{}
			head.SetRequest("GET", "/", "api")
			for _, id := range []message.NameID{message.NameUserAgent, message.NameAccept, message.NameXRequestID, message.NameXForwardedFor} {
				head.AddString(id, "", "something of the usual length")
			}
			if c.parent != "" {
				head.AddString(message.NameTraceparent, "", c.parent)
			}
			b.ReportAllocs()
			for b.Loop() {
				head.CopyTo(&x.Req)
				x.retold = false
				x.joinTrace()
				x.passTrace()
				x.attemptSpan()
			}
		})
	}
}
