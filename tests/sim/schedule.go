package sim

import (
	"math/rand/v2"
	"time"

	network "github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// plan is what a schedule consists of before it begins: all of it follows from the seed.
type plan struct {
	mesh       bool // mutual TLS between the sidecars
	shortLived bool // certificates
	loops      int
	instances  [2]int // of b and c
	idle       string
	network    network.Options
	length     time.Duration // of the time in which things happen
	sessions   int
	events     int
}

// draw makes the plan of a seed.
func draw(seed uint64, r *rand.Rand) plan {
	p := plan{
		mesh: r.IntN(3) == 0, loops: 1 + r.IntN(2),
		instances: [2]int{1 + r.IntN(3), 1 + r.IntN(2)},
		idle:      []string{"3s", "20s"}[r.IntN(2)],
		length:    time.Duration(5+r.IntN(25)) * time.Second,
		sessions:  4 + r.IntN(8),
		events:    r.IntN(9),
	}
	p.shortLived = p.mesh && r.IntN(3) == 0
	if p.shortLived {
		p.length += 2 * certificatePeriod
	}
	p.network = network.Options{
		Seed: seed, Phantoms: r.IntN(2) == 0,
		MinDelay:   time.Duration(10+r.IntN(200)) * time.Microsecond,
		MaxDelay:   time.Duration(200+r.IntN(6000)) * time.Microsecond,
		SendBuffer: 4 << 10 << r.IntN(5), ReceiveBuffer: 4 << 10 << r.IntN(5),
	}
	if r.IntN(3) > 0 {
		p.network.Segment = []int{300, 1448, 1448, 9000}[r.IntN(4)]
	}
	return p
}

// drawCall makes one call of a schedule.
func (m *mesh) drawCall(id int) *call {
	r := m.random
	c := &call{id: id, to: serviceB, ran: map[string]int{}}
	switch r.IntN(10) {
	case 0:
		c.kind, c.to = raw, serviceC
	case 1:
		c.kind = upgrade
	}
	if c.kind == request {
		c.viaC = r.IntN(2) == 0
		if r.IntN(4) == 0 {
			c.to, c.viaC = serviceC, false
		}
	} else if c.kind == upgrade && r.IntN(2) == 0 {
		c.to = serviceC
	}
	c.method = []string{"GET", "GET", "POST", "POST", "PUT", "HEAD", "DELETE", "PATCH"}[r.IntN(8)]
	switch c.kind {
	case upgrade:
		c.method = "GET"
	case raw:
		c.method = "POST" // carried once, like it
	}
	if c.kind != request || c.method == "POST" || c.method == "PUT" || c.method == "PATCH" {
		c.askSize = m.drawSize()
	}
	c.answerSize = m.drawSize()
	if c.kind == raw {
		c.answerSize++ // nothing is also what a client gets whose tunnel could not be made
	}
	c.askChunked, c.answerChunked = r.IntN(3) == 0, r.IntN(3) == 0
	c.answerUntilClose = r.IntN(20) == 0
	c.expect = r.IntN(8) == 0
	if r.IntN(6) == 0 {
		c.uploadPause = time.Duration(r.IntN(2000)) * time.Millisecond
	}
	if r.IntN(3) == 0 {
		c.serveDelay = time.Duration(r.IntN(1500)) * time.Millisecond
	}
	if r.IntN(12) == 0 {
		c.stall = time.Duration(r.IntN(3000)) * time.Millisecond
	}
	if r.IntN(15) == 0 {
		c.abortAfter, c.abortQuietly = time.Duration(1+r.IntN(1500))*time.Millisecond, r.IntN(2) == 0
	}
	c.shutFirst = r.IntN(3)
	m.drawMishap(c)
	return c
}

func (m *mesh) drawMishap(c *call) {
	r := m.random
	if c.kind != request || r.IntN(6) > 0 {
		return
	}
	c.mishap, c.mishapAt = mishap(1+r.IntN(int(mishaps)-1)), c.to
	if c.viaC && r.IntN(2) == 0 {
		c.mishapAt = serviceC
	}
	if c.mishap == breakOff && (c.method == "HEAD" || c.answerSize == 0) {
		c.mishap = none
	}
	if c.mishap == earlyAnswer && c.mishapAt == serviceB && c.viaC {
		c.viaC = false
	}
}

// drawSize is mostly little, sometimes nothing, seldom more than any buffer holds.
func (m *mesh) drawSize() int {
	r := m.random
	switch n := r.IntN(20); {
	case n == 0:
		return 0
	case n < 14:
		return 1 + r.IntN(2000)
	case n < 19:
		return 1 + r.IntN(40_000)
	}
	if m.plan.mesh || r.IntN(2) == 0 {
		return 1 + r.IntN(250_000)
	}
	return 1 + r.IntN(900_000) // plain, and from some size on spliced
}

// visit is one client: a connection with some calls, one after the other or several at
// once.
type visit struct {
	mesh    *mesh
	session *session
	calls   []*call
	depth   int
	think   time.Duration
	waiting int
}

// drawVisits spreads the clients over the schedule.
func (m *mesh) drawVisits() {
	r := m.random
	for range m.plan.sessions {
		v := &visit{mesh: m, depth: 1, think: time.Duration(r.IntN(800)) * time.Millisecond}
		if r.IntN(4) == 0 {
			v.depth = 2 + r.IntN(4)
		}
		if r.IntN(8) == 0 {
			v.think = time.Duration(5+r.IntN(3)) * time.Second // beyond the shorter idle time
		}
		port := 0
		for range 1 + r.IntN(8) {
			c := m.drawCall(len(m.calls))
			m.calls = append(m.calls, c)
			if c.kind != request {
				m.tunnelCall(c)
				continue
			}
			if port == 0 {
				port = c.port()
			}
			if c.port() != port { // a session has one listener
				c.to, c.mishapAt = map[int]string{callB: serviceB, callC: serviceC}[port], ""
				c.viaC, c.mishap = c.viaC && port == callB, none
			}
			if v.depth > 1 {
				c.expect, c.uploadPause = false, 0
			}
			v.calls = append(v.calls, c)
		}
		if port != 0 {
			v.session = m.nodes[0].session(port)
			m.at(time.Duration(r.Int64N(int64(m.plan.length))), v.next)
		}
	}
}

func (m *mesh) tunnelCall(c *call) {
	m.at(time.Duration(m.random.Int64N(int64(m.plan.length))), func() {
		m.begin(c)
		m.dig(c)
	})
}

// next sends as many calls as may be under way.
func (v *visit) next() {
	m := v.mesh
	for v.waiting < v.depth && len(v.calls) > 0 {
		c := v.calls[0]
		v.calls = v.calls[1:]
		v.waiting++
		m.begin(c)
		v.session.send(&leg{call: c, service: c.to, done: v.answered})
		if c.abortAfter > 0 {
			m.world.After(c.abortAfter, func() { v.session.abort(c) })
		}
		if c.stall > 0 && v.session.peer != nil {
			peer := v.session.peer
			peer.Stall()
			m.world.After(c.stall, peer.Resume)
		}
	}
	if len(v.calls) == 0 && v.session.sentAll() && m.random.IntN(6) == 0 {
		v.session.shut = true
		v.session.peer.CloseWrite()
	}
}

func (v *visit) answered(l *leg) {
	m, c := v.mesh, l.call
	v.waiting--
	if l.mispaired() {
		m.violate("%v was answered with %v", c, l.answer)
	}
	c.collateral = l.blame
	m.finish(c, l.verdict())
	if len(v.session.queue) > 0 {
		v.session.queue[0].call.turn = m.world.Now()
	}
	switch {
	case len(v.calls) > 0:
		m.world.After(v.think, v.next)
	case v.waiting == 0 && m.random.IntN(3) > 0:
		v.session.leave()
	}
}
