package engine

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestDialledKnowsItsOwn: both ends are known from the beginning of a connect to the close, also of
// those that fail, and only where that is wanted.
func TestDialledKnowsItsOwn(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	e := running(t, Options{Loops: 1})
	l := e.Loops()[0]
	step := func(f func()) {
		t.Helper()
		done := make(chan struct{})
		l.Post(func() { l.Go("dial", func(*Task) { defer close(done); f() }) })
		<-done
	}
	to := netip.MustParseAddrPort(ln.Addr().String())
	step(func() {
		c, err := l.Dial(to, 30*time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		if e.Dialled(c.Local(), to) {
			t.Error("noted, and nobody wants it")
		}
		c.Close()
	})
	e.NoteDialled(true)
	step(func() {
		c, err := l.Dial(to, 30*time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		at := c.Local()
		if elsewhere := netip.AddrPortFrom(to.Addr(), to.Port()^1); !e.Dialled(at, to) || e.Dialled(at, elsewhere) || e.Dialled(to, at) {
			t.Errorf("%v to %v: %v, elsewhere %v, backwards %v", at, to, e.Dialled(at, to), e.Dialled(at, elsewhere), e.Dialled(to, at))
		}
		c.Close()
		if e.Dialled(at, to) {
			t.Error("still there after its close")
		}
	})
	ln.Close()
	step(func() {
		if c, err := l.Dial(to, 30*time.Second); err == nil {
			c.Close()
			t.Error("somebody answers")
		}
	})
	e.dialled.mu.Lock()
	defer e.dialled.mu.Unlock()
	if len(e.dialled.ends)+len(e.dialled.of) != 0 {
		t.Errorf("left behind: %v", e.dialled.ends)
	}
}
