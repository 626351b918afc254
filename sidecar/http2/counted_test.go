package http2

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/larboard-proxy/larboard/policy"
)

// TestEveryFaultIsCounted: whatever a client is at fault for ends its connection with a
// reason of its own, told once, whether it broke a rule or kept to all of them.
func TestEveryFaultIsCounted(t *testing.T) {
	for _, c := range []struct {
		name  string
		do    func(x *served)
		wants []policy.Reason
	}{
		{"protocol", func(x *served) { x.WriteData(0, false, nil) }, []policy.Reason{policy.HTTP2Protocol}},
		{"compression", func(x *served) {
			x.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0x7f}, EndHeaders: true})
		}, []policy.Reason{policy.HTTP2Compression}},
		{"flow control", func(x *served) { x.WriteWindowUpdate(0, maxWindow) }, []policy.Reason{policy.HTTP2FlowControl}},
		{"rapid reset", func(x *served) {
			for id := uint32(1); id < 2*resetBurst+10; id += 2 {
				x.get(id, "/")
				x.WriteRSTStream(id, http2.ErrCodeCancel)
			}
		}, []policy.Reason{policy.HTTP2RapidReset}},
		{"a PING beyond what is allowed", func(x *served) {
			for range controlBurst + 10 {
				x.WritePing(false, [8]byte{})
			}
		}, []policy.Reason{policy.HTTP2ControlFlood}},
		{"a client that goes", func(x *served) { x.peer.Close() }, nil},
		{"a client that resets", func(x *served) { x.peer.Reset() }, nil},
		{"GOAWAY", func(x *served) { x.WriteGoAway(0, http2.ErrCodeNo, nil) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newServed(t, testOptions(), echo)
			c.do(x)
			x.send(5 * time.Second)
			if !slices.Equal(x.abuse, c.wants) {
				t.Errorf("told of %v, want %v", x.abuse, c.wants)
			}
			if len(c.wants) > 0 && x.what == nil {
				t.Error("nobody is told what the peer has done")
			}
			if x.closed != 1 {
				t.Errorf("closed %d times", x.closed)
			}
		})
	}
}
