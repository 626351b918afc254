// Package config turns the text of a configuration file into plain structs. It
// exists so that everything a user can get wrong is said at once, with its place
// in the file and the probable meaning, before anything has a side effect.
//
// It is pure: it opens no file, resolves no name and reads no clock or
// environment; it is handed bytes and a file name. It must not know how a
// setting is carried out, and imports nothing of ours but names and languages that are
// pure themselves.
//
// The way through it: [Load] parses, decodes strictly (decode.go), fills in the
// defaults (defaults.go) and validates (validate*.go); [Expand] turns the sidecar
// shorthand into listeners and services; [Print] writes a configuration back.
//
// Fields tagged `is:"path"` name files; a relative name starts from the directory
// of the configuration file.
package config

// Config is one complete configuration. Values that [Load] returns without
// problems are valid and have every default filled in; they are not changed
// afterwards and may be read from any goroutine.
type Config struct {
	// Version of the format; 1 is the only one.
	Version int   `yaml:"version"`
	Admin   Admin `yaml:"admin"`
	Log     Log   `yaml:"log"`
	// AccessLog lists the access logs; a lone mapping or text in the file is a list of one.
	AccessLog AccessLogs `yaml:"access_log"`
	Metrics   Metrics    `yaml:"metrics"`
	// Tracing is nil where traces are not taken part in.
	Tracing *Tracing `yaml:"tracing"`
	// Engine is what the loops stand on: EngineEvents, EngineGoroutines, or empty for what
	// suits the system.
	Engine string `yaml:"engine"`
	// Loops is the number of event loops; 0 lets the proxy choose.
	Loops int `yaml:"loops"`
	// CPUs are those that the process may run on, by number; empty: all that it is given.
	CPUs     []int    `yaml:"cpus"`
	Limits   Limits   `yaml:"limits"`
	Timeouts Timeouts `yaml:"timeouts"`
	// ReasonHeader has the proxy's own answers tell their reason, where listeners do not
	// say otherwise.
	ReasonHeader bool `yaml:"reason_header"`
	// Decisions is how many exchanges that failed or were retried each loop remembers; 0: none.
	Decisions int `yaml:"decisions"`

	// RateLimitFields are what answers say of rate limits.
	RateLimitFields RateLimitFields `yaml:"rate_limit_fields"`

	// Capture is where connections come in that were redirected to us; empty: nowhere.
	Capture   Interception `yaml:"capture"`
	Listeners []Listener   `yaml:"listeners"`
	Services  []Service    `yaml:"services"`
	Consul    Consul       `yaml:"consul"`
	// RateLimitService is asked about the limits that proxies share; nil: there is none.
	RateLimitService *RateLimitService `yaml:"rate_limit_service"`
	// Probes is nil where nobody probes.
	Probes *Probes `yaml:"probes"`
	Drain  Drain   `yaml:"drain"`
	// Identity is nil where the proxy needs none.
	Identity *Identity `yaml:"identity"`
	// Identities are several, by name; never set together with Identity.
	Identities map[string]Identity `yaml:"identities"`
	// Workload and Upstreams are the sidecar shorthand, Workloads that of a proxy for
	// a whole host. All are empty in what Expand returns.
	Workload  *Workload  `yaml:"workload"`
	Upstreams []Upstream `yaml:"upstreams"`
	Workloads []Workload `yaml:"workloads"`

	source source
}

// Admin says where the HTTP API (health, metrics, views) is served: nowhere, on
// an address, on a Unix socket, or on both.
type Admin struct {
	Address string `yaml:"address"`          // IP:port; empty: not served there
	Socket  string `yaml:"socket" is:"path"` // a path; empty: not served there
}

// Log is the process log, written to standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // text, json
}

// The values of Config.Engine.
const (
	EngineEvents     = "events"
	EngineGoroutines = "goroutines"
)

// The values of Log.Format, which AccessLog.Format has, too.
const (
	FormatText = "text"
	FormatJSON = "json"
)

// Limits bound what one request may bring, and the process.
type Limits struct {
	// Connections bounds those of all listeners together; 0: what the file
	// descriptors suffice for.
	Connections int  `yaml:"connections"`
	Head        Size `yaml:"head"`         // whole header section, in bytes
	Fields      int  `yaml:"fields"`       // number of header fields
	RequestLine Size `yaml:"request_line"` // in bytes
	// Handshakes bounds the TLS handshakes that are computed beside the loops at once,
	// under overload; 0: half as many as there are CPUs.
	Handshakes int `yaml:"handshakes"`
	// Buffers is the memory of all buffers together, in bytes.
	Buffers Size `yaml:"buffers"`
	// AcceptBurst is how many connections a listener takes on a loop before everything
	// else there has its turn.
	AcceptBurst int `yaml:"accept_burst"`
}

// Timeouts are the process-wide values; listeners and services may override
// those that concern them. Zero means no limit, where that is allowed.
type Timeouts struct {
	// Connect bounds reaching an endpoint, its TLS handshake included.
	Connect Duration `yaml:"connect"`
	// RequestHead bounds the time from a connection's first byte (of the TLS
	// handshake, or of a later request) to the end of the request head.
	RequestHead Duration `yaml:"request_head"`
	// Idle is how long a kept connection may wait for its next request.
	Idle Duration `yaml:"idle"`
	// Body is the longest silence within a body; zero: no limit.
	Body Duration `yaml:"body"`
	// ResponseHead bounds the wait for the response head once the request is sent.
	ResponseHead Duration `yaml:"response_head"`
	// Request bounds the whole exchange; zero: no limit.
	Request Duration `yaml:"request"`
	// Tunnel is the longest silence in both directions of a tunnel (TCP, Upgrade,
	// CONNECT); zero: no limit.
	Tunnel Duration `yaml:"tunnel"`
	// Drain bounds the shutdown.
	Drain Duration `yaml:"drain"`
}

// Protocol is what a listener or an upstream speaks.
type Protocol string

// The protocols of this version.
const (
	HTTP Protocol = "http"
	TCP  Protocol = "tcp"
	// Auto is HTTP or anything else, found out from each connection's first bytes.
	Auto Protocol = "auto"
)
