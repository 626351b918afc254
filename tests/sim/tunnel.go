package sim

import (
	"fmt"
	"strings"
	"time"

	network "github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// tunnel is one end of a call that carries bytes both ways: it sends its body in two
// pieces, takes the other's, and ends its direction as the call's plan has it.
type tunnel struct {
	mesh   *mesh
	call   *call
	peer   *network.Peer
	client bool
	proof  proof
	sent   bool
	ended  bool // the other end's FIN
	shut   bool
	look   func() // after this end has done something by itself; nil: nobody
}

func (m *mesh) tunnel(c *call, p *network.Peer, client bool) *tunnel {
	t := &tunnel{mesh: m, call: c, peer: p, client: client}
	t.proof = proof{text: m.tools.text, id: c.askID(c.to), want: c.askSize}
	if client {
		t.proof.id, t.proof.want = c.answerID(c.to), c.answerSize
	}
	return t
}

// begin sends.
func (t *tunnel) begin() {
	c := t.call
	id, size := c.answerID(c.to), c.answerSize
	if t.client {
		id, size = c.askID(c.to), c.askSize
	}
	body := t.mesh.tools.text.whole(id, size)
	t.peer.Send(body[:size/2])
	t.mesh.world.After(c.uploadPause+time.Millisecond, func() {
		t.peer.Send(body[size/2:])
		t.sent = true
		first := c.shutFirst == 2 || t.client == (c.shutFirst == 0)
		if first || t.ended {
			t.shutdown()
		}
		if t.look != nil {
			t.look()
		}
	})
}

func (t *tunnel) shutdown() {
	if !t.shut {
		t.shut = true
		t.peer.CloseWrite()
	}
}

// end is the other end's FIN.
func (t *tunnel) end() {
	if t.ended {
		return
	}
	t.ended = true
	if !t.client && t.proof.whole() {
		t.call.farEnd = true
	}
	if t.sent {
		t.shutdown()
	}
}

// over reports that this end has nothing more to do, or cannot.
func (t *tunnel) over() bool { return t.ended && t.shut || t.peer.Err() != nil }

// dialer is the client of one tunnel.
type dialer struct {
	call   *call
	peer   *network.Peer
	tunnel *tunnel
	open   bool // the answer that makes it one has come
}

// dig opens the tunnel of a call.
func (m *mesh) dig(c *call) {
	a := m.nodes[0]
	d := &dialer{call: c}
	d.peer = a.host.Dial(a.entrance(c.port()))
	d.tunnel = m.tunnel(c, d.peer, true)
	d.tunnel.look = d.react
	if c.kind == raw {
		d.open = true
		d.peer.Send(fmt.Sprintf("call %d\n", c.id))
		d.tunnel.begin()
	} else {
		d.peer.Send(fmt.Sprintf("GET /%s/%d HTTP/1.1\r\nHost: %s\r\nX-Id: %d\r\nConnection: upgrade\r\nUpgrade: sim\r\n\r\n", c.to, c.id, c.to, c.id))
	}
	if c.stall > 0 {
		d.peer.Stall()
		m.world.After(c.stall, d.peer.Resume)
	}
	if c.abortAfter > 0 {
		m.world.After(c.abortAfter, d.abort)
	}
	d.peer.React(func(*network.Peer) { d.react() })
}

func (d *dialer) abort() {
	if d.call.done {
		return
	}
	d.call.aborted = true
	d.peer.Reset()
	d.tunnel.mesh.finish(d.call, "aborted")
}

func (d *dialer) react() {
	p, t := d.peer, d.tunnel
	if d.call.done {
		p.Take()
		return
	}
	if !d.open && !d.answered() {
		return
	}
	t.proof.take(p.Take())
	if p.Ended() {
		t.end()
	}
	switch {
	case p.Err() != nil:
		d.fail("tunnel " + p.Err().Error())
	case t.ended && !t.proof.whole():
		d.fail(fmt.Sprintf("tunnel: %d of %d bytes, wrong %v", t.proof.got, t.proof.want, t.proof.wrong))
	case t.over():
		p.Close()
		t.mesh.finish(d.call, "")
	}
}

// answered reads the head of the answer.
func (d *dialer) answered() bool {
	text, rest, ok := strings.Cut(d.peer.Got(), "\r\n\r\n")
	switch {
	case ok && strings.HasPrefix(text, "HTTP/1.1 101 "):
		if !strings.Contains(strings.ToLower(text), fmt.Sprintf("\r\nx-id: %d", d.call.id)) {
			d.tunnel.mesh.violate("%v was answered with %q", d.call, text)
		}
		d.open = true
		d.peer.Take()
		d.tunnel.proof.take(rest)
		d.tunnel.begin()
		return true
	case ok:
		line, _, _ := strings.Cut(text, "\r\n")
		d.fail(fmt.Sprintf("answer %q", line))
	case d.peer.Over():
		d.fail(fmt.Sprintf("no answer: %v", d.peer.Err()))
	}
	return false
}

func (d *dialer) fail(why string) {
	d.peer.Close()
	d.tunnel.mesh.finish(d.call, why)
}
