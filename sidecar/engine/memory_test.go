package engine

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// noteBook is a log that a test may read.
type noteBook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (n *noteBook) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.buf.Write(p)
}

func (n *noteBook) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.buf.String()
}

// Buffers are short from three quarters of the limit on, and no longer below five eighths;
// what is at hand is given up first.
func TestBuffersRunShort(t *testing.T) {
	var notes noteBook
	e := running(t, Options{Loops: 1, Log: slog.New(slog.NewTextHandler(&notes, nil))})
	e.LimitBuffers(1 << 20)
	on(t, e.Loops()[0], func(task *Task) {
		l := task.Loop()
		var held [][]byte
		take := func(n int) {
			for range n {
				held = append(held, l.Buffer(64<<10))
			}
		}
		give := func(n int) {
			for range n {
				l.Release(held[len(held)-1])
				held = held[:len(held)-1]
			}
		}
		check := func(when string, used int64, short bool) {
			t.Helper()
			if got, _ := e.BufferBytes(); got != used<<10 || l.Short() != short {
				t.Errorf("%s: %d KiB, short %v", when, got>>10, l.Short())
			}
		}
		take(11)
		check("under the mark", 11*64, false)
		give(4) // kept at hand
		check("some at hand", 11*64, false)
		take(5)
		if got, _ := e.BufferBytes(); got != 12*64<<10 {
			t.Errorf("at the mark: %d KiB", got>>10)
		}
		check("at the mark", 12*64, true)
		if !l.HasRoom(32 << 10) {
			t.Error("no room below the limit")
		}
		take(4)
		if l.HasRoom(8 << 10) {
			t.Error("room at the limit")
		}
		give(5) // dropped, not kept
		check("a little less", 11*64, true)
		give(2)
		check("much less", 9*64, false)
		give(len(held))
		big := l.Buffer(200 << 10)
		l.Release(big)
		l.buffers.drop(l)
		check("nothing held", 0, false)
	})
	if n := strings.Count(notes.String(), "buffers are short"); n != 1 {
		t.Errorf("said %d times: %s", n, notes.String())
	}
}

// A read that finds no room waits without a buffer, for its turn or its deadline.
func TestReadsWaitForRoom(t *testing.T) {
	e := running(t, Options{Loops: 2})
	e.LimitBuffers(64 << 10)
	ln := serve(t, e, echo)
	l, other := e.Loops()[0], e.Loops()[1]
	var all []byte
	on(t, other, func(*Task) { all = other.Buffer(64 << 10) })
	on(t, l, func(task *Task) {
		c, err := l.Dial(ln.Addr(), 10*time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		c.flags |= flagReadable
		c.ReadWithin(30 * time.Millisecond)
		if err := c.AwaitInput(8 << 10); !errors.Is(err, ErrTimeout) {
			t.Errorf("no room, and a deadline: %v", err)
		}
		c.ReadWithin(0)
		other.Post(func() { other.Release(all); other.buffers.drop(other) })
		if err := c.AwaitInput(8 << 10); err != nil || !l.HasRoom(8<<10) {
			t.Errorf("with room: %v", err)
		}
		if l.counts.bufferWaits == 0 {
			t.Error("nothing waited")
		}
	})
}

// With a burst of one, a loop serves what it has accepted before it accepts more.
func TestAcceptBurst(t *testing.T) {
	e, l := stepped(t, Options{Loops: 1})
	e.SetAcceptBurst(1)
	accepted := 0
	ln, err := e.Listen("tcp", "127.0.0.1:0", func(_ *Loop, c *Conn) { accepted++; c.Close() })
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	l.Step(time.Second) // takes the listener
	for want := 1; want <= 3; want++ {
		l.Step(time.Second)
		if accepted != want {
			t.Fatalf("%d accepted in %d turns", accepted, want)
		}
	}
	e.SetAcceptBurst(0)
}
