package decisions

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
)

func failed(r policy.Reason, path string) *observability.Record {
	return &observability.Record{Reason: r, Service: "api", Path: []byte(path)}
}

func all(l *Log, q Query) (paths []string) {
	for _, d := range l.OfLoop(0, q) {
		paths = append(paths, d.Path)
	}
	return paths
}

func TestWhatIsKept(t *testing.T) {
	once, twice := []observability.Try{{Endpoint: "a"}}, []observability.Try{{Endpoint: "a", Reason: policy.UpstreamReset}, {Endpoint: "b"}}
	for _, c := range []struct {
		name string
		r    observability.Record
		want int
	}{
		{"success", observability.Record{Status: 200, Tries: once}, 0},
		{"an error of the endpoint's own", observability.Record{Status: 500, Tries: once}, 0},
		{"success at the second attempt", observability.Record{Status: 200, Tries: twice}, 1},
		{"failure", observability.Record{Status: 502, Reason: policy.UpstreamReset, Tries: once}, 1},
		{"denied", observability.Record{Status: 403, Reason: policy.NotAllowed}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := New(1, 4)
			l.Observe(&c.r)
			if got := len(l.OfLoop(0, Query{Any: true})); got != c.want {
				t.Errorf("%d kept", got)
			}
		})
	}
}

func TestDecision(t *testing.T) {
	start := time.Unix(1700000000, 0)
	cause := &policy.Error{Reason: policy.UpstreamClosed, Side: policy.Upstream, Phase: policy.PhaseWait, Err: errors.New("EOF")}
	r := &observability.Record{
		Listener: "web", Route: "default", Service: "api", Inbound: true, Protocol: "http2", Reason: policy.UpstreamClosed, Side: policy.Upstream, Err: cause,
		Start: start, Total: time.Second, Method: []byte("GET"), Authority: []byte("me:secret@shop.test"), Path: []byte("/cart;sid=1?token=secret"),
		RequestID: []byte("abc"), Status: 502, GRPC: policy.GRPCUnavailable, Attempts: 10, Trace: observability.SpanContext{TraceID: [16]byte{1}},
		Client: netip.MustParseAddrPort("192.0.2.1:5000"), PeerID: "spiffe://mesh.test/web",
	}
	for i := range 10 {
		r.Tries = append(r.Tries, observability.Try{Endpoint: fmt.Sprint(i), EndpointID: "id", Reason: policy.UpstreamReset, Side: policy.Upstream,
			Phase: policy.PhaseSend, Status: 500, GRPC: policy.GRPCInternal, Reused: true, Start: 1, Connect: 2, Head: 3, Total: 4})
	}
	l := New(1, 4)
	began := l.last.Load()
	l.Observe(r)
	want := Decision{
		ID: 1 + began, Time: start, Reason: policy.UpstreamClosed, Side: policy.Upstream, Phase: policy.PhaseWait, Cause: "EOF",
		Listener: "web", Route: "default", Service: "api", Inbound: true, Protocol: "http2", Method: "GET", Authority: "shop.test", Path: "/cart",
		RequestID: "abc", Status: 502, GRPC: policy.GRPCUnavailable, Total: time.Second, TraceID: [16]byte{1},
		Client: netip.MustParseAddrPort("192.0.2.1:5000"), PeerID: "spiffe://mesh.test/web", Attempts: 10,
	}
	for _, endpoint := range []string{"0", "1", "2", "3", "4", "5", "6", "9"} {
		want.Tries = append(want.Tries, Try{endpoint, "id", policy.UpstreamReset, policy.Upstream, policy.PhaseSend, 500, policy.GRPCInternal, true, 1, 2, 3, 4})
	}
	got := l.OfLoop(0, Query{Any: true})
	if len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	l.ObserveRefusal(&observability.Record{Reason: policy.TLSNoID, Err: errors.New("plain")})
	if d := l.OfLoop(0, Query{Reason: policy.TLSNoID})[0]; !d.Connection || d.Cause != "plain" || d.Path != "" || len(d.Tries) != 0 {
		t.Errorf("%+v", d)
	}
}

// What an entry was before does not show in it.
func TestEntriesAreReused(t *testing.T) {
	l := New(1, 1)
	began := l.last.Load()
	long := failed(policy.NoRoute, "/"+strings.Repeat("long", 1000))
	long.Err, long.Tries = fmt.Errorf("%s", long.Path), []observability.Try{{Endpoint: "a"}}
	l.Observe(long)
	if d := l.OfLoop(0, Query{Any: true})[0]; len(d.Path) != pathKept+len(ellipsis) || len(d.Cause) != causeKept+len(ellipsis) {
		t.Errorf("%d bytes of path, %d of the cause", len(d.Path), len(d.Cause))
	}
	l.Observe(failed(policy.BadHost, "/short"))
	if d := l.OfLoop(0, Query{Any: true}); len(d) != 1 || !reflect.DeepEqual(d[0], Decision{ID: 2 + began, Reason: policy.BadHost, Service: "api", Path: "/short", Tries: []Try{}}) {
		t.Errorf("%+v", d)
	}
}

func TestQuery(t *testing.T) {
	l := New(1, 16)
	began := l.last.Load()
	for i, r := range []policy.Reason{policy.NoRoute, policy.NoEndpoints, policy.NoRoute, policy.NoEndpoints} {
		rec := failed(r, fmt.Sprint(i+1))
		if i == 3 {
			rec.Service = "stock"
		}
		l.Observe(rec)
	}
	retried := failed(policy.None, "5")
	retried.Tries = make([]observability.Try, 2)
	l.Observe(retried)
	for _, c := range []struct {
		name string
		q    Query
		want string
	}{
		{"all", Query{Any: true}, "[5 4 3 2 1]"},
		{"limit", Query{Any: true, Limit: 2}, "[5 4]"},
		{"reason", Query{Reason: policy.NoRoute}, "[3 1]"},
		{"what succeeded in the end", Query{}, "[5]"},
		{"service", Query{Any: true, Service: "stock"}, "[4]"},
		{"after", Query{Any: true, After: 3 + began}, "[5 4]"},
		{"nothing", Query{Reason: policy.NoRoute, Service: "stock"}, "[]"},
	} {
		if got := fmt.Sprint(all(l, c.q)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A storm of one reason leaves the others their room.
func TestStorm(t *testing.T) {
	const size = 16
	l := New(1, size)
	for i := range 100 {
		l.Observe(failed(policy.RateLimited, fmt.Sprint("storm", i)))
	}
	if got := all(l, Query{Any: true}); len(got) != size || got[0] != "storm99" || got[size-1] != "storm84" {
		t.Errorf("alone it has all: %q", got)
	}
	for i := range 20 {
		l.Observe(failed(policy.Reason(1+i%5), fmt.Sprint("calm", i)))
	}
	for i := range 1000 {
		l.Observe(failed(policy.RateLimited, fmt.Sprint("again", i)))
	}
	storm := all(l, Query{Reason: policy.RateLimited})
	rest := len(l.OfLoop(0, Query{Any: true})) - len(storm)
	if len(storm) != size/4 || rest != size-size/4 || storm[0] != "again999" {
		t.Errorf("%q of the storm, %d others", storm, rest)
	}
}

// The entries are those that a plain list with the same rule would hold.
func TestKeeperAgreesWithList(t *testing.T) {
	const size = 12
	k, list, id := newKeeper(size), []policy.Reason{}, uint64(0)
	seed := uint32(7)
	for range 5000 {
		seed = seed*1664525 + 1013904223
		r := policy.Reason(1 + (seed>>24)%4*(seed>>20&1))
		e := k.place(r)
		id++
		e.reason, e.id = r, id
		k.put(e)
		if len(list) == size {
			n, first := 0, -1
			for i, have := range list {
				if have == r {
					if n++; first < 0 {
						first = i
					}
				}
			}
			if n < size/4 {
				first = 0
			}
			list = append(list[:first], list[first+1:]...)
		}
		list = append(list, r)
		count := map[policy.Reason]int{}
		for _, e := range k.entries {
			count[e.reason]++
		}
		for _, r := range list {
			count[r]--
		}
		for r, n := range count {
			if n != 0 || k.queues[r].n > size {
				t.Fatalf("after %d: reason %d differs by %d", id, r, n)
			}
		}
	}
}

func TestAllocatesNothing(t *testing.T) {
	l := New(1, 8)
	r := failed(policy.UpstreamReset, "/some/path?x")
	r.Err = &policy.Error{Reason: policy.UpstreamReset, Err: errors.New("reset")}
	r.Tries = make([]observability.Try, 3)
	other := failed(policy.NoRoute, "/other")
	for range 100 {
		l.Observe(r)
		l.Observe(other)
	}
	if n := testing.AllocsPerRun(100, func() { l.Observe(r); l.Observe(other); l.ObserveRefusal(other) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	l := New(1, 256)
	r := failed(policy.UpstreamReset, "/some/path?x")
	r.Tries = make([]observability.Try, 2)
	b.ReportAllocs()
	for b.Loop() {
		l.Observe(r)
	}
}
