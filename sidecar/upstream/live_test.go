package upstream

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

// review makes one pass and returns the reasons of the connections it cut.
func review(l *Local) (cut []policy.Reason) {
	l.Review()
	turns := 0
	for !l.Judge(func() bool { turns++; return turns%2 == 1 }, func(_ *Conn, _ string, err error) { cut = append(cut, policy.ReasonOf(err)) }) {
	}
	return cut
}

// TestEndpointsAreJudgedAgain: a pooled connection is closed, and one in use broken
// off, once its endpoint is not whom the service expects; a rotation of ours changes
// nothing.
func TestEndpointsAreJudgedAgain(t *testing.T) {
	a := authority(t)
	ours := current(issued(t, a, "/ours"))
	expected := identity.AnyOf(spiffeid.RequireFromString("spiffe://test.mesh/api"))
	other := identity.AnyOf(spiffeid.RequireFromString("spiffe://test.mesh/other"))
	for _, c := range []struct {
		name   string
		change func(*Service, *identity.Current)
		cut    bool
	}{
		{"our own rotation", func(_ *Service, o *identity.Current) { o.Set(issued(t, a, "/ours")) }, false},
		{"another ID is expected", func(s *Service, _ *identity.Current) { configure(s, &Mesh{Identity: ours, Peers: other}) }, true},
		{"none is asked for", func(s *Service, _ *identity.Current) { configure(s, nil) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, engine.Options{Loops: 1})
			s := service(&Mesh{Identity: ours, Peers: expected}, shakes(t, issued(t, a, "/api")))
			var ended error
			busy := r.start(0, func(task *engine.Task, l *Local) {
				choice, err := l.Pick(s, &Tried{})
				if err != nil {
					t.Error(err)
					return
				}
				conn, err := l.Dial(&choice)
				if err != nil {
					t.Error(err)
					return
				}
				conn.ReadWithin(time.Minute)
				_, ended = conn.Transport.Read(make([]byte, 1))
				l.Close(conn)
				l.Done(&choice, policy.Outcome{})
			})
			eventually(t, "the connection to be waited on", func() (waits bool) {
				r.on(func(l *Local) { waits = l.live.head.next != &l.live.head })
				return waits
			})
			var cut []policy.Reason
			r.on(func(l *Local) {
				if got := review(l); len(got) != 0 {
					t.Errorf("cut before anything changed: %v", got)
				}
				c.change(s, ours)
				cut = append(review(l), review(l)...) // cut once
				if !c.cut {
					l.live.head.next.raw.Close() // the end of the test
				}
			})
			<-busy
			var e *policy.Error
			if c.cut && (len(cut) != 1 || cut[0] != policy.UpstreamTLSIdentity || !errors.As(ended, &e) || e.Reason != policy.UpstreamTLSIdentity) {
				t.Errorf("cut %v, its user got %v", cut, ended)
			}
			if !c.cut && len(cut) != 0 {
				t.Errorf("cut %v", cut)
			}
			r.on(func(l *Local) {
				if l.live.head.next != &l.live.head {
					t.Error("a closed connection is still listed")
				}
			})
		})
	}
}

// TestPooledEndpointsAreJudgedAgain: see above.
func TestPooledEndpointsAreJudgedAgain(t *testing.T) {
	a := authority(t)
	ours := current(issued(t, a, "/ours"))
	r := newRig(t, engine.Options{Loops: 1})
	s := service(nil, origin(t, nil))
	r.on(func(l *Local) {
		call(t, l, s)
		if got := review(l); len(got) != 0 || pooled(l) != 1 {
			t.Errorf("cut %v, %d pooled", got, pooled(l))
		}
		configure(s, &Mesh{Identity: ours, Path: "/api"}) // plain text will not do any more
		if got := review(l); len(got) != 1 || pooled(l) != 0 {
			t.Errorf("cut %v, %d pooled", got, pooled(l))
		}
	})
}

// TestAnEndpointIsJudgedWhenItsHandshakeIsOver: what has changed while the connection was
// being made counts, though no pass has met it.
func TestAnEndpointIsJudgedWhenItsHandshakeIsOver(t *testing.T) {
	a := authority(t)
	ours := current(issued(t, a, "/ours"))
	for _, c := range []struct {
		name  string
		peers identity.Peers
		want  policy.Reason
	}{
		{"another ID is expected", identity.AnyOf(spiffeid.RequireFromString("spiffe://test.mesh/other")), policy.UpstreamTLSIdentity},
		{"one more is", identity.AnyOf(spiffeid.RequireFromString("spiffe://test.mesh/other"), spiffeid.RequireFromString("spiffe://test.mesh/api")), policy.None},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, engine.Options{Loops: 1})
			hello, goOn := make(chan struct{}), make(chan struct{})
			config := current(issued(t, a, "/api")).Snapshot().ServerConfig(identity.AnyTrusted())
			config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
				close(hello)
				<-goOn
				return nil, nil
			}
			s := service(&Mesh{Identity: ours, Path: "/api"}, origin(t, config))
			var err error
			done := r.start(0, func(_ *engine.Task, l *Local) {
				choice, _ := l.Pick(s, &Tried{})
				var conn *Conn
				if conn, err = l.Dial(&choice); err == nil {
					l.Close(conn)
				}
				l.Done(&choice, policy.Outcome{})
			})
			<-hello
			configure(s, &Mesh{Identity: ours, Peers: c.peers})
			r.on(func(l *Local) { review(l) })
			close(goOn)
			<-done
			if got := policy.ReasonOf(err); got != c.want {
				t.Errorf("%v: %v", got, err)
			}
		})
	}
}

func configure(s *Service, m *Mesh) {
	next := *s.Settings()
	next.Mesh = m
	s.Configure(&next)
}

func pooled(l *Local) (n int) {
	for _, ls := range l.services {
		for _, p := range ls.pools {
			n += len(p.idle)
		}
	}
	return n
}

// shakes is an endpoint that shakes hands and then says nothing.
func shakes(t *testing.T, m identity.Material) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	config := current(m).Snapshot().ServerConfig(identity.AnyTrusted())
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go io.Copy(io.Discard, tls.Server(c, config))
		}
	}()
	return ln.Addr().String()
}

// TestEndpointLimitIsExact: many tasks of two loops reserve at one endpoint, and never
// more than the limit have it.
func TestEndpointLimitIsExact(t *testing.T) {
	const limit, tasks, rounds = 3, 20, 200
	r := newRig(t, engine.Options{Loops: 2})
	s := service(nil, "127.0.0.1:9")
	next := *s.Settings()
	next.MaxConnections = limit
	s.Configure(&next)
	e := s.Set().Members[0]
	var waits []<-chan struct{}
	for i := range tasks {
		waits = append(waits, r.start(i%2, func(task *engine.Task, l *Local) {
			for range rounds {
				c, err := l.Pick(s, &Tried{})
				if n := e.Inflight(); n > limit {
					t.Errorf("%d in flight", n)
				}
				if err == nil {
					task.Yield()
					l.Done(&c, policy.Outcome{})
				} else if policy.ReasonOf(err) != policy.EndpointLimit {
					t.Errorf("refused: %v", err)
				}
				task.Yield()
			}
		}))
	}
	for _, w := range waits {
		<-w
	}
	if n := e.Inflight(); n != 0 {
		t.Errorf("%d left", n)
	}
}
