package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/larboard-proxy/larboard/tests/load"
)

func TestAdminViewsShowWhatRuns(t *testing.T) {
	m := newStaticMesh(t, origin(t, named("one")), origin(t, named("two")))
	for range 4 {
		get(t, "http://"+m.api+"/")
	}
	const svc = "spiffe://mesh.test/ns/default/dc/dc1/svc/"
	eventually(t, patience, "the views show the requests", func() error {
		_, body, err := m.caller.get("/api/v1/services")
		if err == nil && !strings.Contains(body, `"requests": 4`) {
			err = fmt.Errorf("%s", body)
		}
		return err
	})
	for path, wants := range map[string][]string{
		"/":                              {"GET  /readyz", "POST /api/v1/reload"},
		"/healthz":                       {"alive"},
		"/readyz":                        {`"ready": true`},
		"/api/v1/listeners":              {`"name": "api"`, `"direction": "outbound"`, `"tls": "none"`, m.api},
		"/api/v1/services":               {`"name": "api"`, `"source": "static"`, `"endpoints": 2`, `"up": 2`, `"failures": 0`},
		"/api/v1/endpoints":              {`"state": "up"`, svc + "api", m.called[0].address("inbound"), m.called[1].address("inbound")},
		"/api/v1/identity":               {svc + "web", `"trust_domain": "mesh.test"`, `"authorities": 1`, `"source": "dev"`},
		"/api/v1/config":                 {`"name": "api"`, `"balance": "round_robin"`, `"spiffe"`},
		"/metrics":                       {"larboard_endpoint_up{", "larboard_identity_expiry_timestamp_seconds{", "larboard_engine_tasks{", "go_goroutines "},
		"/api/v1/endpoints?service=none": {`"endpoints": []`},
	} {
		status, body, err := m.caller.get(path)
		for _, want := range wants {
			if err != nil || status != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("GET %s: %d %v, want %s in\n%s", path, status, err, want, body)
			}
		}
	}
	status, body, err := m.called[0].get("/api/v1/listeners")
	if err != nil || status != 200 || !strings.Contains(body, `"tls": "mtls"`) || !strings.Contains(body, `"direction": "inbound"`) {
		t.Errorf("the called side's listeners: %d %v\n%s", status, err, body)
	}
}

func TestConfigViewHidesSecrets(t *testing.T) {
	const secret = "0b1e8c52-77aa-4f0e-9b57-8f9f8a2f6a01"
	p := start(t, "proxy", app(plainListener, origin(t, named("one")))+"consul: {token: "+secret+"}\n")
	_, body, err := p.get("/api/v1/config")
	if err != nil || strings.Contains(body, secret) || !strings.Contains(body, "[redacted]") {
		t.Errorf("%v\n%s", err, body)
	}
	if strings.Contains(p.log(), secret) {
		t.Error("the token is in the log")
	}
}

// accessLines waits for n lines of an access log.
func accessLines(t testing.TB, n int, read func() string) []string {
	t.Helper()
	var lines []string
	eventually(t, patience, fmt.Sprint(n, " lines of the access log"), func() error {
		lines = strings.Split(strings.TrimSuffix(read(), "\n"), "\n")
		if len(lines) < n || lines[0] == "" {
			return fmt.Errorf("%d", len(lines))
		}
		return nil
	})
	if len(lines) != n {
		t.Errorf("%d lines, want %d:\n%s", len(lines), n, strings.Join(lines, "\n"))
	}
	return lines
}

// hostile requests try to forge a line, to move a terminal's cursor, to turn the
// direction of writing, and to leave a secret.
func hostile() []string {
	return []string{
		"GET /plain?a=b HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: tester\r\nX-Request-ID: abc-1\r\n\r\n",
		"GET /x?token=hunter2&b=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer hunter2\r\nCookie: session=hunter2\r\n\r\n",
		"GET /%0a{\"status\":200,\"path\":\"/forged\"} HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /\xe2\x80\xaegnp.exe HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: \xc2\x9b31m\xe2\x80\xa8\"forged\"\r\n\r\n",
		"GET /\x1b[2J HTTP/1.1\r\nHost: a\r\n\r\n",
	}
}

// askHostile sends each request on a connection of its own and returns how many
// were answered with 200.
func askHostile(t testing.TB, address string) (served int) {
	t.Helper()
	for _, request := range hostile() {
		conn := dial(t, address)
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(conn.r, nil)
		if err != nil {
			t.Fatalf("%q: %v", request, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode == 200 {
			served++
		}
		conn.Close()
	}
	return served
}

func TestAccessLogJSON(t *testing.T) {
	p := start(t, "proxy", app(plainListener, origin(t, named("one")))+"loops: 1\naccess_log: {path: access.log, format: json}\n")
	served := askHostile(t, p.address("in"))
	lines := accessLines(t, len(hostile()), func() string {
		data, _ := os.ReadFile(filepath.Join(p.dir, "access.log"))
		return string(data)
	})
	ok := 0
	for i, line := range lines {
		var v struct {
			Time                                                    time.Time
			Direction, Protocol, Listener, Route, Service, Endpoint string
			Method, Authority, Path, Reason, Client                 string
			Status, Attempts                                        int
			DurationMS                                              map[string]float64 `json:"duration_ms"`
			BytesIn                                                 int                `json:"bytes_in"`
			BytesOut                                                int                `json:"bytes_out"`
			RequestID                                               string             `json:"request_id"`
			UserAgent                                               string             `json:"user_agent"`
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Errorf("line %d: %v\n%s", i+1, err, line)
			continue
		}
		mustBePrintable(t, line)
		if v.Status == 200 {
			ok++
		} else if v.Reason != "bad_request" || v.Status != 400 {
			t.Errorf("line %d: status %d, reason %q", i+1, v.Status, v.Reason)
		}
		if i > 0 {
			continue
		}
		if v.Direction != "inbound" || v.Protocol != "http" || v.Listener != "in" || v.Route != "default" || v.Service != "app" ||
			v.Endpoint == "" || v.Method != "GET" || v.Authority != "shop.test" || v.Path != "/plain?a=b" || v.Attempts != 1 ||
			v.RequestID != "abc-1" || v.UserAgent != "tester" || v.BytesIn == 0 || v.BytesOut == 0 || v.DurationMS["total"] <= 0 ||
			!strings.HasPrefix(v.Client, "127.0.0.1:") || time.Since(v.Time) > time.Minute {
			t.Errorf("the first line: %s", line)
		}
	}
	if ok != served {
		t.Errorf("%d lines with status 200, want %d", ok, served)
	}
}

func TestAccessLogText(t *testing.T) {
	p := start(t, "proxy", app(plainListener, origin(t, named("one")))+"loops: 1\naccess_log: stdout\n")
	askHostile(t, p.address("in"))
	lines := accessLines(t, len(hostile()), p.stdout.String)
	for _, line := range lines {
		mustBePrintable(t, line)
	}
	for _, want := range []string{" in ", " 200 ", " GET ", "shop.test/plain?a=b -> app 127.0.0.1:", "client=127.0.0.1:"} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("%q is not in the first line: %s", want, lines[0])
		}
	}
}

// mustBePrintable wants no byte that a terminal or a log reader would obey, and no
// secret.
func mustBePrintable(t testing.TB, line string) {
	t.Helper()
	for _, r := range line {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			t.Errorf("%U in %q", r, line)
		}
	}
	if strings.Contains(line, "hunter2") {
		t.Errorf("a secret in %s", line)
	}
}

// A reader of the log that has stopped reading costs lines, which are counted, and
// no request; nor does it hold up the end.
func TestAccessLogBlockedSinkDropsLinesNotRequests(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := launchTo(t, w, shortDir(t), "proxy", app(plainListener, origin(t, named("one")))+"access_log: {path: stdout, format: json}\n")
	w.Close()
	p.waitReady()
	// A line has some 400 bytes; the pipe holds 64 KiB, each loop's ring 256 KiB.
	mustBeClean(t, load.HTTP(t.Context(), load.Options{Addr: p.address("in"), Conns: 8, Requests: 4000}))
	eventually(t, patience, "lost lines are counted", func() error {
		if n := p.scrape().sum("larboard_access_log_dropped_total"); n < 100 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	began := time.Now()
	p.signal(syscall.SIGTERM)
	if code := p.exit(patience); code != 0 || time.Since(began) > claimed(4*time.Second) {
		t.Errorf("exit code %d after %v\n%s", code, time.Since(began), p.log())
	}
}
