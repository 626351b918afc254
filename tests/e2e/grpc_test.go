package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// plainProxy is a proxy in front of endpoints, without TLS.
func plainProxy(t testing.TB, timeouts string, endpoints ...string) *larboard {
	t.Helper()
	return start(t, "proxy", fmt.Sprintf(`
access_log: {path: stdout, format: json}
listeners: [{name: web, address: 127.0.0.1:0, routes: [{match: {path_prefix: /test.Calls}, service: calls}]}]
services: [{name: calls, endpoints: [%s], timeouts: {%s}}]
`, strings.Join(endpoints, ", "), timeouts))
}

// Everything that gRPC has passes through one proxy, and through two with mutual TLS
// between them.
func TestGRPCPasses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		via  func(t *testing.T, endpoint string) (address string, p *larboard)
	}{
		{"one proxy", func(t *testing.T, endpoint string) (string, *larboard) {
			p := plainProxy(t, "", endpoint)
			return p.address("web"), p
		}},
		{"two sidecars", func(t *testing.T, endpoint string) (string, *larboard) {
			m := newStaticMesh(t, endpoint)
			return m.api, m.caller
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			called := newCallee(t, "a")
			address, p := c.via(t, called.address)
			calls := newGRPCCaller(t, address)
			everyKindOfCall(t, calls)
			if n := calls.dials.Load(); n != 1 {
				t.Errorf("the client connected %d times", n)
			}
			eventually(t, patience, "calls are counted by status", func() error {
				all := p.scrape()
				for name, want := range map[string]float64{"OK": 12, "NOT_FOUND": 1, "DATA_LOSS": 1, "CANCELLED": 1} {
					if n := all.sum("larboard_grpc_requests_total", `grpc_status="`+name+`"`); n != want {
						return fmt.Errorf("%s: %v, want %v", name, n, want)
					}
				}
				return nil
			})
		})
	}
}

// everyKindOfCall makes 12 that go well, and 3 that do not.
func everyKindOfCall(t *testing.T, calls *grpcCaller) {
	t.Helper()
	if text, err := calls.say(t.Context(), "echo hello"); err != nil || text != "hello from a" {
		t.Fatalf("unary: %q, %v", text, err)
	}
	long := strings.Repeat("x", 1<<20)
	if text, err := calls.say(t.Context(), "echo "+long); err != nil || text != long+" from a" {
		t.Errorf("1 MiB: %d bytes, %v", len(text), err)
	}
	var trailers metadata.MD
	for _, code := range []codes.Code{codes.NotFound, codes.DataLoss} {
		_, err := calls.say(t.Context(), fmt.Sprint("fail ", uint32(code)), grpc.Trailer(&trailers))
		if s := status.Convert(err); s.Code() != code || s.Message() != "100% wrong: Ü" {
			t.Errorf("a failure: %v", err)
		}
		if got := trailers.Get("y-bin"); len(got) != 1 || got[0] != "\x00\xff" {
			t.Errorf("trailers: %q", trailers)
		}
	}
	stream := calls.chat(t.Context())
	for i := range 1000 {
		if err := echoOn(stream, strconv.Itoa(i)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	stream.CloseSend()
	if err := stream.RecvMsg(&say{}); err != io.EOF {
		t.Errorf("end of the stream: %v", err)
	}
	// The callee ends a stream whose caller goes on.
	stream = calls.chat(t.Context())
	stream.SendMsg(&say{"end"})
	if err := stream.RecvMsg(&say{}); err != io.EOF {
		t.Errorf("end by the callee: %v", err)
	}
	var wg sync.WaitGroup
	for i := range 8 { // streams side by side
		wg.Go(func() {
			s := calls.chat(t.Context())
			for n := range 50 {
				if err := echoOn(s, strings.Repeat(strconv.Itoa(i), n*100)); err != nil {
					t.Errorf("stream %d, message %d: %v", i, n, err)
					return
				}
			}
			s.CloseSend()
			s.RecvMsg(&say{})
		})
	}
	wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	stream = calls.chat(ctx)
	if err := echoOn(stream, "before"); err != nil {
		t.Error(err)
	}
	cancel()
	mustFail(t, stream.RecvMsg(&say{}), codes.Canceled, "")
}

// A connection of one caller is no bond to one endpoint.
func TestGRPCIsBalancedByCall(t *testing.T) {
	t.Parallel()
	a, b := newCallee(t, "a"), newCallee(t, "b")
	m := newStaticMesh(t, a.address, b.address)
	calls := newGRPCCaller(t, m.api)
	for range 100 {
		if _, err := calls.say(t.Context(), "echo x"); err != nil {
			t.Fatal(err)
		}
	}
	if na, nb := a.asked.Load(), b.asked.Load(); na != 50 || nb != 50 || calls.dials.Load() != 1 {
		t.Errorf("%d and %d calls over %d connections", na, nb, calls.dials.Load())
	}
}

// What the proxy says itself are statuses of gRPC.
func TestGRPCOwnAnswers(t *testing.T) {
	t.Parallel()
	p := plainProxy(t, "", strconv.Quote(freeAddress(t)))
	calls := newGRPCCaller(t, p.address("web"))
	_, err := calls.say(t.Context(), "echo x")
	mustFail(t, err, codes.Unavailable, "connect_failed: no connection to the endpoint could be made")
	err = calls.conn.Invoke(t.Context(), "/other.Service/Method", &say{}, &say{})
	mustFail(t, err, codes.Unimplemented, "no_route: ")
	if calls.dials.Load() != 1 {
		t.Errorf("%d connections", calls.dials.Load())
	}
	eventually(t, patience, "the access log has the statuses", func() error {
		log := p.stdout.String()
		for _, part := range []string{`"status":200,"grpc_status":"UNAVAILABLE","reason":"connect_failed"`, `"grpc_status":"UNIMPLEMENTED","reason":"no_route"`} {
			if !strings.Contains(log, part) {
				return fmt.Errorf("no %s in\n%s", part, log)
			}
		}
		return nil
	})
}

// The workload's death behind a sidecar that lives moves calls on.
func TestGRPCMovesOnFromADeadWorkload(t *testing.T) {
	t.Parallel()
	a, b := newCallee(t, "a"), newCallee(t, "b")
	m := newStaticMesh(t, a.address, b.address)
	calls := newGRPCCaller(t, m.api)
	if _, err := calls.say(t.Context(), "echo x"); err != nil {
		t.Fatal(err)
	}
	a.server.Stop()
	for range 20 {
		if text, err := calls.say(t.Context(), "echo x"); err != nil || text != "x from b" {
			t.Errorf("%q, %v", text, err)
		}
	}
}

func TestGRPCDeadlines(t *testing.T) {
	t.Parallel()
	called := newCallee(t, "a")
	m := newStaticMesh(t, called.address)
	calls := newGRPCCaller(t, m.api)
	if text, err := calls.say(t.Context(), "deadline"); err != nil || text != "none" {
		t.Errorf("without a deadline: %q, %v", text, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	text, err := calls.say(ctx, "deadline")
	if left, bad := strconv.Atoi(text); err != nil || bad != nil || left > 60_000 || left < 30_000 {
		t.Errorf("of a minute the callee sees %q ms, %v", text, err)
	}
	// The proxy keeps the deadline itself, and the callee learns that nobody waits.
	short, cancelShort := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancelShort()
	_, err = calls.say(short, "hang")
	mustFail(t, err, codes.DeadlineExceeded, "")
	eventually(t, patience, "the callee is told", func() error {
		if n := called.cancelled.Load(); n != 1 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})

	p := plainProxy(t, "request: 300ms", called.address)
	calls = newGRPCCaller(t, p.address("web"))
	began := time.Now()
	_, err = calls.say(t.Context(), "hang")
	mustFail(t, err, codes.DeadlineExceeded, "request_deadline: ")
	if took := time.Since(began); took > claimed(time.Second) {
		t.Errorf("it took %v", took)
	}
	stream := calls.chat(t.Context())
	if err := echoOn(stream, "begun"); err != nil {
		t.Error(err)
	}
	mustFail(t, stream.RecvMsg(&say{}), codes.DeadlineExceeded, "request_deadline: ")
}

// A stream that has begun and loses its endpoint ends with a status.
func TestGRPCStreamLosesItsEndpoint(t *testing.T) {
	t.Parallel()
	called := newCallee(t, "a")
	p := plainProxy(t, "", called.address)
	stream := newGRPCCaller(t, p.address("web")).chat(t.Context())
	if err := echoOn(stream, "begun"); err != nil {
		t.Fatal(err)
	}
	called.server.Stop()
	mustFail(t, stream.RecvMsg(&say{}), codes.Unavailable, "upstream_")
}

// Silence is not what ends a stream, until it lasts as long as a tunnel's may.
func TestGRPCStreamMayBeSilent(t *testing.T) {
	t.Parallel()
	called := newCallee(t, "a")
	p := plainProxy(t, "response_head: 200ms, body: 200ms, tunnel: 2s", called.address)
	calls := newGRPCCaller(t, p.address("web"))
	stream := calls.chat(t.Context())
	for _, pause := range []string{"silence 700ms", "silence 700ms", "silence 1ms"} {
		if err := echoOn(stream, pause); err != nil {
			t.Fatalf("%s: %v", pause, err)
		}
	}
	for range 6 { // only one direction moves, for longer than both may rest
		time.Sleep(500 * time.Millisecond)
		if err := stream.SendMsg(&say{"note"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := echoOn(stream, "still here"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	mustFail(t, stream.RecvMsg(&say{}), codes.Unavailable, "tunnel_idle: ")
	if took := time.Since(began); took < 1900*time.Millisecond {
		t.Errorf("ended after %v", took)
	}
	eventually(t, patience, "the callee is told", func() error {
		if called.cancelled.Load() != 1 {
			return fmt.Errorf("%d", called.cancelled.Load())
		}
		return nil
	})
}

// Whoever is authentic and not allowed is told so in gRPC's terms.
func TestGRPCCallerNotAllowed(t *testing.T) {
	t.Parallel()
	called := newCallee(t, "a")
	m := newStaticMesh(t, called.address)
	peer := m.called[0]
	text, err := os.ReadFile(peer.file)
	if err != nil {
		t.Fatal(err)
	}
	peer.configure(strings.Replace(string(text), "listen: 127.0.0.1:0}", "listen: 127.0.0.1:0, allow: [/ns/default/dc/dc1/svc/other]}", 1))
	if status, body := peer.reload(); status != 200 {
		t.Fatalf("reload: %d %s", status, body)
	}
	_, err = newGRPCCaller(t, m.api).say(t.Context(), "echo x")
	mustFail(t, err, codes.PermissionDenied, "not_allowed: ")
	if called.asked.Load() != 0 {
		t.Error("the call reached the workload")
	}
}

// A stream outlives a reload. At the proxy's end it has until the deadline of the drain; then
// its connection is closed, which clients take for UNAVAILABLE.
func TestGRPCStreamUntilTheDrainIsOver(t *testing.T) {
	t.Parallel()
	called := newCallee(t, "a")
	p := plainProxy(t, "", called.address)
	text, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	stream := newGRPCCaller(t, p.address("web")).chat(t.Context())
	if err := echoOn(stream, "begun"); err != nil {
		t.Fatal(err)
	}
	p.configure(string(text) + "\ntimeouts: {drain: 1s}\n")
	if status, body := p.reload(); status != 200 {
		t.Fatalf("reload: %d %s", status, body)
	}
	if err := echoOn(stream, "after the reload"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p.signal(syscall.SIGTERM)
	if err := echoOn(stream, "during the drain"); err != nil {
		t.Error(err)
	}
	mustFail(t, stream.RecvMsg(&say{}), codes.Unavailable, "")
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("the stream was ended after %v", took)
	}
}
