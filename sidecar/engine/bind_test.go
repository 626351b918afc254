package engine

import (
	"net"
	"testing"
	"time"
)

// A bound listener holds its address and lets nobody in; what connected meanwhile is
// served once it starts.
func TestBoundListenerServesFromItsStart(t *testing.T) {
	e := running(t, Options{})
	accepted := make(chan struct{}, 1)
	ln, err := e.Bind("tcp", "127.0.0.1:0", func(_ *Loop, c *Conn) { c.Close(); accepted <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if again, err := e.Bind("tcp", ln.Addr().String(), nil); err == nil {
		again.Close()
		t.Error("the address was free for another")
	}
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, l := range e.Loops() {
		done := make(chan struct{})
		l.Post(func() { close(done) })
		<-done
	}
	select {
	case <-accepted:
		t.Fatal("accepted before the start")
	default:
	}
	ln.Start()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("not closed by the accept function")
	}
	<-accepted
}

func TestClosingABoundListenerFreesItsAddress(t *testing.T) {
	e := running(t, Options{})
	accept := func(_ *Loop, c *Conn) { c.Close() }
	ln, err := e.Bind("tcp", "127.0.0.1:0", accept)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	ln.Close()
	ln.Start() // too late: nothing
	again, err := e.Bind("tcp", ln.Addr().String(), accept)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
