package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	network "github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// Options of one run.
type Options struct {
	Seed  uint64
	Plant Plant
	// Traced keeps the timeline; the same happens without.
	Traced bool
}

// Result is what came of a schedule.
type Result struct {
	Seed       uint64
	Violations []string
	// Timeline is readable, a line for each thing that happened. Its last line holds the
	// network's own trace.
	Timeline []byte
	// Trace stands for everything that happened on the network.
	Trace uint64
	// Counts make visible what a run has covered.
	Counts map[Counter]int
	// Lasted is in virtual time.
	Lasted time.Duration
}

// Counter names a number: faults, link cut.
type Counter struct{ What, Kind string }

// Run runs the schedule of a seed. It uses the calling goroutine only; several may run at
// once.
func Run(tools *Tools, o Options) *Result {
	random := rand.New(rand.NewPCG(o.Seed, 0x6d657368))
	m := &mesh{tools: tools, plant: o.Plant, random: random, traced: o.Traced}
	m.result = &Result{Seed: o.Seed, Counts: map[Counter]int{}}
	m.plan = draw(o.Seed, random)
	m.plantLoss()
	m.world = network.New(m.plan.network)
	m.log("seed %d: %+v", o.Seed, m.plan)
	if err := m.build(); err != nil {
		m.violate("the mesh does not start: %v", err)
		return m.result
	}
	m.until(m.world.Now().Add(50 * time.Millisecond))
	m.drawVisits()
	m.drawEvents()
	m.sweeps()
	m.through()
	m.afterwards()
	m.result.Trace, m.result.Lasted = m.world.Trace(), m.world.Now().Sub(epoch)
	m.log("trace %016x", m.result.Trace)
	return m.result
}

// through lets happen what is to happen, until every call has ended or should have.
func (m *mesh) through() {
	for len(m.due) > 0 {
		m.until(m.due[len(m.due)-1].at)
	}
	m.world.Run(mustEnd, func() bool {
		for _, c := range m.calls {
			if !c.done {
				return false
			}
		}
		return true
	})
	m.world.RunFor(settling)
}

// afterwards looks at the mesh once everything has been put right.
func (m *mesh) afterwards() {
	m.log("everything is put right")
	for _, to := range []string{serviceB, serviceC} {
		c := newCall(len(m.calls), to)
		c.viaC, c.method, c.askSize, c.answerSize = to == serviceB, "POST", 100, 100
		m.calls = append(m.calls, c)
		s := m.nodes[0].client(c.port(), m.plan.http2)
		m.begin(c)
		s.send(&leg{call: c, service: to, done: func(l *leg) {
			m.leg(l)
			m.finish(c, l.verdict())
			s.leave()
		}})
	}
	m.world.RunFor(15 * time.Second)
	m.checkCalls()
	m.checkIdle()
	m.world.RunFor(2 * time.Minute)
	m.checkEnd()
	for _, n := range m.nodes[1:] {
		n.work.die()
	}
	m.world.RunFor(time.Second)
	if err := m.world.Close(); err != nil {
		m.violate("the end: %v", err)
	}
}

// Command is what repeats a seed.
func (r *Result) Command() string {
	return fmt.Sprintf("LARBOARD_SIM_SEED=%d go test -count=1 -v -run TestSchedules ./tests/sim", r.Seed)
}
