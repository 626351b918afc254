package config

import (
	"reflect"

	"github.com/larboard-proxy/larboard/observability/accesslog/template"
)

// The rules of the schema that no type of a field tells. They follow the validator;
// schema_test.go holds the two together.

const (
	octet     = `(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])`
	ipv4      = octet + `(\.` + octet + `){3}`
	ipv6      = `\[[0-9A-Fa-f:.]+(%[^\]]+)?\]`
	someport  = `0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])`
	anyport   = `(` + someport + `|0+)`
	block     = `^(unix|` + ipv4 + `(/([0-9]|[12][0-9]|3[0-2]))?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))?)$`
	unixURL   = `unix:///.*[^/]`
	listenAt  = `^(` + unixURL + `|(` + ipv4 + `|` + ipv6 + `):` + anyport + `)$`
	captured  = `^(@consul|\*:` + someport + `|[^@*]+)$`
	callAt    = `^(` + unixURL + `|(` + ipv4 + `|` + ipv6 + `):` + someport + `)$`
	domain    = `[a-z0-9._-]+`
	segments  = `(/[A-Za-z0-9._-]+)`
	spiffeURL = `spiffe://` + domain
	unit      = `(ns|us|µs|μs|ms|s|m|h)`
	share     = `^\+?(` + number + ` *%|0(\.[0-9]*)?|1(\.0*)?|\.[0-9]+)$`
	number    = `([0-9]+(\.[0-9]*)?|\.[0-9]+)`
)

func pattern(p string) object { return object{"type": "string", "pattern": p} }

// textLike is a text that may look like something else: the decoder takes it as it is written.
func textLike(p string) object {
	return object{"type": []any{"string", "number", "boolean"}, "minLength": 1, "pattern": p}
}

func words(all ...any) object { return object{"enum": all} }

func anyOf(words []string) (all []any) {
	for _, w := range words {
		all = append(all, w)
	}
	return all
}

func whole(low, high int) object { return object{"type": "integer", "minimum": low, "maximum": high} }

func required(names ...any) object { return object{"required": names} }

func not(o object) object { return object{"not": o} }

func all(rules ...any) object { return object{"allOf": rules} }

// exactlyOne is a mapping with one of the fields.
func exactlyOne(names ...any) object {
	var forms []any
	for _, name := range names {
		forms = append(forms, required(name))
	}
	return object{"oneOf": forms}
}

func given(name string, value object) object {
	return object{"required": []any{name}, "properties": object{name: value}}
}

func when(condition, then, otherwise object) object {
	out := object{"if": condition, "then": then}
	if otherwise != nil {
		out["else"] = otherwise
	}
	return out
}

// loneOrList is a list of at least so many, or a lone element of it.
func loneOrList(one object, least int) object {
	return object{"anyOf": []any{one, list(one, least)}}
}

func grpcWords() (all []any) {
	for _, s := range grpcStatuses {
		all = append(all, s)
	}
	return all
}

func ref(name string) object { return object{"$ref": "#/definitions/" + name} }

func list(of object, least int) object {
	return object{"type": "array", "items": of, "minItems": least}
}

// commonDefinitions are used by many fields.
var commonDefinitions = object{
	// The decoder takes every scalar for a text as it is written: a tag 1.10 stays 1.10.
	"text": object{"type": []any{"string", "number", "boolean"}, "minLength": 1},
	"name": object{"type": []any{"string", "number", "boolean"}, "minimum": 0, "maxLength": maxName, "pattern": `^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$`},
	"duration": object{
		"description": "a number and its unit: 250ms, 2s, 1m30s; or 0",
		"type":        []any{"string", "integer"}, "minimum": 0, "maximum": 0,
		"pattern": `^\+?(0|(` + number + unit + `)+)$`,
	},
	"failure": words(FailServer, FailGateway, FailLocal, FailTimeout),
	"size": object{
		"description": "bytes, or with a unit: 8192, 64KiB, 1MiB",
		"type":        []any{"string", "integer"}, "minimum": 0,
		"pattern": `^\+?[0-9]+( *(B|KiB|MiB|GiB))?$`,
	},
	"status": object{"type": []any{"string", "integer"}, "minimum": 100, "maximum": 599, "pattern": `^ *[1-5][0-9]{2} *(- *[1-5][0-9]{2} *)?$`},
	"call": object{
		"type": "string", "pattern": callAt, "not": object{"type": "string", "pattern": `^(0\.0\.0\.0|\[::\]):`},
	},
	"listen":      pattern(listenAt),
	"socketMode":  object{"type": []any{"string", "integer"}, "minimum": 0, "maximum": 777, "pattern": `^0?[0-7]{1,3}$`},
	"spiffeID":    pattern(`^` + spiffeURL + segments + `+$`),
	"idPattern":   pattern(`^` + spiffeURL + `(` + segments + `+(/\*)?|/\*)$`),
	"callers":     list(pattern(`^(\*|(`+spiffeURL+`)?(`+segments+`+(/\*)?|/\*))$`), 1),
	"trustDomain": object{"type": []any{"string", "number", "boolean"}, "pattern": `^` + domain + `$`},
}

// typeRules are the schemas of types that read their own text, or that are a choice of words.
var typeRules = map[reflect.Type]object{
	reflect.TypeFor[Duration]():     ref("duration"),
	reflect.TypeFor[Size]():         ref("size"),
	reflect.TypeFor[SocketMode]():   ref("socketMode"),
	reflect.TypeFor[IDPattern]():    ref("idPattern"),
	reflect.TypeFor[Protocol]():     words("http", "tcp", "auto"),
	reflect.TypeFor[Block]():        pattern(block),
	reflect.TypeFor[ProxyVersion](): words("v1", "v2"),
	reflect.TypeFor[Direction]():    words("inbound", "outbound"),
	reflect.TypeFor[Balance]():      words("round_robin", "random", "p2c"),
	reflect.TypeFor[OnEmpty]():      words("confirm", "keep", "accept"),
	reflect.TypeFor[RetryCauses]():  loneOrList(words("connect_failure", "refused_stream", "reset", "timeout", "5xx", "gateway_error"), 1),
	reflect.TypeFor[GRPCStatuses](): loneOrList(object{"enum": grpcWords()}, 0),
	reflect.TypeFor[TraceFormat]():  words("w3c", "b3", "b3multi"),
	reflect.TypeFor[TraceTrust]():   words("mesh", "all"),
	reflect.TypeFor[Share](): {
		"type": []any{"string", "number"}, "minimum": 0, "maximum": 1, "pattern": share,
	},
	reflect.TypeFor[TraceFormats](): {
		"anyOf": []any{words("w3c", "b3", "b3multi"), object{"type": "array", "items": words("w3c", "b3", "b3multi"), "minItems": 1, "uniqueItems": true}},
	},
	reflect.TypeFor[StatusRanges](): {
		"anyOf": []any{ref("status"), list(ref("status"), 1)},
	},
	reflect.TypeFor[Failures](): {
		"anyOf": []any{ref("failure"), object{"type": "array", "items": ref("failure"), "minItems": 1, "uniqueItems": true}},
	},
	reflect.TypeFor[Addresses](): {
		"type": []any{"string", "array"}, "pattern": listenAt, "items": ref("listen"), "minItems": 1,
	},
	reflect.TypeFor[Captures](): loneOrList(textLike(captured), 1),
	reflect.TypeFor[Unknown]():  words("pass", "refuse"),
	reflect.TypeFor[AccessLogs](): {
		"anyOf": []any{ref("AccessLog"), object{"type": "null"},
			object{"type": "array", "items": object{"anyOf": []any{ref("AccessLog"), object{"type": "null"}}}}},
	},
	reflect.TypeFor[LogTemplate](): {"type": []any{"string", "number", "boolean"}, "minLength": 1, "maxLength": template.MaxLength},
	reflect.TypeFor[Rate]():        pattern(rate),
	reflect.TypeFor[Descriptor](): {
		"anyOf": []any{ref("DescriptorEntry"), list(ref("DescriptorEntry"), 1)},
	},
	reflect.TypeFor[Discovery](): {
		"anyOf": []any{ref("DiscoverySource"), object{"type": "array", "items": ref("DiscoverySource"), "minItems": 1, "maxItems": maxSources}},
	},
}

// structRules say which fields go together.
var structRules = map[string]object{
	"Config": all(
		not(required("identity", "identities")),
		when(not(given("capture", object{"type": "object", "required": []any{"outbound"}})), object{"properties": object{
			"upstreams": bound, "workloads": object{"items": object{"properties": object{"upstreams": bound}}}}}, nil),
		when(not(required("tracing")), object{"properties": object{"listeners": object{"items": not(required("trust_traces"))}}}, nil),
		not(required("workload", "workloads")),
		when(given("workloads", object{"type": "array", "minItems": 1}), not(required("upstreams")), nil),
		when(object{"anyOf": []any{required("workload"), given("workloads", object{"type": "array", "minItems": 1})}},
			object{"anyOf": []any{required("identity"), required("identities")}}, nil),
	),
	"Listener": {"required": []any{"name"}, "anyOf": []any{required("address"), required("captures")}, "allOf": []any{
		not(required("allow", "intentions")),
		when(required("register"), given("register", object{"type": "object", "required": []any{"service"}}), nil),
		when(object{"anyOf": []any{required("allow"), required("intentions")}}, given("tls", required("spiffe")), nil),
		when(given("protocol", object{"const": "tcp"}),
			object{"required": []any{"service"}, "not": required("routes"), "properties": object{"allow_connect": object{"const": false}}, "allOf": []any{not(required("reason_header")), not(required("trust_traces"))}},
			when(given("protocol", object{"const": "auto"}), required("service"), exactlyOne("service", "routes"))),
		detectRule,
	}},
	"ProxyProtocol": required("from"),
	"Register": {"type": []any{"object", "boolean"}, "not": object{"const": false}, "allOf": []any{
		when(object{"type": "object"}, when(given("through", object{"const": "catalog"}), all(not(required("check")), not(required("adopt"))), not(required("node"))), nil),
	}},
	"RegisterCheck":   {"oneOf": []any{given("tcp", object{"const": true}), required("http")}},
	"ListenerTLS":     exactlyOne("certificates", "spiffe"),
	"Certificate":     required("cert", "key"),
	"Intentions":      required("service"),
	"Probes":          required("address"),
	"Probe":           {"required": []any{"path"}, "oneOf": []any{required("http"), required("tcp"), required("grpc")}},
	"HTTPProbe":       required("port"),
	"TCPProbe":        required("port"),
	"GRPCProbe":       required("port"),
	"Route":           required("service"),
	"Match":           not(required("path", "path_prefix")),
	"Service":         {"required": []any{"name"}, "anyOf": []any{required("endpoints"), required("discovery")}},
	"Endpoint":        required("address"),
	"DiscoverySource": exactlyOne("consul", "dns", "file"),
	"DNSDiscovery": {"required": []any{"name"}, "allOf": []any{
		when(given("type", object{"const": "srv"}), object{"properties": object{"port": object{"const": 0}}},
			given("port", object{"minimum": 1})),
	}},
	"FileDiscovery": required("path"),
	"Health":        exactlyOne("tcp", "http", "grpc"),
	"ServiceTLS":    required("spiffe"),
	"Consul":        not(required("token", "token_file")),
	"OTLP":          required("endpoint"),
	"Tracing":       required("otlp"),
	"ClientTLS":     {"dependencies": object{"cert": []any{"key"}, "key": []any{"cert"}}},
	"AccessLog":     {"allOf": []any{when(object{"type": "object"}, not(required("format", "template")), nil), when(object{"type": "object"}, not(required("path", "syslog")), nil), when(required("escape"), required("template"), nil)}},
	"CapturedField": required("name"),
	"Syslog": {"required": []any{"address"}, "allOf": []any{
		when(all(object{"type": "object"}, given("address", object{"pattern": "^udp:"})), not(required("framing")), nil)}},
	"LogSample":      {"type": []any{"object", "string", "number"}, "minimum": 0, "exclusiveMinimum": 0, "maximum": 1, "pattern": share},
	"Identity":       exactlyOne("spiffe", "consul", "files", "dev"),
	"SPIFFEIdentity": not(required("id", "hint")),
	"FilesIdentity":  required("cert", "key", "bundle"),

	"RateLimit": {"oneOf": []any{required("rate"), required("shared")},
		"dependencies": object{"shared": object{"not": required("by"), "properties": object{"burst": object{"const": 0}, "keys": object{"const": 0}}}}},
	"LimitBy":     {"type": []any{"object", "string"}, "pattern": `^(all|source|identity)$`, "minProperties": 1, "maxProperties": 1},
	"SharedLimit": required("descriptors"),
	"DescriptorEntry": {"required": []any{"key"}, "maxProperties": 2, "if": object{"type": "object", "maxProperties": 1},
		"then": object{"properties": object{"key": descriptorSource}}},
	"ConnectionRate":   required("rate"),
	"RateLimitService": required("address"),

	"Workload": {"required": []any{"service", "address", "listen"}, "allOf": []any{
		when(given("intentions", object{"const": true}), not(required("allow")), nil),
		detectRule,
	}},
	"Upstream":          {"required": []any{"service"}, "allOf": []any{detectRule}},
	"InterceptOutbound": {"type": []any{"object", "boolean"}, "not": object{"const": false}},
	"InterceptInbound":  {"type": []any{"object", "boolean"}, "not": object{"const": false}},
}

// bound are the upstreams of a proxy that captures nothing.
var bound = object{"items": all(required("bind"), not(required("captures")))}

// detectRule: how to find out is asked of protocol auto only.
var detectRule = when(required("detect"), given("protocol", object{"const": "auto"}), nil)

// fieldRules stand in place of what the field's type tells.
var fieldRules = map[string]object{
	"Config.version":              {"const": 1},
	"Config.engine":               words(EngineEvents, EngineGoroutines),
	"Config.loops":                whole(0, 1024),
	"Config.decisions":            whole(0, maxDecisions),
	"Config.cpus":                 {"type": []any{"array", "null"}, "items": whole(0, maxCPU), "uniqueItems": true},
	"Config.workload":             all(ref("Workload"), not(object{"anyOf": []any{required("name"), required("upstreams")}})),
	"Admin.address":               pattern(`^(127(\.` + octet + `){3}|` + ipv6 + `):` + anyport + `$`),
	"Admin.socket":                {"allOf": []any{ref("text"), not(object{"type": "string", "pattern": "://"})}},
	"Metrics.series":              whole(minSeries, maxSeries),
	"Tracing.attributes":          {"type": []any{"object", "null"}, "propertyNames": not(object{"const": "service.name"}), "additionalProperties": ref("text")},
	"OTLP.endpoint":               pattern(`^(https?://[^/@?#]+:` + someport + `(/[^@?#]*)?|grpcs?://[^/@?#]+:` + someport + `/?)$`),
	"OTLP.headers":                {"type": []any{"object", "null"}, "propertyNames": object{"pattern": `^[A-Za-z0-9_.-]+$`}, "additionalProperties": ref("text")},
	"Drain.outbound":              words(UntilWorkload, UntilInbound),
	"Probes.address":              pattern(`^(` + ipv4 + `|` + ipv6 + `):` + anyport + `$`),
	"Probes.checks":               {"type": []any{"array", "null"}, "items": ref("Probe"), "maxItems": maxChecks},
	"Probe.path":                  all(pattern(urlPath), not(object{"enum": []any{ReadyPath, LivePath}})),
	"HTTPProbe.port":              whole(1, 65535),
	"HTTPProbe.path":              pattern(`^/[!-"$->@-~]*(\?.*)?$`),
	"HTTPProbe.scheme":            words(SchemeHTTP, SchemeHTTPS),
	"HTTPProbe.headers":           {"type": []any{"object", "null"}, "propertyNames": object{"pattern": `^[A-Za-z0-9_.-]+$`}, "additionalProperties": ref("text")},
	"TCPProbe.port":               whole(1, 65535),
	"GRPCProbe.port":              whole(1, 65535),
	"GRPCProbe.service":           all(ref("text"), object{"pattern": `^[!-~]*$`}),
	"Log.level":                   words("debug", "info", "warn", "error"),
	"Log.format":                  words(FormatText, FormatJSON),
	"AccessLog.name":              ref("name"),
	"AccessLog.format":            words(anyOf(template.PresetNames())...),
	"AccessLog.escape":            words(anyOf(template.Escapes())...),
	"Syslog.address":              pattern(`^(unix:///.*[^/]|(udp|tcp)://[^/]+:` + someport + `)$`),
	"Syslog.format":               words(SyslogRFC5424, SyslogRFC3164),
	"Syslog.facility":             words(anyOf(syslogFacilities[:])...),
	"Syslog.level":                words(anyOf(syslogLevels[:])...),
	"Syslog.error_level":          words(anyOf(syslogLevels[:])...),
	"Syslog.tag":                  textLike("^[!-~]{1,48}$"),
	"Syslog.host":                 textLike("^[!-~]{1,255}$"),
	"Syslog.framing":              words(FramingOctets, FramingLines),
	"LogConditions.reasons":       {"type": []any{"array", "null"}, "items": words(anyOf(reasonCodes())...)},
	"LogConditions.skip_paths":    {"type": []any{"array", "null"}, "items": textLike("^(/[^*?#]*)?[*]?$")},
	"LogConditions.skip_agents":   {"type": []any{"array", "null"}, "items": textLike("^[^*]*[*]?$")},
	"LogSample.by":                words(SampleByTrace, SampleByChance),
	"CapturedField.name":          textLike("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"),
	"CapturedField.length":        whole(1, template.MaxFieldLength),
	"Limits.connections":          whole(0, MaxConnections),
	"Limits.accept_burst":         whole(1, 10000),
	"Limits.fields":               whole(1, 10000),
	"Limits.handshakes":           whole(0, 1024),
	"RateLimitFields.answers":     pattern(`^(denied|always|never)$`),
	"RateLimitFields.form":        words(RateLimitForm, TrioForm, XRateLimitForm),
	"RateLimitService.address":    pattern(`^(unix:///.+|[^/@?#]+:` + someport + `)$`),
	"RateLimitService.on_failure": words(QuotaAllow, QuotaDeny),
	"RateLimitService.calls":      whole(1, maxCalls),
	"RateLimit.name":              ref("name"),
	"RateLimit.burst":             whole(0, maxBurst),
	"RateLimit.keys":              whole(0, maxLimitKeys),
	"ConnectionRate.burst":        whole(0, maxBurst),
	"ConnectionRate.keys":         whole(0, maxLimitKeys),
	"ConnectionRate.by":           all(ref("LimitBy"), not(object{"anyOf": []any{object{"const": "identity"}, object{"type": "object", "anyOf": []any{required("identity"), required("header"), required("query")}}}})),
	"LimitBySource.v4":            whole(0, 32),
	"LimitBySource.v6":            whole(0, 128),
	"LimitBy.header":              all(ref("text"), object{"pattern": fieldName}),
	"SharedLimit.descriptors":     {"type": "array", "items": typeRules[reflect.TypeFor[Descriptor]()], "minItems": 1},
	"SharedLimit.hits":            whole(1, 1_000_000),
	"DescriptorEntry.from":        descriptorSource,
	"DescriptorEntry.header":      all(ref("text"), object{"pattern": fieldName}),
	"Listener.name":               ref("name"),
	"HTTP2Settings.max_streams":   whole(1, maxStreams),
	"ListenerHTTP2.max_streams":   whole(1, maxStreams),
	"Listener.max_connections":    whole(0, MaxConnections),
	"Listener.allow":              ref("callers"),
	"ListenerTLS.certificates":    list(ref("Certificate"), 1),
	"Listener.routes":             list(ref("Route"), 1),
	"ProxyProtocol.from":          list(pattern(block), 1),
	"Intentions.service":          ref("name"),
	"Register.id":                 ref("name"),
	"Register.node":               ref("name"),
	"Register.through":            words("agent", "catalog"),
	"Register.local":              ref("call"),
	"Register.weight":             whole(1, 65535),
	"RegisterCheck.http":          pattern(`^/`),
	"Match.path":                  pattern(urlPath),
	"Match.path_prefix":           pattern(urlPath),
	"Service.name":                ref("name"),
	"Service.max_connections":     whole(0, MaxConnections),
	"Retries.attempts":            whole(1, maxAttempts),
	"Retries.statuses":            loneOrList(object{"type": []any{"string", "integer"}, "minimum": 400, "maximum": 599, "pattern": `^ *[45][0-9]{2} *(- *[45][0-9]{2} *)?$`}, 0),
	"RetryBudget.percent":         whole(0, maxPercent),
	"RetryBudget.min":             whole(0, maxRetryFloor),
	"Endpoint.address":            ref("call"),
	"Endpoint.weight":             whole(0, 65535),
	"Endpoint.spiffe_id":          ref("spiffeID"),
	"DNSDiscovery.type":           words(DNSA, DNSAAAA, DNSSRV),
	"DNSDiscovery.port":           whole(0, 65535),
	"Breaker.failures":            whole(1, maxFailures),
	"Breaker.probes":              whole(1, 1000),
	"Ejection.consecutive":        whole(0, maxFailures),
	"Ejection.max_percent":        whole(0, 99),
	"SuccessRate.requests":        whole(0, maxFailures),
	"SuccessRate.endpoints":       whole(2, maxFailures),
	"SuccessRate.deviation":       {"type": "number", "minimum": 0, "maximum": 10},
	"SuccessRate.margin":          {"type": "number", "minimum": 0, "maximum": 100},
	"Health.rise":                 whole(1, 1000),
	"Health.fall":                 whole(1, 1000),
	"Health.jitter":               {"type": "number", "minimum": 0, "maximum": 1},
	"HTTPCheck.method":            words("GET", "HEAD", "OPTIONS", "POST", "PUT"),
	"HTTPCheck.path":              pattern(`^/[!-"$->@-~]*(\?.*)?$`),
	"GRPCCheck.service":           all(ref("text"), object{"pattern": `^[!-~]*$`}),
	"ServiceSPIFFE.service":       ref("name"),
	"ServiceSPIFFE.trust_domains": {"type": []any{"array", "null"}, "items": ref("trustDomain")},
	"Consul.address":              pattern(`^(unix:///.*|(https?://)?[^/@?#]+:` + someport + `/?)$`),
	"SPIFFEIdentity.socket":       pattern(`^(unix:///.*|tcp://.+)$`),
	"SPIFFEIdentity.id":           ref("spiffeID"),
	"ConsulIdentity.service":      ref("name"),
	"FilesIdentity.bundles":       {"type": []any{"object", "null"}, "propertyNames": ref("trustDomain"), "additionalProperties": ref("text")},
	"DevIdentity.trust_domain":    ref("trustDomain"),
	"DevIdentity.id":              ref("spiffeID"),
	"DevIdentity.socket":          {"allOf": []any{ref("text"), not(object{"type": "string", "pattern": "://"})}},
	"Workload.name":               ref("name"),
	"Workload.service":            ref("name"),
	"Workload.address":            ref("call"),
	"Workload.listen":             ref("listen"),
	"Workload.allow":              ref("callers"),
	"Upstream.service":            ref("name"),
	"Upstream.bind":               ref("listen"),
}

// descriptorSource is what a descriptor's value may come from.
var descriptorSource = words("path", "method", "authority", "source", "identity", "listener", "route", "service")

const (
	rate      = `^ *[0-9]+ */ *([smhd]|` + number + unit + `) *$`
	fieldName = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
)

// urlPath is a path without a query, of characters that a request target may hold.
const urlPath = `^/[!-"$->@-~]*$`
