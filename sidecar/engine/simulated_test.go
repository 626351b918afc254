package engine_test

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// Tests on the simulated network: what must be exact, and what real sockets bring about only
// by luck.

var errTest = errors.New("test")

const (
	tick    = time.Duration(1 << 20) // of the timer wheel
	address = "10.0.0.1:80"
)

var addrPort = netip.MustParseAddrPort(address)

// simulated is a world with one engine of two loops, checked for leaks at the end.
func simulated(t *testing.T, o sim.Options) (*sim.World, *engine.Engine) {
	t.Helper()
	w := sim.New(o)
	e, err := w.Host("10.0.0.1").Engine(engine.Options{Loops: 2, Kind: engine.TestKind(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w, e
}

// listen serves each connection on a task.
func listen(t *testing.T, e *engine.Engine, f func(*engine.Task, *engine.Conn)) {
	t.Helper()
	_, err := e.Listen("tcp", address, func(l *engine.Loop, c *engine.Conn) {
		l.Go("serve", func(task *engine.Task) {
			defer c.Close()
			f(task, c)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func echoTask(_ *engine.Task, c *engine.Conn) {
	b := c.Loop().Buffer(8 << 10)
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

// within runs until done, and fails the test if that takes more than most.
func within(t *testing.T, w *sim.World, most time.Duration, what string, done func() bool) {
	t.Helper()
	if !w.Run(most, done) {
		t.Errorf("%s: not within %v", what, most)
	}
}

// exactly asserts that d has passed since began, to the tick of the wheel.
func exactly(t *testing.T, w *sim.World, what string, began time.Time, d time.Duration) {
	t.Helper()
	if got := w.Now().Sub(began); got < d || got > d+tick {
		t.Errorf("%s after %v, want %v", what, got, d)
	}
}

func TestDataAndFINInOneEventSimulated(t *testing.T) {
	for seed := range uint64(20) {
		w, e := simulated(t, sim.Options{Seed: seed, Segment: 16, Phantoms: true})
		var got []byte
		var ended error
		listen(t, e, func(task *engine.Task, c *engine.Conn) {
			b := make([]byte, 64)
			for {
				n, err := c.Read(b)
				got = append(got, b[:n]...)
				if err != nil {
					ended = err
					return
				}
				task.Sleep(5 * time.Millisecond) // the rest arrives together
			}
		})
		p := w.Host("10.0.0.2").Dial(addrPort)
		p.Send("first")
		w.RunFor(time.Millisecond)
		p.Send(" and last words")
		p.Close()
		within(t, w, time.Second, "the end of the stream", func() bool { return ended != nil })
		if string(got) != "first and last words" || ended != io.EOF {
			t.Errorf("seed %d: %q, %v", seed, got, ended)
		}
	}
}

func TestDeadlinesAreExact(t *testing.T) {
	w, e := simulated(t, sim.Options{})
	var errs []error
	note := func(what string, c *engine.Conn, began time.Time, d time.Duration, err error) {
		exactly(t, w, what, began, d)
		errs = append(errs, err)
	}
	finished := false
	listen(t, e, func(_ *engine.Task, c *engine.Conn) {
		b := make([]byte, 1)
		for _, d := range []time.Duration{3 * time.Millisecond, time.Second, 2 * time.Hour} {
			began := w.Now()
			c.SetReadDeadline(began.Add(d))
			_, err := c.Read(b)
			note("read", c, began, d, err)
			began = w.Now()
			c.SetWriteDeadline(began.Add(d))
			_, err = c.Write(make([]byte, 1<<20)) // the peer does not read
			note("write", c, began, d, err)
		}
		// Moved later, then sooner.
		began := w.Now()
		c.SetReadDeadline(began.Add(time.Minute))
		c.SetReadDeadline(began.Add(time.Hour))
		c.SetReadDeadline(began.Add(time.Second))
		_, err := c.Read(b)
		note("moved read", c, began, time.Second, err)
		finished = true
	})
	p := w.Host("10.0.0.2").Dial(addrPort)
	p.Stall()
	within(t, w, 5*time.Hour, "the deadlines", func() bool { return finished })
	for i, err := range errs {
		if err != engine.ErrTimeout {
			t.Errorf("deadline %d: %v", i, err)
		}
	}
	p.Reset()
}

func TestIdleDeadlineIsExactAndDataWins(t *testing.T) {
	w, e := simulated(t, sim.Options{})
	began := w.Now()
	expired, readable := 0, 0
	_, err := e.Listen("tcp", address, func(l *engine.Loop, c *engine.Conn) {
		c.SetReadDeadline(l.Now().Add(10 * time.Second))
		c.OnReadable(func() {
			if c.IdleExpired() {
				expired++
			} else {
				readable++
			}
			exactly(t, w, "idle", began, 10*time.Second)
			c.Close()
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	silent, late := w.Host("10.0.0.2").Dial(addrPort), w.Host("10.0.0.2").Dial(addrPort)
	// The deadline of the wheel is the first tick after 10 s; this comes with it.
	due := (w.Now().Add(10*time.Second).UnixNano() - w.Now().UnixNano())
	w.After(time.Duration(due), func() { late.Send("x") })
	within(t, w, time.Minute, "both", func() bool { return expired+readable == 2 })
	if expired != 1 || readable != 1 {
		t.Errorf("%d expired, %d readable", expired, readable)
	}
	silent.Close()
	late.Close()
}

func TestCloseWakesBothDirectionsSimulated(t *testing.T) {
	w, e := simulated(t, sim.Options{})
	var errs []error
	listen(t, e, func(task *engine.Task, c *engine.Conn) {
		l := c.Loop()
		l.Go("reader", func(*engine.Task) { _, err := c.Read(make([]byte, 1)); errs = append(errs, err) })
		l.Go("writer", func(*engine.Task) { _, err := c.Write(make([]byte, 1<<20)); errs = append(errs, err) })
		task.Sleep(time.Second)
		if len(errs) != 0 {
			t.Errorf("not parked: %v", errs)
		}
		c.Close()
	})
	p := w.Host("10.0.0.2").Dial(addrPort)
	p.Stall()
	within(t, w, time.Minute, "both directions", func() bool { return len(errs) == 2 })
	for _, err := range errs {
		if err != engine.ErrClosed {
			t.Errorf("woken with %v", err)
		}
	}
	p.Reset()
}

// TestAcceptLosesNothingWhenDescriptorsRunOut: connections that find no descriptor wait, the
// loop does not spin meanwhile, and all are served in the end.
func TestAcceptLosesNothingWhenDescriptorsRunOut(t *testing.T) {
	w, e := simulated(t, sim.Options{Seed: 1, MaxDelay: time.Millisecond})
	listen(t, e, echoTask)
	w.RunFor(time.Millisecond)
	h := w.Host("10.0.0.1")
	h.SetLimit(10)
	var peers []*sim.Peer
	for range 60 {
		p := w.Host("10.0.0.2").Dial(addrPort)
		p.Send("hello")
		peers = append(peers, p)
	}
	turns := e.Stats().Total().Turns
	w.RunFor(2 * time.Second)
	s := e.Stats().Total()
	if s.Accepted != 5 || s.AcceptBackoffs == 0 {
		t.Errorf("%+v", s)
	}
	// Two loops, a retry every 25 to 75 ms.
	if most := uint64(2 * 2000 / 25); s.AcceptBackoffs > most || s.Turns-turns > 20*most {
		t.Errorf("%d pauses, %d turns: it spins", s.AcceptBackoffs, s.Turns-turns)
	}
	h.SetLimit(1 << 20)
	within(t, w, time.Second, "all echoes", func() bool {
		for _, p := range peers {
			if p.Got() != "hello" {
				return false
			}
		}
		return true
	})
	for _, p := range peers {
		p.Close()
	}
	w.RunFor(time.Second)
}

// TestFairnessInTurns: beside a transfer that could go on for ever, each small request is
// answered within a few turns of its loop. No clock is involved.
func TestFairnessInTurns(t *testing.T) {
	const bulk = 128 << 20
	w, e := simulated(t, sim.Options{SendBuffer: 8 << 20, ReceiveBuffer: 8 << 20})
	l := e.Loops()[0]
	moved, resumed := 0, 0
	l.Post(func() {
		var source *engine.Conn
		e.Listen("tcp", "10.0.0.1:81", func(on *engine.Loop, c *engine.Conn) {
			on.Go("sink", func(*engine.Task) {
				defer c.Close()
				b := make([]byte, 256<<10)
				for {
					if _, err := c.Read(b); err != nil {
						return
					}
				}
			})
		})
		l.Go("bulk", func(task *engine.Task) {
			c, err := l.Dial(netip.MustParseAddrPort("10.0.0.1:81"), time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			source = c
			b := make([]byte, 16<<10)
			for moved < bulk {
				n, err := source.Write(b)
				if err != nil {
					t.Error(err)
					return
				}
				moved += n
			}
			resumed = 1
		})
	})
	listen(t, e, echoTask)
	var peers []*sim.Peer
	for range 100 {
		peers = append(peers, w.Host("10.0.0.2").Dial(addrPort))
	}
	w.Run(time.Second, func() bool { return moved > bulk/16 })
	requests := 0
	for resumed == 0 && requests < 20 {
		requests++
		before := e.Stats().Loops[0].Turns
		start := moved
		for _, p := range peers {
			p.Take()
			p.Send("ping")
		}
		within(t, w, time.Second, "answers", func() bool {
			for _, p := range peers {
				if p.Got() != "ping" {
					return false
				}
			}
			return true
		})
		if n := e.Stats().Loops[0].Turns - before; n > 16 {
			t.Errorf("answers took %d turns", n)
		}
		if n := moved - start; n > 16*(64+16)<<10 {
			t.Errorf("%d KiB moved before 100 small answers", n>>10)
		}
	}
	if requests < 20 {
		t.Errorf("the transfer was over after %d rounds: the test shows nothing", requests)
	}
	within(t, w, time.Minute, "the transfer", func() bool { return resumed == 1 })
	for _, p := range peers {
		p.Close()
	}
	w.RunFor(time.Second)
}

func TestPoolsDecayOnVirtualTime(t *testing.T) {
	w, e := simulated(t, sim.Options{})
	listen(t, e, echoTask)
	var peers []*sim.Peer
	for range 500 {
		p := w.Host("10.0.0.2").Dial(addrPort)
		p.Send("x")
		peers = append(peers, p)
	}
	w.RunFor(time.Second)
	if s := e.Stats().Total(); s.Tasks < 400 || s.Buffers != s.Tasks {
		t.Fatalf("the burst: %+v", s)
	}
	for _, p := range peers {
		p.Close()
	}
	w.RunFor(5 * time.Minute)
	s := e.Stats().Total()
	if s.Tasks+s.Coroutines+s.Buffers+s.BuffersFree+s.Conns != 0 {
		t.Errorf("five minutes after the burst: %+v", s)
	}
}

func TestWatchAbortSimulated(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*sim.Peer)
		want error
	}{
		{"reset", (*sim.Peer).Reset, engine.ErrPeerReset},
		{"half-close", (*sim.Peer).CloseWrite, nil},
		{"close", (*sim.Peer).Close, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, e := simulated(t, sim.Options{Phantoms: true})
			result := errTest
			listen(t, e, func(task *engine.Task, conn *engine.Conn) {
				conn.WatchAbort(task)
				result = task.Sleep(time.Minute)
			})
			p := w.Host("10.0.0.2").Dial(addrPort)
			w.RunFor(time.Second)
			c.end(p)
			w.RunFor(2 * time.Minute)
			if result != c.want {
				t.Errorf("got %v, want %v", result, c.want)
			}
			p.Reset()
		})
	}
}

// TestChaosBySeed serves peers that behave in every way they may, under random delays,
// splits, small buffers and phantom events, drains in the middle, and finds nothing left.
// World.Close looks for tasks, connections, buffers and descriptors.
func TestChaosBySeed(t *testing.T) {
	for seed := range uint64(30) {
		w, e := simulated(t, sim.Options{Seed: seed, MinDelay: time.Microsecond, MaxDelay: 30 * time.Millisecond,
			Segment: 200, SendBuffer: 2 << 10, ReceiveBuffer: 2 << 10, Phantoms: true})
		listen(t, e, func(task *engine.Task, c *engine.Conn) {
			c.WatchAbort(task)
			c.SetDeadline(c.Loop().Now().Add(4 * time.Second))
			echoTask(task, c)
		})
		text := strings.Repeat("chaos", 1000)
		var honest []*sim.Peer
		for i := range 40 {
			p := w.Host("10.0.0.2").Dial(addrPort)
			p.Send(text)
			at := time.Duration(i) * 7 * time.Millisecond
			switch i % 8 {
			case 0:
				w.After(at, p.Reset)
			case 1:
				w.After(at, p.Close)
			case 2:
				p.Stall()
			case 3:
				p.Stall()
				w.After(at, p.Reset)
			case 4:
				p.Stall()
				w.After(at, p.Resume)
				p.CloseWrite()
				honest = append(honest, p)
			default:
				p.CloseWrite()
				honest = append(honest, p)
			}
		}
		w.RunFor(5 * time.Second)
		for i, p := range honest {
			if p.Got() != text || !p.Ended() {
				t.Errorf("seed %d: peer %d got %d of %d bytes, %v", seed, i, len(p.Got()), len(text), p.Err())
			}
		}
		if s := e.Stats().Total(); s.Tasks+s.Conns+s.Buffers != 0 {
			t.Errorf("seed %d: %+v", seed, s)
		}
	}
}

// TestDrainSimulated: at the deadline, not before, what is left is cancelled.
func TestDrainSimulated(t *testing.T) {
	w, e := simulated(t, sim.Options{})
	listen(t, e, echoTask)
	p := w.Host("10.0.0.2").Dial(addrPort)
	p.Send("x")
	w.RunFor(time.Second)
	began := w.Now()
	e.Drain(began.Add(10 * time.Second))
	w.RunFor(5 * time.Second)
	p.Send("y")
	refused := w.Host("10.0.0.2").Dial(addrPort)
	w.RunFor(time.Second)
	if p.Got() != "xy" || refused.Err() == nil {
		t.Errorf("while draining: %q, %v", p.Got(), refused.Err())
	}
	within(t, w, time.Minute, "the end", p.Over)
	exactly(t, w, "cancelled", began, 10*time.Second)
}
