package demo

import (
	"context"
	"encoding/json"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// stock speaks gRPC. Its service is written down by hand, and its messages are JSON in
// place of protocol buffers, so that the demo needs nothing that is generated.

const (
	stockService = "shop.v1.Stock"
	countMethod  = "Count"
)

// question is what api asks stock.
type question struct {
	Article string `json:"article"`
}

// jsonCodec is that form of the messages; implements gRPC's encoding.Codec.
type jsonCodec struct{}

func (jsonCodec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }
func (jsonCodec) Name() string                       { return "json" }

// counter answers the questions.
type counter interface {
	count(context.Context, *question) (*answer, error)
}

var stockDescription = grpc.ServiceDesc{
	ServiceName: stockService,
	HandlerType: (*counter)(nil),
	Methods: []grpc.MethodDesc{{MethodName: countMethod,
		Handler: func(service any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var q question
			if err := decode(&q); err != nil {
				return nil, err
			}
			return service.(counter).count(ctx, &q)
		}}},
}

// newStockServer returns a gRPC server of c.
func newStockServer(c counter) *grpc.Server {
	server := grpc.NewServer(grpc.ForceServerCodec(jsonCodec{}))
	server.RegisterService(&stockDescription, c)
	return server
}

// newStockClient returns a client that asks at addr, a listener of the caller's sidecar.
func newStockClient(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(jsonCodec{})))
}

// askStock makes one call. Its deadline travels with it.
func askStock(ctx context.Context, client *grpc.ClientConn) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a := &answer{}
	err := client.Invoke(ctx, "/"+stockService+"/"+countMethod, &question{Article: "anchor"}, a)
	return a, err
}
