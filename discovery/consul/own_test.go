package consul

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

// reachable are addresses of this host beside loopback; a host may have none.
func reachable(t *testing.T) (all []string) {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() && p.Addr().Is4() {
			all = append(all, p.Addr().String())
		}
	}
	return all
}

// An instance without an address is told by that from which the agent is reached, unless the
// agent is here.
func TestOwnAddress(t *testing.T) {
	for _, host := range append(reachable(t), "127.0.0.1") {
		var told struct{ Address string }
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			told.Address = ""
			if err := json.NewDecoder(r.Body).Decode(&told); err != nil {
				t.Error(err)
			}
		}))
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		server.Listener.Close()
		server.Listener = l
		server.Start()
		client, err := New(Options{Address: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		for given, want := range map[string]string{":20000": host, "192.0.2.1:20000": "192.0.2.1"} {
			if want == "127.0.0.1" {
				want = ""
			}
			if err := client.Register(t.Context(), Registration{ID: "web", Service: "web", Address: given}); err != nil || told.Address != want {
				t.Errorf("agent on %s, address %q: %v, registered with %q, want %q", host, given, err, told.Address, want)
			}
		}
		client.Close()
		server.Close()
	}
	if own, err := (target{socket: "/run/consul.sock"}).ownAddress(t.Context()); own != "" || err != nil {
		t.Errorf("a socket: %q %v", own, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (target{host: "consul.invalid:8500"}).ownAddress(ended); err == nil {
		t.Error("a name that nobody knows has an address")
	}
}
