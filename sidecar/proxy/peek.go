package proxy

import (
	"github.com/larboard-proxy/larboard/sidecar/detect"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// peeked is what has been read of a connection whose protocol is not known yet: buf[:n], a
// lent buffer. Most connections never have one: their first bytes tell.
type peeked struct {
	buf []byte
	n   int
}

// peek reads on and judges what has come, without parking: where it is too little it is
// kept, and the connection waits without a task. more is false where nothing else is to be
// done now; otherwise buf[:n] is the caller's.
func (d *Downstream) peek() (buf []byte, n int, v detect.Verdict, more bool) {
	l := d.loop.loop
	if p := d.peeked; p != nil {
		buf, n, d.peeked = p.buf, p.n, nil
	} else {
		buf = l.Buffer(firstRead)
	}
	m, err := d.raw.TryRead(buf[n:])
	n += m
	if m > 0 {
		v = detect.HTTP1
		if !d.begun && d.listener.conf.Load().HTTP2 != nil {
			v = detect.HTTP(buf[:n])
		}
		if v != detect.More {
			d.begun = true
			return buf, n, v, true
		}
		err = engine.ErrWouldBlock
	}
	if err != engine.ErrWouldBlock {
		l.Release(buf)
		d.close()
		return nil, 0, 0, false
	}
	if n > 0 {
		d.peeked = &peeked{buf, n}
	} else {
		l.Release(buf)
	}
	d.state = stateIdle
	d.raw.OnReadable(d.onReady) // under the deadline that it has
	return nil, 0, 0, false
}

// unpeek gives back what was read of a connection that ends before it has said enough.
func (d *Downstream) unpeek() {
	if d.peeked != nil {
		d.loop.loop.Release(d.peeked.buf)
		d.peeked = nil
	}
}

// converse goes on after a TLS handshake, on its task: by what the client begins with, for
// what it has agreed to is not always what it speaks (tunnels through Consul's proxies).
func (d *Downstream) converse(t *engine.Task, conf *ListenerConfig) {
	if conf.HTTP2 == nil {
		d.begun = true
		d.exchange().serveOn(t)
		return
	}
	l := d.loop.loop
	d.raw.ReadWithin(conf.Timeouts.RequestHead)
	if err := d.tls.AwaitInput(firstRead); err != nil {
		d.close()
		return
	}
	buf, n := l.Buffer(firstRead), 0
	for {
		m, err := d.tls.Read(buf[n:])
		if err != nil {
			l.Release(buf)
			d.close()
			return
		}
		n += m
		if v := detect.HTTP(buf[:n]); v == detect.HTTP2 {
			d.begun = true
			d.serveStreams(conf, buf, n)
			return
		} else if v == detect.HTTP1 {
			break
		}
	}
	d.begun = true
	x := d.exchange()
	x.http1.Begin(buf, n)
	x.serveOn(t)
}

// protocolHTTP2 is how records name it.
const protocolHTTP2 = "http2"
