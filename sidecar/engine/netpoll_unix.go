//go:build unix

package engine

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// netpoll is the Poller of the goroutines kind: descriptors are given to the poller of
// Go's runtime, and goroutines that wait there put what became ready into the loop's queue.
// It runs on every Unix that Go has a poller for.
//
// Cost: a goroutine for each registered connection, a poll and two hand-overs for each edge;
// a second goroutine while a write finds no room.
type netpoll struct {
	netSockets
	wake  chan struct{} // holds one: there is something to take, or Wake was called
	timer *time.Timer   // the loop's

	mu      sync.Mutex     // guards what follows
	watches map[int]*watch // by descriptor
	queue   []*watch       // with something to report, each once
}

// watch is a registered descriptor.
type watch struct {
	poller *netpoll
	file   *os.File // owns the descriptor
	raw    syscall.RawConn
	token  uint64

	// guarded by poller.mu
	ready   Ready // not yet reported
	writing bool  // a goroutine waits for room
	closed  bool
}

func newNetpoll() *netpoll {
	p := &netpoll{wake: make(chan struct{}, 1), watches: map[int]*watch{}, timer: time.NewTimer(time.Hour)}
	p.timer.Stop()
	return p
}

// acceptsAlone: SO_REUSEPORT spreads connections on Linux only, so one loop accepts for all.
func (p *netpoll) acceptsAlone() bool { return true }

// Add implements Poller. From now on the descriptor belongs to an os.File, which makes
// closing it wake whoever waits for it.
func (p *netpoll) Add(fd int, token uint64) error {
	w := &watch{poller: p, file: os.NewFile(uintptr(fd), "socket"), token: token}
	var err error
	if w.raw, err = w.file.SyscallConn(); err != nil {
		return err
	}
	p.mu.Lock()
	p.watches[fd] = w
	p.mu.Unlock()
	if level(fd)&Writable == 0 {
		p.awaitRoom(fd)
	}
	go w.watch()
	return nil
}

// watch reports what is ready now and after each further edge, until the descriptor is
// closed. The function never says that it is done: between two edges it stays in the
// runtime's wait, so none is lost.
func (w *watch) watch() {
	err := w.raw.Read(func(fd uintptr) bool {
		w.poller.report(w, level(int(fd)))
		return false
	})
	if err != nil {
		w.poller.report(w, Failed) // dropped if it was closed
	}
}

// awaitRoom reports the next moment at which fd can be written to. The loop asks for it by a
// write that found no room.
func (p *netpoll) awaitRoom(fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.watches[fd]
	if w == nil || w.writing {
		return
	}
	w.writing = true
	go w.raw.Write(func(fd uintptr) bool {
		r := level(int(fd))
		if r&(Writable|HungUp|Failed) == 0 {
			return false
		}
		p.mu.Lock()
		w.writing = false
		p.mu.Unlock()
		p.report(w, r)
		return true
	})
}

func (p *netpoll) report(w *watch, r Ready) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r == 0 || w.closed {
		return
	}
	if w.ready == 0 {
		p.queue = append(p.queue, w)
	}
	w.ready |= r
	p.Wake()
}

// Wake implements Poller.
func (p *netpoll) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Wait implements Poller. Polling gives the goroutines that watch a chance to run.
func (p *netpoll) Wait(events []Event, timeout time.Duration) (int, error) {
	n := p.take(events)
	switch {
	case n > 0:
		return n, nil
	case timeout == 0:
		runtime.Gosched()
		return p.take(events), nil
	case timeout < 0:
		<-p.wake
	default:
		p.timer.Reset(timeout)
		select {
		case <-p.wake:
			p.timer.Stop()
		case <-p.timer.C:
		}
	}
	return p.take(events), nil
}

// take moves reports into events. A wake-up that was for them is used up.
func (p *netpoll) take(events []Event) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, taken := 0, 0
	for _, w := range p.queue {
		if n == len(events) {
			break
		}
		taken++
		if !w.closed {
			events[n] = Event{Token: w.token, Ready: w.ready}
			n++
		}
		w.ready = 0
	}
	rest := copy(p.queue, p.queue[taken:])
	clear(p.queue[rest:])
	p.queue = p.queue[:rest]
	if n > 0 && rest == 0 {
		select {
		case <-p.wake:
		default:
		}
	}
	return n
}

// Write implements Sockets.
func (p *netpoll) Write(fd int, b []byte) (int, error) {
	n, err := p.netSockets.Write(fd, b)
	if blocked(err) {
		p.awaitRoom(fd)
	}
	return n, err
}

// WriteBuffers implements Sockets.
func (p *netpoll) WriteBuffers(fd int, head, body []byte) (int, error) {
	n, err := p.netSockets.WriteBuffers(fd, head, body)
	if blocked(err) {
		p.awaitRoom(fd)
	}
	return n, err
}

// ShutdownWrite implements Sockets. As with epoll it counts as an edge.
func (p *netpoll) ShutdownWrite(fd int) error {
	err := p.netSockets.ShutdownWrite(fd)
	p.awaitRoom(fd)
	return err
}

// CloseSocket implements Sockets. Those who wait for the descriptor have gone when it
// returns.
func (p *netpoll) CloseSocket(fd int, reset bool) error {
	p.mu.Lock()
	w := p.watches[fd]
	delete(p.watches, fd)
	if w != nil {
		w.closed = true
	}
	p.mu.Unlock()
	if reset {
		linger := syscall.Linger{Onoff: 1}
		syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &linger)
	}
	if w == nil {
		return syscall.Close(fd)
	}
	return w.file.Close()
}

// Close implements Poller.
func (p *netpoll) Close() error { return nil }
