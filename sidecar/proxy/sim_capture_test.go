package proxy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/retry"
	"github.com/larboard-proxy/larboard/policy/route"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// captureStage is a stage whose host has an application (scripted clients and servers). Its
// connections go to the capture ports, as rules of a kernel have it.
type captureStage struct {
	*stage
	outbound, inbound *Capture
	passing           *upstream.Service
	mesh              *ListenerConfig
	direct            bool // nothing is redirected
}

const (
	appAddr   = "127.0.0.1:8000"
	otherAddr = "10.0.3.1:81" // somebody whom nobody knows
)

// update is a set of one endpoint.
func update(address string) discovery.Update {
	return discovery.Update{Endpoints: []discovery.Endpoint{{ID: address, Address: address, Weight: 1}}}
}

func at(address string) netip.AddrPort { return netip.MustParseAddrPort(address) }

func newCaptureStage(t *testing.T) *captureStage {
	s := &captureStage{stage: newStage(t, calm(), HTTP, nil, originAddr),
		outbound: &Capture{Pass: true}, inbound: &Capture{Pass: true}}
	passing := settings()
	passing.Retries = &retry.Policy{}
	s.passing = upstream.NewService("passthrough", passing)
	s.apply()
	s.proxy.Capture(Captures{
		Outbound: []CapturedAddress{
			{Prefix: netip.MustParsePrefix("240.0.0.1/32"), Port: 80, Listener: "api"},
			{Prefix: netip.MustParsePrefix("240.1.0.0/16"), Listener: "api"},
			{Prefix: netip.MustParsePrefix("240.2.0.0/16"), Listener: "gone"},
		},
		Inbound: []CapturedAddress{{Port: 8000, Listener: "mesh"}},
		Local:   []netip.Addr{netip.MustParseAddr("10.0.0.1")},
		Own:     []netip.AddrPort{at("127.0.0.1:9901")},
	})
	s.redirect()
	s.origin(originAddr, func(p *sim.Peer, q request) { p.Send(ok("origin " + q.target)) })
	s.origin(otherAddr, func(p *sim.Peer, q request) { p.Send(ok("other " + q.target)) })
	s.app(appAddr, "app ")
	return s
}

// app serves an address of the host itself, until its connections have to be gone.
func (s *captureStage) app(address, name string) {
	server := s.w.Host("10.0.0.1").Serve(address, func(p *sim.Peer) {
		if q, n := parseRequest(p.Got()); n > 0 {
			p.Take()
			p.Send(ok(name + q.target))
		}
		if p.Over() {
			p.Close()
		}
	})
	s.t.Cleanup(func() {
		s.w.RunFor(5 * time.Minute)
		server.Close()
	})
}

// redirect sets up the rules of the host.
func (s *captureStage) redirect() {
	h := s.w.Host("10.0.0.1")
	h.RedirectOut(func(to netip.AddrPort) netip.AddrPort {
		if s.direct {
			return netip.AddrPort{}
		}
		return at("127.0.0.1:15001")
	})
	h.RedirectIn(func(to netip.AddrPort) netip.AddrPort {
		if s.direct {
			return netip.AddrPort{}
		}
		return at("10.0.0.1:15006")
	})
}

// apply brings the listeners into force as they are configured now.
func (s *captureStage) apply() {
	s.t.Helper()
	web := s.proxy.Snapshot().Listeners[0]
	api := *web
	api.Name, api.Addresses, api.Inbound = "api", nil, false
	local := upstream.NewService("local", settings())
	local.Update(update(appAddr))
	mesh := api
	mesh.Name, mesh.Inbound, mesh.Addresses = "mesh", true, []string{"10.0.0.1:20000"}
	mesh.Table, mesh.Routes = route.Compile([]route.Rule{{}}), []*Route{{Name: "default", Service: local}}
	mesh.Service = local
	plain := mesh
	plain.Name, plain.Addresses = "mesh-plain", nil
	if s.mesh != nil {
		mesh.TLS, mesh.Protocol = s.mesh.TLS, s.mesh.Protocol
	}
	timeouts := web.Timeouts
	out := &ListenerConfig{Name: "out", Addresses: []string{"127.0.0.1:15001"}, Protocol: TCP, Capture: s.outbound, Service: s.passing,
		Timeouts: timeouts, HTTP: http1.ServerOptions{Limits: http1.DefaultLimits()}}
	in := *out
	in.Name, in.Addresses, in.Capture, in.Inbound = "in", []string{"10.0.0.1:15006"}, s.inbound, true
	if err := s.proxy.Apply(&Snapshot{Listeners: []*ListenerConfig{web, &api, &mesh, &plain, out, &in},
		Services: []*upstream.Service{s.service, local, s.passing}, Generation: 2}); err != nil {
		s.t.Fatal(err)
	}
	s.w.RunFor(time.Millisecond)
}

// call calls an address from host, and returns the body of the answer, or what came instead.
func (s *captureStage) call(host, address string) string {
	s.t.Helper()
	p := s.w.Host(host).Dial(at(address))
	p.Send(get1("/" + address))
	s.until(time.Minute, "an answer from "+address, func() bool { return p.Over() || len(answers(p)) == 1 })
	defer p.Close()
	if a := answers(p); len(a) == 1 {
		return a[0].body
	}
	if p.Err() != nil {
		return p.Err().Error()
	}
	return "closed"
}

func TestSimCapture(t *testing.T) {
	const reset = "connection reset by peer"
	for name, c := range map[string]struct {
		from, to string
		prepare  func(*captureStage)
		want     string
		refused  policy.Reason // None: it is not
		record   string        // listener and service; empty: none
	}{
		"a service's address and port":          {"10.0.0.1", "240.0.0.1:80", nil, "origin /240.0.0.1:80", 0, "api api"},
		"another port of it":                    {"10.0.0.1", "240.0.0.1:81", nil, reset, 0, "out passthrough"},
		"a block of addresses":                  {"10.0.0.1", "240.1.2.3:99", nil, "origin /240.1.2.3:99", 0, "api api"},
		"the address of a listener that is not": {"10.0.0.1", "240.2.0.1:80", nil, reset, 0, "out passthrough"},
		"somebody unknown":                      {"10.0.0.1", otherAddr, nil, "other /" + otherAddr, 0, "out passthrough"},
		"nobody there":                          {"10.0.0.1", "10.0.3.1:82", nil, reset, 0, "out passthrough"},
		"somebody unknown, refused": {"10.0.0.1", otherAddr, func(s *captureStage) { s.outbound = &Capture{} }, reset,
			policy.CaptureUnknown, ""},
		"the capture port itself, by a redirect": {"10.0.0.1", "10.0.0.1:15001", nil, reset, policy.CaptureLoop, ""},
		"the mesh port, by a redirect":           {"10.0.0.1", "10.0.0.1:20000", nil, reset, policy.CaptureLoop, ""},
		"the mesh port over loopback":            {"10.0.0.1", "127.0.0.1:20000", nil, reset, policy.CaptureLoop, ""},
		"the admin port":                         {"10.0.0.1", "127.0.0.1:9901", nil, reset, policy.CaptureLoop, ""},
		"the mesh port of another host":          {"10.0.0.1", "10.0.3.1:20000", nil, reset, 0, "out passthrough"},
		"the capture port, not redirected":       {"10.0.0.1", "127.0.0.1:15001", func(s *captureStage) { s.direct = true }, reset, policy.CaptureLoop, ""},

		"in, the workload's port":    {"10.0.1.1", "10.0.0.1:8000", nil, "app /10.0.0.1:8000", 0, "mesh local"},
		"in, another port":           {"10.0.1.1", "10.0.0.1:8001", nil, "app too /10.0.0.1:8001", 0, "in passthrough"},
		"in, where nobody listens":   {"10.0.1.1", "10.0.0.1:8002", nil, reset, 0, "in passthrough"},
		"in, another port, refused":  {"10.0.1.1", "10.0.0.1:8001", func(s *captureStage) { s.inbound = &Capture{} }, reset, policy.CaptureUnknown, ""},
		"in, the mesh port":          {"10.0.1.1", "10.0.0.1:20000", nil, "app /10.0.0.1:20000", 0, "mesh local"},
		"in, the capture port":       {"10.0.1.1", "10.0.0.1:15006", nil, reset, policy.CaptureLoop, ""},
		"in, the admin port":         {"10.0.1.1", "10.0.0.1:9901", nil, reset, policy.CaptureLoop, ""},
		"in, the outbound port":      {"10.0.1.1", "10.0.0.1:15001", nil, reset, policy.CaptureLoop, ""},
		"in, not redirected":         {"10.0.1.1", "10.0.0.1:15006", func(s *captureStage) { s.direct = true }, reset, policy.CaptureLoop, ""},
		"in, no address of the host": {"10.0.1.1", "10.0.0.1:8001", func(s *captureStage) { s.forgetLocal() }, reset, policy.CaptureUnknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCaptureStage(t)
			s.app("10.0.0.1:8001", "app too ")
			if c.prepare != nil {
				c.prepare(s)
				s.apply()
			}
			got := s.call(c.from, c.to)
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if c.refused != policy.None && !slices.Equal(s.records.refused, []policy.Reason{c.refused}) ||
				c.refused == policy.None && len(s.records.refused) > 0 {
				t.Errorf("refused: %v", s.records.refused)
			}
			var record string
			if s.w.RunFor(time.Second); len(s.records.all) > 0 {
				r := s.records.all[0]
				record = r.Listener + " " + r.Service
				if r.Service == "passthrough" && r.Reason == policy.None && (r.Endpoint != c.to || !r.EndpointLeft) {
					t.Errorf("endpoint %q, left %v", r.Endpoint, r.EndpointLeft)
				}
			}
			if record != c.record || len(s.records.all) > 1 {
				t.Errorf("records %v, want %q", s.records.all, c.record)
			}
		})
	}
}

// forgetLocal leaves the proxy without knowledge of its host's addresses.
func (s *captureStage) forgetLocal() {
	c := s.proxy.captures
	c.Local = nil
	s.proxy.Capture(c)
}

// TestSimCapturePlain: by its first byte a connection goes to the listener of the mesh, or to the
// one for plain text; and by its silence, where the endpoint may be the one to speak.
func TestSimCapturePlain(t *testing.T) {
	for name, c := range map[string]struct {
		protocol Protocol
		send     string
		plain    bool
		want     string
		refused  policy.Reason
	}{
		"plain text":                {HTTP, get1("/x"), true, "200", 0},
		"TLS":                       {HTTP, "\x16\x03\x01", true, "closed", policy.NoIdentity},
		"plain text, not wanted":    {HTTP, get1("/x"), false, "closed", policy.NoIdentity},
		"silence":                   {HTTP, "", true, "closed", 0},
		"silence before a greeting": {TCP, "", true, "hello", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCaptureStage(t)
			s.inbound = &Capture{Plain: c.plain}
			s.mesh = &ListenerConfig{Protocol: c.protocol, TLS: func() (TLSMaterial, error) {
				return TLSMaterial{}, &policy.Error{Reason: policy.NoIdentity, Phase: policy.PhaseAccept}
			}}
			s.apply()
			if c.protocol == TCP {
				s.plainAsTCP()
			}
			p := s.w.Host("10.0.1.1").Dial(at("10.0.0.1:8000"))
			p.Send(c.send)
			s.until(time.Minute, "an answer", func() bool { return p.Over() || p.Size() > 0 })
			got := "closed"
			if text := p.Got(); strings.HasPrefix(text, "HTTP/1.1 200") {
				got = "200"
			} else if text != "" {
				got = text
			}
			p.Close()
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if c.refused != 0 && !slices.Equal(s.records.refused, []policy.Reason{c.refused}) || c.refused == 0 && len(s.records.refused) > 0 {
				t.Errorf("refused: %v", s.records.refused)
			}
		})
	}
}

// plainAsTCP makes the listener for plain text one of TCP, whose endpoint speaks first.
func (s *captureStage) plainAsTCP() {
	const greeter = "10.0.2.9:3306"
	s.w.Host("10.0.2.9").Serve(greeter, func(p *sim.Peer) {
		if p.Size() == 0 && !p.Over() {
			p.Send("hello")
		}
		if p.Over() {
			p.Close()
		}
	})
	db := upstream.NewService("db", settings())
	db.Update(update(greeter))
	now := *s.proxy.Snapshot()
	now.Listeners = slices.Clone(now.Listeners)
	for i, l := range now.Listeners {
		if l.Name == "mesh-plain" {
			c := *l
			c.Protocol, c.Service, c.Routes = TCP, db, nil
			now.Listeners[i] = &c
		}
	}
	now.Services = append(slices.Clone(now.Services), db)
	if err := s.proxy.Apply(&now); err != nil {
		s.t.Fatal(err)
	}
	s.w.RunFor(time.Millisecond)
}

// TestSimCaptureFollowsReloads: a new table is in force for the next connection, on the sockets that
// there are, and an exchange under way ends as it began.
func TestSimCaptureFollowsReloads(t *testing.T) {
	s := newCaptureStage(t)
	open := s.w.Host("10.0.0.1").Dial(at("240.0.0.1:80"))
	open.Send(get1("/1"))
	s.answered(open, 1, time.Second)
	var socket any
	for _, l := range s.proxy.Listeners() {
		if l.name == "out" {
			socket = l.sockets[0]
		}
	}
	s.outbound = &Capture{}
	s.proxy.Capture(Captures{Outbound: []CapturedAddress{{Prefix: netip.MustParsePrefix("10.0.3.1/32"), Listener: "api"}}})
	s.apply()
	if got := s.call("10.0.0.1", otherAddr); got != "origin /"+otherAddr {
		t.Errorf("got %q from the new address", got)
	}
	if got := s.call("10.0.0.1", "240.0.0.1:80"); got != "connection reset by peer" {
		t.Errorf("got %q from the old address", got)
	}
	for _, l := range s.proxy.Listeners() {
		if l.name == "out" && any(l.sockets[0]) != socket {
			t.Error("the capture port was bound again")
		}
	}
	open.Send(get1("/2"))
	s.answered(open, 2, time.Second)
	open.Close()
}

// TestSimCaptureDrains: those of the workload's direction end in their order.
func TestSimCaptureDrains(t *testing.T) {
	s := newCaptureStage(t)
	s.proxy.Drain(true)
	s.w.RunFor(time.Second)
	if got := s.call("10.0.1.1", "10.0.0.1:8000"); !strings.Contains(got, "refused") {
		t.Errorf("inbound: got %q", got)
	}
	if got := s.call("10.0.0.1", "240.0.0.1:80"); got != "origin /240.0.0.1:80" {
		t.Errorf("outbound: got %q", got)
	}
	s.proxy.Drain(false)
	s.w.RunFor(time.Second)
	if got := s.call("10.0.0.1", "240.0.0.1:80"); !strings.Contains(got, "refused") {
		t.Errorf("outbound, after its end: got %q", got)
	}
}

// TestSimCaptureOfOurselves: rules that do not spare the proxy redirect what it dials. That ends at
// once, and nothing is left of it.
func TestSimCaptureOfOurselves(t *testing.T) {
	for address, want := range map[string]string{otherAddr: "connection reset by peer", "240.0.0.1:80": "connect_failed: "} {
		s := newCaptureStage(t)
		s.w.Host("10.0.0.1").RedirectEngines(true)
		if got := s.call("10.0.0.1", address); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %q", address, got)
		}
		s.w.RunFor(time.Minute)
		if n := len(s.records.refused); n < 1 || n > 3 || s.records.refused[0] != policy.CaptureLoop { // as many as attempts
			t.Errorf("%s: refused %v", address, s.records.refused)
		}
	}
}
