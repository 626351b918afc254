//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Bulk is a stream without end from origin to load. Both ends avoid copying it, so
// that what is measured is the proxy: the origin sends pages of a file in memory, the
// load has the kernel drop what it receives, but for the beginning, which it checks.

const (
	bulkPeriod  = 1 << 20  // after which the content repeats
	bulkChecked = 64 << 10 // bytes at the beginning of a connection
)

// bulkContent is a file in memory.
func bulkContent() (*os.File, error) {
	fd, err := unix.MemfdCreate("bulk", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "bulk")
	_, err = f.Write(body(bulkPeriod))
	return f, err
}

// pour sends what the socket takes, for one turn; false: the connection is over.
func (o *origin) pour(c *originConn) bool {
	_, err := unix.Sendfile(c.fd, int(o.content.Fd()), &c.sent, int(bulkPeriod-c.sent))
	if err != nil && err != unix.EAGAIN && err != unix.EINTR {
		return false
	}
	c.sent %= bulkPeriod
	return true
}

// bulkReader is one connection that receives.
type bulkReader struct {
	fd  int
	got int64
}

// readBulk is a window of bulk: Requests are MiB received.
func readBulk(spec loadSpec) (loadResult, error) {
	sa, err := sockaddr(spec.Addr)
	if err != nil {
		return loadResult{}, err
	}
	poll, err := newPoller()
	if err != nil {
		return loadResult{}, err
	}
	defer poll.close()
	readers := make([]bulkReader, spec.Conns)
	for i := range readers {
		r := &readers[i]
		if r.fd, err = dialTo(sa); err != nil {
			return loadResult{}, err
		}
		defer unix.Close(r.fd)
		if err := poll.watch(unix.EPOLL_CTL_ADD, r.fd, int32(i), unix.EPOLLIN); err != nil {
			return loadResult{}, err
		}
	}
	if _, err := drainBulk(poll, readers, warmup); err != nil {
		return loadResult{}, err
	}
	before, err := spec.Watch.read()
	if err != nil {
		return loadResult{}, err
	}
	moved, err := drainBulk(poll, readers, spec.Window)
	if err != nil {
		return loadResult{}, err
	}
	after, err := spec.Watch.read()
	result := loadResult{Requests: int(moved >> 20)}
	result.CPU, result.Elapsed, result.Foreign = after.between(before, len(spec.Watch.CPUs))
	return result, err
}

func drainBulk(poll *poller, readers []bulkReader, length time.Duration) (moved int64, err error) {
	buf, want := make([]byte, bulkChecked), body(bulkPeriod)
	end, quiet := time.Now().Add(length), time.Now()
	for now := time.Now(); now.Before(end); now = time.Now() {
		events, err := poll.wait(200 * time.Millisecond)
		if err != nil {
			return moved, err
		}
		if len(events) > 0 {
			quiet = time.Now()
		} else if time.Since(quiet) > stallLimit {
			return moved, fmt.Errorf("nothing received for %v", stallLimit)
		}
		for _, e := range events {
			n, err := readers[e.Fd].receive(buf, want)
			if err != nil {
				return moved, err
			}
			moved += int64(n)
		}
	}
	return moved, nil
}

func (r *bulkReader) receive(buf, want []byte) (int, error) {
	var n int
	var err error
	checked := r.got < bulkChecked
	if checked {
		n, err = recv(r.fd, buf[:bulkChecked-r.got])
	} else {
		n, err = discard(r.fd, bulkPeriod)
	}
	switch {
	case err == unix.EAGAIN:
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("receive: %w", err)
	case n == 0:
		return 0, io.ErrUnexpectedEOF
	case checked && !bytes.Equal(buf[:n], want[r.got:r.got+int64(n)]):
		return 0, errors.New("wrong bytes received")
	}
	r.got += int64(n)
	return n, nil
}

// measureBulk takes CPU or wall time for each GiB.
func (b *bench) measureBulk(ctx context.Context, s scenario, l *line) error {
	repeat := repeater{bench: b, line: l, limit: disturbedCPU, spare: 2 * b.o.rounds}
	return b.rounds(ctx, l, b.o.rounds, func(p *proxy, subject bool) (float64, error) {
		r, err := repeat.window(ctx, b.spec(s, p, b.o.round))
		if err != nil {
			return 0, err
		}
		l.note(subject, r)
		spent := r.Elapsed
		if s.kind == bulkCPU {
			spent = r.CPU
		}
		return spent.Seconds() / (float64(r.Requests) / 1024), nil
	})
}
