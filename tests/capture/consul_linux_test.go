package capture

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

// TestConsul: with nothing said about addresses, an application calls a service by its virtual address,
// which Consul's DNS tells, or an instance by its own, and reaches it over mutual TLS.
func TestConsul(t *testing.T) {
	app, other := machines(t)
	// Before Consul starts: it dies with the thread that has started it, and what is done inside a
	// namespace ends its own.
	serve(other, "shop", 8080)
	consul := real.Consul(t, real.ConsulOptions{Socket: true, DNS: true})
	socket := strings.TrimPrefix(consul.Address, "unix://")
	for _, path := range []string{filepath.Dir(socket), socket} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	common := "consul: {address: " + consul.Address + "}\nidentity: {consul: {}}\ncapture: {outbound: true, inbound: true}\n"
	consul.Intend("shop", real.Source{Name: "web", Action: "allow"})
	register := func() {
		consul.Register(real.Service{Name: "shop", Address: there, Port: 8080}, real.Service{Name: "shop-sidecar-proxy", Kind: "connect-proxy", Address: there, Port: 20000,
			Proxy: map[string]any{"DestinationServiceName": "shop", "DestinationServiceID": "shop", "LocalServiceAddress": "127.0.0.1", "LocalServicePort": 8080}})
	}
	virtual := virtualAddress(t, consul.DNS, "shop.virtual.consul", register)

	called := begin(t, other, common+"workload: {service: shop, address: 127.0.0.1:8080, listen: 0.0.0.0:20000, intentions: true}\n")
	caller := begin(t, app, common+"workload: {service: web, address: 127.0.0.1:8080, listen: 0.0.0.0:20000}\nupstreams: [{service: shop}]\n")
	capture(t, app)
	for _, address := range []string{virtual + ":80", virtual + ":1234", there + ":8080"} {
		expect(t, address, get(app, application, address), "shop 127.0.0.1:8080")
	}
	caller.recorded("the service", "shop", func(e exchange) bool { return e.Endpoint == there+":20000" && e.Status == 200 })
	called.recorded("who called", "inbound", func(e exchange) bool { return strings.HasSuffix(e.PeerID, "/svc/web") })
	text, _ := caller.ask("GET", "/api/v1/captures")
	for _, want := range []string{`"address": "` + virtual + `"`, `"address": "` + there + `"`, `"source": "consul"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %s:\n%s", want, text)
		}
	}

	// The last instance goes: the service's address is still the service's.
	consul.Deregister("shop-sidecar-proxy")
	caller.until("the instance has gone", func() bool {
		text, _ := caller.ask("GET", "/api/v1/captures")
		return !strings.Contains(text, `"address": "`+there+`"`)
	})
	if got := get(app, application, virtual+":80"); !strings.Contains(got, "no_endpoints") {
		t.Errorf("without an instance: %q", got)
	}
}

// virtualAddress registers a service until Consul's DNS knows its virtual address: a server that has
// just begun gives out none.
func virtualAddress(t *testing.T, dns, name string, register func()) string {
	t.Helper()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", dns)
	}}
	var said string
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		register()
		all, err := resolver.LookupHost(t.Context(), name)
		if err == nil && len(all) == 1 {
			return all[0]
		}
		said = fmt.Sprint(all, err)
	}
	t.Fatalf("%s: %s", name, said)
	return ""
}
