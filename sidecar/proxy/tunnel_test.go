package proxy

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// broken panics at the first byte that it is to pass on.
type broken struct{ *bare }

func (broken) ReadBody() ([]byte, bool, error) { panic("planted") }

// A direction that panics ends the other one, which would wait for its idle time.
func TestAPanicInATunnelEndsBothDirections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	to := netip.MustParseAddrPort(ln.Addr().String())
	r := newRig(t, TCP, nil, ln.Addr().String())
	state := r.proxy.loops[0]
	ended := make(chan error, 1)
	state.loop.Post(func() {
		state.loop.Go("tunnel", func(task *engine.Task) {
			dial := func() (*engine.Conn, *bare) {
				c, err := state.loop.Dial(to, time.Second)
				if err != nil {
					t.Error(err)
					ended <- err
				}
				return c, &bare{raw: c, transport: c, loop: state.loop}
			}
			a, down := dial()
			b, up := dial()
			if a == nil || b == nil {
				return
			}
			n := tunnel{down: broken{down}, up: up, idle: time.Hour, loop: state}
			err := n.run(task)
			down.release()
			up.release()
			ended <- err
		})
	})
	select {
	case err := <-ended:
		var e *policy.Error
		if !errors.As(err, &e) || e.Reason != policy.Internal {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the other direction goes on")
	}
}
