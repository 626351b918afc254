package sim

import (
	"fmt"
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

	http2  bool   // is spoken by some
	forced bool   // in schedules without upgrades, between some whatever is asked for
	grpc   bool   // some calls
	tuning string // http2 settings, as in a configuration

	retries        string // as in a configuration; empty: the defaults
	attempts       int    // that they allow
	breaks, ejects bool   // services have breakers, ejection
	limits         bool   // of requests
	captures       bool   // connections are redirected to the sidecars
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
	p.drawHTTP2(r)
	p.drawRetries(rand.New(rand.NewPCG(seed, 0x72657472)))
	p.breaks, p.ejects = breaking(seed)
	p.limits, p.captures = limiting(seed), capturing(seed)
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

// drawHTTP2 says who speaks it, and how.
func (p *plan) drawHTTP2(r *rand.Rand) {
	p.http2, p.forced, p.grpc = r.IntN(3) > 0, r.IntN(2) == 0, r.IntN(2) == 0
	streams := []int{1, 3, 20, 128}[r.IntN(4)]
	windows := []string{"16KiB", "64KiB", "1MiB"}
	p.tuning = fmt.Sprintf("max_streams: %d, stream_window: %s, connection_window: %s", streams, windows[r.IntN(3)], windows[1+r.IntN(2)])
	if r.IntN(3) == 0 {
		p.tuning += ", ping_interval: 2s"
	}
	if !p.http2 {
		p.forced, p.grpc = false, false
	}
}

// drawRetries says what the sidecars repeat. The time of an attempt is longer than any
// answer takes that nothing has touched.
func (p *plan) drawRetries(r *rand.Rand) {
	if p.attempts = 3; r.IntN(3) == 0 {
		return
	}
	p.attempts = 1 + r.IntN(4)
	on := []string{"reset", "reset, 5xx", "gateway_error, timeout", "reset, timeout, 5xx"}[r.IntN(4)]
	p.retries = fmt.Sprintf("attempts: %d, on: [connect_failure, refused_stream, %s], replay: %s, backoff: {base: %s, max: 400ms}",
		p.attempts, on, []string{"0", "2KiB", "64KiB", "1MiB"}[r.IntN(4)], []string{"0", "5ms", "200ms"}[r.IntN(3)])
	if r.IntN(2) == 0 {
		p.retries += ", per_try_timeout: 6s"
	}
	if r.IntN(2) == 0 {
		p.retries += ", grpc_statuses: unavailable"
	}
	if r.IntN(2) == 0 {
		p.retries += ", budget: {percent: 1000, min: 100}"
	}
}

// newCall is a call of which nothing is drawn yet.
func newCall(id int, to string) *call {
	return &call{id: id, to: to, ran: map[string]int{}, sends: map[string]int{}, answered: map[string]int{}, recorded: map[string]tried{}}
}

// drawCall makes one call of a schedule.
func (m *mesh) drawCall(id int) *call {
	r := m.random
	c := newCall(id, serviceB)
	switch r.IntN(10) {
	case 0:
		c.kind, c.to = raw, serviceC
	case 1:
		if !m.plan.forced {
			c.kind = upgrade
		}
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
	if m.plan.grpc && c.kind == request && r.IntN(3) == 0 {
		c.grpc, c.method, c.askChunked, c.expect, c.answerUntilClose = true, "POST", true, false, false
		c.askSize++
	}
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

// client asks one listener, in one version of HTTP.
type client interface {
	send(*leg)
	// abort ends a call that is under way.
	abort(*call)
	// stall stops taking what comes, for a while.
	stall(time.Duration)
	// sentAll reports that the outgoing direction may end; closeWrite ends it.
	sentAll() bool
	closeWrite()
	// first is the leg that is answered before all others; nil: there is none.
	first() *leg
	leave()
}

func (n *node) client(port int, http2 bool) client {
	if http2 {
		return n.session2(port, 1+n.mesh.random.IntN(3))
	}
	return n.session(port)
}

// visit is one client: a connection with some calls, one after the other or several at
// once.
type visit struct {
	mesh    *mesh
	session client
	http2   bool
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
		v.http2 = m.plan.http2 && r.IntN(2) == 0
		calls := 1 + r.IntN(8)
		if v.http2 && r.IntN(3) == 0 {
			v.depth, calls = 4+r.IntN(20), calls+r.IntN(24)
		}
		if r.IntN(8) == 0 {
			v.think = time.Duration(5+r.IntN(3)) * time.Second // beyond the shorter idle time
		}
		port := 0
		for range calls {
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
			if v.depth > 1 && !v.http2 {
				c.expect, c.uploadPause = false, 0
			}
			c.http2, c.grpc = v.http2, c.grpc && v.http2
			v.calls = append(v.calls, c)
		}
		if port != 0 {
			v.session = m.nodes[0].client(port, v.http2)
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
		if c.stall > 0 {
			v.session.stall(c.stall)
		}
	}
	if len(v.calls) == 0 && v.session.sentAll() && m.random.IntN(6) == 0 {
		v.session.closeWrite()
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
	m.leg(l)
	if next := v.session.first(); next != nil {
		next.call.turn = m.world.Now()
	}
	switch {
	case len(v.calls) > 0:
		m.world.After(v.think, v.next)
	case v.waiting == 0 && m.random.IntN(3) > 0:
		v.session.leave()
	}
}
