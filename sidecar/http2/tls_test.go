package http2

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/tests/pki"
)

// TestOverTLS sends bodies both ways through records that split and join frames at will.
func TestOverTLS(t *testing.T) {
	const streams = 12
	cert := pki.SelfSigned(t, "test")
	serverTLS := &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true, NextProtos: []string{"h2"}}
	clientTLS := &tls.Config{RootCAs: pki.Pool(cert.Leaf), ServerName: "test", NextProtos: []string{"h2"}}
	for seed := range uint64(3) {
		w, e := newWorld(t, sim.Options{Seed: seed, MinDelay: time.Microsecond, MaxDelay: 2 * time.Millisecond,
			Segment: 500 + int(seed)*4000, SendBuffer: 32 << 10, ReceiveBuffer: 32 << 10, Phantoms: true})
		x := &pair{w: w}
		x.server.serve = echo
		if _, err := e.Listen("tcp", serverAddr.String(), func(l *engine.Loop, c *engine.Conn) {
			x.server.loop = l
			l.Go("handshake", func(*engine.Task) {
				s := engine.TLSServer(c, serverTLS)
				if err := s.Handshake(); err != nil {
					t.Error(err)
					return
				}
				x.s = Serve(s, testOptions(), &x.server, nil, nil)
			})
		}); err != nil {
			t.Fatal(err)
		}
		other, err := w.Host("10.0.0.2").Engine(engine.Options{Loops: 1, Kind: testKind(t)})
		if err != nil {
			t.Fatal(err)
		}
		x.loop = other.Loops()[0]
		x.loop.Post(func() {
			x.loop.Go("dial", func(*engine.Task) {
				c, err := x.loop.Dial(serverAddr, time.Second)
				if err != nil {
					t.Error(err)
					return
				}
				s := engine.TLSClient(c, clientTLS)
				if err := s.Handshake(); err != nil {
					t.Error(err)
					return
				}
				x.c = Dial(s, testOptions(), &x.client)
			})
		})
		if !w.Run(10*time.Second, func() bool { return x.c != nil && x.s != nil }) {
			t.Fatal("not connected")
		}
		ended := 0
		for i := range streams {
			x.do(func(task *engine.Task, s *Stream) {
				defer func() { ended++ }()
				if err := exchange(task, s, pattern(5000+i*i*900, i), i%2 == 0); err != nil {
					t.Errorf("seed %d, stream %d: %v", seed, i, err)
				}
			})
		}
		if !w.Run(5*time.Minute, func() bool { return ended == streams }) {
			t.Fatalf("seed %d: %d of %d ended", seed, ended, streams)
		}
		x.loop.Post(x.c.Close)
		if !w.Run(5*time.Second, func() bool { return x.server.closed == 1 && x.client.closed == 1 }) || x.server.err != nil {
			t.Errorf("seed %d: closed %d and %d, %v", seed, x.server.closed, x.client.closed, x.server.err)
		}
	}
}
