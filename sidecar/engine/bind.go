package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"syscall"
)

// ListenOptions say where a listener listens.
type ListenOptions struct {
	// Network and Address are "tcp" and "host:port", or "unix" and a path.
	Network, Address string
	// FreeBind takes an IP address that this host does not hold (yet).
	FreeBind bool
	// OnlyV6 keeps [::] from taking IPv4 connections too.
	OnlyV6 bool
	// Mode is that of a Unix socket's file; 0 leaves it to the umask of the process.
	Mode fs.FileMode
}

// Listen is Bind and Start.
func (e *Engine) Listen(network, address string, accept func(*Loop, *Conn)) (*Listener, error) {
	ln, err := e.Bind(network, address, accept)
	if err == nil {
		ln.Start()
	}
	return ln, err
}

// Bind is BindWith of a network and an address only.
func (e *Engine) Bind(network, address string, accept func(*Loop, *Conn)) (*Listener, error) {
	return e.BindWith(ListenOptions{Network: network, Address: address}, accept)
}

// BindWith takes an address; connections wait in the kernel's queue until Start, so that a
// taken address is an error before there is anything to serve. accept is called on the loop
// that owns the connection, must not park, and starts a task or calls Conn.OnReadable. The
// caller starts or closes the listener before the engine ends. Any goroutine; it may resolve
// a host name.
func (e *Engine) BindWith(o ListenOptions, accept func(*Loop, *Conn)) (*Listener, error) {
	ln := &Listener{engine: e, accept: accept}
	var err error
	if o.Network == "unix" {
		err = ln.bindUnix(o)
	} else {
		err = ln.bindTCP(o)
	}
	if err != nil {
		return nil, fmt.Errorf("engine: listen %s: %w", o.Address, err)
	}
	return ln, nil
}

func (ln *Listener) bindTCP(o ListenOptions) error {
	addr, err := resolveListen(o.Network, o.Address)
	if err != nil {
		return err
	}
	fds, err := ln.bind(addr, o)
	if errors.Is(err, syscall.EAFNOSUPPORT) && addr.Addr() == netip.IPv6Unspecified() && !o.OnlyV6 {
		fds, err = ln.bind(netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port()), o)
	}
	ln.bound = fds
	return err
}

// bind opens a socket for each loop, all on the port that the first one gets.
func (ln *Listener) bind(addr netip.AddrPort, o ListenOptions) ([]int, error) {
	loops := ln.engine.acceptLoops()
	ln.shared = ln.engine.alone
	if addr.Port() != 0 {
		if err := probe(loops[0].poller, addr, o); err != nil {
			return nil, err
		}
	}
	fds := make([]int, 0, len(loops))
	for _, l := range loops {
		fd, bound, err := listen(l.poller, addr, o)
		if err != nil {
			for i, fd := range fds {
				loops[i].poller.CloseSocket(fd, false)
			}
			return nil, err
		}
		fds = append(fds, fd)
		addr, ln.addr = netip.AddrPortFrom(addr.Addr(), bound.Port()), bound
	}
	return fds, nil
}

// special reports whether the socket needs options.
func (o *ListenOptions) special() bool { return o.FreeBind || o.OnlyV6 }

func listen(p Poller, addr netip.AddrPort, o ListenOptions) (fd int, bound netip.AddrPort, err error) {
	if !o.special() {
		return p.Listen(addr)
	}
	special, ok := p.(SpecialListener)
	if !ok {
		return -1, netip.AddrPort{}, errors.ErrUnsupported
	}
	return special.ListenSpecial(addr, o.FreeBind, o.OnlyV6)
}

func probe(p Poller, addr netip.AddrPort, o ListenOptions) error {
	if !o.special() {
		if p, ok := p.(Prober); ok {
			return p.Probe(addr)
		}
	} else if p, ok := p.(SpecialListener); ok {
		return p.ProbeSpecial(addr, o.FreeBind, o.OnlyV6)
	}
	return nil
}

// SpecialListener is what a Poller may also offer: Listen and Probe with socket options.
type SpecialListener interface {
	ListenSpecial(addr netip.AddrPort, free, onlyV6 bool) (fd int, bound netip.AddrPort, err error)
	ProbeSpecial(addr netip.AddrPort, free, onlyV6 bool) error
}

// Prober is what a Poller may also offer: to say whether an address is free. SO_REUSEPORT
// would let a second process share it silently.
type Prober interface {
	// Probe returns EADDRINUSE if anybody listens on addr. Any goroutine.
	Probe(addr netip.AddrPort) error
}

func resolveListen(network, address string) (netip.AddrPort, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return netip.AddrPort{}, fmt.Errorf("network %q is not supported", network)
	}
	a, err := net.ResolveTCPAddr(network, address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ap := a.AddrPort()
	if zone := ap.Addr().Zone(); zone != "" && zoneID(zone) == 0 {
		return netip.AddrPort{}, fmt.Errorf("this host has no interface %q", zone)
	}
	if !ap.Addr().IsValid() {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), ap.Port()), nil
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// Addr is the bound IP address, with the port that port 0 became: the same on all loops. It
// is not valid for a Unix socket.
func (ln *Listener) Addr() netip.AddrPort { return ln.addr }

// Address is the bound address as text: IP:port, or unix:// and a path.
func (ln *Listener) Address() string {
	if ln.file != nil {
		return "unix://" + ln.file.path
	}
	return ln.addr.String()
}
