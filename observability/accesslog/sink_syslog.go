package accesslog

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	// sendWithin bounds one write to a syslog server, and reaching it: so long the goroutine
	// that writes may hang at most, and no other.
	sendWithin = 500 * time.Millisecond
	// stalledFor is how long a server may take nothing before another connection is tried.
	stalledFor = 30 * time.Second
	// The waits between attempts to reach a server; each is twice the last.
	firstWait, longestWait = 100 * time.Millisecond, 10 * time.Second
	// batchBytes is what a stream is given at once.
	batchBytes = 32 << 10
	// renewAfter is how old a socket for datagrams to a name may become: the name may mean
	// another address by then.
	renewAfter = time.Minute
)

// errWaiting: the next attempt to reach the server is not due yet.
var errWaiting = errors.New("waiting to connect again")

// syslogSink sends each line as a message. The lines bear their syslog header already
// (syslogHead), so that they are whole in the ring.
type syslogSink struct {
	o     SyslogOptions
	tally *tally
	dial  func(network, address string) (net.Conn, error)

	conn   net.Conn // nil: none
	stream bool     // conn is one of bytes
	since  time.Time
	refuse bool // a datagram of the batch under way was refused
	// retryAt is when the next attempt is due, wait how long it will be to the one after, and
	// last why it is needed.
	retryAt time.Time
	wait    time.Duration
	last    error

	// What a stream is being given: messages with their framing, where each ends, how much
	// is sent, and how many messages that was.
	out     []byte
	ends    []int
	sent    int
	whole   int
	stalled time.Time // since when the server takes nothing; zero: it does
}

func newSyslogSink(o SyslogOptions, t *tally) *syslogSink {
	dialer := net.Dialer{Timeout: sendWithin}
	return &syslogSink{o: o, tally: t, dial: dialer.Dial, wait: firstWait}
}

// tend sends what a stream still holds.
func (s *syslogSink) tend(now time.Time) error {
	if len(s.out) == 0 {
		return nil
	}
	if err := s.connect(now); err != nil {
		return err
	}
	return s.drain(now)
}

func (s *syslogSink) write(p []byte, now time.Time) (taken int, err error) {
	if err := s.connect(now); err != nil {
		return 0, err
	}
	if !s.stream {
		return s.datagrams(p, now)
	}
	for taken < len(p) {
		taken += s.fill(p[taken:])
		if err := s.drain(now); err != nil {
			return taken, err
		}
	}
	return taken, nil
}

// connect reaches the server, unless it is reached or the time for that has not come.
func (s *syslogSink) connect(now time.Time) error {
	if s.conn != nil && !s.stream && s.o.Network == "udp" && now.Sub(s.since) > renewAfter {
		s.drop()
	}
	if s.conn != nil {
		return nil
	}
	if now.Before(s.retryAt) {
		return errors.Join(errWaiting, s.last)
	}
	network := s.o.Network
	if network == "unix" {
		network = "unixgram" // what syslog daemons offer; some, a stream
	}
	conn, err := s.dial(network, s.o.Address)
	if errors.Is(err, syscall.EPROTOTYPE) {
		network = "unix"
		conn, err = s.dial(network, s.o.Address)
	}
	if err != nil {
		return s.broken(err, now)
	}
	s.conn, s.stream, s.since = conn, network == "tcp" || network == "unix", now
	s.stalled = time.Time{}
	return nil
}

// drop ends the connection. Of a message that was sent in part, all is sent again.
func (s *syslogSink) drop() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	s.sent = 0
	if s.whole > 0 {
		s.sent = s.ends[s.whole-1]
	}
}

// broken ends the connection after an error and says when the next one is due.
func (s *syslogSink) broken(err error, now time.Time) error {
	s.drop()
	s.retryAt, s.last = now.Add(s.wait), err
	s.wait = min(2*s.wait, longestWait)
	return err
}

// fill frames lines of p, which are whole, into out, and returns how much of p that was.
func (s *syslogSink) fill(p []byte) (taken int) {
	for len(s.out) < batchBytes {
		n := bytes.IndexByte(p[taken:], '\n')
		if n < 0 {
			break
		}
		if s.o.OctetCounting {
			s.out = append(strconv.AppendInt(s.out, int64(n), 10), ' ')
			s.out = append(s.out, p[taken:taken+n]...)
		} else {
			s.out = append(s.out, p[taken:taken+n+1]...)
		}
		s.ends = append(s.ends, len(s.out))
		taken += n + 1
	}
	return taken
}

// drain sends what is in out.
func (s *syslogSink) drain(now time.Time) error {
	if hungUp(s.conn) {
		return s.broken(errors.New("the server has closed the connection"), now)
	}
	// A clock of its own: the time that is passed in stands still while a batch waits.
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendWithin)); err != nil {
		return s.broken(err, now)
	}
	n, err := s.conn.Write(s.out[s.sent:])
	s.sent += n
	for s.whole < len(s.ends) && s.ends[s.whole] <= s.sent {
		s.whole++
		s.tally.written.Add(1)
	}
	switch {
	case err == nil:
		s.out, s.ends, s.sent, s.whole = s.out[:0], s.ends[:0], 0, 0
		s.stalled, s.wait = time.Time{}, firstWait
		return nil
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return s.broken(err, now)
	case n > 0 || s.stalled.IsZero():
		s.stalled = now
	case now.Sub(s.stalled) > stalledFor:
		return s.broken(err, now)
	}
	return err
}

// datagrams sends each line as one.
func (s *syslogSink) datagrams(p []byte, now time.Time) (taken int, err error) {
	s.refuse = false
	for taken < len(p) {
		n := bytes.IndexByte(p[taken:], '\n')
		sent, err := s.datagram(p[taken : taken+n])
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, syscall.ENOBUFS) {
				err = s.broken(err, now)
			}
			return taken, err
		}
		if sent {
			s.tally.written.Add(1)
		} else {
			s.tally.failed.Add(1)
		}
		taken += n + 1
	}
	if s.refuse {
		return taken, syscall.ECONNREFUSED
	}
	s.wait = firstWait
	return taken, nil
}

// datagram sends one line. Where it never can be, for its size, sent is false.
func (s *syslogSink) datagram(line []byte) (sent bool, err error) {
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendWithin)); err != nil {
		return false, err
	}
	_, err = s.conn.Write(line)
	if s.o.Network == "udp" && errors.Is(err, syscall.ECONNREFUSED) {
		// That is about a datagram before this one, of which nothing else is known.
		s.refuse = true
		s.tally.failed.Add(1)
		s.tally.written.Add(^uint64(0))
		_, err = s.conn.Write(line)
	}
	if errors.Is(err, syscall.EMSGSIZE) {
		return false, nil
	}
	return err == nil, err
}

func (s *syslogSink) close() {
	s.drop()
	s.tally.failed.Add(uint64(len(s.ends) - s.whole))
}

// hungUp reports whether the other end has closed a connection, which a write would
// learn too late: the first one after that still succeeds, and its bytes are lost.
func hungUp(conn net.Conn) bool {
	raw, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := raw.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = rc.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = n == 0 && err == nil || errors.Is(err, syscall.ECONNRESET)
	})
	return gone || err != nil
}
