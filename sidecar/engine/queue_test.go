package engine_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// callback echoes without a task: a connection as a state machine.
type callback struct {
	t       engine.Transport
	read    func()
	drained func()
	waits   int // for the queue to drain
	ended   error
}

func newCallback(t engine.Transport) *callback {
	c := &callback{t: t}
	c.read, c.drained = c.readable, c.empty
	t.Conn().SetUser(c)
	return c
}

func (c *callback) empty() {
	if c.t.Queued() != 0 {
		panic("drained with something queued")
	}
	c.readable()
}

func (c *callback) readable() {
	l := c.t.Conn().Loop()
	b := l.Buffer(8 << 10)
	defer l.Release(b)
	for c.ended == nil {
		if c.t.Queued() > 20<<10 {
			c.waits++
			c.t.OnDrained(c.drained)
			return
		}
		n, err := c.t.TryRead(b)
		if err == engine.ErrWouldBlock {
			c.t.Conn().OnReadable(c.read)
			return
		}
		if err == nil {
			err = c.t.Queue(b[:n])
		}
		c.ended = err
	}
	c.t.Close()
}

// Cut implements engine.Cutter.
func (c *callback) Cut(err error) { c.ended = err }

// TestQueueWithoutTask echoes more than the buffers between both sides hold to a client that
// is slow to read.
func TestQueueWithoutTask(t *testing.T) {
	const size = 400_000
	for seed := range uint64(8) {
		for _, secure := range []bool{false, true} {
			serverConfig, clientConfig := engine.TLSPair(t)
			w, e := simulated(t, sim.Options{Seed: seed, MinDelay: time.Microsecond, MaxDelay: 3 * time.Millisecond,
				Segment: 1 + int(seed*seed*37)%3000, SendBuffer: 16 << 10, ReceiveBuffer: 16 << 10, Phantoms: true})
			var served *callback
			_, err := e.Listen("tcp", address, func(l *engine.Loop, c *engine.Conn) {
				l.Go("start", func(*engine.Task) {
					served = newCallback(c)
					if secure {
						x := engine.TLSServer(c, serverConfig)
						if err := x.Handshake(); err != nil {
							t.Error(err)
						}
						served.t = x
					}
					served.readable()
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			other, err := w.Host("10.0.0.2").Engine(engine.Options{Loops: 1, Kind: engine.TestKind(t)})
			if err != nil {
				t.Fatal(err)
			}
			ended := false
			l := other.Loops()[0]
			l.Post(func() {
				l.Go("client", func(task *engine.Task) {
					defer func() { ended = true }()
					c, err := l.Dial(addrPort, time.Second)
					if err != nil {
						t.Error(err)
						return
					}
					c.SetDeadline(l.Now().Add(time.Minute))
					var x engine.Transport = c
					if secure {
						x = engine.TLSClient(c, clientConfig)
					}
					defer x.Close()
					slowEcho(t, task, x, size)
				})
			})
			within(t, w, time.Minute, "the echo", func() bool { return ended && served.ended != nil })
			if served.waits == 0 || served.ended != io.EOF {
				t.Errorf("seed %d: waited %d times for the queue, ended with %v", seed, served.waits, served.ended)
			}
		}
	}
}

// slowEcho sends size bytes by a sibling, and reads what comes back after a while.
func slowEcho(t *testing.T, task *engine.Task, x engine.Transport, size int) {
	out := pattern(size)
	if h, ok := x.(*engine.TLS); ok {
		if err := h.Handshake(); err != nil {
			t.Error(err)
			return
		}
	}
	task.Loop().Go("send", func(*engine.Task) {
		if _, err := x.Write(out); err != nil {
			t.Error(err)
		}
	})
	task.Sleep(200 * time.Millisecond)
	got := make([]byte, size)
	for n := 0; n < size; {
		m, err := x.Read(got[n:])
		if err != nil {
			t.Errorf("after %d bytes: %v", n, err)
			return
		}
		n += m
	}
	if !bytes.Equal(got, out) {
		t.Error("not what was sent")
	}
}

// TestQueueToOneWhoNeverReads: the queue grows and says so, and a reset shows.
func TestQueueToOneWhoNeverReads(t *testing.T) {
	w, e := simulated(t, sim.Options{SendBuffer: 4 << 10, ReceiveBuffer: 4 << 10})
	var conn *engine.Conn
	drained := 0
	if _, err := e.Listen("tcp", address, func(l *engine.Loop, c *engine.Conn) { conn = c }); err != nil {
		t.Fatal(err)
	}
	p := w.Host("10.0.0.2").Dial(addrPort)
	p.Stall()
	within(t, w, time.Second, "accept", func() bool { return conn != nil })
	l := conn.Loop()
	l.Post(func() {
		for range 4 {
			if err := conn.Queue(pattern(100_000)); err != nil {
				t.Error(err)
			}
		}
		conn.OnDrained(func() { drained++ })
	})
	w.RunFor(time.Second)
	if conn.Queued() < 380_000 || drained != 0 {
		t.Errorf("%d bytes queued, drained %d times", conn.Queued(), drained)
	}
	p.Reset()
	within(t, w, time.Second, "the queue to be dropped", func() bool { return drained == 1 })
	l.Post(func() {
		if err := conn.Queue(pattern(10)); err == nil || errors.Is(err, engine.ErrWouldBlock) {
			t.Errorf("queued on a broken connection: %v", err)
		}
		conn.OnDrained(func() { t.Error("drained without a queue") })
		conn.Close()
		if err := conn.Queue(pattern(10)); err != engine.ErrClosed {
			t.Errorf("queued on a closed connection: %v", err)
		}
	})
	w.RunFor(time.Second)
}

// TestEndOfTurn: after the tasks of the turn, before the next; once; what is handed in
// meanwhile comes in the next turn, without a wait.
func TestEndOfTurn(t *testing.T) {
	w, e := simulated(t, sim.Options{})
	l := e.Loops()[0]
	var order []string
	note := func(s string) func() { return func() { order = append(order, s) } }
	l.Post(func() {
		l.EndOfTurn(note("end"))
		for range 2 {
			l.Go("task", func(task *engine.Task) {
				note("task")()
				l.EndOfTurn(func() {
					note("late")()
					l.EndOfTurn(note("next"))
				})
				task.Yield()
				note("again")()
			})
		}
	})
	w.RunFor(time.Millisecond)
	want := []string{"task", "task", "end", "late", "late", "again", "again", "next", "next"}
	if !slices.Equal(order, want) {
		t.Errorf("order %v", order)
	}
}

// TestCut: the owner of a connection that waits without a task hears of the engine's end, and
// of its own panic.
func TestCut(t *testing.T) {
	w, e := simulated(t, sim.Options{})
	var served []*callback
	if _, err := e.Listen("tcp", address, func(l *engine.Loop, c *engine.Conn) {
		x := newCallback(c)
		served = append(served, x)
		if len(served) == 1 {
			x.read = func() { panic("test") }
		}
		c.OnReadable(x.read)
	}); err != nil {
		t.Fatal(err)
	}
	var peers []*sim.Peer
	for range 2 {
		peers = append(peers, w.Host("10.0.0.2").Dial(addrPort))
		w.RunFor(time.Millisecond)
	}
	peers[0].Send("x")
	within(t, w, time.Second, "the panic", func() bool { return served[0].ended == engine.ErrClosed })
	if served[1].ended != nil {
		t.Errorf("the other one ended too: %v", served[1].ended)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if served[1].ended != engine.ErrDrain {
		t.Errorf("at the end: %v", served[1].ended)
	}
}
