package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

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

// Plan is a snapshot that can be brought into force: its addresses are taken, and
// nothing that runs has changed. It ends with one call of Commit or Abandon.
type Plan struct {
	proxy    *Proxy
	snapshot *Snapshot
	made     map[string]*Listener // new ones, by name
	free     []*socket            // of listeners that end, to be taken over or closed
	opened   []*socket            // bound and not accepting yet
	moved    map[*socket]*Listener
}

// Prepare takes the addresses that are new in s, without accepting there yet. An
// error, which names the listener, leaves everything as it is. The control plane
// has one plan at a time, and none once it drains.
func (p *Proxy) Prepare(s *Snapshot) (*Plan, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.newPlan(s)
	for _, c := range s.Listeners {
		if l := p.listeners[c.Name]; l != nil && l.becomes(c) {
			continue
		}
		if c.Capture != nil && !p.engine.KnowsOriginalDestinations() {
			n.Abandon()
			return nil, fmt.Errorf("listener %q: %w", c.Name, errNoCapture)
		}
		l, err := n.listener(c)
		if err != nil {
			n.Abandon()
			return nil, err
		}
		n.made[c.Name] = l
	}
	return n, nil
}

// newPlan keeps the listeners that go on, and frees the sockets of the others.
func (p *Proxy) newPlan(s *Snapshot) *Plan {
	n := &Plan{proxy: p, snapshot: s, made: map[string]*Listener{}, moved: map[*socket]*Listener{}}
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
func (n *Plan) listener(c *ListenerConfig) (*Listener, error) {
	l := &Listener{proxy: n.proxy, name: c.Name, room: &room{}}
	if was := n.proxy.listeners[c.Name]; was != nil {
		l.room = was.room
	}
	l.conf.Store(c)
	for _, address := range c.Addresses {
		s := n.take(c.Name, address)
		if s != nil {
			n.moved[s] = l
		} else {
			s = &socket{address: address}
			s.owner.Store(l)
			var err error
			s.bound, err = n.proxy.engine.BindWith(listenOptions(c, address), s.accepted)
			if c.Capture != nil && lacksIPv6(address, err) {
				n.proxy.log.Info("this host has no IPv6 to capture", "listener", c.Name, "address", address)
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("listener %q: %w", c.Name, bindError(err))
			}
			n.opened = append(n.opened, s)
		}
		l.sockets = append(l.sockets, s)
	}
	return l, nil
}

// listenOptions say how address is taken. [::] leaves IPv4 alone where the listener names
// 0.0.0.0 with the same port beside it.
func listenOptions(c *ListenerConfig, address string) engine.ListenOptions {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return engine.ListenOptions{Network: "unix", Address: path, Mode: c.Bind.SocketMode}
	}
	o := engine.ListenOptions{Network: "tcp", Address: address, FreeBind: c.Bind.FreeBind, OnlyV6: c.Bind.V6Only}
	if port, ok := strings.CutPrefix(address, "[::]:"); ok && slices.Contains(c.Addresses, "0.0.0.0:"+port) {
		o.OnlyV6 = true
	}
	return o
}

// bindError adds what can be done to the reason why an address cannot be taken.
func bindError(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: this host does not hold the address; freebind: true listens there all the same", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: a low port, or a directory that is not writable?", err)
	}
	return err
}

// take finds a free socket of this address. Port 0 is another port for each
// listener that asks for it.
func (n *Plan) take(name, address string) *socket {
	for i, s := range n.free {
		if s.address == address && (!strings.HasSuffix(address, ":0") || s.owner.Load().name == name) {
			n.free = append(n.free[:i], n.free[i+1:]...)
			return s
		}
	}
	return nil
}

// Abandon frees the addresses again.
func (n *Plan) Abandon() {
	for _, s := range n.opened {
		s.bound.Close()
	}
}

// Commit brings the snapshot into force: configurations are swapped under the
// listeners that stay, sockets go over to listeners that have taken their addresses,
// new ones accept, and what is no longer named stops accepting. Connections live on.
func (n *Plan) Commit() {
	p := n.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	for s, l := range n.moved {
		s.owner.Store(l)
	}
	p.swap(n.snapshot, n.made)
	for _, s := range n.opened {
		s.bound.Start()
	}
	p.setModes()
}

// setModes gives the Unix sockets that were there before the modes that they have now.
func (p *Proxy) setModes() {
	for name, l := range p.listeners {
		mode := l.conf.Load().Bind.SocketMode
		for _, s := range l.sockets {
			if mode == 0 {
				continue
			}
			if err := s.bound.Chmod(mode); err != nil {
				p.log.Error("socket_mode not set", "listener", name, "error", err)
			}
		}
	}
}
