package e2e

import (
	"fmt"
	"net"
	"net/http"
	"testing"
)

// TestSlowReadersMeetTheBufferLimit: clients that do not read bring the buffers to
// limits.buffers and no further; new requests are told so, and all is well again when they
// have gone.
func TestSlowReadersMeetTheBufferLimit(t *testing.T) {
	app := origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/endless" {
			return
		}
		for b := make([]byte, 64<<10); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}))
	p := start(t, "larboard", fmt.Sprintf(`
limits: {buffers: 4MiB}
listeners: [{name: web, address: 127.0.0.1:0, service: app}]
services: [{name: app, endpoints: [%q]}]
`, app))
	limits := func() (used, most int64) {
		var v struct {
			Used int64 `json:"buffer_bytes"`
			Most int64 `json:"buffer_bytes_limit"`
		}
		p.view("/api/v1/limits", &v)
		return v.Used, v.Most
	}
	if _, most := limits(); most != 4<<20 {
		t.Fatalf("the limit is shown as %d", most)
	}
	var peak int64
	var conns []net.Conn
	for range 300 {
		c, err := net.Dial("tcp", p.address("web"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
		fmt.Fprint(c, "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, 2*patience, "a refusal", func() error {
		used, _ := limits()
		peak = max(peak, used)
		resp, err := client.Get("http://" + p.address("web") + "/") // one may be reset while the buffers fill
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != 503 || resp.Header.Get("x-larboard-reason") != "buffers_short" {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil
	})
	if peak > 5<<20 {
		t.Errorf("%d bytes of buffers under a limit of 4 MiB", peak)
	}
	p.waitLog("buffers are short")
	for _, c := range conns {
		c.Close()
	}
	eventually(t, 2*patience, "recovery", func() error { return gotten(client, "http://"+p.address("web")+"/", 200) })
	if n := p.scrape().sum("larboard_requests_total", `reason="buffers_short"`); n == 0 {
		t.Error("no refusal was counted")
	}
}
