package upstream

// Version of HTTP that a service's endpoints are spoken to in.
type Version uint8

// The versions; see config.HTTPVersion.
const (
	AutoVersion Version = iota
	OnlyHTTP1
	OnlyHTTP2
)

// Ask is what an exchange needs of the connection that carries it.
type Ask struct {
	HTTP2   bool // the request came over HTTP/2
	GRPC    bool // it is a call of gRPC, which needs HTTP/2
	Upgrade bool // it switches protocols
}

// way is how an exchange is carried to an endpoint.
type way uint8

const (
	overHTTP1  way = iota
	overHTTP2      // with prior knowledge in plain text, and where TLS names no protocol
	overEither     // over TLS: HTTP/2 where the endpoint is a proxy of ours
)

// OwnProtocol is the name (RFC 7301) by which proxies of ours agree on HTTP/2. "h2" will not
// do: Consul's proxies agree to it for whatever they pass on.
const OwnProtocol = "larboard/h2"

// alpn is what a TLS handshake offers.
func (w way) alpn() []string {
	switch w {
	case overHTTP2:
		return []string{"h2"}
	case overEither:
		return []string{OwnProtocol, "http/1.1"}
	}
	return nil
}

// taken is what w has come to, by the protocol that the endpoint has chosen.
func (w way) taken(chosen string) way {
	if w == overEither && chosen != OwnProtocol {
		return overHTTP1
	}
	return w
}

// way decides for one exchange. An upgrade that may go either way goes over HTTP/1, which
// every endpoint that switches protocols knows.
func (s *Settings) way(ask Ask) way {
	switch {
	case s.Version == OnlyHTTP1:
		return overHTTP1
	case s.Version == OnlyHTTP2:
		return overHTTP2
	case ask.GRPC:
		return overHTTP2
	case s.Mesh != nil && ask.HTTP2 && !ask.Upgrade:
		return overEither
	}
	return overHTTP1
}
