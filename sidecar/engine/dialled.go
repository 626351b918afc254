package engine

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// dialled are the two ends of the connections that we have made, where they are noted. Both, since
// the kernel gives a port of ours to somebody else at the same time, for another destination.
//
// Cost while they are noted: a system call and two entries of maps for each connection that is made,
// and nothing for what it carries.
type dialled struct {
	on atomic.Bool

	mu   sync.Mutex // guards what follows; held for moments
	ends map[ends]struct{}
	of   map[*Conn]ends // a socket that has failed does not tell its own any more
}

type ends struct{ ours, theirs netip.AddrPort }

// NoteDialled has the ends of connections noted that are made from now on, for Dialled. Any goroutine.
func (e *Engine) NoteDialled(on bool) { e.dialled.on.Store(on) }

// Dialled reports whether we have made a connection from ours to theirs, and it was noted: whoever
// is redirected to us on such a way is ourselves. Any goroutine.
func (e *Engine) Dialled(ours, theirs netip.AddrPort) bool {
	d := &e.dialled
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.ends[ends{ours, theirs}]
	return ok
}

// note notes the ends of c, whose connect has begun: the kernel has given it a port by then.
func (d *dialled) note(c *Conn) {
	if !d.on.Load() {
		return
	}
	a := ends{c.Local(), c.Remote()}
	if !a.ours.IsValid() {
		return
	}
	c.flags |= flagNoted
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ends == nil {
		d.ends, d.of = map[ends]struct{}{}, map[*Conn]ends{}
	}
	d.ends[a], d.of[c] = struct{}{}, a
}

// forget is called before c's socket is closed.
func (d *dialled) forget(c *Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.ends, d.of[c])
	delete(d.of, c)
}
