//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// roleOrigin is the argument that makes this binary the origin.
const roleOrigin = "origin"

// requestLimit is the most a request may be; a proxy adds some fields to it.
const requestLimit = 8 << 10

// originAddrs is what the origin prints when it is ready.
type originAddrs struct {
	HTTP string `json:"http"`
	Echo string `json:"echo"`
	Bulk string `json:"bulk"`
	H2   string `json:"h2"`
}

// runOrigin answers GET /N with a body of N bytes, echoes on a second port,
// sends without end on a third and answers HTTP/2, gRPC among it, on a fourth, until ctx
// ends. It is the cheapest thing that keeps the contract
// (keep-alive, Content-Length, pipelining), since its CPU is the load's.
func runOrigin(ctx context.Context, out io.Writer) error {
	o, addrs, err := newOrigin()
	if err != nil {
		return fmt.Errorf("origin: %w", err)
	}
	defer o.close()
	debug.SetGCPercent(400)
	if err := json.NewEncoder(out).Encode(addrs); err != nil {
		return fmt.Errorf("origin: %w", err)
	}
	return o.serve(ctx)
}

// origin is owned by the goroutine that serves.
type origin struct {
	poll       *poller
	http, echo int // listening descriptors
	bulk, h2   int
	content    *os.File // of what is sent on bulk
	conns      map[int32]*originConn
	answers    map[int][]byte // by body size
	contents   contents       // of HTTP/2
	buf        [256 << 10]byte
}

type originConn struct {
	fd      int
	echo    bool
	bulk    bool
	h2      *h2Origin // nil where HTTP/1.1 is spoken
	sent    int64     // on bulk, offset in content
	partial []byte    // of a request
	unsent  []byte    // while not empty the connection is watched for writing only
	closing bool      // after unsent has gone
}

func newOrigin() (*origin, originAddrs, error) {
	var addrs originAddrs
	poll, err := newPoller()
	if err != nil {
		return nil, addrs, err
	}
	o := &origin{poll: poll, conns: map[int32]*originConn{}, answers: map[int][]byte{}, contents: contents{}}
	if o.http, addrs.HTTP, err = listen(); err != nil {
		return nil, addrs, err
	}
	if o.echo, addrs.Echo, err = listen(); err != nil {
		return nil, addrs, err
	}
	if o.bulk, addrs.Bulk, err = listen(); err != nil {
		return nil, addrs, err
	}
	if o.h2, addrs.H2, err = listen(); err != nil {
		return nil, addrs, err
	}
	if o.content, err = bulkContent(); err != nil {
		return nil, addrs, err
	}
	for _, fd := range []int{o.http, o.echo, o.bulk, o.h2} {
		if err := poll.watch(unix.EPOLL_CTL_ADD, fd, int32(fd), unix.EPOLLIN); err != nil {
			return nil, addrs, err
		}
	}
	return o, addrs, nil
}

func (o *origin) close() {
	for _, c := range o.conns {
		unix.Close(c.fd)
	}
	unix.Close(o.http)
	unix.Close(o.echo)
	unix.Close(o.bulk)
	unix.Close(o.h2)
	o.content.Close()
	o.poll.close()
}

func (o *origin) serve(ctx context.Context) error {
	for ctx.Err() == nil {
		events, err := o.poll.wait(200 * time.Millisecond)
		if err != nil {
			return fmt.Errorf("origin: %w", err)
		}
		for _, e := range events {
			if fd := int(e.Fd); fd == o.http || fd == o.echo || fd == o.bulk || fd == o.h2 {
				o.accept(fd)
			} else if c := o.conns[e.Fd]; c != nil && !o.ready(c) {
				delete(o.conns, e.Fd)
				unix.Close(c.fd)
			}
		}
	}
	return nil
}

func (o *origin) accept(listener int) {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			unix.Close(fd)
			continue
		}
		c := &originConn{fd: fd, echo: listener == o.echo, bulk: listener == o.bulk}
		events := uint32(unix.EPOLLIN)
		if c.bulk {
			events = unix.EPOLLOUT
		}
		if err := o.poll.watch(unix.EPOLL_CTL_ADD, fd, int32(fd), events); err != nil {
			unix.Close(fd)
			continue
		}
		if listener == o.h2 {
			c.h2 = newH2Origin(o.contents)
		}
		o.conns[int32(fd)] = c
	}
}

// ready moves one connection on; false means that it is over.
func (o *origin) ready(c *originConn) bool {
	if c.bulk {
		return o.pour(c)
	}
	if len(c.unsent) > 0 {
		return o.flush(c)
	}
	n, err := recv(c.fd, o.buf[:])
	if err == unix.EAGAIN {
		return true
	}
	if err != nil || n == 0 {
		return false
	}
	if c.echo {
		return o.write(c, o.buf[:n])
	}
	if c.h2 != nil {
		return o.feed(c, o.buf[:n])
	}
	return o.answer(c, o.buf[:n])
}

// feed is ready for HTTP/2.
func (o *origin) feed(c *originConn, data []byte) bool {
	if err := c.h2.feed(data); err != nil {
		fmt.Fprintln(os.Stderr, "origin:", err) // who started it shows the end of this
		return false
	}
	out := c.h2.out
	c.h2.out = out[:0]
	return len(out) == 0 || o.write(c, out)
}

// answer handles every complete request in data; what is left is kept.
func (o *origin) answer(c *originConn, data []byte) bool {
	if len(c.partial) > 0 {
		data = append(c.partial, data...)
		c.partial = nil
	}
	for {
		end := bytes.Index(data, []byte("\r\n\r\n"))
		if end < 0 {
			c.partial = append([]byte(nil), data...)
			return len(data) < requestLimit
		}
		head := data[:end+4]
		data = data[end+4:]
		size, ok := requestedSize(head)
		if !ok {
			return false
		}
		c.closing = bytes.Contains(head, []byte("\r\nConnection: close\r\n")) || bytes.Contains(head, []byte("\r\nconnection: close\r\n"))
		if !o.write(c, o.response(size)) || c.closing && len(c.unsent) == 0 {
			return false
		}
		if len(data) == 0 {
			return true
		}
	}
}

// requestedSize reads N from "GET /N HTTP/1.1".
func requestedSize(head []byte) (int, bool) {
	rest, ok := bytes.CutPrefix(head, []byte("GET /"))
	if !ok {
		return 0, false
	}
	digits, _, ok := bytes.Cut(rest, []byte(" "))
	size, err := strconv.Atoi(string(digits))
	return size, ok && err == nil && size >= 0 && size <= 1<<20
}

func (o *origin) response(size int) []byte {
	if r, ok := o.answers[size]; ok {
		return r
	}
	r := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", size)
	r = append(r, body(size)...)
	o.answers[size] = r
	return r
}

// body is the content of an answer: letters in order, so that a byte lost or
// doubled anywhere shows.
func body(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = 'a' + byte(i%23)
	}
	return b
}

// write sends p or keeps what the socket did not take.
func (o *origin) write(c *originConn, p []byte) bool {
	if len(c.unsent) > 0 {
		c.unsent = append(c.unsent, p...)
		return true
	}
	n, err := send(c.fd, p)
	if err != nil && err != unix.EAGAIN {
		return false
	}
	if n == len(p) {
		return true
	}
	c.unsent = append([]byte(nil), p[n:]...)
	return o.poll.watch(unix.EPOLL_CTL_MOD, c.fd, int32(c.fd), unix.EPOLLOUT) == nil
}

func (o *origin) flush(c *originConn) bool {
	n, err := send(c.fd, c.unsent)
	if err != nil && err != unix.EAGAIN {
		return false
	}
	if c.unsent = c.unsent[n:]; len(c.unsent) > 0 {
		return true
	}
	c.unsent = nil
	return !c.closing && o.poll.watch(unix.EPOLL_CTL_MOD, c.fd, int32(c.fd), unix.EPOLLIN) == nil
}
