package engine_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// real runs an engine of two loops for the length of the test.
func real(t *testing.T) *engine.Engine {
	t.Helper()
	e, err := engine.New(engine.Options{Loops: 2, Kind: engine.TestKind(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if s := e.Stats().Total(); s.Tasks+s.Coroutines+s.Conns+s.Buffers != 0 {
			t.Errorf("left behind: %+v", s)
		}
	})
	return e
}

// pattern is a stream in which every byte tells its place.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>16 ^ i>>8 ^ i*7)
	}
	return b
}

// talk writes pattern(writes) on one task while another reads reads bytes, and reports.
func talk(task *engine.Task, x *engine.TLS, reads, writes int) (got []byte, readErr, writeErr error) {
	l := task.Loop()
	ref, done := task.Ref(), false
	l.Go("writer", func(*engine.Task) {
		_, writeErr = x.Write(pattern(writes))
		done = true
		ref.Wake()
	})
	b := make([]byte, 4096)
	for len(got) < reads && readErr == nil {
		var n int
		n, readErr = x.Read(b)
		got = append(got, b[:n]...)
	}
	for !done {
		if err := task.Park("writer"); err != nil {
			break
		}
	}
	return got, readErr, writeErr
}

// sides runs body with the engine as server and as client of the hand-made peer.
func sides(t *testing.T, engineSide func(*engine.Task, *engine.TLS), peer func(*testing.T, *recordConn)) {
	serverConfig, clientConfig := engine.TLSPair(t)
	t.Run("engine is server", func(t *testing.T) {
		e := real(t)
		ln, err := e.Listen("tcp", "127.0.0.1:0", func(l *engine.Loop, c *engine.Conn) {
			l.Go("serve", func(task *engine.Task) { guarded(task, c, engine.TLSServer(c, serverConfig), engineSide) })
		})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		play(t, raw, clientConfig, false, peer)
	})
	t.Run("engine is client", func(t *testing.T) {
		e := real(t)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		l := e.Loops()[1]
		l.Post(func() {
			l.Go("dial", func(task *engine.Task) {
				c, err := l.Dial(netip.MustParseAddrPort(ln.Addr().String()), 10*time.Second)
				if err != nil {
					t.Error(err)
					return
				}
				guarded(task, c, engine.TLSClient(c, clientConfig), engineSide)
			})
		})
		raw, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		play(t, raw, serverConfig, true, peer)
	})
}

func guarded(task *engine.Task, c *engine.Conn, x *engine.TLS, f func(*engine.Task, *engine.TLS)) {
	defer x.Close()
	c.SetDeadline(task.Loop().Now().Add(15 * time.Second))
	if x.Handshake() == nil {
		f(task, x)
	}
}

func play(t *testing.T, raw net.Conn, cfg *tls.Config, server bool, peer func(*testing.T, *recordConn)) {
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(15 * time.Second))
	peer(t, takeOver(t, raw, cfg, server))
}

// TestKeyUpdateWhileWriting: the peer renews its keys and asks for ours again and again, while
// both sides send. crypto/tls answers inside Read, under the lock that Write takes.
func TestKeyUpdateWhileWriting(t *testing.T) {
	const size, rounds = 3 << 20, 40
	result := make(chan string, 2)
	sides(t, func(task *engine.Task, x *engine.TLS) {
		got, readErr, writeErr := talk(task, x, rounds*1000, size)
		x.Write([]byte("end")) // behind the answers to all updates
		switch {
		case readErr != nil || writeErr != nil:
			result <- "read: " + text(readErr) + ", write: " + text(writeErr)
		case !bytes.Equal(got, pattern(rounds*1000)):
			result <- "what was read differs"
		default:
			result <- ""
		}
	}, func(t *testing.T, r *recordConn) {
		sent := make(chan error, 1)
		go func() {
			out := pattern(rounds * 1000)
			var err error
			for i := 0; i < rounds && err == nil; i++ {
				_, err = r.Conn.Write(append(r.keyUpdate(true), r.seal(recordApplication, out[i*1000:(i+1)*1000])...))
			}
			sent <- err
		}()
		var got []byte
		for len(got) < size+len("end") {
			b, err := r.receive()
			if err != nil {
				t.Fatalf("after %d bytes: %v", len(got), err)
			}
			got = append(got, b...)
		}
		if !bytes.Equal(got, append(pattern(size), "end"...)) {
			t.Error("what was written differs")
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		if s := <-result; s != "" {
			t.Error(s)
		}
		if r.updates == 0 || r.asked != 0 {
			t.Errorf("%d updates, %d requests of the engine's side", r.updates, r.asked)
		}
	})
}

func text(err error) string {
	if err == nil {
		return "fine"
	}
	return err.Error()
}

// TestKeyUpdateWhileTheWriterIsParked: a peer that reads nothing asks for new keys. The answer
// waits behind what is parked, nobody waits for a lock, and all of it comes in order when the
// peer reads at last.
func TestKeyUpdateWhileTheWriterIsParked(t *testing.T) {
	const size, rounds = 24 << 20, 100
	result := make(chan error, 2)
	seen := make(chan int, 1)
	sides(t, func(task *engine.Task, x *engine.TLS) {
		l, ref, done := task.Loop(), task.Ref(), false
		l.Go("writer", func(*engine.Task) {
			_, err := x.Write(pattern(size))
			result <- err
			done = true
			ref.Wake()
		})
		b, n := make([]byte, 100), 0
		for n < rounds {
			m, err := x.Read(b)
			if err != nil {
				result <- err
				break
			}
			n += m
		}
		seen <- n
		for !done {
			if task.Park("writer") != nil {
				return
			}
		}
	}, func(t *testing.T, r *recordConn) {
		for range rounds { // a byte between two, since crypto/tls bounds records without data
			if _, err := r.Conn.Write(append(r.keyUpdate(true), r.seal(recordApplication, []byte{1})...)); err != nil {
				t.Fatal(err)
			}
		}
		if n := <-seen; n != rounds { // the reader went on although the writer is parked
			t.Fatalf("read %d of %d: %v", n, rounds, <-result)
		}
		total := 0
		for total < size {
			b, err := r.receive()
			if err != nil {
				t.Fatalf("after %d bytes and %d updates: %v", total, r.updates, err)
			}
			for i, c := range b {
				if at := total + i; c != byte(at>>16^at>>8^at*7) {
					t.Fatalf("byte %d differs", at)
				}
			}
			total += len(b)
		}
		if err := <-result; err != nil {
			t.Error(err)
		}
		if r.updates == 0 {
			t.Error("no key update was answered")
		}
	})
}

// TestKeyUpdateFloodIsBounded: updates without any data between them, and nobody reading the
// answers, end the connection instead of filling memory.
func TestKeyUpdateFloodIsBounded(t *testing.T) {
	result := make(chan error, 2)
	sides(t, func(task *engine.Task, x *engine.TLS) {
		_, err := x.Read(make([]byte, 1))
		result <- err
	}, func(t *testing.T, r *recordConn) {
		for range 1000 {
			if _, err := r.Conn.Write(r.keyUpdate(true)); err != nil {
				break
			}
		}
		if err := <-result; err == nil || err == io.EOF {
			t.Errorf("read: %v", err)
		}
	})
}
