package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/limit"
)

// Rate limits. They refuse some of what a schedule asks for, and let enough pass that it is worth
// something; what they hold comes back within a second or two.

// limiting says whether a seed's sidecars have limits; it is drawn by itself, so that schedules
// without are what they were.
func limiting(seed uint64) bool { return rand.New(rand.NewPCG(seed, 0x6c696d)).IntN(3) == 0 }

// limiting are the limits of a service or a listener, as in a configuration. Most reloads change them,
// and now and then take them away.
func (n *node) limiting(name string) string {
	if !n.mesh.plan.limits || n.variant%5 == 4 {
		return ""
	}
	by := []string{"all", "source", "{header: x-call}"}[len(name)%3]
	return fmt.Sprintf(", limits: [{name: %s, rate: %d/s, burst: %d, by: %s, keys: 50}, {rate: 100/s, by: {query: none}}]",
		name, 4+n.variant%3*4, 2+n.variant%2*3, by)
}

// held is a limit that a sidecar has or had, and when it was made.
type held struct {
	*limit.Limit
	since int64 // Nanos
}

// keepLimits is told what is in force from now on.
func (s *sidecar) keepLimits(all []limit.Placed) {
	s.limits.Keep(all)
	for _, p := range all {
		if !slices.ContainsFunc(s.held, func(h held) bool { return h.Limit == p.Limit }) {
			s.held = append(s.held, held{p.Limit, s.engine.Nanos()})
		}
	}
}

// checkLimits holds what each limit of everybody together has let pass against what may be.
func (s *sidecar) checkLimits() {
	m := s.node.mesh
	for _, h := range s.held {
		d, n := h.Definition(), h.Stats()
		m.result.Counts[Counter{"limits", "allowed"}] += int(n.Allowed)
		m.result.Counts[Counter{"limits", "refused"}] += int(n.Denied)
		most := float64(d.Burst) + d.Rate*time.Duration(s.engine.Nanos()-h.since).Seconds() + 1
		most *= float64(max(n.Keys, 1)) // of which none was given up
		if float64(n.Allowed) > most {
			m.violate("%s: %s has let pass %d where %.1f may", s.node.name, h.Name(), n.Allowed, most)
		}
	}
}

// checkLimiting looks at a record that has just been made.
func (s *sidecar) checkLimiting(r *observability.Record) {
	if r.Reason != policy.RateLimited {
		return
	}
	m := s.node.mesh
	if !m.plan.limits || r.Attempts != 0 || r.Err == nil || !strings.HasPrefix(r.Err.Error(), "rate_limited: limit ") {
		m.violate("%s: refused by a limit after %d attempts: %v", s.node.name, r.Attempts, r.Err)
	}
	if c := m.recordedCall(r); c != nil {
		c.limited = true
	}
}
