package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// say is the one message of the test's gRPC service, which has no generated code.
type say struct{ Text string }

// jsonCodec is the form of the messages.
type jsonCodec struct{}

func (jsonCodec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }
func (jsonCodec) Name() string                       { return "json" }

// callee is a workload that serves gRPC. Unary calls say what they want:
//
//	echo TEXT    TEXT and the callee's name
//	fail CODE    that status, with a message that needs encoding, and a trailer
//	deadline     the milliseconds that the context has left, or none
//	hang         nothing, until the context ends
//
// A stream echoes each message, but those that begin with "note". Before the echo of
// "silence DURATION" it pauses, and it ends at "end".
type callee struct {
	name      string
	server    *grpc.Server
	address   string
	asked     atomic.Int32
	cancelled atomic.Int64 // calls whose context ended under them
}

func newCallee(t testing.TB, name string) *callee {
	t.Helper()
	c := &callee{name: name, server: grpc.NewServer(grpc.ForceServerCodec(jsonCodec{}))}
	c.server.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Calls", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Say", Handler: c.unary}},
		Streams: []grpc.StreamDesc{{StreamName: "Chat", Handler: c.chat, ServerStreams: true, ClientStreams: true}},
	}, c)
	c.address = serveGRPC(t, c.server)
	return c
}

func (c *callee) unary(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	c.asked.Add(1)
	var q say
	if err := decode(&q); err != nil {
		return nil, err
	}
	verb, rest, _ := strings.Cut(q.Text, " ")
	switch verb {
	case "echo":
		return &say{rest + " from " + c.name}, nil
	case "fail":
		var code uint32
		fmt.Sscan(rest, &code)
		grpc.SetTrailer(ctx, metadata.Pairs("x-detail", "d", "y-bin", "\x00\xff"))
		return nil, status.Error(codes.Code(code), "100% wrong: Ü")
	case "deadline":
		if at, ok := ctx.Deadline(); ok {
			return &say{fmt.Sprint(time.Until(at).Milliseconds())}, nil
		}
		return &say{"none"}, nil
	case "hang":
		<-ctx.Done()
		c.cancelled.Add(1)
		return nil, ctx.Err()
	}
	return nil, status.Error(codes.InvalidArgument, q.Text)
}

func (c *callee) chat(_ any, stream grpc.ServerStream) error {
	for {
		var q say
		if err := stream.RecvMsg(&q); err == io.EOF || q.Text == "end" {
			return nil
		} else if err != nil {
			c.cancelled.Add(1)
			return err
		}
		if strings.HasPrefix(q.Text, "note") {
			continue
		}
		if text, pause := strings.CutPrefix(q.Text, "silence "); pause {
			d, err := time.ParseDuration(text)
			if err != nil {
				return status.Error(codes.InvalidArgument, text)
			}
			select {
			case <-time.After(d):
			case <-stream.Context().Done():
				c.cancelled.Add(1)
				return stream.Context().Err()
			}
		}
		if err := stream.SendMsg(&q); err != nil {
			return err
		}
	}
}

// grpcCaller is a gRPC client with one connection to a listener.
type grpcCaller struct {
	t     testing.TB
	conn  *grpc.ClientConn
	dials atomic.Int32
}

func newGRPCCaller(t testing.TB, address string) *grpcCaller {
	t.Helper()
	c := &grpcCaller{t: t}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(jsonCodec{})),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			c.dials.Add(1)
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c.conn = conn
	return c
}

// say makes a unary call.
func (c *grpcCaller) say(ctx context.Context, text string, options ...grpc.CallOption) (string, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		options = append(options, grpc.WaitForReady(false))
	}
	var a say
	err := c.conn.Invoke(ctx, "/test.Calls/Say", &say{text}, &a, options...)
	return a.Text, err
}

// chat opens a stream.
func (c *grpcCaller) chat(ctx context.Context) grpc.ClientStream {
	c.t.Helper()
	s, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Calls/Chat")
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// echoOn sends one message and insists on its echo.
func echoOn(s grpc.ClientStream, text string) error {
	if err := s.SendMsg(&say{text}); err != nil && err != io.EOF {
		return err
	}
	var a say
	if err := s.RecvMsg(&a); err != nil {
		return err
	}
	if a.Text != text {
		return fmt.Errorf("%q came back as %q", text, a.Text)
	}
	return nil
}

// mustFail asserts an error's status and a part of its message.
func mustFail(t testing.TB, err error, code codes.Code, part string) {
	t.Helper()
	if s := status.Convert(err); err == nil || s.Code() != code || !strings.Contains(s.Message(), part) {
		t.Errorf("got %v, want %v with %q", err, code, part)
	}
}
