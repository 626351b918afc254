package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestCallsAreRepeated: a call that ends with a status that is named, and nothing before it,
// is made again elsewhere; one that has said something is not.
func TestCallsAreRepeated(t *testing.T) {
	var calls atomic.Int64
	var addresses []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			n := calls.Add(1)
			in := new(wrapperspb.StringValue)
			if err := stream.RecvMsg(in); err != nil {
				return err
			}
			method, _ := grpc.MethodFromServerStream(stream)
			if strings.HasSuffix(method, "/Late") || n%2 == 0 {
				if err := stream.SendMsg(in); err != nil {
					return err
				}
			}
			if strings.HasSuffix(method, "/Late") || n%2 == 1 {
				return status.Error(codes.Unavailable, "not now")
			}
			return nil
		}))
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		t.Cleanup(func() {
			s.Stop()
			<-served
		})
		addresses = append(addresses, l.Addr().String())
	}
	p := start(t, "proxy", fmt.Sprintf(`
listeners: [{name: web, address: 127.0.0.1:0, service: api}]
services:
- {name: api, endpoints: [%s], protocol: http2, retries: {grpc_statuses: unavailable}}
`, strings.Join(addresses, ", ")))
	conn, err := grpc.NewClient("passthrough:///"+p.address("web"), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out := new(wrapperspb.StringValue)
	if err := conn.Invoke(ctx, "/a.B/Soon", wrapperspb.String("text"), out); err != nil || out.Value != "text" || calls.Load() != 2 {
		t.Errorf("%v, %q, after %d calls", err, out.Value, calls.Load())
	}
	if err := conn.Invoke(ctx, "/a.B/Late", wrapperspb.String("text"), out); status.Code(err) != codes.Unavailable || calls.Load() != 3 {
		t.Errorf("%v, after %d calls", err, calls.Load())
	}
	if n := p.scrape().sum("larboard_retries_total", `cause="grpc_status"`, `result="made"`); n != 1 {
		t.Errorf("%v repeats counted", n)
	}
}

// TestSlowEndpointCostsOneTry: the time of an attempt moves requests on from an endpoint that
// answers too late, and its reason is told where no other is left.
func TestSlowEndpointCostsOneTry(t *testing.T) {
	release := make(chan struct{})
	slow := origin(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(func() { close(release) }) // before the origin ends
	quick := origin(t, named("quick"))
	p := start(t, "proxy", fmt.Sprintf(`
listeners:
- name: web
  address: 127.0.0.1:0
  routes:
  - {match: {path_prefix: /slow}, service: slow}
  - {service: both}
services:
- {name: both, endpoints: [%s, %s], retries: {per_try_timeout: 1s}}
- {name: slow, endpoints: [%s], retries: {per_try_timeout: 50ms}}
`, slow, quick, slow))
	for range 4 {
		if status, body, _ := get(t, "http://"+p.address("web")+"/"); status != http.StatusOK || body != "quick" {
			t.Errorf("%d %q", status, body)
		}
	}
	began := time.Now()
	status, _, header := get(t, "http://"+p.address("web")+"/slow")
	if reason := header.Get("X-Larboard-Reason"); status != http.StatusGatewayTimeout || reason != "try_timeout" {
		t.Errorf("%d %s", status, reason)
	}
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("three attempts took %v", took)
	}
	m := p.scrape()
	if made, spent := m.sum("larboard_retries_total", `service="slow"`, `cause="timeout"`, `result="made"`), m.sum("larboard_retries_total", `service="slow"`, `result="spent"`); made != 2 || spent != 1 {
		t.Errorf("%v made, %v spent", made, spent)
	}
	resp, err := http.Post("http://"+p.address("web")+"/slow", "text/plain", io.LimitReader(strings.NewReader("x"), 1))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if n := p.scrape().sum("larboard_retries_total", `result="unsafe"`); resp.StatusCode != http.StatusGatewayTimeout || n != 1 {
		t.Errorf("a POST: %d, %v left for safety", resp.StatusCode, n)
	}
}
