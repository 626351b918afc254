package main

// scenario is one line of the table. Exactly one of the three shapes applies:
// CPU under load (the zero of the other two), idle memory, latency.
type scenario struct {
	name   string
	about  string
	target float64 // the ratio to HAProxy that must not be exceeded
	spec   loadSpec
	idle   int  // connections held
	tail   bool // p99 at half of saturation
	buffer int  // of HAProxy, 0: its default
}

const (
	smallBody = 128
	largeBody = 16 << 10
	message   = 64 // of the TCP ping-pong
)

// scenarios is the list; names are stable, since -run and trend lines use them.
var scenarios = []scenario{
	{name: "http-64", about: "HTTP/1.1 keep-alive, 128 B, 64 connections", target: 0.85,
		spec: loadSpec{HTTP: true, Size: smallBody, Conns: 64}},
	{name: "http-512", about: "HTTP/1.1 keep-alive, 128 B, 512 connections", target: 0.85,
		spec: loadSpec{HTTP: true, Size: smallBody, Conns: 512}},
	{name: "http-16k", about: "HTTP/1.1 keep-alive, 16 KiB, 64 connections", target: 0.85,
		spec: loadSpec{HTTP: true, Size: largeBody, Conns: 64}, buffer: 2 * largeBody},
	{name: "http-new", about: "HTTP/1.1, a connection for each request, 64 at a time", target: 1.0,
		spec: loadSpec{HTTP: true, Size: smallBody, Conns: 64, NewConn: true}},
	{name: "https-64", about: "HTTPS keep-alive (TLS 1.3, P-256), 128 B, 64 connections", target: 0.75,
		spec: loadSpec{HTTP: true, Size: smallBody, Conns: 64, CA: "set"}},
	{name: "tcp-small", about: "TCP ping-pong, 64 B, 64 connections", target: 1.05,
		spec: loadSpec{Size: message, Conns: 64}},
	{name: "idle-plain", about: "memory of an idle keep-alive connection", target: 0.35, idle: 10000,
		spec: loadSpec{HTTP: true, Size: smallBody}},
	{name: "idle-tls", about: "memory of an idle TLS keep-alive connection", target: 0.7, idle: 4000,
		spec: loadSpec{HTTP: true, Size: smallBody, CA: "set"}},
	{name: "p99-half", about: "p99 at half of saturation, HTTP/1.1, 64 connections, open loop", target: 1.15, tail: true,
		spec: loadSpec{HTTP: true, Size: smallBody, Conns: 64}},
}

// unit is what a scenario's values are in.
func (s scenario) unit() string {
	switch {
	case s.idle > 0:
		return "B/conn"
	case s.tail:
		return "us p99"
	}
	return "us/req"
}
