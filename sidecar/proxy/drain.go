package proxy

import "time"

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
	for _, l := range p.loops {
		l.loop.Post(l.drain)
	}
}

// drain runs on the loop.
func (s *loopState) drain() {
	for d := s.conns.next; d != &s.conns; d = d.next {
		waiting := d.state == stateIdle || d.state == stateNew
		if waiting && d.listener.closed.Load() {
			d.wait(drainIdle)
		}
	}
}

// CloseIdle closes the pooled connections to endpoints.
func (p *Proxy) CloseIdle() {
	for _, l := range p.loops {
		l.loop.Post(l.upstream.CloseIdle)
	}
}

// Active counts the live connections of one direction.
func (p *Proxy) Active(inbound bool) int64 {
	if inbound {
		return p.inbound.Load()
	}
	return p.outbound.Load()
}

func (p *Proxy) count(d *Downstream, delta int64) {
	if d.inbound {
		p.inbound.Add(delta)
	} else {
		p.outbound.Add(delta)
	}
	p.meter.Conn(d.loop.index, d.listener.name, int(delta))
}
