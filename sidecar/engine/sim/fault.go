package sim

import (
	"net/netip"
	"slices"

	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// What goes wrong with networks and processes, to be done to a World between two Runs.

// link is a pair of hosts, in order.
type link struct{ a, b netip.Addr }

func linkOf(a, b netip.Addr) link {
	if b.Less(a) {
		a, b = b, a
	}
	return link{a, b}
}

// held is a segment that waits for its link.
type held struct {
	from *socket
	f    func()
}

// linkOf is the link that s sends over; one with two equal ends stays in its host.
func (w *World) linkOf(s *socket) link {
	if s.remote.Addr().IsLoopback() {
		return link{}
	}
	return linkOf(s.local.Addr(), s.remote.Addr())
}

// Cut interrupts the link of two hosts: what they send from now on arrives after Heal, in
// its order, as repetitions would bring it. What is under way arrives.
func (w *World) Cut(a, b *Host) {
	l := linkOf(a.addr, b.addr)
	if _, ok := w.cut[l]; !ok {
		w.cut[l] = []held{}
	}
}

// Heal ends Cut.
func (w *World) Heal(a, b *Host) {
	l := linkOf(a.addr, b.addr)
	waiting := w.cut[l]
	delete(w.cut, l)
	for _, h := range waiting {
		h.from.send(h.f)
	}
}

// Break resets one connection between two hosts at both its ends, as something between them
// would, and reports whether there was one. pick chooses among n.
func (w *World) Break(a, b *Host, pick func(n int) int) bool {
	var between []*socket
	for _, s := range a.sockets {
		if s != nil && s.state == open && s.other != nil && s.other.host == b && (a != b || s.local.Port() > s.remote.Port()) {
			between = append(between, s)
		}
	}
	if len(between) == 0 {
		return false
	}
	s := between[pick(len(between))]
	s.reset()
	s.other.reset()
	return true
}

// Kill ends the process of an engine at once: its sockets are closed as the kernel closes
// them, it gets to say nothing more, and what it would have left behind in an orderly end is
// the error. Its host may get another engine.
func (w *World) Kill(e *engine.Engine) error {
	for i, l := range e.Loops() {
		at := slices.Index(w.loops, l)
		p := w.pollers[at]
		if i == 0 {
			p.host.die()
		}
		w.loops, w.pollers = slices.Delete(w.loops, at, at+1), slices.Delete(w.pollers, at, at+1)
	}
	w.engines = slices.DeleteFunc(w.engines, func(o *engine.Engine) bool { return o == e })
	w.ending = true
	defer func() { w.ending = false }()
	return end(e)
}

// die closes what engines have open; scripted peers of the same host are other processes.
func (h *Host) die() {
	for _, s := range slices.Clone(h.sockets) {
		if s != nil && s.owner == nil {
			s.close(false)
		}
	}
}
