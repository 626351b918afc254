package upstream

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// lone is a connection and the listener of it alone, which ends with it.
type lone struct {
	net.Conn
	taken  bool
	closed chan struct{}
	once   sync.Once
}

func (l *lone) Accept() (net.Conn, error) {
	if l.taken {
		<-l.closed
		return nil, net.ErrClosed
	}
	l.taken = true
	return l, nil
}

func (l *lone) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Conn.Close()
}

func (l *lone) Addr() net.Addr { return l.LocalAddr() }

// What goes over which version, by the service, the request and what the endpoint chooses.
func TestWayToAnEndpoint(t *testing.T) {
	a := authority(t)
	id := current(issued(t, a, "/web"))
	serve := func(alpn ...string) string {
		config := current(issued(t, a, "/api")).Snapshot().ServerConfig(identity.AnyTrusted(), alpn...).Clone()
		l, err := tls.Listen("tcp", "127.0.0.1:0", config)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{TLSConfig: config, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200 + r.ProtoMajor) })}
		if slices.Contains(alpn, "h2") {
			s.Protocols = new(http.Protocols)
			s.Protocols.SetHTTP1(true)
			s.Protocols.SetHTTP2(true)
		}
		if slices.Contains(alpn, OwnProtocol) {
			s.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
				OwnProtocol: func(_ *http.Server, c *tls.Conn, h http.Handler) {
					one := &http.Server{Handler: h, Protocols: new(http.Protocols)}
					one.Protocols.SetUnencryptedHTTP2(true) // which to it is what is inside
					one.Serve(&lone{Conn: c, closed: make(chan struct{})})
				},
			}
		}
		done := make(chan struct{})
		go func() { defer close(done); s.Serve(l) }()
		t.Cleanup(func() { s.Close(); <-done })
		return l.Addr().String()
	}
	ours, both, first, silent := serve(OwnProtocol), serve("h2", "http/1.1"), serve("http/1.1"), serve()
	for _, c := range []struct {
		address string
		version Version
		ask     Ask
		want    int
	}{
		{both, AutoVersion, Ask{}, 1},
		{ours, AutoVersion, Ask{HTTP2: true}, 2},
		{both, AutoVersion, Ask{HTTP2: true}, 1}, // it may be one who agrees to anything
		{both, AutoVersion, Ask{HTTP2: true, GRPC: true}, 2},
		{both, AutoVersion, Ask{HTTP2: true, Upgrade: true}, 1},
		{both, OnlyHTTP1, Ask{HTTP2: true, GRPC: true}, 1},
		{both, OnlyHTTP2, Ask{}, 2},
		{first, AutoVersion, Ask{HTTP2: true}, 1},
		{silent, AutoVersion, Ask{HTTP2: true}, 1},
		{silent, AutoVersion, Ask{}, 1},
	} {
		t.Run(fmt.Sprintf("%v %+v", c.version, c.ask), func(t *testing.T) {
			r, s := newRig(t, engine.Options{Loops: 1}), muxed(&Mesh{Identity: id, Path: "/api"}, 100, 0, c.address)
			to := *s.Settings()
			to.Version = c.version
			s.Configure(&to)
			r.on(func(l *Local) {
				for i := range 3 { // the second knows what the endpoint has chosen, the third takes none that was used
					choice, err := l.Pick(s, &Tried{Ask: c.ask})
					if err != nil {
						t.Fatal(err)
					}
					conn, err := l.Acquire(&choice, i == 2)
					if err != nil {
						t.Fatal(err)
					}
					if conn.Reused != (i == 1) && c.want == 1 {
						t.Errorf("connection %d: reused is %v", i, conn.Reused)
					}
					var h message.Head
					h.SetRequest("GET", "/", "api")
					if err := conn.WriteHead(&h); err != nil {
						t.Fatal(err)
					}
					conn.Flush()
					if status := finish(t, l, choice, conn); status != 200+c.want {
						t.Errorf("status %d", status)
					}
				}
			})
		})
	}
}
