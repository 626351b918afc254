package sim

import (
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Plant is a bug that is put in on purpose, to see that it is found. All are put in from
// outside: the product knows nothing of them.
type Plant uint8

const (
	// Nothing is planted.
	Nothing Plant = iota
	// LostWakeUp: now and then a loop is not told that a socket is ready.
	LostWakeUp
	// DoubleDone: a step that asks another endpoint after a failure gives its pick back
	// twice.
	DoubleDone
	// StaleSet: one change of a service's endpoints does not reach one of the sidecars.
	StaleSet
)

func (p Plant) String() string {
	return [...]string{"nothing", "a lost wake-up", "a double Done", "a stale endpoint set"}[p]
}

// plantLoss loses a report of readiness of each few hundred.
func (m *mesh) plantLoss() {
	if m.plant == LostWakeUp {
		m.plan.network.Lose = 300 + m.plan.network.Seed%200
	}
}

// swallows reports whether n misses the news.
func (m *mesh) swallows(n *node) bool {
	return m.plant == StaleSet && n.service == "a"
}

// plantStep puts the step that gives back twice on the routes of a.
func (m *mesh) plantStep(s *sidecar, snap *proxy.Snapshot) {
	if m.plant != DoubleDone || s.node.service != "a" {
		return
	}
	for _, l := range snap.Listeners {
		for _, r := range l.Routes {
			r.Steps = append(r.Steps, secondOpinion{s})
		}
	}
}

// secondOpinion is the planted step.
type secondOpinion struct{ sidecar *sidecar }

// Request implements proxy.Step.
func (o secondOpinion) Request(*proxy.Exchange) error { return nil }

// Response implements proxy.Step.
func (o secondOpinion) Response(x *proxy.Exchange) error {
	if x.Resp.Status < 500 {
		return nil
	}
	for i, l := range o.sidecar.engine.Loops() {
		if l.Current() == nil {
			continue
		}
		local := o.sidecar.picks[i]
		choice, err := local.Pick(x.Route.Service, &upstream.Tried{})
		if err == nil {
			local.Done(choice, policy.Outcome{Connected: true})
			local.Done(choice, policy.Outcome{Connected: true})
		}
	}
	return nil
}
