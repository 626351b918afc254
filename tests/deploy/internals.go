package deploy

// internals shows what a proxy holds and how near it is to its limits.
func internals() dashboard {
	each := func(metric string) query { return query{"sum by (instance) (" + of(metric, "") + ")", "{{instance}}"} }
	every := func(metric string) query {
		return query{"sum by (instance) (" + rate(metric, "") + ")", "{{instance}}"}
	}
	return dashboard{file: "proxy", title: "Proxy internals", variables: proxies(),
		about: "What a proxy holds and does, and how near it is to its limits.",
		rows: []row{
			{"Process", []graph{
				{title: "CPU", unit: "percentunit", about: "1 is one CPU.", queries: []query{{rate("process_cpu_seconds_total", ""), "{{instance}}"}}},
				{title: "Memory", unit: "bytes", queries: []query{{of("process_resident_memory_bytes", ""), "{{instance}}"}}},
				{title: "File descriptors", unit: "short", queries: []query{
					{of("larboard_open_descriptors", ""), "{{instance}}"}, {of("larboard_descriptor_limit", ""), "{{instance}} limit"}}},
				{title: "Goroutines", unit: "short", queries: []query{{of("go_goroutines", ""), "{{instance}}"}}},
				{title: "Age", unit: "s", queries: []query{{"time() - " + of("process_start_time_seconds", ""), "{{instance}}"}}},
				{title: "Reloads", unit: "short", about: "Within ten minutes.", queries: []query{
					{"sum by (instance, result) (increase(" + of("larboard_config_reloads_total", "") + "[10m]))", "{{instance}} {{result}}"}}},
			}},
			{"Connections", []graph{
				{title: "Open, by listener", unit: "short", queries: []query{
					{"sum by (instance, listener) (" + of("larboard_connections_active", "") + ")", "{{instance}} {{listener}}"}}},
				{title: "Accepted, by listener", unit: "cps", queries: []query{
					{"sum by (instance, listener) (" + rate("larboard_connections_total", "") + ")", "{{instance}} {{listener}}"}}},
				{title: "Share of limits in use", unit: "percentunit", queries: []query{
					{of("larboard_connection_limit_used", "") + " / (" + of("larboard_connection_limit", "") + " > 0)", "{{instance}} {{scope}} {{name}}"}}},
				{title: "Requests by route", unit: "reqps", queries: []query{
					{"sum by (listener, route, code_class) (" + rate("larboard_route_requests_total", "") + ")", "{{listener}} {{route}} {{code_class}}"}}},
				{title: "99th percentile by route", unit: "s", queries: []query{
					{quantile("0.99", "listener, route", "larboard_route_duration_seconds", ""), "{{listener}} {{route}}"}}},
				{title: "Registered with the loops", unit: "short", about: "Of both sides.", queries: []query{each("larboard_engine_connections")}},
				{title: "TLS handshakes", unit: "ops", about: "Computed on the loop or, under overload, beside it.", queries: []query{
					{"sum by (instance, where) (" + rate("larboard_engine_handshakes_total", "") + ")", "{{instance}} {{where}}"}}},
				{title: "Pauses in accepting", unit: "ops", queries: []query{every("larboard_engine_accept_backoffs_total")}},
			}},
			{"Event loops", []graph{
				{title: "Length of the last turn", unit: "s", queries: []query{
					{"max by (instance) (" + of("larboard_engine_loop_lag_seconds", "") + ")", "{{instance}}"}}},
				{title: "Tasks", unit: "short", queries: []query{each("larboard_engine_tasks")}},
				{title: "Panics", unit: "short", about: "Exchanges ended by a panic of the proxy, within ten minutes.", queries: []query{
					{"sum by (instance) (increase(" + of("larboard_engine_panics_total", "") + "[10m]))", "{{instance}}"}}},
				{title: "Buffers", unit: "bytes", queries: []query{each("larboard_engine_buffer_bytes"),
					{of("larboard_engine_buffer_limit_bytes", ""), "{{instance}} limit"}}},
				{title: "Reads that waited for a buffer", unit: "ops", queries: []query{every("larboard_engine_buffer_waits_total")}},
				{title: "Spliced in the kernel", unit: "Bps", queries: []query{every("larboard_engine_spliced_bytes_total")}},
			}},
			{"Rate limits", []graph{
				{title: "Refused", unit: "reqps", queries: []query{
					{"sum by (instance, listener, limit) (" + rate("larboard_limited_total", "") + ")", "{{instance}} {{listener}} {{limit}}"}}},
				{title: "Keys with a bucket", unit: "short", queries: []query{
					{"sum by (instance, limit) (" + of("larboard_limit_keys", "") + ")", "{{instance}} {{limit}}"}}},
				{title: "Buckets given up", unit: "ops", about: "Because there were too many: their keys begin anew.", queries: []query{
					{"sum by (instance, limit) (" + rate("larboard_limit_evicted_total", "") + ")", "{{instance}} {{limit}}"}}},
			}},
			{"Rate limit service", []graph{
				{title: "Questions", unit: "reqps", about: "By what it said, or that it did not.", queries: []query{
					{"sum by (instance, result) (" + rate("larboard_quota_requests_total", "") + ")", "{{instance}} {{result}}"}}},
			}},
			{"Telemetry", []graph{
				{title: "Access log lines lost", unit: "ops", queries: []query{{rate("larboard_access_log_dropped_total", ""), "{{instance}}"}}},
				{title: "Access log lines", unit: "ops", queries: []query{
					{"sum by (log, result) (" + rate("larboard_access_log_lines_total", "") + ")", "{{log}} {{result}}"}}},
				{title: "Spans", unit: "ops", about: "Of sampled exchanges, by whether the collector took them.", queries: []query{
					{"sum by (instance, result) (" + rate("larboard_spans_total", "") + ")", "{{instance}} {{result}}"}}},
				{title: "Metrics sent by OTLP", unit: "ops", queries: []query{
					{"sum by (instance, result) (" + rate("larboard_metric_exports_total", "") + ")", "{{instance}} {{result}}"}}},
				{title: "Series, the ten largest metrics", unit: "short", queries: []query{
					{"topk(10, max by (metric) (" + of("larboard_series", "") + "))", "{{metric}}"}}},
				{title: "Label sets without room", unit: "ops", about: "What is over metrics.series and counted as other.", queries: []query{
					{"sum by (instance, metric) (" + rate("larboard_series_overflow_total", "") + ")", "{{instance}} {{metric}}"}}},
			}},
		}}
}
