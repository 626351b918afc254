package deploy

// of are the series of the proxies that are chosen; more are further conditions.
func of(metric, more string) string {
	return metric + `{job=~"$job", instance=~"$instance"` + more + `}`
}

// rate is that of a counter of theirs.
func rate(metric, more string) string { return "rate(" + of(metric, more) + "[$__rate_interval])" }

// quantile is that of a histogram of theirs, by these labels.
func quantile(q, by, metric, more string) string {
	return "histogram_quantile(" + q + ", sum by (" + by + ", le) (" + rate(metric+"_bucket", more) + "))"
}

// proxies are the variables that choose among the proxies.
func proxies() []variable {
	return []variable{asking("job", "Job", "larboard_engine_tasks"), asking("instance", "Proxy", `larboard_engine_tasks{job=~"$job"}`)}
}

const (
	requests = "larboard_requests_total"
	duration = "larboard_request_duration_seconds"
	outbound = `, direction="outbound"`
	failing  = `, code_class="5xx"`
)

// dashboards are all of them.
func dashboards() []dashboard { return []dashboard{mesh(), service(), internals()} }

// mesh shows who calls whom and how well that goes, seen by the callers' proxies.
func mesh() dashboard {
	return dashboard{file: "mesh", title: "Mesh", variables: proxies(),
		about: "Who calls whom and how well that goes, as the callers' proxies see it.",
		rows: []row{
			{"Now", []graph{
				{title: "Requests", unit: "reqps", number: true, queries: []query{{"sum(" + rate(requests, outbound) + ")", ""}}},
				{title: "Answered with 5xx", unit: "percentunit", number: true, queries: []query{
					{"(sum(" + rate(requests, outbound+failing) + ") or vector(0)) / sum(" + rate(requests, outbound) + ")", ""}}},
				{title: "99th percentile", unit: "s", number: true, queries: []query{
					{"histogram_quantile(0.99, sum by (le) (" + rate(duration+"_bucket", outbound) + "))", ""}}},
				{title: "Proxies", unit: "short", number: true, queries: []query{{`sum(up{job=~"$job", instance=~"$instance"})`, ""}}},
				{title: "Services without endpoint", unit: "short", number: true, queries: []query{
					{"count(max by (service) (" + of("larboard_endpoint_up", "") + ") == 0) or vector(0)", ""}}},
				{title: "Next certificate to expire", unit: "s", number: true, queries: []query{
					{"min(" + of("larboard_identity_expiry_timestamp_seconds", "") + ") - time()", ""}}},
			}},
			{"Traffic", []graph{
				{title: "Requests by service", unit: "reqps", queries: []query{{"sum by (service) (" + rate(requests, outbound) + ")", "{{service}}"}}},
				{title: "Share answered with 5xx", unit: "percentunit", queries: []query{
					{"sum by (service) (" + rate(requests, outbound+failing) + ") / sum by (service) (" + rate(requests, outbound) + ")", "{{service}}"}}},
				{title: "99th percentile by service", unit: "s", queries: []query{{quantile("0.99", "service", duration, outbound), "{{service}}"}}},
				{title: "What the proxies answered themselves", unit: "reqps", about: "By the code of the table of reasons.", queries: []query{
					{"sum by (reason) (" + rate(requests, `, reason!="none"`) + ")", "{{reason}}"}}},
				{title: "gRPC calls by status", unit: "reqps", queries: []query{
					{"sum by (grpc_status) (" + rate("larboard_grpc_requests_total", "") + ")", "{{grpc_status}}"}}},
				{title: "Bytes", unit: "Bps", queries: []query{{"sum by (service, direction) (" + rate("larboard_bytes_total", "") + ")", "{{service}} {{direction}}"}}},
			}},
			{"Endpoints and discovery", []graph{
				{title: "Share of endpoints that are up", unit: "percentunit", queries: []query{
					{"avg by (service) (" + of("larboard_endpoint_up", "") + ")", "{{service}}"}}},
				{title: "Age of what discovery has said", unit: "s", queries: []query{
					{"max by (service) (" + of("larboard_discovery_age_seconds", "") + ")", "{{service}}"}}},
				{title: "Consul's registrations in force", unit: "short", queries: []query{
					{"sum by (service) (" + of("larboard_consul_registered", "") + ")", "{{service}}"}}},
			}},
			{"Resilience", []graph{
				{title: "Repeats", unit: "ops", about: "Attempts that were to be repeated, by what became of it.", queries: []query{
					{"sum by (service, result) (" + rate("larboard_retries_total", "") + ")", "{{service}} {{result}}"}}},
				{title: "Breakers open or half-open", unit: "short", about: "Endpoints, by the service; each caller's proxy has breakers of its own.", queries: []query{
					{"sum by (service) (" + of("larboard_breaker_state", "") + " > bool 0)", "{{service}}"}}},
				{title: "Refused by rate limits", unit: "reqps", queries: []query{
					{"sum by (listener, limit) (" + rate("larboard_limited_total", "") + ")", "{{listener}} {{limit}}"}}},
				{title: "Endpoints ejected", unit: "short", queries: []query{{"sum by (service) (" + of("larboard_ejected", "") + ")", "{{service}}"}}},
			}},
			{"Security", []graph{
				{title: "Requests by proven caller", unit: "reqps", queries: []query{
					{"sum by (source, service) (" + rate("larboard_source_requests_total", "") + ")", "{{source}} to {{service}}"}}},
				{title: "Connections refused, by reason", unit: "cps", queries: []query{{"sum by (reason) (" + rate("larboard_refused_total", "") + ")", "{{reason}}"}}},
				{title: "Time left of certificates", unit: "s", queries: []query{
					{"min by (spiffe_id) (" + of("larboard_identity_expiry_timestamp_seconds", "") + ") - time()", "{{spiffe_id}}"}}},
				{title: "Age of intentions", unit: "s", queries: []query{
					{"max by (destination) (" + of("larboard_intentions_age_seconds", "") + ")", "{{destination}}"}}},
				{title: "Connections cut", unit: "cps", about: "Live connections whose peer may not be connected any more.", queries: []query{
					{"sum by (reason) (" + rate("larboard_connections_cut_total", "") + ")", "{{reason}}"}}},
				{title: "HTTP/2 protections", unit: "cps", queries: []query{
					{"sum by (reason) (" + rate("larboard_http2_abuse_total", "") + ")", "{{reason}}"}}},
				{title: "HTTP/2 protections against endpoints", unit: "cps", queries: []query{
					{"sum by (service, reason) (" + rate("larboard_upstream_http2_abuse_total", "") + ")", "{{service}} {{reason}}"}}},
			}},
		}}
}
