package upstream

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// rig is the view of each loop of a running engine.
type rig struct {
	t       testing.TB
	engine  *engine.Engine
	locals  []*Local
	mu      sync.Mutex
	dialled []policy.Reason
}

func newRig(t testing.TB, o engine.Options) *rig {
	t.Helper()
	kind, err := engine.ParseKind(os.Getenv("LARBOARD_ENGINE")) // set by `make test-goroutines`
	if err != nil {
		t.Fatal(err)
	}
	o.Kind = kind
	e, err := engine.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, engine: e}
	for _, l := range e.Loops() {
		r.locals = append(r.locals, NewLocal(l, func(_ string, reason policy.Reason) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.dialled = append(r.dialled, reason)
		}))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

// start runs f on a task of a loop.
func (r *rig) start(loop int, f func(*engine.Task, *Local)) <-chan struct{} {
	done := make(chan struct{})
	l := r.locals[loop]
	l.loop.Post(func() {
		l.loop.Go("test", func(t *engine.Task) {
			defer close(done)
			f(t, l)
		})
	})
	return done
}

// on runs f on a task of the first loop and waits for it.
func (r *rig) on(f func(*Local)) {
	r.t.Helper()
	select {
	case <-r.start(0, func(_ *engine.Task, l *Local) { f(l) }):
	case <-time.After(20 * time.Second):
		r.t.Fatal("the task does not end")
	}
}

func service(mesh *Mesh, addresses ...string) *Service {
	s := NewService("api", &Settings{Balance: "round_robin", Mesh: mesh,
		Timeouts: Timeouts{Connect: 10 * time.Second, Idle: time.Minute},
		HTTP:     http1.ClientOptions{Limits: http1.DefaultLimits()}})
	update(s, addresses...)
	return s
}

func update(s *Service, addresses ...string) {
	u := discovery.Update{}
	for _, a := range addresses {
		u.Endpoints = append(u.Endpoints, discovery.Endpoint{ID: a, Address: a, Weight: 1})
	}
	s.Update(u)
}

// exchange asks over a connection and reads the answer.
func exchange(c *Conn) error {
	var h message.Head
	h.SetRequest("GET", "/", "api")
	if err := c.WriteHead(&h); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return err
	}
	if err := c.ReadHead(&h); err != nil {
		return err
	}
	for {
		if _, end, err := c.ReadBody(); err != nil || end {
			return err
		}
	}
}

// call makes one exchange and gives the connection back.
func call(t testing.TB, l *Local, s *Service) *Conn {
	t.Helper()
	choice, err := l.Pick(s, &Tried{})
	if err != nil {
		t.Error(err)
		return nil
	}
	conn, err := l.Acquire(&choice, false)
	if err == nil {
		err = exchange(conn)
	}
	if err != nil {
		t.Error(err)
		l.Done(&choice, policy.Outcome{Reason: policy.ReasonOf(err), Side: policy.Upstream})
		return nil
	}
	l.Done(&choice, policy.Outcome{Connected: true})
	l.Put(conn)
	return conn
}

// origin answers everything; config nil: in plain text.
func origin(t testing.TB, config *tls.Config) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if config != nil {
		l = tls.NewListener(l, config)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return address
}

// silent accepts connections and says nothing; nobody refuses them.
func silent(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func closed(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// issued is what an authority gives to a name.
func issued(t testing.TB, a *identity.Authority, path string) (m identity.Material) {
	t.Helper()
	id, err := spiffeid.FromPath(a.TrustDomain(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a.Source(id).Run(ctx, func(got identity.Material) { m = got; cancel() })
	return m
}

func authority(t testing.TB) *identity.Authority {
	t.Helper()
	domain := spiffeid.RequireTrustDomainFromString("test.mesh")
	a, err := identity.NewAuthority(identity.AuthorityOptions{TrustDomain: domain, TTL: time.Hour, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func current(m identity.Material) *identity.Current {
	c := identity.NewCurrent(slog.New(slog.DiscardHandler))
	c.Set(m)
	return c
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
