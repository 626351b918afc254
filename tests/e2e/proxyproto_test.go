package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/pki"
	"github.com/larboard-proxy/larboard/tests/real"
)

// callers answers with whom the request is said to come from.
func callers(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, r.Header.Get("X-Forwarded-For"))
}

// bodyOn is the body of the answer to a GET that follows before; "closed" where there is no
// answer.
func bodyOn(t testing.TB, c net.Conn, before string) string {
	t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, before+"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
		return "closed"
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "closed"
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		return fmt.Sprint(resp.StatusCode)
	}
	return string(b)
}

const (
	header1 = "PROXY TCP4 192.0.2.9 192.0.2.1 4711 80\r\n"
	header2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x09\xc0\x00\x02\x01\x12\x67\x00\x50"
	local2  = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

func TestProxyProtocolAccepted(t *testing.T) {
	authority := pki.New(t, "site")
	certificate, key := pki.Write(t, filepath.Join(shortDir(t), "site"), authority.Issue(func(c *x509.Certificate) { c.DNSNames = []string{"site.test"} }))
	db, _ := greeter(t)
	p := start(t, "proxy protocol", fmt.Sprintf(`
access_log: stdout
listeners:
- {name: web, address: 127.0.0.1:0, proxy_protocol: {from: [127.0.0.0/8]}, timeouts: {request_head: 300ms}, service: web}
- {name: others, address: 127.0.0.1:0, proxy_protocol: {from: [192.0.2.0/24]}, service: web}
- {name: auto, address: 127.0.0.1:0, protocol: auto, proxy_protocol: {from: [127.0.0.1]}, routes: [{service: web}], service: db}
- {name: tcp, address: 127.0.0.1:0, protocol: tcp, proxy_protocol: {from: [127.0.0.1]}, service: db}
- {name: socket, address: %q, proxy_protocol: {from: [unix]}, service: web}
- {name: tls, address: 127.0.0.1:0, proxy_protocol: {from: [127.0.0.1]}, tls: {certificates: [{cert: %q, key: %q}]}, service: web}
services:
- {name: web, endpoints: [%s]}
- {name: db, endpoints: [%s]}
`, "unix://"+filepath.Join(shortDir(t), "s"), certificate, key, origin(t, http.HandlerFunc(callers)), db))
	for _, tc := range []struct{ name, listener, before, want string }{
		{"version 1", "web", header1, "192.0.2.9"},
		{"version 2", "web", header2, "192.0.2.9"},
		{"unknown", "web", "PROXY UNKNOWN\r\n", "127.0.0.1"},
		{"the sender itself", "web", local2, "127.0.0.1"},
		{"none", "web", "", "closed"},
		{"a wrong one", "web", "PROXY TCP4 192.0.2.9\r\n", "closed"},
		{"version 2, cut off", "web", local2[:14] + "\xff\xff", "closed"},
		{"two of them", "web", header1 + header1, "closed"},
		{"from elsewhere", "others", header1, "closed"},
		{"version 2 from elsewhere", "others", header2, "400"},
		{"none from elsewhere", "others", "", "127.0.0.1"},
		{"with detection", "auto", header2, "192.0.2.9"},
		{"over a Unix socket", "socket", header2, "192.0.2.9"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			address := p.address(tc.listener)
			c, err := net.Dial("tcp", address)
			if path, ok := strings.CutPrefix(address, "unix://"); ok {
				c, err = net.Dial("unix", path)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got := bodyOn(t, c, tc.before); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	t.Run("a greeting behind it", func(t *testing.T) {
		for _, listener := range []string{"auto", "tcp"} {
			if got := speak(t, p.address(listener), header1); got != "220 hello" {
				t.Errorf("%s: %q", listener, got)
			}
		}
	})
	t.Run("in pieces", func(t *testing.T) {
		if got := speak(t, p.address("auto"), header2[:3], header2[3:20], header2[20:]); got != "220 hello" {
			t.Errorf("%q", got)
		}
	})
	t.Run("before TLS", func(t *testing.T) {
		c, err := net.Dial("tcp", p.address("tls"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, header1); err != nil {
			t.Fatal(err)
		}
		if got := bodyOn(t, tls.Client(c, &tls.Config{RootCAs: pki.Pool(authority.Cert), ServerName: "site.test"}), ""); got != "192.0.2.9" {
			t.Errorf("%q", got)
		}
	})
	t.Run("too late", func(t *testing.T) {
		if got := speak(t, p.address("web"), header1[:10]); got != "EOF" {
			t.Errorf("%q", got)
		}
	})
	t.Run("refusals are counted, clients logged", func(t *testing.T) {
		eventually(t, patience, "all of them", func() error {
			if n := p.scrape().sum("larboard_refused_total", `listener="web"`, `reason="proxy_header"`); n != 4 {
				return fmt.Errorf("%v refused", n)
			}
			if !strings.Contains(p.stdout.String(), "client=192.0.2.9:4711") {
				return fmt.Errorf("the client is not in\n%s", p.stdout.String())
			}
			return nil
		})
		p.waitLog("reason=proxy_header")
	})
	t.Run("curl", func(t *testing.T) {
		r := real.Run(t, patience, "curl", "-sS", "--haproxy-protocol", "http://"+p.address("web")+"/")
		if r.Stdout != "127.0.0.1" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("curl --http2-prior-knowledge", func(t *testing.T) {
		r := real.Run(t, patience, "curl", "-sS", "--http2-prior-knowledge", "--haproxy-protocol", "http://"+p.address("auto")+"/")
		if r.Stdout != "127.0.0.1" {
			t.Errorf("%+v", r)
		}
	})
}

// HAProxy stands in front and behind, and each tells the next whose connection it is.
func TestProxyProtocolWithHAProxy(t *testing.T) {
	web := origin(t, http.HandlerFunc(callers))
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			// behind: it adds the client that it was told of to X-Forwarded-For
			behind := real.HAProxy(t, 1, func(listen []string) string {
				return fmt.Sprintf(`
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend f
  bind %s accept-proxy
  http-request set-header X-Forwarded-For %%[src]:%%[src_port]
  default_backend b
backend b
  server s %s
`, listen[0], web)
			})
			p := start(t, "between", fmt.Sprintf(`
listeners:
- {name: web, address: 127.0.0.1:0, proxy_protocol: {from: [127.0.0.1]}, service: web}
- {name: any, address: 127.0.0.1:0, protocol: auto, proxy_protocol: {from: [127.0.0.1]}, service: web}
services:
- {name: web, endpoints: [%s], send_proxy: %s, health: {http: {path: /}, interval: 100ms}}
`, behind[0], version))
			send := map[string]string{"v1": "send-proxy", "v2": "send-proxy-v2"}[version]
			before := real.HAProxy(t, 2, func(listen []string) string {
				return fmt.Sprintf(`
defaults
  mode tcp
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend f
  bind %s
  default_backend web
frontend g
  bind %s
  default_backend any
backend web
  server s %s %s
backend any
  server s %s %s proxy-v2-options crc32c
`, listen[0], listen[1], p.address("web"), send, p.address("any"), send)
			})
			for _, address := range before {
				c, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				if got := bodyOn(t, c, ""); got != c.LocalAddr().String() {
					t.Errorf("the last in the row was told of %q, the client is %v", got, c.LocalAddr())
				}
				c.Close()
			}
			eventually(t, patience, "a check is accepted there, too", func() error {
				if status, text, err := p.get("/api/v1/endpoints"); err != nil || status != 200 || !strings.Contains(text, `"detail": "status 200"`) {
					return fmt.Errorf("%d %s, %v", status, text, err)
				}
				return nil
			})
		})
	}
}

// No connection that names one client carries a request of another, whatever the version
// of HTTP.
func TestSentProxyHeadersAreOfOneClient(t *testing.T) {
	seen := make(chan string, 100)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.RemoteAddr)
	}))
	s.Listener = proxied{s.Listener, seen}
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	for _, version := range []string{"http1", "http2"} {
		p := start(t, "sender", fmt.Sprintf(`
access_log: stdout
listeners: [{name: web, address: 127.0.0.1:0, service: web}]
services: [{name: web, endpoints: [%s], protocol: %s, send_proxy: v1}]
`, s.Listener.Addr(), version))
		for range 3 {
			c, err := net.Dial("tcp", p.address("web"))
			if err != nil {
				t.Fatal(err)
			}
			if got := bodyOn(t, c, ""); !strings.HasPrefix(got, "127.0.0.1:") {
				t.Errorf("%s: %q\n%s", version, got, p.stdout.String())
			}
			want := fmt.Sprintf("PROXY TCP4 127.0.0.1 127.0.0.1 %d ", c.LocalAddr().(*net.TCPAddr).Port)
			if line := <-seen; !strings.HasPrefix(line, want) {
				t.Errorf("%s: the endpoint was told %q, want %q and more", version, line, want)
			}
			c.Close()
		}
	}
}

// proxied takes the first line of each connection off.
type proxied struct {
	net.Listener
	seen chan string
}

func (p proxied) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := c.Read(b); err != nil {
			return c, nil
		}
		if line = append(line, b[0]); b[0] == '\n' {
			break
		}
	}
	p.seen <- string(line)
	return c, nil
}
