package grpc

import (
	"math"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
)

func TestIs(t *testing.T) {
	for _, c := range []struct {
		value string
		want  bool
	}{
		{"application/grpc", true},
		{"application/grpc+proto", true},
		{"application/grpc+", true},
		{"application/grpc;charset=utf-8", true},
		{"application/grpc ; charset=utf-8", true},
		{"Application/GRPC+Proto", true},
		{"application/grpc-web", false},
		{"application/grpc-web+proto", false},
		{"application/grpcx", false},
		{"application/grp", false},
		{"application/json", false},
		{"", false},
	} {
		if got := Is([]byte(c.value)); got != c.want {
			t.Errorf("%q: %v", c.value, got)
		}
	}
}

func TestParseTimeout(t *testing.T) {
	for _, c := range []struct {
		value string
		want  time.Duration
		ok    bool
	}{
		{"1S", time.Second, true},
		{"0n", 0, true},
		{"00000001m", time.Millisecond, true},
		{"99999999n", 99_999_999, true},
		{"250m", 250 * time.Millisecond, true},
		{"7u", 7 * time.Microsecond, true},
		{"2M", 2 * time.Minute, true},
		{"3H", 3 * time.Hour, true},
		{"2562047H", 2562047 * time.Hour, true},
		{"2562048H", math.MaxInt64, true},
		{"99999999H", math.MaxInt64, true},
		{"99999999M", 99_999_999 * time.Minute, true},
		{"", 0, false},
		{"S", 0, false},
		{"1", 0, false},
		{"100000000n", 0, false}, // nine digits
		{"1s", 0, false},
		{"1h", 0, false},
		{"-1S", 0, false},
		{"+1S", 0, false},
		{" 1S", 0, false},
		{"1 S", 0, false},
		{"1.5S", 0, false},
		{"1_0S", 0, false},
		{"0x1S", 0, false},
		{"1SS", 0, false},
		{"\x001S", 0, false},
	} {
		got, ok := ParseTimeout([]byte(c.value))
		if got != c.want || ok != c.ok {
			t.Errorf("%q: %v, %v", c.value, got, ok)
		}
	}
}

func TestAppendTimeout(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0n"},
		{-time.Second, "0n"},
		{1, "1n"},
		{99_999_999, "99999999n"},
		{100_000_000, "100000u"},
		{100_000_999, "100000u"}, // rounded down
		{time.Second, "1000000u"},
		{100 * time.Second, "100000m"},
		{28 * time.Hour, "100800S"},
		{math.MaxInt64, "2562047H"},
	} {
		if got := string(AppendTimeout(nil, c.d)); got != c.want {
			t.Errorf("%v: %s, want %s", c.d, got, c.want)
		}
	}
}

// FuzzTimeout: what is accepted and written again is accepted, and never later.
func FuzzTimeout(f *testing.F) {
	for _, seed := range []string{"1S", "99999999H", "0n", "", "100000000n", "1s"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		d, ok := ParseTimeout(value)
		if !ok {
			return
		}
		text := AppendTimeout(nil, d)
		again, ok := ParseTimeout(text)
		if !ok || again > d || d-again > d/100_000 {
			t.Fatalf("%q is %v, written as %q, read as %v (%v)", value, d, text, again, ok)
		}
	})
}

func TestParseStatus(t *testing.T) {
	for _, c := range []struct {
		value string
		want  policy.GRPCStatus
	}{
		{"0", policy.GRPCOK}, {"14", policy.GRPCUnavailable}, {"16", policy.GRPCUnauthenticated}, {"04", policy.GRPCDeadlineExceeded},
		{"17", policy.GRPCUnknown}, {"999", policy.GRPCUnknown}, {"1000", policy.GRPCUnknown},
		{"", policy.GRPCUnknown}, {"-1", policy.GRPCUnknown}, {"OK", policy.GRPCUnknown}, {" 0", policy.GRPCUnknown},
	} {
		if got := ParseStatus([]byte(c.value)); got != c.want {
			t.Errorf("%q: %v, want %v", c.value, got, c.want)
		}
	}
}

func TestOfHTTP(t *testing.T) {
	for status, want := range map[int]policy.GRPCStatus{
		200: policy.GRPCUnknown, 400: policy.GRPCInternal, 401: policy.GRPCUnauthenticated, 403: policy.GRPCPermissionDenied,
		404: policy.GRPCUnimplemented, 429: policy.GRPCUnavailable, 500: policy.GRPCUnknown, 502: policy.GRPCUnavailable,
		503: policy.GRPCUnavailable, 504: policy.GRPCUnavailable, 0: policy.GRPCUnknown,
	} {
		if got := OfHTTP(status); got != want {
			t.Errorf("%d: %v, want %v", status, got, want)
		}
	}
}

func TestAppendMessage(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"connect_failed: no connection", "connect_failed: no connection"},
		{"100%", "100%25"},
		{"a\r\nb\x00\x7f", "a%0D%0Ab%00%7F"},
		{"Grüße", "Gr%C3%BC%C3%9Fe"},
		{"", ""},
	} {
		got := string(AppendMessage(nil, c.text))
		if got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
		if back, err := url.PathUnescape(got); err != nil || back != c.text {
			t.Errorf("%q comes back as %q (%v)", c.text, back, err)
		}
	}
}

// Every sentence of the table of reasons can stand in a header field.
func TestReasonsAreMessages(t *testing.T) {
	for _, r := range policy.Reasons() {
		got := string(AppendMessage(nil, r.Info().Code+": "+r.Info().Sentence))
		if strings.ContainsFunc(got, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Errorf("%s: %q", r, got)
		}
	}
}

func TestNothingAllocates(t *testing.T) {
	dst := make([]byte, 0, 64)
	contentType, timeout, code := []byte("application/grpc+proto"), []byte("1500m"), []byte("14")
	if n := testing.AllocsPerRun(100, func() {
		d, _ := ParseTimeout(timeout)
		dst = AppendTimeout(dst[:0], d)
		if !Is(contentType) || ParseStatus(code) != policy.GRPCUnavailable {
			panic("unexpected")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
