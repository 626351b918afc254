package e2e

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// caller is a client with one connection.
type caller struct {
	conn net.Conn
	in   *bufio.Reader
}

func dialCaller(t testing.TB, address string) *caller {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &caller{conn, bufio.NewReader(conn)}
}

// ask makes one exchange and returns its status, its reason, and whether the proxy
// then closed the connection.
func (c *caller) ask(path string) (status int, reason string, closed bool, err error) {
	if err = c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, "", false, err
	}
	if _, err = io.WriteString(c.conn, "GET "+path+" HTTP/1.1\r\nHost: app\r\n\r\n"); err != nil {
		return 0, "", false, err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, "", false, err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, "", false, err
	}
	if resp.Close {
		_, err := c.in.ReadByte()
		closed = errors.Is(err, io.EOF)
	}
	return resp.StatusCode, resp.Header.Get("X-Larboard-Reason"), closed, nil
}

// crowd opens n connections at once, asks over each, and keeps those that are served.
func crowd(t testing.TB, address string, n int) (served []*caller, reasons map[string]int) {
	t.Helper()
	all := make([]*caller, n)
	for i := range all {
		all[i] = dialCaller(t, address)
	}
	var mu sync.Mutex
	var asking sync.WaitGroup
	reasons = map[string]int{}
	for _, c := range all {
		asking.Go(func() {
			status, reason, closed, err := c.ask("/")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Errorf("no answer: %v", err)
			case status == 200 && !closed:
				served = append(served, c)
			case status == 503 && closed:
				reasons[reason]++
			default:
				t.Errorf("%d %q, closed %v", status, reason, closed)
			}
		})
	}
	asking.Wait()
	return served, reasons
}

type limitsView struct {
	Connections         int64 `json:"connections"`
	ConnectionsLimit    int64 `json:"connections_limit"`
	Descriptors         int   `json:"descriptors"`
	DescriptorsLimit    int   `json:"descriptors_limit"`
	DescriptorsReserved int   `json:"descriptors_reserved"`
}

func (p *larboard) limits() (v limitsView) {
	p.t.Helper()
	p.view("/api/v1/limits", &v)
	return v
}

// TestConnectionsOverTheLimit: exactly as many clients as the limit are served, the
// others are told why not, a reload changes the limit, and nothing is left afterwards.
func TestConnectionsOverTheLimit(t *testing.T) {
	one := startWorkload(t, "one")
	const limited = "{name: in, address: 127.0.0.1:0, service: app, max_connections: %d}"
	for _, c := range []struct {
		name, reason string
		configured   func(limit int) string
	}{
		{"of the process", "connection_limit", func(n int) string {
			return app(plainListener, one.address) + fmt.Sprintf("limits: {connections: %d}\n", n)
		}},
		{"of a listener", "listener_limit", func(n int) string { return app(fmt.Sprintf(limited, n), one.address) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, "proxy", c.configured(20))
			address := p.address("in")
			first, reasons := crowd(t, address, 100)
			if len(first) != 20 || reasons[c.reason] != 80 {
				t.Errorf("%d served, the others: %v", len(first), reasons)
			}
			if err := p.ready(); err != nil {
				t.Errorf("the admin interface at the limit: %v", err)
			}
			scraped := p.scrape()
			if n := scraped.sum("larboard_refused_total", `reason="`+c.reason+`"`); n != 80 {
				t.Errorf("%v refused", n)
			}
			if limit, used := scraped.sum("larboard_connection_limit", `scope="process"`), scraped.sum("larboard_connection_limit_used", `scope="process"`); used != 20 || limit < 20 {
				t.Errorf("%v of %v in use", used, limit)
			}
			if err := p.logged("connection refused", "reason="+c.reason, "20 connections are open"); err != nil {
				t.Error(err)
			}
			p.configure(c.configured(30))
			if status, body := p.reload(); status != http.StatusOK {
				t.Fatalf("%d %s", status, body)
			}
			second, reasons := crowd(t, address, 50)
			if len(second) != 10 || reasons[c.reason] != 40 {
				t.Errorf("after the reload %d served, the others: %v", len(second), reasons)
			}
			for _, c := range append(first, second...) {
				if status, _, _, err := c.ask("/"); err != nil || status != 200 {
					t.Errorf("one that was let in: %d %v", status, err)
				}
				c.conn.Close()
			}
			eventually(t, patience, "all to be gone", func() error {
				if v := p.limits(); v.Connections != 0 {
					return fmt.Errorf("%+v", v)
				}
				return nil
			})
			if again, _ := crowd(t, address, 30); len(again) != 30 {
				t.Errorf("%d served at last", len(again))
			}
		})
	}
}

// TestMeshConnectionsOverTheLimit: they are closed before their handshake.
func TestMeshConnectionsOverTheLimit(t *testing.T) {
	mesh := newAuthority(t, meshDomain)
	p := start(t, "api", newSVIDFiles(t, mesh.svid("api"), mesh).identity()+
		app("{name: in, address: 127.0.0.1:0, service: app, tls: {spiffe: {}}, max_connections: 1}", startWorkload(t, "one").address))
	address, config := p.address("in"), meshClient(mesh.svid("web"))
	first, err := tls.Dial("tcp", address, config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.Dial("tcp", address, config); err == nil {
		t.Error("a second connection shook hands")
	}
	first.Close()
	eventually(t, patience, "room", func() error {
		second, err := tls.Dial("tcp", address, config)
		if err == nil {
			err = second.Close()
		}
		return err
	})
	if n := p.scrape().sum("larboard_refused_total", `reason="listener_limit"`); n < 1 {
		t.Errorf("%v refused", n)
	}
}

// TestEndpointsAtTheirLimit: no endpoint ever has more requests than it may, and a
// request is refused only while all have as many.
func TestEndpointsAtTheirLimit(t *testing.T) {
	const limit, callers = 3, 30
	var mu sync.Mutex
	now, most := map[int]int{}, 0
	release := make(chan struct{})
	endpoint := func(i int) string {
		return origin(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			mu.Lock()
			now[i]++
			most = max(most, now[i])
			mu.Unlock()
			<-release
			mu.Lock()
			now[i]--
			mu.Unlock()
		}))
	}
	p := start(t, "proxy", fmt.Sprintf("listeners: [%s]\nservices: [{name: app, endpoints: [%q, %q], max_connections: %d}]\n",
		plainListener, endpoint(0), endpoint(1), limit))
	var served, refused atomic.Int32
	var asking sync.WaitGroup
	for range callers {
		c := dialCaller(t, p.address("in"))
		asking.Go(func() {
			switch status, reason, closed, err := c.ask("/"); {
			case err == nil && status == 200:
				served.Add(1)
			case err == nil && status == 503 && reason == "endpoint_limit" && !closed:
				refused.Add(1)
			default:
				t.Errorf("%d %q, closed %v, %v", status, reason, closed, err)
			}
		})
	}
	eventually(t, patience, "the others to be refused", func() error {
		if n := refused.Load(); n != callers-2*limit {
			return fmt.Errorf("%d refused", n)
		}
		return nil
	})
	close(release)
	asking.Wait()
	if n := served.Load(); n != 2*limit || most != limit {
		t.Errorf("%d served, %d at once at one endpoint", n, most)
	}
	if n := p.scrape().sum("larboard_requests_total", `reason="endpoint_limit"`); n != callers-2*limit {
		t.Errorf("%v counted", n)
	}
	if status, _, _, err := dialCaller(t, p.address("in")).ask("/"); err != nil || status != 200 {
		t.Errorf("afterwards: %d %v", status, err)
	}
	if _, body, err := p.get("/api/v1/endpoints"); err != nil || !strings.Contains(body, `"connections_limit": 3`) {
		t.Errorf("%v %s", err, body)
	}
}
