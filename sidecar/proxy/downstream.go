package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

// Downstream is one accepted connection. While it waits for its next request it
// is all there is of it, beside the engine's record: keep it small.
type Downstream struct {
	raw      *engine.Conn
	tls      *engine.TLS // nil: plain
	listener *Listener
	loop     *loopState
	peer     *peer // nil: none has proven itself
	onReady  func()
	next     *Downstream // the loop's list, for draining
	prev     *Downstream
	expires  int64 // Nanos from which each answer announces the close; 0: never
	state    connState
	inbound  bool
}

// peer is who has proven itself in the handshake.
type peer struct {
	id    spiffeid.ID
	text  string
	ends  int64 // Nanos at which the connection, waiting, is closed without a word
	proof identity.Proof
	task  engine.TaskRef // that serves the connection, or has
	cut   bool           // by Reauthorize; the task is about to end
}

type connState uint8

const (
	stateNew      connState = iota // a TLS handshake is due
	stateShaking                   // a task is at it
	stateReady                     // for a request, or as a tunnel
	stateIdle                      // between requests
	stateExchange                  // a task owns it
	stateClosed
)

var errNoRequest = errors.New("the client closed between requests")

// transport is what codecs read and write.
func (d *Downstream) transport() engine.Transport {
	if d.tls != nil {
		return d.tls
	}
	return d.raw
}

// PeerID is the SPIFFE ID of the caller; empty where none was proven.
func (d *Downstream) PeerID() string {
	if d.peer == nil {
		return ""
	}
	return d.peer.text
}

// accepted runs on the loop, without a task.
func (l *Listener) accepted(loop *engine.Loop, c *engine.Conn) {
	ls := l.proxy.loops[loop.Index()]
	conf := l.conf.Load()
	if r := l.admit(conf); r != policy.None {
		l.turnAway(ls, c, r)
		return
	}
	d := &Downstream{listener: l, loop: ls, raw: c}
	d.onReady = d.ready
	d.inbound = conf.Inbound
	ls.track(d)
	switch {
	case conf.TLS != nil:
		d.wait(conf.Timeouts.RequestHead)
	case conf.Protocol == TCP:
		d.state = stateReady
		loop.Go("tunnel", d.serveTCP)
	default:
		d.state = stateIdle
		d.raw.ReadWithin(conf.Timeouts.RequestHead)
		d.ready() // the request may have come with the connection
	}
}

// wait leaves the connection without task and buffers until it is readable.
func (d *Downstream) wait(most time.Duration) {
	if d.listener.closed.Load() && (most == 0 || most > drainIdle) {
		most = drainIdle
	}
	if d.peer != nil {
		if left := time.Duration(d.peer.ends - d.loop.loop.Nanos()); most == 0 || left < most {
			most = max(left, 1)
		}
	}
	d.raw.ReadWithin(most)
	d.raw.OnReadable(d.onReady)
}

// ready runs on the loop when a waiting connection is readable, has closed or has
// waited for too long.
func (d *Downstream) ready() {
	defer d.contain("connection")
	if d.raw.IdleExpired() {
		d.close()
		return
	}
	if d.state == stateNew {
		d.state = stateShaking
		d.loop.loop.Go("handshake", d.handshake)
		return
	}
	x := d.exchange()
	if d.tls == nil && !d.begin(x) {
		return
	}
	d.servedBy(d.loop.loop.Go("http", x.serve))
}

// contain turns a panic where there is no exchange into the end of the connection.
func (d *Downstream) contain(what string) {
	if v := recover(); v != nil {
		d.loop.proxy.panicked(what, v)
		d.close()
	}
}

// exchange takes an exchange for the connection's next request.
func (d *Downstream) exchange() *Exchange {
	d.state = stateExchange
	x := d.loop.exchange()
	x.Down = d
	x.server.Init(d.transport(), d.loop.loop, &d.listener.conf.Load().HTTP)
	return x
}

// begin reads what made the connection readable. If it is nothing after all, or the
// client has gone, there is no exchange, and a connection that stays waits without
// a task.
func (d *Downstream) begin(x *Exchange) bool {
	l := d.loop.loop
	if !l.HasRoom(firstRead) {
		return true // its task waits for room
	}
	buf := l.Buffer(firstRead)
	n, err := d.raw.TryRead(buf)
	if n > 0 {
		x.server.Begin(buf, n)
		return true
	}
	l.Release(buf)
	d.loop.recycle(x)
	d.state = stateIdle
	if err == engine.ErrWouldBlock {
		d.raw.OnReadable(d.onReady) // under the deadline that it has
		return false
	}
	d.close()
	return false
}

// firstRead is the codec's buffer towards clients.
const firstRead = 8 << 10

// idle is called when an exchange is over and nothing more has arrived.
func (d *Downstream) idle() {
	d.state = stateIdle
	d.wait(d.listener.conf.Load().Timeouts.KeepAlive)
}

// handshake makes the connection a TLS one, and goes on with its protocol.
func (d *Downstream) handshake(t *engine.Task) {
	defer d.contain("handshake")
	conf := d.listener.conf.Load()
	err := d.secure(conf)
	if err == nil {
		d.servedBy(t)
		// By what is in force now: it may have changed during the handshake.
		conf = d.listener.conf.Load()
		err = d.stillProven(conf)
	}
	if err != nil {
		d.loop.proxy.refused(d, err)
		d.close()
		return
	}
	d.state = stateReady
	if conf.Protocol == TCP {
		d.serveTCP(t)
		return
	}
	d.exchange().serveOn(t)
}

func (d *Downstream) secure(conf *ListenerConfig) error {
	material, err := conf.TLS()
	if err != nil {
		return err
	}
	d.raw.ReadWithin(conf.Timeouts.RequestHead)
	d.raw.WriteWithin(conf.Timeouts.RequestHead)
	tc := engine.TLSServer(d.raw, material.Config)
	if material.Slow {
		tc.SlowKey()
	}
	err = tc.Handshake()
	if errors.Is(err, engine.ErrOverload) {
		return &policy.Error{Reason: policy.Overloaded, Phase: policy.PhaseAccept, Err: err}
	}
	if err != nil {
		return identity.Classify(err, true)
	}
	d.tls = tc
	if material.Identity == nil {
		return nil
	}
	return d.prove(tc.ConnectionState(), material.Identity)
}

// prove notes who the peer is, and how long its certificate and ours last.
func (d *Downstream) prove(state tls.ConnectionState, snap *identity.Snapshot) error {
	id, err := identity.PeerID(state)
	if err != nil {
		return identity.Classify(err, true)
	}
	l := d.loop.loop
	drain := snap.DrainConnection(state, l.Rand())
	d.expires = l.Nanos() + int64(drain.Sub(l.Now()))
	// A close without a word may meet a request on its way. Halfway to the end of the
	// certificate every busy client has been told, and a proxy of ours, which does not
	// use its connections in the last tenth of the certificate's life, has gone.
	ends := d.expires + int64(snap.ConnectionEnd(state).Sub(drain)/2)
	d.peer = &peer{id: id, text: id.String(), ends: ends, proof: snap.CallerProof(state)}
	return nil
}

// authorize asks the allow list in force, at each exchange: a reload takes effect
// on connections that live.
func (d *Downstream) authorize(conf *ListenerConfig) error {
	if conf.Allow == nil {
		return nil
	}
	var id spiffeid.ID
	if d.peer != nil {
		id = d.peer.id
	}
	v := conf.Allow.Allow(id)
	if v.Allowed() {
		return nil
	}
	return &policy.Error{Reason: v.Reason(), Side: policy.Downstream, Phase: policy.PhaseRoute,
		Err: fmt.Errorf("caller %q: %s", id.String(), v.Rule())}
}

// headError sorts out what ReadHead returned. A connection on which no request has
// begun is closed without a word: a client might take a 408 for the answer to the
// request that it is just sending.
func (x *Exchange) headError(err error) error {
	switch {
	case err == nil:
		return nil
	case err == io.EOF, errors.Is(err, engine.ErrDrain),
		policy.ReasonOf(err) == policy.RequestTimeout && x.server.Buffered() == 0:
		return errNoRequest
	}
	return err
}

// last reports whether the connection should carry no further exchange.
func (d *Downstream) last() bool {
	return d.listener.closed.Load() ||
		d.expires != 0 && d.loop.loop.Nanos() >= d.expires
}

// close ends the connection for good; any number of times.
func (d *Downstream) close() {
	if d.state == stateClosed {
		return
	}
	d.state = stateClosed
	d.transport().Close()
	d.loop.untrack(d)
}

const (
	lingerFor   = 2 * time.Second
	lingerBytes = 1 << 20
)

// linger lets a client that is still sending read our answer: closing at once
// would reset the connection and take the answer with it.
func (d *Downstream) linger() {
	d.raw.WriteWithin(lingerFor)
	if d.transport().CloseWrite() == nil {
		d.raw.ReadWithin(lingerFor)
		b := d.loop.loop.Buffer(8 << 10)
		for n := 0; n < lingerBytes; {
			m, err := d.raw.Read(b)
			if err != nil {
				break
			}
			n += m
		}
		d.loop.loop.Release(b)
	}
	d.close()
}
