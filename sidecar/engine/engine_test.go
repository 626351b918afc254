package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestDrainWaitsForTasksAndThenCancels(t *testing.T) {
	for _, c := range []struct {
		name     string
		deadline time.Duration
		want     error
	}{
		{"in time", time.Minute, nil},
		{"deadline passes", 10 * time.Millisecond, ErrDrain},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := New(Options{Loops: 2})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- e.Run(context.Background()) }()
			started := make(chan *Task)
			result := make(chan error, 2)
			for _, l := range e.Loops() {
				l.Post(func() {
					l.Go("works", func(task *Task) {
						started <- task
						result <- task.Park("until woken")
					})
				})
			}
			tasks := []*Task{<-started, <-started}
			e.Drain(time.Now().Add(c.deadline))
			if c.want == nil {
				for _, task := range tasks {
					task.Loop().Post(task.Wake)
				}
			}
			for range tasks {
				if err := <-result; err != c.want {
					t.Errorf("task got %v, want %v", err, c.want)
				}
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			checkEmpty(t, e, 1<<20)
		})
	}
}

func TestDrainClosesListenersAndIdleConnections(t *testing.T) {
	var drained atomic.Int32
	e, err := New(Options{Loops: 2, OnDrain: func(*Loop) { drained.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- e.Run(context.Background()) }()
	ln, err := e.Listen("tcp", "127.0.0.1:0", func(_ *Loop, c *Conn) { c.OnReadable(func() {}) })
	if err != nil {
		t.Fatal(err)
	}
	c := dialTCP(t, ln)
	eventually(t, "accept", func() bool { return e.Stats().Total().Conns == 1 })
	e.Drain(time.Now().Add(20 * time.Millisecond))
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("idle connection still open")
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("listener still open")
	}
	if drained.Load() != 2 {
		t.Errorf("OnDrain ran %d times", drained.Load())
	}
	checkEmpty(t, e, 1<<20)
}

func TestRunNamesTasksThatIgnoreTheDrain(t *testing.T) {
	e, err := New(Options{DrainGrace: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	l := e.Loops()[0]
	stop := false
	l.Post(func() {
		l.Go("stubborn", func(task *Task) {
			for !stop {
				task.Park("x")
				task.cancelled = nil // what no code may do
			}
		})
	})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := e.Run(ctx); err == nil || !strings.Contains(err.Error(), "stubborn") {
		t.Errorf("run: %v", err)
	}
	stop = true
	for _, task := range l.active {
		l.resume(task)
	}
}

func TestListenRefusesATakenAddress(t *testing.T) {
	e := running(t, Options{})
	ln := serve(t, e, echo)
	if _, err := e.Listen("tcp", ln.Addr().String(), nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listener: %v", err)
	}
	if _, err := e.Listen("udp", "127.0.0.1:0", nil); err == nil {
		t.Error("udp accepted")
	}
	ln.Close()
	eventually(t, "listener to close", func() bool {
		again, err := e.Listen("tcp", ln.Addr().String(), func(_ *Loop, c *Conn) { c.Close() })
		if err == nil {
			again.Close()
		}
		return err == nil
	})
}

// scarce is a network that runs out of descriptors.
type scarce struct {
	Poller
	empty    atomic.Bool
	attempts atomic.Int32
}

func (s *scarce) Accept(fd int) (int, netip.AddrPort, error) {
	if s.empty.Load() {
		s.attempts.Add(1)
		return -1, netip.AddrPort{}, syscall.EMFILE
	}
	return s.Poller.Accept(fd)
}

func TestAcceptBacksOffWhenDescriptorsRunOut(t *testing.T) {
	var log syncBuffer
	nets := make([]*scarce, 2)
	e := running(t, Options{
		Log: slog.New(slog.NewTextHandler(&log, nil)),
		Poller: func(i int) (Poller, error) {
			p, err := newPoller()
			nets[i] = &scarce{Poller: p}
			nets[i].empty.Store(true)
			return nets[i], err
		},
	})
	ln := serve(t, e, echo)
	c := dialTCP(t, ln)
	c.Write([]byte("x"))
	eventually(t, "three pauses", func() bool { return e.Stats().Total().AcceptBackoffs >= 3 })
	total := nets[0].attempts.Load() + nets[1].attempts.Load()
	if got := uint64(total); got > e.Stats().Total().AcceptBackoffs+2 {
		t.Errorf("%d attempts: the loop spins", got)
	}
	for _, n := range nets {
		n.empty.Store(false)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Errorf("connection lost: %v", err)
	}
	if n := strings.Count(log.String(), "accepting paused"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// TestLastWordsAreBounded: the watchdog ends a process although nobody reads its
// standard error.
func TestLastWordsAreBounded(t *testing.T) {
	r, w := io.Pipe()
	lastWords(w, time.Millisecond, "nobody reads this", nil)
	var text []byte
	read := make(chan struct{})
	go func() {
		defer close(read)
		text, _ = io.ReadAll(r)
	}()
	lastWords(w, time.Minute, "first, ", []byte("second"))
	w.Close()
	<-read
	if !strings.HasSuffix(string(text), "first, second") {
		t.Errorf("said %q", text)
	}
}

func TestWatchdogNamesDumpsAndKills(t *testing.T) {
	var log syncBuffer
	killed := make(chan string, 1)
	e := running(t, Options{
		Log: slog.New(slog.NewTextHandler(&log, nil)),
		Watchdog: WatchdogOptions{
			Warn: 4 * time.Millisecond, Dump: 8 * time.Millisecond, Fatal: 30 * time.Millisecond,
			Kill: func(_ int, task string, stacks []byte) {
				if !bytes.Contains(stacks, []byte("TestWatchdogNamesDumpsAndKills")) {
					t.Error("stacks do not show the culprit")
				}
				killed <- task
			},
		},
	})
	l := e.Loops()[1]
	l.Post(func() {
		l.Go("blocks the loop", func(*Task) {
			if name := <-killed; name != "blocks the loop" {
				t.Errorf("killed for %q", name)
			}
		})
	})
	on(t, l, func(*Task) {})
	for _, want := range []string{"loop does not turn", `task="blocks the loop"`, "stacks of a loop"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q", want)
		}
	}
	if strings.Count(log.String(), "stacks of a loop") != 1 {
		t.Error("dumped more than once")
	}
	if e.Stats().Total().Stalls == 0 {
		t.Error("stall not counted")
	}
}

func TestFairness(t *testing.T) {
	e := running(t, Options{Loops: 1})
	ln := serve(t, e, func(_ *Task, c *Conn) { // a source that never waits
		b := make([]byte, 32<<10)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	c := dialTCP(t, ln)
	go func() { // reads as fast as it can
		b := make([]byte, 1<<20)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
		}
	}()
	l := e.Loops()[0]
	on(t, l, func(task *Task) {
		for range 200 { // each needs a turn of the loop: they come although the source could go on
			task.Yield()
		}
	})
	on(t, l, func(task *Task) {
		task.moved = budgetBytes
		before := l.counts.resumes
		if task.spend(); l.counts.resumes == before {
			t.Error("no yield at the end of the budget")
		}
	})
	c.Close()
}

// syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestCloseAcceptsWhatIsConnected: the kernel resets connections that wait in the queue of a
// listener when it closes, although their clients have already sent a request.
func TestCloseAcceptsWhatIsConnected(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*Engine, *Listener)
	}{
		{"listener", func(_ *Engine, ln *Listener) { ln.Close() }},
		{"drain", func(e *Engine, _ *Listener) { e.Drain(time.Now().Add(time.Minute)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, l := stepped(t, Options{})
			ln := serve(t, e, echo)
			l.Step(0)
			const clients = 100
			conns := make([]*net.TCPConn, clients)
			for i := range conns {
				conns[i] = dialTCP(t, ln)
			}
			c.end(e, ln)
			settle(l)
			if n := e.Stats().Total().Accepted; n != clients {
				t.Errorf("accepted %d of %d", n, clients)
			}
		})
	}
}
