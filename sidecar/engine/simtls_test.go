package engine_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// simulatedTLS is two engines, a client and a server, on a network that splits and delays
// as the seed has it. Certificates are checked at the time of the machine.
func simulatedTLS(t *testing.T, seed uint64, server, client func(*engine.Task, *engine.TLS)) *sim.World {
	serverConfig, clientConfig := engine.TLSPair(t)
	w, e := simulated(t, sim.Options{Seed: seed, MinDelay: time.Microsecond, MaxDelay: 3 * time.Millisecond,
		Segment: 1 + int(seed*seed*37)%3000, SendBuffer: 16 << 10, ReceiveBuffer: 16 << 10, Phantoms: true})
	listen(t, e, func(task *engine.Task, c *engine.Conn) { overTLS(task, engine.TLSServer(c, serverConfig), server) })
	other, err := w.Host("10.0.0.2").Engine(engine.Options{Loops: 2, Kind: engine.TestKind(t)})
	if err != nil {
		t.Fatal(err)
	}
	l := other.Loops()[seed%2]
	l.Post(func() {
		l.Go("client", func(task *engine.Task) {
			c, err := l.Dial(addrPort, time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			overTLS(task, engine.TLSClient(c, clientConfig), client)
		})
	})
	return w
}

func overTLS(task *engine.Task, x *engine.TLS, f func(*engine.Task, *engine.TLS)) {
	defer x.Close()
	x.Conn().SetDeadline(task.Loop().Now().Add(time.Minute))
	f(task, x)
}

// TestTLSOverARoughNetwork sends both ways at once, by two tasks on each side.
func TestTLSOverARoughNetwork(t *testing.T) {
	const size = 60_000
	for seed := range uint64(10) {
		ended := 0
		both := func(task *engine.Task, x *engine.TLS) {
			got, readErr, writeErr := talk(task, x, size, size)
			if readErr != nil || writeErr != nil || !bytes.Equal(got, pattern(size)) {
				t.Errorf("seed %d: %d bytes, read %v, write %v", seed, len(got), readErr, writeErr)
			}
			if x.ConnectionState().Version != tls.VersionTLS13 {
				t.Error("not TLS 1.3")
			}
			x.CloseWrite()
			if n, err := x.Read(make([]byte, 1)); n != 0 || err != io.EOF || x.Truncated() {
				t.Errorf("seed %d: end %d, %v, truncated %v", seed, n, err, x.Truncated())
			}
			ended++
		}
		w := simulatedTLS(t, seed, both, both)
		within(t, w, time.Minute, "both sides", func() bool { return ended == 2 })
		w.RunFor(time.Second)
	}
}

// TestTLSIdleBetweenRequests lets the server's connection go idle after each answer: what is
// pending is asked before, in whatever pieces the records came, and no request is lost.
func TestTLSIdleBetweenRequests(t *testing.T) {
	const rounds = 60
	for seed := range uint64(10) {
		answered, idled := 0, 0
		serve := func(task *engine.Task, x *engine.TLS) {
			b := make([]byte, 7)
			for {
				n, err := x.Read(b)
				if err != nil {
					return
				}
				if _, err := x.Write(b[:n]); err != nil {
					return
				}
				for !x.Pending() {
					idled++
					ref, ready := task.Ref(), false
					x.Conn().OnReadable(func() { ready = true; ref.Wake() })
					for !ready {
						if task.Park("idle") != nil {
							return
						}
					}
				}
			}
		}
		w := simulatedTLS(t, seed, serve, func(task *engine.Task, x *engine.TLS) {
			for i := range rounds {
				out := []byte(strings.Repeat("q", 1+i%23))
				if i%3 == 0 {
					x.Write(out[:len(out)/2])
					out = out[len(out)/2:]
				}
				x.Write(out)
				b := make([]byte, 1+i%23)
				for len(b) > 0 {
					n, err := x.Read(b)
					if err != nil {
						t.Errorf("seed %d, round %d: %v", seed, i, err)
						return
					}
					b = b[n:]
				}
				answered++
			}
		})
		within(t, w, time.Minute, "all rounds", func() bool { return answered == rounds })
		if idled == 0 {
			t.Error("never idle: the test shows nothing")
		}
		w.RunFor(time.Second)
	}
}

// TestTLSGarbageWhileTheWriterIsParked is the lock that crypto/tls holds, on both loops at
// once: the peers read nothing, so the writers are parked, and then send a record that does
// not decrypt. The readers end at once; closing wakes the writers.
func TestTLSGarbageWhileTheWriterIsParked(t *testing.T) {
	serverConfig, clientConfig := engine.TLSPair(t)
	w, e := simulated(t, sim.Options{Seed: 5, MaxDelay: time.Millisecond})
	var readErrs, writeErrs []error
	listen(t, e, func(task *engine.Task, c *engine.Conn) {
		overTLS(task, engine.TLSServer(c, serverConfig), func(task *engine.Task, x *engine.TLS) {
			x.Handshake()
			task.Loop().Go("writer", func(*engine.Task) {
				_, err := x.Write(make([]byte, 1<<20))
				writeErrs = append(writeErrs, err)
			})
			_, err := x.Read(make([]byte, 1))
			readErrs = append(readErrs, err)
		})
	})
	other, err := w.Host("10.0.0.2").Engine(engine.Options{Loops: 2, Kind: engine.TestKind(t)})
	if err != nil {
		t.Fatal(err)
	}
	const peers = 8
	for i := range peers {
		l := other.Loops()[i%2]
		l.Post(func() {
			l.Go("peer", func(task *engine.Task) {
				c, err := l.Dial(addrPort, time.Second)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				x := engine.TLSClient(c, clientConfig)
				if err := x.Handshake(); err != nil {
					t.Error(err)
				}
				task.Sleep(time.Second)
				c.Write(append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...))
				task.Sleep(time.Second)
			})
		})
	}
	began := w.Now()
	within(t, w, time.Minute, "the readers", func() bool { return len(readErrs) == peers })
	if d := w.Now().Sub(began); d > 1100*time.Millisecond {
		t.Errorf("the readers ended after %v", d)
	}
	within(t, w, time.Second, "the writers", func() bool { return len(writeErrs) == peers })
	for i := range readErrs {
		if readErrs[i] == nil || readErrs[i] == io.EOF || i < len(writeErrs) && writeErrs[i] == nil {
			t.Errorf("read %v, write %v", readErrs[i], writeErrs[i])
		}
	}
	w.RunFor(5 * time.Second)
}
