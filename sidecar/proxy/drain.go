package proxy

import (
	"sync/atomic"
	"time"
)

// drainIdle is how long a connection that waits for its next request may go on
// waiting once its listener drains: long enough for a busy client to send it and
// be told of the close, so that its next request never meets a closed connection.
const drainIdle = 2 * time.Second

// Drain stops the listeners of one direction and lets what is under way end: each
// further answer announces the close of its connection, and connections that stay
// silent are closed after a while. It returns at once; Active tells when all is
// over, the engine's Drain what happens to the rest.
func (p *Proxy) Drain(inbound bool) {
	for _, l := range p.Listeners() {
		if l.conf.Load().Inbound == inbound {
			l.close()
		}
	}
	p.onEachLoop(inbound, func(l *loopState) {
		l.drain()
		p.onEachLoop(inbound, func(*loopState) {}) // a loop may have given a connection to another
	})
}

// onEachLoop runs f on each loop. Active counts the loops that have not come to it:
// they may be about to accept connections that the kernel has accepted already.
func (p *Proxy) onEachLoop(inbound bool, f func(*loopState)) {
	active := p.active(inbound)
	for _, l := range p.loops {
		active.Add(1)
		l.loop.Post(func() {
			f(l)
			active.Add(-1)
		})
	}
}

// drain runs on the loop.
func (s *loopState) drain() {
	for d := s.conns.next; d != &s.conns; d = d.next {
		waiting := d.state == stateIdle || d.state == stateNew
		if waiting && d.listener.closed.Load() {
			d.wait(drainIdle)
		}
		d.endStreams()
	}
}

// CloseIdle closes the pooled connections to endpoints.
func (p *Proxy) CloseIdle() {
	for _, l := range p.loops {
		l.loop.Post(l.upstream.CloseIdle)
	}
}

// Active counts the live connections of one direction; in a drain it is zero only
// when none can come any more.
func (p *Proxy) Active(inbound bool) int64 { return p.active(inbound).Load() }

func (p *Proxy) active(inbound bool) *atomic.Int64 {
	if inbound {
		return &p.inbound
	}
	return &p.outbound
}

func (p *Proxy) count(d *Downstream, delta int64) {
	p.active(d.inbound).Add(delta)
	p.meter.Conn(d.loop.index, d.listener.name, int(delta))
}
