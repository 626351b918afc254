package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/captured"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// Captured connections were made to somebody else and redirected to us by the kernel. A capture
// listener asks where each was going and hands it over to the listener that stands for that
// address; from then on it is one of that listener's as any other. What is not captured meets
// nothing of this but one comparison when it is accepted.

// Capture makes a listener one for redirected connections.
type Capture struct {
	// Pass carries connections that no listener stands for on to where they were going, as they
	// are, for the listener's Service; without it they are reset.
	Pass bool
	// Plain hands plain text for a listener with TLS to the one whose name is the same with
	// PlainSuffix behind it; where there is none, it is refused like any.
	Plain bool
}

// PlainSuffix ends the name of the listener for plain text that stands beside one with TLS.
const PlainSuffix = "-plain"

// Captures are the addresses that listeners stand for, and what has to be known for not calling
// ourselves.
type Captures struct {
	Outbound, Inbound []CapturedAddress
	// Local are the addresses of this host, but for loopback ones.
	Local []netip.Addr
	// Own are the places where this process listens beside the proxy's listeners.
	Own []netip.AddrPort
}

// CapturedAddress is one that a listener stands for.
type CapturedAddress struct {
	Prefix   netip.Prefix // zero: every address
	Port     uint16       // 0: every port
	Listener string
}

// Capture brings c into force for connections that come from now on; what it says of listeners
// that are not there is for those that a later snapshot brings. Called by the control plane.
func (p *Proxy) Capture(c Captures) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.captures = c
	p.resolve()
}

// capturing is Captures with the listeners that run. Immutable.
type capturing struct {
	in, out *captured.Table
	takers  []taker
	local   map[netip.Addr]bool
	own     map[uint16][]ownPlace
}

// taker is the listener of an entry, and the one for plain text beside it.
type taker struct{ listener, plain *Listener }

// ownPlace is an address where we listen; listener is nil where it is none of the proxy's.
type ownPlace struct {
	addr     netip.Addr
	listener *Listener
}

// resolve finds the listeners of the addresses; p.mu is held.
func (p *Proxy) resolve() {
	capture := false
	for _, l := range p.listeners {
		capture = capture || l.conf.Load().Capture != nil
	}
	p.engine.NoteDialled(capture)
	if !capture {
		p.capturing.Store(nil)
		return
	}
	s := &capturing{local: map[netip.Addr]bool{}, own: map[uint16][]ownPlace{}}
	s.in, s.out = p.table(s, p.captures.Inbound), p.table(s, p.captures.Outbound)
	for _, a := range p.captures.Local {
		s.local[a] = true
	}
	for _, a := range p.captures.Own {
		s.own[a.Port()] = append(s.own[a.Port()], ownPlace{a.Addr(), nil})
	}
	for _, l := range p.listeners {
		for _, address := range l.Addresses() {
			if a, err := netip.ParseAddrPort(address); err == nil {
				s.own[a.Port()] = append(s.own[a.Port()], ownPlace{a.Addr(), l})
			}
		}
	}
	p.capturing.Store(s)
}

func (p *Proxy) table(s *capturing, addresses []CapturedAddress) *captured.Table {
	var entries []captured.Entry
	for _, a := range addresses {
		if l := p.listeners[a.Listener]; l != nil {
			entries = append(entries, captured.Entry{Prefix: a.Prefix, Port: a.Port, To: len(s.takers)})
			s.takers = append(s.takers, taker{l, p.listeners[a.Listener+PlainSuffix]})
		}
	}
	return captured.New(entries)
}

// here reports whether a is an address of this host.
func (s *capturing) here(a netip.Addr) bool {
	return a.IsLoopback() || a.IsUnspecified() || s.local[a]
}

// ours reports whether to is a place where we listen, or any address of this host at a port of
// ours: whichever of them it is, no workload of this host is meant. mesh is the inbound listener
// that is at exactly this place, if any.
func (s *capturing) ours(to netip.AddrPort) (ours bool, mesh *Listener) {
	places := s.own[to.Port()]
	if len(places) == 0 || !s.here(to.Addr()) {
		return false, nil
	}
	for _, at := range places {
		if at.listener == nil || !at.addr.IsUnspecified() && at.addr != to.Addr() {
			continue
		}
		if c := at.listener.conf.Load(); c.Inbound && c.Capture == nil {
			return true, at.listener
		}
	}
	return true, nil
}

// capture runs on the loop, without a task, when a connection has been redirected to l.
func (l *Listener) capture(ls *loopState, c *engine.Conn, conf *ListenerConfig) {
	to, err := c.OriginalDestination()
	if err != nil {
		l.refuseCaptured(ls, c, policy.CaptureUnknown, fmt.Errorf("where it was going is not known: %w", err))
		return
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	s := l.proxy.capturing.Load()
	if s == nil { // the listener is about to be closed
		c.Close()
		return
	}
	if l.proxy.engine.Dialled(c.Remote(), to) {
		l.refuseCaptured(ls, c, policy.CaptureLoop, fmt.Errorf("this proxy itself made it, to %s, and it was redirected: the rules have to spare the proxy's user, which is %d", to, os.Geteuid()))
		return
	}
	if ours, mesh := s.ours(to); ours {
		// What calls the mesh listener itself, and is redirected all the same, has arrived.
		if conf.Inbound && mesh != nil {
			mesh.take(ls, c, mesh.conf.Load(), true)
			return
		}
		l.refuseCaptured(ls, c, policy.CaptureLoop, l.whyOurs(c, to))
		return
	}
	table := s.out
	if conf.Inbound {
		table = s.in
	}
	if i, ok := table.Lookup(to); ok {
		l.handOver(ls, c, conf, s.takers[i])
		return
	}
	switch {
	case !conf.Capture.Pass:
		l.refuseCaptured(ls, c, policy.CaptureUnknown, fmt.Errorf("it was going to %s", to))
	case conf.Inbound && !s.here(to.Addr()):
		// Carrying on what only came past would lend our address to whoever sent it.
		l.refuseCaptured(ls, c, policy.CaptureUnknown, fmt.Errorf("it was going to %s, which is no address of this host", to))
	default:
		l.take(ls, c, conf, true)
	}
}

func (l *Listener) whyOurs(c *engine.Conn, to netip.AddrPort) error {
	if to == c.Local() {
		return fmt.Errorf("it came to %s by itself: nothing has redirected it", to)
	}
	return fmt.Errorf("it was going to %s, which is ours", to)
}

// refuseCaptured resets a connection: as far as its client knows, it reached the address that it
// called, and an end in order would look like an answer from there.
func (l *Listener) refuseCaptured(ls *loopState, c *engine.Conn, r policy.Reason, err error) {
	err = &policy.Error{Reason: r, Side: policy.Downstream, Phase: policy.PhaseAccept, Err: err}
	l.proxy.meter.Refused(ls.index, l.name, r)
	l.proxy.refusals.log("connection refused", l.name, err, "listener", l.name, "client", c.RemoteName())
	ls.witness(l, err, c.Remote(), false, "")
	c.Abort()
}

// handOver gives a connection to the listener that stands for where it was going.
func (l *Listener) handOver(ls *loopState, c *engine.Conn, conf *ListenerConfig, t taker) {
	to := t.listener.conf.Load()
	if !conf.Capture.Plain || t.plain == nil || to.TLS == nil {
		t.listener.take(ls, c, to, true)
		return
	}
	if r := l.admit(conf); r != policy.None {
		t.listener.turnAway(ls, c, r)
		return
	}
	w := &undecided{by: l, ls: ls, raw: c, taker: t}
	l.proxy.active(conf.Inbound).Add(1)
	c.ReadWithin(w.within(to))
	w.look()
}

// plainAfter is how long a client may be silent before it is taken for one that waits to be spoken
// to, which those of TLS never do.
const plainAfter = 200 * time.Millisecond

// undecided is an inbound connection that may turn out to be of TLS or plain text. It has a place
// among those of its capture listener. Owned by the loop.
type undecided struct {
	by    *Listener
	ls    *loopState
	raw   *engine.Conn
	taker taker
}

// within is how long to wait for the first byte.
func (w *undecided) within(to *ListenerConfig) time.Duration {
	if to.Protocol == HTTP || to.Protocol == Auto && !to.Detect.ServerFirst {
		return to.Timeouts.RequestHead
	}
	return plainAfter
}

// recordTLS is the first byte of a TLS handshake (RFC 8446 section 5.1).
const recordTLS = 22

// look runs on the loop, without a task, when something may have come.
func (w *undecided) look() {
	to := w.taker.listener
	var b [1]byte
	n, err := w.raw.Peek(b[:])
	switch {
	case n > 0 && b[0] != recordTLS:
		to = w.taker.plain
	case n > 0:
	case err == engine.ErrWouldBlock && !w.raw.IdleExpired():
		w.raw.OnReadable(w.look)
		return
	case err == engine.ErrWouldBlock && w.within(to.conf.Load()) == plainAfter:
		to = w.taker.plain
	default: // nobody is there, or has anything to say
		w.leave()
		w.raw.Close()
		return
	}
	w.leave()
	w.raw.ReadWithin(0)
	to.take(w.ls, w.raw, to.conf.Load(), true)
}

func (w *undecided) leave() {
	w.by.leave()
	w.by.proxy.active(w.by.conf.Load().Inbound).Add(-1)
}

var errNoCapture = errors.New("this system does not tell where redirected connections were going: capturing needs Linux")

// lacksIPv6 reports whether err says that there is no IPv6 to listen on.
func lacksIPv6(address string, err error) bool {
	if !strings.HasPrefix(address, "[::1]:") && !strings.HasPrefix(address, "[::]:") {
		return false
	}
	return slices.ContainsFunc([]error{syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT}, func(e error) bool { return errors.Is(err, e) })
}
