package sidecar

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/admin"
)

// The admin interface and the metrics tell connections from the streams that they carry: an
// endpoint whose connections are all shared still takes streams, and is not called full.
func TestEndpointsTellTheirStreams(t *testing.T) {
	release := make(chan struct{})
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	app.Config.Protocols = new(http.Protocols)
	app.Config.Protocols.SetUnencryptedHTTP2(true)
	app.Start()
	t.Cleanup(app.Close)
	r := start(t, fmt.Sprintf("admin: {address: 127.0.0.1:0}\nloops: 1\nlisteners: [{name: in, address: 127.0.0.1:0, service: app}]\n"+
		"services: [{name: app, endpoints: [%q], protocol: http2, max_connections: 1}]\n", app.Listener.Addr()))
	done := make(chan error)
	for range 3 {
		go func() {
			resp, err := http.Get("http://" + r.address("in"))
			if err == nil {
				resp.Body.Close()
			}
			done <- err
		}()
	}
	var v admin.EndpointView
	eventually(t, "three streams", func() bool { v = r.Endpoints()[0]; return v.Streams == 3 })
	if v.InFlight != 3 || v.InUse != 1 || v.Shared != 1 || v.Limit != 1 || !v.InRotation || v.Rotation != "in, for streams of shared connections: 1 of 1 connections are in use" {
		t.Errorf("%+v", v)
	}
	resp, err := http.Get("http://" + r.AdminAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	at := fmt.Sprintf(`{endpoint=%q,service="app"}`, app.Listener.Addr())
	for _, want := range []string{"larboard_streams" + at + " 3", "larboard_shared_connections" + at + " 1",
		fmt.Sprintf(`larboard_connection_limit_used{name="app %s",scope="endpoint"} 1`, app.Listener.Addr())} {
		if err != nil || !strings.Contains(string(text), want+"\n") {
			t.Errorf("no %s in the metrics (%v)", want, err)
		}
	}
	close(release)
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	eventually(t, "no streams", func() bool {
		v = r.Endpoints()[0]
		return v.Streams == 0 && v.InFlight == 0 && v.InUse == 0 && v.Shared == 1
	})
	http.DefaultClient.CloseIdleConnections()
}
