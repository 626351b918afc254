package upstream

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/http2"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// muxed is a service whose endpoints are spoken to in HTTP/2.
func muxed(mesh *Mesh, streams uint32, connections int64, addresses ...string) *Service {
	s := service(mesh, addresses...)
	to := *s.Settings()
	to.Version, to.MaxConnections = OnlyHTTP2, connections
	to.HTTP2 = &http2.Options{MaxStreams: streams, StreamWindow: 64 << 10, ConnectionWindow: 1 << 20, Head: 64 << 10, Fields: 100, Trailers: 8 << 10,
		IdleTimeout: time.Minute}
	s.Configure(&to)
	return s
}

// muxOrigin speaks HTTP/2, and HTTP/1 where either is set: with prior knowledge, or over
// TLS by ALPN. It answers when it is told to, and says who listens to it.
func muxOrigin(t testing.TB, config *tls.Config, h http.HandlerFunc) (address string, server *http.Server) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	s := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(config == nil)
	s.Protocols.SetUnencryptedHTTP2(true)
	s.Protocols.SetHTTP2(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if config == nil {
			s.Serve(l)
			return
		}
		s.TLSConfig = config
		s.ServeTLS(l, "", "")
	}()
	t.Cleanup(func() { s.Close(); <-done })
	return address, s
}

// begin asks over a new stream, and leaves the answer to come.
func begin(t testing.TB, l *Local, s *Service) (Choice, *Conn) {
	t.Helper()
	choice, err := l.Pick(s, &Tried{})
	if err != nil {
		t.Error(err)
		return Choice{}, nil
	}
	conn, err := l.Acquire(&choice, false)
	if err != nil {
		t.Error(err)
		return choice, nil
	}
	var h message.Head
	h.SetRequest("GET", "/", "api")
	if err := conn.WriteHead(&h); err != nil {
		t.Error(err)
	}
	if err := conn.Flush(); err != nil {
		t.Error(err)
	}
	return choice, conn
}

// finish reads the answer of a stream, and gives it back.
func finish(t testing.TB, l *Local, c Choice, conn *Conn) (status int) {
	t.Helper()
	var h message.Head
	err := conn.ReadHead(&h)
	for end := false; err == nil && !end; {
		_, end, err = conn.ReadBody()
	}
	l.Done(&c, policy.Outcome{Connected: true, Reason: policy.ReasonOf(err), Side: policy.Upstream})
	if err != nil {
		t.Error(err)
		l.Close(conn)
		return 0
	}
	l.Put(conn)
	return h.Status
}

func muxes(l *Local, s *Service) (n int) {
	for _, p := range l.services[s].pools {
		n += len(p.muxes)
	}
	return n
}

func nothingLives(t testing.TB, r *rig, s *Service) {
	t.Helper()
	eventually(t, "all connections to be over", func() (over bool) {
		r.on(func(l *Local) {
			e := s.Set().Members[0].Endpoint
			over = l.live.head.next == &l.live.head && e.Inflight() == 0 && e.muxes.Load() == 0
		})
		return over
	})
}

func TestStreamsShareAConnection(t *testing.T) {
	release := make(chan struct{})
	address, _ := muxOrigin(t, nil, func(http.ResponseWriter, *http.Request) { <-release })
	for _, c := range []struct {
		name        string
		streams     uint32
		connections int
	}{{"all of them", 10, 1}, {"some", 4, 3}, {"one each", 1, 10}} {
		t.Run(c.name, func(t *testing.T) {
			r, s := newRig(t, engine.Options{Loops: 1}), muxed(nil, c.streams, 0, address)
			r.on(func(l *Local) {
				var choices []Choice
				var conns []*Conn
				for range 10 {
					choice, conn := begin(t, l, s)
					choices, conns = append(choices, choice), append(conns, conn)
				}
				if n := muxes(l, s); n != c.connections {
					t.Errorf("%d connections, want %d", n, c.connections)
				}
				go func() {
					for range 10 {
						release <- struct{}{}
					}
				}()
				for i := range conns {
					if status := finish(t, l, choices[i], conns[i]); status != 200 {
						t.Errorf("status %d", status)
					}
				}
				if choice, conn := begin(t, l, s); muxes(l, s) != c.connections || !conn.Reused {
					t.Errorf("%d connections afterwards, reused %v", muxes(l, s), conn.Reused)
				} else {
					go func() { release <- struct{}{} }()
					finish(t, l, choice, conn)
				}
				l.CloseIdle()
			})
			nothingLives(t, r, s)
		})
	}
}

// Requests with a connection each, and streams of shared ones, at one endpoint: the limit is
// one of connections, whatever they carry.
func TestTheLimitCountsSharedConnectionsOnce(t *testing.T) {
	release := make(chan struct{})
	address, _ := muxOrigin(t, nil, func(http.ResponseWriter, *http.Request) { <-release })
	r, s := newRig(t, engine.Options{Loops: 1}), muxed(nil, 4, 3, address)
	to := *s.Settings()
	to.Version = AutoVersion
	s.Configure(&to)
	e := s.Set().Members[0].Endpoint
	counts := func(when string, inflight, streams, shared, inUse int64) {
		t.Helper()
		if e.Inflight() != inflight || e.Streams() != streams || e.Muxes() != shared || e.InUse() != inUse {
			t.Errorf("%s: %d in flight, %d streams, %d shared and %d used connections; want %d, %d, %d, %d",
				when, e.Inflight(), e.Streams(), e.Muxes(), e.InUse(), inflight, streams, shared, inUse)
		}
	}
	r.on(func(l *Local) {
		var choices []Choice
		var conns []*Conn
		start := func(ask Ask) {
			choice, err := l.Pick(s, &Tried{Ask: ask})
			if err != nil {
				t.Error(err)
				return
			}
			conn, err := l.Acquire(&choice, false)
			if err != nil {
				t.Error(err)
				return
			}
			choices, conns = append(choices, choice), append(conns, conn)
		}
		end := func(n int) {
			n = min(n, len(conns))
			for i := range n {
				l.Close(conns[i])
				l.Done(&choices[i], policy.Outcome{Connected: true})
			}
			choices, conns = choices[n:], conns[n:]
		}
		for range 5 {
			start(Ask{GRPC: true})
		}
		counts("five calls", 5, 5, 2, 2)
		start(Ask{})
		counts("and a request", 6, 5, 2, 3)
		if _, err := l.Pick(s, &Tried{}); policy.ReasonOf(err) != policy.EndpointLimit {
			t.Errorf("a request above the limit: %v", err)
		}
		start(Ask{GRPC: true})
		counts("a call above the limit", 7, 6, 2, 3)
		end(5)
		counts("a call and a request are left", 2, 1, 2, 2)
		end(2)
		counts("nothing is left", 0, 0, 2, 0)
		l.CloseIdle()
	})
	close(release)
	nothingLives(t, r, s)
}

func TestAStreamWaitsForRoom(t *testing.T) {
	address, _ := muxOrigin(t, nil, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	r, s := newRig(t, engine.Options{Loops: 1}), muxed(nil, 1, 2, address)
	var tasks []<-chan struct{}
	for range 50 {
		tasks = append(tasks, r.start(0, func(_ *engine.Task, l *Local) {
			choice, conn := begin(t, l, s)
			if n := muxes(l, s); n > 2 {
				t.Errorf("%d connections", n)
			}
			finish(t, l, choice, conn)
		}))
	}
	for _, done := range tasks {
		<-done
	}
	r.on(func(l *Local) { l.CloseIdle() })
	nothingLives(t, r, s)
}

func TestWaitingForRoomEnds(t *testing.T) {
	release := make(chan struct{})
	address, _ := muxOrigin(t, nil, func(http.ResponseWriter, *http.Request) { <-release })
	r, s := newRig(t, engine.Options{Loops: 1}), muxed(nil, 1, 1, address)
	r.on(func(l *Local) {
		first, busy := begin(t, l, s)
		choice, err := l.Pick(s, &Tried{})
		if err != nil {
			t.Fatal(err)
		}
		choice.Until = l.loop.Nanos() + int64(20*time.Millisecond)
		if _, err := l.Acquire(&choice, false); policy.ReasonOf(err) != policy.EndpointLimit {
			t.Errorf("got %v", err)
		}
		l.Done(&choice, policy.Outcome{Reason: policy.EndpointLimit, Side: policy.Upstream})
		close(release)
		finish(t, l, first, busy)
		l.CloseIdle()
	})
	nothingLives(t, r, s)
}

// An endpoint that says goodbye gets no new streams, and those under way end in order.
func TestGoodbyeOfAnEndpoint(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	address, server := muxOrigin(t, nil, func(http.ResponseWriter, *http.Request) { close(arrived); <-release })
	r, s := newRig(t, engine.Options{Loops: 1}), muxed(nil, 100, 0, address)
	var choice Choice
	var conn *Conn
	r.on(func(l *Local) { choice, conn = begin(t, l, s) })
	<-arrived
	stopped := make(chan error, 1)
	go func() { stopped <- server.Shutdown(t.Context()) }()
	eventually(t, "the connection to leave its pool", func() (left bool) {
		r.on(func(l *Local) { left = muxes(l, s) == 0 })
		return left
	})
	close(release)
	r.on(func(l *Local) {
		if status := finish(t, l, choice, conn); status != 200 {
			t.Errorf("status %d", status)
		}
	})
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	nothingLives(t, r, s)
}

// A rotation makes the next exchange take a new connection; streams of the old one end in
// order, and then it does.
func TestARotationRetiresAConnection(t *testing.T) {
	a := authority(t)
	release := make(chan struct{})
	id := current(issued(t, a, "/web"))
	address, _ := muxOrigin(t, current(issued(t, a, "/api")).Snapshot().ServerConfig(identity.AnyTrusted(), "h2"),
		func(http.ResponseWriter, *http.Request) { <-release })
	r, s := newRig(t, engine.Options{Loops: 1}), muxed(&Mesh{Identity: id, Path: "/api"}, 100, 0, address)
	r.on(func(l *Local) {
		first, old := begin(t, l, s)
		id.Set(issued(t, a, "/web"))
		second, fresh := begin(t, l, s)
		if old.mux == fresh.mux || fresh.Reused || muxes(l, s) != 1 {
			t.Errorf("the same connection %v, %d in pools", old.mux == fresh.mux, muxes(l, s))
		}
		if fresh.PeerID != "spiffe://test.mesh/api" {
			t.Errorf("peer %q", fresh.PeerID)
		}
		close(release)
		finish(t, l, first, old)
		finish(t, l, second, fresh)
	})
	eventually(t, "the old connection to end", func() (one bool) {
		r.on(func(l *Local) { one = l.live.head.next != &l.live.head && l.live.head.next.next == &l.live.head })
		return one
	})
}

// An endpoint that is not the one any more loses its connection, and each stream its
// exchange, with the reason.
func TestSharedConnectionsAreJudgedAgain(t *testing.T) {
	a := authority(t)
	id := current(issued(t, a, "/web"))
	address, _ := muxOrigin(t, current(issued(t, a, "/api")).Snapshot().ServerConfig(identity.AnyTrusted(), "h2"),
		func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	r, s := newRig(t, engine.Options{Loops: 1}), muxed(&Mesh{Identity: id, Path: "/api"}, 100, 0, address)
	ended := make(chan error, 3)
	for range 3 {
		r.start(0, func(_ *engine.Task, l *Local) {
			choice, conn := begin(t, l, s)
			var h message.Head
			ended <- conn.ReadHead(&h)
			l.Close(conn)
			l.Done(&choice, policy.Outcome{})
		})
	}
	eventually(t, "three streams", func() (there bool) {
		r.on(func(l *Local) {
			for _, p := range l.services[s].pools {
				there = len(p.muxes) == 1 && p.muxes[0].client.Streams() == 3
			}
		})
		return there
	})
	r.on(func(l *Local) {
		to := *s.Settings()
		to.Mesh = &Mesh{Identity: id, Peers: identity.AnyOf(spiffeid.RequireFromString("spiffe://test.mesh/other"))}
		s.Configure(&to)
		if cut := append(review(l), review(l)...); len(cut) != 1 {
			t.Errorf("cut %v", cut)
		}
	})
	for range 3 {
		if err := <-ended; policy.ReasonOf(err) != policy.UpstreamTLSIdentity {
			t.Errorf("a stream ended with %v", err)
		}
	}
	nothingLives(t, r, s)
}

// A burst of exchanges gets as many connections as it needs, made side by side, and each
// wakes those for whom it has a stream.
func TestABurstIsServed(t *testing.T) {
	const burst, streams = 1000, 20
	release := make(chan struct{})
	address, _ := muxOrigin(t, nil, func(http.ResponseWriter, *http.Request) { <-release })
	r, s := newRig(t, engine.Options{Loops: 1}), muxed(nil, streams, 0, address)
	var tasks []<-chan struct{}
	for range burst {
		tasks = append(tasks, r.start(0, func(_ *engine.Task, l *Local) {
			if choice, conn := begin(t, l, s); conn != nil {
				finish(t, l, choice, conn)
			}
		}))
	}
	eventually(t, "all of them under way", func() (all bool) {
		r.on(func(l *Local) {
			all = s.Set().Members[0].Inflight() == burst && muxes(l, s) >= burst/streams
			if ls := l.services[s]; ls != nil {
				for _, p := range ls.pools {
					all = all && p.room.Waiting() == 0 && p.dialling == 0
				}
			}
		})
		return all
	})
	r.on(func(l *Local) {
		if n := muxes(l, s); n > 2*burst/streams {
			t.Errorf("%d connections for %d streams", n, burst)
		}
	})
	close(release)
	for _, done := range tasks {
		<-done
	}
	r.on(func(l *Local) { l.CloseIdle() })
	nothingLives(t, r, s)
}
