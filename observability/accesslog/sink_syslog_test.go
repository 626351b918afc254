package accesslog

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
)

// patience is what a condition gets that should hold soon.
const patience = 30 * time.Second

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// received is what a server has been sent.
type received struct {
	mu   sync.Mutex
	list []string
}

func (r *received) add(message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, message)
}

func (r *received) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.list...)
}

func (r *received) datagrams(conn net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		r.add(string(buf[:n]))
	}
}

// stream reads messages framed by line ends, or by their length.
func (r *received) stream(conn io.Reader, octets bool) {
	in := bufio.NewReader(conn)
	for {
		if !octets {
			text, err := in.ReadString('\n')
			if err != nil {
				return
			}
			r.add(strings.TrimSuffix(text, "\n"))
			continue
		}
		size, err := in.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(size, " "))
		if err != nil {
			r.add("framing: " + size)
			return
		}
		text := make([]byte, n)
		if _, err := io.ReadFull(in, text); err != nil {
			return
		}
		r.add(string(text))
	}
}

// accept serves connections until the listener ends.
func (r *received) accept(l net.Listener, octets bool) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			r.stream(conn, octets)
		}()
	}
}

func listenPacket(t testing.TB, network, address string) net.PacketConn {
	t.Helper()
	conn, err := net.ListenPacket(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func listen(t testing.TB, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sl") // short enough for the name of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "log")
}

func numbered(i int) *observability.Record {
	r := full()
	r.BytesIn = int64(i)
	return r
}

var numbers = regexp.MustCompile(`"bytes_in":(\d+)`)

func numberOf(t testing.TB, message string) int {
	t.Helper()
	m := numbers.FindStringSubmatch(message)
	if m == nil {
		t.Fatalf("no line: %q", message)
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

func TestSyslogSinks(t *testing.T) {
	const n = 200
	for _, tc := range []struct {
		name    string
		network string
		stream  bool
		octets  bool
		format  SyslogFormat
	}{
		{"udp rfc5424", "udp", false, false, SyslogRFC5424},
		{"udp rfc3164", "udp", false, false, SyslogRFC3164},
		{"tcp octets", "tcp", true, true, SyslogRFC5424},
		{"tcp lines", "tcp", true, false, SyslogRFC3164},
		{"unix datagrams", "unix", false, false, SyslogRFC3164},
		{"unix stream", "unix", true, false, SyslogRFC5424},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got received
			address := "127.0.0.1:0"
			if tc.network == "unix" {
				address = socketPath(t)
			}
			switch {
			case tc.stream:
				l := listen(t, tc.network, address)
				address = l.Addr().String()
				go got.accept(l, tc.octets)
			case tc.network == "unix":
				go got.datagrams(listenPacket(t, "unixgram", address))
			default:
				conn := listenPacket(t, tc.network, address)
				address = conn.LocalAddr().String()
				go got.datagrams(conn)
			}
			l := open(t, Options{Syslog: &SyslogOptions{Network: tc.network, Address: address, Format: tc.format, Facility: 16, Level: 6, ErrorLevel: 3,
				Tag: "larboard", Host: "machine", OctetCounting: tc.octets}})
			stop := run(l)
			for i := range n {
				r := numbered(i)
				if i%2 == 0 {
					r.Reason, r.Status, r.GRPC = policy.None, 200, policy.GRPCOK
				}
				l.Observe(r)
				if i%50 == 49 { // datagrams are not asked to wait by a server that is slow
					eventually(t, "the messages so far", func() bool { return len(got.all()) == i+1 })
				}
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			pid := os.Getpid()
			for i, message := range got.all() {
				priority := 16*8 + 3
				if i%2 == 0 {
					priority = 16*8 + 6
				}
				head := fmt.Sprintf("<%d>1 2026-03-04T04:06:08.323Z machine larboard %d - - {", priority, pid)
				if tc.format == SyslogRFC3164 {
					head = fmt.Sprintf("<%d>Mar  4 04:06:08 machine larboard[%d]: {", priority, pid)
				}
				if !strings.HasPrefix(message, head) || !strings.HasSuffix(message, "}") || numberOf(t, message) != i {
					t.Fatalf("message %d: %q, want %q at its beginning", i, message, head)
				}
			}
			if c := l.Counts(); c.Written != n || dropped(l) != 0 {
				t.Errorf("%+v", c)
			}
		})
	}
}

// A server that closes, is away for a while and comes back costs no line.
func TestSyslogServerThatComesBack(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			var got received
			address := "127.0.0.1:0"
			if network == "unix" {
				address = socketPath(t)
			}
			first := listen(t, network, address)
			address = first.Addr().String()
			accepted := make(chan net.Conn, 1)
			go func() {
				conn, err := first.Accept()
				if err == nil {
					accepted <- conn
					got.stream(conn, true)
				}
			}()
			l := open(t, Options{Syslog: &SyslogOptions{Network: network, Address: address, Tag: "x", OctetCounting: true}})
			stop := run(l)
			l.Observe(numbered(0))
			eventually(t, "the first line", func() bool { return len(got.all()) == 1 })
			first.Close()
			(<-accepted).Close()
			for i := 1; i < 50; i++ {
				l.Observe(numbered(i))
			}
			var second net.Listener
			eventually(t, "the address is free again", func() (ok bool) {
				var err error
				second, err = net.Listen(network, address)
				return err == nil
			})
			defer second.Close()
			go got.accept(second, true)
			eventually(t, "all lines", func() bool { return len(got.all()) == 50 })
			for i, message := range got.all() {
				if numberOf(t, message) != i {
					t.Fatalf("line %d is %q", i, message)
				}
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if c := l.Counts(); c.Written != 50 || dropped(l) != 0 {
				t.Errorf("%+v", c)
			}
		})
	}
}

// A server that accepts and never reads costs lines and nobody's time; when it reads after
// all, what it gets is whole.
func TestSyslogServerThatHangs(t *testing.T) {
	var said lockedBuffer
	listener := listen(t, "tcp", "127.0.0.1:0")
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	l := open(t, Options{Syslog: &SyslogOptions{Network: "tcp", Address: listener.Addr().String(), Tag: "x", OctetCounting: true},
		RingBytes: 64 << 10, Logger: textLogger(&said)})
	stop := run(l)
	n := 0
	// The kernel's buffers take some megabytes first.
	eventually(t, "lines are dropped, and it is said", func() bool {
		began := time.Now()
		for range 200 {
			l.Observe(numbered(n))
			n++
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("200 lines took %v", took)
		}
		return l.Counts().Dropped > 0 && strings.Contains(said.String(), "access log sink fails")
	})
	var got received
	go got.stream(<-accepted, true)
	eventually(t, "the ring is empty", func() bool { c := l.Counts(); return int(c.Written+c.Dropped) == n })
	eventually(t, "that it works again is said", func() bool { return strings.Contains(said.String(), "works again") })
	l.Observe(numbered(n))
	eventually(t, "the last line", func() bool {
		all := got.all()
		return len(all) > 0 && numberOf(t, all[len(all)-1]) == n
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	last := -1
	for _, message := range got.all() {
		if i := numberOf(t, message); i <= last || !strings.HasSuffix(message, "}") {
			t.Fatalf("%d after %d: %q", i, last, message)
		} else {
			last = i
		}
	}
	if c := l.Counts(); int(c.Written) != len(got.all()) || int(c.Written+c.Dropped) != n+1 || c.Failed != 0 {
		t.Errorf("%d lines, %d received, %+v", n+1, len(got.all()), c)
	}
}

// Where nobody listens, lines over UDP are known to be lost one by one.
func TestSyslogNobodyListens(t *testing.T) {
	conn := listenPacket(t, "udp", "127.0.0.1:0")
	address := conn.LocalAddr().String()
	conn.Close()
	var said lockedBuffer
	l := open(t, Options{Syslog: &SyslogOptions{Network: "udp", Address: address, Tag: "x"}, Logger: textLogger(&said)})
	for i := range 20 {
		l.Observe(numbered(i))
		l.flush()
	}
	if c := l.Counts(); c.Failed < 15 || c.Failed+c.Written != 20 {
		t.Errorf("%+v", c)
	}
	if n := strings.Count(said.String(), "access log sink fails"); n != 1 || !strings.Contains(said.String(), "connection refused") {
		t.Errorf("said %d times:\n%s", n, said.String())
	}
	if err := run(l)(); err != nil {
		t.Fatal(err)
	}
}

// At the end nobody waits for a server that is away; what is lost is counted.
func TestSyslogEndWithoutServer(t *testing.T) {
	l := open(t, Options{Syslog: &SyslogOptions{Network: "unix", Address: socketPath(t), Tag: "x"}})
	for i := range 7 {
		l.Observe(numbered(i))
	}
	if err := run(l)(); err != nil {
		t.Fatal(err)
	}
	if c := l.Counts(); c.Failed != 7 || c.Written != 0 {
		t.Errorf("%+v", c)
	}
}

func TestSyslogWaitsGrow(t *testing.T) {
	s := newSyslogSink(SyslogOptions{Network: "tcp"}, new(tally))
	dials := 0
	s.dial = func(string, string) (net.Conn, error) { dials++; return nil, io.ErrUnexpectedEOF }
	now := time.Unix(0, 0)
	for range 600 { // a minute
		if _, err := s.write([]byte("x\n"), now); err == nil {
			t.Fatal("no error")
		}
		now = now.Add(100 * time.Millisecond)
	}
	if dials < 8 || dials > 14 {
		t.Errorf("%d attempts within a minute", dials)
	}
}

func TestSyslogMessagesAreCut(t *testing.T) {
	h := newSyslogHead(&SyslogOptions{Tag: "x", MaxLength: 100})
	for _, filler := range []string{"a", "ä", "😀"} {
		got := h.cut([]byte(strings.Repeat(filler, 100)))
		if len(got) > 100 || len(got) < 96 || strings.ToValidUTF8(string(got), "?") != string(got) {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	}
	f := preset(t, "json")
	r := full()
	r.Path = []byte("/" + strings.Repeat("ä", 1000))
	if got := string(newProducer(minRing, f, h, 0).appendLine(nil, r)); len(got) > 101 || !strings.HasSuffix(got, "\n") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

func TestSyslogNames(t *testing.T) {
	for name, want := range map[string]int{"kern": 0, "local0": 16, "local7": 23} {
		if got, err := SyslogFacility(name); err != nil || got != want {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	for name, want := range map[string]int{"emerg": 0, "err": 3, "info": 6, "debug": 7} {
		if got, err := SyslogLevel(name); err != nil || got != want {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	if _, err := SyslogLevel("error"); err == nil {
		t.Error("no error for a level that is none")
	}
}
