package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/detect"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/proxyproto"
)

// Downstream is one accepted connection. While it waits for its next request it
// is all there is of it, beside the engine's record: keep it small.
type Downstream struct {
	raw      *engine.Conn
	tls      *engine.TLS // nil: plain
	listener *Listener
	loop     *loopState
	peer     *peer              // nil: none has proven itself
	proxied  *proxyproto.Header // what a proxy in front has said of the client; nil: nothing
	onReady  func()
	next     *Downstream // the loop's list, for draining
	prev     *Downstream
	expires  int64    // Nanos from which each answer announces the close; 0: never
	streams  *streams // of HTTP/2; nil: HTTP/1, or not known yet
	peeked   *peeked
	state    connState
	inbound  bool
	begun    bool // it is known what is spoken
	captured bool // it was redirected to us: where it was going is its OriginalDestination
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
	stateNew      connState = iota // a PROXY header or a TLS handshake is due
	stateShaking                   // a task is at it
	stateReady                     // for a request, or as a tunnel
	stateIdle                      // between requests
	stateExchange                  // a task owns it
	stateStreams                   // HTTP/2
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
	if conf.Capture != nil {
		l.capture(ls, c, conf)
		return
	}
	l.take(ls, c, conf, false)
}

// take begins with a connection that is l's.
func (l *Listener) take(ls *loopState, c *engine.Conn, conf *ListenerConfig, captured bool) {
	loop := ls.loop
	proxied := conf.Proxied.has(c) // the client's address is not known yet
	if !proxied && !l.mayConnect(ls, conf, c.Remote().Addr()) {
		l.tooFast(ls, c)
		return
	}
	if r := l.admit(conf); r != policy.None {
		l.turnAway(ls, c, r)
		return
	}
	d := &Downstream{listener: l, loop: ls, raw: c}
	d.onReady = d.ready
	d.inbound, d.captured = conf.Inbound, captured
	ls.track(d)
	switch {
	case conf.TLS != nil || proxied:
		d.wait(conf.Timeouts.RequestHead)
	case conf.Protocol == TCP:
		d.state = stateReady
		loop.Go("tunnel", d.serveTCP)
	default:
		d.listen(conf)
	}
}

// listen begins with what is plain text. The request may have come with the connection.
func (d *Downstream) listen(conf *ListenerConfig) {
	d.state = stateIdle
	if conf.Protocol == Auto {
		d.raw.ReadWithin(conf.firstByte())
		d.onReady = d.detect
		d.detect()
		return
	}
	d.raw.ReadWithin(conf.Timeouts.RequestHead)
	d.ready()
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
		d.loop.loop.Go("handshake", d.open)
		return
	}
	roomy := d.peeked != nil || d.loop.loop.HasRoom(firstRead)
	switch {
	case d.tls != nil || !roomy && d.begun: // its task waits for room
		d.servedBy(d.loop.loop.Go("http", d.exchange().serve))
	case !roomy:
		d.state = stateReady
		d.loop.loop.Go("http", d.beginLater)
	default:
		d.begin()
	}
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
	x.http1.init(d)
	x.server = &x.http1
	return x
}

// begin reads what made the connection readable. If it is nothing after all, or the
// client has gone, there is no exchange, and a connection that stays waits without
// a task.
func (d *Downstream) begin() {
	buf, n, v, more := d.peek()
	switch {
	case !more:
	case v == detect.HTTP2:
		d.serveStreams(d.listener.conf.Load(), buf, n)
	default:
		x := d.exchange()
		x.http1.Begin(buf, n)
		d.servedBy(d.loop.loop.Go("http", x.serve))
	}
}

// beginLater is begin on a task, which waits for room first.
func (d *Downstream) beginLater(t *engine.Task) {
	defer d.contain("connection")
	if err := d.raw.AwaitInput(firstRead); err != nil {
		d.close()
		return
	}
	switch buf, n, v, more := d.peek(); {
	case !more:
	case v == detect.HTTP2:
		d.serveStreams(d.listener.conf.Load(), buf, n)
	default:
		x := d.exchange()
		x.http1.Begin(buf, n)
		x.serveOn(t)
	}
}

// firstRead is the codec's buffer towards clients.
const firstRead = 8 << 10

// idle is called when an exchange is over and nothing more has arrived.
func (d *Downstream) idle() {
	d.state = stateIdle
	d.wait(d.listener.conf.Load().Timeouts.KeepAlive)
}

// open reads a PROXY header and makes the connection a TLS one, as far as they are asked
// for, and goes on with its protocol.
func (d *Downstream) open(t *engine.Task) {
	defer d.contain("handshake")
	conf := d.listener.conf.Load()
	var err error
	if conf.Proxied.has(d.raw) {
		err = d.readProxied(conf.Timeouts.RequestHead)
		if err == nil && !d.listener.mayConnect(d.loop, conf, d.client().Addr()) {
			err = errTooFast()
		}
	}
	if err == nil && conf.TLS != nil {
		err = d.secure(conf)
	}
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
	switch {
	case conf.Protocol == TCP:
		d.serveTCP(t)
	case d.tls == nil:
		d.listen(conf)
	case conf.Protocol == Auto && !d.agreed():
		newRace(d).serve(t)
	default:
		d.converse(t, conf)
	}
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
		policy.ReasonOf(err) == policy.RequestTimeout && x.http1.Buffered() == 0:
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
	d.unpeek()
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
