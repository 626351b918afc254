package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// provocations are the ways to make the proxy answer, or refuse, that clients and endpoints
// have.
func provocations() []provocation {
	const toApp = ", service: app"
	appAt := func(address func(testing.TB) string, more string) func(testing.TB) string {
		return func(t testing.TB) string {
			return fmt.Sprintf("services: [{name: app, endpoints: [%q]%s}]\n", address(t), more)
		}
	}
	ok := func(t testing.TB) string { return origin(t, named("ok")) }
	served := appAt(ok, "")
	with := func(before string, rest func(testing.TB) string) func(testing.TB) string {
		return func(t testing.TB) string { return before + rest(t) }
	}
	var mesh *authority
	return []provocation{
		{reason: "bad_request", untraced: true, listener: toApp, rest: served, ask: sends("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")},
		{reason: "bad_host", untraced: true, listener: toApp, rest: served, ask: sends("GET / HTTP/1.1\r\n\r\n")},
		{reason: "not_http", untraced: true, listener: toApp, rest: served, ask: sends("hello\r\n\r\n"), silent: true},
		{reason: "request_line_too_long", untraced: true, listener: toApp, rest: with("limits: {request_line: 256}\n", served),
			ask: sends("GET /" + strings.Repeat("x", 300) + " HTTP/1.1\r\nHost: a\r\n\r\n")},
		{reason: "head_too_large", untraced: true, listener: toApp, rest: with("limits: {fields: 5}\n", served),
			ask: sends("GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 10) + "\r\n")},
		{reason: "request_timeout", untraced: true, listener: toApp, rest: with("timeouts: {request_head: 200ms}\n", served), ask: sends("GET / HTTP/1.1\r\nHo")},
		{reason: "method_refused", untraced: true, listener: toApp, rest: served, ask: sends("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")},
		{reason: "no_route", listener: ", routes: [{match: {host: other.test}, service: app}]", rest: served},
		{reason: "body_aborted", listener: toApp, rest: served, ask: breaksOff},
		{reason: "client_aborted", listener: toApp, rest: toHanging, ask: leaves, silent: true},
		{reason: "proxy_header", listener: toApp + ", proxy_protocol: {from: [127.0.0.1]}", rest: served, silent: true, refused: true},
		{reason: "tls_plain_text", listener: toApp + ", tls: {spiffe: {}}", rest: inMesh(served), silent: true, refused: true},
		{reason: "tunnel_idle", listener: toApp + ", protocol: auto", rest: with("timeouts: {tunnel: 200ms}\n", appAt(silent, "")), ask: sends("\x00\x01"), silent: true},

		{reason: "not_allowed", listener: toApp + `, tls: {spiffe: {}}, allow: ["/nobody"]`, rest: inThisMesh(&mesh, served), ask: asWeb(&mesh)},
		{reason: "intentions_unknown", listener: toApp + ", tls: {spiffe: {}}, intentions: app", ask: asWeb(&mesh),
			rest: func(t testing.TB) string {
				return inThisMesh(&mesh, served)(t) + "consul: {address: " + freeAddress(t) + "}\n"
			}},
		{reason: "no_identity", listener: toApp, rest: func(t testing.TB) string {
			return fmt.Sprintf("identity: {spiffe: {socket: %q}}\n", "unix://"+filepath.Join(shortDir(t), "none")) + appAt(ok, ", tls: {spiffe: {}}")(t)
		}},

		{reason: "no_endpoints", listener: toApp, rest: func(t testing.TB) string {
			return fmt.Sprintf("services: [{name: app, discovery: {file: %q}}]\n", writeFile(t, shortDir(t), "list.yaml", "endpoints: []\n"))
		}},
		{reason: "no_healthy_endpoint", listener: toApp, rest: appAt(freeAddressOf, ", health: {tcp: {}, interval: 50ms, fall: 1}"),
			before: func(t testing.TB, p *larboard) {
				eventually(t, patience, "the endpoint is down", func() error {
					if _, body, err := p.get("/api/v1/endpoints"); err != nil || !strings.Contains(body, `"state": "down"`) {
						return fmt.Errorf("%v %s", err, body)
					}
					return nil
				})
			}},
		{reason: "endpoint_limit", listener: toApp, rest: appAt(unanswering, ", max_connections: 1"), before: func(t testing.TB, p *larboard) {
			if _, err := io.WriteString(dial(t, p.address("told")), plainGet); err != nil {
				t.Fatal(err)
			}
			arrives(t, p)
		}},
		{reason: "connect_failed", listener: toApp, rest: appAt(freeAddressOf, "")},
		{reason: "connect_timeout", listener: toApp, rest: inMesh(appAt(silent, ", tls: {spiffe: {}}, timeouts: {connect: 200ms}"))},
		{reason: "upstream_tls", listener: toApp, rest: inMesh(appAt(ok, ", tls: {spiffe: {}}"))},
		{reason: "upstream_tls_identity", listener: toApp, rest: inMesh(appAt(func(t testing.TB) string {
			return meshServer(t, serverConfig(newAuthority(t, "other.test").svid("app")), named("other"))
		}, ", tls: {spiffe: {}}"))},
		{reason: "upstream_reset", listener: toApp, rest: appAt(answering("", true), "")},
		{reason: "upstream_closed", listener: toApp, rest: appAt(answering("", false), "")},
		{reason: "upstream_protocol", listener: toApp, rest: appAt(answering("HTTP/1.1 what\r\n\r\n", false), "")},
		{reason: "upstream_truncated", listener: toApp, rest: appAt(answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun", false), ""), late: true},
		{reason: "upstream_timeout", listener: toApp, rest: appAt(unanswering, ", timeouts: {response_head: 200ms}")},
		{reason: "upstream_refused", listener: toApp, rest: appAt(refusing, ", protocol: http2")},
		{reason: "request_deadline", listener: toApp, rest: appAt(unanswering, ", timeouts: {request: 200ms}")},
		{reason: "try_timeout", listener: toApp, rest: appAt(unanswering, ", retries: {attempts: 2, per_try_timeout: 100ms}")},
		{reason: "breaker_open", listener: toApp, rest: appAt(freeAddressOf, ", breaker: {failures: 1, open: 1h}"), before: func(t testing.TB, p *larboard) {
			eventually(t, patience, "the breaker opens", func() error {
				if got := replyTo(t, p.address("told"), nil, plainGet); got.reason != "breaker_open" {
					return fmt.Errorf("%+v", got)
				}
				return nil
			})
		}},
		{reason: "rate_limited", listener: toApp + ", limits: [{rate: 1/h}]", rest: served, before: func(t testing.TB, p *larboard) {
			occupy(t, p.address("told"))
			occupy(t, p.address("hidden"))
		}},
		{reason: "quota_unavailable", listener: toApp + ", limits: [{name: tenants, shared: {domain: shop, descriptors: [[path]]}}]",
			rest: func(t testing.TB) string {
				return "rate_limit_service: {address: " + freeAddress(t) + ", timeout: 200ms, on_failure: deny}\n" + served(t)
			}},
		{reason: "connection_rate", listener: toApp + ", connection_rate: {rate: 1/h}", rest: served, silent: true, refused: true, before: func(t testing.TB, p *larboard) {
			occupy(t, p.address("told"))
			occupy(t, p.address("hidden"))
		}},
		{reason: "listener_limit", listener: toApp + ", max_connections: 1", rest: served, refused: true, before: func(t testing.TB, p *larboard) {
			occupy(t, p.address("told"))
			occupy(t, p.address("hidden"))
		}},
		{reason: "connection_limit", listener: toApp, rest: with("limits: {connections: 1}\n", served), refused: true, before: func(t testing.TB, p *larboard) {
			occupy(t, p.address("told"))
		}},
	}
}

// shown says where a reason is provoked that is not here, or why none can.
type shown struct{ file, test, why string }

const (
	attacks    = "tests/attack/clients_test.go"
	attackTest = "TestHostileClients"
	refusals   = "tests/e2e/identity_refusal_test.go"
	refusal    = "TestStrangersAreRefusedAndNamed"
)

var unprovoked = map[string]shown{
	"http2_protocol":           {attacks, attackTest, "the connection ends, by frames that no client sends"},
	"http2_compression":        {attacks, attackTest, "likewise"},
	"http2_flow_control":       {attacks, attackTest, "likewise"},
	"http2_rapid_reset":        {attacks, attackTest, "likewise"},
	"http2_provoked_resets":    {attacks, attackTest, "likewise"},
	"http2_continuation_flood": {attacks, attackTest, "likewise"},
	"http2_control_flood":      {attacks, attackTest, "likewise"},
	"http2_empty_frames":       {attacks, attackTest, "likewise"},
	"http2_window_flood":       {attacks, attackTest, "likewise"},
	"http2_head_bomb":          {attacks, attackTest, "likewise"},
	"http2_stream_limit":       {attacks, attackTest, "likewise"},
	"http2_stalled":            {attacks, attackTest, "likewise"},
	"http2_ping_timeout":       {"sidecar/http2/life_test.go", "TestPing", "takes as long as a PING, which is at least a second"},
	"upstream_reset_storm":     {"tests/attack/upstreams_test.go", "TestHostileEndpoints", "takes hundreds of streams"},

	"capture_loop":    {"sidecar/proxy/sim_capture_test.go", "TestSimCapture", "takes a kernel that redirects; tests/capture has one"},
	"capture_unknown": {"sidecar/proxy/sim_capture_test.go", "TestSimCapture", "likewise"},

	"tls_handshake":       {refusals, refusal, "the handshake ends, before there is a request"},
	"tls_no_certificate":  {refusals, refusal, "likewise"},
	"tls_bad_certificate": {refusals, refusal, "likewise"},
	"tls_expired":         {refusals, refusal, "likewise"},
	"tls_unknown_domain":  {refusals, refusal, "likewise"},
	"tls_several_ids":     {refusals, refusal, "likewise"},
	"tls_no_id":           {refusals, refusal, "likewise"},
	"tls_unknown_id":      {why: "a listener takes every peer of a trusted domain, and asks allow at each request"},
	"intention_denied":    {"tests/e2e/connect_manual_test.go", "TestConnectManual", "needs a Consul"},

	"no_service":    {why: "the file is refused that names a service which is not there"},
	"buffers_short": {"tests/e2e/load_memory_test.go", "TestSlowReadersMeetTheBufferLimit", "takes hundreds of clients"},
	"draining":      {"tests/e2e/reasons_test.go", "TestDrainingIsTold", "ends the process"},
	"overloaded":    {"sidecar/proxy/overload_test.go", "TestRefusedHandshakesAreCounted", "takes more handshakes than there are processors for"},
	"internal":      {"sidecar/proxy/sim_ends_test.go", "TestSimPanicEndsItsExchangeOnly", "a fault of the proxy, of which none is known"},
}

// inMesh adds the identity of app to a configuration.
func inMesh(rest func(testing.TB) string) func(testing.TB) string {
	return inThisMesh(new(*authority), rest)
}

// inThisMesh is inMesh whose authority asWeb is to know.
func inThisMesh(mesh **authority, rest func(testing.TB) string) func(testing.TB) string {
	return func(t testing.TB) string {
		*mesh = newAuthority(t, meshDomain)
		return newSVIDFiles(t, (*mesh).svid("app"), *mesh).identity() + rest(t)
	}
}

// asWeb asks as a service of the mesh.
func asWeb(mesh **authority) func(testing.TB, *larboard, string) reply {
	return func(t testing.TB, _ *larboard, address string) reply {
		return replyTo(t, address, meshClient((*mesh).svid("web")), plainGet)
	}
}

// freeAddressOf is an address where nobody is.
func freeAddressOf(t testing.TB) string { return freeAddress(t) }

// unanswering is an origin that takes requests and answers none.
func unanswering(t testing.TB) string {
	return origin(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
}

func toHanging(t testing.TB) string {
	return fmt.Sprintf("services: [{name: app, endpoints: [%q]}]\n", unanswering(t))
}

// breaksOff ends a request within its body.
func breaksOff(t testing.TB, _ *larboard, address string) reply {
	t.Helper()
	conn := dial(t, address)
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf"); err != nil {
		t.Fatal(err)
	}
	if err := conn.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	return replyOn(t, conn)
}

// leaves sends a request and resets the connection once it is at the endpoint.
func leaves(t testing.TB, p *larboard, address string) reply {
	t.Helper()
	conn := dial(t, address)
	if _, err := io.WriteString(conn, plainGet); err != nil {
		t.Fatal(err)
	}
	arrives(t, p)
	conn.Conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
	eventually(t, patience, "the request has ended", func() error {
		if n := p.inFlight(); n != 0 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	return reply{}
}

// arrives waits until one request is at an endpoint.
func arrives(t testing.TB, p *larboard) {
	t.Helper()
	eventually(t, patience, "a request under way", func() error {
		if n := p.inFlight(); n != 1 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
}

// occupy takes a place of a listener for the length of the test.
func occupy(t testing.TB, address string) {
	t.Helper()
	if status, _, _, err := dialCaller(t, address).ask("/"); err != nil || status != 200 {
		t.Fatalf("%d %v", status, err)
	}
}

// serveRaw serves each connection by f and returns the address.
func serveRaw(t testing.TB, f func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go f(c.(*net.TCPConn))
		}
	}()
	return l.Addr().String()
}

// silent takes connections and says nothing.
func silent(t testing.TB) string { return serveRaw(t, func(*net.TCPConn) {}) }

// answering is an endpoint that reads the head of a request, writes text and closes the
// connection, by a reset where that is asked for.
func answering(text string, reset bool) func(testing.TB) string {
	return func(t testing.TB) string {
		return serveRaw(t, func(c *net.TCPConn) {
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			for read, b := []byte(nil), make([]byte, 4096); !bytes.Contains(read, []byte("\r\n\r\n")); {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				read = append(read, b[:n]...)
			}
			io.WriteString(c, text)
			if reset {
				c.SetLinger(0)
			}
		})
	}
}

// refusing is an endpoint of HTTP/2 that refuses every stream.
func refusing(t testing.TB) string {
	return serveRaw(t, func(c *net.TCPConn) {
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(c, c)
		f.WriteSettings()
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				if !frame.IsAck() {
					f.WriteSettingsAck()
				}
			case *http2.HeadersFrame:
				f.WriteRSTStream(frame.StreamID, http2.ErrCodeRefusedStream)
			}
		}
	})
}
