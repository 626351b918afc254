package engine

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// relay is a listener that carries each connection to target and back, spliced or copied,
// with one task for each direction.
func relay(t *testing.T, e *Engine, target *net.TCPAddr, spliced bool) *Listener {
	t.Helper()
	move := copyAll
	if spliced {
		move = func(dst, src *Conn) error {
			err := spliceAll(dst, src)
			if err == ErrNoSplice {
				err = copyAll(dst, src)
			}
			return err
		}
	}
	ln, err := e.Listen("tcp", "127.0.0.1:0", func(l *Loop, down *Conn) {
		l.Go("relay", func(task *Task) {
			up, err := l.Dial(target.AddrPort(), 10*time.Second)
			if err != nil {
				down.Close()
				return
			}
			back, done := false, Cond{}
			l.Go("back", func(*Task) {
				end(down, up, move(down, up))
				back = true
				done.Broadcast()
			})
			end(up, down, move(up, down))
			for !back {
				if done.Wait(task) != nil {
					break
				}
			}
			down.Close()
			up.Close()
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// end passes on how a direction ended.
func end(dst, src *Conn, err error) {
	if err == nil {
		err = dst.CloseWrite()
	}
	if err != nil {
		dst.Abort()
		src.Abort()
	}
}

func copyAll(dst, src *Conn) error {
	b := src.Loop().Buffer(32 << 10)
	defer src.Loop().Release(b)
	for {
		n, err := src.Read(b)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := dst.Write(b[:n]); err != nil {
			return err
		}
	}
}

func spliceAll(dst, src *Conn) error {
	s := Splice{Src: src, Dst: dst}
	defer s.End()
	for {
		_, err := s.Fill(1 << 62)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = s.Flush()
		}
		if err != nil {
			return err
		}
	}
}

// listenTCP runs serve for each connection; it ends with the test.
func listenTCP(t *testing.T, serve func(*net.TCPConn)) *net.TCPAddr {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr)
}

// What comes out is what went in, in both directions at once, over random pieces, spliced as
// copied; each half-close is passed on by itself.
func TestSpliceMovesExactlyTheBytes(t *testing.T) {
	for _, spliced := range []bool{false, true} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("spliced=%v/%d", spliced, seed), func(t *testing.T) { exchangeBytes(t, spliced, seed) })
		}
	}
}

func exchangeBytes(t *testing.T, spliced bool, seed uint64) {
	e := running(t, Options{Loops: 2})
	sums := make(chan [32]byte, 2)
	target := listenTCP(t, func(c *net.TCPConn) {
		sent := make(chan struct{})
		go func() { sendPieces(c, seed+1000, 3<<20); close(sent) }()
		sums <- sum(c, seed+2000)
		<-sent
	})
	ln := relay(t, e, target, spliced)
	c := dialTCP(t, ln)
	go sendPieces(c, seed, 3<<20)
	down := sum(c, seed+3000)
	if want := sumOf(seed+1000, 3<<20); down != want {
		t.Error("the client got other bytes than the endpoint sent")
	}
	if up, want := <-sums, sumOf(seed, 3<<20); up != want {
		t.Error("the endpoint got other bytes than the client sent")
	}
}

func stream(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := 0; i+8 <= n; i += 8 {
		v := r.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	return b
}

func sumOf(seed uint64, n int) [32]byte { return sha256.Sum256(stream(seed, n)) }

// sendPieces writes in random pieces and ends its direction.
func sendPieces(c *net.TCPConn, seed uint64, n int) {
	b, r := stream(seed, n), rand.New(rand.NewPCG(seed, 2))
	for len(b) > 0 {
		piece := min(len(b), 1+r.IntN(1<<(1+r.IntN(18))))
		if _, err := c.Write(b[:piece]); err != nil {
			return
		}
		b = b[piece:]
		if r.IntN(64) == 0 {
			time.Sleep(time.Millisecond) // so that pieces do not melt into one
		}
	}
	c.CloseWrite()
}

// sum reads in random pieces to the end.
func sum(c *net.TCPConn, seed uint64) (out [32]byte) {
	h, r := sha256.New(), rand.New(rand.NewPCG(seed, 3))
	b := make([]byte, 256<<10)
	for {
		n, err := c.Read(b[:1+r.IntN(len(b))])
		h.Write(b[:n])
		if err != nil {
			h.Sum(out[:0])
			return out
		}
	}
}

// A reader that stalls stops the writer and loses nothing.
func TestSpliceWaitsForASlowReader(t *testing.T) {
	e := running(t, Options{Loops: 1})
	const size = 64 << 20
	sent := make(chan struct{})
	target := listenTCP(t, func(c *net.TCPConn) {
		c.Write(make([]byte, size))
		close(sent)
	})
	c := dialTCP(t, relay(t, e, target, true))
	var one [1]byte
	if _, err := io.ReadFull(c, one[:]); err != nil {
		t.Fatal(err)
	}
	select {
	case <-sent:
		t.Fatal("64 MiB went to a reader that took one byte")
	case <-time.After(300 * time.Millisecond):
	}
	if n, err := io.Copy(io.Discard, c); err != nil || n != size-1 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// A reset in the middle ends the transfer, and its pipe is closed with the bytes in it: the
// fixture counts descriptors.
func TestSpliceEndsWithAReset(t *testing.T) {
	for _, who := range []string{"reader", "writer"} {
		t.Run(who, func(t *testing.T) {
			e := running(t, Options{Loops: 1})
			gone := make(chan error, 1)
			target := listenTCP(t, func(c *net.TCPConn) {
				b := make([]byte, 1<<20)
				for i := 0; ; i++ {
					if i == 8 && who == "writer" {
						c.SetLinger(0)
						return
					}
					if _, err := c.Write(b); err != nil {
						gone <- err
						return
					}
				}
			})
			c := dialTCP(t, relay(t, e, target, true))
			if who == "reader" {
				if _, err := io.CopyN(io.Discard, c, 4<<20); err != nil {
					t.Fatal(err)
				}
				c.SetLinger(0)
				c.Close()
				if err := <-gone; err == nil {
					t.Error("the writer went on")
				}
				return
			}
			if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the reader saw %v", err)
			}
		})
	}
}

// Small answers come in time beside a bulk transfer on the same loop.
func TestSpliceIsFair(t *testing.T) {
	e := running(t, Options{Loops: 1})
	target := listenTCP(t, func(c *net.TCPConn) {
		b := make([]byte, 1<<20)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	bulk := relay(t, e, target, true)
	small := serve(t, e, echo)
	for range 4 {
		c := dialTCP(t, bulk)
		go io.Copy(io.Discard, c)
	}
	c := dialTCP(t, small)
	var worst time.Duration
	for range 200 {
		began := time.Now()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		worst = max(worst, time.Since(began))
	}
	if worst > 2*time.Second { // it is milliseconds; without a budget it never ends
		t.Errorf("an echo took %v", worst)
	}
}

// Over Unix sockets too, and the deadline of either side holds.
func TestSpliceDeadlines(t *testing.T) {
	e := running(t, Options{Loops: 1})
	path := filepath.Join(t.TempDir(), "x.sock")
	echoUnix(t, e, ListenOptions{Address: path})
	over := make(chan struct{})
	silent := listenTCP(t, func(*net.TCPConn) { <-over })
	defer close(over)
	on(t, e.Loops()[0], func(task *Task) {
		l := task.Loop()
		a, err := l.DialUnix(path, time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		defer a.Close()
		b, err := l.Dial(silent.AddrPort(), time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		defer b.Close()
		s := Splice{Src: a, Dst: b}
		defer s.End()
		a.ReadWithin(20 * time.Millisecond)
		if _, err := s.Fill(1 << 20); !errors.Is(err, ErrTimeout) {
			t.Errorf("nothing to read: %v", err)
		}
		if l.pipes.open != 0 {
			t.Errorf("a splice that waits holds %d pipes", l.pipes.open)
		}
		a.ReadWithin(0)
		b.WriteWithin(200 * time.Millisecond)
		for {
			a.Write(make([]byte, 64<<10))
			if _, err = s.Fill(1 << 62); err == nil {
				err = s.Flush()
			}
			if err != nil {
				break
			}
		}
		if !errors.Is(err, ErrTimeout) || s.Held() == 0 {
			t.Errorf("no room: %v with %d bytes held", err, s.Held())
		}
		s.End()
		if l.pipes.open != 0 || len(l.pipes.free) != 0 {
			t.Errorf("a pipe with bytes in it was kept: %+v", l.pipes)
		}
	})
}

// After a burst the pipes are closed in small steps, without anybody's doing.
func TestPipesAreTrimmed(t *testing.T) {
	e := running(t, Options{Loops: 1})
	on(t, e.Loops()[0], func(task *Task) {
		l := task.Loop()
		taken := make([]pipe, 40)
		for i := range taken {
			if !l.takePipe(&taken[i]) {
				t.Error("no pipe")
				return
			}
		}
		for _, p := range taken {
			l.putPipe(p, true)
		}
		if l.pipes.open != 40 || len(l.pipes.free) != 40 {
			t.Errorf("%d open, %d free", l.pipes.open, len(l.pipes.free))
		}
		for range 200 {
			l.pipes.trim()
		}
		if l.pipes.open != 0 {
			t.Errorf("%d pipes are left", l.pipes.open)
		}
	})
}
