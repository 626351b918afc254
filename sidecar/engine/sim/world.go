package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// Options of a World. The zero value is a network without delays that keeps what is written
// together.
type Options struct {
	// Seed decides everything that is random.
	Seed uint64
	// MinDelay and MaxDelay bound how long a segment is under way.
	MinDelay, MaxDelay time.Duration
	// Segment is the most bytes that travel together; sizes are random up to it. 0: what was
	// written at once arrives at once.
	Segment int
	// SendBuffer and ReceiveBuffer are those of a socket, in bytes; default 64 KiB.
	SendBuffer, ReceiveBuffer int
	// Phantoms reports each closed descriptor once more, as failed, when its number is in
	// use again: what a batch would hold that was collected before the close.
	Phantoms bool
	// Backlog is how many connections wait for Accept in one listening socket; default 128.
	Backlog int
	// Lose plants a bug: each Lose-th report of readiness is never made; 0: none is lost.
	Lose uint64
}

// World is one simulated network with its hosts, its time, and the engines that live on it.
type World struct {
	options   Options
	random    *rand.Rand
	now       int64 // virtual nanoseconds
	agenda    agenda
	hosts     map[netip.Addr]*Host
	listening map[listenKey][]*socket
	dark      map[netip.AddrPort]bool
	cut       map[link][]held // what waits for the link to come back
	engines   []*engine.Engine
	loops     []*engine.Loop
	pollers   []*poller
	ending    bool // engines are closed and turn by themselves
	stirred   bool // something was delivered in this round
	trace     uint64
	reports   uint64 // of readiness
}

// epoch is what the wall clock shows when a World begins.
var epoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// New returns a world without hosts.
func New(o Options) *World {
	if o.SendBuffer <= 0 {
		o.SendBuffer = 64 << 10
	}
	if o.ReceiveBuffer <= 0 {
		o.ReceiveBuffer = 64 << 10
	}
	if o.Backlog <= 0 {
		o.Backlog = 128
	}
	return &World{
		options: o, random: rand.New(rand.NewPCG(o.Seed, 0x6c617262)), now: int64(time.Second),
		hosts: map[netip.Addr]*Host{}, listening: map[listenKey][]*socket{}, dark: map[netip.AddrPort]bool{}, cut: map[link][]held{},
	}
}

// worldClock is the engine.Clock of a world.
type worldClock struct{ w *World }

func (c worldClock) Now() time.Time { return epoch.Add(time.Duration(c.w.now)) }
func (c worldClock) Nanos() int64   { return c.w.now }

// Now is the virtual time.
func (w *World) Now() time.Time { return worldClock{w}.Now() }

// After calls f once d has passed, from inside a turn: f may use scripted peers and must not
// touch a loop.
func (w *World) After(d time.Duration, f func()) { w.agenda.add(w.now+int64(max(d, 0)), f) }

// Blackhole makes addr answer no attempt to connect, until Restore.
func (w *World) Blackhole(addr netip.AddrPort) { w.dark[addr] = true }

// Restore ends Blackhole: who still tries gets through with the next SYN.
func (w *World) Restore(addr netip.AddrPort) { delete(w.dark, addr) }

// Trace is a hash of everything that happened: two runs that had the same schedule have the
// same trace.
func (w *World) Trace() uint64 { return w.trace }

// note takes one more thing that happened into the trace: a step of FNV-1a by words, with a
// rotation so that high bits count.
func (w *World) note(what byte, args ...uint64) {
	h := w.mix(w.trace, uint64(w.now))
	h = w.mix(h, uint64(what))
	for _, a := range args {
		h = w.mix(h, a)
	}
	w.trace = h
}

func (w *World) mix(h, v uint64) uint64 { return bits.RotateLeft64((h^v)*0x9e3779b97f4a7c15, 29) }

// place is an address as a word of the trace.
func place(a netip.AddrPort) uint64 {
	b := a.Addr().As16()
	return binary.BigEndian.Uint64(b[8:])<<16 ^ uint64(a.Port())
}

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// maxRounds is how often loops may turn without letting time pass before a test is told that
// it hangs.
const maxRounds = 1_000_000

// Run turns all loops until done says so, and reports true; or false if until then most of
// virtual time would pass, or nothing is left that could happen. Time moves only while every
// loop sleeps, to the next moment at which anything can happen.
func (w *World) Run(most time.Duration, done func() bool) bool {
	limit := w.now + int64(most)
	for rounds := 0; ; rounds++ {
		if done != nil && done() {
			return true
		}
		if rounds > maxRounds {
			panic("sim: the loops turn and turn, and no time passes")
		}
		if w.round() || !w.asleep() {
			continue
		}
		next := w.next()
		if next < 0 || next > limit {
			w.now = limit
			w.round()
			return done != nil && done()
		}
		if next > w.now {
			w.now, rounds = next, 0
		}
	}
}

// RunFor lets d pass.
func (w *World) RunFor(d time.Duration) { w.Run(d, nil) }

// round turns each loop once, in random order, and reports whether anything ran.
func (w *World) round() (ran bool) {
	for _, i := range w.random.Perm(len(w.loops)) {
		if w.loops[i].Step(-1) {
			w.note('r', uint64(i))
			ran = true
		}
	}
	w.deliver()
	ran = ran || w.stirred
	w.stirred = false
	return ran
}

// asleep reports whether every loop waits.
func (w *World) asleep() bool {
	for _, p := range w.pollers {
		if !p.asleep {
			return false
		}
	}
	return true
}

// next is the next moment at which anything can happen; -1: never.
func (w *World) next() int64 {
	next := w.agenda.next()
	for _, p := range w.pollers {
		if p.until >= 0 && (next < 0 || p.until < next) {
			next = p.until
		}
	}
	return next
}

// Quiet reports that nothing is under way and no timer runs: left alone, nothing would ever
// happen again.
func (w *World) Quiet() bool { return w.next() < 0 }

// deliver makes happen what is due.
func (w *World) deliver() {
	for f := w.agenda.take(w.now); f != nil; f = w.agenda.take(w.now) {
		w.stirred = true
		f()
	}
}

func (w *World) delay() int64 {
	low, high := w.options.MinDelay, w.options.MaxDelay
	if high <= low {
		return int64(low)
	}
	return int64(low) + w.random.Int64N(int64(high-low)+1)
}

func (w *World) segment(most int) int {
	if w.options.Segment <= 0 {
		return most
	}
	return min(most, 1+w.random.IntN(w.options.Segment))
}

// Close ends all engines and says what they left behind: tasks, connections, buffers,
// descriptors.
func (w *World) Close() error {
	w.ending = true
	var errs []error
	for i, e := range w.engines {
		if err := end(e); err != nil {
			errs = append(errs, fmt.Errorf("sim: engine %d: %w", i, err))
		}
	}
	for _, h := range w.hosts {
		if n := h.Open(); n != 0 && h.engine {
			errs = append(errs, fmt.Errorf("sim: host %s left %d descriptors open", h.addr, n))
		}
	}
	w.engines, w.loops, w.pollers = nil, nil, nil
	return errors.Join(errs...)
}

// end closes an engine and says what it left behind.
func end(e *engine.Engine) error {
	err := e.Close()
	s := e.Stats().Total()
	if s.Tasks+s.Coroutines+s.Conns+s.Buffers+s.Offloads != 0 {
		err = errors.Join(err, fmt.Errorf("left behind: %+v", s))
	}
	return err
}
