package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

// logOrigin answers as its path asks.
func logOrigin(t testing.TB) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/close":
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.Close()
			}
		case "/slow":
			<-r.Context().Done()
		case "/garbage":
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, "nonsense\r\n\r\n")
				conn.Close()
			}
		case "/missing":
			http.Error(w, "missing", http.StatusNotFound)
		case "/broken":
			http.Error(w, "broken", http.StatusInternalServerError)
		default:
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, "hello\n")
		}
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String()
}

// syslogged receives datagrams as lines.
func syslogged(t testing.TB) (address string, lines *output) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	lines = &output{}
	go receive(conn, lines)
	return conn.LocalAddr().String(), lines
}

// receive writes datagrams as lines until the socket is closed.
func receive(conn net.PacketConn, lines io.Writer) {
	buf := make([]byte, 64<<10)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = lines.Write(append(bytes.TrimRight(buf[:n], "\n"), '\n'))
	}
}

// exchangeRaw sends bytes on a connection of its own and reads to the end of what comes; without
// any, it leaves.
func exchangeRaw(t testing.TB, address, text string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Error(err)
		return
	}
	if text != "" {
		_, _ = io.Copy(io.Discard, conn)
	}
}

// exchangeBoth does so at two addresses at once.
func exchangeBoth(t testing.TB, one, other, text string) {
	t.Helper()
	var both sync.WaitGroup
	for _, address := range []string{one, other} {
		both.Go(func() { exchangeRaw(t, address, text) })
	}
	both.Wait()
}

// haproxyLine takes a line apart: what must be equal at both, and what cannot be is left out: the
// client's port, the date, how long things took, how many bytes an error page has, how many
// connections there were (those of a moment ago count, too, where they are still being closed).
var haproxyLine = regexp.MustCompile(`^(\S+):\d+ \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d\.\d{3}\] (\S+) (\S+) (-?\d+(?:/-?\d+)*) (?:(-?\d+) )?\d+ (.*)$`)

// comparable is a line of HAProxy's without what differs from run to run.
func comparable(t testing.TB, line string) string {
	t.Helper()
	m := haproxyLine.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("not HAProxy's form: %s", line)
	}
	timers := regexp.MustCompile(`\d+`).ReplaceAllStringFunc(strings.ReplaceAll(m[4], "-1", "no"), func(string) string { return "N" })
	rest := regexp.MustCompile(` \d+/\d+/\d+/\d+/(\+?\d+ 0/0)`).ReplaceAllString(m[6], " N/N/N/N/$1")
	return strings.Join([]string{m[1], m[2], m[3], timers, m[5], rest}, " ")
}

// halog feeds lines to HAProxy's own reader of logs, behind the header that a syslog daemon
// writes, and returns what it says.
func halog(t testing.TB, lines []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), real.Installed(t, "halog"), args...)
	const head = "Feb  6 12:14:14 localhost haproxy[14389]: "
	cmd.Stdin = strings.NewReader(head + strings.Join(lines, "\n"+head) + "\n")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || !strings.Contains(errs.String(), ", 0 parsing errors") {
		t.Fatalf("halog %v: %v\n%s%s", args, err, out.String(), errs.String())
	}
	return out.String()
}

// The same requests through HAProxy and through us leave the same lines.
func TestHTTPLogBesideHAProxy(t *testing.T) {
	app, dead := logOrigin(t), freeAddress(t)
	sink, theirs := syslogged(t)
	addresses := real.HAProxy(t, 1, func(listen []string) string {
		return fmt.Sprintf(`
defaults
  mode http
  option httplog
  option dontlognull
  log %[1]s format raw local0
  timeout http-request 2s
  timeout client 10s
  timeout server 2s
  timeout connect 5s
  retries 0
frontend web
  bind %[2]s
  capture request header Host len 20
  capture request header User-Agent len 8
  capture response header Content-Type len 64
  use_backend dead if { path /dead }
  default_backend app
backend app
  server %[3]s %[3]s
backend dead
  server %[4]s %[4]s
`, sink, listen[0], app, dead)
	})
	p := start(t, "proxy", fmt.Sprintf(`
loops: 1
timeouts: {request_head: 2s, response_head: 2s}
access_log: {path: stdout, format: httplog, capture: {request: [{name: host, length: 20}, {name: user-agent, length: 8}], response: [content-type]}}
listeners:
- name: web
  address: 127.0.0.1:0
  routes:
  - {match: {path: /dead}, service: dead}
  - {service: app}
services:
- {name: app, endpoints: [%q], retries: {attempts: 1}}
- {name: dead, endpoints: [%q], retries: {attempts: 1}}
`, app, dead))
	const host = "\r\nHost: shop.test\r\nConnection: close\r\n"
	requests := []string{
		"GET /index.html HTTP/1.1" + host + "User-Agent: curl/8.0.1\r\n\r\n",
		"HEAD / HTTP/1.0\r\nHost: a\r\n\r\n",
		"POST /form?x=1 HTTP/1.1" + host + "Content-Length: 5\r\n\r\nhello",
		"GET /missing HTTP/1.1" + host + "User-Agent: a|b{c}\"#\r\n\r\n",
		"GET /broken HTTP/1.1" + host + "\r\n",
		"GET /dead HTTP/1.1" + host + "\r\n",
		"GET /close HTTP/1.1" + host + "\r\n",
		"GET /garbage HTTP/1.1" + host + "\r\n",
		"GET /slow HTTP/1.1" + host + "\r\n",
		"GET /{\"a\"} HTTP/1.1" + host + "\r\n",
		"GET / HTTP/1.1" + host, // never complete
		"GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n",
	}
	var lines []string
	for i, request := range requests {
		exchangeBoth(t, addresses[0], p.address("web"), request)
		want, got := accessLines(t, i+1, theirs.String)[i], accessLines(t, i+1, p.stdout.String)[i]
		if comparable(t, got) != comparable(t, want) {
			t.Errorf("%.30q\nHAProxy: %s\nours:    %s", request, want, got)
		}
		lines = append(lines, got)
	}
	for _, tc := range []struct{ flag, want string }{
		{"-st", "200 4\n"}, // status codes
		{"-tc", "sH 1\n"},  // termination codes
		{"-u", " /index.html\n"},
		{"-ic", "12 2 "},
		{"-srv", "app/" + app + " 0 4 0 1 4 0 9 6 66.7 "},
	} {
		if said := halog(t, lines, tc.flag); !strings.Contains(said, tc.want) {
			t.Errorf("halog %s has no %q:\n%s", tc.flag, tc.want, said)
		}
	}
}

// The same connections through HAProxy and through us leave the same lines; those without data
// leave none.
func TestTCPLogBesideHAProxy(t *testing.T) {
	app := logOrigin(t)
	sink, theirs := syslogged(t)
	addresses := real.HAProxy(t, 1, func(listen []string) string {
		return fmt.Sprintf(`
defaults
  mode tcp
  option tcplog
  option dontlognull
  log %[1]s format raw local0
  timeout client 10s
  timeout server 10s
  timeout connect 5s
frontend in
  bind %[2]s
  default_backend app
backend app
  server %[3]s %[3]s
`, sink, listen[0], app)
	})
	p := start(t, "proxy", fmt.Sprintf(`
loops: 1
access_log: {path: stdout, format: tcplog, when: {skip_empty: true}}
listeners:
- {name: in, address: 127.0.0.1:0, protocol: tcp, service: app}
services:
- {name: app, endpoints: [%q]}
`, app))
	for i, request := range []string{"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET /close HTTP/1.1\r\nHost: a\r\n\r\n"} {
		exchangeBoth(t, addresses[0], p.address("in"), "")
		exchangeBoth(t, addresses[0], p.address("in"), request)
		want, got := accessLines(t, i+1, theirs.String)[i], accessLines(t, i+1, p.stdout.String)[i]
		if comparable(t, got) != comparable(t, want) {
			t.Errorf("%.30q\nHAProxy: %s\nours:    %s", request, want, got)
		}
	}
	eventually(t, patience, "connections without data are counted", func() error {
		if n := p.scrape().sum("larboard_access_log_lines_total", `result="skipped"`); n != 2 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
}
