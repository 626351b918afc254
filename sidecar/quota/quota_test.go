package quota

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"crypto/tls"
	"crypto/x509"

	"github.com/larboard-proxy/larboard/sidecar/proxy"
	"github.com/larboard-proxy/larboard/tests/pki"
)

// service is a rate limit service of the protocol's own generated code.
type service struct {
	ratelimitv3.UnimplementedRateLimitServiceServer
	answer func(context.Context, *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error)
	asked  atomic.Int64
}

func (s *service) ShouldRateLimit(ctx context.Context, q *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
	s.asked.Add(1)
	return s.answer(ctx, q)
}

// serve returns the address of a server on l; it ends with the test.
func (s *service) serve(t *testing.T, network, address string, options ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	ratelimitv3.RegisterRateLimitServiceServer(server, s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	if network == "unix" {
		return "unix://" + address
	}
	return l.Addr().String()
}

func client(t *testing.T, o Options) *Client {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Calls == 0 {
		o.Calls = 10
	}
	if o.Nanos == nil {
		o.Nanos = func() int64 { return 0 }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

var question = &proxy.Question{Domain: "shop", Hits: 3, Descriptors: []proxy.Descriptor{
	{{Key: "path", Value: "/a"}},
	{{Key: "tenant", Value: "blue"}, {Key: "method", Value: "GET"}},
}}

// What is asked arrives as it was meant, and every word of the answer is understood.
func TestAsk(t *testing.T) {
	var got *ratelimitv3.RateLimitRequest
	s := &service{answer: func(_ context.Context, q *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
		got = proto.CloneOf(q)
		return &ratelimitv3.RateLimitResponse{
			OverallCode: ratelimitv3.RateLimitResponse_OK,
			Statuses: []*ratelimitv3.RateLimitResponse_DescriptorStatus{
				{Code: ratelimitv3.RateLimitResponse_OK, LimitRemaining: 7, DurationUntilReset: durationpb.New(90*time.Second + 5*time.Millisecond),
					CurrentLimit: &ratelimitv3.RateLimitResponse_RateLimit{Name: "a", RequestsPerUnit: 100, Unit: ratelimitv3.RateLimitResponse_RateLimit_MINUTE}},
				{Code: ratelimitv3.RateLimitResponse_OK, LimitRemaining: 5, DurationUntilReset: durationpb.New(time.Second),
					CurrentLimit: &ratelimitv3.RateLimitResponse_RateLimit{RequestsPerUnit: 10}},
				{Code: ratelimitv3.RateLimitResponse_OK}, // without a limit
			},
			ResponseHeadersToAdd: []*corev3.HeaderValue{{Key: "x-tier", Value: "blue"}, {Key: "x-raw", RawValue: []byte("raw")}, {Key: ":status", Value: "200"}},
			RequestHeadersToAdd:  []*corev3.HeaderValue{{Key: "x-to", Value: "origin"}, {Key: "Host", Value: "elsewhere"}},
			RawBody:              []byte("a body"),
		}, nil
	}}
	pki := struct{ socket string }{filepath.Join(t.TempDir(), "s")}
	for _, address := range []string{s.serve(t, "tcp", "127.0.0.1:0"), s.serve(t, "unix", pki.socket)} {
		c := client(t, Options{Address: address})
		a, err := c.Ask(t.Context(), question)
		if err != nil {
			t.Fatal(err)
		}
		if got.Domain != "shop" || got.HitsAddend != 3 || len(got.Descriptors) != 2 || len(got.Descriptors[1].Entries) != 2 ||
			got.Descriptors[0].Entries[0].Key != "path" || got.Descriptors[1].Entries[0].Value != "blue" || got.Descriptors[1].Entries[1].Key != "method" {
			t.Errorf("asked %v", got)
		}
		if a.OverLimit || a.Limit != 10 || a.Remaining != 5 || a.Reset != time.Second {
			t.Errorf("%+v", a)
		}
		if !slices.Equal(a.ToClient, []proxy.Pair{{Key: "x-tier", Value: "blue"}, {Key: "x-raw", Value: "raw"}}) || !slices.Equal(a.ToUpstream, []proxy.Pair{{Key: "x-to", Value: "origin"}}) {
			t.Errorf("headers %v, %v", a.ToClient, a.ToUpstream)
		}
	}
}

func over(statuses ...*ratelimitv3.RateLimitResponse_DescriptorStatus) *ratelimitv3.RateLimitResponse {
	return &ratelimitv3.RateLimitResponse{OverallCode: ratelimitv3.RateLimitResponse_OVER_LIMIT, Statuses: statuses}
}

func overFor(d time.Duration, limit uint32) *ratelimitv3.RateLimitResponse_DescriptorStatus {
	return &ratelimitv3.RateLimitResponse_DescriptorStatus{Code: ratelimitv3.RateLimitResponse_OVER_LIMIT, DurationUntilReset: durationpb.New(d),
		CurrentLimit: &ratelimitv3.RateLimitResponse_RateLimit{RequestsPerUnit: limit}}
}

// What is over its limit is not asked about again until that is over, and no longer than may be.
func TestOverLimitIsRemembered(t *testing.T) {
	fine := &ratelimitv3.RateLimitResponse_DescriptorStatus{Code: ratelimitv3.RateLimitResponse_OK}
	var answer *ratelimitv3.RateLimitResponse
	s := &service{answer: func(context.Context, *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
		return answer, nil
	}}
	address := s.serve(t, "tcp", "127.0.0.1:0")
	other := &proxy.Question{Domain: "shop", Descriptors: []proxy.Descriptor{{{Key: "path", Value: "/b"}}, question.Descriptors[1]}}
	first := &proxy.Question{Domain: "shop", Descriptors: question.Descriptors[:1]}
	elsewhere := &proxy.Question{Domain: "garden", Descriptors: question.Descriptors}
	for _, c := range []struct {
		name     string
		answer   *ratelimitv3.RateLimitResponse
		remember time.Duration
		for_     time.Duration // that it is known of question
		limit    int
	}{
		{"until its time", over(fine, overFor(3*time.Second, 10)), 10 * time.Second, 3 * time.Second, 10},
		{"no longer than may be", over(fine, overFor(time.Hour, 10)), 10 * time.Second, 10 * time.Second, 10},
		{"the longest", over(overFor(time.Second, 5), overFor(2*time.Second, 10)), 10 * time.Second, 2 * time.Second, 10},
		{"not at all", over(fine, overFor(time.Hour, 10)), 0, 0, 0},
		{"without a time", over(fine, overFor(0, 10)), 10 * time.Second, 0, 0},
		{"without statuses", over(), 10 * time.Second, 0, 0},
		{"nothing is over", &ratelimitv3.RateLimitResponse{OverallCode: ratelimitv3.RateLimitResponse_OK, Statuses: []*ratelimitv3.RateLimitResponse_DescriptorStatus{fine, fine}}, 10 * time.Second, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := int64(1000)
			q := client(t, Options{Address: address, Remember: c.remember, Nanos: func() int64 { return now }})
			answer = c.answer
			if a, known := q.Known(question); known {
				t.Errorf("known before it was asked: %+v", a)
			}
			if _, err := q.Ask(t.Context(), question); err != nil {
				t.Fatal(err)
			}
			if c.for_ == 0 {
				if a, known := q.Known(question); known {
					t.Errorf("%+v is known", a)
				}
				return
			}
			if a, known := q.Known(question); !known || !a.OverLimit || a.Reset != c.for_ || a.Limit != c.limit {
				t.Errorf("known %v: %+v", known, a)
			}
			if _, known := q.Known(other); !known {
				t.Error("the same descriptor beside another is not known")
			}
			if _, known := q.Known(first); known != (c.name == "the longest") {
				t.Errorf("the first descriptor alone is known: %v", known)
			}
			if _, known := q.Known(elsewhere); known {
				t.Error("known in another domain")
			}
			now += int64(c.for_)
			if a, known := q.Known(question); known {
				t.Errorf("known after its time: %+v", a)
			}
		})
	}
}

// The table of what is over its limit has a bound.
func TestRememberedIsBounded(t *testing.T) {
	var r remembered
	r.init(time.Hour)
	for i := range 3 * maxRemembered {
		q := &proxy.Question{Domain: "d", Descriptors: []proxy.Descriptor{{{Key: "k", Value: fmt.Sprint(i)}}}}
		r.note(q, &response{code: codeOverLimit, statuses: []descriptorStatus{{code: codeOverLimit, reset: time.Minute}}}, int64(i))
		if a, known := r.find(q, int64(i)); !known || a.Reset != time.Minute {
			t.Fatalf("%d: %+v, %v", i, a, known)
		}
		if len(r.over) > maxRemembered {
			t.Fatalf("%d are kept", len(r.over))
		}
	}
}

// Each way not to answer is an error, told in the log once until there is an answer again.
func TestNoAnswer(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	var mode atomic.Value
	mode.Store("fine")
	s := &service{answer: func(ctx context.Context, _ *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
		switch mode.Load() {
		case "refuses":
			return nil, status.Error(codes.ResourceExhausted, "too busy")
		case "hangs":
			select {
			case <-ctx.Done():
			case <-hang:
			}
		case "unknown":
			return &ratelimitv3.RateLimitResponse{}, nil
		case "large":
			return &ratelimitv3.RateLimitResponse{OverallCode: ratelimitv3.RateLimitResponse_OK, RawBody: make([]byte, 2*maxAnswer)}, nil
		}
		return &ratelimitv3.RateLimitResponse{OverallCode: ratelimitv3.RateLimitResponse_OK}, nil
	}}
	var log strings.Builder
	c := client(t, Options{Address: s.serve(t, "tcp", "127.0.0.1:0"), Timeout: 500 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(&log, nil))})
	ask := func() error {
		_, err := c.Ask(context.Background(), question)
		return err
	}
	fine := func() { // the machine may be slow, too
		t.Helper()
		mode.Store("fine")
		for end := time.Now().Add(30 * time.Second); ; {
			if err := ask(); err == nil {
				return
			} else if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
	fine()
	for _, m := range []struct{ mode, want string }{{"refuses", "too busy"}, {"unknown", "neither OK nor OVER_LIMIT"}, {"large", "larger than max"}, {"hangs", "no answer in time"}} {
		log.Reset()
		mode.Store(m.mode)
		for range 3 {
			err := ask()
			if err == nil || !strings.Contains(err.Error(), m.want) && !errors.Is(err, proxy.ErrQuotaTime) {
				t.Errorf("%s: %v", m.mode, err)
			}
			if m.mode == "hangs" && !errors.Is(err, proxy.ErrQuotaTime) {
				t.Errorf("%v is no matter of time", err)
			}
		}
		fine()
		if told := log.String(); strings.Count(told, "does not answer") != 1 || strings.Count(told, "answers again") != 1 {
			t.Errorf("%s: the log says\n%s", m.mode, told)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	log.Reset()
	if _, err := c.Ask(ctx, question); err == nil || errors.Is(err, proxy.ErrQuotaTime) || log.String() != "" {
		t.Errorf("a question that nobody waits for: %v, logged %q", err, log.String())
	}
}

// One connection serves all questions, and another one those after its end.
func TestServiceThatComesBack(t *testing.T) {
	answer := func(context.Context, *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
		return &ratelimitv3.RateLimitResponse{OverallCode: ratelimitv3.RateLimitResponse_OK}, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, Options{Address: l.Addr().String(), Timeout: 5 * time.Second})
	serve := func(l net.Listener) *grpc.Server {
		server := grpc.NewServer()
		ratelimitv3.RegisterRateLimitServiceServer(server, &service{answer: answer})
		go server.Serve(l)
		return server
	}
	accepts := &counted{Listener: l}
	server := serve(accepts)
	for range 50 {
		if _, err := c.Ask(context.Background(), question); err != nil {
			t.Fatal(err)
		}
	}
	if n := accepts.n.Load(); n != 1 {
		t.Errorf("%d connections for 50 questions", n)
	}
	server.Stop()
	if _, err := c.Ask(context.Background(), question); err == nil {
		t.Error("an answer without a service")
	}
	if l, err = net.Listen("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	server = serve(l)
	defer server.Stop()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, err := c.Ask(context.Background(), question)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the service is back, and yet: %v", err)
		}
	}
}

type counted struct {
	net.Listener
	n atomic.Int64
}

func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

func TestTLS(t *testing.T) {
	s := &service{answer: func(context.Context, *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
		return &ratelimitv3.RateLimitResponse{OverallCode: ratelimitv3.RateLimitResponse_OK}, nil
	}}
	certificate := pki.SelfSigned(t, "localhost")
	address := s.serve(t, "tcp", "127.0.0.1:0", grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))
	roots := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(leaf)
	c := client(t, Options{Address: address, TLS: &tls.Config{RootCAs: roots, ServerName: "localhost"}})
	if _, err := c.Ask(t.Context(), question); err != nil {
		t.Error(err)
	}
	for name, o := range map[string]Options{"unknown authority": {TLS: &tls.Config{ServerName: "localhost"}}, "plain text": {}} {
		o.Address = address
		if _, err := client(t, o).Ask(t.Context(), question); err == nil {
			t.Errorf("%s: an answer", name)
		}
	}
}
