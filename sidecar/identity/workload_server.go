package identity

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// WorkloadServer serves the X.509 half of the SPIFFE Workload API on one socket.
// Everyone who may open the socket is the workload: its file mode is the
// attestation, one socket for each identity.
type WorkloadServer struct {
	authority *Authority
	listener  net.Listener
	path      string
	ids       []spiffeid.ID
}

// ListenWorkloadAPI binds the socket (mode 0600) so that it accepts connections
// when this returns; Serve answers them. The ids are those handed to whoever
// connects, the first the default. A socket file left by a process that is gone
// is replaced; one that is served, or a file of another kind, is an error.
func (a *Authority) ListenWorkloadAPI(path string, ids ...spiffeid.ID) (*WorkloadServer, error) {
	for _, id := range ids {
		if !id.MemberOf(a.options.TrustDomain) || id.Path() == "" {
			return nil, fmt.Errorf("identity: workload api %s: %q is no workload of %q", path, id, a.options.TrustDomain.Name())
		}
	}
	listener, err := listenPrivate(path)
	if err != nil {
		return nil, err
	}
	return &WorkloadServer{authority: a, listener: listener, path: path, ids: ids}, nil
}

// ServeWorkloadAPI listens and serves until ctx ends; it returns nil then.
func (a *Authority) ServeWorkloadAPI(ctx context.Context, path string, ids ...spiffeid.ID) error {
	s, err := a.ListenWorkloadAPI(path, ids...)
	if err != nil {
		return err
	}
	return s.Serve(ctx)
}

// Serve answers until ctx ends, then closes all streams, removes the socket file
// and returns nil once its goroutines have ended.
func (s *WorkloadServer) Serve(ctx context.Context) error {
	server := grpc.NewServer(grpc.WaitForHandlers(true),
		grpc.UnaryInterceptor(requireHeaderUnary), grpc.StreamInterceptor(requireHeaderStream))
	workload.RegisterSpiffeWorkloadAPIServer(server, &workloadAPI{authority: s.authority, ids: s.ids})
	s.authority.log.Info("workload api is served", "socket", s.path, "ids", s.ids)
	stopped := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		defer close(stopped)
		server.Stop()
	})
	err := server.Serve(s.listener)
	if release() { // Serve failed by itself
		server.Stop()
		return fmt.Errorf("identity: workload api %s: %w", s.path, err)
	}
	<-stopped
	return nil
}

// Close releases a server whose Serve is never called.
func (s *WorkloadServer) Close() error { return s.listener.Close() }

// workloadAPI implements the service; the JWT and WIT methods stay unimplemented,
// which the specification's clients understand.
type workloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	authority *Authority
	ids       []spiffeid.ID
}

// FetchX509SVID streams the SVIDs of this socket's identities, all again whenever
// one of them is renewed or the bundles change (Workload API section 5.2.1).
func (w *workloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	if len(w.ids) == 0 {
		return status.Error(codes.PermissionDenied, "no identity is issued on this socket")
	}
	ctx := stream.Context()
	for {
		response, soonest, err := w.svids()
		if err != nil {
			w.authority.log.Warn("workload api cannot issue", "error", err)
			return status.Error(codes.Unavailable, "the authority cannot issue at the moment")
		}
		if err := stream.Send(response); err != nil {
			return err
		}
		if err := w.authority.await(ctx, soonest); err != nil {
			return status.FromContextError(err).Err()
		}
	}
}

// svids issues for each identity; the first issued is due first.
func (w *workloadAPI) svids() (*workload.X509SVIDResponse, grant, error) {
	response := &workload.X509SVIDResponse{FederatedBundles: make(map[string][]byte)}
	var soonest grant
	for i, id := range w.ids {
		g, err := w.authority.grant(id)
		if err != nil {
			return nil, grant{}, err
		}
		if i == 0 {
			soonest = g // with the oldest view of the bundles
		}
		key, err := x509.MarshalPKCS8PrivateKey(g.material.Certificate.PrivateKey)
		if err != nil {
			return nil, grant{}, fmt.Errorf("identity: svid key: %w", err)
		}
		response.Svids = append(response.Svids, &workload.X509SVID{
			SpiffeId: id.String(), X509Svid: g.material.Certificate.Certificate[0], X509SvidKey: key,
			Bundle: concatenated(g.material.Bundles[id.TrustDomain()]),
		})
		for domain, certificates := range g.material.Bundles {
			if domain != id.TrustDomain() {
				response.FederatedBundles[domain.IDString()] = concatenated(certificates)
			}
		}
	}
	return response, soonest, nil
}

// FetchX509Bundles streams all bundles at each change.
func (w *workloadAPI) FetchX509Bundles(_ *workload.X509BundlesRequest, stream grpc.ServerStreamingServer[workload.X509BundlesResponse]) error {
	if len(w.ids) == 0 {
		return status.Error(codes.PermissionDenied, "no identity is issued on this socket")
	}
	for {
		bundles, g, err := w.authority.watchable()
		if err != nil {
			w.authority.log.Warn("workload api cannot read its bundles", "error", err)
			return status.Error(codes.Unavailable, "the authority cannot be read at the moment")
		}
		response := &workload.X509BundlesResponse{Bundles: make(map[string][]byte)}
		for domain, certificates := range bundles {
			response.Bundles[domain.IDString()] = concatenated(certificates)
		}
		if err := stream.Send(response); err != nil {
			return err
		}
		if err := w.authority.await(stream.Context(), g); err != nil {
			return status.FromContextError(err).Err()
		}
	}
}

// concatenated is how the Workload API writes a list of certificates.
func concatenated(certificates []*x509.Certificate) []byte {
	var der []byte
	for _, c := range certificates {
		der = append(der, c.Raw...)
	}
	return der
}

// checkHeader asks for the header that keeps a browser or another confused deputy
// from calling (Workload Endpoint section 6).
func checkHeader(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get("workload.spiffe.io"); len(v) != 1 || v[0] != "true" {
		return status.Error(codes.InvalidArgument, "security header missing from request")
	}
	return nil
}

func requireHeaderUnary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := checkHeader(ctx); err != nil {
		return nil, err
	}
	return next(ctx, request)
}

func requireHeaderStream(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := checkHeader(stream.Context()); err != nil {
		return err
	}
	return next(service, stream)
}
