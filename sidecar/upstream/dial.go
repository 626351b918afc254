package upstream

import (
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/proxyproto"
)

// dial connects to the choice's endpoint and, in a mesh, proves both sides. The
// connect timeout covers both. A connection for HTTP/2 has no codec yet.
func (l *Local) dial(c *Choice, s *Settings, tlsTo *target, w way) (*Conn, error) {
	conn, err := l.connect(c, s, tlsTo, w)
	if own := (*policy.Error)(nil); err != nil && errors.As(l.loop.Current().Err(), &own) {
		err = own // whoever cancelled the task says why
	}
	l.dialled(c.Service.Name, policy.ReasonOf(err))
	return conn, err
}

func (l *Local) connect(c *Choice, s *Settings, tlsTo *target, w way) (*Conn, error) {
	e := c.Member.Endpoint
	if !e.Addr.IsValid() && e.Path == "" {
		return nil, &policy.Error{Reason: policy.ConnectFailed, Side: policy.Upstream, Phase: policy.PhaseConnect,
			Retryable: true, Err: errors.New("the endpoint's address is neither an IP and port nor a Unix socket: " + e.Address)}
	}
	within := s.Timeouts.Connect
	if left := time.Duration(c.Until - l.loop.Nanos()); c.Until != 0 && (within == 0 || left < within) {
		within = max(left, 1)
	}
	began := l.loop.Nanos()
	raw, err := l.reach(e, within)
	if exhausted(err) {
		l.CloseIdle() // connections that nobody uses give way
		raw, err = l.reach(e, within)
	}
	if err != nil {
		return nil, connectError(err)
	}
	conn := &Conn{Endpoint: e, Transport: raw, raw: raw, idleFor: idleFor(s.Timeouts.Idle),
		service: c.Service, member: c.Member, user: l.loop.Current().Ref()}
	conn.onIdle = conn.idleEvent
	if s.SendProxy != 0 {
		if err := conn.introduce(s.SendProxy, c.For, within); err != nil {
			raw.Close()
			return nil, connectError(err)
		}
	}
	if tlsTo != nil {
		left := within
		if within > 0 {
			left = max(within-time.Duration(l.loop.Nanos()-began), 1)
		}
		raw.ReadWithin(left)
		raw.WriteWithin(left)
		chosen, err := conn.secure(tlsTo, w.alpn())
		if err != nil {
			raw.Close()
			return nil, err
		}
		w = w.taken(chosen)
		raw.SetDeadline(time.Time{})
	}
	if err := conn.stillExpected(); err != nil {
		conn.Transport.Close()
		return nil, err
	}
	if w == overHTTP1 {
		conn.http1 = http1.NewClient(conn.Transport, l.loop, &s.HTTP)
		conn.codec = conn.http1
	}
	l.live.add(conn)
	return conn, nil
}

// introduce begins the connection with the header of the PROXY protocol.
func (c *Conn) introduce(v proxyproto.Version, o *Origin, within time.Duration) error {
	b := c.raw.Loop().Buffer(1 << 10)
	defer c.raw.Loop().Release(b)
	header := b[:0]
	if o == nil {
		header = proxyproto.AppendLocal(header, v)
	} else {
		header = proxyproto.Append(header, v, o.Client, o.Called)
	}
	c.raw.WriteWithin(within)
	_, err := c.raw.Write(header)
	c.raw.WriteWithin(0)
	return err
}

// reach connects to e's address.
func (l *Local) reach(e *Endpoint, within time.Duration) (*engine.Conn, error) {
	if e.Path != "" {
		return l.loop.DialUnix(e.Path, within)
	}
	return l.loop.Dial(e.Addr, within)
}

// secure returns the protocol that the endpoint has chosen, if any.
func (c *Conn) secure(to *target, alpn []string) (chosen string, err error) {
	name := serverName(to.path, to.snapshot.ID().TrustDomain())
	t := engine.TLSClient(c.raw, to.snapshot.ClientConfigTo(name, to.peers, alpn...))
	if err := t.Handshake(); err != nil {
		if own := interrupted(err); own != nil {
			return "", own
		}
		return "", identity.Classify(err, false)
	}
	state := t.ConnectionState()
	id, err := identity.PeerID(state)
	if err != nil {
		return "", identity.Classify(err, false)
	}
	c.PeerID, c.Transport, c.peer = id.String(), t, id
	c.proof = to.snapshot.EndpointProof(state)
	loop := c.raw.Loop()
	until := to.snapshot.DrainConnection(state, loop.Rand())
	c.expires = loop.Nanos() + int64(until.Sub(loop.Now()))
	return state.NegotiatedProtocol, nil
}

// exhausted reports whether the process or the host has run out of descriptors.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

func connectError(err error) error {
	if own := interrupted(err); own != nil {
		return own
	}
	reason := policy.ConnectFailed
	if errors.Is(err, os.ErrDeadlineExceeded) {
		reason = policy.ConnectTimeout
	}
	return &policy.Error{Reason: reason, Side: policy.Upstream, Phase: policy.PhaseConnect, Retryable: true, Err: err}
}

// interrupted is the error of a connect that ended for no fault of the endpoint's: the
// client has gone, the engine drains, too many handshakes wait here, or there is no
// descriptor left. nil: it is
// the endpoint's.
func interrupted(err error) error {
	e := &policy.Error{Phase: policy.PhaseConnect, Err: err}
	switch {
	case errors.Is(err, engine.ErrPeerReset):
		e.Reason, e.Side = policy.ClientAborted, policy.Downstream
	case errors.Is(err, engine.ErrDrain):
		e.Reason = policy.Draining
	case errors.Is(err, engine.ErrOverload), exhausted(err):
		e.Reason = policy.Overloaded
	default:
		return nil
	}
	return e
}
