package detect

import (
	"strings"
	"testing"
)

var cases = []struct {
	name, data string
	want       Verdict
}{
	{"nothing", "", More},
	{"get", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", HTTP1},
	{"HTTP/1.0", "GET /x?y HTTP/1.0\r\n\r\n", HTTP1},
	{"absolute form", "GET http://a.example/ HTTP/1.1\r\n", HTTP1},
	{"asterisk form", "OPTIONS * HTTP/1.1\r\n", HTTP1},
	{"connect", "CONNECT a.example:443 HTTP/1.1\r\n", HTTP1},
	{"a method of a later day", "VERSION-CONTROL /x HTTP/1.1\r\n", HTTP1},
	{"a version that is refused", "GET / HTTP/1.7\r\n", HTTP1},
	{"part of a method", "GE", More},
	{"part of a line", "GET /x HTTP/1", More},
	{"part of a line, all but the digit", "GET /x HTTP/1.", More},
	{"no version", "GET /\r\n", Opaque},
	{"another version", "GET / HTTP/2.0\r\n", Opaque},
	{"two spaces", "GET  / HTTP/1.1\r\n", Opaque},
	{"three words", "GET /a b HTTP/1.1\r\n", Opaque},
	{"small letters", "get / HTTP/1.1\r\n", Opaque},
	{"an empty line first", "\r\nGET / HTTP/1.1\r\n", Opaque},
	{"bytes above ASCII", "GET /\xc3\xa4 HTTP/1.1\r\n", Opaque},
	{"a method too long", strings.Repeat("A", longestMethod+1), Opaque},
	{"a long path", "GET /" + strings.Repeat("x", 2*Most), HTTP1},
	{"a long line of letters", "SAY " + strings.Repeat("x", 2*Most), Opaque},

	{"preface", Preface, HTTP2},
	{"preface and a frame", Preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00", HTTP2},
	{"part of the preface", Preface[:20], More},
	{"part that may be HTTP/1", "PRI /", More},
	{"not the preface after all", Preface[:18] + "XX\r\n\r\n", Opaque},

	{"client hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", TLS},
	{"client hello of TLS 1.3's record version", "\x16\x03\x03\x00\x40\x01", TLS},
	{"part of a record", "\x16\x03\x01\x02\x00", More},
	{"server hello", "\x16\x03\x03\x00\x40\x02", Opaque},
	{"a record too large", "\x16\x03\x01\x50\x00\x01", Opaque},
	{"an empty record", "\x16\x03\x01\x00\x00\x01", Opaque},
	{"an alert", "\x15\x03\x01\x00\x02\x01\x00", Opaque},
	{"SSL 2", "\x80\x2e\x01\x03\x01\x00", Opaque},
	{"another 0x16", "\x16abc", Opaque},

	{"SMTP", "EHLO mx.example.com\r\n", Opaque},
	{"SMTP to nobody", "QUIT\r\n", Opaque},
	{"Redis", "*1\r\n$4\r\nPING\r\n", Opaque},
	{"Redis inline", "PING\r\n", Opaque},
	{"Redis inline with a key", "GET /key\r\n", Opaque},
	{"Redis inline with two", "SET /key value\r\n", Opaque},
	{"memcached", "get key\r\n", Opaque},
	{"MySQL login", "\x20\x00\x00\x01\x85\xa6\xff\x19", Opaque},
	{"PostgreSQL start-up", "\x00\x00\x00\x27\x00\x03\x00\x00user\x00", Opaque},
	{"PostgreSQL SSLRequest", "\x00\x00\x00\x08\x04\xd2\x16\x2f", Opaque},
	{"SSH", "SSH-2.0-OpenSSH_9.9\r\n", Opaque},
	{"IRC", "CAP LS 302\r\n", Opaque},
	{"IRC's nick", "NICK me\r\nUSER me 0 * :me\r\n", Opaque},
	{"MQTT", "\x10\x1c\x00\x04MQTT\x04\x02", Opaque},
	{"AMQP", "AMQP\x00\x00\x09\x01", Opaque},
	{"NATS", "CONNECT {\"verbose\":false}\r\n", Opaque},
	{"STOMP", "CONNECT\naccept-version:1.2\n\n\x00", Opaque},
	{"RTSP", "OPTIONS rtsp://a.example/ RTSP/1.0\r\n", Opaque},
	{"SIP", "INVITE sip:b@b.example SIP/2.0\r\n", Opaque},
	{"ICAP", "REQMOD icap://a.example/x ICAP/1.0\r\n", Opaque},
	{"PROXY v1", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Opaque},
	{"PROXY v2", "\r\n\r\n\x00\r\nQUIT\n", Opaque},
	{"XMPP", "<?xml version='1.0'?>", Opaque},
	{"binary", "\x00\x01\x02", Opaque},
}

func TestOf(t *testing.T) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if got := Of([]byte(tc.data)); got != tc.want {
				t.Fatalf("%s, want %s", got, tc.want)
			}
			steady(t, []byte(tc.data))
		})
	}
}

// steady holds that the verdict is the same however the bytes come, and comes in time.
func steady(t *testing.T, p []byte) {
	t.Helper()
	final := More
	for n := range len(p) + 1 {
		v := Of(p[:n])
		if final != More && v != final {
			t.Fatalf("%s of %d bytes, %s of fewer", v, n, final)
		}
		if v == More && n >= Most {
			t.Fatalf("no verdict on %d bytes", n)
		}
		final = v
	}
}

func TestHTTP(t *testing.T) {
	for _, tc := range []struct {
		data string
		want Verdict
	}{
		{"", More}, {"P", More}, {"PRI * HTTP/2.0\r\n\r\n", More}, {Preface, HTTP2}, {Preface + "x", HTTP2},
		{"PO", HTTP1}, {"GET", HTTP1}, {"PRI * HTTP/2.0\r\nHost: a\r\n", HTTP1}, {"\x00", HTTP1}, {"\r\n", HTTP1},
	} {
		if got := HTTP([]byte(tc.data)); got != tc.want {
			t.Errorf("%q: %s, want %s", tc.data, got, tc.want)
		}
	}
}

func TestVerdictsAllocateNothing(t *testing.T) {
	line := []byte("GET /some/path HTTP/1.")
	if n := testing.AllocsPerRun(100, func() {
		for i := range line {
			Of(line[:i])
			HTTP(line[:i])
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func FuzzOf(f *testing.F) {
	for _, tc := range cases {
		f.Add([]byte(tc.data))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		steady(t, p)
		if (Of(p) == HTTP2) != (HTTP(p) == HTTP2) {
			t.Fatal("the two disagree about the preface")
		}
	})
}

func BenchmarkOf(b *testing.B) {
	p := []byte("GET /index.html HTTP/1.1\r\nHost: a.example\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if Of(p) != HTTP1 {
			b.Fatal("not HTTP/1")
		}
	}
}
