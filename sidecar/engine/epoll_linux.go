package engine

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

// epoll is the Poller of Linux.
//
// Cost: one epoll_pwait a turn, amortised over the connections that are ready; sockets are
// registered once for both directions, so there is no epoll_ctl after Add. Polling (timeout
// 0), short waits (mayHold) and the socket calls do not enter the Go scheduler.
type epoll struct {
	sockets
	fd     int
	wakeFD int
	// released is when a wait last let the processor go.
	released time.Time
	raw      [maxEvents]syscall.EpollEvent
}

const (
	edges = syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | syscall.EPOLLPRI | edgeTriggered
	// edgeTriggered is EPOLLET; syscall has it as a negative constant.
	edgeTriggered = 1 << 31
	wakeToken     = ^uint64(0)
)

func newPoller() (Poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: create: %w", err)
	}
	w, _, errno := syscall.Syscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errno != 0 {
		syscall.Close(fd)
		return nil, fmt.Errorf("epoll: eventfd: %w", os.NewSyscallError("eventfd2", errno))
	}
	p := &epoll{fd: fd, wakeFD: int(w)}
	// Edge-triggered, each write to the eventfd is an event by itself: it is never read.
	if err := p.control(p.wakeFD, wakeToken, syscall.EPOLLIN|edgeTriggered); err != nil {
		p.Close()
		return nil, fmt.Errorf("epoll: register eventfd: %w", err)
	}
	return p, nil
}

func (p *epoll) control(fd int, token uint64, events uint32) error {
	ev := syscall.EpollEvent{Events: events, Fd: int32(uint32(token)), Pad: int32(uint32(token >> 32))}
	return syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_ADD, fd, &ev)
}

func (p *epoll) Add(fd int, token uint64) error { return p.control(fd, token, edges) }

func (p *epoll) Wait(events []Event, timeout time.Duration) (int, error) {
	ms := -1
	if timeout >= 0 {
		ms = int((timeout + time.Millisecond - 1) / time.Millisecond)
	}
	n, errno := epollWait(p.fd, p.raw[:min(len(events), maxEvents)], ms, p.mayHold(ms))
	if errno == syscall.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, errno
	}
	out := 0
	for i := range p.raw[:n] {
		raw := &p.raw[i]
		token := uint64(uint32(raw.Fd)) | uint64(uint32(raw.Pad))<<32
		if token == wakeToken {
			continue
		}
		events[out] = Event{Token: token, Ready: readyOf(raw.Events)}
		out++
	}
	return out, nil
}

// holdFor is how long a loop may keep its processor over waits before one lets it go:
// goroutines that found no other, and collections, do not wait longer. With a goroutine
// that computes beside a half-idle loop, timers came 18 ms late without it (median), 0.5
// with it.
const holdFor = 2 * time.Millisecond

// mayHold reports whether the processor may be kept over the next wait.
func (p *epoll) mayHold(ms int) bool {
	if ms == 0 {
		return false
	}
	now := time.Now()
	if now.Sub(p.released) < holdFor {
		return true
	}
	p.released = now
	return false
}

func readyOf(e uint32) Ready {
	var r Ready
	if e&syscall.EPOLLIN != 0 {
		r |= Readable
	}
	if e&syscall.EPOLLOUT != 0 {
		r |= Writable
	}
	if e&syscall.EPOLLRDHUP != 0 {
		r |= HalfClosed
	}
	if e&syscall.EPOLLHUP != 0 {
		r |= HungUp
	}
	if e&syscall.EPOLLERR != 0 {
		r |= Failed
	}
	if e&syscall.EPOLLPRI != 0 {
		r |= Urgent
	}
	return r
}

func (p *epoll) Wake() {
	one := [8]byte{1} // any small number in either byte order adds to the counter
	for {
		_, err := syscall.Write(p.wakeFD, one[:])
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EAGAIN { // the counter is full: empty it, then a write is an edge again
			var b [8]byte
			syscall.Read(p.wakeFD, b[:])
			continue
		}
		return
	}
}

func (p *epoll) Close() error {
	syscall.Close(p.wakeFD)
	return syscall.Close(p.fd)
}
