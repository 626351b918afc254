package proxy

import (
	"fmt"
	"io"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/detect"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// A connection over a limit is told so at as little cost as can be: it gets no task
// and no codec. It is told once it has begun to ask, since clients take an answer
// that comes sooner for a fault, and stays until it has read it, since closing over
// bytes that nobody has read would reset it.

// turnAwayFor bounds the wait for the first byte of a request, and the wait for the
// client's end of the connection.
const turnAwayFor = 2 * time.Second

// turnedAway is such a connection. Owned by the loop.
type turnedAway struct {
	raw    *engine.Conn
	loop   *loopState
	reason policy.Reason
	conf   *ListenerConfig
	told   bool
	read   int
}

// turnAway ends c, for which there was no place: without a word where it is TCP or
// TLS, whose handshake would cost more than it is worth.
func (l *Listener) turnAway(s *loopState, c *engine.Conn, r policy.Reason) {
	l.full(s.index, c, r)
	conf := l.conf.Load()
	if conf.TLS != nil || conf.Protocol == TCP || conf.Proxied.has(c) || s.turnedAway >= l.proxy.turnedAway {
		c.Close()
		return
	}
	s.turnedAway++
	t := &turnedAway{raw: c, loop: s, reason: r, conf: conf}
	c.ReadWithin(turnAwayFor)
	t.ready()
}

// ready runs on the loop, without a task.
func (t *turnedAway) ready() {
	if t.raw.IdleExpired() || !t.drain() {
		t.loop.turnedAway--
		t.raw.Close()
		return
	}
	t.raw.OnReadable(t.ready)
}

// drain reads what has come and reports whether more may.
func (t *turnedAway) drain() bool {
	l := t.loop.loop
	b := l.Buffer(firstRead)
	defer l.Release(b)
	for t.read < lingerBytes {
		n, err := t.raw.TryRead(b)
		if n > 0 && !t.told {
			if t.conf.Protocol == Auto && detect.Of(b[:n]) != detect.HTTP1 || !t.tell(b[:n]) {
				return false
			}
		}
		t.read += n
		switch err {
		case nil:
		case engine.ErrWouldBlock:
			return true
		default:
			return false
		}
	}
	return false
}

// tell answers the request that begins with text.
func (t *turnedAway) tell(text []byte) bool {
	t.told = true
	t.raw.ReadWithin(turnAwayFor)
	t.raw.WriteWithin(turnAwayFor)
	info := t.reason.Info()
	body := string(t.conf.appendSentence(nil, info)) + "\n"
	field := ReasonHeader + ": " + info.Code + "\r\n"
	if t.conf.HideReason {
		field = ""
	}
	answer := fmt.Sprintf("HTTP/1.1 %d Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"+
		"Retry-After: 1\r\n%sContent-Length: %d\r\n\r\n", info.Status, field, len(body))
	if len(text) < 5 || string(text[:5]) != "HEAD " {
		answer += body
	}
	n, _ := io.WriteString(t.raw, answer) // a new socket has room for it
	return n == len(answer) && t.raw.CloseWrite() == nil
}
