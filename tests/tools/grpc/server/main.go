// Command server is grpc-go's interop server for tests on one machine: it listens on
// loopback only, where the one that grpc-go ships binds every address, at a port that
// it prints. Beside the interop service it has reflection and health, which tools ask
// for. It must not know who calls it.
package main

import (
	"context"
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"
	"google.golang.org/grpc/reflection"
)

// server fills in who it is, which interop's own leaves out: the client's case
// pick_first_unary asks for it.
type server struct {
	testpb.TestServiceServer
	id string
}

func (s server) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	out, err := s.TestServiceServer.UnaryCall(ctx, in)
	if err == nil && in.GetFillServerId() {
		out.ServerId = s.id
	}
	return out, err
}

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	metrics := orca.NewServerMetricsRecorder()
	s := grpc.NewServer(orca.CallMetricsServerOption(nil))
	testpb.RegisterTestServiceServer(s, server{interop.NewTestServer(interop.NewTestServerOptions{MetricsRecorder: metrics}), l.Addr().String()})
	registerLoad(s, metrics)
	healthpb.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	fmt.Println(l.Addr())
	log.Fatal(s.Serve(l))
}
