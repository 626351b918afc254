package message

import (
	"net/netip"
	"testing"
)

func TestSplitAuthority(t *testing.T) {
	for _, tc := range []struct{ in, host, port string }{
		{"a", "a", ""}, {"a.b-c_d~1", "a.b-c_d~1", ""}, {"a:0", "a", "0"}, {"a:65535", "a", "65535"},
		{"10.0.0.1:80", "10.0.0.1", "80"}, {"[::]", "[::]", ""}, {"[2001:db8::1]:443", "[2001:db8::1]", "443"},
		{"a!$&'()*+;=b", "a!$&'()*+;=b", ""},
	} {
		host, port := SplitAuthority([]byte(tc.in))
		if string(host) != tc.host || string(port) != tc.port {
			t.Errorf("%q: %q %q", tc.in, host, port)
		}
	}
	for _, in := range []string{
		"", ":80", "a:", "a:b", "a:65536", "a:000080", "a:-1", "a b", "a/b", "a@b", "a?b", "a#b", "a,b", "a\\b", "a%41",
		"\x00", "\x7f", "\xe9", "[", "[]", "[::1", "[::1]x", "[::1]:", "::1", "[v1.a]", "[::1%25lo]", "[1.2.3.4]", "a]", "<a>",
	} {
		if host, _ := SplitAuthority([]byte(in)); host != nil {
			t.Errorf("%q accepted as %q", in, host)
		}
	}
}

var addresses = []string{
	"::", "::1", "1::", "1:2:3:4:5:6:7:8", "1::8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "fe80::ABCD", "::ffff:1.2.3.4",
	"1:2:3:4:5:6:1.2.3.4", "1::1.2.3.4", "0001::", "12345::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:::2", "1::2::3",
	":1", "1:", ":", ":::", "g::", "1:2:3:4:5:6:7:8::", "::1.2.3", "::1.2.3.256", "::1.2.3.04", "1.2.3.4::", "::1.2.3.4.5",
	"1:2:3:4:5:6:7:1.2.3.4", "::1.2.3.4:5", "1.2.3.4", "::1.", "::.1",
}

func TestIsIPv6(t *testing.T) {
	for _, a := range addresses {
		sameAsNetip(t, a)
	}
}

func sameAsNetip(t *testing.T, a string) {
	addr, err := netip.ParseAddr(a)
	if want := err == nil && addr.Is6() && addr.Zone() == ""; isIPv6([]byte(a)) != want {
		t.Errorf("isIPv6(%q) = %v", a, !want)
	}
}

func FuzzIPv6(f *testing.F) {
	for _, a := range addresses {
		f.Add(a)
	}
	f.Fuzz(sameAsNetip)
}
