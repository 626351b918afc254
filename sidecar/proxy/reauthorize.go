package proxy

import (
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Reauthorize judges every live connection again and cuts those that would be refused
// now: callers whom their listener's Authorizer denies or whose trust bundle has been
// withdrawn, and endpoints that are not whom their service expects any more. Called
// after anything that decides has changed; Apply calls it itself. Any goroutine,
// without waiting; calls while one is under way make one more pass together.
//
// Idle connections are closed, tunnels broken off, and an exchange under way is
// cancelled: its client is told why where no byte of an answer has been sent.
//
// Cost: a map look-up for each connection where no bundle has changed, in slices of
// judgeSlice, so that a loop with 10,000 connections goes on serving.
func (p *Proxy) Reauthorize() {
	for _, l := range p.loops {
		l.loop.Post(l.reauthorize)
	}
}

// A slice of work ends after so many connections or this time, whatever comes first.
const (
	judgeSlice = 256
	judgeTime  = 200 * time.Microsecond
)

// review is a loop's pass over its connections. Owned by the loop.
type review struct {
	running, again bool
	next           *Downstream
	left           int
	until          int64
}

// more reports whether the slice has room for another connection.
func (s *loopState) more() bool {
	s.review.left--
	return s.review.left >= 0 && s.proxy.engine.Nanos() < s.review.until
}

// reauthorize begins a pass. Connections that come later are judged as they come.
func (s *loopState) reauthorize() {
	if s.review.running {
		s.review.again = true
		return
	}
	s.review = review{running: true, next: s.conns.next}
	s.upstream.Review()
	s.judgeSlice()
}

func (s *loopState) judgeSlice() {
	s.review.left, s.review.until = judgeSlice, s.proxy.engine.Nanos()+int64(judgeTime)
	if !s.judgeCallers() || !s.upstream.Judge(s.more, s.deny) {
		s.loop.Post(s.judgeSlice)
		return
	}
	s.review.running = false
	if s.review.again {
		s.loop.Post(s.reauthorize)
	}
}

// judgeCallers reports whether it has come to the end of the list.
func (s *loopState) judgeCallers() bool {
	for s.review.next != &s.conns {
		if !s.more() {
			return false
		}
		d := s.review.next
		s.review.next = d.next
		if err := d.judge(d.listener.conf.Load()); err != nil {
			d.cut(err)
		}
		d.endStreams() // a reload has taken its listener away
	}
	return true
}

// judge says why the peer may not be connected any more; nil: it may, or has been cut.
func (d *Downstream) judge(conf *ListenerConfig) error {
	if d.peer == nil || d.peer.cut {
		return nil
	}
	if err := d.stillProven(conf); err != nil {
		return err
	}
	return d.authorize(conf)
}

// stillProven asks the trust bundles in force.
func (d *Downstream) stillProven(conf *ListenerConfig) error {
	if d.peer == nil || conf.TLS == nil {
		return nil
	}
	material, err := conf.TLS()
	if err != nil || material.Identity == nil {
		return err
	}
	return d.peer.proof.Holds(material.Identity)
}

// cut ends the connection for err, a *policy.Error. A task that serves it ends its
// exchange with that reason.
func (d *Downstream) cut(err error) {
	p := d.loop.proxy
	p.meter.Cut(d.loop.index, d.listener.name, policy.ReasonOf(err))
	p.refusals.log("connection cut", d.listener.name, err, "listener", d.listener.name, "client", d.clientName())
	p.witness(d, err)
	switch d.state {
	case stateIdle:
		d.close()
		return
	case stateStreams:
		d.peer.cut = true
		d.streams.sever(err)
		return
	}
	d.peer.cut = true
	d.peer.task.Cancel(err)
}

// deny tells of a connection to an endpoint that has been cut.
func (s *loopState) deny(c *upstream.Conn, service string, err error) {
	s.proxy.refusals.log("endpoint refused", c.Endpoint.Address, err, "service", service, "endpoint", c.Endpoint.Address)
}

// servedBy notes the task that serves the connection from now on, where somebody has
// proven himself there: Reauthorize may end it.
func (d *Downstream) servedBy(t *engine.Task) {
	if d.peer != nil {
		d.peer.task = t.Ref()
	}
}
