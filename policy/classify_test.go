package policy

import (
	"fmt"
	"testing"
)

func TestJudge(t *testing.T) {
	const server, gateway, local, timeout = OnServerError, OnGatewayError, OnLocalError, OnTimeout
	up := func(r Reason) Outcome { return Outcome{Reason: r, Side: Upstream, Connected: true} }
	said := func(status int) Outcome { return Outcome{Status: status, Connected: true} }
	call := func(s GRPCStatus) Outcome { return Outcome{Status: 200, GRPC: s, Connected: true} }
	kept, hurried, short := up(UpstreamReset), up(RequestDeadline), call(GRPCDeadlineExceeded)
	kept.Kept, hurried.Hurried, short.Hurried = true, true, true
	for _, c := range []struct {
		name    string
		outcome Outcome
		kinds   Classifier // that make it a failure
		other   Verdict    // under all others
	}{
		{"200", said(200), 0, Success},
		{"404", said(404), 0, Success},
		{"429", said(429), 0, Success},
		{"500", said(500), server, Success},
		{"501", said(501), server, Success},
		{"502", said(502), server | gateway, Success},
		{"503", said(503), server | gateway, Success},
		{"504", said(504), server | gateway, Success},
		{"505", said(505), server, Success},
		{"101", said(101), 0, Success},
		{"a TCP connection", said(0), 0, Success},
		{"OK", call(GRPCOK), 0, Success},
		{"NOT_FOUND", call(GRPCNotFound), 0, Success},
		{"UNIMPLEMENTED", call(GRPCUnimplemented), 0, Success},
		{"RESOURCE_EXHAUSTED", call(GRPCResourceExhausted), 0, Success},
		{"CANCELLED", call(GRPCCancelled), 0, Success},
		{"INTERNAL", call(GRPCInternal), server, Success},
		{"UNKNOWN", call(GRPCUnknown), server, Success},
		{"DATA_LOSS", call(GRPCDataLoss), server, Success},
		{"UNAVAILABLE", call(GRPCUnavailable), server | gateway, Success},
		{"DEADLINE_EXCEEDED", call(GRPCDeadlineExceeded), server | gateway, Success},
		{"DEADLINE_EXCEEDED of the client's", short, 0, Neither},
		{"a call answered with 503", Outcome{Status: 503, GRPC: GRPCUnavailable, Connected: true}, server | gateway, Success},
		{"refused", up(ConnectFailed), local, Neither},
		{"connect timeout", up(ConnectTimeout), local | timeout, Neither},
		{"tls", up(UpstreamTLS), local, Neither},
		{"somebody else", up(UpstreamTLSIdentity), local, Neither},
		{"reset", up(UpstreamReset), local, Neither},
		{"a kept connection reset", kept, 0, Neither},
		{"closed", up(UpstreamClosed), local, Neither},
		{"refused stream", up(UpstreamRefused), local, Neither},
		{"garbage", up(UpstreamProtocol), local, Neither},
		{"truncated", up(UpstreamTruncated), local, Neither},
		{"silent", up(UpstreamTimeout), timeout, Neither},
		{"silent for a try", up(TryTimeout), timeout, Neither},
		{"deadline", up(RequestDeadline), timeout, Neither},
		{"deadline of the client's", hurried, 0, Neither},
		{"our limit", up(EndpointLimit), 0, Neither},
		{"silent tunnel", up(TunnelIdle), 0, Neither},
		{"client gone", Outcome{Reason: ClientAborted, Side: Downstream, Connected: true}, 0, Neither},
		{"client's body", Outcome{Reason: BodyAborted, Side: Downstream, Connected: true}, 0, Neither},
		{"draining", Outcome{Reason: Draining, Connected: true}, 0, Neither},
		{"no identity of ours", Outcome{Reason: NoIdentity}, 0, Neither},
		{"panic", Outcome{Reason: Internal, Connected: true}, 0, Neither},
	} {
		for all := range AllFailures + 1 {
			want := c.other
			if all&c.kinds != 0 {
				want = Failure
			}
			if got := all.Judge(&c.outcome); got != want {
				t.Errorf("%s with %s: %v, want %v", c.name, fmt.Sprintf("%04b", all), got, want)
			}
		}
	}
}
