package proxy

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// socket is one bound address. A reload that moves the address to another listener
// hands the socket over: binding it again would find the address taken, and closing
// it first would turn clients away.
type socket struct {
	address string // as configured
	bound   *engine.Listener
	owner   atomic.Pointer[Listener]
}

func (s *socket) accepted(loop *engine.Loop, c *engine.Conn) { s.owner.Load().accepted(loop, c) }

// plan is what Apply is about to do to sockets. Until it is carried out, nothing
// that runs has changed.
type plan struct {
	proxy  *Proxy
	free   []*socket // of listeners that end, to be taken over or closed
	opened []*socket
	moved  map[*socket]*Listener
}

// newPlan keeps the listeners that go on, and frees the sockets of the others.
func (p *Proxy) newPlan(s *Snapshot) *plan {
	n := &plan{proxy: p, moved: map[*socket]*Listener{}}
	kept := map[*Listener]bool{}
	for _, c := range s.Listeners {
		if l := p.listeners[c.Name]; l != nil && l.becomes(c) {
			kept[l] = true
		}
	}
	for _, l := range p.listeners {
		if !kept[l] {
			n.free = append(n.free, l.sockets...)
		}
	}
	return n
}

// listener makes the running form of c.
func (n *plan) listener(c *ListenerConfig) (*Listener, error) {
	l := &Listener{proxy: n.proxy, name: c.Name}
	l.conf.Store(c)
	for _, address := range c.Addresses {
		s := n.take(c.Name, address)
		if s != nil {
			n.moved[s] = l
		} else {
			s = &socket{address: address}
			s.owner.Store(l)
			var err error
			if s.bound, err = n.proxy.engine.Listen("tcp", address, s.accepted); err != nil {
				return nil, fmt.Errorf("listener %q: %w", c.Name, err)
			}
			n.opened = append(n.opened, s)
		}
		l.sockets = append(l.sockets, s)
	}
	return l, nil
}

// take finds a free socket of this address. Port 0 is another port for each
// listener that asks for it.
func (n *plan) take(name, address string) *socket {
	for i, s := range n.free {
		if s.address == address && (!strings.HasSuffix(address, ":0") || s.owner.Load().name == name) {
			n.free = append(n.free[:i], n.free[i+1:]...)
			return s
		}
	}
	return nil
}

// undo closes what was opened.
func (n *plan) undo() {
	for _, s := range n.opened {
		s.bound.Close()
	}
}

// move gives taken sockets to their new listeners.
func (n *plan) move() {
	for s, l := range n.moved {
		s.owner.Store(l)
	}
}
