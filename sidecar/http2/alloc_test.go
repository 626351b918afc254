//go:build !race && !larboard_debug

package http2

import (
	"context"
	"testing"
	"time"
	"unsafe"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// exchanger is both sides on one loop of a real engine.
type exchanger struct {
	loop   *engine.Loop
	serve  func(*engine.Task, any)
	client *Client
	heads  [3]message.Head
	body   []byte
}

func (x *exchanger) Open(s *Stream)                { x.loop.GoArg("serve", x.serve, s) }
func (x *exchanger) Malformed(*Stream, int, error) {}
func (x *exchanger) Abuse(policy.Reason, error)    {}
func (x *exchanger) Closed(error)                  {}
func (x *exchanger) Room()                         {}

// answer echoes the body of a request.
func (x *exchanger) answer(_ *engine.Task, a any) {
	s := a.(*Stream)
	h := &x.heads[0]
	s.ReadHead(h)
	h.Reset()
	h.SetStatus(200)
	h.Framing.Kind = message.Chunked
	s.WriteHead(h)
	for {
		p, end, err := s.ReadBody()
		if err != nil || s.WriteBody(p, end) != nil || end {
			break
		}
	}
	s.Close()
}

// turn is one request and its answer.
func (x *exchanger) turn() error {
	s := x.client.Open()
	defer s.Close()
	if err := s.WriteHead(&x.heads[1]); err != nil {
		return err
	}
	if err := s.WriteBody(x.body, true); err != nil {
		return err
	}
	if err := s.ReadHead(&x.heads[2]); err != nil {
		return err
	}
	for {
		_, end, err := s.ReadBody()
		if end || err != nil {
			return err
		}
	}
}

// exchanging runs f on a task, with a connection whose both ends are on its loop.
func exchanging(t testing.TB, f func(x *exchanger)) {
	t.Helper()
	e, err := engine.New(engine.Options{Loops: 1, Kind: testKind(t), Watchdog: engine.WatchdogOptions{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	x := &exchanger{body: pattern(3000, 0)}
	x.serve = x.answer
	h := &x.heads[1]
	h.SetRequest("POST", "/path", "a.example")
	h.AddString(message.NameOther, "x-field", "value")
	h.Framing.Kind, h.Framing.Length = message.Length, int64(len(x.body))
	ln, err := e.Listen("tcp", "127.0.0.1:0", func(l *engine.Loop, c *engine.Conn) { Serve(c, testOptions(), x, nil, nil) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- e.Run(ctx) }()
	done := make(chan struct{})
	x.loop = e.Loops()[0]
	x.loop.Post(func() {
		x.loop.Go("client", func(*engine.Task) {
			defer close(done)
			c, err := x.loop.Dial(ln.Addr(), time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			x.client = Dial(c, testOptions(), x)
			f(x)
			x.client.Close()
		})
	})
	<-done
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// TestSteadyStateAllocates nothing: a request with a body and its answer, on both sides.
func TestSteadyStateAllocates(t *testing.T) {
	exchanging(t, func(x *exchanger) {
		turn := func() {
			if err := x.turn(); err != nil {
				t.Error(err)
			}
		}
		for range 200 {
			turn()
		}
		if n := testing.AllocsPerRun(500, turn); n != 0 {
			t.Errorf("%v allocations a request", n)
		}
	})
}

// BenchmarkExchange is a request of 3,000 bytes and its echo, both sides and the kernel included.
func BenchmarkExchange(b *testing.B) {
	exchanging(b, func(x *exchanger) {
		b.ReportAllocs()
		for range b.N {
			if err := x.turn(); err != nil {
				b.Error(err)
			}
		}
	})
}

// TestRecordsAreSmall: what an idle connection and a stream take.
func TestRecordsAreSmall(t *testing.T) {
	if n := unsafe.Sizeof(Server{}); n > 1152 {
		t.Errorf("a Server takes %d bytes", n)
	}
	if n := unsafe.Sizeof(Stream{}); n > 896 {
		t.Errorf("a Stream takes %d bytes", n)
	}
	t.Logf("a Server takes %d bytes, a Stream %d", unsafe.Sizeof(Server{}), unsafe.Sizeof(Stream{}))
}

// TestGiveBack: what a burst has left is let go of, but for what is soon needed again.
func TestGiveBack(t *testing.T) {
	exchanging(t, func(x *exchanger) {
		var burst []*Stream
		for range 60 {
			burst = append(burst, x.client.Open())
		}
		for _, s := range burst {
			s.Close()
		}
		p := poolOf(x.loop)
		if len(p.streams) < len(burst) {
			t.Errorf("%d records at hand after %d", len(p.streams), len(burst))
		}
		GiveBack(x.loop)
		if len(p.streams) != keptStreams || cap(p.streams) != keptStreams {
			t.Errorf("%d records are kept, in room for %d", len(p.streams), cap(p.streams))
		}
		if err := x.turn(); err != nil {
			t.Error(err)
		}
	})
}
