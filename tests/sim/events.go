package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// What happens to the mesh beside its traffic. Each event draws what it happens to when it
// is due, and puts right what it has broken after a while.

// spread is how long news takes to reach a sidecar at most.
const spread = 200 * time.Millisecond

// settling is how long after its end a fault may still explain a failure: what it has left
// in pools and on the wire has been met by then.
const settling = 1500 * time.Millisecond

func (m *mesh) drawEvents() {
	for range m.plan.events {
		m.at(300*time.Millisecond+time.Duration(m.random.Int64N(int64(m.plan.length))), m.happen)
	}
	if !m.plan.shortLived {
		return
	}
	for _, n := range m.nodes {
		m.at(certificatePeriod-time.Duration(m.random.Int64N(int64(8*time.Second))), func() { m.renew(n) })
	}
}

// renew is the rotation of a short-lived certificate, again and again.
func (m *mesh) renew(n *node) {
	m.rotate(n)
	if m.world.Now().Sub(epoch) < m.plan.length+certificatePeriod {
		m.at(certificatePeriod, func() { m.renew(n) })
	}
}

// happen does one event, drawn among those that can happen now.
func (m *mesh) happen() {
	all := []struct {
		kind string
		do   func(*node) bool
	}{
		{"a connection is reset", m.reset},
		{"a link is cut", m.cut},
		{"an address answers nothing", m.darken},
		{"a workload dies", m.killWorkload},
		{"a sidecar dies", m.killSidecar},
		{"an endpoint leaves and returns", m.flap},
		{"an endpoint leaves and returns", m.flap},
		{"a sidecar drains and starts again", m.drain},
		{"a certificate is rotated", m.rotate},
		{"the root is rotated", m.rotateRoot},
		{"a configuration is reloaded", m.reload},
		{"a configuration is reloaded", m.reload},
	}
	for range 8 {
		e := all[m.random.IntN(len(all))]
		n := m.nodes[m.random.IntN(len(m.nodes))]
		if n.busy {
			continue
		}
		if e.do(n) {
			m.log("EVENT %s: %s", n.name, e.kind)
			m.count("events", e.kind)
			return
		}
	}
}

func (m *mesh) lasting(least, most time.Duration) time.Duration {
	return least + time.Duration(m.random.Int64N(int64(most-least)))
}

// neighbour is a node that n speaks with, or n itself.
func (m *mesh) neighbour(n *node) *node {
	var all []*node
	for _, o := range m.nodes {
		if o.service != n.service {
			all = append(all, o)
		}
	}
	return all[m.random.IntN(len(all))]
}

func (m *mesh) reset(n *node) bool {
	o, part := n, partOf(n.service)
	if m.random.IntN(3) > 0 {
		o = m.neighbour(n)
		part = hopOf(n.service, o.service)
	}
	if !m.world.Break(n.host, o.host, m.random.IntN) {
		return false
	}
	m.fault(fault{kind: "connection reset", parts: part, until: m.world.Now().Add(settling)})
	return true
}

func (m *mesh) cut(n *node) bool {
	o := m.neighbour(n)
	f := m.fault(fault{kind: "link cut", parts: hopOf(n.service, o.service)})
	m.world.Cut(n.host, o.host)
	n.busy = true
	m.at(m.lasting(5*time.Millisecond, 12*time.Second), func() {
		m.world.Heal(n.host, o.host)
		n.busy = false
		m.over(f)
	})
	return true
}

func (m *mesh) darken(n *node) bool {
	if n.service == "a" {
		return false
	}
	address := netip.MustParseAddrPort(fmt.Sprintf("%s:%d", n.ip, meshPort))
	f := m.fault(fault{kind: "address dark", parts: partOf(n.service)})
	m.world.Blackhole(address)
	n.busy = true
	m.at(m.lasting(100*time.Millisecond, 8*time.Second), func() {
		m.world.Restore(address)
		n.busy = false
		m.over(f)
	})
	return true
}

func (m *mesh) killWorkload(n *node) bool {
	if n.work == nil {
		return false
	}
	f := m.fault(fault{kind: "workload dead", parts: partOf(n.service)})
	n.work.die()
	n.work, n.busy = nil, true
	noticed := m.random.IntN(2) == 0 && m.leave(n)
	m.at(m.lasting(50*time.Millisecond, 6*time.Second), func() {
		n.startWorkload()
		n.busy = false
		m.over(f)
		if noticed {
			m.join(n)
		}
	})
	return true
}

func (m *mesh) killSidecar(n *node) bool {
	f := m.fault(fault{kind: "sidecar dead", parts: partOf(n.service)})
	m.stopSidecar(n)
	n.busy = true
	noticed := n.service != "a" && m.random.IntN(2) == 0 && m.leave(n)
	m.at(m.lasting(50*time.Millisecond, 6*time.Second), func() {
		m.restart(n)
		m.over(f)
		if noticed {
			m.join(n)
		}
	})
	return true
}

// stopSidecar ends the process at once and looks at what it would have left behind.
func (m *mesh) stopSidecar(n *node) {
	if err := m.world.Kill(n.side.engine); err != nil {
		m.violate("%s: the killed sidecar: %v", n.name, err)
	}
	if err := n.side.inflight(); err != nil {
		m.violate("%s: the killed sidecar: %v", n.name, err)
	}
	n.side = nil
}

func (m *mesh) restart(n *node) {
	n.busy = false
	m.log("%s: the sidecar starts", n.name)
	if _, err := m.startSidecar(n); err != nil {
		m.violate("%s: does not start again: %v", n.name, err)
	}
}

// leave takes n out of its service, unless it is the last there, and tells everybody.
func (m *mesh) leave(n *node) bool {
	members := m.members[n.service]
	if len(members) < 2 || !slices.Contains(members, n.name) {
		return false
	}
	m.members[n.service] = slices.DeleteFunc(slices.Clone(members), func(name string) bool { return name == n.name })
	for _, port := range []int{meshPort, streamPort} {
		m.gone[fmt.Sprintf("%s:%d", n.ip, port)] = m.world.Now()
	}
	m.log("%s leaves its service", n.name)
	m.spreadNews(n.service)
	return true
}

func (m *mesh) join(n *node) {
	m.members[n.service] = append(slices.Clone(m.members[n.service]), n.name)
	for _, port := range []int{meshPort, streamPort} {
		delete(m.gone, fmt.Sprintf("%s:%d", n.ip, port))
	}
	m.log("%s joins its service", n.name)
	m.spreadNews(n.service)
}

// spreadNews delivers a service's endpoints to each sidecar, when its turn comes.
func (m *mesh) spreadNews(service string) {
	for _, n := range m.nodes {
		m.at(m.lasting(0, spread), func() {
			if n.side == nil || m.swallows(n) {
				return
			}
			for _, name := range []string{serviceB, serviceC, stream} {
				if of, _ := instancesOf(name); of == service {
					n.side.update(name, m.registered(name))
				}
			}
		})
	}
}

func (m *mesh) flap(n *node) bool {
	if n.service == "a" || !m.leave(n) {
		return false
	}
	n.busy = true
	m.at(m.lasting(20*time.Millisecond, 8*time.Second), func() {
		n.busy = false
		m.join(n)
	})
	return true
}

// drain is an orderly restart: nothing may fail for it.
func (m *mesh) drain(n *node) bool {
	if n.service == "a" || !m.leave(n) {
		return false
	}
	n.busy = true
	m.at(spread+100*time.Millisecond, func() { m.drainOne(n, true, 0) })
	return true
}

// drainLimit is how long one direction may take to drain.
const drainLimit = 30 * time.Second

func (m *mesh) drainOne(n *node, inbound bool, waited time.Duration) {
	if waited == 0 {
		n.side.proxy.Drain(inbound)
	}
	const step = 50 * time.Millisecond
	if waited == 0 || n.side.proxy.Active(inbound) > 0 && waited < drainLimit {
		m.at(step, func() { m.drainOne(n, inbound, waited+step) })
		return
	}
	if left := n.side.proxy.Active(inbound); left > 0 {
		m.log("%s: %d connections outlived the drain", n.name, left)
		m.fault(fault{kind: "drain cut short", parts: partOf(n.service), until: m.world.Now().Add(settling)})
	}
	if inbound {
		m.drainOne(n, false, 0)
		return
	}
	m.stopSidecar(n)
	m.restart(n)
	m.join(n)
}

func (m *mesh) rotate(n *node) bool {
	if !m.plan.mesh {
		return false
	}
	n.cert++
	m.renewed(n)
	return true
}

// renewed gives n's sidecar its material of now.
func (m *mesh) renewed(n *node) {
	if n.side == nil {
		return
	}
	n.side.identity.Set(m.material(n))
	n.side.proxy.Reauthorize()
}

// rotateRoot brings in a second root: known everywhere, then signing, then alone, which
// cuts what was proven under the first.
func (m *mesh) rotateRoot(*node) bool {
	if !m.plan.mesh || m.bundle[1] {
		return false
	}
	m.bundle[1] = true
	for _, n := range m.nodes {
		m.at(m.lasting(0, time.Second), func() { m.renewed(n) })
	}
	m.at(2*time.Second, func() {
		m.signer = 1
		for _, n := range m.nodes {
			m.at(m.lasting(0, time.Second), func() { m.rotate(n) })
		}
	})
	if m.random.IntN(2) == 0 {
		return true
	}
	m.at(5*time.Second, func() {
		m.bundle[0] = false
		m.fault(fault{kind: "root withdrawn", parts: hopAB | hopBC | hopAC, until: m.world.Now().Add(settling)})
		for _, n := range m.nodes {
			m.renewed(n)
		}
	})
	return true
}

func (m *mesh) reload(n *node) bool {
	if n.side == nil {
		return false
	}
	n.variant = m.random.IntN(12)
	if err := n.side.apply(); err != nil {
		m.violate("%s: reload: %v", n.name, err)
	}
	return true
}
