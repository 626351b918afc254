package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	network "github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// serving2 is a request that a workload serves on a stream. What it does to the calls is
// what serving does to those that come over HTTP/1.
type serving2 struct {
	work  *workload
	lane  *lane
	call  *call
	proof proof
	got   bool // the whole request
	said  bool // the whole answer
}

// served2 is one connection of HTTP/2 from the sidecar.
type served2 struct {
	work *workload
	end  *multiplexed
}

// speaks2 reports whether a connection begins like one of HTTP/2; known false: not enough
// of it has come.
func speaks2(begin string) (yes, known bool) {
	n := min(len(begin), len(http2.ClientPreface))
	if begin[:n] != http2.ClientPreface[:n] {
		return false, true
	}
	return true, n == len(http2.ClientPreface)
}

func (w *workload) serve2(p *network.Peer) *served2 {
	s := &served2{work: w}
	s.end = w.node.mesh.multiplex(w.node.name+"'s workload", p, false, s)
	return s
}

func (c *served2) mesh() *mesh          { return c.work.node.mesh }
func (c *served2) head(*lane, *head)    {}
func (c *served2) refused(*lane)        {}
func (c *served2) room()                {}
func (c *served2) closed()              {}
func (s *serving2) mesh() *mesh         { return s.work.node.mesh }
func (s *serving2) service() string     { return s.work.node.service }
func (c *served2) of(l *lane) *serving2 { return l.owner.(*serving2) }

func (c *served2) reset(l *lane, _ http2.ErrCode) { c.of(l).said = true }

func (c *served2) opened(l *lane, h *head) {
	m, n := c.mesh(), c.work.node
	s := &serving2{work: c.work, lane: l}
	l.owner = s
	service, id, _ := strings.Cut(strings.TrimPrefix(h.second, "/"), "/")
	i, err := strconv.Atoi(id)
	if err != nil || i >= len(m.calls) || service != n.service || h.fields["x-id"] != id {
		m.violate("%s: a request of nobody: %v", n.name, h)
		s.call, s.said = m.calls[0], true
		return
	}
	s.call = m.calls[i]
	s.proof = proof{text: m.tools.text, id: s.call.askID(service), want: s.call.askSize}
	if s.turnsAway() {
		return
	}
	m.executed(n, s.call)
	switch k := s.call; {
	case s.strikes(resetAtHead):
		s.said = true
		c.end.reset(l, http2.ErrCodeCancel)
	case s.strikes(earlyAnswer):
		s.answer("", 200)
	case k.expect && h.has("expect", "100-continue"):
		m.world.After(k.serveDelay/2, func() {
			if !s.said {
				l.answer(status(100), false)
			}
		})
	}
	if k := s.call; k.stall > 0 && k.id%2 == 0 {
		l.hold(k.stall)
	}
}

// turnsAway refuses a request without having looked at it.
func (s *serving2) turnsAway() bool {
	c := s.call
	if c.mishap != turnedAway || c.mishapAt != s.service() || c.turned {
		return false
	}
	c.turned, s.said = true, true
	s.lane.end.reset(s.lane, http2.ErrCodeRefusedStream)
	return true
}

func (s *serving2) strikes(x mishap) bool {
	return s.call.mishap == x && s.call.mishapAt == s.service() && s.call.ran[s.call.mishapAt] == 1
}

func status(n int) []hpack.HeaderField {
	return []hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(n)}}
}

func (c *served2) data(l *lane, p string) { c.of(l).proof.take(p) }

func (c *served2) ended(l *lane) {
	s, m := c.of(l), c.mesh()
	if c.end.gone[l.id] {
		return
	}
	if !s.proof.whole() {
		m.violate("%s: request %d came as %d of %d bytes, wrong %v", c.work.node.name, s.call.id, s.proof.got, s.proof.want, s.proof.wrong)
	}
	s.call.checkTrailers(m, s.service(), l.got)
	s.got = true
	switch {
	case s.said || s.strikes(earlyAnswer) || s.strikes(silent):
	case s.strikes(closeAtEnd):
		s.said = true
		c.end.reset(l, http2.ErrCodeInternal)
	case s.strikes(garbage):
		s.said = true
		l.answer([]hpack.HeaderField{{Name: ":status", Value: "2x0"}}, false)
	default:
		if s.strikes(continueFirst) {
			l.answer(append(status(103), hpack.HeaderField{Name: "link", Value: "</x>"}), false)
		}
		m.world.After(s.call.serveDelay, s.serve)
	}
}

// serve answers, after c has where the call goes on.
func (s *serving2) serve() {
	w := s.work
	if w.dead {
		return
	}
	switch {
	case s.strikes(errorFirst) && s.call.grpc:
		s.said = true
		s.lane.answer(append(status(200), hpack.HeaderField{Name: "content-type", Value: "application/grpc"},
			hpack.HeaderField{Name: "x-id", Value: strconv.Itoa(s.call.id)}, hpack.HeaderField{Name: "grpc-status", Value: "14"}), true)
		return
	case s.strikes(errorFirst):
		s.answer(w.node.name, 503)
		return
	case !s.call.viaC || s.service() != serviceB:
		s.answer(w.node.name, 200)
		return
	}
	w.askC(s.call, func(status int) { s.answer(w.node.name, status) })
}

// answer says the whole answer, or what a mishap makes of it.
func (s *serving2) answer(hops string, code int) {
	c, m, l := s.call, s.mesh(), s.lane
	if s.said {
		return
	}
	s.said = true
	id := c.answerID(s.service())
	fields := append(status(code), hpack.HeaderField{Name: "x-id", Value: strconv.Itoa(c.id)}, hpack.HeaderField{Name: "x-hops", Value: hops})
	if c.grpc {
		fields = append(fields, hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
	}
	announced := !c.answerOpen()
	if announced {
		fields = append(fields, hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(c.answerSize)})
	}
	if c.method == "HEAD" {
		l.answer(fields, true)
	} else {
		l.answer(fields, announced && c.answerSize == 0)
		body := m.tools.text.whole(id, c.answerSize)
		if s.strikes(breakOff) {
			l.write(body[:len(body)/2], false)
			m.world.After(20*time.Millisecond, func() { l.end.reset(l, http2.ErrCodeInternal) })
			return
		}
		var trailers []hpack.HeaderField
		if !announced {
			trailers = append(trailers, hpack.HeaderField{Name: "x-sum", Value: strconv.Itoa(id)})
		}
		if c.grpc {
			trailers = append(trailers, hpack.HeaderField{Name: "grpc-status", Value: "0"})
		}
		l.write(body, true, trailers...)
	}
	s.afterwards()
}

// afterwards is how a connection may go on.
func (s *serving2) afterwards() {
	m, x := s.mesh(), s.lane.end
	switch {
	case s.strikes(closeAfter):
		x.goAwaySoftly()
	case s.strikes(closeUnasked) && !x.over:
		m.fault(fault{kind: "workload closes a kept connection", parts: partOf(s.service()), until: m.world.Now().Add(settling)})
		x.goAway()
	}
}

// answerOpen reports that the answer's length is not announced.
func (c *call) answerOpen() bool { return c.answerChunked || c.grpc }

// checkTrailers holds the trailers of a request against what its client sent.
func (c *call) checkTrailers(m *mesh, service string, got map[string]string) {
	want := ""
	if c.askChunked && c.askSize > 0 {
		want = fmt.Sprint(c.askID(service))
	}
	if got["x-sum"] != want {
		m.violate("%s: request %d came with trailers %v, not x-sum %q", service, c.id, got, want)
	}
}
