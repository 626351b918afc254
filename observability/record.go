// Package observability holds the Record of one finished exchange: what metrics, access
// logs, spans and decisions are made from. It must not know of codecs,
// connections or configuration. OpenTelemetry is imported by sub-packages only.
package observability

import (
	"net/netip"
	"time"

	"github.com/larboard-proxy/larboard/policy"
)

// Record is made once an exchange (HTTP request or TCP connection) in the record
// phase, on the loop, and handed to each Observer. It and its byte slices are
// valid during the call only.
type Record struct {
	Loop     int
	Listener string
	Route    string
	Service  string
	Endpoint string // address; empty: none was reached
	// EndpointLeft: it has left its service meanwhile, and no series is made for it any more.
	EndpointLeft bool
	Protocol     string // "http" (1.x), "http2" or "tcp"
	// Detected is what a listener of protocol auto has found where it was no HTTP: "tls",
	// "opaque", or "server_first" where the endpoint spoke first; else empty.
	Detected string
	Inbound  bool // to our workload
	// Reason is None where the exchange ran to its end.
	Reason policy.Reason
	Side   policy.Side
	Err    error // the cause behind Reason; may be nil

	Start time.Time
	// Durations of the phases; zero where a phase was not reached. Total runs from
	// the first byte of the request to the last byte of the answer, Queue from the end
	// of the request's head to the first pick. Connect and ResponseHead are those of the
	// last attempt, from its pick on.
	RequestHead, Queue, Connect, ResponseHead, Total time.Duration

	Method, Authority, Path, UserAgent []byte
	Version                            string // of HTTP towards the client: "1.0", "1.1" or "2"; empty: none
	RequestID                          []byte
	Status                             int // sent to the client; 0: none
	// GRPC is the status that the client of a gRPC call has seen; GRPCNone: no call.
	GRPC              policy.GRPCStatus
	BytesIn, BytesOut int64
	Attempts          int
	// Tries are the attempts that had an endpoint, in their order.
	Tries []Try
	Trace SpanContext
	// Fields finds the fields of both heads; nil where there is none.
	Fields Fields
	Active Active

	Client netip.AddrPort
	TLS    bool   // the client came over TLS
	Unix   bool   // the client came over a Unix socket, and has no address
	PeerID string // SPIFFE ID of the caller (inbound)
	// EndpointID is the SPIFFE ID the endpoint has proven (outbound).
	EndpointID string
}

// Try is one attempt of an exchange at one endpoint.
type Try struct {
	Endpoint   string
	EndpointID string // the SPIFFE ID it has proven; empty: none
	// Span is the attempt's own in the trace of the exchange; zero: it is in none.
	Span [8]byte
	// Reason is None where an answer came, whatever its Status; Phase and Side say more
	// of any other.
	Reason policy.Reason
	Phase  policy.Phase
	Side   policy.Side
	Status int // of the endpoint's answer; 0: none
	GRPC   policy.GRPCStatus
	Reused bool // over a connection that had carried another exchange
	// Start is the pick, counted from Record.Start; the others run from there. Connect
	// and Head (of the answer) are 0 where they were not reached.
	Start, Connect, Head, Total time.Duration
}

// SpanContext is an exchange's place in a distributed trace. The zero value: in none.
type SpanContext struct {
	TraceID [16]byte
	SpanID  [8]byte // of the exchange itself
	Parent  [8]byte // the caller's; zero: the trace begins here
	Sampled bool
}

// Fields finds a head's field by its name in lower case, the first of several. Valid
// while the record is.
type Fields interface {
	RequestField(name string) ([]byte, bool)
	ResponseField(name string) ([]byte, bool)
}

// Active is what was open beside the exchange as it ended, itself included: connections of
// clients to the process and to the listener, exchanges at the service and at the
// endpoint.
type Active struct{ Process, Listener, Service, Endpoint int64 }

// RefusalObserver is an Observer that is told, too, of connections that were ended as
// such: in their handshake, by a limit, by a protection of HTTP/2, or because their peer may not
// be connected any more. The record says what is known by then: Loop, Listener, Inbound, Reason, Side, Err, Start and
// the client.
type RefusalObserver interface{ ObserveRefusal(*Record) }

// Observer is told of each finished exchange. Called on a loop: it must not block,
// park or allocate in steady state.
type Observer interface{ Observe(*Record) }
