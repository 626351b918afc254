// Package otlp says where a collector is that takes OpenTelemetry's own protocol, and how
// it is reached, so that whatever is sent there goes the same way. It must not know what
// is sent, nor of configuration.
package otlp

import (
	"crypto/tls"
	"net/http"
	"time"
)

// Collector is where telemetry is sent.
type Collector struct {
	GRPC    bool              // else HTTP, in protocol buffers
	Address string            // HOST:PORT
	Path    string            // of HTTP; empty: that of the specification
	Headers map[string]string // of each request
	TLS     *tls.Config       // nil: plain text
	// Timeout bounds one request, its repetitions included.
	Timeout time.Duration
}

// The pauses before a collector that asks to be asked later is asked again.
const (
	FirstPause = 250 * time.Millisecond
	MostPause  = 2 * time.Second
)

// URL names everything, so that nothing of it comes from the environment: exporters
// otherwise heed OTEL_EXPORTER_OTLP_*. standard is the path of what is sent.
func (c *Collector) URL(standard string) string {
	scheme, path := "http://", standard
	if c.TLS != nil {
		scheme = "https://"
	}
	if c.Path != "" {
		path = c.Path
	}
	return scheme + c.Address + path
}

// Transport returns one for requests over HTTP, whose idle connections its user closes.
func (c *Collector) Transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = c.TLS
	return t
}
