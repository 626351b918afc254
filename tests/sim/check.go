package sim

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larboard-proxy/larboard/observability"
)

// What holds in every schedule:
//
//   - a call ends, with its own answer, whole and byte by byte, or with a failure for which
//     the schedule has a reason: a fault in its path and time, a mishap of its own, its
//     client's abort, or the failure of a call before it on its connection;
//   - a call that may not be repeated is executed once at most, by each service;
//   - each request that a sidecar takes is recorded once, whatever becomes of it;
//   - nobody breaks HTTP/2 towards a peer that keeps to it (multiplex.go);
//   - a call that nothing has touched does not take long;
//   - a breaker is the reason of a refusal only where those of all endpoints are not closed;
//     of a service's endpoints never more are ejected than may be; after a quiet time
//     nothing is held against anybody (breaking.go);
//   - a rate limit lets pass no more than it may, and what it refuses is tried nowhere
//     (limiting.go);
//   - nobody picks an endpoint that left its service longer ago than the news takes;
//   - when all is over and everything is put right again, every service answers, no
//     endpoint is thought to be serving, no task, buffer or connection is left, and no
//     timer runs.

// fault is something that went wrong with parts of the mesh for a while.
type fault struct {
	kind        string
	parts       parts
	from, until time.Time // until zero: still on
}

// fault begins one.
func (m *mesh) fault(f fault) *fault {
	f.from = m.world.Now()
	m.faults = append(m.faults, &f)
	m.count("faults", f.kind)
	m.log("fault: %s", f.kind)
	return &f
}

// over ends one.
func (m *mesh) over(f *fault) {
	f.until = m.world.Now().Add(settling)
	m.log("over: %s", f.kind)
}

// faulty reports whether a fault is on.
func (m *mesh) faulty() bool {
	return slices.ContainsFunc(m.faults, func(f *fault) bool { return f.until.IsZero() || f.until.After(m.world.Now()) })
}

// touched is the kind of a fault in the way of c, or empty.
func (m *mesh) touched(c *call) string {
	for _, f := range m.faults {
		before := c.done && f.from.After(c.ended.Add(settling))
		if !before && f.parts&c.parts() != 0 && (f.until.IsZero() || f.until.After(c.began)) {
			return f.kind
		}
	}
	return ""
}

// explained says for what reason c may have failed; empty: for none.
func (m *mesh) explained(c *call) string {
	switch {
	case c.aborted:
		return "client aborted"
	case c.mishap.harms() && c.ran[c.mishapAt] > 0:
		return "mishap: " + c.mishap.String()
	case c.turned:
		return "mishap: " + turnedAway.String()
	case c.limited:
		return "rate limited"
	case c.tripped || c.kind == raw && m.streamTripped(c):
		return "breaker open"
	case c.collateral != nil:
		if m.explained(c.collateral) != "" {
			return "behind a call that failed"
		}
		return ""
	}
	return m.touched(c)
}

func (m *mesh) begin(c *call) {
	c.began = m.world.Now()
	c.turn = c.began
	m.log("%v begins", c)
	m.count("calls", c.kind.String())
	if c.http2 {
		m.count("calls", "HTTP/2")
	}
	if c.grpc {
		m.count("calls", "gRPC")
	}
}

// finish is the end of a call; failure empty: it got what it asked for.
func (m *mesh) finish(c *call, failure string) {
	if c.done {
		m.violate("%v ended twice", c)
		return
	}
	c.done, c.ended, c.failure = true, m.world.Now(), failure
	m.log("call %d ends after %v: %q (served by %s)", c.id, c.ended.Sub(c.began), failure, strings.Join(c.served, " "))
	if failure == "" {
		m.succeeded(c)
		return
	}
	why := m.explained(c)
	if why == "" {
		m.violate("%v failed for no reason: %s", c, failure)
		why = "nothing"
	}
	m.count("failed for", why)
}

func (m *mesh) succeeded(c *call) {
	m.count("calls", "succeeded")
	if c.mishap != none && c.ran[c.mishapAt] > 0 && (c.mishap != turnedAway || c.turned) {
		m.count("mishaps survived", c.mishap.String())
	}
	if c.ran[c.to] == 0 || c.viaC && c.ran[serviceC] == 0 {
		m.violate("%v was answered by nobody: %v", c, c.served)
	}
	if took := c.ended.Sub(c.turn); took > c.patience() && m.touched(c) == "" && !c.mishap.harms() {
		m.violate("%v took %v, for no reason", c, took)
	}
}

// executed is told when an instance begins to serve a call.
func (m *mesh) executed(n *node, c *call) {
	c.ran[n.service]++
	c.served = append(c.served, n.name)
	most := m.plan.attempts * m.plan.attempts // by a, and by b for each; or by its own sidecar
	most *= m.plan.attempts
	if !c.safe() {
		most = 1
		if c.grpc && c.mishap == errorFirst && c.mishapAt == n.service {
			most = 2 // its first end says that it was not done, where that is named
		}
	}
	if c.ran[n.service] > most {
		m.violate("%v was executed %d times by %s: %v", c, c.ran[n.service], n.service, c.served)
	}
}

// checkEndpoint holds a record against the registry: the exchange must have begun before
// the news of its endpoint's leaving had come.
func (m *mesh) checkEndpoint(n *node, r *observability.Record) {
	if left, gone := m.gone[r.Endpoint]; gone && r.Start.After(left.Add(spread)) {
		m.violate("%s picked %s %v after it had left", n.name, r.Endpoint, r.Start.Sub(left))
	}
}

// leg notes how a request of a client or workload has ended.
func (m *mesh) leg(l *leg) {
	if l.answer != nil {
		l.call.answered[l.service]++
	}
}

// record notes what a sidecar says of a call.
func (m *mesh) record(n *node, r *observability.Record) {
	c := m.recordedCall(r)
	if c == nil {
		return
	}
	service, _, _ := strings.Cut(strings.TrimPrefix(string(r.Path), "/"), "/")
	side := "to " + service
	if r.Inbound {
		side = "in " + service
	}
	t := c.recorded[side]
	c.recorded[side] = tried{t.records + 1, t.attempts + int(r.Attempts)}
}

// recordedCall is the one that a record is of; nil: it does not say.
func (m *mesh) recordedCall(r *observability.Record) *call {
	_, id, ok := strings.Cut(strings.TrimPrefix(string(r.Path), "/"), "/")
	i, err := strconv.Atoi(id)
	if !ok || err != nil || i >= len(m.calls) {
		return nil
	}
	return m.calls[i]
}

// checkRecords holds the records of a call against what was asked and executed.
func (m *mesh) checkRecords(c *call) {
	for _, service := range []string{serviceB, serviceC} {
		out, in := c.recorded["to "+service], c.recorded["in "+service]
		switch sends := c.sends[service]; {
		case out.records > sends:
			m.violate("%v: %d requests to %s have %d records", c, sends, service, out.records)
		case in.records > out.attempts && m.touched(c) == "":
			m.violate("%v: %d attempts at %s have %d records", c, out.attempts, service, in.records)
		case m.touched(c) != "":
		case out.records < c.answered[service]:
			m.violate("%v: %d answers of %s have %d records", c, c.answered[service], service, out.records)
		case in.records == 0 && c.ran[service] > 0:
			m.violate("%v: executed by %s and not recorded", c, service)
		}
	}
}

// checkCalls looks for calls that never ended.
func (m *mesh) checkCalls() {
	for _, c := range m.calls {
		if !c.done && !c.began.IsZero() {
			m.violate("%v has not ended %v after its beginning", c, m.world.Now().Sub(c.began))
		}
		if c.kind == request {
			m.checkRecords(c)
		}
		if c.kind != request && c.done && c.failure == "" && !c.farEnd && m.touched(c) == "" {
			m.violate("%v: its far end has not got all of it", c)
		}
	}
}

// checkIdle looks at what is left when nothing is under way.
func (m *mesh) checkIdle() {
	for _, n := range m.nodes {
		if err := n.side.leftovers(); err != nil {
			m.violate("%s: left behind: %v", n.name, err)
		}
		n.side.checkForgiven()
		n.side.checkLimits()
	}
}

// checkEnd looks at what is left when everything that waits has waited enough.
func (m *mesh) checkEnd() {
	for _, n := range m.nodes {
		if err := n.side.connections(); err != nil {
			m.violate("%s: %v", n.name, err)
		}
		if err := n.side.muxes(); err != nil {
			m.violate("%s: %v", n.name, err)
		}
	}
	if !m.world.Quiet() {
		m.violate("something would still happen")
	}
}
