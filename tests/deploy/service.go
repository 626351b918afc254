package deploy

const chosenService = `, service=~"$service"`

// service shows one service, from its callers' side and from its own.
func service() dashboard {
	side := func(direction string) string { return chosenService + `, direction="` + direction + `"` }
	golden := func(title, direction string) row {
		s := side(direction)
		return row{title, []graph{
			{title: "Requests by status", unit: "reqps", queries: []query{{"sum by (service, code_class) (" + rate(requests, s) + ")", "{{service}} {{code_class}}"}}},
			{title: "Share answered with 5xx", unit: "percentunit", queries: []query{
				{"(sum by (service) (" + rate(requests, s+failing) + ") or 0 * sum by (service) (" + rate(requests, s) + ")) / sum by (service) (" + rate(requests, s) + ")", "{{service}}"}}},
			{title: "Time to the last byte", unit: "s", queries: []query{
				{quantile("0.5", "service", duration, s), "{{service}} median"},
				{quantile("0.9", "service", duration, s), "{{service}} 90 %"},
				{quantile("0.99", "service", duration, s), "{{service}} 99 %"}}},
		}}
	}
	return dashboard{file: "service", title: "Service", variables: append(proxies(), asking("service", "Service", `larboard_requests_total{job=~"$job"}`)),
		about: "One service: what its callers' proxies see of it, what its own proxies see, and its endpoints.",
		rows: []row{
			golden("As its callers see it", "outbound"),
			golden("As it is itself", "inbound"),
			{"Callers", []graph{
				{title: "Requests by caller", unit: "reqps", about: "The SPIFFE ID that the caller has proven.", queries: []query{
					{"sum by (source) (" + rate("larboard_source_requests_total", chosenService) + ")", "{{source}}"}}},
				{title: "Share answered with 5xx by caller", unit: "percentunit", queries: []query{
					{"(sum by (source) (" + rate("larboard_source_requests_total", chosenService+failing) + ") or 0 * sum by (source) (" + rate("larboard_source_requests_total", chosenService) + ")) / sum by (source) (" + rate("larboard_source_requests_total", chosenService) + ")", "{{source}}"}}},
				{title: "99th percentile by caller", unit: "s", queries: []query{{quantile("0.99", "source", "larboard_source_duration_seconds", chosenService), "{{source}}"}}},
			}},
			{"Answers", []graph{
				{title: "Why the proxies answered themselves", unit: "reqps", about: "By the code of the table of reasons.", queries: []query{
					{"sum by (service, reason) (" + rate(requests, chosenService+`, reason!="none"`) + ")", "{{service}} {{reason}}"}}},
				{title: "gRPC statuses", unit: "reqps", queries: []query{
					{"sum by (service, grpc_status) (" + rate("larboard_grpc_requests_total", chosenService) + ")", "{{service}} {{grpc_status}}"}}},
				{title: "Bytes", unit: "Bps", queries: []query{{"sum by (service, direction) (" + rate("larboard_bytes_total", chosenService) + ")", "{{service}} {{direction}}"}}},
			}},
			{"Endpoints", []graph{
				{title: "Requests by endpoint", unit: "reqps", queries: []query{
					{"sum by (endpoint) (" + rate("larboard_endpoint_requests_total", chosenService) + ")", "{{endpoint}}"}}},
				{title: "Share failed by endpoint", unit: "percentunit", queries: []query{
					{"sum by (endpoint) (" + rate("larboard_endpoint_requests_total", chosenService+`, outcome="failed"`) + ") / sum by (endpoint) (" + rate("larboard_endpoint_requests_total", chosenService) + ")", "{{endpoint}}"}}},
				{title: "99th percentile by endpoint", unit: "s", about: "Of each attempt there, from the choice of the endpoint to the attempt's end.", queries: []query{
					{quantile("0.99", "endpoint", "larboard_endpoint_duration_seconds", chosenService), "{{endpoint}}"}}},
				{title: "Under way by endpoint", unit: "short", queries: []query{
					{"sum by (endpoint) (" + of("larboard_endpoint_requests_active", chosenService) + ")", "{{endpoint}}"}}},
				{title: "Under way, or waiting for an endpoint", unit: "short", queries: []query{
					{"sum by (service) (" + of("larboard_requests_active", chosenService) + ")", "{{service}}"}}},
				{title: "Endpoint may be chosen", unit: "short", about: "1 where every proxy may choose it.", queries: []query{
					{"min by (endpoint) (" + of("larboard_endpoint_up", chosenService) + ")", "{{endpoint}}"}}},
				{title: "Connections opened, by outcome", unit: "cps", queries: []query{
					{"sum by (outcome) (" + rate("larboard_upstream_connections_total", chosenService) + ")", "{{outcome}}"}}},
				{title: "Connections by state", unit: "short", queries: []query{
					{"sum by (endpoint, state) (" + of("larboard_endpoint_connections", chosenService) + ")", "{{endpoint}} {{state}}"}}},
				{title: "Shared connections", unit: "short", about: "HTTP/2 connections that take new streams.", queries: []query{
					{"sum by (endpoint) (" + of("larboard_shared_connections", chosenService) + ")", "{{endpoint}}"}}},
				{title: "Streams under way", unit: "short", queries: []query{
					{"sum by (endpoint) (" + of("larboard_streams", chosenService) + ")", "{{endpoint}}"}}},
			}},
			{"Resilience", []graph{
				{title: "Repeats by cause", unit: "ops", about: "What became of attempts that were to be repeated: made, over the budget, all attempts spent, or unsafe.", queries: []query{
					{"sum by (service, cause, result) (" + rate("larboard_retries_total", chosenService) + ")", "{{service}} {{cause}} {{result}}"}}},
				{title: "Repeats for each request", unit: "percentunit", queries: []query{
					{"sum by (service) (" + rate("larboard_retries_total", chosenService+`, result="made"`) + ") / sum by (service) (" + rate(requests, chosenService+outbound) + ")", "{{service}}"}}},
				{title: "Retry budget", unit: "short", about: "Repeats that may be under way, and those that are.", queries: []query{
					{"sum by (service) (" + of("larboard_retry_budget", chosenService) + ")", "{{service}} allowed"},
					{"sum by (service) (" + of("larboard_retries_active", chosenService) + ")", "{{service}}"}}},
				{title: "Breakers", unit: "short", about: "0 closed, 1 half-open, 2 open; the worst of all proxies.", queries: []query{
					{"max by (service, endpoint) (" + of("larboard_breaker_state", chosenService) + ")", "{{service}} {{endpoint}}"}}},
				{title: "Changes of breakers", unit: "ops", queries: []query{
					{"sum by (service, to) (" + rate("larboard_breaker_changes_total", chosenService) + ")", "{{service}} {{to}}"}}},
				{title: "Endpoints ejected", unit: "short", about: "By how many proxies.", queries: []query{
					{"sum by (service, endpoint) (" + of("larboard_ejected", chosenService) + ")", "{{service}} {{endpoint}}"}}},
				{title: "Ejections", unit: "ops", queries: []query{
					{"sum by (service, cause) (" + rate("larboard_ejections_total", chosenService) + ")", "{{service}} {{cause}}"}}},
				{title: "Ejections that the cap prevented", unit: "ops", queries: []query{
					{"sum by (service) (" + rate("larboard_ejections_capped_total", chosenService) + ")", "{{service}}"}}},
			}},
		}}
}
