package upstream

import (
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

func TestTheConnectionUsedLastIsUsedNext(t *testing.T) {
	r, s := newRig(t, engine.Options{}), service(nil, origin(t, nil))
	r.on(func(l *Local) {
		first := call(t, l, s)
		if first.Reused {
			t.Error("reused at its first use")
		}
		if second := call(t, l, s); second != first || !second.Reused {
			t.Errorf("%p after %p, reused %v", second, first, second.Reused)
		}
		choice, _ := l.Pick(s, &Tried{})
		defer l.Done(&choice, policy.Outcome{Connected: true})
		fresh, err := l.Acquire(&choice, true)
		if err != nil || fresh == first || fresh.Reused {
			t.Errorf("asked for a fresh one: %p %v", fresh, err)
		}
		l.Put(fresh) // nothing was asked over it: nobody knows what it is worth
		if !fresh.raw.Closed() || first.raw.Closed() {
			t.Errorf("unused closed %v, pooled closed %v", fresh.raw.Closed(), first.raw.Closed())
		}
	})
	if n := idle(r, s); n != 1 {
		t.Errorf("%d idle", n)
	}
}

// idle counts the idle connections of a service on all loops; each endpoint must know how
// many of them are its own.
func idle(r *rig, s *Service) (n int) {
	r.t.Helper()
	own := map[*Endpoint]int64{}
	for i := range r.locals {
		<-r.start(i, func(_ *engine.Task, l *Local) {
			if ls := l.services[s]; ls != nil {
				for key, p := range ls.pools {
					n += len(p.idle)
					own[key.Endpoint] += int64(len(p.idle))
				}
			}
		})
	}
	for e, want := range own {
		if got := e.Idle(); got != want {
			r.t.Errorf("%s counts %d idle connections, and has %d", e.Address, got, want)
		}
	}
	return n
}

// What must be the same for a connection to be used again, one at a time: each change
// ends the idle ones made before it.
func TestPoolKey(t *testing.T) {
	a := authority(t)
	address := origin(t, current(issued(t, a, "/api")).Snapshot().ServerConfig(identity.AnyTrusted()))
	api, other := spiffeid.RequireFromString("spiffe://test.mesh/api"), spiffeid.RequireFromString("spiffe://test.mesh/other")
	for _, c := range []struct {
		name   string
		change func(*identity.Current, *Service)
	}{
		{"certificate rotated", func(id *identity.Current, _ *Service) { id.Set(issued(t, a, "/web")) }},
		{"another identity", func(id *identity.Current, _ *Service) { id.Set(issued(t, a, "/elsewhere")) }},
		{"another identity holder", func(_ *identity.Current, s *Service) {
			to := *s.Settings()
			to.Mesh = &Mesh{Identity: current(issued(t, a, "/third")), Path: "/api"}
			s.Configure(&to)
		}},
		{"other peers", func(_ *identity.Current, s *Service) {
			to := *s.Settings()
			mesh := *to.Mesh
			mesh.Peers = identity.AnyOf(api, other)
			to.Mesh = &mesh
			s.Configure(&to)
		}},
		{"mesh left", func(_ *identity.Current, s *Service) {
			to := *s.Settings()
			to.Mesh = nil
			s.Configure(&to)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := current(issued(t, a, "/web"))
			r, s := newRig(t, engine.Options{}), service(&Mesh{Identity: id, Path: "/api"}, address)
			r.on(func(l *Local) {
				first := call(t, l, s)
				busyChoice, _ := l.Pick(s, &Tried{})
				busy, err := l.Acquire(&busyChoice, true)
				if err != nil || exchange(busy) != nil {
					t.Fatal(err)
				}
				if first.PeerID != api.String() {
					t.Errorf("peer %q", first.PeerID)
				}
				c.change(id, s)
				choice, _ := l.Pick(s, &Tried{})
				second, err := l.Acquire(&choice, false)
				if err != nil {
					t.Fatal(err)
				}
				if second == first || second.Reused || !first.raw.Closed() {
					t.Errorf("the same connection %v, the idle one closed %v", second == first, first.raw.Closed())
				}
				l.Put(busy)
				l.Done(&busyChoice, policy.Outcome{Connected: true})
				if !busy.raw.Closed() {
					t.Error("one in use at the change was kept after it")
				}
				l.Close(second)
				l.Done(&choice, policy.Outcome{Connected: true})
				if n := len(l.services[s].pools); n != 1 {
					t.Errorf("%d pools of one endpoint", n)
				}
			})
		})
	}
}

// Two members at one address are two endpoints: what is proven of one is not of the other.
func TestEndpointsAtOneAddressShareNoConnection(t *testing.T) {
	r, address := newRig(t, engine.Options{}), origin(t, nil)
	a, b := service(nil, address), service(nil, address)
	r.on(func(l *Local) {
		if first, second := call(t, l, a), call(t, l, b); first == second || second.Reused {
			t.Error("two services share a connection")
		}
	})
}

func TestIdleConnectionsEndWithTheirEndpoint(t *testing.T) {
	r := newRig(t, engine.Options{Loops: 2})
	stays, leaves := origin(t, nil), origin(t, nil)
	s := service(nil, stays, leaves)
	for i := range r.locals {
		<-r.start(i, func(_ *engine.Task, l *Local) { call(t, l, s); call(t, l, s) })
	}
	if n := idle(r, s); n != 4 {
		t.Fatalf("%d idle", n)
	}
	kept := s.Set().Members[0].Endpoint
	was := s.Set()
	update(s, stays)
	if gone := s.Set().Without(was); len(gone) != 1 || gone[0] != leaves || s.Set().Members[0].Endpoint != kept {
		t.Errorf("gone %q", gone)
	}
	for i := range r.locals {
		<-r.start(i, func(_ *engine.Task, l *Local) { l.Trim(s) })
	}
	if n := idle(r, s); n != 2 {
		t.Errorf("%d idle after an endpoint has left", n)
	}
	for i := range r.locals {
		<-r.start(i, func(_ *engine.Task, l *Local) { l.Forget(s); l.Trim(s) })
	}
	if n := idle(r, s); n != 0 {
		t.Errorf("%d idle after the service has gone", n)
	}
}

// An exchange that holds a service which a reload took away goes on, and leaves
// nothing of it behind.
func TestAForgottenServiceIsServedToItsEnd(t *testing.T) {
	r, s := newRig(t, engine.Options{}), service(nil, origin(t, nil))
	r.on(func(l *Local) {
		choice, _ := l.Pick(s, &Tried{})
		conn, err := l.Acquire(&choice, false)
		if err != nil || exchange(conn) != nil {
			t.Fatal(err)
		}
		l.Forget(s)
		l.Put(conn)
		l.Done(&choice, policy.Outcome{Connected: true})
		again := call(t, l, s)
		if !conn.raw.Closed() || !again.raw.Closed() || len(l.services) != 0 {
			t.Errorf("closed %v %v, %d services kept", conn.raw.Closed(), again.raw.Closed(), len(l.services))
		}
	})
}

func TestIdleConnectionsThatEndAreGone(t *testing.T) {
	r, s := newRig(t, engine.Options{}), service(nil, origin(t, nil))
	settings := *s.Settings()
	settings.Timeouts.Idle = 20 * time.Millisecond
	s.Configure(&settings)
	r.on(func(l *Local) { call(t, l, s) })
	eventually(t, "the pool to be empty", func() bool { return idle(r, s) == 0 })
	settings.Timeouts.Idle = 0 // no limit
	s.Configure(&settings)
	r.on(func(l *Local) { call(t, l, s) })
	if n := idle(r, s); n != 1 {
		t.Errorf("%d idle without a limit", n)
	}
}

// A connection whose certificate is about to expire carries nothing more.
func TestAConnectionDoesNotOutliveItsCertificate(t *testing.T) {
	r, s := newRig(t, engine.Options{}), service(nil, origin(t, nil))
	r.on(func(l *Local) {
		first := call(t, l, s)
		first.expires = l.loop.Nanos()
		if second := call(t, l, s); second == first || !first.raw.Closed() {
			t.Errorf("used again: %v", second == first)
		}
		third := call(t, l, s)
		third.expires = l.loop.Nanos()
		choice, _ := l.Pick(s, &Tried{})
		conn, err := l.Acquire(&choice, false)
		if err != nil || exchange(conn) != nil {
			t.Fatal(err)
		}
		conn.expires = l.loop.Nanos()
		l.Put(conn)
		l.Done(&choice, policy.Outcome{Connected: true})
		if !conn.raw.Closed() {
			t.Error("kept after its time")
		}
	})
	if n := idle(r, s); n != 0 {
		t.Errorf("%d idle", n)
	}
}
