package metrics

// Instrument names one metric of the table below. Callbacks are registered by
// instrument, so that a misspelt name does not compile.
type Instrument uint8

// The instruments. Those up to ConfigReloads are written by this package; the others
// are fed by callbacks (see Register).
const (
	Requests Instrument = iota
	RequestDuration
	RouteRequests
	RouteDuration
	SourceRequests
	SourceDuration
	Bytes
	Connections
	ConnectionsActive
	Refused
	Cut
	HTTP2Abuse
	UpstreamAbuse
	UpstreamConnections
	EndpointRequests
	EndpointDuration
	GRPCRequests
	Limited
	QuotaRequests
	Retries
	ConfigReloads

	EndpointUp
	RequestsActive
	EndpointActive
	EndpointConnections
	BreakerState
	BreakerChanges
	Ejected
	Ejections
	EjectionsCapped
	RetryBudget
	RetriesActive
	SharedConnections
	Streams
	ConnectionLimit
	ConnectionLimitUsed
	LimitKeys
	LimitEvicted
	DiscoveryAge
	IntentionsAge
	IdentityExpiry
	ConsulRegistered
	StartDuration
	AccessLogDropped
	AccessLogLines
	Exports
	Spans
	OpenDescriptors
	DescriptorLimit
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

	// Series and Overflow are of the other metrics, and therefore come last.
	Series
	Overflow

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
	RouteRequests: {"larboard_route_requests_total", Counter, []string{"listener", "route", "code_class"},
		"Finished exchanges by the route that took them; empty: none did."},
	RouteDuration: {"larboard_route_duration_seconds", Histogram, []string{"listener", "route"},
		"As larboard_request_duration_seconds, by route."},
	SourceRequests: {"larboard_source_requests_total", Counter, []string{"source", "service", "code_class"},
		"Finished inbound exchanges by the SPIFFE ID that the caller has proven; none: it has proven none."},
	SourceDuration: {"larboard_source_duration_seconds", Histogram, []string{"source", "service"},
		"As larboard_request_duration_seconds, inbound, by the caller's SPIFFE ID."},
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
	HTTP2Abuse: {"larboard_http2_abuse_total", Counter, []string{"listener", "reason"},
		"HTTP/2 connections ended by a protection."},
	UpstreamAbuse: {"larboard_upstream_http2_abuse_total", Counter, []string{"service", "reason"},
		"HTTP/2 connections to endpoints ended for what the endpoint did."},
	UpstreamConnections: {"larboard_upstream_connections_total", Counter, []string{"service", "outcome"},
		"Attempts to connect to an endpoint; the outcome is established or a reason."},
	EndpointRequests: {"larboard_endpoint_requests_total", Counter, []string{"service", "endpoint", "outcome"},
		"Finished exchanges by the endpoint that served them last; the outcome is ok or failed."},
	EndpointDuration: {"larboard_endpoint_duration_seconds", Histogram, []string{"service", "endpoint"},
		"Time from the choice of the endpoint to the end of the attempt there, of every attempt."},
	GRPCRequests: {"larboard_grpc_requests_total", Counter, []string{"listener", "service", "grpc_status"},
		"Finished gRPC calls by the status that the client has seen, OK to UNAUTHENTICATED."},
	Limited: {"larboard_limited_total", Counter, []string{"listener", "limit"},
		"Requests and connections refused by a rate limit."},
	QuotaRequests: {"larboard_quota_requests_total", Counter, []string{"result"},
		"Questions to the rate limit service; the result is ok, over_limit, known (to be over a limit, and not asked), busy, timeout or error."},
	Retries: {"larboard_retries_total", Counter, []string{"service", "cause", "result"},
		"Attempts that were to be repeated, by why and what became of it: made, over the budget, all attempts spent, or unsafe."},
	ConfigReloads: {"larboard_config_reloads_total", Counter, []string{"result"},
		"Reloads of the configuration; the result is applied or refused."},

	EndpointUp: {"larboard_endpoint_up", Gauge, []string{"service", "endpoint"},
		"1 while the endpoint may be chosen, 0 while it may not."},
	RequestsActive: {"larboard_requests_active", Gauge, []string{"service"},
		"Exchanges under way with the service, those that wait for an endpoint included."},
	EndpointActive: {"larboard_endpoint_requests_active", Gauge, []string{"service", "endpoint"},
		"Exchanges under way at the endpoint."},
	EndpointConnections: {"larboard_endpoint_connections", Gauge, []string{"service", "endpoint", "state"},
		"Connections to the endpoint: in_use, or idle (HTTP/1) and kept for the next exchange."},
	BreakerState: {"larboard_breaker_state", Gauge, []string{"service", "endpoint"},
		"State of the endpoint's breaker: 0 closed, 1 half-open, 2 open."},
	BreakerChanges: {"larboard_breaker_changes_total", Counter, []string{"service", "to"},
		"Changes of breakers to a state: closed, half-open or open."},
	Ejected: {"larboard_ejected", Gauge, []string{"service", "endpoint"},
		"1 while the endpoint is ejected, else 0."},
	Ejections: {"larboard_ejections_total", Counter, []string{"service", "cause"},
		"Ejections of endpoints; the cause is consecutive or success_rate."},
	EjectionsCapped: {"larboard_ejections_capped_total", Counter, []string{"service"},
		"Ejections that the cap did not let happen."},
	RetryBudget: {"larboard_retry_budget", Gauge, []string{"service"},
		"Repeats that may be under way at this moment, by the exchanges under way."},
	RetriesActive: {"larboard_retries_active", Gauge, []string{"service"},
		"Repeats under way that count against the budget."},
	SharedConnections: {"larboard_shared_connections", Gauge, []string{"service", "endpoint"},
		"HTTP/2 connections to the endpoint that take new streams."},
	Streams: {"larboard_streams", Gauge, []string{"service", "endpoint"},
		"Exchanges under way on shared connections to the endpoint."},
	ConnectionLimit: {"larboard_connection_limit", Gauge, []string{"scope", "name"},
		"Connections that there may be at once; the scope is process, listener or endpoint."},
	ConnectionLimitUsed: {"larboard_connection_limit_used", Gauge, []string{"scope", "name"},
		"Connections that count against a limit now; of endpoints, those in use."},
	LimitKeys: {"larboard_limit_keys", Gauge, []string{"limit"},
		"Keys of the rate limit that have a bucket."},
	LimitEvicted: {"larboard_limit_evicted_total", Counter, []string{"limit"},
		"Buckets of the rate limit that were given up before they were full again, because there were too many."},
	DiscoveryAge: {"larboard_discovery_age_seconds", Gauge, []string{"service"},
		"Time since discovery last confirmed the endpoints of the service."},
	IntentionsAge: {"larboard_intentions_age_seconds", Gauge, []string{"destination"},
		"For how long Consul's intentions for the destination may be out of date; 0 while in contact."},
	IdentityExpiry: {"larboard_identity_expiry_timestamp_seconds", Gauge, []string{"spiffe_id"},
		"When the certificate in use expires, in Unix time."},
	ConsulRegistered: {"larboard_consul_registered", Gauge, []string{"service", "id"},
		"1 while Consul holds the registration and takes its reports, else 0."},
	StartDuration: {"larboard_start_seconds", Gauge, []string{"phase"},
		"How long the start took: identity, until there was one or no longer waited for; ready, from then on."},
	AccessLogDropped: {"larboard_access_log_dropped_total", Counter, nil,
		"Access log lines lost because the ring was full or the sink failed."},
	Spans: {"larboard_spans_total", Counter, []string{"result"},
		"Spans of sampled exchanges; the result is exported, or dropped: the collector did not take them in time."},
	AccessLogLines: {"larboard_access_log_lines_total", Counter, []string{"log", "result"},
		"Access log lines by what became of them: written, dropped (the ring was full), failed (the sink lost it), skipped (by condition or sample)."},
	Exports: {"larboard_metric_exports_total", Counter, []string{"result"},
		"Times that all metrics were sent to the collector; the result is exported or failed."},
	OpenDescriptors: {"larboard_open_descriptors", Gauge, nil,
		"File descriptors that the process has open."},
	DescriptorLimit: {"larboard_descriptor_limit", Gauge, nil,
		"File descriptors that it may have."},
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
	Series: {"larboard_series", Gauge, []string{"metric"},
		"Series of each metric as they are shown; each label set of a histogram counts as 17."},
	Overflow: {"larboard_series_overflow_total", Counter, []string{"metric"},
		"How often a label set found no room: counted as other or, of a gauge, left out."},
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
