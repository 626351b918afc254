package metrics

// Instrument names one metric of the table below. Callbacks are registered by
// instrument, so that a misspelt name does not compile.
type Instrument uint8

// The instruments. Those up to EndpointRequests, and ConfigReloads, are written
// by this package; the others are fed by callbacks (see Register).
const (
	Requests Instrument = iota
	RequestDuration
	Bytes
	Connections
	ConnectionsActive
	Refused
	Cut
	UpstreamConnections
	EndpointRequests
	ConfigReloads

	EndpointUp
	ConnectionLimit
	ConnectionLimitUsed
	DiscoveryAge
	IntentionsAge
	IdentityExpiry
	ConsulRegistered
	AccessLogDropped
	EngineTasks
	EngineConnections
	EngineBufferBytes
	EngineSpliced
	EngineBufferLimit
	EngineBufferWaits
	EngineHandshakes
	EngineLoopLag
	EnginePanics
	EngineAcceptBackoffs

	instrumentCount
)

// Kind is the type of a metric.
type Kind uint8

// The kinds.
const (
	Counter Kind = iota
	Gauge
	Histogram
)

func (k Kind) String() string { return [...]string{"counter", "gauge", "histogram"}[k] }

// Info is one row of the table of metrics. Names and labels, once published, stay:
// dashboards and alert rules are written against them.
type Info struct {
	Name   string // as Prometheus shows it
	Kind   Kind
	Labels []string // in the order in which callbacks give their values
	Help   string
}

var instruments = [instrumentCount]Info{
	Requests: {"larboard_requests_total", Counter, []string{"listener", "service", "reason", "code_class", "direction"},
		"Finished exchanges: HTTP requests and TCP connections."},
	RequestDuration: {"larboard_request_duration_seconds", Histogram, []string{"service", "direction"},
		"Time from the first byte of the request to the last byte of the answer."},
	Bytes: {"larboard_bytes_total", Counter, []string{"service", "direction"},
		"Bytes received from clients (in) and sent to them (out)."},
	Connections: {"larboard_connections_total", Counter, []string{"listener"},
		"Connections accepted."},
	ConnectionsActive: {"larboard_connections_active", Gauge, []string{"listener"},
		"Connections open now."},
	Refused: {"larboard_refused_total", Counter, []string{"listener", "reason"},
		"Connections refused before their first request, mostly in the TLS handshake."},
	Cut: {"larboard_connections_cut_total", Counter, []string{"listener", "reason"},
		"Live connections ended because their peer may not be connected any more."},
	UpstreamConnections: {"larboard_upstream_connections_total", Counter, []string{"service", "outcome"},
		"Attempts to connect to an endpoint; the outcome is established or a reason."},
	EndpointRequests: {"larboard_endpoint_requests_total", Counter, []string{"service", "endpoint", "outcome"},
		"Finished exchanges by the endpoint that served them last; the outcome is ok or failed."},
	ConfigReloads: {"larboard_config_reloads_total", Counter, []string{"result"},
		"Reloads of the configuration; the result is applied or refused."},

	EndpointUp: {"larboard_endpoint_up", Gauge, []string{"service", "endpoint"},
		"1 while the endpoint may be chosen, 0 while it may not."},
	ConnectionLimit: {"larboard_connection_limit", Gauge, []string{"scope", "name"},
		"Connections that there may be at once; the scope is process, listener or endpoint."},
	ConnectionLimitUsed: {"larboard_connection_limit_used", Gauge, []string{"scope", "name"},
		"Connections that count against a limit now; of endpoints, those in use."},
	DiscoveryAge: {"larboard_discovery_age_seconds", Gauge, []string{"service"},
		"Time since discovery last confirmed the endpoints of the service."},
	IntentionsAge: {"larboard_intentions_age_seconds", Gauge, []string{"destination"},
		"For how long Consul's intentions for the destination may be out of date; 0 while in contact."},
	IdentityExpiry: {"larboard_identity_expiry_timestamp_seconds", Gauge, []string{"spiffe_id"},
		"When the certificate in use expires, in Unix time."},
	ConsulRegistered: {"larboard_consul_registered", Gauge, []string{"service", "id"},
		"1 while Consul holds the registration and takes its reports, else 0."},
	AccessLogDropped: {"larboard_access_log_dropped_total", Counter, nil,
		"Access log lines lost because the ring was full or the sink failed."},
	EngineTasks: {"larboard_engine_tasks", Gauge, []string{"loop"},
		"Tasks that run or are parked."},
	EngineConnections: {"larboard_engine_connections", Gauge, []string{"loop"},
		"Connections registered with the loop, of both sides."},
	EngineBufferBytes: {"larboard_engine_buffer_bytes", Gauge, []string{"loop"},
		"Memory of the loop's buffers, in use and free."},
	EngineBufferLimit: {"larboard_engine_buffer_limit_bytes", Gauge, nil,
		"What limits.buffers allows to the buffers of all loops."},
	EngineBufferWaits: {"larboard_engine_buffer_waits_total", Counter, []string{"loop"},
		"Reads that waited because the buffers were at their limit."},
	EngineSpliced: {"larboard_engine_spliced_bytes_total", Counter, []string{"loop"},
		"Bytes that went from one connection to another inside the kernel."},
	EngineHandshakes: {"larboard_engine_handshakes_total", Counter, []string{"loop", "where"},
		"TLS handshakes begun: where they are computed, on the loop or, under overload, beside it."},
	EngineLoopLag: {"larboard_engine_loop_lag_seconds", Gauge, []string{"loop"},
		"How long the last turn of the loop took."},
	EnginePanics: {"larboard_engine_panics_total", Counter, []string{"loop"},
		"Exchanges ended by a panic of the proxy."},
	EngineAcceptBackoffs: {"larboard_engine_accept_backoffs_total", Counter, []string{"loop"},
		"Pauses in accepting because descriptors or memory ran out."},
}

// Info returns the row of i.
func (i Instrument) Info() *Info { return &instruments[i] }

// Instruments lists all instruments in the order of the table.
func Instruments() []Instrument {
	all := make([]Instrument, instrumentCount)
	for i := range all {
		all[i] = Instrument(i)
	}
	return all
}
