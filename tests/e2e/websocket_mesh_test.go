package e2e

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// newWebSocketMesh is two sidecars, the first of which calls the second in this version of
// HTTP, in front of an origin of WebSockets.
func newWebSocketMesh(t testing.TB, address, version string) (caller, called *larboard) {
	t.Helper()
	state := filepath.Join(shortDir(t), "authority")
	common := func(service string) string {
		return fmt.Sprintf("access_log: {path: stdout, format: json}\nidentity: {dev: {trust_domain: mesh.test, state: %q, "+
			"id: \"spiffe://mesh.test/ns/default/dc/dc1/svc/%s\"}}\n", state, service)
	}
	called = start(t, "called", common("api")+fmt.Sprintf("workload: {service: api, address: %q, listen: 127.0.0.1:0}\n", address))
	caller = start(t, "caller", common("web")+fmt.Sprintf("upstreams: [{service: api, bind: 127.0.0.1:0, endpoints: [%q], http: %s}]\n",
		called.address("inbound"), version))
	return caller, called
}

// accessLine is what these tests look at.
type accessLine struct {
	Protocol, Method, Path, Reason string
	Status                         int
	BytesIn                        int64 `json:"bytes_in"`
	BytesOut                       int64 `json:"bytes_out"`
	Duration                       struct {
		Total float64
	} `json:"duration_ms"`
}

// accessLines waits for n lines in the access log.
func (p *larboard) accessLines(n int) (all []accessLine) {
	p.t.Helper()
	eventually(p.t, patience, fmt.Sprintf("%d lines in the access log of %s", n, p.name), func() error {
		all = nil
		for line := range strings.Lines(p.stdout.String()) {
			var a accessLine
			if err := json.Unmarshal([]byte(line), &a); err != nil {
				return err
			}
			all = append(all, a)
		}
		if len(all) != n {
			return fmt.Errorf("%d", len(all))
		}
		return nil
	})
	return all
}

// webSocketClients are one for each version of HTTP.
func webSocketClients(t testing.TB) map[string]http.RoundTripper {
	over1 := &http.Transport{}
	t.Cleanup(over1.CloseIdleConnections)
	return map[string]http.RoundTripper{"http": over1, "http2": newExtendedConnect(t)}
}

// TestWebSocketsThroughTwoSidecars: clients of both versions of HTTP, and both versions
// between the sidecars, where mutual TLS is spoken; the workload knows HTTP/1.1 only.
func TestWebSocketsThroughTwoSidecars(t *testing.T) {
	address, _ := webSocketOrigin(t)
	large := strings.Repeat("0123456789abcdef", 1<<16)
	for between, protocol := range map[string]string{"auto": "http", "http1": "http", "http2": "http2"} {
		t.Run("between them "+between, func(t *testing.T) {
			caller, called := newWebSocketMesh(t, address, between)
			lines := 0
			for client, transport := range webSocketClients(t) {
				c, _, err := websocket.Dial(t.Context(), "http://"+caller.address("api")+"/echo",
					&websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{"echo.test"}})
				if err != nil {
					t.Fatalf("%s: %v", client, err)
				}
				c.SetReadLimit(2 << 20)
				if c.Subprotocol() != "echo.test" {
					t.Errorf("%s: subprotocol %q", client, c.Subprotocol())
				}
				for _, text := range []string{"hello", large, "again"} {
					if err := echoOver(c, text); err != nil {
						t.Errorf("%s: %v", client, err)
					}
				}
				if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
					t.Errorf("%s: %v", client, err)
				}
				lines++
				byReset := client == "http2" // as Go's client says that it is done
				checkTunnelLine(t, caller.accessLines(lines)[lines-1], client, int64(len(large)), byReset)
				checkTunnelLine(t, called.accessLines(lines)[lines-1], protocol, int64(len(large)), byReset)
			}
			if n := called.scrape().sum("larboard_requests_total", `code_class="1xx"`); n != 2 {
				t.Errorf("%v counted", n)
			}
			if n := called.scrape().sum("larboard_bytes_total", `direction="in"`); n < float64(2*len(large)) {
				t.Errorf("%v bytes counted", n)
			}
		})
	}
}

func checkTunnelLine(t *testing.T, a accessLine, protocol string, least int64, byReset bool) {
	t.Helper()
	if a.Protocol != protocol || a.Method != "GET" || a.Path != "/echo" || a.Status != http.StatusSwitchingProtocols ||
		a.BytesIn < least || a.BytesOut < least || a.BytesIn > least+least/10 || a.Duration.Total <= 0 {
		t.Errorf("logged %+v, want %s", a, protocol)
	}
	if a.Reason != "" && (a.Reason != "client_aborted" || !byReset) {
		t.Errorf("reason %s", a.Reason)
	}
}

// TestWebSocketsAtTheProxysEnd: those that are open go on until timeouts.drain is over, and
// then they are cut.
func TestWebSocketsAtTheProxysEnd(t *testing.T) {
	address, _ := webSocketOrigin(t)
	p := start(t, "proxy", app(plainListener, address)+"access_log: {path: stdout, format: json}\ntimeouts: {drain: 3s}\n")
	in := p.address("in")
	var stays, leaves []*websocket.Conn
	for _, transport := range webSocketClients(t) {
		stays = append(stays, openWebSocket(t, transport, "http://"+in+"/echo"))
		leaves = append(leaves, openWebSocket(t, transport, "http://"+in+"/echo"))
	}
	began := time.Now()
	p.signal(syscall.SIGTERM)
	eventually(t, patience, "nobody is accepted any more", func() error {
		c, err := net.Dial("tcp", in)
		if err == nil {
			c.Close()
			return errors.New("somebody is")
		}
		return nil
	})
	for i := range stays {
		for _, c := range []*websocket.Conn{stays[i], leaves[i]} {
			if err := echoOver(c, "still here"); err != nil {
				t.Error(err)
			}
		}
		if err := leaves[i].Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
	}
	for _, c := range stays {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, _, err := c.Read(ctx)
		if took := time.Since(began); err == nil || ctx.Err() != nil || took < 2*time.Second {
			t.Errorf("ended with %v after %v", err, took)
		}
		cancel()
	}
	p.exit(patience)
	drained := 0
	for _, a := range p.accessLines(4) {
		if a.Reason == "draining" {
			drained++
		}
	}
	if drained != 2 {
		t.Errorf("%d are logged as cut by the drain:\n%s", drained, p.stdout.String())
	}
}

// TestUpgradesByCurl: an endpoint's refusals come as they are, and other protocols than
// WebSocket pass.
func TestUpgradesByCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal(err)
	}
	address := origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/forbidden":
			http.Error(w, "not you", http.StatusForbidden)
		case r.Header.Get("Upgrade") != "shout":
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "shout")
			w.WriteHeader(http.StatusUpgradeRequired)
		default:
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nHELLO\n")
		}
	}))
	p := start(t, "proxy", app(plainListener, address))
	for _, c := range []struct {
		path, upgrade string
		want          []string
	}{
		{"/", "shout", []string{"HTTP/1.1 101 ", "Upgrade: shout", "HELLO"}},
		{"/", "websocket", []string{"HTTP/1.1 426 ", "Upgrade: shout", "Connection: Upgrade"}},
		{"/", "h2c", []string{"HTTP/1.1 426 "}},
		{"/forbidden", "shout", []string{"HTTP/1.1 403 ", "not you"}},
	} {
		out, err := exec.Command(curl, "--http1.1", "-sS", "-i", "-N", "--max-time", "20", "-H", "Connection: Upgrade", "-H", "Upgrade: "+c.upgrade,
			"http://"+p.address("in")+c.path).CombinedOutput()
		for _, want := range c.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s by %s: %q, %v", c.path, c.upgrade, out, err)
			}
		}
	}
}

// TestResetsReachTheOtherEnd: whoever breaks off his end of an upgraded connection breaks off
// the other one, through two sidecars, so that half of a message is never taken for a whole.
func TestResetsReachTheOtherEnd(t *testing.T) {
	for _, between := range []string{"http1", "http2"} {
		for _, byClient := range []bool{true, false} {
			t.Run(fmt.Sprintf("between them %s, by the client %v", between, byClient), func(t *testing.T) {
				ends := make(chan net.Conn, 1)
				address := origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					conn, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
					_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
						base64.StdEncoding.EncodeToString(sum[:]))
					ends <- conn
				}))
				caller, _ := newWebSocketMesh(t, address, between)
				tun := openTunnel(t, caller.address("api"))
				end := <-ends
				defer end.Close()
				breaks, stays := tun.conn, end
				if !byClient {
					breaks, stays = end, tun.conn
				}
				_ = stays.SetDeadline(time.Now().Add(patience))
				if err := breaks.(*net.TCPConn).SetLinger(0); err != nil {
					t.Fatal(err)
				}
				breaks.Close()
				if _, err := io.ReadAll(stays); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the other end has read to %v", err)
				}
			})
		}
	}
}
