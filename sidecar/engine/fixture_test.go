package engine

import (
	"context"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
)

// running is an engine that runs for the length of a test and is checked for leaks after it.
func running(t testing.TB, o Options) *Engine {
	t.Helper()
	before, open := runtime.NumGoroutine(), openFDs(t)
	if o.Loops == 0 {
		o.Loops = 2
	}
	if o.Kind == Native {
		o.Kind = testKind(t)
	}
	if os.Getenv(besideEnv) != "" {
		o.HandshakeOffload = OffloadAlways
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("engine did not end")
		}
		checkEmpty(t, e, before)
		eventually(t, "descriptors to be closed", func() bool { return openFDs(t) <= open })
	})
	return e
}

// besideEnv makes the tests of TLS compute handshakes beside the loops.
const besideEnv = "LARBOARD_TEST_HANDSHAKES_BESIDE"

// testKind is what the tests of this run are for: `make test-goroutines` sets it.
func testKind(t testing.TB) Kind {
	t.Helper()
	b, err := ParseKind(os.Getenv("LARBOARD_ENGINE"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// openFDs counts the descriptors of the process.
func openFDs(t testing.TB) int {
	t.Helper()
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil { // the runtime's own poller counts too
		l.Close()
	}
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// checkEmpty asserts that nothing is left of an engine that has ended.
func checkEmpty(t testing.TB, e *Engine, goroutines int) {
	t.Helper()
	s := e.Stats().Total()
	if s.Tasks != 0 || s.Coroutines != 0 || s.Conns != 0 || s.Buffers != 0 || s.Offloads != 0 {
		t.Errorf("left behind: %+v", s)
	}
	eventually(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// eventually waits for something that other goroutines or the kernel bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// stepped is an engine that the test turns itself.
func stepped(t testing.TB, o Options) (*Engine, *Loop) {
	t.Helper()
	if o.Kind == Native {
		o.Kind = testKind(t)
	}
	if os.Getenv(besideEnv) != "" {
		o.HandshakeOffload = OffloadAlways
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if s := e.Stats().Total(); s.Tasks+s.Coroutines+s.Conns+s.Buffers != 0 {
			t.Errorf("left behind: %+v", s)
		}
	})
	return e, e.Loops()[0]
}

// on runs f on a task of the loop and waits for it.
func on(t testing.TB, l *Loop, f func(*Task)) {
	t.Helper()
	done := make(chan struct{})
	l.Post(func() {
		l.Go("test", func(task *Task) {
			defer close(done)
			f(task)
		})
	})
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("task did not end")
	}
}

// serve listens and runs handle on a task for each connection.
func serve(t testing.TB, e *Engine, handle func(*Task, *Conn)) *Listener {
	t.Helper()
	ln, err := e.Listen("tcp", "127.0.0.1:0", func(l *Loop, c *Conn) {
		l.Go("serve", func(task *Task) {
			defer c.Close()
			handle(task, c)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// echo writes back what it reads until the end of the stream.
func echo(_ *Task, c *Conn) {
	b := c.Loop().Buffer(32 << 10)
	defer c.Loop().Release(b)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}

func dialTCP(t testing.TB, ln *Listener) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}
