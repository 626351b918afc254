package proxyproto

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"
)

// v2 builds a header of version 2.
func v2(command, family byte, payload string) string {
	n := binary.BigEndian.AppendUint16(nil, uint16(len(payload)))
	return signature + string([]byte{command, family}) + string(n) + payload
}

const (
	four = "\xc0\x00\x02\x01\xc0\x00\x02\x02\x30\x39\x01\xbb" // 192.0.2.1:12345 to 192.0.2.2:443
	six  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x30\x39\x01\xbb"
	mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x02\x30\x39\x01\xbb"
)

// summed is a header of version 2 with a right checksum, or a wrong one.
func summed(wrong uint32) string {
	h := []byte(v2(commandProxy, tcp4, four+"\x03\x00\x04\x00\x00\x00\x00"+"\x05\x00\x02id"))
	at := headV2 + len(four) + extensionHead
	sum := crc32.Checksum(h, crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(h[at:], sum^wrong)
	return string(h)
}

var (
	client4, server4 = netip.MustParseAddrPort("192.0.2.1:12345"), netip.MustParseAddrPort("192.0.2.2:443")
	client6, server6 = netip.MustParseAddrPort("[2001:db8::1]:12345"), netip.MustParseAddrPort("[2001:db8::2]:443")
)

var cases = []struct {
	name, data string
	want       Header
	length     int // 0: all of it
	err        error
}{
	{"v1 TCP4", "PROXY TCP4 192.0.2.1 192.0.2.2 12345 443\r\n", Header{V1, false, client4, server4}, 0, nil},
	{"v1 and more", "PROXY TCP4 192.0.2.1 192.0.2.2 12345 443\r\nGET", Header{V1, false, client4, server4}, 42, nil},
	{"v1 TCP6", "PROXY TCP6 2001:db8::1 2001:DB8:0:0::2 12345 443\r\n", Header{V1, false, client6, server6}, 0, nil},
	{"v1 TCP6, mapped", "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 12345 443\r\n", Header{V1, false, client4, server4}, 0, nil},
	{"v1 unknown", "PROXY UNKNOWN\r\n", Header{Version: V1}, 0, nil},
	{"v1 unknown, with more", "PROXY UNKNOWN ffff::1 whatever 1 2\r\n", Header{Version: V1}, 0, nil},
	{"v1, the longest", "PROXY UNKNOWN " + strings.Repeat("y", lineMost-16) + "\r\n", Header{Version: V1}, 0, nil},
	{"v1 too long", "PROXY UNKNOWN " + strings.Repeat("y", lineMost), Header{}, 0, errLong1},
	{"v1 without CR", "PROXY TCP4 192.0.2.1 192.0.2.2 12345 443\n", Header{}, 0, errLine},
	{"v1 with a CR inside", "PROXY TCP4 192.0.2.1 192.0.2.2 12345 4\r3\r\n", Header{}, 0, errPort},
	{"v1, empty", "PROXY \r\n", Header{}, 0, errFamily1},
	{"v1 UDP", "PROXY UDP4 192.0.2.1 192.0.2.2 12345 443\r\n", Header{}, 0, errFamily1},
	{"v1, small letters", "PROXY tcp4 192.0.2.1 192.0.2.2 12345 443\r\n", Header{}, 0, errFamily1},
	{"v1, UNKNOWN and a letter", "PROXY UNKNOWNX\r\n", Header{}, 0, errFamily1},
	{"v1, families mixed", "PROXY TCP4 192.0.2.1 2001:db8::2 12345 443\r\n", Header{}, 0, errAddress},
	{"v1, another family", "PROXY TCP6 192.0.2.1 192.0.2.2 12345 443\r\n", Header{}, 0, errAddress},
	{"v1, a zero before", "PROXY TCP4 192.0.2.01 192.0.2.2 12345 443\r\n", Header{}, 0, errAddress},
	{"v1 with a zone", "PROXY TCP6 fe80::1%eth0 fe80::2 12345 443\r\n", Header{}, 0, errAddress},
	{"v1, three numbers", "PROXY TCP4 192.0.2 192.0.2.2 12345 443\r\n", Header{}, 0, errAddress},
	{"v1, port too large", "PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n", Header{}, 0, errPort},
	{"v1, port with a sign", "PROXY TCP4 192.0.2.1 192.0.2.2 +1 443\r\n", Header{}, 0, errPort},
	{"v1, port with a zero before", "PROXY TCP4 192.0.2.1 192.0.2.2 01 443\r\n", Header{}, 0, errPort},
	{"v1 without a port", "PROXY TCP4 192.0.2.1 192.0.2.2 12345\r\n", Header{}, 0, errLine},
	{"v1, a word too many", "PROXY TCP4 192.0.2.1 192.0.2.2 12345 443 1\r\n", Header{}, 0, errLine},
	{"v1, a space too many", "PROXY TCP4  192.0.2.1 192.0.2.2 12345 443\r\n", Header{}, 0, errLine},
	{"v1, a space at the end", "PROXY TCP4 192.0.2.1 192.0.2.2 12345 443 \r\n", Header{}, 0, errLine},

	{"v2 TCP4", v2(commandProxy, tcp4, four), Header{V2, false, client4, server4}, 0, nil},
	{"v2 UDP4", v2(commandProxy, udp4, four), Header{V2, false, client4, server4}, 0, nil},
	{"v2 TCP6", v2(commandProxy, tcp6, six), Header{V2, false, client6, server6}, 0, nil},
	{"v2 TCP6, mapped", v2(commandProxy, tcp6, mapped), Header{V2, false, client4, server4}, 0, nil},
	{"v2 Unix", v2(commandProxy, unixStream, strings.Repeat("\x00", 216)), Header{Version: V2}, 0, nil},
	{"v2 unspecified", v2(commandProxy, unspecified, ""), Header{Version: V2}, 0, nil},
	{"v2 unspecified, with something", v2(commandProxy, unspecified, "what"), Header{Version: V2}, 0, nil},
	{"v2 local", v2(commandLocal, unspecified, ""), Header{Version: V2, Local: true}, 0, nil},
	{"v2 local, with addresses that do not count", v2(commandLocal, tcp4, four), Header{Version: V2, Local: true}, 0, nil},
	{"v2 local, of any family", v2(commandLocal, 0xff, "x"), Header{Version: V2, Local: true}, 0, nil},
	{"v2 and more", v2(commandProxy, tcp4, four) + "GET", Header{V2, false, client4, server4}, headV2 + len(four), nil},
	{"v2 with extensions", v2(commandProxy, tcp4, four+"\x04\x00\x00\xe0\x00\x01x"), Header{V2, false, client4, server4}, 0, nil},
	{"v2 with a checksum", summed(0), Header{V2, false, client4, server4}, 0, nil},
	{"v2, the longest", v2(commandProxy, unspecified, strings.Repeat("x", payloadMost)), Header{Version: V2}, 0, nil},
	{"v2, a wrong checksum", summed(1), Header{}, 0, errChecksum},
	{"v2, a short checksum", v2(commandProxy, tcp4, four+"\x03\x00\x01x"), Header{}, 0, errChecksum},
	{"v2 too long", v2(commandProxy, tcp4, four+strings.Repeat("x", payloadMost)), Header{}, 0, errLong2},
	{"v2 too short", v2(commandProxy, tcp4, four[:11]), Header{}, 0, errShort},
	{"v2 Unix too short", v2(commandProxy, unixStream, "/a"), Header{}, 0, errShort},
	{"v2, extension cut off", v2(commandProxy, tcp4, four+"\x04\x00\x05four"), Header{}, 0, errExtension},
	{"v2, extension's head cut off", v2(commandProxy, tcp4, four+"\x04\x00"), Header{}, 0, errExtension},
	{"v2, another version", v2(0x31, tcp4, four), Header{}, 0, errVersion},
	{"v2, another command", v2(0x22, tcp4, four), Header{}, 0, errCommand},
	{"v2, another family", v2(commandProxy, 0x41, four), Header{}, 0, errFamily2},
	{"v2, another transport", v2(commandProxy, 0x13, four), Header{}, 0, errFamily2},
	{"v2, a family without transport", v2(commandProxy, 0x10, four), Header{}, 0, errFamily2},

	{"a request", "GET / HTTP/1.1\r\n", Header{}, 0, errNone},
	{"a request that begins alike", "PROXIES /", Header{}, 0, errNone},
	{"TLS", "\x16\x03\x01", Header{}, 0, errNone},
	{"an empty line and more", "\r\n\r\nGET", Header{}, 0, errNone},
}

func TestParse(t *testing.T) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			h, n, err := Parse([]byte(tc.data))
			if !errors.Is(err, tc.err) || h != tc.want {
				t.Fatalf("%+v, error %v", h, err)
			}
			want := tc.length
			if want == 0 && tc.err == nil {
				want = len(tc.data)
			}
			if n != want {
				t.Fatalf("length %d, want %d", n, want)
			}
			steady(t, []byte(tc.data))
		})
	}
}

// steady holds that it comes to the same however the bytes come, and in time.
func steady(t *testing.T, p []byte) {
	t.Helper()
	final, length, failure := Parse(p)
	for n := range p {
		h, m, err := Parse(p[:n])
		switch {
		case err != nil:
			if failure == nil { // which error it is may depend on how much is there to judge
				t.Fatalf("of %d bytes %v, of all none", n, err)
			}
		case m > 0:
			if h != final || m != length {
				t.Fatalf("of %d bytes %+v (%d), of all %+v (%d), %v", n, h, m, final, length, failure)
			}
		case n >= Most:
			t.Fatalf("no verdict on %d bytes", n)
		case Missing(p[:n]) < 1 || length > 0 && n+Missing(p[:n]) > length:
			t.Fatalf("%d bytes, of %d in all: %d are said to be missing", n, length, Missing(p[:n]))
		case length > 0 && n >= length:
			t.Fatalf("no verdict on %d bytes, of all %d", n, length)
		}
	}
	if length > Most || length > len(p) {
		t.Fatalf("length %d of %d bytes", length, len(p))
	}
}

func TestAppend(t *testing.T) {
	none := netip.AddrPort{}
	for _, tc := range []struct {
		name         string
		version      Version
		from, to     netip.AddrPort
		want         string
		source, dest netip.AddrPort
	}{
		{"v1 IPv4", V1, client4, server4, "PROXY TCP4 192.0.2.1 192.0.2.2 12345 443\r\n", client4, server4},
		{"v1 IPv6", V1, client6, server6, "PROXY TCP6 2001:db8::1 2001:db8::2 12345 443\r\n", client6, server6},
		{"v1 mixed", V1, client4, server6, "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 12345 443\r\n", client4, server6},
		{"v1 with a zone", V1, netip.MustParseAddrPort("[fe80::1%eth0]:1"), server6, "PROXY TCP6 fe80::1 2001:db8::2 1 443\r\n",
			netip.MustParseAddrPort("[fe80::1]:1"), server6},
		{"v1 unknown", V1, none, server4, "PROXY UNKNOWN\r\n", none, none},
		{"v2 IPv4", V2, client4, server4, v2(commandProxy, tcp4, four), client4, server4},
		{"v2 IPv4 mapped", V2, netip.AddrPortFrom(netip.AddrFrom16(client4.Addr().As16()), 12345), server4, v2(commandProxy, tcp4, four), client4, server4},
		{"v2 IPv6", V2, client6, server6, v2(commandProxy, tcp6, six), client6, server6},
		{"v2 unknown", V2, client4, none, v2(commandProxy, unspecified, ""), none, none},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Append([]byte("x"), tc.version, tc.from, tc.to)
			if string(got) != "x"+tc.want {
				t.Fatalf("%q", got)
			}
			h, n, err := Parse(got[1:])
			if err != nil || n != len(tc.want) || h != (Header{tc.version, false, tc.source, tc.dest}) {
				t.Fatalf("read again: %+v, %d, %v", h, n, err)
			}
		})
	}
	if got := string(AppendLocal(nil, V1)); got != "PROXY UNKNOWN\r\n" {
		t.Errorf("v1 of our own: %q", got)
	}
	if got := string(AppendLocal(nil, V2)); got != v2(commandLocal, unspecified, "") {
		t.Errorf("v2 of our own: %q", got)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	header := []byte(summed(0))
	room := make([]byte, 0, 128)
	if n := testing.AllocsPerRun(100, func() {
		Parse(header)
		Append(room, V1, client6, server6)
		Append(room, V2, client4, server4)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, tc := range cases {
		f.Add([]byte(tc.data))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		steady(t, p)
		h, n, err := Parse(p)
		if err != nil || n == 0 {
			return
		}
		again, m, err := Parse(Append(nil, h.Version, h.Source, h.Destination))
		h.Local = false
		if err != nil || m == 0 || again != h {
			t.Fatalf("%+v written and read again: %+v, %v", h, again, err)
		}
	})
}
