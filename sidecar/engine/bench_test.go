package engine

import (
	"testing"
	"time"
)

// BenchmarkTaskSwitch is a yield: two coroutine switches and a turn of the loop's queue.
func BenchmarkTaskSwitch(b *testing.B) {
	_, l := stepped(b, Options{})
	l.Go("switch", func(task *Task) {
		for task.Park("x") == nil {
		}
	})
	settle(l)
	task := l.active[0]
	b.ReportAllocs()
	for b.Loop() {
		task.Wake()
		l.runTasks()
	}
}

// BenchmarkGo starts and ends a pooled task.
func BenchmarkGo(b *testing.B) {
	_, l := stepped(b, Options{})
	f := func(*Task) {}
	b.ReportAllocs()
	for b.Loop() {
		l.Go("f", f)
		l.runTasks()
	}
}

// BenchmarkTimerRearm moves one of 100,000 deadlines later, with the wheel turning.
func BenchmarkTimerRearm(b *testing.B) {
	_, l := stepped(b, Options{})
	conns := make([]*Conn, 100_000)
	for i := range conns {
		conns[i] = &Conn{loop: l}
		conns[i].SetReadDeadline(l.Now().Add(time.Minute))
	}
	defer func() {
		for _, c := range conns {
			c.unlink()
		}
	}()
	deadline := l.Now().Add(2 * time.Minute)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		conns[i].SetReadDeadline(deadline)
		if i++; i == len(conns) {
			i = 0
			l.wheel.advance(l.Nanos(), l.expire)
		}
	}
}

// BenchmarkEchoRoundTrip is a request and its answer of 100 bytes on loopback, client and
// server on one loop: four system calls, two parks.
func BenchmarkEchoRoundTrip(b *testing.B) {
	e := running(b, Options{Loops: 1})
	ln := serve(b, e, echo)
	l := e.Loops()[0]
	on(b, l, func(*Task) {
		c, err := l.Dial(ln.Addr(), time.Second)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		p := make([]byte, 100)
		in := make([]byte, 512)
		b.ReportAllocs()
		for b.Loop() {
			c.Write(p)
			c.Read(in)
		}
	})
}

// BenchmarkTLSRoundTrip is the echo over TLS 1.3, both sides on one loop.
func BenchmarkTLSRoundTrip(b *testing.B) {
	server, client := tlsPair(b)
	e := running(b, Options{Loops: 1})
	ln := serveTLS(b, e, server, echoTLS)
	l := e.Loops()[0]
	on(b, l, func(*Task) {
		c, err := l.Dial(ln.Addr(), time.Second)
		if err != nil {
			b.Error(err)
			return
		}
		x := TLSClient(c, client)
		defer x.Close()
		p := make([]byte, 100)
		in := make([]byte, 512)
		b.ReportAllocs()
		for b.Loop() {
			x.Write(p)
			x.Read(in)
		}
	})
}
