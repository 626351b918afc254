package compile

import (
	"github.com/larboard-proxy/larboard/observability/tracecontext"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
)

// tracing is how a listener takes part in traces. Unless something else is said, the
// contexts of those count who have proven who they are, and those of our own workload:
// strangers could otherwise have all that they send recorded.
func tracing(t *config.Tracing, l *config.Listener) *proxy.Tracing {
	if t == nil {
		return nil
	}
	p := &proxy.Tracing{Sample: tracecontext.NewRatio(float64(t.Sample))}
	for _, f := range t.Propagate {
		p.Propagate |= traceFormats[f]
	}
	mesh := l.TLS != nil && l.TLS.SPIFFE != nil
	p.Trust = mesh || l.Direction == config.Outbound || t.Trust == config.TrustAll
	if l.TrustTraces != nil {
		p.Trust = *l.TrustTraces
	}
	return p
}

var traceFormats = map[config.TraceFormat]tracecontext.Formats{
	config.TraceW3C: tracecontext.W3C, config.TraceB3: tracecontext.B3, config.TraceB3Multi: tracecontext.B3Multi,
}
