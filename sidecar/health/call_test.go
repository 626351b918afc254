package health

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// grpcServer is a real one whose health service knows three services; the empty name is
// the server as a whole.
func grpcServer(t *testing.T, network, address string, register bool, options ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	if register {
		service := health.NewServer()
		service.SetServingStatus("stock", healthpb.HealthCheckResponse_SERVING)
		service.SetServingStatus("orders", healthpb.HealthCheckResponse_NOT_SERVING)
		healthpb.RegisterHealthServer(server, service)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return l.Addr().String()
}

func TestGRPCVerdicts(t *testing.T) {
	address := grpcServer(t, "tcp", "127.0.0.1:0", true)
	bare := grpcServer(t, "tcp", "127.0.0.1:0", false)
	socket := grpcServer(t, "unix", filepath.Join(t.TempDir(), "s"), true)
	web := httptest.NewServer(http.HandlerFunc(handler))
	defer web.Close()
	closing := serve(t, "tcp", "127.0.0.1:0", func(net.Conn) {})
	silent := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) { io.Copy(io.Discard, c) })
	for _, c := range []struct {
		name, address string
		spec          Spec
		result        string
		ok            bool
	}{
		{"server", address, Spec{}, "status SERVING", true},
		{"service", address, Spec{Service: "stock"}, "status SERVING", true},
		{"service that is down", address, Spec{Service: "orders"}, "status NOT_SERVING", false},
		{"service that is unknown", address, Spec{Service: "nobody"}, `the server does not know the service "nobody"`, false},
		{"unix socket", "unix://" + socket, Spec{}, "status SERVING", true},
		{"no health service", bare, Spec{}, "the server has no health service (grpc.health.v1): unknown service", false},
		{"HTTP/1 server", web.Listener.Addr().String(), Spec{}, "answer: ", false},
		{"closed at once", closing, Spec{}, "answer: ", false},
		{"silence", silent, Spec{Interval: 100 * time.Millisecond}, "answer: no answer within 100ms", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spec.Kind = GRPC
			result, ok := once(c.address, c.spec, nil)
			if ok != c.ok || !strings.HasPrefix(result, c.result) {
				t.Errorf("got %q, %v", result, ok)
			}
		})
	}
}

func TestGRPCVerdictsOverTLS(t *testing.T) {
	web := httptest.NewTLSServer(http.HandlerFunc(handler)) // for its certificate, and as one that has no HTTP/2
	defer web.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(web.Certificate())
	own := credentials.NewTLS(&tls.Config{Certificates: web.TLS.Certificates})
	address := grpcServer(t, "tcp", "127.0.0.1:0", true, grpc.Creds(own))
	mutual := tls.Config{Certificates: web.TLS.Certificates, ClientAuth: tls.RequireAnyClientCert}
	demanding := grpcServer(t, "tcp", "127.0.0.1:0", true, grpc.Creds(credentials.NewTLS(&mutual)))
	plain := grpcServer(t, "tcp", "127.0.0.1:0", true)
	silentALPN := tls.Config{Certificates: web.TLS.Certificates}
	none := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) { tls.Server(c, &silentALPN).Handshake() })
	for _, c := range []struct {
		name, address string
		config        *tls.Config
		result        string
		ok            bool
	}{
		{"good", address, &tls.Config{RootCAs: trusted, ServerName: "example.com"}, "status SERVING", true},
		{"mutual", demanding, &tls.Config{RootCAs: trusted, ServerName: "example.com", Certificates: web.TLS.Certificates}, "status SERVING", true},
		{"our certificate is missing", demanding, &tls.Config{RootCAs: trusted, ServerName: "example.com"}, "answer: ", false},
		{"stranger", address, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "example.com"}, "tls: ", false},
		{"plain endpoint", plain, &tls.Config{RootCAs: trusted, ServerName: "example.com"}, "tls: ", false},
		{"no HTTP/2", none, &tls.Config{RootCAs: trusted, ServerName: "example.com"}, "tls: the endpoint does not offer HTTP/2", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			result, ok := once(c.address, Spec{Kind: GRPC}, c.config)
			if ok != c.ok || !strings.HasPrefix(result, c.result) {
				t.Errorf("got %q, %v", result, ok)
			}
		})
	}
}
