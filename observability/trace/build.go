package trace

import (
	"context"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
)

// builder makes the spans of one exchange after the other: a server span for what the
// client has asked, and beneath it a client span for each attempt. A connection that
// carries no requests has one span, with its attempts to connect as events.
type builder struct {
	ids    *givenIDs
	tracer trace.Tracer
	all    []attribute.KeyValue // reused
	text   []byte               // reused
}

// build makes the spans of x; each goes to the span processor as it ends.
func (b *builder) build(x *item) {
	r := &x.record
	ctx := context.Background()
	if r.Trace.Parent != [8]byte{} {
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: r.Trace.TraceID, SpanID: r.Trace.Parent, TraceFlags: trace.FlagsSampled, Remote: true,
		}))
	}
	b.ids.trace, b.ids.span = r.Trace.TraceID, r.Trace.SpanID
	ctx, span := b.tracer.Start(ctx, spanName(r), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(r.Start))
	span.SetAttributes(b.server(r)...)
	if failed(r) {
		setFailed(span, r.Reason)
	}
	for i := range r.Tries {
		if isTunnel(r) {
			b.event(span, r, i)
		} else {
			b.attempt(ctx, r, i)
		}
	}
	span.End(trace.WithTimestamp(r.Start.Add(r.Total)))
}

// attempt makes the span of one attempt.
func (b *builder) attempt(ctx context.Context, r *observability.Record, i int) {
	t := &r.Tries[i]
	b.ids.span = t.Span
	start := r.Start.Add(t.Start)
	_, span := b.tracer.Start(ctx, attemptName(r), trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(start))
	span.SetAttributes(b.client(r, i)...)
	if t.Reason != policy.None && t.Side != policy.Downstream || t.Status >= 400 || t.GRPC > policy.GRPCOK {
		setFailed(span, t.Reason)
	}
	if t.Connect > 0 && !t.Reused && (t.Reason == policy.None || t.Phase > policy.PhaseConnect) {
		span.AddEvent("connected", trace.WithTimestamp(start.Add(t.Connect)))
	}
	if t.Head > 0 {
		span.AddEvent("response head", trace.WithTimestamp(start.Add(t.Head)))
	}
	span.End(trace.WithTimestamp(start.Add(t.Total)))
}

// event is one attempt to connect a tunnel, as an event of its span.
func (b *builder) event(span trace.Span, r *observability.Record, i int) {
	t := &r.Tries[i]
	name := "connected"
	b.all = append(b.all[:0], attribute.Int("larboard.try", i+1), attribute.String("larboard.endpoint", t.Endpoint))
	b.add("larboard.endpoint_id", t.EndpointID)
	if t.Reason != policy.None && t.Phase <= policy.PhaseConnect {
		name = "connect failed"
		b.add("larboard.reason", t.Reason.String())
	}
	span.AddEvent(name, trace.WithTimestamp(r.Start.Add(t.Start+t.Connect)), trace.WithAttributes(b.all...))
}

func setFailed(span trace.Span, r policy.Reason) {
	description := ""
	if r != policy.None {
		description = r.Info().Sentence
	}
	span.SetStatus(codes.Error, description)
}

// failed reports whether the exchange speaks against the server, as the conventions for
// server spans want it.
func failed(r *observability.Record) bool {
	return r.Status >= 500 || r.GRPC.Failed() || r.Reason != policy.None && r.Side != policy.Downstream
}

// spanName is the method and the route, or the method of the call.
func spanName(r *observability.Record) string {
	switch {
	case isTunnel(r):
		return "tcp " + r.Listener
	case isCall(r):
		return rpcMethod(r.Path)
	case r.Route == "" || r.Route == "default":
		return methodName(r.Method)
	}
	return methodName(r.Method) + " " + r.Route
}

func attemptName(r *observability.Record) string {
	if isCall(r) {
		return rpcMethod(r.Path)
	}
	return methodName(r.Method)
}

// methodName is what a span may be named after: clients could make up any number.
func methodName(method []byte) string {
	if known(method) {
		return string(method)
	}
	return "HTTP"
}

// known reports whether the conventions know the method.
func known(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY":
		return true
	}
	return false
}

// rpcMethod is the method of a call with its service, as in package.Service/Method.
func rpcMethod(path []byte) string {
	if len(path) > 0 && path[0] == '/' {
		path = path[1:]
	}
	for i, c := range path {
		if c == '?' {
			path = path[:i]
			break
		}
	}
	return valid(string(path))
}

// errorType is the reason, where there is one, or the status.
func errorType(reason policy.Reason, status int, call policy.GRPCStatus) string {
	switch {
	case reason != policy.None:
		return reason.String()
	case call > policy.GRPCOK:
		return call.String()
	}
	return strconv.Itoa(status)
}
