//go:build linux

package main

import "fmt"

// kind is what is measured of a scenario.
type kind uint8

const (
	cpuEach     kind = iota // CPU of the proxy for each request
	idleMemory              // memory of an idle connection
	tailLatency             // p99 at half of saturation
	bulkCPU                 // CPU of the proxy for each GiB
	bulkTime                // wall time for each GiB
	addedDelay              // latency through the proxies less latency without them
	residentSet             // resident memory of the largest process, under load
	propagation             // from a change in Consul to the first request it lets through
)

// unit is what the values are in.
func (k kind) unit() string {
	return [...]string{"us/req", "B/conn", "us p99", "s/GiB", "s/GiB", "us", "MB", "ms p99"}[k]
}

// scenario is one line of the table.
type scenario struct {
	name  string
	about string
	kind  kind
	// against and with name the two sides (see contenders); empty: haproxy, larboard.
	against, with string
	target        float64 // the ratio to the reference that must not be exceeded; 0: none, for orientation
	limit         float64 // what our own value must not exceed, in the unit; 0: none
	spec          loadSpec
	idle          int     // connections held
	quantile      float64 // of an added delay
	buffer        int     // of HAProxy, 0: its default
	down          bool    // HTTP/2 in, HTTP/1.1 to the origin
	noTickets     bool    // HAProxy issues no session tickets, as Larboard never does in a mesh
}

const (
	smallBody = 128
	largeBody = 16 << 10
	message   = 64 // of the TCP ping-pong

	h2Conns = 8

	// pairConns and pairRate are the load of two sidecars in a row.
	pairConns = 8
	pairRate  = 1000
)

// scenarios is the list; names are stable, since -run and trend lines use them.
var scenarios = append([]scenario{
	{name: "http-64", about: "HTTP/1.1 keep-alive, 128 B, 64 connections", target: 0.85,
		spec: loadSpec{HTTP: true, Size: smallBody, Conns: 64}},
	{name: "http-512", about: "HTTP/1.1 keep-alive, 128 B, 512 connections", target: 0.85,
		spec: loadSpec{HTTP: true, Size: smallBody, Conns: 512}},
	{name: "http-16k", about: "HTTP/1.1 keep-alive, 16 KiB, 64 connections", target: 0.85,
		spec: loadSpec{HTTP: true, Size: largeBody, Conns: 64}, buffer: 2 * largeBody},
	{name: "http-new", about: "HTTP/1.1, a connection for each request, 64 at a time", target: 1.0,
		spec: loadSpec{HTTP: true, Size: smallBody, Conns: 64, NewConn: true}},
	{name: "https-64", about: "HTTPS keep-alive (TLS 1.3, P-256), 128 B, 64 connections", target: 0.75,
		spec: loadSpec{HTTP: true, Size: smallBody, Conns: 64, TLS: serverTLS}},
	{name: "tls-new", about: "a full TLS 1.3 handshake (P-256) and one request", target: 0.75,
		spec: loadSpec{HTTP: true, Size: smallBody, Conns: 1, NewConn: true, TLS: serverTLS}},
	{name: "mtls-new", about: "a full TLS 1.3 handshake with client certificate and one request", target: 0.45,
		spec: loadSpec{HTTP: true, Size: smallBody, Conns: 1, NewConn: true, TLS: mutualTLS}},
	{name: "mtls-bare", about: "the same, and HAProxy spares itself session tickets", target: 0.60, noTickets: true,
		spec: loadSpec{HTTP: true, Size: smallBody, Conns: 1, NewConn: true, TLS: mutualTLS}},
	{name: "tcp-small", about: "TCP ping-pong, 64 B, 64 connections", target: 1.05,
		spec: loadSpec{Size: message, Conns: 64}},
	{name: "tcp-new", about: "TCP, a connection for each message of 64 B, 64 at a time", target: 1.05,
		spec: loadSpec{Size: message, Conns: 64, NewConn: true}},
	{name: "bulk-time", about: "TCP bulk, 4 connections, wall time, against automatic splicing", target: 1.0,
		kind: bulkTime, against: "haproxy-auto", spec: loadSpec{Bulk: true, Conns: 4}},
	{name: "bulk-cpu", about: "TCP bulk, 4 connections, CPU, against forced splicing", target: 1.3,
		kind: bulkCPU, against: "haproxy-forced", spec: loadSpec{Bulk: true, Conns: 4}},
	{name: "idle-plain", about: "memory of an idle keep-alive connection", target: 0.35, kind: idleMemory, idle: 9000, // two descriptors are kept for each, of 20,000
		spec: loadSpec{HTTP: true, Size: smallBody}},
	{name: "idle-tls", about: "memory of an idle TLS keep-alive connection", target: 0.7, kind: idleMemory, idle: 4000,
		spec: loadSpec{HTTP: true, Size: smallBody, TLS: serverTLS}},
	{name: "p99-half", about: "p99 at half of saturation, HTTP/1.1, 64 connections, open loop", target: 1.15, kind: tailLatency,
		spec: loadSpec{HTTP: true, Size: smallBody, Conns: 64}},
	{name: "full", about: "http-64 with retries, breaker, limit, 1 % traces and JSON log, against the plain path", target: 1.15,
		against: "larboard", with: "larboard-full", spec: loadSpec{HTTP: true, Size: smallBody, Conns: 64}},
	{name: "full-haproxy", about: "the same, against HAProxy with option httplog to a syslog socket", target: 0.9,
		against: "haproxy-httplog", with: "larboard-full", spec: loadSpec{HTTP: true, Size: smallBody, Conns: 64}},
	{name: "full-broken", about: "p99 with the collector away, the disk full and syslog hanging, against working ones", target: 1.15, kind: tailLatency,
		against: "larboard-full", with: "larboard-broken", spec: loadSpec{HTTP: true, Size: smallBody, Conns: 64}},
}, append(append(overHTTP2(), pairs()...), scenario{
	name: "propagation", about: "from registering an instance in Consul to the first request it answers, beside a bare blocking query",
	kind: propagation, against: "query", with: "larboard-consul", limit: 100, spec: loadSpec{HTTP: true, Size: smallBody},
})...)

// overHTTP2 are the scenarios of HTTP/2 and gRPC, each against HAProxy and, for
// orientation, against net/http.
func overHTTP2() []scenario {
	few := loadSpec{HTTP: true, Size: smallBody, Conns: h2Conns, Streams: 8}
	many, large, unary, secure := few, few, few, few
	many.Streams, large.Size, unary.GRPC, secure.TLS = 64, largeBody, true, serverTLS
	all := []scenario{
		{name: "h2-64", about: "HTTP/2 in plain text on both sides, 128 B, 8 connections of 8 streams", spec: few},
		{name: "h2-512", about: "HTTP/2 in plain text on both sides, 128 B, 8 connections of 64 streams", spec: many},
		{name: "h2-16k", about: "HTTP/2 in plain text on both sides, 16 KiB, 8 connections of 8 streams", spec: large, buffer: 4 * largeBody},
		{name: "grpc-64", about: "gRPC, unary calls of 64 B answered with 128 B, 8 connections of 8 streams", spec: unary},
		{name: "h2-http1", about: "HTTP/2 in, HTTP/1.1 to the origin, 128 B, 8 connections of 8 streams", spec: few, down: true},
		{name: "h2-tls", about: "HTTP/2 over TLS in, HTTP/1.1 to the origin, 128 B, 8 connections of 8 streams", spec: secure},
		{name: "idle-h2", about: "memory of an idle HTTP/2 connection", kind: idleMemory, idle: 2000,
			spec: loadSpec{HTTP: true, Size: smallBody, Streams: 1}},
	}
	for _, s := range all {
		s.name, s.against = s.name+"-go", "net-http"
		all = append(all, s)
	}
	for i := range all {
		if all[i].against == "" {
			all[i].target = 0.7
		}
	}
	return all
}

// pairs are two sidecars in a row, HTTP in front and mutual TLS between them: ours
// against HAProxy's (HTTP), and against Consul's built-in proxy and ghostunnel, which
// only carry the bytes.
func pairs() []scenario {
	closed := loadSpec{HTTP: true, Size: smallBody, Conns: pairConns}
	open := closed
	open.Rate = pairRate
	var all []scenario
	for _, other := range []struct {
		name, against string
		target        float64
	}{{"pair", "haproxy-pair", 0.75}, {"pair-consul", "consul-pair", 1.0}, {"pair-ghostunnel", "ghostunnel-pair", 1.0}} {
		all = append(all, scenario{name: other.name, about: "two sidecars in a row over mTLS, CPU of both, against " + other.against,
			against: other.against, with: "larboard-pair", target: other.target, spec: closed})
		for _, q := range []float64{0.5, 0.99} {
			all = append(all, scenario{name: fmt.Sprintf("%s-p%.0f", other.name, 100*q), kind: addedDelay, quantile: q,
				about:   fmt.Sprintf("what they add to the p%.0f at %d requests/s", 100*q, pairRate),
				against: other.against, with: "larboard-pair", target: 1.0, spec: open})
		}
	}
	return append(all, scenario{name: "sidecar-memory", about: "resident memory of the larger sidecar of a pair, under load",
		kind: residentSet, against: "consul-pair", with: "larboard-pair", limit: 32, spec: closed})
}
