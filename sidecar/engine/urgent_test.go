package engine

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// An urgent byte (RFC 9293 section 3.8.5) belongs to no stream that is passed on, and stops
// a read or a splice before it. What comes behind it arrives all the same, with nothing after
// it to wake anybody.
func TestWhatComesBehindUrgentDataArrives(t *testing.T) {
	for _, spliced := range []bool{false, true} {
		for _, open := range []bool{false, true} {
			t.Run(fmt.Sprintf("spliced=%v,open=%v", spliced, open), func(t *testing.T) { passUrgent(t, spliced, open) })
		}
	}
}

func passUrgent(t *testing.T, spliced, open bool) {
	e := running(t, Options{Loops: 1})
	before, behind := bytes.Repeat([]byte("before"), 1000), bytes.Repeat([]byte("behind"), 1000)
	got := make(chan []byte, 1)
	target := listenTCP(t, func(c *net.TCPConn) {
		b := make([]byte, len(before)+len(behind))
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, _ := io.ReadFull(c, b)
		got <- b[:n]
	})
	ln := relay(t, e, target, spliced)
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	release := blockLoop(t, e.Loops()[0]) // so that all of it is there when the loop looks
	if _, err := c.Write(before); err != nil {
		t.Fatal(err)
	}
	sendUrgent(t, c.(*net.TCPConn))
	if _, err := c.Write(behind); err != nil {
		t.Fatal(err)
	}
	if !open {
		c.(*net.TCPConn).CloseWrite()
	}
	release()
	if b := <-got; !bytes.Equal(b, append(before, behind...)) {
		t.Errorf("%d bytes arrived of %d", len(b), len(before)+len(behind))
	}
}

// blockLoop stops the loop until the function that it returns is called.
func blockLoop(t *testing.T, l *Loop) (release func()) {
	t.Helper()
	began, end := make(chan struct{}), make(chan struct{})
	l.Post(func() { close(began); <-end })
	<-began
	return func() { close(end) }
}

func sendUrgent(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = syscall.Sendto(int(fd), []byte("!"), syscall.MSG_OOB, nil) })
	if err != nil {
		t.Fatal(err)
	}
}
