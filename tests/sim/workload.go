package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	network "github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// workload is the application of one instance: it answers what its calls' plans say, and
// asks c where they say so. It dies and comes back without its sidecar.
type workload struct {
	node   *node
	dead   bool
	ports  []*network.Server
	conns  []*serving
	pool   []*session // idle, towards c
	muxes  []*served2
	onward *session2 // towards c, where the workloads speak HTTP/2
}

func (n *node) startWorkload() {
	w := &workload{node: n}
	if n.mesh.plan.http2 && n.mesh.random.IntN(2) == 0 {
		w.onward = n.session2(callC, 1000)
	}
	n.work = w
	w.ports = append(w.ports, n.host.Serve(fmt.Sprintf("127.0.0.1:%d", workloadPort), func(p *network.Peer) { w.reactTo(p) }))
	w.ports = append(w.ports, n.host.Serve(fmt.Sprintf("127.0.0.1:%d", workloadTCP), func(p *network.Peer) { w.tunnelled(p) }))
}

// die is the end of the process: everything that it has open is reset.
func (w *workload) die() {
	w.dead = true
	for _, p := range w.ports {
		p.Close()
		for _, c := range p.Peers() {
			c.Reset()
		}
	}
	for _, s := range w.pool {
		s.leave()
	}
	for _, s := range w.muxes {
		s.end.over = true
	}
	if w.onward != nil {
		w.onward.die()
	}
	w.conns, w.pool, w.muxes = nil, nil, nil
}

// reactTo is whatever happens on a connection from the sidecar.
func (w *workload) reactTo(p *network.Peer) {
	for _, s := range w.muxes {
		if s.end.peer == p {
			s.end.react()
			return
		}
	}
	for _, s := range w.conns {
		if s.peer == p {
			s.react()
			return
		}
	}
	yes, known := speaks2(p.Got())
	switch {
	case !known && !p.Over():
	case yes && known:
		s := w.serve2(p)
		w.muxes = append(w.muxes, s)
		s.end.react()
	default:
		w.serving(p).react()
	}
}

// serving is one connection from the sidecar.
type serving struct {
	work   *workload
	peer   *network.Peer
	reader reader
	call   *call // whose request is being served
	proof  proof
	got    bool // the whole request
	said   bool // the whole answer
	tunnel *tunnel
}

func (w *workload) serving(p *network.Peer) *serving {
	for _, s := range w.conns {
		if s.peer == p {
			return s
		}
	}
	s := &serving{work: w, peer: p}
	s.reader = reader{head: s.head, body: s.body, end: s.end}
	w.conns = append(w.conns, s)
	return s
}

func (s *serving) mesh() *mesh { return s.work.node.mesh }

func (s *serving) react() {
	s.reader.take(s.peer.Take())
	if s.reader.err != nil {
		s.mesh().violate("%s: a request that is none: %v", s.work.node.name, s.reader.err)
	}
	if s.peer.Over() {
		if s.peer.Ended() {
			s.reader.ended()
		}
		if s.tunnel == nil || s.tunnel.over() {
			s.close()
		}
	}
}

func (s *serving) close() {
	s.peer.Close()
	s.work.conns = slices.DeleteFunc(s.work.conns, func(o *serving) bool { return o == s })
}

func (s *serving) head(h *head) framing {
	m, n := s.mesh(), s.work.node
	service, id, _ := strings.Cut(strings.TrimPrefix(h.second, "/"), "/")
	i, err := strconv.Atoi(id)
	if err != nil || i >= len(m.calls) || service != n.service || h.fields["x-id"] != id {
		m.violate("%s: a request of nobody: %v", n.name, h)
		return bodiless
	}
	if s.call != nil {
		m.violate("%s: request %d on a connection that still serves %d", n.name, i, s.call.id)
	}
	c := m.calls[i]
	s.call, s.got, s.said = c, false, false
	s.proof = proof{text: m.tools.text, id: c.askID(service), want: c.askSize}
	m.executed(n, c)
	switch {
	case s.strikes(resetAtHead):
		s.peer.Reset()
	case s.strikes(earlyAnswer):
		s.answer("", 200)
	}
	if c.kind == upgrade {
		m.world.After(c.serveDelay, func() { s.switchProtocols(h) })
		return unframed
	}
	if c.expect && h.has("expect", "100-continue") {
		m.world.After(c.serveDelay/2, func() {
			if s.call == c && !s.said { // nothing comes behind an answer
				s.peer.Send("HTTP/1.1 100 Continue\r\n\r\n")
			}
		})
	}
	return byFields
}

// strikes reports whether the call's mishap is x, and here and now.
func (s *serving) strikes(x mishap) bool {
	return s.call.mishap == x && s.call.mishapAt == s.work.node.service && s.call.ran[s.call.mishapAt] == 1
}

func (s *serving) body(text string) {
	if s.tunnel != nil {
		s.tunnel.proof.take(text)
		return
	}
	s.proof.take(text)
}

// end is the end of the request (or of the client's direction of a tunnel).
func (s *serving) end() {
	c, m := s.call, s.mesh()
	if s.tunnel != nil {
		s.tunnel.end()
		return
	}
	if c == nil || c.kind == upgrade {
		return
	}
	if !s.proof.whole() {
		m.violate("%s: request %d came as %d of %d bytes, wrong %v", s.work.node.name, c.id, s.proof.got, s.proof.want, s.proof.wrong)
	}
	c.checkTrailers(m, s.work.node.service, s.reader.trailers)
	s.got = true
	switch {
	case s.said || s.strikes(earlyAnswer):
		s.free()
	case s.strikes(closeAtEnd):
		s.close()
	case s.strikes(garbage):
		s.peer.Send("nonsense\r\n\r\n")
	case s.strikes(silent):
	default:
		if s.strikes(continueFirst) {
			s.peer.Send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
		}
		m.world.After(c.serveDelay, s.serve)
	}
}

// free makes the connection ready for the next request.
func (s *serving) free() {
	if s.got && s.said {
		s.call = nil
	}
}

// serve answers, after c has where the call goes on.
func (s *serving) serve() {
	if s.work.dead {
		return
	}
	switch {
	case s.strikes(errorFirst):
		s.answer(s.work.node.name, 503)
		return
	case !s.call.viaC || s.work.node.service != serviceB:
		s.answer(s.work.node.name, 200)
		return
	}
	s.work.askC(s.call, func(status int) { s.answer(s.work.node.name, status) })
}

// askC asks c what it says to a call, and answers with a status.
func (w *workload) askC(c *call, answer func(status int)) {
	m := w.node.mesh
	ask := &leg{call: c, service: serviceC}
	var session *session
	if w.onward == nil && !c.grpc {
		session = w.session()
	}
	ask.done = func(l *leg) {
		if w.dead {
			return
		}
		if l.mispaired() {
			m.violate("%s: %v was answered with %v", w.node.name, l.call, l.answer)
		}
		m.leg(l)
		status := 200
		if why := l.verdict(); why != "" {
			m.log("%s: call %d failed at c: %s", w.node.name, l.call.id, why)
			status = 502
		}
		if session != nil {
			w.pool = append(w.pool, session)
		}
		answer(status)
	}
	if session != nil {
		session.send(ask)
		return
	}
	if w.onward == nil {
		w.onward = w.node.session2(callC, 1000)
	}
	w.onward.send(ask)
}

// session is an idle one, young enough that its listener does not give it up.
func (w *workload) session() *session {
	now := w.node.mesh.world.Now()
	for len(w.pool) > 0 {
		s := w.pool[len(w.pool)-1]
		w.pool = w.pool[:len(w.pool)-1]
		if now.Sub(s.used) < time.Second {
			return s
		}
		s.leave()
	}
	return w.node.session(callC)
}

// answer says the whole answer, or what a mishap makes of it.
func (s *serving) answer(hops string, status int) {
	c, m := s.call, s.mesh()
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d Said\r\nX-Id: %d\r\nX-Hops: %s\r\n", status, c.id, hops)
	fields, body := m.tools.text.framed(c.answerID(s.work.node.service), c.answerSize, c.answerChunked)
	if c.answerUntilClose {
		fields, body = "Connection: close\r\n", m.tools.text.whole(c.answerID(s.work.node.service), c.answerSize)
	}
	ends := c.answerUntilClose || s.strikes(closeAfter)
	if ends && !c.answerUntilClose {
		b.WriteString("Connection: close\r\n")
	}
	if c.method == "HEAD" {
		body = ""
	}
	b.WriteString(fields + "\r\n")
	if s.strikes(breakOff) {
		s.peer.Send(b.String() + body[:len(body)/2])
		m.world.After(20*time.Millisecond, s.peer.Reset)
		return
	}
	s.peer.Send(b.String() + body)
	unasked := s.strikes(closeUnasked)
	s.said = true
	s.free()
	switch {
	case ends:
		s.peer.CloseWrite()
	case unasked:
		m.fault(fault{kind: "workload closes a kept connection", parts: partOf(s.work.node.service), until: m.world.Now().Add(settling)})
		s.peer.CloseWrite()
	}
}

func (s *serving) switchProtocols(h *head) {
	if s.peer.Over() || !h.has("connection", "upgrade") {
		return
	}
	c := s.call
	s.peer.Send(fmt.Sprintf("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: sim\r\nX-Id: %d\r\n\r\n", c.id))
	s.tunnel = s.mesh().tunnel(c, s.peer, false)
	s.tunnel.begin()
}

// tunnelled serves a TCP connection, which names its call in the first line.
func (w *workload) tunnelled(p *network.Peer) {
	for _, s := range w.conns {
		if s.peer == p {
			s.pass()
			return
		}
	}
	line, rest, ok := strings.Cut(p.Got(), "\n")
	if !ok {
		if p.Over() {
			p.Close()
		}
		return
	}
	p.Take()
	m := w.node.mesh
	id, err := strconv.Atoi(strings.TrimPrefix(line, "call "))
	if err != nil || id >= len(m.calls) || m.calls[id].kind != raw {
		m.violate("%s: a tunnel of nobody: %q", w.node.name, line)
		return
	}
	c := m.calls[id]
	m.executed(w.node, c)
	s := &serving{work: w, peer: p, call: c, tunnel: m.tunnel(c, p, false)}
	w.conns = append(w.conns, s)
	s.tunnel.proof.take(rest)
	s.tunnel.begin()
	s.pass()
}

// pass takes what has arrived in a TCP tunnel.
func (s *serving) pass() {
	s.tunnel.proof.take(s.peer.Take())
	if s.peer.Ended() {
		s.tunnel.end()
	}
	if s.peer.Over() && s.tunnel.over() {
		s.close()
	}
}
