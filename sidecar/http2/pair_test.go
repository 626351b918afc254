package http2

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// pair is a client and a server of ours on two hosts.
type pair struct {
	w              *sim.World
	server, client told
	s              *Server
	c              *Client
	loop           *engine.Loop // the client's
}

func newPair(t testing.TB, network sim.Options, so, co *Options, serve func(*engine.Task, *Stream)) *pair {
	t.Helper()
	w, e := newWorld(t, network)
	x := &pair{w: w}
	x.server.serve = serve
	if _, err := e.Listen("tcp", serverAddr.String(), func(l *engine.Loop, c *engine.Conn) {
		x.server.loop = l
		x.s = Serve(c, so, &x.server, nil, nil)
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
			x.c = Dial(c, co, &x.client)
		})
	})
	if !w.Run(10*time.Second, func() bool { return x.c != nil && x.s != nil }) {
		t.Fatal("not connected")
	}
	return x
}

func (x *pair) do(f func(*engine.Task, *Stream)) {
	x.loop.Post(func() {
		x.loop.Go("exchange", func(task *engine.Task) {
			s := x.c.Open()
			defer s.Close()
			f(task, s)
		})
	})
}

func pattern(n, seed int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8 + seed)
	}
	return p
}

// TestBothSidesOverARoughNetwork sends many bodies at once both ways, larger than every window
// and buffer, in whatever pieces the network makes of them.
func TestBothSidesOverARoughNetwork(t *testing.T) {
	const streams = 20
	for seed := range uint64(6) {
		o := testOptions()
		o.StreamWindow, o.ConnectionWindow = 20_000+uint32(seed)*10_000, 100_000
		x := newPair(t, sim.Options{Seed: seed, MinDelay: time.Microsecond, MaxDelay: 2 * time.Millisecond,
			Segment: 300 + int(seed*seed*571)%9000, SendBuffer: 64 << 10, ReceiveBuffer: 64 << 10, Phantoms: true}, o, o, echo)
		ended := 0
		for i := range streams {
			x.do(func(task *engine.Task, s *Stream) {
				defer func() { ended++ }()
				if err := exchange(task, s, pattern(1000+i*i*500, i), i%3 == 0); err != nil {
					t.Errorf("seed %d, stream %d: %v", seed, i, err)
				}
			})
		}
		if !x.w.Run(5*time.Minute, func() bool { return ended == streams }) {
			t.Fatalf("seed %d: %d of %d ended", seed, ended, streams)
		}
		x.w.RunFor(10 * time.Millisecond)
		if x.c.Streams() != 0 || x.s.Streams() != 0 || x.c.open != 0 || x.s.open != 0 {
			t.Errorf("left: %d and %d streams, %d and %d open", x.c.Streams(), x.s.Streams(), x.c.open, x.s.open)
		}
		x.loop.Post(x.c.Close)
		if !x.w.Run(5*time.Second, func() bool { return x.server.closed == 1 && x.client.closed == 1 }) {
			t.Errorf("seed %d: closed %d and %d", seed, x.server.closed, x.client.closed)
		}
		if x.server.err != nil || x.client.err != nil {
			t.Errorf("seed %d: closed with %v and %v", seed, x.server.err, x.client.err)
		}
	}
}

// exchange sends a body by a sibling task and reads it back.
func exchange(task *engine.Task, s *Stream, body []byte, trailers bool) error {
	h := request("POST", "/echo", message.Chunked, 0)
	if err := s.WriteHead(h); err != nil {
		return err
	}
	var sendErr error
	sent := task.Loop().Go("send", func(*engine.Task) {
		for n := 0; n < len(body) && sendErr == nil; {
			m := min(len(body)-n, 1+n%30_000)
			sendErr = s.WriteBody(body[n:n+m], !trailers && n+m == len(body))
			n += m
		}
		if trailers && sendErr == nil {
			var t message.Head
			t.AddString(message.NameOther, "x-sum", fmt.Sprint(len(body)))
			sendErr = s.WriteTrailers(&t)
		}
	}).Ref()
	var r message.Head
	if err := s.ReadHead(&r); err != nil {
		return err
	}
	got, err := readAll(s)
	for sent.Live() {
		task.Sleep(time.Millisecond)
	}
	if err != nil || sendErr != nil {
		return fmt.Errorf("read %v, sent %v", err, sendErr)
	}
	if !bytes.Equal(got, body) {
		return fmt.Errorf("%d bytes, not those that were sent", len(got))
	}
	if trailers {
		if s.Trailers() == nil {
			return fmt.Errorf("no trailers")
		}
		if v, _ := s.Trailers().Lookup("x-sum"); string(v) != fmt.Sprint(len(body)) {
			return fmt.Errorf("trailer %q", v)
		}
	}
	return nil
}
