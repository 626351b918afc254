package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// certificate is one of Connect's, as any client of the agent gets it.
func (c *connect) certificate(service string) tls.Certificate {
	c.t.Helper()
	var leaf struct{ CertPEM, PrivateKeyPEM string }
	if err := c.agent.Call(http.MethodGet, "/v1/agent/connect/ca/leaf/"+service, nil, &leaf); err != nil {
		c.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(leaf.CertPEM), []byte(leaf.PrivateKeyPEM))
	if err != nil {
		c.t.Fatal(err)
	}
	return pair
}

// TestConnectClients: whatever a client of the mesh offers in its handshake beside its
// certificate, a listener takes it. One for HTTP chooses h2 where it is offered, but goes by
// what comes: Consul's library offers h2, and speaks HTTP/1.1 nevertheless.
func TestConnectClients(t *testing.T) {
	t.Parallel()
	m := newConnect(t, real.ConsulOptions{})
	api, site := m.sidecar("api", "tcp", echo(t)), m.sidecar("site", "http", origin(t, named("site")))
	own := m.certificate("web")
	for _, c := range []struct {
		name   string
		offers []string
		server string
		chosen string // by the listener for HTTP
	}{
		{name: "nothing, as consul connect proxy"},
		{name: "h2, as Consul's library", offers: []string{"h2"}, chosen: "h2"},
		{name: "both versions", offers: []string{"h2", "http/1.1"}, chosen: "h2"},
		{name: "unknown", offers: []string{"consul~", "x"}},
		{name: "a server name, as Envoy", server: "api.default.dc1.internal.11111111-2222-3333-4444-555555555555.consul"},
		{name: "another server name", server: "example.org"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dial := func(address, chosen string) *tls.Conn {
				conn, err := tls.Dial("tcp", address, &tls.Config{
					Certificates: []tls.Certificate{own}, NextProtos: c.offers, ServerName: c.server, InsecureSkipVerify: true,
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				if p := conn.ConnectionState().NegotiatedProtocol; p != chosen {
					t.Errorf("the listener has chosen %q, want %q", p, chosen)
				}
				return conn
			}
			if err := said(dial(api.address("inbound"), "")); err != nil {
				t.Errorf("tcp: %v", err)
			}
			conn := dial(site.address("inbound"), c.chosen)
			fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n")
			if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
				t.Errorf("http: %q, %v", answer, err)
			}
		})
	}
}

// TestConnectServerName: connections to Consul's proxies carry the name by which
// gateways route, and an endpoint that is not who Consul says gets none of the bytes.
func TestConnectServerName(t *testing.T) {
	t.Parallel()
	m := newConnect(t, real.ConsulOptions{})
	names := make(chan string, 16)
	serve := func(service string, own tls.Certificate) {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
			Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert,
			GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				names <- hello.ServerName
				return nil, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		m.agent.RegisterProxy(service+"-1", service, l.Addr().String())
		go serveEcho(l)
	}
	serve("db", m.certificate("db"))
	serve("forged", m.certificate("db"))
	web := m.caller([]string{"db", "forged"}, nil)
	echoed(t, web.address("db"))
	domain := strings.Split(identityOf(web).SPIFFEID, "/")[2]
	if name, want := <-names, "db.default.dc1.internal."+domain; name != want {
		t.Errorf("server name %q, want %q", name, want)
	}
	refused(t, web.address("forged"))
	if name, want := <-names, "forged.default.dc1.internal."+domain; name != want {
		t.Errorf("server name %q, want %q", name, want)
	}
	web.waitLog("upstream_tls_identity")
}

// serveEcho sends back what it gets until l is closed.
func serveEcho(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}()
	}
}
