package proxy

import (
	"errors"
	"io"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/detect"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// Listeners of protocol auto. A client that speaks at once, as all of HTTP do, is found out
// without a task and costs what it would on a listener of its protocol. One that stays silent
// may wait for the endpoint's greeting: it is connected to the service, and whoever speaks
// first decides.

// heldFor is how long a client that is still silent is kept where the service could not be
// connected to: it may yet turn out to speak HTTP, whose routes may lead elsewhere.
const heldFor = time.Second

// detect runs on the loop, without a task, as ready does.
func (d *Downstream) detect() {
	defer d.contain("connection")
	if d.raw.IdleExpired() {
		if !d.listener.conf.Load().Detect.ServerFirst || d.listener.closed.Load() {
			d.close()
			return
		}
		d.found(nil, 0)
		return
	}
	l := d.loop.loop
	if !l.HasRoom(firstRead) {
		d.found(nil, 0) // its task waits for room
		return
	}
	buf := l.Buffer(firstRead)
	n, err := d.raw.TryRead(buf)
	if n == 0 {
		l.Release(buf)
		if err == engine.ErrWouldBlock {
			d.raw.OnReadable(d.onReady)
			return
		}
		d.close()
		return
	}
	switch v := detect.Of(buf[:n]); v {
	case detect.HTTP1, detect.HTTP2:
		if x := d.requests(v, buf, n); x != nil {
			l.Go("http", x.serve)
		}
	default:
		d.found(buf, n)
	}
}

// firstByte is how long a client may be silent before something is done about it.
func (c *ListenerConfig) firstByte() time.Duration {
	if c.Detect.ServerFirst {
		return max(c.Detect.Within, 1)
	}
	return c.Timeouts.RequestHead
}

// agreed reports whether the client has chosen HTTP in its TLS handshake. In a mesh that says
// nothing: proxies that tunnel bytes name it, too.
func (d *Downstream) agreed() bool {
	return d.peer == nil && d.tls.ConnectionState().NegotiatedProtocol != ""
}

// found starts the task of a client that has sent the n bytes of buf, none that make it
// HTTP.
func (d *Downstream) found(buf []byte, n int) {
	d.state = stateReady
	r := newRace(d)
	r.x.near.buf, r.x.near.ready = buf, n
	if n == 0 {
		r.dialAt = d.loop.loop.Nanos()
	}
	d.loop.loop.Go("detect", r.serve)
}

// requests goes on with HTTP, of which buf[:n] has come. Nil: over HTTP/2, whose streams
// have tasks of their own.
func (d *Downstream) requests(v detect.Verdict, buf []byte, n int) *Exchange {
	d.onReady, d.begun = d.ready, true
	if conf := d.listener.conf.Load(); v == detect.HTTP2 && conf.HTTP2 != nil {
		d.serveStreams(conf, buf, n)
		return nil
	}
	x := d.exchange()
	x.http1.Begin(buf, n)
	return x
}

// race finds out what a client speaks on a task, while the service may be connected to.
// Loop only.
type race struct {
	x    *tcpExchange
	d    *Downstream
	task *engine.Task
	wake func()

	dialAt   int64 // Nanos from which a silent client is connected to the service; 0: never
	until    int64 // Nanos by which what has come must tell; 0: nothing has come
	dialled  bool  // or tried to
	dialling bool
	failed   error // of the connection, or why there is none
	heldTill int64
	left     bool // nobody waits for the connection that is being made
}

func newRace(d *Downstream) *race {
	r := &race{d: d, x: newTCPExchange(d)}
	if s := r.x.conf.Detect; s.ServerFirst {
		r.dialAt = r.x.start + int64(s.Within)
	}
	return r
}

// serve is the task of the connection.
func (r *race) serve(t *engine.Task) {
	v, err := r.decide(t)
	if v == detect.HTTP1 || v == detect.HTTP2 {
		r.abandon()
		if x := r.d.requests(v, r.x.near.buf, r.x.near.ready); x != nil {
			x.serveOn(t)
		}
		return
	}
	if err == errNoRequest {
		r.abandon()
		r.x.release()
		r.d.close()
		return
	}
	r.x.record.Detected = v.String()
	if r.x.far != nil && r.x.far.ready > 0 {
		r.x.record.Detected = "server_first"
	}
	if err != nil && r.dialling {
		r.left = true
		r.x.without().serve(t, err)
		return
	}
	r.x.serve(t, err)
}

// decide returns what the client speaks: Opaque too where the endpoint has spoken. An error
// ends the connection: errNoRequest without a word or a record.
func (r *race) decide(t *engine.Task) (v detect.Verdict, err error) {
	defer func() {
		if p := recover(); p != nil {
			r.d.loop.proxy.panicked("detect", p)
			v, err = detect.Opaque, &policy.Error{Reason: policy.Internal, Phase: policy.PhaseRecord, Err: errors.New("panic")}
		}
	}()
	r.task, r.wake = t, t.Ref().Wake
	for {
		if v, err := r.client(); v != detect.More || err != nil {
			return r.join(v, err)
		}
		if spoke, err := r.endpoint(); spoke || err != nil {
			return detect.Opaque, err
		}
		if over, err := r.clock(); over {
			return r.join(detect.Opaque, err)
		}
		if err := r.wait(); err != nil {
			return detect.Opaque, tunnelError(policy.Downstream, err)
		}
	}
}

// client takes what the client has sent.
func (r *race) client() (detect.Verdict, error) {
	down := r.x.near
	if down.ready > 0 {
		if v := detect.Of(down.buf[:down.ready]); v != detect.More {
			return v, nil
		}
	}
	for down.transport.Pending() {
		n, err := down.fill(firstRead)
		switch {
		case n > 0:
			if v := detect.Of(down.buf[:down.ready]); v != detect.More {
				return v, nil
			}
		case err == engine.ErrWouldBlock: // of TLS, whose records may hold nothing to read
		case err == io.EOF && (down.ready > 0 || r.x.up != nil):
			return detect.Opaque, nil // the tunnel comes upon it again
		case down.ready == 0:
			return detect.More, errNoRequest
		default:
			return detect.Opaque, tunnelError(policy.Downstream, err)
		}
	}
	if down.ready == 0 {
		down.release()
	} else if r.until == 0 {
		r.until = after(r.now(), r.x.conf.Timeouts.RequestHead)
	}
	return detect.More, nil
}

// endpoint reports whether the endpoint has spoken, or closed.
func (r *race) endpoint() (spoke bool, err error) {
	up := r.x.far
	if up == nil || !up.transport.Pending() {
		return false, nil
	}
	switch n, err := up.fill(tunnelBuffer); {
	case n > 0, err == io.EOF:
		return true, nil
	case err != engine.ErrWouldBlock:
		return false, tunnelError(policy.Upstream, err)
	}
	up.release()
	return false, nil
}

// clock does what is due, and reports whether the time is over; without an error, because
// what has come is no HTTP.
func (r *race) clock() (over bool, err error) {
	now := r.now()
	if r.dialAt != 0 && now >= r.dialAt && !r.dialled {
		r.dial()
	}
	switch {
	case r.until != 0 && now >= r.until:
		return true, nil
	case r.failed != nil && now >= r.heldTill:
		return true, r.failed
	case r.until == 0 && !r.dialled && r.dialAt == 0 && now >= r.x.start+int64(r.x.conf.Timeouts.RequestHead):
		return true, errNoRequest
	case r.x.up != nil && r.idle() > 0 && now >= r.x.start+int64(r.idle()):
		return true, &policy.Error{Reason: policy.TunnelIdle, Side: policy.Downstream, Phase: policy.PhaseBody, Err: engine.ErrTimeout}
	}
	return false, nil
}

func (r *race) idle() time.Duration { return r.x.conf.Service.Settings().Timeouts.Tunnel }

func (r *race) now() int64 { return r.d.loop.loop.Nanos() }

// after is d from now; never 0.
func after(now int64, d time.Duration) int64 { return now + max(int64(d), 1) }

// wait parks until something has happened or is due.
func (r *race) wait() error {
	next := after(r.x.start, r.x.conf.Timeouts.RequestHead)
	if idle := r.idle(); r.dialled {
		next = after(r.x.start, idle)
		if idle == 0 {
			next = after(r.now(), time.Hour) // looks again
		}
	}
	for _, at := range [...]int64{r.until, r.heldTill} {
		if at != 0 {
			next = min(next, at)
		}
	}
	if r.dialAt != 0 && !r.dialled {
		next = min(next, r.dialAt)
	}
	r.d.raw.ReadWithin(0)
	r.d.raw.OnReadable(r.wake)
	if up := r.x.up; up != nil {
		up.ReadWithin(0)
		up.Raw().OnReadable(r.wake)
	}
	err := r.task.ParkFor("detect", time.Duration(next-r.now()))
	r.d.raw.OnReadable(nil)
	if up := r.x.up; up != nil {
		up.Raw().OnReadable(nil)
	}
	if err == engine.ErrTimeout {
		return nil
	}
	return err
}

// dial connects to the service on a sibling, so that a client that speaks meanwhile is heard.
func (r *race) dial() {
	r.dialled = true
	if err := r.x.admit(); err != nil {
		r.hold(err)
		return
	}
	r.dialling = true
	r.d.loop.loop.Go("detect-dial", func(*engine.Task) {
		defer func() {
			if p := recover(); p != nil {
				r.d.loop.proxy.panicked("detect", p)
				r.failed = &policy.Error{Reason: policy.Internal, Phase: policy.PhaseConnect, Err: errors.New("panic")}
			}
			r.dialling = false
			if r.left {
				r.x.drop()
				return
			}
			r.wake()
		}()
		if err := r.x.connect(); err != nil {
			r.hold(err)
		} else if !r.left {
			r.x.up.UsedBy(r.task)
		}
	})
}

func (r *race) hold(err error) {
	r.failed, r.heldTill = err, after(r.now(), heldFor)
}

// join waits for a connection that is being made and now needed.
func (r *race) join(v detect.Verdict, err error) (detect.Verdict, error) {
	if v == detect.HTTP1 || v == detect.HTTP2 || err != nil {
		return v, err
	}
	r.d.raw.WatchAbort(r.task)
	defer r.d.raw.WatchAbort(nil)
	for r.dialling {
		if err := r.task.ParkFor("detect", time.Hour); err != nil && err != engine.ErrTimeout {
			return v, tunnelError(policy.Downstream, err)
		}
	}
	return v, nil
}

// abandon closes the connection to the service, which nobody needs.
func (r *race) abandon() {
	r.left = true
	if !r.dialling {
		r.x.drop()
	}
}
