package blame

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

var errReset = errors.New("connection reset")

func TestReasons(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want policy.Reason
	}{
		{"endpoint late", Upstream(engine.ErrTimeout, policy.PhaseWait), policy.UpstreamTimeout},
		{"endpoint late in its body", Upstream(engine.ErrTimeout, policy.PhaseBody), policy.UpstreamTimeout},
		{"endpoint gone in its body", Upstream(io.EOF, policy.PhaseBody), policy.UpstreamTruncated},
		{"endpoint closed", Upstream(io.EOF, policy.PhaseWait), policy.UpstreamClosed},
		{"endpoint closed in its head", Upstream(io.ErrUnexpectedEOF, policy.PhaseWait), policy.UpstreamClosed},
		{"endpoint reset", Upstream(errReset, policy.PhaseWait), policy.UpstreamReset},
		{"client late", Downstream(engine.ErrTimeout, policy.PhaseHead), policy.RequestTimeout},
		{"client late in its body", Downstream(engine.ErrTimeout, policy.PhaseBody), policy.BodyAborted},
		{"client gone", Downstream(errReset, policy.PhaseHead), policy.ClientAborted},
		{"tunnel silent", Tunnel(engine.ErrTimeout, policy.UpstreamTimeout), policy.TunnelIdle},
		{"tunnel's endpoint gone", Tunnel(errReset, policy.UpstreamTruncated), policy.UpstreamReset},
		{"tunnel's client gone", Tunnel(errReset, policy.BodyAborted), policy.ClientAborted},
		{"tunnel, another reason", Tunnel(errReset, policy.Draining), policy.Draining},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", c.name, c.got, c.want)
		}
	}
}

// TestInterrupted: what the engine ended is not the endpoint's fault, and not tried again.
func TestInterrupted(t *testing.T) {
	for _, c := range []struct {
		err    error
		reason policy.Reason
		side   policy.Side
		again  bool
	}{
		{engine.ErrDrain, policy.Draining, policy.Internally, false},
		{engine.ErrOverload, policy.Overloaded, policy.Internally, false},
		{engine.ErrPeerReset, policy.ClientAborted, policy.Downstream, false},
		{errReset, policy.UpstreamReset, policy.Upstream, true},
	} {
		e := Interrupted(&policy.Error{Reason: policy.UpstreamReset, Side: policy.Upstream, Retryable: true, Err: fmt.Errorf("read: %w", c.err)})
		if e.Reason != c.reason || e.Side != c.side || e.Retryable != c.again {
			t.Errorf("%v: %s, %s, retryable %v", c.err, e.Reason, e.Side, e.Retryable)
		}
	}
}

func TestOwn(t *testing.T) {
	own := &policy.Error{Reason: policy.NotAllowed}
	if got := Own(fmt.Errorf("park: %w", own)); got != own {
		t.Errorf("got %v", got)
	}
	if got := Own(errReset); got != nil {
		t.Errorf("got %v", got)
	}
}
