package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"testing"

	"github.com/larboard-proxy/larboard/tests/load"
	"github.com/larboard-proxy/larboard/tests/pki"
	"github.com/larboard-proxy/larboard/tests/real"
)

// perHost is a proxy for two workloads, web and batch, each with an identity of its
// own from one agent and an upstream api of its own.
func perHost(t testing.TB, domain *real.SPIREDomain, api string) *larboard {
	t.Helper()
	return start(t, "host", fmt.Sprintf(`
identities:
  web: {spiffe: {socket: %[1]q, hint: web}}
  batch: {spiffe: {socket: %[1]q, id: %[2]q}}
services:
- {name: api, endpoints: [%[3]q], tls: {spiffe: {ids: [%[4]q]}}}
workloads:
- {service: web, address: %[5]q, listen: 127.0.0.1:0, identity: web, upstreams: [{service: api, bind: 127.0.0.1:0}]}
- {service: batch, address: %[6]q, listen: 127.0.0.1:0, identity: batch, upstreams: [{service: api, bind: 127.0.0.1:0}]}
`, domain.Socket, domain.ID("/batch"), api, domain.ID("/api"), origin(t, named("web")), origin(t, named("batch"))))
}

// TestOneProxyForAHost: two workloads of one process are two peers for everybody else.
func TestOneProxyForAHost(t *testing.T) {
	t.Parallel()
	domain := real.SPIRE(t, real.SPIREOptions{TrustDomain: meshDomain})
	domain.Register("/api", real.SPIREEntry{Hint: "api"})
	domain.Register("/web", real.SPIREEntry{Hint: "web"})
	batch := domain.Register("/batch", real.SPIREEntry{Hint: "batch"})
	api := start(t, "api", fmt.Sprintf("identity: {spiffe: {socket: %q, hint: api}}\n"+
		"workload: {service: api, address: %q, listen: 127.0.0.1:0, allow: [%q]}\n", domain.Socket, origin(t, named("api")), domain.ID("/web")))
	host := perHost(t, domain, api.address("inbound"))
	eventually(t, patience, "both identities", func() error {
		all := host.identityViews()
		if all["web"].ID != domain.ID("/web") || all["batch"].ID != domain.ID("/batch") || len(all) != 2 {
			return fmt.Errorf("%+v", all)
		}
		return nil
	})
	expiry := host.scrape()
	for _, path := range []string{"/web", "/batch"} {
		if expiry.sum("larboard_identity_expiry_timestamp_seconds", `spiffe_id="`+domain.ID(path)+`"`) == 0 {
			t.Errorf("no expiry of %s in the metrics", path)
		}
	}

	// Kept connections are at hand all the time: none of web's may carry batch's request.
	traffic := send(t, load.Options{Addr: host.address("web.api"), WantBody: []byte("api")})
	traffic.await(20)
	for range 20 {
		if status, body, header := get(t, "http://"+host.address("batch.api")+"/"); status != 403 || header.Get("X-Larboard-Reason") != "not_allowed" {
			t.Fatalf("batch was answered %d %q %v", status, body, header)
		}
	}
	if err := api.logged("request refused", "reason=not_allowed ", domain.ID("/batch")); err != nil {
		t.Error(err)
	}

	// Each answers as itself.
	cert, key := domain.Signer()
	caller := pki.Of(t, cert, key).Issue(nil, domain.ID("/caller"))
	for _, name := range []string{"web", "batch"} {
		if id := peerID(t, host.address(name+".inbound"), caller); id != domain.ID("/"+name) {
			t.Errorf("the listener of %s is %s", name, id)
		}
	}

	// What befalls one does not touch the other.
	domain.Unregister(batch)
	eventually(t, patience, "batch has lost its identity", func() error {
		if status, _, header := get(t, "http://"+host.address("batch.api")+"/"); status != 503 || header.Get("X-Larboard-Reason") != "no_identity" {
			return fmt.Errorf("%d %v", status, header)
		}
		return nil
	})
	if err := host.logged("identity withdrawn", "identity_name=batch"); err != nil {
		t.Error(err)
	}
	if err := host.ready(); err != nil {
		t.Errorf("not ready, though web is well: %v", err)
	}
	if host.logged("identity withdrawn", "identity_name=web") == nil {
		t.Error("web was withdrawn too")
	}
	traffic.await(20)
	traffic.endClean()
}

// peerID is the URI name of the certificate that an address presents.
func peerID(t testing.TB, address string, own tls.Certificate) string {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, meshClient(own))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].URIs[0].String()
}
