package tracecontext

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
)

const (
	trace128 = "4bf92f3577b34da6a3ce929d0e0e4736"
	span64   = "00f067aa0ba902b7"
)

func mustTraceparent(t testing.TB, v string) Context {
	t.Helper()
	c, ok := ParseTraceparent([]byte(v))
	if !ok {
		t.Fatalf("%q refused", v)
	}
	return c
}

func TestTraceparent(t *testing.T) {
	const ids = trace128 + "-" + span64
	for in, want := range map[string]string{
		"00-" + ids + "-00":          "00-" + ids + "-00",
		"00-" + ids + "-01":          "00-" + ids + "-01",
		"00-" + ids + "-03":          "00-" + ids + "-03",
		"00-" + ids + "-02":          "00-" + ids + "-02",
		"00-" + ids + "-ff":          "00-" + ids + "-03", // flags nobody knows are not passed on
		"01-" + ids + "-01":          "00-" + ids + "-01",
		"cc-" + ids + "-01-what-not": "00-" + ids + "-01",
		"cc-" + ids + "-01-":         "00-" + ids + "-01",
	} {
		c := mustTraceparent(t, in)
		if got := string(AppendTraceparent(nil, &c)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	for name, in := range map[string]string{
		"empty":                 "",
		"short":                 "00-" + ids + "-0",
		"no flags":              "00-" + ids,
		"version ff":            "ff-" + ids + "-01",
		"version not hex":       ".0-" + ids + "-01",
		"version in capitals":   "CC-" + ids + "-01",
		"00 and more":           "00-" + ids + "-01-x",
		"00 and a dash":         "00-" + ids + "-01-",
		"more without a dash":   "cc-" + ids + "-01.x",
		"trace id of zeros":     "00-00000000000000000000000000000000-" + span64 + "-01",
		"span id of zeros":      "00-" + trace128 + "-0000000000000000-01",
		"capitals in trace id":  "00-" + strings.ToUpper(trace128) + "-" + span64 + "-01",
		"capitals in span id":   "00-" + trace128 + "-" + strings.ToUpper(span64) + "-01",
		"not hex in trace id":   "00-.bf92f3577b34da6a3ce929d0e0e4736-" + span64 + "-01",
		"not hex in flags":      "00-" + ids + "-.0",
		"trace id too long":     "00-" + trace128 + "0-" + span64 + "-01",
		"underscores":           "00_" + trace128 + "_" + span64 + "_01",
		"control characters":    "00-" + trace128 + "-" + span64 + "-0\x00",
		"two joined":            "00-" + ids + "-01,00-" + ids + "-01",
		"white space before it": " 00-" + ids + "-01",
	} {
		if c, ok := ParseTraceparent([]byte(in)); ok || c != (Context{}) {
			t.Errorf("%s: %q taken as %+v", name, in, c)
		}
	}
}

func TestB3(t *testing.T) {
	for in, want := range map[string]string{
		trace128 + "-" + span64:                                                trace128 + "-" + span64,
		trace128 + "-" + span64 + "-0":                                         trace128 + "-" + span64 + "-0",
		trace128 + "-" + span64 + "-1":                                         trace128 + "-" + span64 + "-1",
		trace128 + "-" + span64 + "-d":                                         trace128 + "-" + span64 + "-d",
		trace128 + "-" + span64 + "-1-05e3ac9a4f6e3b90":                        trace128 + "-" + span64 + "-1",
		trace128 + "-" + span64 + "-05e3ac9a4f6e3b90":                          trace128 + "-" + span64,
		strings.ToUpper(trace128) + "-" + strings.ToUpper(span64) + "-1":       trace128 + "-" + span64 + "-1",
		"a3ce929d0e0e4736-" + span64 + "-1":                                    "0000000000000000a3ce929d0e0e4736-" + span64 + "-1",
		"463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1-0020000000000001": "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1",
	} {
		c, ok := ParseB3([]byte(in))
		if got := string(AppendB3(nil, &c)); !ok || got != want {
			t.Errorf("%s: %v %s, want %s", in, ok, got, want)
		}
	}
	for in, want := range map[string]Context{
		"0": {Decision: Dropped}, "1": {Decision: Sampled}, "d": {Decision: Sampled, Debug: true},
	} {
		if c, ok := ParseB3([]byte(in)); !ok || c != want {
			t.Errorf("%s: %v %+v", in, ok, c)
		}
	}
	for _, in := range []string{
		"", "2", "-", "true", trace128, trace128 + "-", trace128 + "-" + span64 + "-", trace128 + "-" + span64 + "-x",
		trace128 + "-" + span64 + "-1-", trace128 + "-" + span64 + "-1-xyz", trace128 + "-" + span64 + "1",
		trace128 + "-" + span64 + "-1-05e3ac9a4f6e3b90-0", trace128 + "0-" + span64 + "-1", trace128[:30] + "-" + span64 + "-1",
		"0000000000000000-" + span64 + "-1", trace128 + "-0000000000000000-1", trace128 + "-" + span64 + "-11",
	} {
		if c, ok := ParseB3([]byte(in)); ok || c != (Context{}) {
			t.Errorf("%q taken as %+v", in, c)
		}
	}
}

func TestB3Multi(t *testing.T) {
	ids := mustTraceparent(t, "00-"+trace128+"-"+span64+"-00")
	with := func(d Decision, debug bool) Context {
		c := ids
		c.Decision, c.Debug = d, debug
		return c
	}
	for _, tc := range []struct {
		name                        string
		trace, span, sampled, flags string
		ok                          bool
		want                        Context
	}{
		{"undecided", trace128, span64, "", "", true, with(Undecided, false)},
		{"sampled", trace128, span64, "1", "", true, with(Sampled, false)},
		{"dropped", trace128, span64, "0", "", true, with(Dropped, false)},
		{"old words", trace128, span64, "true", "", true, with(Sampled, false)},
		{"old words, no", trace128, span64, "false", "", true, with(Dropped, false)},
		{"debug", trace128, span64, "", "1", true, with(Sampled, true)},
		{"debug counts", trace128, span64, "0", "1", true, with(Sampled, true)},
		{"flags of nothing", trace128, span64, "1", "0", true, with(Sampled, false)},
		{"a decision alone", "", "", "0", "", true, Context{Decision: Dropped}},
		{"nothing", "", "", "", "", false, Context{}},
		{"span missing", trace128, "", "1", "", false, Context{}},
		{"trace missing", "", span64, "1", "", false, Context{}},
		{"no decision that anybody knows", trace128, span64, "2", "", false, Context{}},
		{"debug in the wrong place", trace128, span64, "d", "", false, Context{}},
		{"not hex", "x" + trace128[1:], span64, "1", "", false, Context{}},
		{"too long", trace128 + "00", span64, "1", "", false, Context{}},
	} {
		c, ok := ParseB3Multi(value(tc.trace), value(tc.span), value(tc.sampled), value(tc.flags))
		if !tc.ok {
			c = Context{}
		}
		if ok != tc.ok || c != tc.want {
			t.Errorf("%s: %v %+v", tc.name, ok, c)
		}
	}
	if c := with(Sampled, true); c.B3Sampled() != "" {
		t.Error("a debug context has x-b3-sampled")
	}
	for d, want := range map[Decision]string{Undecided: "", Sampled: "1", Dropped: "0"} {
		if c := with(d, false); c.B3Sampled() != want {
			t.Errorf("%v: %q", d, c.B3Sampled())
		}
	}
}

func value(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

func TestState(t *testing.T) {
	long := "long=" + strings.Repeat("x", 200)
	many := func(n int) string { return strings.TrimSuffix(strings.Repeat("k=v,", n), ",") }
	for _, tc := range []struct {
		name, in, want string
		fits           bool
	}{
		{"one", "congo=t61rcWkgMzE", "congo=t61rcWkgMzE", true},
		{"two", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", true},
		{"tenant", "0a@b-c_d/e*f=1", "0a@b-c_d/e*f=1", true},
		{"blanks and empty members", " a=1 ,\t, b=2 ,", "a=1,b=2", true},
		{"blanks within a value", "a=1 2", "a=1 2", true},
		{"empty", "", "", false},
		{"commas only", ",,", "", false},
		{"32 members", many(32), many(32), true},
		{"33 members", many(33), "", false},
		{"a key without value", "a=1,b", "", false},
		{"an empty value", "a=", "", false},
		{"capitals in a key", "A=1", "", false},
		{"a key that begins with a sign", "@a=1", "", false},
		{"two signs of equality", "a=1=2", "", false},
		{"control characters", "a=1\x01", "", false},
		{"bytes above ASCII", "a=\xc3\xa4", "", false},
		{"a key of 257", strings.Repeat("k", 257) + "=v", "", false},
		{"a value of 257", "k=" + strings.Repeat("v", 257), "", false},
		{"the longest go first", "a=1," + long + "," + strings.Repeat("b=12345678901234567890,", 20) + "c=3",
			"a=1," + strings.Repeat("b=12345678901234567890,", 20) + "c=3", false},
		{"and the last next", strings.Repeat("b="+strings.Repeat("1", 100)+",", 6),
			strings.TrimSuffix(strings.Repeat("b="+strings.Repeat("1", 100)+",", 4), ","), false},
	} {
		if got := string(AppendState(nil, []byte(tc.in))); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		if got := StateFits([]byte(tc.in)); got != tc.fits {
			t.Errorf("%s: fits %v", tc.name, got)
		}
	}
}

// The share that is chosen is the one that OpenTelemetry's libraries choose.
func TestRatioAgreesWithOpenTelemetry(t *testing.T) {
	seed := uint64(1)
	for _, share := range []float64{0, 0.0001, 0.01, 0.5, 0.999, 1, 2, -1} {
		theirs, ours := trace.TraceIDRatioBased(share), NewRatio(share)
		n := 0
		for range 20000 {
			var id [16]byte
			for i := range id {
				seed = seed*6364136223846793005 + 1442695040888963407
				id[i] = byte(seed >> 56)
			}
			want := theirs.ShouldSample(trace.SamplingParameters{TraceID: oteltrace.TraceID(id)}).Decision == trace.RecordAndSample
			if got := ours.Chooses(id); got != want {
				t.Fatalf("%v of %x: %v, OpenTelemetry says %v", share, id, got, want)
			} else if got {
				n++
			}
		}
		if want := min(max(share, 0), 1) * 20000; math.Abs(float64(n)-want) > 600 {
			t.Errorf("%v: %d of 20000", share, n)
		}
	}
	if NewRatio(0).Chooses([16]byte{}) || !NewRatio(1).Chooses([16]byte{8: 0xff, 15: 0xff}) {
		t.Error("none or all is not meant")
	}
}

func TestNothingAllocates(t *testing.T) {
	parent, b3 := []byte("00-"+trace128+"-"+span64+"-01"), []byte(trace128+"-"+span64+"-1")
	state := []byte("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		c, _ := ParseTraceparent(parent)
		buf = AppendTraceparent(buf[:0], &c)
		c, _ = ParseB3(b3)
		buf = AppendB3(buf[:0], &c)
		c, _ = ParseB3Multi(b3[:32], b3[33:49], b3[50:], nil)
		buf = AppendB3TraceID(buf[:0], &c)
		buf = AppendState(buf[:0], state)
		StateFits(state)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is read from hostile bytes is written back as something that reads as the same.
func FuzzContext(f *testing.F) {
	f.Add([]byte("00-" + trace128 + "-" + span64 + "-01"))
	f.Add([]byte("cc-" + trace128 + "-" + span64 + "-03-more"))
	f.Add([]byte(trace128 + "-" + span64 + "-d"))
	f.Add([]byte(trace128[16:] + "-" + span64 + "-1-" + span64))
	f.Add([]byte("0"))
	f.Add([]byte("rojo=1,congo=2"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if c, ok := ParseTraceparent(in); ok {
			if !c.Valid() || c.Decision == Undecided {
				t.Fatalf("%q: %+v", in, c)
			}
			again, ok := ParseTraceparent(AppendTraceparent(nil, &c))
			if !ok || again != c {
				t.Fatalf("%q: %+v, then %+v", in, c, again)
			}
		}
		if c, ok := ParseB3(in); ok && c.Valid() {
			again, ok := ParseB3(AppendB3(nil, &c))
			if !ok || again != c {
				t.Fatalf("%q: %+v, then %+v", in, c, again)
			}
		} else if ok && c.Decision == Undecided {
			t.Fatalf("%q says nothing", in)
		}
		ParseB3Multi(in, in, in, in)
		out := AppendState(nil, in)
		if len(out) > StateLimit || len(out) > 0 && !StateFits(out) {
			t.Fatalf("%q: passed on as %q", in, out)
		}
		if again := AppendState(nil, out); !bytes.Equal(out, again) {
			t.Fatalf("%q: passed on as %q, then as %q", in, out, again)
		}
	})
}

func BenchmarkParseTraceparent(b *testing.B) {
	in := []byte("00-" + trace128 + "-" + span64 + "-01")
	b.ReportAllocs()
	for b.Loop() {
		ParseTraceparent(in)
	}
}

func BenchmarkAppendTraceparent(b *testing.B) {
	c := mustTraceparent(b, "00-"+trace128+"-"+span64+"-01")
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendTraceparent(buf[:0], &c)
	}
}
