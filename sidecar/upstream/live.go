package upstream

import (
	"errors"

	"github.com/larboard-proxy/larboard/policy"
)

// live is the list of a loop's connections to endpoints, in use and pooled, and the
// pass over it that judges them again. Owned by the loop.
type live struct {
	head    Conn // of the ring
	next    *Conn
	members map[*Service]map[*Endpoint]*Member // of this pass
}

func (v *live) init() { v.head.next, v.head.prev = &v.head, &v.head }

func (v *live) add(c *Conn) {
	c.prev, c.next = &v.head, v.head.next
	c.next.prev = c
	v.head.next = c
}

func (v *live) remove(c *Conn) {
	if c.next == nil {
		return
	}
	if v.next == c {
		v.next = c.next
	}
	c.prev.next, c.next.prev = c.next, c.prev
	c.next, c.prev = nil, nil
}

// Review begins a pass over the connections that live now.
func (l *Local) Review() {
	l.live.next, l.live.members = l.live.head.next, map[*Service]map[*Endpoint]*Member{}
}

// Judge goes on with the pass while there is more time, and cuts the connections to
// endpoints that are not whom their service expects any more: a pooled one is closed,
// the task that uses one is cancelled with the reason. denied is told of each. It
// reports whether the pass has ended.
func (l *Local) Judge(more func() bool, denied func(c *Conn, service string, err error)) bool {
	v := &l.live
	for v.next != &v.head && v.next != nil {
		if !more() {
			return false
		}
		c := v.next
		v.next = c.next
		err := c.judge(v.member(c))
		if err == nil {
			continue
		}
		denied(c, c.service.Name, err)
		if c.mux != nil {
			c.mux.sever(err)
		} else if c.user.Live() {
			c.cut = true
			c.user.Cancel(err)
		} else {
			c.idleEvent()
		}
	}
	v.next, v.members = nil, nil
	return true
}

// member is c's endpoint as discovery describes it now; as it was, where it has left.
func (v *live) member(c *Conn) *Member {
	of := v.members[c.service]
	if of == nil {
		set := c.service.Set()
		of = make(map[*Endpoint]*Member, len(set.Members))
		for i := range set.Members {
			of[set.Members[i].Endpoint] = &set.Members[i]
		}
		v.members[c.service] = of
	}
	if m := of[c.Endpoint]; m != nil {
		return m
	}
	return c.member
}

// judge says why the endpoint is not one to be connected to any more; nil: it is, or the
// connection has been cut.
func (c *Conn) judge(m *Member) error {
	mesh := c.service.Settings().Mesh
	if mesh == nil || c.cut {
		return nil
	}
	if c.PeerID == "" {
		return unexpected(errors.New("the endpoint has proven no identity, and one is asked for now"))
	}
	snap := mesh.Identity.Snapshot()
	if snap == nil {
		return unexpected(errors.New("there is no identity to judge the endpoint by"))
	}
	if err := c.proof.Holds(snap); err != nil {
		return unexpected(err)
	}
	peers, err := mesh.peers(m, snap)
	if err != nil {
		return unexpected(err)
	}
	if !peers.Accept(c.peer) {
		return unexpected(errors.New("the endpoint is " + c.PeerID + "; accepted now: " + peers.String()))
	}
	return nil
}

// stillExpected judges a connection that has just been made: the pass that followed a change
// while it was being made did not see it. Nothing has been sent yet, and another endpoint may
// be as expected.
func (c *Conn) stillExpected() error {
	if c.service.Settings().Mesh == nil {
		return nil
	}
	now := c.member
	set := c.service.Set()
	for i := range set.Members {
		if set.Members[i].Endpoint == c.Endpoint {
			now = &set.Members[i]
			break
		}
	}
	var e *policy.Error
	if errors.As(c.judge(now), &e) {
		e.Phase, e.MaybeProcessed, e.Retryable = policy.PhaseConnect, false, true
		return e
	}
	return nil
}

// unexpected is the error of an exchange whose endpoint has turned out not to be the
// one: the request may have reached it.
func unexpected(err error) error {
	return &policy.Error{Reason: policy.UpstreamTLSIdentity, Side: policy.Upstream, Phase: policy.PhaseWait, MaybeProcessed: true, Err: err}
}
