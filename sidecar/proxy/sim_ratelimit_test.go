package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/limit"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// limits makes limits of a registry of its own: rate a second and burst by name.
func testLimit(r *limit.Registry, name string, rate float64, burst int) *limit.Limit {
	return r.Get(name, name, limit.Definition{Rate: rate, Burst: burst, Keys: 1000})
}

func withLimits(fields LimitFields, limits ...RateLimit) func(*ListenerConfig, *upstream.Settings) {
	return func(c *ListenerConfig, _ *upstream.Settings) {
		c.Routes[0].Steps = []Step{NewLimits(limits, nil, fields), &Forwarded{Proto: "http"}}
	}
}

func sayOK(p *sim.Peer, _ request) { p.Send(ok("ok")) }

// ask sends requests from a host of that address and returns the statuses of the answers.
func (s *stage) ask(host string, requests ...string) (statuses []int) {
	s.t.Helper()
	p := s.w.Host(host).Dial(s.addr)
	p.Send(strings.Join(requests, ""))
	for _, a := range s.answered(p, len(requests), 5*time.Second) {
		statuses = append(statuses, a.status)
	}
	p.Close()
	return statuses
}

func TestSimLimitKeys(t *testing.T) {
	with := func(target, fields string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: api\r\n" + fields + "\r\n"
	}
	plain := with("/", "")
	type turn struct {
		host    string
		request string
		want    int
	}
	for _, c := range []struct {
		name  string
		limit RateLimit
		turns []turn
	}{
		{"all", RateLimit{By: ByAll}, []turn{{"10.0.1.1", plain, 200}, {"10.0.1.2", plain, 200}, {"10.0.1.3", plain, 429}}},
		{"source", RateLimit{By: BySource, V4: 32, V6: 64}, []turn{
			{"10.0.1.1", plain, 200}, {"10.0.1.1", plain, 200}, {"10.0.1.1", plain, 429}, {"10.0.1.2", plain, 200}}},
		{"source by prefix", RateLimit{By: BySource, V4: 24, V6: 64}, []turn{
			{"10.0.1.1", plain, 200}, {"10.0.1.9", plain, 200}, {"10.0.1.200", plain, 429}, {"10.0.3.1", plain, 200}}},
		{"header", RateLimit{By: ByHeader, Field: "x-api-key"}, []turn{
			{"10.0.1.1", with("/", "X-Api-Key: a\r\n"), 200}, {"10.0.1.2", with("/", "x-API-key:  a \r\n"), 200},
			{"10.0.1.1", with("/", "X-Api-Key: a\r\n"), 429}, {"10.0.1.1", with("/", "X-Api-Key: b\r\n"), 200},
			// Those without share a bucket, and so do those with several.
			{"10.0.1.1", plain, 200}, {"10.0.1.1", with("/", "X-Api-Key:\r\n"), 200},
			{"10.0.1.1", with("/", "X-Api-Key: c\r\nX-Api-Key: d\r\n"), 429}, {"10.0.1.1", plain, 429}}},
		{"known header", RateLimit{By: ByHeader, Field: "authorization"}, []turn{
			{"10.0.1.1", with("/", "Authorization: x\r\n"), 200}, {"10.0.1.1", with("/", "Authorization: x\r\n"), 200},
			{"10.0.1.1", with("/", "Authorization: x\r\n"), 429}, {"10.0.1.1", with("/", "Authorization: y\r\n"), 200}}},
		{"query", RateLimit{By: ByQuery, Field: "key"}, []turn{
			{"10.0.1.1", with("/x?a=1&key=one", ""), 200}, {"10.0.1.1", with("/y?key=o%6Ee&b", ""), 200},
			{"10.0.1.1", with("/?k%65y=one", ""), 429}, {"10.0.1.1", with("/?key=two", ""), 200},
			{"10.0.1.1", with("/?keys=one", ""), 200}, {"10.0.1.1", with("/?key=one&key=three", ""), 200}, {"10.0.1.1", with("/?key=", ""), 429}}},
		{"identity that nobody has", RateLimit{By: ByIdentity}, []turn{
			{"10.0.1.1", plain, 200}, {"10.0.1.2", plain, 200}, {"10.0.1.1", plain, 429}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.limit.Limit = testLimit(limit.NewRegistry(), "two", 0.001, 2)
			s := newStage(t, calm(), HTTP, withLimits(LimitFields{}, c.limit), originAddr)
			s.origin(originAddr, sayOK)
			for i, turn := range c.turns {
				if got := s.ask(turn.host, turn.request); got[0] != turn.want {
					t.Errorf("%d: %d, want %d", i, got[0], turn.want)
				}
			}
		})
	}
}

// One request, several limits: none of them loses a token to a request that another refuses.
func TestSimSeveralLimits(t *testing.T) {
	r := limit.NewRegistry()
	narrow, wide := testLimit(r, "narrow", 0.001, 1), testLimit(r, "wide", 0.001, 3)
	s := newStage(t, calm(), HTTP, withLimits(LimitFields{},
		RateLimit{Limit: wide}, RateLimit{Limit: narrow, By: BySource, V4: 32, V6: 64}), originAddr)
	s.origin(originAddr, sayOK)
	if got := s.ask("10.0.1.1", get1("/"), get1("/"), get1("/"), get1("/")); !slices.Equal(got, []int{200, 429, 429, 429}) {
		t.Errorf("%v", got)
	}
	if got := s.ask("10.0.1.2", get1("/")); !slices.Equal(got, []int{200}) {
		t.Errorf("%v", got)
	}
	if got := s.ask("10.0.1.3", get1("/"), get1("/")); !slices.Equal(got, []int{200, 429}) {
		t.Errorf("%v", got)
	}
	if got := s.ask("10.0.1.4", get1("/")); !slices.Equal(got, []int{429}) {
		t.Errorf("the wide one allows a fourth: %v", got)
	}
	want := []string{"web narrow", "web narrow", "web narrow", "web narrow", "web wide"}
	if !slices.Equal(s.records.limited, want) {
		t.Errorf("counted %q", s.records.limited)
	}
	rec := s.record(2)
	if rec.Reason != policy.RateLimited || rec.Side != policy.Downstream || rec.Status != 429 || rec.Attempts != 0 || !strings.Contains(rec.Err.Error(), `"narrow"`) {
		t.Errorf("%+v: %v", rec, rec.Err)
	}
}

// What answers say, of each kind and in each form.
func TestSimLimitFields(t *testing.T) {
	const (
		policies = `"per-client";q=2;w=20, "web";q=100;w=1`
		p2       = "ratelimit-policy=" + policies
	)
	type fields = []string
	for _, c := range []struct {
		name    string
		fields  LimitFields
		origin  string // further fields of its answer
		allowed fields
		denied  fields
	}{
		{"by default", LimitFields{}, "", nil, fields{p2, `ratelimit="per-client";r=0;t=10`}},
		{"always", LimitFields{When: LimitFieldsAlways}, "", fields{p2, `ratelimit="per-client";r=1;t=10`}, fields{p2, `ratelimit="per-client";r=0;t=10`}},
		{"never", LimitFields{When: LimitFieldsNever}, "", nil, nil},
		{"trio", LimitFields{When: LimitFieldsAlways, Form: TrioForm}, "", fields{"ratelimit-limit=2", "ratelimit-remaining=1", "ratelimit-reset=10"},
			fields{"ratelimit-limit=2", "ratelimit-remaining=0", "ratelimit-reset=10"}},
		{"with X", LimitFields{Form: XRateLimitForm}, "", nil, fields{"x-ratelimit-limit=2", "x-ratelimit-remaining=0", "x-ratelimit-reset=10"}},
		{"the endpoint has limits, too", LimitFields{When: LimitFieldsAlways}, "RateLimit: \"its\";r=7;t=1\r\nRateLimit-Policy: \"its\";q=9;w=1\r\n",
			fields{`ratelimit-policy="its";q=9;w=1, ` + policies, `ratelimit="its";r=7;t=1, "per-client";r=1;t=10`}, fields{p2, `ratelimit="per-client";r=0;t=10`}},
		{"and tells them as a trio", LimitFields{When: LimitFieldsAlways, Form: XRateLimitForm}, "X-RateLimit-Limit: 9\r\n",
			fields{"x-ratelimit-limit=9"}, fields{"x-ratelimit-limit=2", "x-ratelimit-remaining=0", "x-ratelimit-reset=10"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := limit.NewRegistry()
			s := newStage(t, calm(), HTTP, withLimits(c.fields,
				RateLimit{Limit: testLimit(r, "per-client", 0.1, 2), By: BySource, V4: 32, V6: 64},
				RateLimit{Limit: testLimit(r, "web", 100, 100)}), originAddr)
			s.origin(originAddr, func(p *sim.Peer, _ request) {
				p.Send("HTTP/1.1 200 OK\r\n" + c.origin + "Content-Length: 0\r\n\r\n")
			})
			all := s.answered(s.dial(get1("/")+get1("/")+get1("/")), 3, time.Second)
			for i, want := range map[int][]string{0: c.allowed, 2: c.denied} {
				var got []string
				for name, values := range all[i].header {
					if name = strings.ToLower(name); strings.Contains(name, "ratelimit") {
						got = append(got, name+"="+strings.Join(values, ", "))
					}
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("answer %d: %q, want %q", i, got, want)
				}
			}
			d := all[2]
			if d.status != 429 || d.header.Get("Retry-After") != "10" || d.header.Get(ReasonHeader) != "rate_limited" || d.close {
				t.Errorf("%+v", d)
			}
			if all[0].header.Get("Retry-After") != "" {
				t.Error("an allowed answer says when to retry")
			}
		})
	}
}

// A refused call is told so in gRPC's way.
func TestSimLimitedCall(t *testing.T) {
	s := newStage(t, calm(), HTTP, withLimits(LimitFields{}, RateLimit{Limit: testLimit(limit.NewRegistry(), "calls", 0.5, 1)}), originAddr)
	s.origin(originAddr, func(p *sim.Peer, _ request) { p.Send(wholeAnswer) })
	all := s.answered(s.dial(call1("")+call1("")), 2, time.Second)
	a := all[1]
	if a.status != 200 || a.header.Get("Grpc-Status") != "8" || a.header.Get("Retry-After") != "2" || a.header.Get("Ratelimit") != `"calls";r=0;t=2` {
		t.Errorf("%+v", a)
	}
	if r := s.record(2); r.GRPC != policy.GRPCResourceExhausted || r.Reason != policy.RateLimited {
		t.Errorf("%v %v", r.GRPC, r.Reason)
	}
}

// Over a minute of virtual time two loops let pass what the limit says, to the request.
func TestSimLimitIsExact(t *testing.T) {
	const rate, burst, clients = 50, 25, 12
	s := newStage(t, calm(), HTTP, withLimits(LimitFields{}, RateLimit{Limit: testLimit(limit.NewRegistry(), "exact", rate, burst)}), originAddr)
	s.origin(originAddr, sayOK)
	var peers []*sim.Peer
	for i := range clients {
		p := s.w.Host(fmt.Sprintf("10.0.1.%d", i+1)).Dial(s.addr)
		peers = append(peers, p)
	}
	s.w.RunFor(time.Millisecond)
	allowed, refused := 0, 0
	begin := s.engine.Nanos()
	for s.engine.Nanos() < begin+int64(time.Minute) {
		for _, p := range peers {
			p.Send(get1("/"))
		}
		s.w.RunFor(97 * time.Millisecond) // some 124 a second
		for i, p := range peers {
			for _, a := range answers(p) {
				if a.status == 200 {
					allowed++
				} else {
					refused++
				}
			}
			if p.Take(); p.Over() {
				t.Fatalf("connection %d has ended", i)
			}
		}
	}
	t.Logf("%d allowed, %d refused", allowed, refused)
	if want := rate*60 + burst; allowed < want-want/100 || allowed > want+want/100 {
		t.Errorf("%d allowed and %d refused, want %d", allowed, refused, want)
	}
	for _, l := range s.engine.Stats().Loops {
		if l.Conns < 3 {
			t.Errorf("a loop has %d connections only", l.Conns)
		}
	}
	for _, p := range peers {
		p.Close()
	}
}

// Connections above the rate are closed as they come, before anything is read of them.
func TestSimConnectionRate(t *testing.T) {
	for _, c := range []struct {
		name     string
		protocol Protocol
		by       By
		proxied  string // each client's header of the PROXY protocol, with its number
		want     int    // of 6 connections of 3 clients, that are served
	}{
		{"HTTP", HTTP, ByAll, "", 2},
		{"TCP", TCP, ByAll, "", 2},
		{"detected", Auto, ByAll, "", 2},
		{"by source", HTTP, BySource, "", 6},
		{"by the source that a proxy tells", HTTP, BySource, "PROXY TCP4 192.0.2.1 10.0.0.1 1%d 80\r\n", 2},
		{"by several that it tells", TCP, BySource, "PROXY TCP4 192.0.2.%d 10.0.0.1 1000 80\r\n", 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, calm(), c.protocol, func(l *ListenerConfig, _ *upstream.Settings) {
				r := NewRateLimit(RateLimit{Limit: testLimit(limit.NewRegistry(), "web.connections", 0.01, 2), By: c.by, V4: 32, V6: 64})
				l.ConnectionRate = &r
				if c.proxied != "" {
					l.Proxied.From = []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")}
				}
			}, originAddr)
			s.origin(originAddr, sayOK)
			served := 0
			for i := range 6 {
				p := s.w.Host(fmt.Sprintf("10.0.1.%d", i%3+1)).Dial(s.addr)
				text := get1("/")
				if c.proxied != "" {
					text = fmt.Sprintf(c.proxied, i%3) + text
				}
				p.Send(text)
				s.until(time.Second, "an end", func() bool { return p.Over() || len(answers(p)) == 1 })
				if len(answers(p)) == 1 {
					served++
				} else if p.Got() != "" {
					t.Errorf("a connection that was refused got %q", p.Got())
				}
				p.Close()
			}
			if served != c.want {
				t.Errorf("%d were served, want %d", served, c.want)
			}
			if n := len(s.records.limited); n != 6-c.want || len(s.records.refused) != n {
				t.Errorf("%d limited, %d refused", n, len(s.records.refused))
			}
			for _, reason := range s.records.refused {
				if reason != policy.ConnectionRate {
					t.Errorf("refused for %s", reason)
				}
			}
		})
	}
}

func TestOnlyQuery(t *testing.T) {
	for _, c := range []struct{ path, key, want string }{
		{"/", "k", ""}, {"/?", "k", ""}, {"/?k", "k", ""}, {"/?k=", "k", ""}, {"/?k=v", "k", "v"}, {"/?a=b&k=v&c", "k", "v"},
		{"/?k=v&k=w", "k", ""}, {"/?k=v&k=", "k", ""}, {"/?k=a%20b+c%2", "k", "a b c%2"}, {"/?k=%zz", "k", "%zz"}, {"/?%6b=%76", "k", "v"},
		{"/?k=1=2", "k", "1=2"}, {"/k=v", "k", ""}, {"/?kk=1&k=2&kkk=3", "k", "2"}, {"/?a%26k=1", "k", ""}, {"/?a b=1", "a b", "1"}, {"/?a+b=1", "a b", "1"},
	} {
		if got, _ := onlyQuery([]byte(c.path), c.key, nil); string(got) != c.want {
			t.Errorf("%s: %q, want %q", c.path, got, c.want)
		}
	}
}

func FuzzOnlyQuery(f *testing.F) {
	f.Add("/?a=b&key=%41+c&key2=x", "key")
	f.Fuzz(func(t *testing.T, path, key string) {
		scratch := []byte("something else")
		got, grown := onlyQuery([]byte(path), key, scratch)
		again, _ := onlyQuery([]byte(path), key, nil)
		if string(got) != string(again) || len(got) > len(path) || cap(grown) < len(got) {
			t.Errorf("%q, then %q", got, again)
		}
	})
}
