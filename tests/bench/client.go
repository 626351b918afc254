//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

var headEnd = []byte("\r\n\r\n")

// client is one connection of a generator and the exchange under way on it.
type client struct {
	fd     int
	secure *tls.Conn  // nil for plain
	socket *tlsSocket // under secure

	due    time.Time // of the exchange under way
	http   bool
	head   []byte // an incomplete response head, rarely
	inBody bool
	want   []byte // the body or echo expected
	got    int    // bytes of want seen
	done   bool   // answered; a NewConn client now waits for the end
}

// open connects, with the TLS handshake where config is set. It blocks.
func open(sa *unix.SockaddrInet4, config *tls.Config) (*client, error) {
	fd, err := dialTo(sa)
	if err != nil {
		return nil, err
	}
	c := &client{fd: fd}
	if config == nil {
		return c, nil
	}
	c.socket = &tlsSocket{fd: fd, blocking: true}
	c.secure = tls.Client(c.socket, config)
	if err := c.secure.Handshake(); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("handshake: %w", err)
	}
	c.socket.blocking = false
	return c, nil
}

// send starts an exchange. The messages are far smaller than a socket buffer:
// a short write is an error.
func (c *client) send(message, want []byte, due time.Time) error {
	c.due, c.want = due, want
	c.got, c.inBody, c.done = 0, !c.http, false
	var n int
	var err error
	if c.secure != nil {
		n, err = c.secure.Write(message)
	} else {
		n, err = send(c.fd, message)
	}
	if err == nil && n < len(message) {
		err = io.ErrShortWrite
	}
	return err
}

// receive reads what is there. It returns true when the exchange is complete,
// io.EOF at the end of the connection, and an error for any byte that differs
// from what was expected.
func (c *client) receive(buf []byte) (complete bool, err error) {
	for {
		n, err := c.read(buf)
		if errors.Is(err, errAgain) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		complete, err := c.feed(buf[:n])
		// A TLS connection may hold further records that epoll does not show.
		if err != nil || complete || c.secure == nil {
			return complete, err
		}
	}
}

func (c *client) read(buf []byte) (int, error) {
	if c.secure != nil {
		return c.secure.Read(buf)
	}
	n, err := recv(c.fd, buf)
	if err == nil && n == 0 {
		return 0, io.EOF
	}
	if err == unix.EAGAIN {
		return 0, errAgain
	}
	return n, err
}

func (c *client) feed(p []byte) (complete bool, err error) {
	if c.done {
		return false, fmt.Errorf("%d bytes after the answer", len(p))
	}
	if !c.inBody {
		if p, err = c.feedHead(p); p == nil || err != nil {
			return false, err
		}
	}
	if len(p) > len(c.want)-c.got || !bytes.Equal(p, c.want[c.got:c.got+len(p)]) {
		return false, fmt.Errorf("wrong body at byte %d", c.got)
	}
	c.got += len(p)
	c.done = c.got == len(c.want)
	return c.done, nil
}

// feedHead returns what follows the head, not nil, once the head is complete.
func (c *client) feedHead(p []byte) ([]byte, error) {
	if len(c.head) > 0 {
		p = append(c.head, p...)
		c.head = nil
	}
	end := bytes.Index(p, headEnd)
	if end < 0 {
		c.head = append([]byte(nil), p...)
		if len(p) > requestLimit {
			return nil, errors.New("response head without an end")
		}
		return nil, nil
	}
	size, err := contentLength(p[:end+2])
	if err == nil && size != len(c.want) {
		err = fmt.Errorf("content length %d, want %d", size, len(c.want))
	}
	c.inBody = true
	return p[end+len(headEnd):], err
}

// contentLength judges a response head of the one form this origin sends.
func contentLength(head []byte) (int, error) {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		return 0, fmt.Errorf("status line %q", line)
	}
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if ok && len(name) == len("content-length") && bytes.EqualFold(name, []byte("content-length")) {
			return strconv.Atoi(string(bytes.TrimSpace(value)))
		}
	}
	return 0, errors.New("no content length")
}

// alive reports whether the peer has kept the connection open.
func (c *client) alive() bool {
	var b [1]byte
	n, _, err := unix.Recvfrom(c.fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err == unix.EAGAIN || err == nil && n > 0 && c.secure != nil
}

func (c *client) close() { unix.Close(c.fd) }

// tlsSocket is the net.Conn under a client's crypto/tls. After the handshake
// its Read returns errAgain where it would wait: crypto/tls keeps a partial
// record across a temporary net.Error, so one thread can serve many
// connections. That holds after the handshake only.
type tlsSocket struct {
	fd       int
	blocking bool
}

func (s *tlsSocket) Read(p []byte) (int, error) {
	var n int
	var err error
	if s.blocking {
		for n, err = unix.Read(s.fd, p); err == unix.EINTR; {
			n, err = unix.Read(s.fd, p)
		}
	} else {
		n, err = recv(s.fd, p)
	}
	switch {
	case err == unix.EAGAIN:
		return 0, errAgain
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func (s *tlsSocket) Write(p []byte) (int, error)      { return send(s.fd, p) }
func (s *tlsSocket) Close() error                     { return unix.Close(s.fd) }
func (s *tlsSocket) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *tlsSocket) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *tlsSocket) SetDeadline(time.Time) error      { return nil }
func (s *tlsSocket) SetReadDeadline(time.Time) error  { return nil }
func (s *tlsSocket) SetWriteDeadline(time.Time) error { return nil }

// errAgain is "nothing there now" as crypto/tls wants to hear it.
var errAgain net.Error = again{}

type again struct{}

func (again) Error() string   { return "nothing to read now" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }
