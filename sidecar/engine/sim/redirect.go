package sim

import "net/netip"

// Redirect is a rule of a host's kernel: where connections to an address really go. An address
// that is not valid leaves them alone.
type Redirect func(to netip.AddrPort) netip.AddrPort

// RedirectOut rules the connections that the scripted peers of the host make; those of its engines
// are left alone, as a rule that spares the proxy's user does. nil: none.
func (h *Host) RedirectOut(r Redirect) { h.out = r }

// RedirectIn rules the connections that other hosts make to this one. nil: none.
func (h *Host) RedirectIn(r Redirect) { h.in = r }

// RedirectEngines has RedirectOut rule what engines of the host connect to, too: a rule that spares
// nobody.
func (h *Host) RedirectEngines(on bool) { h.all = on }

func (h *Host) redirected(to netip.AddrPort, byEngine bool) netip.AddrPort {
	if byEngine && !h.all {
		return to
	}
	return h.out.apply(to)
}

func (h *Host) redirectedIn(to netip.AddrPort) netip.AddrPort { return h.in.apply(to) }

func (r Redirect) apply(to netip.AddrPort) netip.AddrPort {
	if r == nil {
		return to
	}
	if there := r(to); there.IsValid() {
		return there
	}
	return to
}

// OriginalDestination implements engine.OriginalDestinations.
func (p *poller) OriginalDestination(fd int, _ netip.Addr) (netip.AddrPort, error) {
	s, err := p.host.get(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return s.original, nil
}

// PeekBytes implements engine.Peeker.
func (p *poller) PeekBytes(fd int, b []byte) (int, error) {
	s, err := p.host.get(fd)
	if err != nil {
		return 0, err
	}
	if n := copy(b, s.in); n > 0 {
		return n, nil
	}
	return s.peek()
}
