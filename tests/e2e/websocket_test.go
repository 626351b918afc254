package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/larboard-proxy/larboard/tests/real"
)

// echoPage opens eight WebSockets at once to where the page came from, sends a text and a
// large message over each, and tells the page's server what came back over all of them.
const echoPage = `<!doctype html><title>echo</title><script>
const large = "x".repeat(200000);
const echo = () => new Promise(done => {
	const ws = new WebSocket(location.href.replace("http", "ws") + "echo", "echo.test");
	const got = [];
	ws.onopen = () => { ws.send("hello"); ws.send(large); };
	ws.onmessage = m => got.push(m.data === large ? "large" : m.data);
	ws.onclose = e => done([ws.protocol, ...got, e.code, e.reason, e.wasClean].join(" "));
	all.push({ws, got});
});
const all = [], results = [];
for (let i = 0; i < 8; i++) results.push(echo());
const together = setInterval(() => {
	if (all.some(one => one.ws.readyState < 2 && one.got.length < 2)) return;
	clearInterval(together);
	all.forEach(one => one.ws.close(4001, "done"));
}, 10);
Promise.all(results).then(r => fetch("/result", {method: "POST", body: [...new Set(r),
	performance.getEntriesByType("navigation")[0].nextHopProtocol].join(" ")}));
</script>`

// webSocketOrigin is an HTTP/1.1 server of echoPage, of WebSockets that send every message
// back, and of /result, whose bodies it passes on.
func webSocketOrigin(t testing.TB) (address string, results chan string) {
	t.Helper()
	results = make(chan string, 100)
	var open sync.WaitGroup
	t.Cleanup(open.Wait)
	return origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, echoPage)
		case "/result":
			text, _ := io.ReadAll(r.Body)
			results <- string(text)
		case "/echo":
			open.Add(1)
			defer open.Done()
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo.test"}})
			if err != nil {
				results <- err.Error()
				return
			}
			c.SetReadLimit(1 << 20)
			defer c.CloseNow()
			for {
				kind, text, err := c.Read(context.Background())
				if err != nil {
					return
				}
				if err := c.Write(context.Background(), kind, text); err != nil {
					return
				}
			}
		}
	})), results
}

// TestChromiumSpeaksWebSocket: over HTTP/1.1, where each WebSocket has a connection of its
// own, and over HTTP/2, where the one that has brought the page has all of them; Chromium may
// have opened a second one by then. The origin speaks HTTP/1.1 only.
func TestChromiumSpeaksWebSocket(t *testing.T) {
	address, results := webSocketOrigin(t)
	for _, c := range []struct{ name, listener, scheme, options, hop string }{
		{"HTTP/1.1", "plain", "http", "", "http/1.1"},
		{"HTTP/1.1 over TLS", "secure", "https", ", http2: {enabled: false}", "http/1.1"},
		{"HTTP/2", "secure", "https", "", "h2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, "proxy", twoListeners(t, address, c.options, ""))
			b := real.Browse(t, c.scheme+"://"+p.address(c.listener)+"/")
			select {
			case got := <-results:
				if want := "echo.test hello large 4001 done true " + c.hop; got != want {
					t.Errorf("got %q, want %q\n%s", got, want, b.Log())
				}
			case <-time.After(2 * patience):
				t.Fatalf("the page did not tell\n%s", b.Log())
			}
			if n := p.scrape().sum("larboard_connections_total"); (n < 8) != (c.hop == "h2") {
				t.Errorf("%v connections", n)
			}
		})
	}
}

// openWebSocket opens one by a client's transport. It is closed with the test.
func openWebSocket(t testing.TB, transport http.RoundTripper, url string) *websocket.Conn {
	t.Helper()
	c, resp, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatalf("%v %v", resp, err)
	}
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// echoOver sends a text over a WebSocket and wants it back.
func echoOver(c *websocket.Conn, text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		return err
	}
	_, got, err := c.Read(ctx)
	if err == nil && string(got) != text {
		err = fmt.Errorf("got %q, want %q", got, text)
	}
	return err
}

// TestWebSocketsOutliveReloads: a thousand of them, half over HTTP/2, while the
// configuration changes twenty times.
func TestWebSocketsOutliveReloads(t *testing.T) {
	address, _ := webSocketOrigin(t)
	configuration := twoListeners(t, address, "", "")
	p := start(t, "proxy", configuration)
	before, descriptors := p.engineState(), p.vitals().descriptors
	over2 := newExtendedConnect(t)
	all := make([]*websocket.Conn, 1000)
	for i := range all {
		if i%2 == 0 {
			all[i] = openWebSocket(t, http.DefaultTransport, "http://"+p.address("plain")+"/echo")
		} else {
			all[i] = openWebSocket(t, over2, "http://"+p.address("plain")+"/echo")
		}
	}
	for round := range 20 {
		p.configure(strings.ReplaceAll(configuration, "service: app", fmt.Sprintf("timeouts: {body: %ds}, service: app", 60+round)))
		if status, body := p.reload(); status != http.StatusOK {
			t.Fatalf("reload %d: %d %s", round, status, body)
		}
		var each sync.WaitGroup
		for share := range 10 {
			each.Go(func() {
				for i := share; i < len(all); i += 10 {
					if err := echoOver(all[i], fmt.Sprintf("%d in round %d", i, round)); err != nil {
						t.Errorf("WebSocket %d after reload %d: %v", i, round, err)
						return
					}
				}
			})
		}
		each.Wait()
		if t.Failed() {
			return
		}
	}
	if n := p.scrape().sum("larboard_config_reloads_total", `result="applied"`); n != 20 {
		t.Errorf("%v reloads applied", n)
	}
	for _, c := range all {
		c.CloseNow()
	}
	over2.closeIdle()
	p.waitBaseline(before, descriptors, 100)
}
