package proxy

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/tracecontext"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

const (
	aTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	aSpan  = "00f067aa0ba902b7"
)

// every is tracing of all requests, from callers who are believed.
func every(formats tracecontext.Formats) *Tracing {
	return &Tracing{Sample: tracecontext.NewRatio(1), Trust: true, Propagate: formats}
}

func never(formats tracecontext.Formats) *Tracing {
	return &Tracing{Trust: true, Propagate: formats}
}

// joined lets an exchange read a head with the fields given as "name: value", and returns
// what it has noted, and the fields of contexts that an endpoint would see, sorted.
func joined(how *Tracing, attempts int, fields ...string) (observability.SpanContext, []string) {
	x := &Exchange{loop: &loopState{random: newRandom()}, conf: &ListenerConfig{Tracing: how}}
	x.Req.SetRequest("GET", "/", "api")
	x.Req.AddString(message.NameUserAgent, "", "test")
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		x.Req.AppendCopy(message.IDOf(name), []byte(name), []byte(value))
	}
	x.joinTrace()
	for range attempts {
		x.passTrace()
		if span := x.attemptSpan(); (span != [8]byte{}) != x.record.Trace.Sampled {
			panic("an attempt's span")
		}
	}
	var sent []string
	for _, f := range x.Req.Fields() {
		if !f.Deleted() && f.ID != message.NameUserAgent {
			sent = append(sent, strings.ToLower(string(x.Req.Name(f)))+": "+string(x.Req.Value(f)))
		}
	}
	slices.Sort(sent)
	return x.record.Trace, sent
}

// masked replaces ids that were made up: T for a trace's, S for a span's.
func masked(sent []string) string {
	text := strings.Join(sent, "\n")
	words := strings.FieldsFunc(text, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) })
	for _, w := range words {
		switch {
		case len(w) == 32 && w != aTrace && !strings.HasPrefix(w, "00000000"):
			text = strings.Replace(text, w, "T", 1)
		case len(w) == 16 && w != aSpan:
			text = strings.Replace(text, w, "S", 1)
		}
	}
	return text
}

func TestJoinTrace(t *testing.T) {
	const w3c, b3, multi = tracecontext.W3C, tracecontext.B3, tracecontext.B3Multi
	const parent = "traceparent: 00-" + aTrace + "-" + aSpan
	distrust := func(how *Tracing) *Tracing {
		how.Trust = false
		return how
	}
	for _, tc := range []struct {
		name    string
		how     *Tracing
		fields  string
		sampled bool
		goes    bool // on: the caller's trace is ours
		sent    string
	}{
		{"no tracing", nil, parent + "-01\nb3: 0\ntracestate: x", false, false, "b3: 0\ntracestate: x\n" + parent + "-01"},

		{"nothing said, all", every(w3c), "", true, false, "traceparent: 00-T-S-01"},
		{"nothing said, none", never(w3c), "", false, false, "traceparent: 00-T-S-00"},
		{"nothing said, B3", every(b3), "", true, false, "b3: T-S-1"},
		{"nothing said, B3 multi, none", never(multi), "", false, false, "x-b3-sampled: 0\nx-b3-spanid: S\nx-b3-traceid: T"},
		{"nothing said, all formats", every(w3c | b3 | multi), "", true, false,
			"b3: T-S-1\ntraceparent: 00-T-S-01\nx-b3-sampled: 1\nx-b3-spanid: S\nx-b3-traceid: T"},

		{"W3C, sampled", never(w3c), parent + "-01", true, true, "traceparent: 00-" + aTrace + "-S-01"},
		{"W3C, random", never(w3c), parent + "-03", true, true, "traceparent: 00-" + aTrace + "-S-03"},
		{"W3C, not sampled, goes on as it came", every(w3c), parent + "-00\ntracestate: a=1", false, true, "tracestate: a=1\n" + parent + "-00"},
		{"W3C to B3", every(b3), parent + "-01\ntracestate: a=1", true, true, "b3: " + aTrace + "-S-1"},
		{"W3C to B3, not sampled", every(b3), parent + "-00", false, true, "b3: " + aTrace + "-" + aSpan + "-0"},
		{"tracestate goes on", never(w3c), parent + "-01\ntracestate: a=1,b=2", true, true, "tracestate: a=1,b=2\ntraceparent: 00-" + aTrace + "-S-01"},
		{"tracestate in pieces", never(w3c), parent + "-01\ntracestate: a=1\ntracestate: b=2", true, true,
			"tracestate: a=1,b=2\ntraceparent: 00-" + aTrace + "-S-01"},
		{"tracestate malformed", never(w3c), parent + "-01\ntracestate: A", true, true, "traceparent: 00-" + aTrace + "-S-01"},
		{"tracestate too long", never(w3c), parent + "-01\ntracestate: a=1," + strings.Repeat("b="+strings.Repeat("x", 127)+",", 4), true, true,
			"tracestate: a=1\ntraceparent: 00-" + aTrace + "-S-01"},
		{"tracestate too long, not sampled", never(w3c), parent + "-00\ntracestate: a=1," + strings.Repeat("b="+strings.Repeat("x", 127)+",", 4), false, true,
			"tracestate: a=1\n" + parent + "-00"},
		{"tracestate of the size of a head", never(w3c), parent + "-01\ntracestate: " + strings.Repeat("a=1,", 4000), true, true,
			"traceparent: 00-" + aTrace + "-S-01"},
		{"tracestate alone", never(w3c), "tracestate: a=1", false, false, "traceparent: 00-T-S-00"},
		{"W3C malformed", never(w3c), parent + "-01-\ntracestate: a=1", false, false, "traceparent: 00-T-S-00"},
		{"W3C twice", every(w3c), parent + "-01\n" + parent + "-01", true, false, "traceparent: 00-T-S-01"},
		{"W3C of a later version", never(w3c), "traceparent: 01-" + aTrace + "-" + aSpan + "-01-x", true, true, "traceparent: 00-" + aTrace + "-S-01"},

		{"B3", never(w3c), "b3: " + aTrace + "-" + aSpan + "-1", true, true, "traceparent: 00-" + aTrace + "-S-01"},
		{"B3 goes on as it came", every(b3), "b3: " + aTrace + "-" + aSpan + "-0", false, true, "b3: " + aTrace + "-" + aSpan + "-0"},
		{"B3 undecided, all", every(b3), "b3: " + aTrace + "-" + aSpan, true, true, "b3: " + aTrace + "-S-1"},
		{"B3 undecided, none", never(b3), "b3: " + aTrace + "-" + aSpan, false, true, "b3: " + aTrace + "-" + aSpan + "-0"},
		{"B3 debug", never(b3 | multi | w3c), "b3: " + aTrace + "-" + aSpan + "-d", true, true,
			"b3: " + aTrace + "-S-d\ntraceparent: 00-" + aTrace + "-S-01\nx-b3-flags: 1\nx-b3-spanid: S\nx-b3-traceid: " + aTrace},
		{"B3 decides, no ids", every(w3c), "b3: 0", false, false, "traceparent: 00-T-S-00"},
		{"B3 decides, no ids, yes", never(b3), "b3: 1", true, false, "b3: T-S-1"},
		{"B3 of 64 bits", never(b3), "b3: " + aTrace[16:] + "-" + aSpan + "-1", true, true, "b3: 0000000000000000" + aTrace[16:] + "-S-1"},
		{"B3 multi", never(multi), "x-b3-traceid: " + aTrace + "\nX-B3-SpanId: " + aSpan + "\nX-B3-ParentSpanId: " + aSpan + "\nx-b3-sampled: 1", true, true,
			"x-b3-sampled: 1\nx-b3-spanid: S\nx-b3-traceid: " + aTrace},
		{"B3 multi decides, no ids", every(multi), "x-b3-sampled: 0", false, false, "x-b3-sampled: 0\nx-b3-spanid: S\nx-b3-traceid: T"},
		{"B3 multi debug to W3C", never(w3c), "x-b3-traceid: " + aTrace + "\nx-b3-spanid: " + aSpan + "\nx-b3-flags: 1", true, true,
			"traceparent: 00-" + aTrace + "-S-01"},
		{"B3 malformed, B3 multi not", never(w3c), "b3: x\nx-b3-traceid: " + aTrace + "\nx-b3-spanid: " + aSpan + "\nx-b3-sampled: 1", true, true,
			"traceparent: 00-" + aTrace + "-S-01"},
		{"a tracestate has nothing to do with B3", never(w3c), "tracestate: a=1\nb3: " + aTrace + "-" + aSpan + "-1", true, true,
			"traceparent: 00-" + aTrace + "-S-01"},

		{"contradiction: W3C counts", every(w3c), parent + "-00\nb3: " + strings.Repeat("1", 32) + "-" + aSpan + "-1", false, true, parent + "-00"},
		{"contradiction: B3 before B3 multi", never(b3), "x-b3-traceid: " + strings.Repeat("1", 32) + "\nx-b3-spanid: " + aSpan + "\nb3: " + aTrace + "-" + aSpan + "-1",
			true, true, "b3: " + aTrace + "-S-1"},
		{"B3 multi half", never(multi), "x-b3-traceid: " + aTrace + "\nx-b3-sampled: 1", false, false, "x-b3-sampled: 0\nx-b3-spanid: S\nx-b3-traceid: T"},

		{"not believed", distrust(every(w3c)), parent + "-00\nb3: 0\ntracestate: a=1", true, false, "traceparent: 00-T-S-01"},
		{"not believed, none", distrust(never(w3c)), parent + "-01\nx-b3-flags: 1", false, false, "traceparent: 00-T-S-00"},
	} {
		for attempts := 1; attempts <= 3; attempts++ {
			var fields []string
			if tc.fields != "" {
				fields = strings.Split(tc.fields, "\n")
			}
			got, sent := joined(tc.how, attempts, fields...)
			if got.Sampled != tc.sampled || (got.Parent != [8]byte{}) != tc.goes {
				t.Errorf("%s: %+v", tc.name, got)
			}
			want := strings.Split(tc.sent, "\n")
			slices.Sort(want)
			if text := masked(sent); text != strings.Join(want, "\n") {
				t.Errorf("%s, attempt %d: sent\n%s\nwant\n%s", tc.name, attempts, text, tc.sent)
			}
			if tc.how == nil {
				continue
			}
			if got.Sampled && got.SpanID == [8]byte{} || !tc.goes && got.TraceID == [16]byte{} {
				t.Errorf("%s: an id is missing: %+v", tc.name, got)
			}
			if goes := hex.EncodeToString(got.TraceID[8:]) == aTrace[16:]; goes != tc.goes {
				t.Errorf("%s: trace %x", tc.name, got.TraceID)
			}
		}
	}
}

// Each attempt has a span of its own, which its endpoint is told of, over either version
// of HTTP.
func TestAttemptsHaveSpans(t *testing.T) {
	for _, second := range []bool{false, true} {
		t.Run(fmt.Sprint("HTTP/2 ", second), func(t *testing.T) {
			told := make(chan string, 10)
			good := origin(t, func(w http.ResponseWriter, q *http.Request) { told <- q.Header.Get("Traceparent") })
			rude := origin(t, func(_ http.ResponseWriter, q *http.Request) {
				told <- q.Header.Get("Traceparent")
				panic(http.ErrAbortHandler)
			})
			r := newRig(t, HTTP, func(c *ListenerConfig, _ *upstream.Settings) {
				c.Tracing, c.HTTP2 = every(tracecontext.W3C), http2Options()
			}, rude, closedPort(t), good)
			c := versionedClient(t, second)
			// The endpoints take turns, beginning anywhere: of three requests one sees all of them.
			for n := 1; n <= 3; n++ {
				if code, _, _ := get(t, c, "http://"+r.addr+"/"); code != 200 {
					t.Fatalf("status %d", code)
				}
				rec := r.records.last(t, n)
				seen := map[[8]byte]bool{rec.Trace.SpanID: true}
				for _, try := range rec.Tries {
					if try.Span == [8]byte{} || seen[try.Span] {
						t.Errorf("span %x of an attempt, among %+v", try.Span, rec.Tries)
					}
					seen[try.Span] = true
					if try.Reason == policy.ConnectFailed {
						continue
					}
					if want, got := fmt.Sprintf("00-%x-%x-01", rec.Trace.TraceID, try.Span), <-told; got != want {
						t.Errorf("endpoint was told %q, want %q", got, want)
					}
				}
			}
		})
	}
}

// A connection that carries no requests is recorded with the same share.
func TestTunnelsAreTraced(t *testing.T) {
	for share, how := range map[float64]*Tracing{0: never(tracecontext.W3C), 1: every(tracecontext.W3C)} {
		r := newRig(t, TCP, func(c *ListenerConfig, _ *upstream.Settings) { c.Tracing = how },
			origin(t, func(http.ResponseWriter, *http.Request) {}))
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if rec := r.records.last(t, 1); rec.Trace.Sampled != (share == 1) || (rec.Trace.TraceID != [16]byte{}) != (share == 1) {
			t.Errorf("share %v: %+v", share, rec.Trace)
		}
	}
}
