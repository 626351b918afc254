package sim_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

func world(t *testing.T, o sim.Options) *sim.World {
	w := sim.New(o)
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func start(t *testing.T, h *sim.Host, loops int) *engine.Engine {
	t.Helper()
	kind, err := engine.ParseKind(os.Getenv("LARBOARD_ENGINE"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := h.Engine(engine.Options{Loops: loops, Kind: kind})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func echo(t *testing.T, e *engine.Engine, addr string) netip.AddrPort {
	t.Helper()
	ln, err := e.Listen("tcp", addr, func(l *engine.Loop, c *engine.Conn) {
		l.Go("echo", func(*engine.Task) {
			defer c.Close()
			b := l.Buffer(8 << 10)
			defer l.Release(b)
			for {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				if _, err := c.Write(b[:n]); err != nil {
					return
				}
			}
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return ln.Addr()
}

func chaos(seed uint64) sim.Options {
	return sim.Options{Seed: seed, MinDelay: 10 * time.Microsecond, MaxDelay: 20 * time.Millisecond, Segment: 700,
		SendBuffer: 4 << 10, ReceiveBuffer: 4 << 10}
}

// converse echoes from ten peers and ten tasks of a second host, and returns the trace.
func converse(t *testing.T, o sim.Options) uint64 {
	w := sim.New(o)
	server, client := w.Host("10.0.0.1"), w.Host("10.0.0.2")
	addr := echo(t, start(t, server, 2), "10.0.0.1:7")
	text := strings.Repeat("0123456789", 2000)
	var peers []*sim.Peer
	for range 10 {
		p := w.Host("10.0.0.3").Dial(addr)
		p.Send(text)
		p.CloseWrite()
		peers = append(peers, p)
	}
	e := start(t, client, 2)
	done := 0
	for i := range 10 {
		l := e.Loops()[i%2]
		l.Post(func() {
			l.Go("client", func(*engine.Task) {
				c, err := l.Dial(addr, time.Second)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				c.Write([]byte("hello"))
				b := make([]byte, 5)
				for n := 0; n < 5; {
					m, err := c.Read(b[n:])
					if err != nil {
						t.Error(err)
						return
					}
					n += m
				}
				if string(b) == "hello" {
					done++
				}
			})
		})
	}
	w.Run(time.Minute, func() bool {
		for _, p := range peers {
			if !p.Over() {
				return false
			}
		}
		return done == 10
	})
	for i, p := range peers {
		if p.Got() != text || p.Err() != nil {
			t.Errorf("peer %d: %d bytes, %v", i, len(p.Got()), p.Err())
		}
		p.Close()
	}
	w.RunFor(time.Second)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	return w.Trace()
}

func TestSameSeedSameSchedule(t *testing.T) {
	seen := map[uint64]bool{}
	for seed := range uint64(5) {
		first := converse(t, chaos(seed))
		if again := converse(t, chaos(seed)); again != first {
			t.Errorf("seed %d: %x and then %x", seed, first, again)
		}
		seen[first] = true
	}
	if len(seen) != 5 {
		t.Errorf("5 seeds gave %d schedules", len(seen))
	}
	converse(t, sim.Options{})
}

// TestTimersAreExactBesideABusyLoop: the second loop's traffic lets time pass in small steps;
// the first one's sleep must not grow by them.
func TestTimersAreExactBesideABusyLoop(t *testing.T) {
	w := world(t, sim.Options{Seed: 3, MinDelay: time.Millisecond, MaxDelay: 2 * time.Millisecond})
	e := start(t, w.Host("10.0.0.1"), 2)
	var woke time.Time
	began := w.Now()
	e.Loops()[0].Post(func() {
		e.Loops()[0].Go("sleeps", func(task *engine.Task) {
			task.Sleep(500 * time.Millisecond)
			woke = w.Now()
		})
	})
	e.Loops()[1].Post(func() {
		e.Loops()[1].Go("busy", func(task *engine.Task) {
			for range 700 {
				task.Sleep(time.Millisecond)
			}
		})
	})
	w.RunFor(3 * time.Second)
	const tick = 1 << 20 // of the wheel
	if d := woke.Sub(began); d < 500*time.Millisecond || d > 500*time.Millisecond+tick {
		t.Errorf("slept %v", d)
	}
	if d := w.Now().Sub(began); d != 3*time.Second {
		t.Errorf("RunFor took %v", d)
	}
}

func TestConnectOutcomes(t *testing.T) {
	w := world(t, sim.Options{})
	e := start(t, w.Host("10.0.0.1"), 2)
	dark := netip.MustParseAddrPort("10.0.0.9:80")
	w.Blackhole(dark)
	for _, c := range []struct {
		name    string
		addr    string
		timeout time.Duration
		want    error
		after   time.Duration
	}{
		{"refused", "10.0.0.1:9", time.Second, syscall.ECONNREFUSED, 0},
		{"our timeout", dark.String(), 3 * time.Second, engine.ErrTimeout, 3 * time.Second},
		{"the kernel's timeout", dark.String(), 0, syscall.ETIMEDOUT, 127 * time.Second},
	} {
		began := w.Now()
		var err error
		var took time.Duration
		l := e.Loops()[1]
		l.Post(func() {
			l.Go("dial", func(*engine.Task) {
				_, err = l.Dial(netip.MustParseAddrPort(c.addr), c.timeout)
				took = w.Now().Sub(began)
			})
		})
		w.Run(time.Hour, func() bool { return err != nil })
		if !errors.Is(err, c.want) || took < c.after || took > c.after+time.Millisecond*2 {
			t.Errorf("%s: %v after %v", c.name, err, took)
		}
	}
}

func TestAddressesAndDescriptors(t *testing.T) {
	w := world(t, sim.Options{})
	h := w.Host("10.0.0.1")
	e := start(t, h, 2)
	addr := echo(t, e, "0.0.0.0:0")
	if _, err := e.Listen("tcp", fmt.Sprintf("10.0.0.1:%d", addr.Port()), nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listening twice: %v", err)
	}
	for _, from := range []string{"10.0.0.1", "10.0.0.2"} {
		for _, to := range []string{"10.0.0.1", "127.0.0.1"} {
			p := w.Host(from).Dial(netip.AddrPortFrom(netip.MustParseAddr(to), addr.Port()))
			p.Send("x")
			w.RunFor(time.Millisecond)
			if want := from == "10.0.0.1" || to == "10.0.0.1"; (p.Got() == "x") != want {
				t.Errorf("%s to %s: %q, %v", from, to, p.Got(), p.Err())
			}
			p.Close()
		}
	}
	w.RunFor(time.Millisecond)
	if n := h.Open(); n != 2 { // the listener's
		t.Errorf("%d descriptors", n)
	}
}

// TestCutLinksHoldWhatIsSent: nothing gets through a cut link, everything does after it, in
// order, and other links never notice.
func TestCutLinksHoldWhatIsSent(t *testing.T) {
	w := world(t, sim.Options{Seed: 3, MinDelay: time.Millisecond, MaxDelay: 9 * time.Millisecond, Segment: 3})
	a, b, c := w.Host("10.0.0.1"), w.Host("10.0.0.2"), w.Host("10.0.0.3")
	server := b.Serve("10.0.0.2:80", func(*sim.Peer) {})
	cut, other := a.Dial(server.Addr()), c.Dial(server.Addr())
	cut.Send("before ")
	w.RunFor(time.Second)
	w.Cut(b, a)
	cut.Send("and behind")
	other.Send("beside")
	late := a.Dial(server.Addr())
	w.RunFor(time.Minute)
	got := func() (all []string) {
		for _, p := range server.Peers() {
			all = append(all, p.Got())
		}
		slices.Sort(all)
		return all
	}
	if all := got(); len(all) != 2 || all[0] != "before " || all[1] != "beside" {
		t.Errorf("while the link is cut: %q", all)
	}
	w.Heal(a, b)
	w.RunFor(time.Second)
	if all := got(); len(all) != 3 || all[1] != "before and behind" {
		t.Errorf("after it was healed: %q", all)
	}
	for _, p := range append(server.Peers(), cut, other, late) {
		p.Close()
	}
	server.Close()
	w.RunFor(time.Second)
}

// TestKilledProcessLeavesNothing: whoever was connected learns of it at once, the address is
// free, and a new engine takes it.
func TestKilledProcessLeavesNothing(t *testing.T) {
	w := world(t, sim.Options{Seed: 4, MinDelay: time.Millisecond, MaxDelay: 9 * time.Millisecond})
	h := w.Host("10.0.0.1")
	first := start(t, h, 2)
	addr := echo(t, first, "10.0.0.1:80")
	p := w.Host("10.0.0.2").Dial(addr)
	p.Send("x")
	w.RunFor(time.Second)
	began := w.Now()
	if err := w.Kill(first); err != nil {
		t.Error(err)
	}
	if w.Now() != began {
		t.Errorf("killing took %v", w.Now().Sub(began))
	}
	w.RunFor(10 * time.Millisecond)
	if !p.Over() || p.Got() != "x" {
		t.Errorf("the peer got %q, over %v", p.Got(), p.Over())
	}
	refused := w.Host("10.0.0.2").Dial(addr)
	w.RunFor(time.Second)
	if refused.Err() == nil {
		t.Error("somebody still listens")
	}
	echo(t, start(t, h, 1), "10.0.0.1:80")
	again := w.Host("10.0.0.2").Dial(addr)
	again.Send("y")
	w.RunFor(time.Second)
	if again.Got() != "y" {
		t.Errorf("the next process answered %q", again.Got())
	}
	if !w.Break(h, w.Host("10.0.0.2"), func(n int) int { return n - 1 }) {
		t.Error("no connection to break")
	}
	w.RunFor(time.Second)
	if again.Err() == nil {
		t.Error("a broken connection ended without an error")
	}
	for _, p := range []*sim.Peer{p, refused, again} {
		p.Close()
	}
	w.RunFor(time.Second)
}
