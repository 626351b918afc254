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
	// KeptWindow: now and then a stream or connection is not given back its window. Clients
	// and workloads of HTTP/2 pass over what they were given, as if it had not been said.
	KeptWindow
	// LostWriter: now and then what waits for a window is not woken when it is opened.
	// Clients and workloads of HTTP/2 do not open it, which comes to the same.
	LostWriter
	// ForgottenStream: a GOAWAY leaves out the last streams that are served.
	ForgottenStream
	// NoCap: ejection knows no bound.
	NoCap
)

func (p Plant) String() string {
	return [...]string{"nothing", "a lost wake-up", "a double Done", "a stale endpoint set",
		"a window kept", "a writer not woken", "a stream forgotten by GOAWAY", "no cap"}[p]
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

// losesUpdate reports whether a WINDOW_UPDATE is passed over.
func (m *mesh) losesUpdate() bool { return m.plant == KeptWindow && m.random.IntN(10) == 0 }

// keepsWindow reports whether one is not sent.
func (m *mesh) keepsWindow() bool { return m.plant == LostWriter && m.random.IntN(100) == 0 }

// forgets is the last stream that a GOAWAY to x names.
func (m *mesh) forgets(x *multiplexed, last uint32) uint32 {
	if m.plant == ForgottenStream && x.client && last < 1<<31-1 && len(x.lanes) > 0 {
		return x.lanes[len(x.lanes)-1].id - 1
	}
	return last
}

// plantCap has a's sidecar eject whom it will.
func (m *mesh) plantCap(s *sidecar) {
	if m.plant != NoCap {
		return
	}
	for _, svc := range s.services {
		if j := svc.Settings().Ejection; j != nil {
			j.MaxPercent = 100
		}
	}
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
			local.Done(&choice, policy.Outcome{Connected: true})
			local.Done(&choice, policy.Outcome{Connected: true})
		}
	}
	return nil
}
