package breaker

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sony/gobreaker/v2"

	"github.com/larboard-proxy/larboard/policy"
)

// Gate is the breaker of one endpoint, shared by all loops. The zero value is closed. Times
// are nanoseconds on a clock that never goes back. The lock is held for moments and never
// across anything that waits.
type Gate struct {
	word  atomic.Uint64 // epoch<<2 | one of the words below; 0: closed without a failure
	until atomic.Int64  // open: when it becomes half-open; half-open: when a lease ends
	free  atomic.Int32  // half-open: places for probes

	// OnChange is told of each change, with the lock held: it must neither block nor call
	// the Gate. Set before the Gate is used; may be nil.
	OnChange func(Change)

	mu       sync.Mutex
	machine  *machine // nil: there has never been a failure
	settings Settings // of machine
	now      int64    // of the call under way
	state    State    // as OnChange has been told
	since    int64
	failed   uint32   // failures in a row that have opened it
	probes   []*probe // under way

	replaying bool // the machine is led to the state that it should have
}

// The low bits of Gate.word.
const (
	clean    = iota // closed, and the last outcome was no failure
	dirty           // closed after a failure
	halfOpen        // see State
	open

	wordBits = 2
	wordMask = 1<<wordBits - 1
)

// Pass is one attempt that was let through, to be given back to Leave once.
type Pass struct {
	epoch uint64
	probe *probe // nil: it passed a closed gate
}

// probe is an attempt that passes a half-open gate.
type probe struct {
	report   func(error) // to the machine, once; nil afterwards
	at       int64
	answered bool
}

// What the machine is told.
var (
	errFailed  = errors.New("breaker: a failure")
	errNeither = errors.New("breaker: neither success nor failure")
)

// Ready reports whether Enter would let an attempt through. It takes no lock.
func (g *Gate) Ready(now int64) bool {
	switch g.word.Load() & wordMask {
	case open:
		return now >= g.until.Load()
	case halfOpen:
		return g.free.Load() > 0 || now >= g.until.Load()
	}
	return true
}

// Probing reports whether a pass is a probe's.
func (p *Pass) Probing() bool { return p.probe != nil }

// Closed reports whether traffic flows. It takes no lock.
func (g *Gate) Closed() bool { return g.word.Load()&wordMask <= dirty }

// Enter lets an attempt through, or does not.
func (g *Gate) Enter(s *Settings, now int64) (Pass, bool) {
	if w := g.word.Load(); w&wordMask <= dirty {
		return Pass{epoch: w >> wordBits}, true
	}
	return g.enter(s, now)
}

func (g *Gate) enter(s *Settings, now int64) (Pass, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.turn(s, now)
	w := g.word.Load()
	epoch := w >> wordBits
	switch w & wordMask {
	case open:
		return Pass{}, false
	case clean, dirty:
		return Pass{epoch: epoch}, true
	}
	report, err := g.machine.Allow()
	if err != nil {
		g.settle()
		return Pass{}, false
	}
	p := &probe{report: report, at: now}
	g.probes = append(g.probes, p)
	g.settle()
	return Pass{epoch: epoch, probe: p}, true
}

// Answered notes that the endpoint has begun to answer an attempt.
func (g *Gate) Answered(p *Pass) {
	if p.probe == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p.probe.answered = true
}

// Leave tells what came of an attempt. One that began before the gate's last change says
// nothing any more.
func (g *Gate) Leave(p Pass, s *Settings, now int64, v policy.Verdict) {
	if p.probe == nil && (v == policy.Neither || v == policy.Success && g.word.Load()&wordMask == clean) {
		return
	}
	g.leave(p, s, now, v)
}

func (g *Gate) leave(p Pass, s *Settings, now int64, v policy.Verdict) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.turn(s, now)
	w := g.word.Load()
	switch {
	case p.probe != nil:
		g.report(p.probe, v)
	case p.epoch != w>>wordBits:
	case v == policy.Failure, w&wordMask == dirty:
		g.count(v)
	}
	g.settle()
}

// count has the machine know of an outcome of the closed state.
func (g *Gate) count(v policy.Verdict) {
	if report, err := g.machine.Allow(); err == nil {
		report(errorOf(v))
	}
}

// report ends a probe.
func (g *Gate) report(p *probe, v policy.Verdict) {
	if p.report == nil {
		return
	}
	report := p.report
	p.report = nil
	g.probes = slices.DeleteFunc(g.probes, func(o *probe) bool { return o == p })
	report(errorOf(v))
}

func errorOf(v policy.Verdict) error {
	return [...]error{policy.Neither: errNeither, policy.Success: nil, policy.Failure: errFailed}[v]
}

// Turn does what the time brings: the end of the open state, and of leases. Calling it is
// not needed for either to have its effect; it makes them seen.
func (g *Gate) Turn(s *Settings, now int64) {
	if g.Closed() || now < g.until.Load() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.turn(s, now)
	g.settle()
}

// Adopt brings other settings into force at once, where Enter would only find them when the
// time that the old ones set has passed.
func (g *Gate) Adopt(s *Settings) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.machine != nil && g.settings != *s {
		g.rebuild(*s)
		g.settle()
	}
}

// turn brings the machine up to s and now. Locked.
func (g *Gate) turn(s *Settings, now int64) {
	g.now = now
	if g.machine == nil || g.settings != *s {
		g.rebuild(*s)
	}
	if now < g.until.Load() {
		return
	}
	switch g.word.Load() & wordMask {
	case open:
		g.halfOpen()
	case halfOpen:
		for _, p := range slices.Clone(g.probes) {
			if now-p.at >= int64(g.settings.Lease) {
				g.report(p, lapsed(p))
			}
		}
	}
}

// lapsed is what becomes of a probe whose lease has ended.
func lapsed(p *probe) policy.Verdict {
	if p.answered {
		return policy.Success
	}
	return policy.Neither
}

// halfOpen has the machine find that its time is over. Its own clock may be so coarse that
// it has not moved since it opened.
func (g *Gate) halfOpen() {
	for range 16 {
		if g.machine.State() == gobreaker.StateHalfOpen {
			return
		}
	}
	g.until.Store(g.now + 1)
}

// changed is told by the machine. Locked.
func (g *Gate) changed(from, to gobreaker.State) {
	if g.replaying {
		return
	}
	c := Change{From: stateOf(from), To: stateOf(to), At: g.now}
	g.probes = nil
	epoch := g.word.Load()>>wordBits + 1
	switch c.To {
	case Open:
		if c.From == Closed {
			g.failed = g.settings.Failures
		} else {
			g.failed++
		}
		g.until.Store(g.now + int64(g.settings.Open))
		g.word.Store(epoch<<wordBits | open)
	case HalfOpen:
		g.word.Store(epoch<<wordBits | halfOpen)
	case Closed:
		g.failed = 0
		g.word.Store(epoch << wordBits) // clean
	}
	if c.From, g.state = g.state, c.To; c.From == c.To {
		return // with new settings
	}
	c.Failures, g.since = g.failed, g.now
	if g.OnChange != nil {
		g.OnChange(c)
	}
}

// settle makes the words that are read without the lock say what the machine knows. Locked.
func (g *Gate) settle() {
	w := g.word.Load()
	counts := g.machine.Counts()
	switch w & wordMask {
	case clean, dirty:
		low := uint64(clean)
		if counts.ConsecutiveFailures > 0 {
			low = dirty
		}
		if now := w&^wordMask | low; now != w {
			g.word.Store(now)
		}
	case halfOpen:
		g.free.Store(int32(g.settings.Probes) - int32(counts.Requests-counts.TotalExclusions))
		first := g.now + int64(g.settings.Lease)
		for _, p := range g.probes {
			first = min(first, p.at+int64(g.settings.Lease))
		}
		g.until.Store(first)
	}
}

// rebuild begins with new settings where the old ones have come to: a machine cannot be
// given a state, so failures lead it there. What is under way says nothing any more. Locked.
func (g *Gate) rebuild(s Settings) {
	w, failures := g.word.Load(), uint32(0)
	if g.machine != nil {
		failures = g.machine.Counts().ConsecutiveFailures
	}
	for _, p := range g.probes {
		p.report = nil
	}
	opened := g.until.Load() - int64(g.settings.Open)
	g.settings, g.probes = s, nil
	g.machine = newMachine(s, g.changed)
	g.replaying = true
	defer func() { g.replaying = false }()
	if w&wordMask <= dirty {
		for range min(failures, s.Failures-1) {
			g.count(policy.Failure)
		}
		return
	}
	for range s.Failures {
		g.count(policy.Failure)
	}
	if w&wordMask == open {
		g.until.Store(opened + int64(s.Open))
		return
	}
	g.until.Store(g.now) // it was half-open, and is about to be again
	g.word.Store((w>>wordBits+1)<<wordBits | open)
}

// Reset makes the gate what its zero value is: there are no breakers any more.
func (g *Gate) Reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.probes {
		p.report = nil
	}
	epoch := g.word.Load()>>wordBits + 1
	g.machine, g.settings, g.probes, g.state, g.since, g.failed = nil, Settings{}, nil, Closed, 0, 0
	g.word.Store(epoch << wordBits) // clean
}

// View tells what is known at the moment now. A gate that is open and whose time has passed
// is half-open.
func (g *Gate) View(now int64) View {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := View{Since: g.since, Failures: g.failed, Probes: len(g.probes)}
	switch g.word.Load() & wordMask {
	case dirty:
		v.Failures = g.machine.Counts().ConsecutiveFailures
	case open:
		v.State, v.Until = Open, g.until.Load()
		if now >= v.Until {
			v.State, v.Since = HalfOpen, v.Until
		}
	case halfOpen:
		v.State = HalfOpen
	}
	return v
}
