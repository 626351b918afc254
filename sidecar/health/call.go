package health

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// errSpent ends a gRPC client that wants to connect again: a check is one connection.
var errSpent = errors.New("connection closed by the endpoint")

// call asks gRPC's health service over conn, which is secured where it has to be.
func (a *attempt) call(ctx context.Context, conn net.Conn) (result string, ok bool) {
	var spent atomic.Bool
	client, err := grpc.NewClient("passthrough:///"+a.host(),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if spent.Swap(true) {
				return nil, errSpent
			}
			return conn, nil
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // conn has done its own handshake
		grpc.WithUserAgent("larboard-health"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(mostRead)),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry())
	if err != nil {
		return a.failure("request", err), false
	}
	defer client.Close()
	answer, err := healthpb.NewHealthClient(client).Check(ctx, &healthpb.HealthCheckRequest{Service: a.spec.Service})
	if err != nil {
		return a.callFailure(ctx, err), false
	}
	return "status " + answer.GetStatus().String(), answer.GetStatus() == healthpb.HealthCheckResponse_SERVING
}

// callFailure words what became of a call without an answer.
func (a *attempt) callFailure(ctx context.Context, err error) string {
	s := status.Convert(err)
	switch {
	case ctx.Err() != nil:
		return a.failure("answer", ctx.Err())
	case s.Code() == codes.NotFound:
		return "the server does not know the service " + strconv.Quote(a.spec.Service)
	case s.Code() == codes.Unimplemented:
		return "the server has no health service (grpc.health.v1): " + s.Message()
	}
	return "answer: " + s.Code().String() + ": " + s.Message()
}
