package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/proxyproto"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Who the client is: the other end of the connection, or whom a proxy in front of us names
// by the PROXY protocol.

// client is the client's address; not valid where it has none, over a Unix socket.
func (d *Downstream) client() netip.AddrPort {
	if d.proxied != nil && d.proxied.Source.IsValid() {
		return d.proxied.Source
	}
	return d.raw.Remote()
}

// unix reports whether the client came over a Unix socket and has no address.
func (d *Downstream) unix() bool { return d.raw.Unix() && !d.client().IsValid() }

// clientName is the client's address for logs: "unix" where it has none.
func (d *Downstream) clientName() string {
	if a := d.client(); a.IsValid() {
		return a.String()
	}
	return d.raw.RemoteName()
}

// called is the address that the client has called.
func (d *Downstream) called() netip.AddrPort {
	if d.proxied != nil && d.proxied.Destination.IsValid() {
		return d.proxied.Destination
	}
	if d.raw.Unix() {
		return netip.AddrPort{}
	}
	if d.captured {
		if to, err := d.raw.OriginalDestination(); err == nil {
			return to
		}
	}
	return d.raw.Local()
}

// origin is whom an endpoint is told of; nil: it is not told.
func (d *Downstream) origin(s *upstream.Settings) *upstream.Origin {
	if s.SendProxy == 0 {
		return nil
	}
	return &upstream.Origin{Client: d.client(), Called: d.called()}
}

// has reports whether c must begin with the header.
func (p *Proxied) has(c *engine.Conn) bool {
	if c.Unix() {
		return p.Unix
	}
	if len(p.From) == 0 {
		return false
	}
	a := c.Remote().Addr().WithZone("")
	for _, block := range p.From {
		if block.Contains(a) {
			return true
		}
	}
	return false
}

// readProxied reads the header, and nothing behind it: what follows may be for TLS. Parks.
func (d *Downstream) readProxied(within time.Duration) error {
	d.raw.ReadWithin(within)
	if err := d.raw.AwaitInput(firstRead); err != nil {
		return proxiedError(err)
	}
	buf := d.loop.loop.Buffer(firstRead)
	defer d.loop.loop.Release(buf)
	for have := 0; ; {
		n, err := d.raw.Read(buf[have : have+proxyproto.Missing(buf[:have])])
		if err != nil {
			return proxiedError(err)
		}
		have += n
		h, length, err := proxyproto.Parse(buf[:have])
		if err != nil {
			return proxiedError(err)
		}
		if length > 0 {
			d.proxied = &h
			return nil
		}
	}
}

func proxiedError(err error) error {
	e := &policy.Error{Reason: policy.ProxyHeader, Side: policy.Downstream, Phase: policy.PhaseAccept, Err: err}
	switch {
	case err == io.EOF:
		e.Reason, e.Err = policy.ClientAborted, errors.New("closed before the end of its PROXY protocol header")
	case errors.Is(err, os.ErrDeadlineExceeded):
		e.Err = fmt.Errorf("no whole PROXY protocol header in time: %w", err)
	case errors.Is(err, engine.ErrDrain):
		e.Reason, e.Side = policy.Draining, policy.Internally
	}
	return e
}
