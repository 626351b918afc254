package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/authz"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// mesh is a trust domain of ours that trusts a friend, until it does not any more.
type mesh struct {
	t           *testing.T
	own, friend *identity.Authority
	current     *identity.Current
	denied      atomic.Bool // everybody, by the Authorizer
}

func newMesh(t *testing.T) *mesh {
	m := &mesh{t: t, own: newAuthority(t, "own.test"), friend: newAuthority(t, "friend.test"),
		current: identity.NewCurrent(slog.New(slog.DiscardHandler))}
	m.current.Set(m.material(true))
	return m
}

func newAuthority(t *testing.T, domain string) *identity.Authority {
	t.Helper()
	a, err := identity.NewAuthority(identity.AuthorityOptions{
		TrustDomain: spiffeid.RequireTrustDomainFromString(domain), TTL: time.Hour, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// material is a new certificate of ours, and the friend's bundle if wanted.
func (m *mesh) material(friend bool) identity.Material {
	issued := issue(m.t, m.own, "/api")
	if friend {
		bundle, err := m.friend.Bundle()
		if err != nil {
			m.t.Fatal(err)
		}
		issued.Bundles[m.friend.TrustDomain()] = bundle
	}
	return issued
}

func issue(t *testing.T, a *identity.Authority, path string) identity.Material {
	t.Helper()
	id, err := spiffeid.FromPath(a.TrustDomain(), path)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := a.Issue(id)
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

// Allow implements Authorizer.
func (m *mesh) Allow(id spiffeid.ID) authz.Verdict {
	if m.denied.Load() {
		return authz.Verdict{}
	}
	list, err := authz.Compile([]string{"spiffe://friend.test/*"}, m.own.TrustDomain())
	if err != nil {
		panic(err)
	}
	return list.Allow(id)
}

func (m *mesh) listener(c *ListenerConfig, _ *upstream.Settings) {
	c.Allow = m
	c.TLS = func() (TLSMaterial, error) {
		snap := m.current.Snapshot()
		return TLSMaterial{Config: snap.ServerConfig(identity.AnyTrusted()), Identity: snap}, nil
	}
}

// dial connects as a friend.
func (m *mesh) dial(addr string) net.Conn {
	m.t.Helper()
	cert := issue(m.t, m.friend, "/web").Certificate
	c, err := tls.Dial("tcp", addr, &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Close() })
	return c
}

// slowOrigin answers /slow never, /stream without end, /upgrade with a tunnel that
// echoes, and all else at once.
func slowOrigin(t *testing.T) string {
	gone := make(chan struct{})
	addr := origin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow":
			select {
			case <-r.Context().Done():
			case <-gone:
			}
		case "/stream":
			for w.(http.Flusher).Flush(); ; time.Sleep(time.Millisecond) {
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					return
				}
				w.(http.Flusher).Flush()
			}
		case "/upgrade":
			c, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
			io.Copy(c, rw)
		}
	})
	t.Cleanup(func() { close(gone) })
	return addr
}

func echoOrigin(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	return ln.Addr().String()
}

// situations are what a connection can be at when its peer is denied.
var situations = []struct {
	name     string
	protocol Protocol
	send     string
	reads    string // before the denial
	after    string // what the client may still read

}{
	{"idle", HTTP, get1("/quick"), "Content-Length: 0", ""},
	{"an answer is awaited", HTTP, get1("/slow"), "", "HTTP/1.1 403"},
	{"an answer streams", HTTP, get1("/stream"), "HTTP/1.1 200", ""},
	{"a tunnel after an upgrade", HTTP, "GET /upgrade HTTP/1.1\r\nHost: api\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nabc", "abc", ""},
	{"a TCP tunnel", TCP, "abc", "abc", ""},
}

// TestDeniedPeersAreCut: whoever may not call any more is cut off at once, whatever
// the connection is at, and nothing is left of it.
func TestDeniedPeersAreCut(t *testing.T) {
	for _, cause := range []struct {
		name   string
		deny   func(*mesh)
		reason policy.Reason
	}{
		{"by the authorizer", func(m *mesh) { m.denied.Store(true) }, policy.NotAllowed},
		{"by a withdrawn bundle", func(m *mesh) { m.current.Set(m.material(false)) }, policy.TLSUnknownDomain},
	} {
		for _, s := range situations {
			t.Run(s.name+" "+cause.name, func(t *testing.T) {
				m := newMesh(t)
				addr := slowOrigin(t)
				if s.protocol == TCP {
					addr = echoOrigin(t)
				}
				r := newRig(t, s.protocol, m.listener, addr)
				c := m.dial(r.addr)
				io.WriteString(c, s.send)
				in := bufio.NewReader(c)
				for got := ""; !strings.Contains(got, s.reads); {
					b, err := in.ReadByte()
					if err != nil {
						t.Fatalf("read %q and then %v", got, err)
					}
					got += string(b)
				}
				if s.reads == "" {
					eventually(t, "the request to reach the endpoint", func() bool { return r.service.Set().Members[0].Inflight() == 1 })
				}
				m.current.Set(m.material(true)) // a rotation alone cuts nobody
				r.proxy.Reauthorize()
				eventually(t, "one pass", func() bool { return !r.reviewing() })
				if n := len(r.records.cuts()); n != 0 {
					t.Fatalf("%d cut by a rotation", n)
				}
				cause.deny(m)
				for range 50 { // a storm cuts once, too
					r.proxy.Reauthorize()
				}
				c.SetReadDeadline(time.Now().Add(20 * time.Second))
				rest, err := io.ReadAll(in)
				if ne, ok := err.(net.Error); ok && ne.Timeout() {
					t.Fatal("the connection lives on")
				}
				if s.after != "" && cause.reason == policy.NotAllowed && !strings.HasPrefix(string(rest), s.after) {
					t.Errorf("read %q", rest)
				}
				if got := r.records.cuts(); !slices.Equal(got, []policy.Reason{cause.reason}) {
					t.Errorf("cut: %v", got)
				}
				if rec := r.records.last(t, 1); s.name != "idle" && (rec.Reason != cause.reason || rec.Side != policy.Downstream) {
					t.Errorf("recorded: %v, %v", rec.Reason, rec.Err)
				}
				eventually(t, "nothing to be left", func() bool {
					return r.records.conns.Load() == 0 && r.service.Set().Members[0].Inflight() == 0 && r.engine.Stats().Total().Tasks == 0
				})
			})
		}
	}
}

func (r *rig) reviewing() bool {
	busy := make(chan bool, len(r.proxy.loops))
	for _, l := range r.proxy.loops {
		l.loop.Post(func() { busy <- l.review.running })
	}
	any := false
	for range r.proxy.loops {
		any = <-busy || any
	}
	return any
}

func (r *recorder) cuts() []policy.Reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.cut)
}

// counting allows everybody and notes in which turn it was asked; it takes away every
// tenth connection that the pass is about to look at.
type counting struct {
	loop    *loopState
	turn    int
	asked   map[int]int
	removed int
}

func (c *counting) Allow(id spiffeid.ID) authz.Verdict {
	c.asked[c.turn]++
	if next := c.loop.review.next; next != &c.loop.conns && (c.asked[c.turn]+c.removed)%10 == 0 {
		c.loop.untrack(next)
		c.removed++
	}
	list, err := authz.Compile(nil, id.TrustDomain())
	if err != nil {
		panic(err)
	}
	return list.Allow(id)
}

// TestManyConnectionsAreJudgedInSlices: 10,000 connections do not stall their loop, each
// is judged once though others end meanwhile, and a call during the pass makes another.
func TestManyConnectionsAreJudgedInSlices(t *testing.T) {
	const connections = 10_000
	r := newRig(t, TCP, nil, "127.0.0.1:9")
	s := r.proxy.loops[0]
	c := &counting{loop: s, asked: map[int]int{}}
	l := &Listener{proxy: r.proxy, name: "many", room: &room{}}
	l.conf.Store(&ListenerConfig{Name: "many", Allow: c, TLS: func() (TLSMaterial, error) { return TLSMaterial{}, nil }})
	done := make(chan struct{})
	var tick func()
	tick = func() {
		if c.turn++; s.review.running {
			s.loop.Post(tick)
			return
		}
		close(done)
	}
	s.loop.Post(func() {
		for range connections {
			l.admit(l.Config())
			s.track(&Downstream{listener: l, loop: s, peer: &peer{id: spiffeid.RequireFromString("spiffe://own.test/web")}, state: stateIdle})
		}
		s.loop.Post(tick) // in each turn before the next slice
		s.reauthorize()
	})
	<-done
	judged := 0
	for turn, n := range c.asked {
		if judged += n; n > judgeSlice {
			t.Errorf("%d judged in turn %d", n, turn)
		}
	}
	if judged+c.removed != connections || c.removed < connections/20 || len(c.asked) < connections/judgeSlice/2 {
		t.Errorf("%d judged and %d gone, in %d turns", judged, c.removed, len(c.asked))
	}
	if open, _ := l.Connections(); open != int64(connections-c.removed) {
		t.Errorf("%d counted", open)
	}
	ended := make(chan struct{})
	s.loop.Post(func() { // two calls in one turn, and one while the pass is under way
		defer close(ended)
		c.asked, c.removed = map[int]int{}, 0
		s.reauthorize()
		s.reauthorize()
		if !s.review.again {
			t.Error("a call during a pass is lost")
		}
		for s.conns.next != &s.conns {
			s.untrack(s.conns.next)
		}
	})
	<-ended
	eventually(t, "the passes to end", func() bool { return !r.reviewing() })
}
