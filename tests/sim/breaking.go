package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/breaker"
)

// Breakers and ejection. Their times are short, so that a schedule sees them end.

// maxPercent of the endpoints of a service may be ejected.
const maxPercent = 50

// breaking says what a seed's services have; it is drawn by itself, so that schedules
// without are what they were.
func breaking(seed uint64) (breaks, ejects bool) {
	r := rand.New(rand.NewPCG(seed, 0x62726b))
	return r.IntN(2) == 0, r.IntN(2) == 0
}

// breaking are the settings of a service, as in a configuration. Reloads change them, and
// now and then take them away.
func (n *node) breaking() (text string) {
	p := &n.mesh.plan
	if n.variant%6 == 5 {
		return ""
	}
	if p.breaks {
		text += fmt.Sprintf(", breaker: {failures: %d, open: %dms, probes: %d}", 1+n.variant%3, 400+200*(n.variant%4), 1+n.variant%2)
	}
	if p.ejects {
		text += fmt.Sprintf(", ejection: {consecutive: %d, interval: 1s, success_rate: {requests: 2, endpoints: 2, deviation: 0.3}, "+
			"time: %ds, max_time: 4s, ramp: %ds, max_percent: %d}", 1+n.variant%3, 1+n.variant%2, n.variant%3, maxPercent)
	}
	return text
}

// sweeps are what the control plane does once a second, while things happen.
func (m *mesh) sweeps() {
	if !m.plan.breaks && !m.plan.ejects {
		return
	}
	for _, n := range m.nodes {
		if n.side != nil {
			n.side.sweep()
		}
	}
	if m.world.Now().Sub(epoch) < m.plan.length+certificatePeriod {
		m.at(time.Second, m.sweeps)
	}
}

func (s *sidecar) sweep() {
	for _, svc := range s.services {
		svc.Sweep(s.engine.Nanos())
	}
	s.countOutliers()
}

// countOutliers makes visible what has happened since it was called last.
func (s *sidecar) countOutliers() {
	m := s.node.mesh
	for _, name := range []string{"local", "raw", serviceB, serviceC, stream} {
		svc := s.services[name]
		if svc == nil {
			continue
		}
		events, _ := svc.TakeEvents()
		for _, e := range events {
			if b := e.Breaker; b != nil {
				m.count("breakers", b.To.String())
				m.log("%s: the breaker of %s at %s is %v, after %d failures", s.node.name, name, e.Endpoint.Address, b.To, b.Failures)
				continue
			}
			kind := "returned"
			switch c := e.Ejection; {
			case c.Capped:
				kind = "capped"
			case c.Out:
				kind = c.Cause.String()
			}
			m.count("ejections", kind)
			m.log("%s: %s at %s: %s", s.node.name, name, e.Endpoint.Address, kind)
		}
	}
}

// checkBreaking looks at a record that has just been made, and at who is out now.
func (s *sidecar) checkBreaking(r *observability.Record) {
	m := s.node.mesh
	if !m.plan.breaks && !m.plan.ejects {
		return
	}
	s.countOutliers()
	now := s.engine.Nanos()
	for name, svc := range s.services {
		out, members := 0, svc.Set().Members
		for i := range members {
			if v, _ := svc.Ejection(members[i].Endpoint, now); v.Out {
				out++
			}
		}
		if out > len(members)*maxPercent/100 {
			m.violate("%s: %d of %d endpoints are ejected of %s", s.node.name, out, len(members), name)
		}
	}
	if r.Reason != policy.BreakerOpen {
		return
	}
	if c := m.recordedCall(r); c != nil {
		c.tripped = true
	}
	svc := s.services[r.Service]
	if svc == nil {
		return
	}
	if r.Service == stream {
		m.tripped = append(m.tripped, m.world.Now())
	}
	for _, o := range svc.Set().Members {
		if v, _ := svc.Breaker(o.Endpoint, now); len(r.Tries) == 0 && v.State == breaker.Closed && v.Since == 0 && !r.Inbound {
			m.violate("%s: refused for a breaker, and that of %s was never open", s.node.name, o.Address)
		}
	}
}

// streamTripped reports whether a breaker refused a connection to stream while c, which is
// one, was under way.
func (m *mesh) streamTripped(c *call) bool {
	for _, at := range m.tripped {
		if !at.Before(c.began) && (!c.done || !at.After(c.ended)) {
			return true
		}
	}
	return false
}

// checkForgiven looks at what is held against endpoints after a quiet time that is longer
// than any that they could be kept away for.
func (s *sidecar) checkForgiven() {
	m, now := s.node.mesh, s.engine.Nanos()
	for name, svc := range s.services {
		for _, o := range svc.Set().Members {
			b, _ := svc.Breaker(o.Endpoint, now)
			if svc.Passed(o.Endpoint, now) || b.Probes > 0 {
				m.violate("%s: nothing is sent to %s of %s any more: %+v", s.node.name, o.Address, name, b)
			}
			if v, _ := svc.Ejection(o.Endpoint, now); v.Out {
				m.violate("%s: %s of %s is still ejected", s.node.name, o.Address, name)
			}
		}
	}
}
