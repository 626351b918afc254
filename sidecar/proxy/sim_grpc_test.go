package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/grpc"
	"github.com/larboard-proxy/larboard/policy/route"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Calls are played over HTTP/1.1 here, which the exchange does not tell from HTTP/2.

// callHead is the head of a call with these further fields, and callBody one message.
func callHead(fields string) string {
	return "POST /shop.v1.Stock/Count HTTP/1.1\r\nHost: api\r\nContent-Type: application/grpc+proto\r\nTE: trailers\r\n" +
		fields + "Transfer-Encoding: chunked\r\n\r\n"
}

const (
	oneMessage  = "6\r\n\x00\x00\x00\x00\x01x\r\n"
	callEnd     = "0\r\n\r\n"
	answerHead  = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n"
	wholeAnswer = answerHead + oneMessage + "0\r\nGrpc-Status: 0\r\n\r\n"
)

func call1(fields string) string { return callHead(fields) + oneMessage + callEnd }

// record waits for that of the n-th exchange.
func (s *stage) record(n int) observability.Record {
	s.t.Helper()
	s.reason(n)
	if len(s.records.all) < n {
		s.t.Fatalf("%d records", len(s.records.all))
	}
	return s.records.all[n-1]
}

// The proxy's own answers to calls say everything in their head.
func TestSimOwnAnswersToCalls(t *testing.T) {
	noRoute := func(c *ListenerConfig, _ *upstream.Settings) { c.Table = route.Compile([]route.Rule{{Path: "/x"}}) }
	for _, c := range []struct {
		name      string
		request   string
		change    func(*ListenerConfig, *upstream.Settings)
		endpoints []string
		reason    policy.Reason
		status    policy.GRPCStatus
	}{
		{"no endpoints", call1(""), nil, nil, policy.NoEndpoints, policy.GRPCUnavailable},
		{"nobody listens", call1(""), nil, []string{originAddr}, policy.ConnectFailed, policy.GRPCUnavailable},
		{"no route", call1(""), noRoute, nil, policy.NoRoute, policy.GRPCUnimplemented},
		{"expired", call1("grpc-timeout: 0n\r\n"), nil, nil, policy.RequestDeadline, policy.GRPCDeadlineExceeded},
		{"malformed timeout", call1("grpc-timeout: 1s\r\n"), nil, nil, policy.BadRequest, policy.GRPCInvalidArgument},
		{"long timeout", call1("grpc-timeout: 100000000n\r\n"), nil, nil, policy.BadRequest, policy.GRPCInvalidArgument},
		{"empty timeout", call1("grpc-timeout:\r\n"), nil, nil, policy.BadRequest, policy.GRPCInvalidArgument},
		{"two timeouts", call1("grpc-timeout: 1S\r\ngrpc-timeout: 1S\r\n"), nil, nil, policy.BadRequest, policy.GRPCInvalidArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, calm(), HTTP, c.change, c.endpoints...)
			p := s.dial(c.request)
			a := s.answered(p, 1, time.Second)[0]
			want := map[string]string{"Content-Type": "application/grpc", "Grpc-Status": fmt.Sprint(c.status.Code()),
				"Grpc-Message": c.reason.String() + ": " + c.reason.Info().Sentence, "X-Larboard-Reason": c.reason.String()}
			for name, value := range want {
				if got := a.header.Get(name); got != value {
					t.Errorf("%s: %q, want %q", name, got, value)
				}
			}
			if a.status != 200 || a.body != "" {
				t.Errorf("%+v", a)
			}
			if r := s.record(1); r.GRPC != c.status || r.Reason != c.reason || r.Status != 200 {
				t.Errorf("recorded %v, %v, %d", r.GRPC, r.Reason, r.Status)
			}
			p.Close()
		})
	}
}

// What is no call is answered as ever.
func TestSimWhatIsNoCall(t *testing.T) {
	for _, request := range []string{
		strings.Replace(call1(""), "grpc+proto", "grpc-web+proto", 1),
		strings.Replace(call1(""), "POST", "PUT", 1),
		strings.Replace(call1("grpc-timeout: nonsense\r\n"), "grpc+proto", "json", 1),
	} {
		s := newStage(t, calm(), HTTP, nil)
		p := s.dial(request)
		if a := s.answered(p, 1, time.Second)[0]; a.status != 503 || a.header.Get("Grpc-Status") != "" {
			t.Errorf("%+v", a)
		}
		if r := s.record(1); r.GRPC != policy.GRPCNone {
			t.Errorf("recorded %v", r.GRPC)
		}
		p.Close()
	}
}

// A caller's deadline ends its call, unless timeouts.request does sooner.
func TestSimCallDeadline(t *testing.T) {
	for _, c := range []struct {
		name    string
		timeout string
		request time.Duration
		begun   bool // the answer has, when the time is over
		after   time.Duration
	}{
		{"the caller's", "grpc-timeout: 2S\r\n", 0, false, 2 * time.Second},
		{"the caller's is smaller", "grpc-timeout: 2000m\r\n", 3 * time.Second, false, 2 * time.Second},
		{"ours is smaller", "grpc-timeout: 3S\r\n", 2 * time.Second, false, 2 * time.Second},
		{"ours alone", "", 2 * time.Second, false, 2 * time.Second},
		{"longer than ever", "grpc-timeout: 99999999H\r\n", 2 * time.Second, false, 2 * time.Second},
		{"in the answer", "grpc-timeout: 2S\r\n", 0, true, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, calm(), HTTP, timeouts(upstream.Timeouts{Connect: time.Second, Request: c.request, Tunnel: time.Minute}), originAddr)
			s.origin(originAddr, func(p *sim.Peer, _ request) {
				if c.begun {
					p.Send(answerHead + oneMessage)
				}
			})
			began := s.w.Now()
			p := s.dial(call1(c.timeout))
			s.answered(p, 1, time.Minute)
			s.after("the answer", began, c.after)
			if !strings.Contains(p.Got(), "Grpc-Status: 4\r\n") || !strings.Contains(p.Got(), "x-larboard-reason: request_deadline") {
				t.Errorf("%q", p.Got())
			}
			if r := s.record(1); r.GRPC != policy.GRPCDeadlineExceeded || r.Reason != policy.RequestDeadline {
				t.Errorf("recorded %v, %v", r.GRPC, r.Reason)
			}
			p.Close()
		})
	}
}

// The endpoint is told what is left of the caller's time.
func TestSimCallDeadlineIsPassedOn(t *testing.T) {
	for _, c := range []struct {
		name    string
		timeout string
		request time.Duration
		spent   time.Duration // before the head is complete
		want    time.Duration // 0: nothing is said
	}{
		{"at once", "grpc-timeout: 2S\r\n", 0, 0, 2 * time.Second},
		{"some is spent", "grpc-timeout: 2S\r\n", 0, 500 * time.Millisecond, 1500 * time.Millisecond},
		{"ours is smaller", "grpc-timeout: 3S\r\n", time.Second, 0, time.Second},
		{"nothing is said", "", time.Second, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, calm(), HTTP, timeouts(upstream.Timeouts{Connect: time.Second, Request: c.request, Tunnel: time.Minute}), originAddr)
			var got []string
			s.origin(originAddr, func(p *sim.Peer, q request) {
				got = append(got, strings.Join(q.header.Values("Grpc-Timeout"), "|"))
				p.Send(wholeAnswer)
			})
			text := call1(c.timeout)
			p := s.dial(text[:20])
			s.w.RunFor(time.Millisecond)
			s.w.After(c.spent, func() { p.Send(text[20:]) })
			s.answered(p, 1, time.Minute)
			if len(got) != 1 {
				t.Fatalf("%d requests", len(got))
			}
			if c.want == 0 && got[0] != "" {
				t.Errorf("the endpoint was told %q", got[0])
			}
			if d, ok := grpc.ParseTimeout([]byte(got[0])); c.want != 0 && (!ok || d > c.want || d < c.want-slack) {
				t.Errorf("the endpoint was told %q, want %v", got[0], c.want)
			}
			p.Close()
		})
	}
}

// How a call ended is read from where it stands.
func TestSimCallStatusIsRecorded(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		want         policy.GRPCStatus
	}{
		{"trailers", wholeAnswer, policy.GRPCOK},
		{"an error in trailers", answerHead + "0\r\nGrpc-Status: 5\r\nGrpc-Message: none\r\n\r\n", policy.GRPCNotFound},
		{"head alone", "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: 16\r\nContent-Length: 0\r\n\r\n", policy.GRPCUnauthenticated},
		{"a number of the future", answerHead + "0\r\nGrpc-Status: 99\r\n\r\n", policy.GRPCUnknown},
		{"no status", answerHead + oneMessage + "0\r\n\r\n", policy.GRPCUnknown},
		{"no gRPC at all", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nlate", policy.GRPCUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, calm(), HTTP, nil, originAddr)
			s.origin(originAddr, func(p *sim.Peer, _ request) { p.Send(c.answer) })
			p := s.dial(call1(""))
			s.answered(p, 1, time.Second)
			if r := s.record(1); r.GRPC != c.want || r.Reason != policy.None {
				t.Errorf("recorded %v, %v", r.GRPC, r.Reason)
			}
			p.Close()
		})
	}
}

// An answer that breaks off is ended by trailers that say so, where its form has any.
func TestSimBrokenAnswerToCall(t *testing.T) {
	s := newStage(t, calm(), HTTP, nil, originAddr)
	s.origin(originAddr, func(p *sim.Peer, _ request) {
		p.Send(answerHead + oneMessage)
		s.w.After(10*time.Millisecond, p.Reset)
	})
	p := s.dial(call1(""))
	s.answered(p, 1, time.Second)
	const end = oneMessage + "0\r\nGrpc-Status: 14\r\nGrpc-Message: upstream_truncated: "
	if !strings.Contains(p.Got(), end) {
		t.Errorf("%q", p.Got())
	}
	if r := s.record(1); r.GRPC != policy.GRPCUnavailable || r.Side != policy.Upstream || r.Status != 200 {
		t.Errorf("recorded %v, %v, %d", r.GRPC, r.Side, r.Status)
	}
	p.Close()

	s = newStage(t, calm(), HTTP, nil, originAddr)
	s.origin(originAddr, func(p *sim.Peer, _ request) {
		p.Send("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 100\r\n\r\nhalf")
		s.w.After(10*time.Millisecond, p.Reset)
	})
	p = s.dial(call1(""))
	s.until(time.Second, "the end", p.Over)
	if len(answers(p)) != 0 {
		t.Errorf("a broken answer looks whole: %q", p.Got())
	}
	p.Close()
}

// callTimeouts are short for everything but silence of a tunnel.
func callTimeouts(c *ListenerConfig, s *upstream.Settings) {
	c.Timeouts.Body = time.Second
	s.Timeouts = upstream.Timeouts{Connect: time.Second, ResponseHead: time.Second, Body: time.Second, Tunnel: 10 * time.Second, Idle: 30 * time.Second}
}

// A call may be silent for as long as a tunnel may: before the head of its answer, in its
// request, in its answer; what moves in one direction keeps the other alive.
func TestSimCallMayBeSilent(t *testing.T) {
	for _, c := range []struct {
		name             string
		client, endpoint []int // when each sends a message, in seconds
		end              time.Duration
		reason           policy.Reason
	}{
		{"late head", nil, []int{9}, 19 * time.Second, policy.TunnelIdle},
		{"pauses in the answer", nil, []int{1, 10, 19}, 29 * time.Second, policy.TunnelIdle},
		{"the client streams, the endpoint is silent", []int{9, 18, 27}, []int{1}, 37 * time.Second, policy.TunnelIdle},
		{"the endpoint streams, the client is silent", []int{1}, []int{9, 18, 27}, 37 * time.Second, policy.TunnelIdle},
		{"both are silent", []int{1}, nil, 11 * time.Second, policy.TunnelIdle},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, calm(), HTTP, callTimeouts, originAddr)
			var up *sim.Peer
			s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
				up = p
				if p.Over() {
					p.Close()
				}
			})
			began := s.w.Now()
			text := callHead("") + oneMessage
			if c.client == nil {
				text += callEnd
			}
			p := s.dial(text)
			for _, at := range c.client {
				s.w.After(time.Duration(at)*time.Second, func() { p.Send(oneMessage) })
			}
			for i, at := range c.endpoint {
				s.w.After(time.Duration(at)*time.Second, func() {
					if i == 0 {
						up.Send(answerHead)
					}
					up.Send(oneMessage)
				})
			}
			r := s.record(1)
			s.after("the end", began, c.end)
			if r.Reason != c.reason || r.GRPC != policy.GRPCUnavailable {
				t.Errorf("recorded %v, %v: %v", r.Reason, r.GRPC, r.Err)
			}
			s.w.RunFor(time.Millisecond)
			if got := p.Got(); !strings.Contains(got, "Grpc-Status: 14\r\n") || strings.Count(got, oneMessage) != len(c.endpoint) {
				t.Errorf("%q", got)
			}
			p.Close()
		})
	}
}
