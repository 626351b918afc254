package engine

import (
	"fmt"
	"testing"
)

// TestLongConnectionsAreBalanced opens connections that stay, all at once, and looks how far
// apart the loops end up. The kernel alone leaves 42 and 22 of 64.
func TestLongConnectionsAreBalanced(t *testing.T) {
	for _, c := range []struct{ loops, conns int }{{2, 64}, {4, 64}, {2, 200}, {4, 200}} {
		t.Run(fmt.Sprintf("%d on %d loops", c.conns, c.loops), func(t *testing.T) {
			e := running(t, Options{Loops: c.loops})
			ln, err := e.Listen("tcp", "127.0.0.1:0", func(_ *Loop, c *Conn) { c.OnReadable(func() { c.Close() }) })
			if err != nil {
				t.Fatal(err)
			}
			for range c.conns {
				dialTCP(t, ln)
			}
			eventually(t, "all to be accepted", func() bool { return e.Stats().Total().Conns == c.conns })
			least, most := c.conns, 0
			for _, l := range e.Stats().Loops {
				least, most = min(least, l.Conns), max(most, l.Conns)
			}
			// A loop keeps a connection while it has at most this many more than another;
			// two loops that choose at the same moment may add one each.
			if bound := max(skewAbsolute, most/skewFraction) + 1 + c.loops; most-least > bound {
				t.Errorf("between %d and %d, more than %d apart", least, most, bound)
			} else {
				t.Logf("between %d and %d", least, most)
			}
		})
	}
}
