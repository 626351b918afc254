// Package observability holds the Record of one finished exchange: what metrics,
// the access log and, later, traces are made from. It must not know of codecs,
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
	Protocol string // "http" or "tcp"
	Inbound  bool   // to our workload
	// Reason is None where the exchange ran to its end.
	Reason policy.Reason
	Side   policy.Side
	Err    error // the cause behind Reason; may be nil

	Start time.Time
	// Durations of the phases; zero where a phase was not reached. Total runs from
	// the first byte of the request to the last byte of the answer.
	RequestHead, Connect, ResponseHead, Total time.Duration

	Method, Authority, Path, UserAgent []byte
	RequestID                          []byte
	Status                             int // sent to the client; 0: none
	BytesIn, BytesOut                  int64
	Attempts                           int

	Client netip.AddrPort
	Unix   bool   // the client came over a Unix socket, and has no address
	PeerID string // SPIFFE ID of the caller (inbound)
	// EndpointID is the SPIFFE ID the endpoint has proven (outbound).
	EndpointID string
}

// Observer is told of each finished exchange. Called on a loop: it must not block,
// park or allocate in steady state.
type Observer interface{ Observe(*Record) }
