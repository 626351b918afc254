package proxy

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/route"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// stage is a real Proxy with two loops on the simulated network: clients and endpoints are
// scripted peers, time is virtual, and when the test is over nothing may be left.
type stage struct {
	*rig
	w    *sim.World
	addr netip.AddrPort
}

// calm is a network with a little delay and otherwise as good as it gets.
func calm() sim.Options {
	return sim.Options{Seed: 1, MinDelay: 50 * time.Microsecond, MaxDelay: 100 * time.Microsecond, Phantoms: true}
}

// rough is one that splits, delays and buffers little, as seed has it.
func rough(seed uint64) sim.Options {
	return sim.Options{Seed: seed, MinDelay: 10 * time.Microsecond, MaxDelay: 5 * time.Millisecond,
		Segment: 900, SendBuffer: 8 << 10, ReceiveBuffer: 8 << 10, Phantoms: true}
}

func newStage(t *testing.T, o sim.Options, protocol Protocol, change func(*ListenerConfig, *upstream.Settings), endpoints ...string) *stage {
	t.Helper()
	log := slog.New(slog.NewTextHandler(testWriter{t}, nil))
	w := sim.New(o)
	e, err := w.Host("10.0.0.1").Engine(engine.Options{Loops: 2, Log: log, Kind: kind(t)})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, engine: e}
	r.proxy = New(Options{Engine: e, Observers: []observability.Observer{&r.records}, Meter: &r.records, Log: log})
	s := settings()
	r.service = upstream.NewService("api", s)
	r.endpoints(endpoints...)
	c := &ListenerConfig{
		Name: "web", Addresses: []string{"10.0.0.1:80"}, Protocol: protocol, Inbound: true,
		Timeouts: Timeouts{RequestHead: 5 * time.Second, KeepAlive: 30 * time.Second, Body: 5 * time.Second},
		HTTP:     http1.ServerOptions{Limits: http1.DefaultLimits()},
		Table:    route.Compile([]route.Rule{{}}),
		Routes:   []*Route{{Name: "default", Service: r.service, Steps: []Step{&Forwarded{Proto: "http"}}}},
		Service:  r.service,
	}
	if change != nil {
		change(c, s)
	}
	if err := r.proxy.Apply(&Snapshot{Listeners: []*ListenerConfig{c}, Services: []*upstream.Service{r.service}, Generation: 1}); err != nil {
		t.Fatal(err)
	}
	st := &stage{rig: r, w: w, addr: netip.MustParseAddrPort("10.0.0.1:80")}
	w.RunFor(time.Millisecond)
	t.Cleanup(st.end)
	return st
}

// end looks, once the clients have gone, for what the proxy left behind: exchanges, buffers
// and endpoints in flight at once, connections when the idle ones have expired.
func (s *stage) end() {
	s.w.RunFor(10 * time.Second)
	total := s.engine.Stats().Total()
	if total.Tasks != 0 || total.Buffers != 0 {
		s.t.Errorf("left behind: %+v", total)
	}
	if total.Panics != 0 {
		s.t.Errorf("%d panics", total.Panics)
	}
	for _, m := range s.service.Set().Members {
		if n := m.Inflight(); n != 0 {
			s.t.Errorf("endpoint %s has %d in flight", m.Address, n)
		}
	}
	s.w.RunFor(5 * time.Minute)
	if n := s.engine.Stats().Total().Conns; n != 0 {
		s.t.Errorf("%d connections outlived their idle time", n)
	}
	if n := s.records.conns.Load(); n != 0 {
		s.t.Errorf("%d connections were never counted closed", n)
	}
	if err := s.w.Close(); err != nil {
		s.t.Error(err)
	}
}

// dial opens a client connection and sends text.
func (s *stage) dial(text string) *sim.Peer {
	p := s.w.Host("10.0.1.1").Dial(s.addr)
	p.Send(text)
	return p
}

// until runs for no longer than most.
func (s *stage) until(most time.Duration, what string, done func() bool) {
	s.t.Helper()
	if !s.w.Run(most, done) {
		s.t.Errorf("%s: not within %v", what, most)
	}
}

// answered runs until n whole answers have come, and returns them.
func (s *stage) answered(p *sim.Peer, n int, most time.Duration) []answered {
	s.t.Helper()
	seen := -1
	s.until(most, fmt.Sprintf("%d answers", n), func() bool {
		if p.Over() {
			return true
		}
		if p.Size() == seen { // parsing is dear
			return false
		}
		seen = p.Size()
		return len(answers(p)) >= n
	})
	all := answers(p)
	if len(all) != n {
		s.t.Fatalf("%d answers of %d: %q, %v", len(all), n, p.Got(), p.Err())
	}
	return all
}

// reason is that of the n-th exchange.
func (s *stage) reason(n int) policy.Reason {
	s.t.Helper()
	s.until(time.Minute, "the record", func() bool { return len(s.records.all) >= n })
	if len(s.records.all) < n {
		return policy.None
	}
	return s.records.all[n-1].Reason
}

// answered is one whole answer.
type answered struct {
	status int
	header http.Header
	body   string
	close  bool
}

// answers parses the whole answers among what p got (to requests that are not HEAD).
func answers(p *sim.Peer) (all []answered) {
	r := bufio.NewReader(strings.NewReader(p.Got()))
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return all
		}
		untilClose := resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 && resp.StatusCode >= 200
		b, err := io.ReadAll(resp.Body)
		if err != nil || untilClose && !p.Ended() {
			return all
		}
		all = append(all, answered{resp.StatusCode, resp.Header, string(b), resp.Close})
	}
}

// request is what a scripted endpoint received.
type request struct {
	method, target string
	body           string
	header         http.Header
}

// origin is a scripted endpoint: answer is called for each whole request.
func (s *stage) origin(addr string, answer func(*sim.Peer, request)) *sim.Server {
	return s.w.Host(addr[:strings.IndexByte(addr, ':')]).Serve(addr, func(p *sim.Peer) {
		for {
			q, n := parseRequest(p.Got())
			if n == 0 {
				break
			}
			rest := p.Take()[n:]
			p.Return(rest)
			answer(p, q)
		}
		if p.Over() {
			p.Close()
		}
	})
}

// parseRequest returns the first whole request in text and its length, 0 if there is none.
func parseRequest(text string) (q request, n int) {
	src := strings.NewReader(text)
	r := bufio.NewReaderSize(src, len(text)+16)
	req, err := http.ReadRequest(r)
	if err != nil {
		return q, 0
	}
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return q, 0
	}
	return request{req.Method, req.RequestURI, string(b), req.Header}, len(text) - r.Buffered() - src.Len()
}

// ok is an answer with body.
func ok(body string) string {
	return "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

func get1(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: api\r\n\r\n" }

const originAddr = "10.0.2.1:80"
