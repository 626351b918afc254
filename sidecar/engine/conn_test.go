package engine

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

func TestConnSize(t *testing.T) {
	if n := unsafe.Sizeof(Conn{}); n > 160 {
		t.Errorf("Conn takes %d bytes, want at most 160", n)
	}
}

// accepted runs f on a task with the first connection that arrives, while the test plays the
// client.
func accepted(t *testing.T, f func(*Task, *Conn), client func(*net.TCPConn)) {
	t.Helper()
	e := running(t, Options{})
	done := make(chan struct{})
	ln := serve(t, e, func(task *Task, c *Conn) {
		defer close(done)
		f(task, c)
	})
	client(dialTCP(t, ln))
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("server task did not end")
	}
}

func TestReadEndsAtHalfCloseAndAnswersAfterIt(t *testing.T) {
	accepted(t, func(_ *Task, c *Conn) {
		all, err := readAll(c)
		if err != nil || string(all) != "question" {
			t.Errorf("%q, %v", all, err)
		}
		c.Write([]byte("answer"))
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
	}, func(c *net.TCPConn) {
		c.Write([]byte("question"))
		c.CloseWrite()
		if all, err := io.ReadAll(c); err != nil || string(all) != "answer" {
			t.Errorf("%q, %v", all, err)
		}
	})
}

func readAll(c Transport) ([]byte, error) {
	var all []byte
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		all = append(all, b[:n]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// TestDataWithFIN delivers data and the end of the stream as one event, after which no edge
// comes: a reader that skips the read after a short one would wait for ever.
func TestDataWithFIN(t *testing.T) {
	sent := make(chan struct{})
	accepted(t, func(task *Task, c *Conn) {
		for !received(sent) {
			task.Sleep(time.Millisecond)
		}
		task.Sleep(5 * time.Millisecond)
		c.SetReadDeadline(c.Loop().Now().Add(5 * time.Second))
		if all, err := readAll(c); err != nil || string(all) != "last words" {
			t.Errorf("%q, %v", all, err)
		}
	}, func(c *net.TCPConn) {
		c.Write([]byte("last words"))
		c.Close()
		close(sent)
	})
}

func received(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestShortReadSkipsTheNextOne(t *testing.T) {
	accepted(t, func(_ *Task, c *Conn) {
		b := make([]byte, 100)
		if n, err := c.Read(b); n != 5 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if c.Pending() {
			t.Error("pending after a short read")
		}
		if n, err := c.TryRead(b); n != 0 || err != ErrWouldBlock {
			t.Errorf("%d, %v", n, err)
		}
		c.Write([]byte("x"))
	}, func(c *net.TCPConn) {
		c.Write([]byte("hello"))
		c.Read(make([]byte, 1))
	})
}

func TestDeadlines(t *testing.T) {
	accepted(t, func(task *Task, c *Conn) {
		l := c.Loop()
		for range 2 { // the second is the lazy case: the wheel holds nothing any more
			began := l.Now()
			c.SetReadDeadline(began.Add(20 * time.Millisecond))
			_, err := c.Read(make([]byte, 1))
			if !errors.Is(err, ErrTimeout) || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read: %v", err)
			}
			if d := l.Now().Sub(began); d < 20*time.Millisecond {
				t.Errorf("read ended after %v", d)
			}
		}
		var ne net.Error
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("read after the deadline: %v", err)
		}
		c.SetWriteDeadline(l.Now().Add(20 * time.Millisecond))
		if _, err := c.Write(make([]byte, 64<<20)); !errors.Is(err, ErrTimeout) {
			t.Errorf("write: %v", err)
		}
		c.SetDeadline(time.Time{})
	}, func(*net.TCPConn) {})
}

func TestCloseWakesBothDirections(t *testing.T) {
	errs := make(chan error, 2)
	accepted(t, func(task *Task, c *Conn) {
		l := c.Loop()
		ended := 0
		l.Go("reader", func(*Task) { _, err := c.Read(make([]byte, 1)); errs <- err; ended++; task.Wake() })
		l.Go("writer", func(*Task) { _, err := c.Write(make([]byte, 64<<20)); errs <- err; ended++; task.Wake() })
		for c.reader == nil || c.writer == nil {
			task.Yield()
		}
		c.Close()
		for ended < 2 {
			task.Park("siblings")
		}
		if c.Local().IsValid() || !c.Remote().IsValid() {
			t.Error("addresses after close")
		}
	}, func(c *net.TCPConn) {
		for range 2 {
			if err := <-errs; !errors.Is(err, ErrClosed) || !errors.Is(err, net.ErrClosed) {
				t.Errorf("woken with %v", err)
			}
		}
	})
}

func TestAbortSendsReset(t *testing.T) {
	accepted(t, func(_ *Task, c *Conn) {
		c.Read(make([]byte, 1))
		c.Abort()
	}, func(c *net.TCPConn) {
		c.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("client got %v", err)
		}
	})
}

func TestWatchAbort(t *testing.T) {
	accepted(t, func(task *Task, c *Conn) {
		c.WatchAbort(task)
		c.Write([]byte("x"))
		task.Sleep(20 * time.Millisecond) // the half-close, which is none of the watcher's business
		if task.Err() != nil {
			t.Error("cancelled by a half-close")
		}
		c.Write([]byte("y"))
		if err := task.Sleep(10 * time.Second); err != ErrPeerReset {
			t.Errorf("sleep: %v", err)
		}
	}, func(c *net.TCPConn) {
		b := make([]byte, 1)
		c.Read(b)
		c.CloseWrite()
		c.Read(b)
		c.SetLinger(0)
		c.Close()
	})
}

func TestDialFailures(t *testing.T) {
	e := running(t, Options{})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().(*net.TCPAddr).AddrPort()
	free.Close()
	on(t, e.Loops()[0], func(task *Task) {
		if _, err := task.Loop().Dial(addr, time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("refused: %v", err)
		}
		if _, err := task.Loop().Dial(netip.AddrPort{}, time.Second); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("invalid: %v", err)
		}
		task.Cancel(errTest)
		if _, err := task.Loop().Dial(addr, time.Second); !errors.Is(err, errTest) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

func TestDialTimeout(t *testing.T) {
	e := running(t, Options{})
	// A listener whose queue is full answers no SYN.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	syscall.Listen(fd, 0)
	addr, _ := netSockets{}.LocalAddr(fd)
	on(t, e.Loops()[0], func(task *Task) {
		for range 8 {
			c, err := task.Loop().Dial(addr, 30*time.Millisecond)
			if err == nil {
				defer c.Close()
				continue
			}
			if !errors.Is(err, ErrTimeout) {
				t.Errorf("got %v", err)
			}
			return
		}
		t.Error("never timed out")
	})
}

func TestStaleDescriptorEventIsIgnored(t *testing.T) {
	e := running(t, Options{Loops: 1})
	ln := serve(t, e, echo)
	l := e.Loops()[0]
	on(t, l, func(task *Task) {
		a, err := l.Dial(ln.Addr(), time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		stale := Event{Token: uint64(uint32(a.fd)) | uint64(a.gen)<<32, Ready: Readable | HungUp}
		a.Close()
		b, err := l.Dial(ln.Addr(), time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		defer b.Close()
		if b.fd != a.fd {
			t.Logf("descriptor %d not used again, but %d", a.fd, b.fd)
			return
		}
		l.dispatch(&stale)
		if b.flags&(flagReadable|flagEnding|flagReset) != 0 {
			t.Error("an event of the closed connection reached the new one")
		}
		if l.counts.stale == 0 {
			t.Error("not counted")
		}
	})
}

func TestCountersAndUser(t *testing.T) {
	accepted(t, func(_ *Task, c *Conn) {
		c.SetUser(7)
		c.Read(make([]byte, 10))
		c.WriteBuffers([]byte("ab"), []byte("cde"))
		if c.BytesIn() != 3 || c.BytesOut() != 5 || c.User() != 7 {
			t.Errorf("in %d, out %d, user %v", c.BytesIn(), c.BytesOut(), c.User())
		}
		if c.Local().Addr() != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
			t.Errorf("local %v", c.Local())
		}
	}, func(c *net.TCPConn) {
		c.Write([]byte("abc"))
		b := make([]byte, 5)
		io.ReadFull(c, b)
		if string(b) != "abcde" {
			t.Errorf("got %q", b)
		}
	})
}
