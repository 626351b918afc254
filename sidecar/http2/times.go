package http2

import (
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// times are the deadlines of a connection, in the loop's nanoseconds; 0: none. One timer serves
// them all: it is set to the earliest that it was told of, and looks around when it comes up. So
// moving one is a store.
type times struct {
	timer *engine.Timer
	tickF func()
	armed int64

	heard    int64  // when something came last; not a deadline
	sent     uint64 // what the socket had taken when the stall was last looked at
	head     int64  // preface and SETTINGS of the peer
	block    int64  // the header block under way
	frame    int64  // the rest of a frame that is not DATA
	settings int64  // the acknowledgement of ours
	idle     int64  // no stream
	stall    int64  // the peer takes nothing
	ping     int64  // when to ask for a sign of life
	pong     int64  // when it must be here
	drain    int64  // the second GOAWAY
	linger   int64  // the end of reading what nobody wants
}

// within is the deadline d from now, none where d is none.
func (t *times) within(d time.Duration, now int64) int64 {
	if d <= 0 {
		return 0
	}
	return now + int64(d)
}

// stop takes back all deadlines.
func (t *times) stop() { *t = times{timer: t.timer, tickF: t.tickF, armed: t.armed} }

// arm makes tick come at the given time, or before.
func (c *conn) arm(at int64) {
	t := &c.times
	if at == 0 || t.armed != 0 && t.armed <= at || c.end.closed {
		return
	}
	t.armed = at
	t.timer.Arm(time.Duration(at-c.now()), t.tickF)
}

// tick is called when a deadline may have passed.
func (c *conn) tick() {
	t, now := &c.times, c.now()
	t.armed = 0
	c.expire(now)
	for _, at := range [...]int64{t.head, t.block, t.frame, t.settings, t.idle, t.stall, t.ping, t.pong, t.drain, t.linger} {
		c.arm(at)
	}
}

func due(at, now int64) bool { return at != 0 && at <= now }

func (c *conn) expire(now int64) {
	t := &c.times
	switch {
	case due(t.linger, now):
		c.closeTransport()
	case due(t.head, now), due(t.block, now), due(t.frame, now):
		c.fatal(codeNone, c.reason(policy.RequestTimeout, policy.UpstreamTimeout), "a head that is not complete in time")
	case due(t.settings, now):
		c.fatal(codeSettingsTimeout, c.reason(policy.HTTP2Protocol, policy.UpstreamProtocol), "SETTINGS are not acknowledged")
	case due(t.stall, now):
		c.stallOver(now)
	case due(t.pong, now):
		c.fatal(codeNone, c.reason(policy.HTTP2PingTimeout, policy.UpstreamTimeout), "no answer to PING")
	case due(t.drain, now):
		c.drainAnswered()
	case due(t.idle, now) && c.live == 0:
		t.idle = 0
		c.side.idled()
	}
	if due(t.ping, now) && !c.end.dead {
		c.askAlive(now)
	}
}

// stalls begins to watch a peer whose socket takes no more.
func (c *conn) stalls() {
	c.times.sent = c.t.Conn().BytesOut()
	c.times.stall = c.times.within(c.o.StallTimeout, c.now())
	c.arm(c.times.stall)
}

// stallOver ends a connection that has taken nothing since it was looked at last, so after the
// stall time at least and twice that at most.
func (c *conn) stallOver(now int64) {
	if c.blocked && c.t.Conn().BytesOut() == c.times.sent {
		c.die(c.reason(policy.HTTP2Stalled, policy.UpstreamTimeout), violation("the peer takes nothing"))
		c.closeTransport()
		return
	}
	c.times.stall = 0
	if c.blocked {
		c.stalls()
	}
}

// askAlive sends a PING if nothing was heard for the interval.
func (c *conn) askAlive(now int64) {
	t := &c.times
	if at := t.heard + int64(c.o.PingInterval); at > now || t.pong != 0 {
		t.ping = max(at, now+1)
		if t.pong != 0 {
			t.ping = now + int64(c.o.PingInterval)
		}
		return
	}
	c.ping(pingAlive)
	t.pong = t.within(c.o.PingTimeout, now)
	t.ping = now + int64(c.o.PingInterval)
}
