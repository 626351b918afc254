package engine

import (
	"crypto/tls"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// TestManyConnectionsThatEndBadly opens connections that behave in every way a peer may; the
// fixture then finds that no task, connection, buffer, coroutine or goroutine is left.
func TestManyConnectionsThatEndBadly(t *testing.T) {
	server, client := tlsPair(t)
	e := running(t, Options{})
	plain := serve(t, e, func(task *Task, c *Conn) {
		c.WatchAbort(task)
		c.SetDeadline(c.Loop().Now().Add(2 * time.Second))
		echo(task, c)
	})
	secure := serve(t, e, func(task *Task, c *Conn) {
		c.SetDeadline(c.Loop().Now().Add(2 * time.Second))
		x := TLSServer(c, server)
		defer x.Close()
		echoTLS(task, x)
	})
	behave := []func(*net.TCPConn, net.Conn){
		func(raw *net.TCPConn, c net.Conn) {},
		func(raw *net.TCPConn, c net.Conn) { raw.SetLinger(0) },
		func(raw *net.TCPConn, c net.Conn) { raw.CloseWrite(); raw.Read(make([]byte, 10)) },
		func(raw *net.TCPConn, c net.Conn) { raw.Write([]byte("garbage that is no record")) },
		func(raw *net.TCPConn, c net.Conn) { c.Write([]byte("hello")); c.Read(make([]byte, 5)) },
		func(raw *net.TCPConn, c net.Conn) { c.Write(make([]byte, 300<<10)) },
		func(raw *net.TCPConn, c net.Conn) { c.Write(make([]byte, 300<<10)); raw.SetLinger(0) },
	}
	var clients sync.WaitGroup
	for i := range 16 {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for range 20 {
				ln := plain
				if random.IntN(2) == 0 {
					ln = secure
				}
				misbehave(t, ln, ln == secure, client, behave[random.IntN(len(behave))])
			}
		})
	}
	clients.Wait()
	eventually(t, "connections to end", func() bool { return e.Stats().Total().Conns == 0 })
}

func misbehave(t *testing.T, ln *Listener, secure bool, cfg *tls.Config, how func(*net.TCPConn, net.Conn)) {
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Error(err)
		return
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(100 * time.Millisecond))
	var c net.Conn = raw
	if secure {
		c = tls.Client(raw, cfg)
	}
	how(raw.(*net.TCPConn), c)
}

func TestLeastLoaded(t *testing.T) {
	e, _ := stepped(t, Options{Loops: 3, Kind: Events})
	for _, c := range []struct {
		name  string
		conns [3]int64
		want  int
	}{
		{"even", [3]int64{100, 100, 100}, 0},
		{"a little skewed", [3]int64{100, 90, 95}, 0},
		{"few", [3]int64{8, 0, 0}, 0},
		{"skewed", [3]int64{100, 90, 20}, 2},
		{"all on the first", [3]int64{9, 0, 0}, 1},
	} {
		for i, n := range c.conns {
			e.loops[i].load.open.Store(n)
		}
		if got := e.leastLoaded(e.loops[0], false).index; got != c.want {
			t.Errorf("%s: loop %d, want %d", c.name, got, c.want)
		}
	}
	for _, l := range e.loops {
		l.load.open.Store(0)
	}
}
