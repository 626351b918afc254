package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	network "github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// leg is one request of a call to one service, as the client of that hop sees it.
type leg struct {
	call    *call
	service string
	done    func(*leg)

	asked    int // times
	answer   *head
	trailers map[string]string
	proof    proof
	failure  string // empty: the whole answer has come
	blame    *call  // whose failure took this one along
}

// session is a client's connection to a listener of its own sidecar, opened when something
// is to be sent and after each close. Its legs are answered in their order.
type session struct {
	node   *node
	port   int
	peer   *network.Peer
	reader reader
	queue  []*leg // sent and not answered
	said   bool   // the last answer announced the close
	used   time.Time
	wrote  time.Time // when something was last asked before what is in the queue now
	last   time.Time // when something was last asked
	shut   bool      // the outgoing direction ends behind what was sent
}

func (n *node) session(port int) *session { return &session{node: n, port: port} }

func (s *session) mesh() *mesh { return s.node.mesh }

// send asks. The session dials if it has no connection.
func (s *session) send(l *leg) {
	if len(s.queue) == 0 {
		s.wrote = s.last
	}
	s.last = s.mesh().world.Now()
	s.queue = append(s.queue, l)
	l.call.sends[l.service]++
	if s.peer == nil {
		s.dial()
	}
	s.write(l)
}

func (s *session) dial() {
	s.said = false
	s.reader = reader{head: s.head, body: s.body, end: s.end}
	s.peer = s.node.host.Dial(s.node.entrance(s.port))
	s.peer.React(s.react)
}

func (s *session) write(l *leg) {
	c, m := l.call, s.mesh()
	var b strings.Builder
	fmt.Fprintf(&b, "%s /%s/%d HTTP/1.1\r\nHost: %s\r\nX-Id: %d\r\n", c.method, l.service, c.id, l.service, c.id)
	body := ""
	if c.askSize > 0 {
		var fields string
		fields, body = m.tools.text.framed(c.askID(l.service), c.askSize, c.askChunked)
		b.WriteString(fields)
	}
	if c.expect && body != "" {
		b.WriteString("Expect: 100-continue\r\n")
	}
	b.WriteString("\r\n")
	switch peer := s.peer; {
	case c.expect && body != "": // sent when it is asked for
		peer.Send(b.String())
	case c.uploadPause > 0 && len(body) > 1:
		peer.Send(b.String() + body[:len(body)/2])
		m.world.After(c.uploadPause, func() { peer.Send(body[len(body)/2:]) })
	default:
		peer.Send(b.String() + body)
	}
}

func (s *session) stall(d time.Duration) {
	if peer := s.peer; peer != nil {
		peer.Stall()
		s.mesh().world.After(d, peer.Resume)
	}
}

func (s *session) first() *leg {
	if len(s.queue) == 0 {
		return nil
	}
	return s.queue[0]
}

func (s *session) closeWrite() {
	s.shut = true
	s.peer.CloseWrite()
}

// sentAll reports that something is to be answered and nothing more to be sent.
func (s *session) sentAll() bool {
	later := func(l *leg) bool { return l.call.expect || l.call.uploadPause > 0 }
	return s.peer != nil && len(s.queue) > 0 && !slices.ContainsFunc(s.queue, later)
}

// grant sends the body that waited for 100.
func (s *session) grant(l *leg) {
	_, body := s.mesh().tools.text.framed(l.call.askID(l.service), l.call.askSize, l.call.askChunked)
	s.peer.Send(body)
}

func (s *session) react(p *network.Peer) {
	if p != s.peer {
		return
	}
	s.reader.take(p.Take())
	if s.peer != p || !p.Over() {
		return
	}
	if p.Ended() {
		s.reader.ended()
	}
	if s.peer == p {
		s.closed(p)
	}
}

func (s *session) head(h *head) framing {
	if len(s.queue) == 0 {
		s.mesh().violate("%s:%d: an answer that nobody asked for: %v", s.node.name, s.port, h)
		return bodiless
	}
	l := s.queue[0]
	if status := h.status(); status < 200 {
		if status == 100 && l.call.expect && l.answer == nil {
			s.grant(l)
		}
		return bodiless
	}
	l.answer = h
	l.proof = proof{text: s.mesh().tools.text, id: l.call.answerID(l.service), want: l.call.answerSize}
	if l.call.method == "HEAD" {
		return bodiless
	}
	return unlessSaid
}

func (s *session) body(text string) {
	if l := s.queue[0]; l.answer.fields["x-larboard-reason"] == "" {
		l.proof.take(text)
	}
}

// end is the end of an answer.
func (s *session) end() {
	if len(s.queue) == 0 || s.queue[0].answer == nil {
		return // an interim one
	}
	l := s.queue[0]
	s.queue = s.queue[1:]
	s.used = s.mesh().world.Now()
	l.trailers = s.reader.trailers
	if l.answer.has("connection", "close") {
		s.said = true
	}
	if s.said {
		if len(s.queue) > 0 {
			s.mesh().count("clients", "asked again after an announced close")
		}
		s.again()
	}
	l.done(l)
}

// again gives up the connection, whose close was announced, and sends what it has not
// answered over another one: nobody has looked at it.
func (s *session) again() {
	peer, queue := s.peer, s.queue
	peer.Close()
	s.peer, s.queue = nil, nil
	for _, l := range queue {
		s.send(l)
	}
	if s.shut && s.peer != nil {
		s.peer.CloseWrite()
	}
}

// metIdleClose reports that the connection was given up for its idleness at the moment in
// which it was used again: HTTP/1.1 cannot tell, and a client asks again. The proxy counts
// from when it has written an answer, which a client that stalls reads later.
func (s *session) metIdleClose() bool {
	m := s.mesh()
	if len(s.queue) == 0 || s.queue[0].answer != nil || s.used.IsZero() {
		return false
	}
	for _, l := range s.queue {
		if l.call.ran[l.service] > 0 {
			return false
		}
	}
	idle, err := time.ParseDuration(m.plan.idle)
	const moment = 100 * time.Millisecond
	return err == nil && s.last.Sub(s.wrote) > idle-moment && m.world.Now().Sub(s.last) < moment
}

// closed is the end of a connection: what was not answered has failed, the first of them
// by itself and the others with it.
func (s *session) closed(p *network.Peer) {
	err := "closed"
	if p.Err() != nil {
		err = p.Err().Error()
	}
	if s.metIdleClose() {
		m := s.mesh()
		m.count("clients", "met the close of an idle connection")
		s.again()
		return
	}
	p.Close()
	queue := s.queue
	s.peer, s.queue = nil, nil
	for i, l := range queue {
		l.failure = "connection " + err
		if l.answer != nil {
			l.failure += fmt.Sprintf(" %d bytes into answer %s", l.proof.got, l.answer.second)
		}
		if i > 0 {
			l.blame = queue[0].call
		}
		l.done(l)
	}
}

// abort ends the session from the client's side, with all that is under way.
func (s *session) abort(because *call) {
	p, queue := s.peer, s.queue
	if p == nil || !slices.ContainsFunc(queue, func(l *leg) bool { return l.call == because }) {
		return
	}
	s.peer, s.queue = nil, nil
	because.aborted = true
	if because.abortQuietly {
		p.Close()
	} else {
		p.Reset()
	}
	for _, l := range queue {
		l.failure = "aborted"
		if l.call != because {
			l.blame = because
		}
		l.done(l)
	}
}

// leave closes an idle session.
func (s *session) leave() {
	if s.peer != nil && len(s.queue) == 0 {
		s.peer.Close()
		s.peer = nil
	}
}

// verdict says what is wrong with an answer; empty: it is the right one.
func (l *leg) verdict() string {
	c := l.call
	if l.failure != "" {
		return l.failure
	}
	reason := l.answer.fields["x-larboard-reason"]
	if reason == "" {
		reason = l.trailers["x-larboard-reason"]
	}
	if reason != "" {
		return fmt.Sprintf("answer %s: %s", l.answer.second, reason)
	}
	if l.answer.status() != 200 {
		return fmt.Sprintf("answer %s from the workload", l.answer.second)
	}
	if c.method != "HEAD" && !l.proof.whole() {
		return fmt.Sprintf("body: %d of %d bytes, wrong %v", l.proof.got, l.proof.want, l.proof.wrong)
	}
	if why := l.ending(); why != "" {
		return why
	}
	return ""
}

// ending says what is wrong with the trailers of a whole answer.
func (l *leg) ending() string {
	c := l.call
	if c.method == "HEAD" {
		return ""
	}
	if sum, ok := l.trailers["x-sum"]; ok && sum != fmt.Sprint(c.answerID(l.service)) || !ok && c.answerOpen() && !c.answerUntilClose {
		return fmt.Sprintf("trailers %v", l.trailers)
	}
	if c.grpc && l.trailers["grpc-status"] != "0" {
		return fmt.Sprintf("a call with trailers %v", l.trailers)
	}
	return ""
}

// mispaired reports an answer of somebody else's request.
func (l *leg) mispaired() bool {
	if l.answer == nil || l.answer.fields["x-larboard-reason"] != "" {
		return false
	}
	return l.answer.fields["x-id"] != fmt.Sprint(l.call.id) || l.proof.wrong
}
