package e2e

import (
	"testing"

	"github.com/larboard-proxy/larboard/tests/load"
)

func TestOneRequestThroughTheBinary(t *testing.T) {
	one := startWorkload(t, "one")
	p := start(t, "proxy", `
listeners: [{name: in, address: 127.0.0.1:0, service: app}]
services: [{name: app, endpoints: [`+one.address+`]}]
`)
	if status, body, _ := get(t, "http://"+p.address("in")+"/"); status != 200 || body != "one" {
		t.Fatalf("got %d %q", status, body)
	}
	traffic := send(t, load.Options{Addr: p.address("in")})
	traffic.await(20)
	traffic.endClean()
	if n := p.scrape().sum("larboard_requests_total", `service="app"`, `code_class="2xx"`); n < 21 {
		t.Errorf("%v requests counted, want 21 or more", n)
	}
}
