package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
)

// Each preset and a template, side by side, of one request.
func TestAccessLogFormats(t *testing.T) {
	p := start(t, "proxy", app(plainListener, origin(t, named("one")))+`
access_log:
- {path: text.log}
- {path: json.log, format: json, capture: {request: [x-tenant]}}
- {path: httplog.log, format: httplog, capture: {request: [x-tenant]}}
- {path: tcplog.log, format: tcplog}
- {path: combined.log, format: combined}
- {path: own.log, template: '%{status} %{path|max(9)} "%{req.header(x-tenant)}" %{req.header(authorization)|redact} %{resp.header(content-type)}'}
`)
	exchangeRaw(t, p.address("in"), "GET /a/path?token=abc HTTP/1.1\r\nHost: shop.test\r\nX-Tenant: \"blue\"\r\nAuthorization: Bearer hunter2\r\n"+
		"User-Agent: tester\r\nReferer: https://a.test/?password=hunter2&x=1\r\nConnection: close\r\n\r\n")
	const date = `\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d`
	for name, want := range map[string]string{
		"text":     `^\d{4}-\S+Z in +200 +[\d.]+ms GET     shop\.test/a/path\?token=\[redacted\] -> app 127\.0\.0\.1:\d+ in=\d+ out=\d+ client=127\.0\.0\.1:\d+`,
		"json":     `^\{"time":.*"path":"/a/path\?token=\[redacted\]","status":200,.*"request_fields":\{"x-tenant":"\\"blue\\""\}\}$`,
		"httplog":  `^127\.0\.0\.1:\d+ ` + date + `\.\d{3}\] in app/127\.0\.0\.1:\d+ \d+/0/\d+/\d+/\d+ 200 \d+ - - ---- 1/1/0/0/0 0/0 \{#22blue#22\} "GET /a/path\?token=\[redacted\] HTTP/1\.1"$`,
		"tcplog":   `^127\.0\.0\.1:\d+ ` + date + `\.\d{3}\] in app/127\.0\.0\.1:\d+ 0/\d+/\d+ \d+ -- 1/1/0/0/0 0/0$`,
		"combined": `^127\.0\.0\.1 - - ` + date + ` [+-]\d{4}\] "GET /a/path\?token=\[redacted\] HTTP/1\.1" 200 \d+ "https://a\.test/\?password=\[redacted\]&x=1" "tester"$`,
		"own":      `^200 /a/path\?t… "\\"blue\\"" \[redacted\] text/plain; charset=utf-8$`,
	} {
		line := accessLines(t, 1, func() string {
			data, _ := os.ReadFile(filepath.Join(p.dir, name+".log"))
			return string(data)
		})[0]
		if !regexp.MustCompile(want).MatchString(line) {
			t.Errorf("%s: %s", name, line)
		}
		mustBePrintable(t, line)
	}
}

// fileLines counts the lines of files.
func fileLines(t testing.TB, paths ...string) (n int) {
	t.Helper()
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if !json.Valid([]byte(line)) {
				t.Fatalf("%s: a torn line: %s", path, line)
			}
			n++
		}
	}
	return n
}

// mustBeLogged ends p and wants a line in the files for each request. One that was repeated, because
// its connection was closed, may have two.
func mustBeLogged(t testing.TB, p *larboard, r load.Result, paths []string) {
	t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.exit(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if n := fileLines(t, paths...); n < r.Requests || n > r.Requests+r.Retried {
		t.Errorf("%d lines for %v", n, r)
	}
}

// Under load the log is rotated in each of the ways there are: renamed and left to be noticed,
// renamed and told by signal, by the admin API, replaced. Every answer has its line.
func TestAccessLogRotationUnderLoad(t *testing.T) {
	p := start(t, "proxy", app(plainListener, origin(t, named("one")))+"access_log: {path: access.log, format: json}\n")
	path := filepath.Join(p.dir, "access.log")
	s := send(t, load.Options{Addr: p.address("in"), Conns: 4, Rate: 1000})
	paths := []string{path}
	for i := range 8 {
		s.await(100)
		old := fmt.Sprintf("%s.%d", path, i)
		paths = append(paths, old)
		if err := os.Rename(path, old); err != nil {
			t.Fatal(err)
		}
		switch i % 4 {
		case 1:
			p.signal(syscall.SIGUSR1)
		case 2:
			if status, body := p.post("/api/v1/logs/reopen"); status != http.StatusOK || !strings.Contains(body, `"access"`) {
				t.Errorf("%d %s", status, body)
			}
		case 3:
			if f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640); err == nil {
				f.Close()
			} else if !os.IsExist(err) {
				t.Fatal(err)
			}
		}
		eventually(t, patience, "a new file", func() error {
			info, err := os.Stat(path)
			if err == nil && info.Size() == 0 {
				err = fmt.Errorf("it is empty")
			}
			return err
		})
	}
	mustBeLogged(t, p, s.endClean(), paths)
}

// A disk that is full costs no request. Lines are kept while there is room, and go on when there is.
func TestAccessLogDiskFull(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "access.log")
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	p := launchIn(t, dir, "proxy", app(plainListener, origin(t, named("one")))+"loops: 1\naccess_log: {path: access.log, format: json}\n")
	p.waitReady()
	const lines = "larboard_access_log_lines_total"
	s := send(t, load.Options{Addr: p.address("in"), Conns: 4, Rate: 2000})
	eventually(t, 2*patience, "the ring is full and lines are counted", func() error {
		if m := p.scrape(); m.sum(lines, `result="dropped"`) < 100 || m.sum(lines, `result="written"`) != 0 ||
			m.sum("larboard_access_log_dropped_total") < 100 {
			return fmt.Errorf("%v dropped", m.sum(lines, `result="dropped"`))
		}
		return nil
	})
	real := filepath.Join(dir, "real.log")
	if err := os.Symlink(real, path+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	p.waitLog("access log sink works again")
	s.await(100)
	answers := s.endClean().Requests
	p.signal(syscall.SIGTERM)
	if code := p.exit(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if n := fileLines(t, real); n < 300 || n >= answers {
		t.Errorf("%d lines for %d answers", n, answers)
	}
	if n := strings.Count(p.log(), "access log sink fails"); n != 1 {
		t.Errorf("it was said %d times", n)
	}
}

// messages is a syslog server over streams that counts what it gets.
type messages struct {
	net.Listener
	n       atomic.Int64
	errors  atomic.Int64 // of these, with the level err
	reading chan struct{}
}

// hear serves a listener; it reads once reading is closed. Messages are framed by their length.
func hear(t testing.TB, l net.Listener) *messages {
	t.Helper()
	m := &messages{Listener: l, reading: make(chan struct{})}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go m.read(conn)
		}
	}()
	return m
}

func (m *messages) read(conn net.Conn) {
	defer conn.Close()
	<-m.reading
	in := bufio.NewReader(conn)
	for {
		size, err := in.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(size, " "))
		text := make([]byte, n)
		if err != nil {
			return
		}
		if _, err = io.ReadFull(in, text); err != nil {
			return
		}
		_, line, _ := strings.Cut(string(text), " - - ")
		if !json.Valid([]byte(line)) {
			return
		}
		m.n.Add(1)
		if strings.HasPrefix(string(text), "<131>1 ") {
			m.errors.Add(1)
		}
	}
}

func listenAt(t testing.TB, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Lines arrive at syslog servers of every kind, with the levels split.
func TestAccessLogSyslog(t *testing.T) {
	tcp, stream := hear(t, listenAt(t, "tcp", "127.0.0.1:0")), hear(t, listenAt(t, "unix", filepath.Join(shortDir(t), "stream")))
	close(tcp.reading)
	close(stream.reading)
	udp, datagrams := syslogged(t)
	local := filepath.Join(shortDir(t), "log")
	conn, err := net.ListenPacket("unixgram", local)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var near output
	go receive(conn, &near)
	p := start(t, "proxy", fmt.Sprintf(`
loops: 1
access_log:
- {name: tcp, syslog: "tcp://%s", format: json}
- {name: stream, syslog: {address: "unix://%s", framing: octets}, format: json}
- {name: udp, syslog: {address: "udp://%s", format: rfc3164, host: edge, tag: larb}, format: httplog}
- {name: near, syslog: {address: "unix://%s", format: rfc3164, error_level: info}, format: tcplog, when: {failed: true}}
listeners: [{name: in, address: 127.0.0.1:0, routes: [{match: {path: /dead}, service: dead}, {service: app}]}]
services: [{name: app, endpoints: [%q]}, {name: dead, endpoints: [%q]}]
`, tcp.Addr(), stream.Addr(), udp, local, origin(t, named("one")), freeAddress(t)))
	for _, path := range []string{"/", "/dead", "/"} {
		exchangeRaw(t, p.address("in"), "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	}
	for name, m := range map[string]*messages{"tcp": tcp, "stream": stream} {
		eventually(t, patience, "messages over "+name, func() error {
			if n, errors := m.n.Load(), m.errors.Load(); n != 3 || errors != 1 {
				return fmt.Errorf("%d, %d of them errors", n, errors)
			}
			return nil
		})
	}
	const head = `^<(\d+)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d `
	for i, line := range accessLines(t, 3, datagrams.String) {
		m := regexp.MustCompile(head + `edge larb\[\d+\]: 127\.0\.0\.1:\d+ \[.*"$`).FindStringSubmatch(line)
		if m == nil || m[1] != []string{"134", "131", "134"}[i] {
			t.Errorf("over UDP: %s", line)
		}
	}
	if line := accessLines(t, 1, near.String)[0]; !regexp.MustCompile(head + `larboard\[\d+\]: .* dead/.* SC `).MatchString(line) {
		t.Errorf("over a Unix socket: %s", line)
	}
}

// A syslog server that accepts and reads nothing costs lines, which are counted, and no request, nor
// does it hold up the end.
func TestAccessLogHangingSyslogServer(t *testing.T) {
	m := hear(t, listenAt(t, "tcp", "127.0.0.1:0"))
	defer close(m.reading)
	p := start(t, "proxy", app(plainListener, origin(t, named("one")))+fmt.Sprintf("loops: 1\naccess_log: {syslog: \"tcp://%s\", "+
		"template: '%%{path|max(8000)}'}\n", m.Addr()))
	// Long lines fill the kernel's buffers sooner.
	s := send(t, load.Options{Addr: p.address("in"), Conns: 8, Rate: 1000, Path: "/" + strings.Repeat("x", 7000)})
	eventually(t, 3*patience, "lost lines are counted", func() error {
		if n := p.scrape().sum("larboard_access_log_lines_total", `result="dropped"`); n < 100 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	p.waitLog("access log sink fails")
	s.endClean()
	began := time.Now()
	p.signal(syscall.SIGTERM)
	if code := p.exit(patience); code != 0 || time.Since(began) > 10*time.Second {
		t.Errorf("exit code %d after %v\n%s", code, time.Since(began), p.log())
	}
}

// A reload brings other logs into force while traffic goes on, and no answer is without its line.
func TestAccessLogReloadUnderLoad(t *testing.T) {
	one := origin(t, named("one"))
	conf := func(n int) string {
		return app(plainListener, one) + fmt.Sprintf("access_log: {path: access.%d.log, format: json}\n", n)
	}
	p := start(t, "proxy", conf(0))
	paths := []string{filepath.Join(p.dir, "access.0.log")}
	s := send(t, load.Options{Addr: p.address("in"), Conns: 4, Rate: 1000})
	for i := 1; i < 5; i++ {
		s.await(100)
		paths = append(paths, filepath.Join(p.dir, fmt.Sprintf("access.%d.log", i)))
		p.configure(conf(i))
		if status, body := p.reload(); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
	}
	s.await(100)
	mustBeLogged(t, p, s.endClean(), paths)
}

// What is wrong with a template is said with its place, and stops a start.
func TestAccessLogTemplateIsChecked(t *testing.T) {
	dir := shortDir(t)
	file := writeFile(t, dir, "larboard.yaml", app(plainListener, "127.0.0.1:1")+"access_log: {path: a.log, template: '%{tme} %{req.header(cookie)}'}\n")
	code, _, stderr := command(t, dir, "check", "-c", file)
	for _, want := range []string{":3:40: access_log.template: at character 3: there is no value of this name; did you mean \"time\"?", "cookie holds a credential"} {
		if code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("exit code %d, want %q in\n%s", code, want, stderr)
		}
	}
}
