package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestOldClientOfAnHTTP2Endpoint: a client of HTTP/1.0 that names no host is served by an
// endpoint that is spoken to in HTTP/2, which needs one: the service's name.
func TestOldClientOfAnHTTP2Endpoint(t *testing.T) {
	behind := start(t, "behind", fmt.Sprintf("listeners: [{name: in, address: 127.0.0.1:0, service: app}]\nservices: [{name: app, endpoints: [%q]}]\n",
		startWorkload(t, "one").address))
	p := start(t, "proxy", fmt.Sprintf("listeners: [{name: in, address: 127.0.0.1:0, service: old}]\nservices: [{name: old, endpoints: [%q], protocol: http2}]\n",
		behind.address("in")))
	conn, err := net.Dial("tcp", p.address("in"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 200 {
		t.Errorf("%s, %v", answer.Status, answer.Header)
	}
}
