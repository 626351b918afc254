package engine

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestOriginalDestinationOfADirectConnection: nothing has redirected it, so it was going where it
// came to. Those that were redirected are in tests/capture, with a kernel's rules.
func TestOriginalDestinationOfADirectConnection(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0"} {
		for _, kind := range []Kind{Events, Goroutines} {
			t.Run(address+" "+kind.String(), func(t *testing.T) {
				e := running(t, Options{Kind: kind})
				if !e.KnowsOriginalDestinations() {
					t.Fatal("not known on Linux")
				}
				got := make(chan netip.AddrPort, 1)
				ln, err := e.Bind("tcp", address, func(_ *Loop, c *Conn) {
					to, err := c.OriginalDestination()
					if err != nil {
						t.Error(err)
					}
					c.Close()
					got <- to
				})
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				ln.Start()
				to := netip.MustParseAddrPort(ln.Addr().String())
				if to.Addr().IsUnspecified() {
					to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
				}
				c, err := net.Dial("tcp", to.String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				select {
				case at := <-got:
					if at.Addr().Unmap() != to.Addr() || at.Port() != to.Port() {
						t.Errorf("it was going to %v, not %v", at, to)
					}
				case <-time.After(30 * time.Second):
					t.Fatal("not accepted")
				}
			})
		}
	}
}

// TestPeekLeavesWhatItReads.
func TestPeekLeavesWhatItReads(t *testing.T) {
	for _, kind := range []Kind{Events, Goroutines} {
		t.Run(kind.String(), func(t *testing.T) {
			e := running(t, Options{Kind: kind})
			ln, err := e.Bind("tcp", "127.0.0.1:0", func(l *Loop, c *Conn) {
				var look func()
				look = func() {
					var one [1]byte
					n, err := c.Peek(one[:])
					if err == ErrWouldBlock {
						c.OnReadable(look)
						return
					}
					if n != 1 || one[0] != 'h' {
						t.Errorf("peeked %q, %v", one[:n], err)
					}
					l.Go("echo", func(*Task) {
						defer c.Close()
						b := make([]byte, 16)
						n, err := c.Read(b)
						if err != nil {
							t.Error(err)
						}
						c.Write(b[:n])
					})
				}
				look()
			})
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			ln.Start()
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(30 * time.Second))
			c.Write([]byte("hello"))
			if got, err := io.ReadAll(c); string(got) != "hello" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
