package config

import "time"

// HTTPVersion is the version of HTTP that is spoken to a service's endpoints.
type HTTPVersion string

// The versions. HTTPAuto follows the request where TLS lets both sides choose; in plain
// text only gRPC goes over HTTP/2 then.
const (
	HTTPAuto HTTPVersion = "auto"
	HTTP1    HTTPVersion = "http1"
	HTTP2    HTTPVersion = "http2"
)

// HTTP2Settings are those of each HTTP/2 connection.
type HTTP2Settings struct {
	// MaxStreams that may be open at once: by a client, or by us to an endpoint, where
	// its own limit may be lower.
	MaxStreams int `yaml:"max_streams"`
	// StreamWindow is how much of one body may be on its way and not read yet;
	// ConnectionWindow that of all bodies together.
	StreamWindow     Size `yaml:"stream_window"`
	ConnectionWindow Size `yaml:"connection_window"`
	// PingInterval is how long a connection with open streams may be silent before it is
	// asked for a sign of life; 0: it never is. PingTimeout is how long the answer may take.
	PingInterval Duration `yaml:"ping_interval"`
	PingTimeout  Duration `yaml:"ping_timeout"`
}

// ListenerHTTP2 is HTTP/2 towards clients.
type ListenerHTTP2 struct {
	// Enabled false leaves HTTP/1 alone.
	Enabled          bool     `yaml:"enabled"`
	MaxStreams       int      `yaml:"max_streams"`
	StreamWindow     Size     `yaml:"stream_window"`
	ConnectionWindow Size     `yaml:"connection_window"`
	PingInterval     Duration `yaml:"ping_interval"`
	PingTimeout      Duration `yaml:"ping_timeout"`
}

// Settings are those that listeners share with services.
func (h ListenerHTTP2) Settings() HTTP2Settings {
	return HTTP2Settings{h.MaxStreams, h.StreamWindow, h.ConnectionWindow, h.PingInterval, h.PingTimeout}
}

func (h *HTTP2Settings) setDefaults() {
	*h = HTTP2Settings{MaxStreams: 128, StreamWindow: 64 << 10, ConnectionWindow: 1 << 20, PingTimeout: Duration(15 * time.Second)}
}

func (h *ListenerHTTP2) setDefaults() {
	var s HTTP2Settings
	s.setDefaults()
	*h = ListenerHTTP2{true, s.MaxStreams, s.StreamWindow, s.ConnectionWindow, s.PingInterval, s.PingTimeout}
}

// The bounds of HTTP2Settings. A connection's window begins at 65,535 bytes and cannot be
// made smaller (RFC 9113 section 6.9.2).
const (
	maxStreams          = 10_000
	minStreamWindow     = 16 << 10
	minConnectionWindow = 64 << 10
	maxWindow           = 64 << 20
)

func (v *validator) http2(path string, h HTTP2Settings) {
	v.between(join(path, "max_streams"), h.MaxStreams, 1, maxStreams)
	v.between(join(path, "stream_window"), h.StreamWindow, minStreamWindow, maxWindow)
	v.between(join(path, "connection_window"), h.ConnectionWindow, minConnectionWindow, maxWindow)
	v.positive(join(path, "ping_timeout"), h.PingTimeout)
}

func (v *validator) httpVersion(path string, version HTTPVersion) {
	v.spelled(path, string(version), map[string]string{
		"http": "http1", "http/1.1": "http1", "h1": "http1", "1.1": "http1",
		"h2": "http2", "h2c": "http2", "http/2": "http2", "2": "http2", "grpc": "http2",
	}, string(HTTPAuto), string(HTTP1), string(HTTP2))
}
