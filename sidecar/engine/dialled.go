package engine

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// dialled are our ends of the connections that we have made, where they are noted.
//
// Cost while they are noted: a system call and two entries of maps for each connection that is made,
// and nothing for what it carries.
type dialled struct {
	on atomic.Bool

	mu   sync.Mutex // guards what follows; held for moments
	ends map[netip.AddrPort]struct{}
	of   map[*Conn]netip.AddrPort // a socket that has failed does not tell its own any more
}

// NoteDialled has our ends of connections noted that are made from now on, for Dialled. Any goroutine.
func (e *Engine) NoteDialled(on bool) { e.dialled.on.Store(on) }

// Dialled reports whether a is our end of a connection that we have made, and that was noted: whoever
// calls us from there is ourselves. Any goroutine.
func (e *Engine) Dialled(a netip.AddrPort) bool {
	d := &e.dialled
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.ends[a]
	return ok
}

// note notes our end of c, whose connect has begun: the kernel has given it a port by then.
func (d *dialled) note(c *Conn) {
	if !d.on.Load() {
		return
	}
	a := c.Local()
	if !a.IsValid() {
		return
	}
	c.flags |= flagNoted
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ends == nil {
		d.ends, d.of = map[netip.AddrPort]struct{}{}, map[*Conn]netip.AddrPort{}
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
