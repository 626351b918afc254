package sim

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	network "github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// session2 is a client that speaks HTTP/2, with prior knowledge, to a listener of its own
// sidecar: many legs at once on one connection, or on a few where that one takes no more
// streams. Where a connection is being ended, the next ones go over another.
type session2 struct {
	node *node
	port int
	most int // connections
	wait []*leg
	all  []*multiplexed // that still carry something
	shut bool
}

func (n *node) session2(port, most int) *session2 { return &session2{node: n, port: port, most: most} }

func (s *session2) mesh() *mesh { return s.node.mesh }

func (s *session2) send(l *leg) {
	s.wait = append(s.wait, l)
	s.room()
}

// room sends what there is room for.
func (s *session2) room() {
	for len(s.wait) > 0 {
		x := s.roomy()
		if x == nil {
			break
		}
		l := s.wait[0]
		s.wait = s.wait[1:]
		s.write(x, l)
	}
	for _, x := range slices.Clone(s.all) {
		if (x.leaving || s.shut) && len(x.lanes) == 0 && len(s.wait) == 0 {
			x.over = true
			x.peer.Close()
			s.forget(x)
		}
	}
}

// roomy is a connection that takes another stream; nil: there are as many as may be.
func (s *session2) roomy() *multiplexed {
	n := 0
	for _, x := range s.all {
		if x.leaving || x.over {
			continue
		}
		if len(x.lanes) < x.most {
			return x
		}
		n++
	}
	if n == s.most {
		return nil
	}
	return s.dial()
}

func (s *session2) forget(x *multiplexed) {
	s.all = slices.DeleteFunc(s.all, func(o *multiplexed) bool { return o == x })
}

func (s *session2) dial() *multiplexed {
	p := s.node.host.Dial(s.node.entrance(s.port))
	c := &conn2{session: s}
	c.end = s.mesh().multiplex(fmt.Sprintf("client at %s:%d", s.node.name, s.port), p, true, c)
	s.all = append(s.all, c.end)
	p.React(func(*network.Peer) { c.end.react() })
	return c.end
}

func (s *session2) write(x *multiplexed, l *leg) {
	c, m := l.call, s.mesh()
	fields := []hpack.HeaderField{
		{Name: ":method", Value: c.method}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: l.service},
		{Name: ":path", Value: fmt.Sprintf("/%s/%d", l.service, c.id)}, {Name: "x-id", Value: strconv.Itoa(c.id)},
	}
	if c.grpc {
		fields = append(fields, hpack.HeaderField{Name: "content-type", Value: "application/grpc"}, hpack.HeaderField{Name: "te", Value: "trailers"})
	}
	if c.askSize > 0 && !c.askChunked {
		fields = append(fields, hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(c.askSize)})
	}
	if c.expect && c.askSize > 0 {
		fields = append(fields, hpack.HeaderField{Name: "expect", Value: "100-continue"})
	}
	l.asked++
	if l.service == c.to {
		c.turn = m.world.Now()
	}
	c.sends[l.service]++
	lane := x.ask(fields, c.askSize == 0)
	lane.owner = l
	if c.stall > 0 && l.service == c.to {
		lane.hold(c.stall)
	}
	if c.askSize == 0 {
		return
	}
	body := m.tools.text.whole(c.askID(l.service), c.askSize)
	switch {
	case c.expect:
	case c.uploadPause > 0:
		lane.write(body[:len(body)/2], false)
		m.world.After(c.uploadPause, func() { lane.write(body[len(body)/2:], true, c.askTrailers(l.service)...) })
	default:
		lane.write(body, true, c.askTrailers(l.service)...)
	}
}

// askTrailers end a body whose length was not announced.
func (c *call) askTrailers(service string) []hpack.HeaderField {
	if !c.askChunked {
		return nil
	}
	return []hpack.HeaderField{{Name: "x-sum", Value: strconv.Itoa(c.askID(service))}}
}

// abort ends one call: its stream, or everything.
func (s *session2) abort(because *call) {
	for _, x := range slices.Clone(s.all) {
		for _, l := range slices.Clone(x.lanes) {
			if q := l.owner.(*leg); q.call == because {
				s.abandon(x, l, q)
				return
			}
		}
	}
	i := slices.IndexFunc(s.wait, func(l *leg) bool { return l.call == because })
	if i >= 0 {
		l := s.wait[i]
		s.wait = slices.Delete(s.wait, i, i+1)
		because.aborted, l.failure = true, "aborted before it was sent"
		l.done(l)
	}
}

func (s *session2) abandon(x *multiplexed, l *lane, q *leg) {
	because := q.call
	because.aborted = true
	q.failure = "aborted"
	if because.abortQuietly {
		x.reset(l, http2.ErrCodeCancel)
		q.done(q)
		s.room()
		return
	}
	x.over = true
	x.peer.Reset()
	s.forget(x)
	for _, o := range x.lanes {
		other := o.owner.(*leg)
		if other.failure = "aborted"; other.call != because {
			other.blame = because
		}
		other.done(other)
	}
	s.room()
}

// stall does nothing: each leg stalls its own stream, see write.
func (s *session2) stall(time.Duration) {}

func (s *session2) sentAll() bool { return false }
func (s *session2) closeWrite()   {}
func (s *session2) first() *leg   { return nil }

func (s *session2) leave() {
	if len(s.wait) == 0 {
		s.shut = true
		s.room()
		s.shut = false
	}
}

// die is the end of the process.
func (s *session2) die() {
	for _, x := range s.all {
		x.over = true
		x.peer.Reset()
	}
	s.all, s.wait = nil, nil
}

// conn2 is one connection of a session2.
type conn2 struct {
	session *session2
	end     *multiplexed
}

func (c *conn2) opened(*lane, *head) {}
func (c *conn2) room()               { c.session.room() }

func (c *conn2) head(l *lane, h *head) {
	q := l.owner.(*leg)
	k := q.call
	if h.status() < 200 {
		if h.status() == 100 && k.expect && !l.finish {
			l.write(c.session.mesh().tools.text.whole(k.askID(q.service), k.askSize), true, k.askTrailers(q.service)...)
		}
		return
	}
	q.answer = h
	q.proof = proof{text: c.session.mesh().tools.text, id: k.answerID(q.service), want: k.answerSize}
}

func (c *conn2) data(l *lane, s string) {
	if q := l.owner.(*leg); q.answer.fields["x-larboard-reason"] == "" {
		q.proof.take(s)
	}
}

// ended: the answer is whole. What is not sent by now nobody wants.
func (c *conn2) ended(l *lane) {
	q := l.owner.(*leg)
	q.trailers = l.got
	if !l.sent {
		c.end.reset(l, http2.ErrCodeCancel)
	}
	q.done(q)
	c.session.room()
}

func (c *conn2) reset(l *lane, code http2.ErrCode) {
	q := l.owner.(*leg)
	q.failure = fmt.Sprintf("stream reset: %v", code)
	if q.answer != nil {
		q.failure += fmt.Sprintf(" %d bytes into answer %s", q.proof.got, q.answer.second)
	}
	q.done(q)
	c.session.room()
}

// mostAsked bounds how often a client asks again for what was refused.
const mostAsked = 20

// refused: nobody has looked at it, so that it may be asked again, whatever it is.
func (c *conn2) refused(l *lane) {
	q, m := l.owner.(*leg), c.session.mesh()
	m.count("clients", "asked again after a refusal")
	if q.asked > mostAsked {
		q.failure = "refused again and again"
		q.done(q)
		return
	}
	m.world.After(10*time.Millisecond, func() { c.session.send(q) })
}

func (c *conn2) closed() {
	err := "closed"
	if e := c.end.peer.Err(); e != nil {
		err = e.Error()
	}
	c.session.forget(c.end)
	for _, l := range slices.Clone(c.end.lanes) {
		q := l.owner.(*leg)
		q.failure = "connection " + err
		if q.answer != nil {
			q.failure += fmt.Sprintf(" %d bytes into answer %s", q.proof.got, q.answer.second)
		}
		q.done(q)
	}
	c.session.room()
}
