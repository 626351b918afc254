package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// taken is a collector in memory. fail, where set, is what it answers; block, where set,
// holds each answer back until it is closed or the sender gives up.
type taken struct {
	mu    sync.Mutex
	spans tracetest.SpanStubs
	fail  error
	calls atomic.Int64
	block chan struct{}
}

func (e *taken) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	e.calls.Add(1)
	if e.block != nil {
		select {
		case <-e.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fail != nil {
		return e.fail
	}
	e.spans = append(e.spans, tracetest.SpanStubsFromReadOnlySpans(spans)...)
	return nil
}

func (e *taken) Shutdown(context.Context) error { return nil }

func (e *taken) answer(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fail = err
}

func (e *taken) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.spans)
}

func open(t testing.TB, e sdktrace.SpanExporter, o Options) *Tracer {
	t.Helper()
	o.Loops, o.Resource = max(o.Loops, 1), map[string]string{"service.name": "web"}
	o.Interval, o.Collector.Timeout = time.Second, 10*time.Second
	tr, err := newTracer(o, e)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// run runs tr until the returned function is called.
func run(tr *Tracer) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

func TestFullRingDropsAndCounts(t *testing.T) {
	e := &taken{}
	tr := open(t, e, Options{Queue: 8})
	for range 10 { // nobody reads
		tr.Observe(full())
	}
	if err := run(tr)(); err != nil {
		t.Fatal(err)
	}
	if exported, dropped := tr.Counts(); exported != 8*3 || dropped != 2*3 || e.count() != 8*3 {
		t.Errorf("exported %d, dropped %d, arrived %d", exported, dropped, e.count())
	}
}

func TestSpansOfAllLoopsArrive(t *testing.T) {
	const loops, each = 3, 5000
	e := &taken{}
	tr := open(t, e, Options{Loops: loops, Queue: 64})
	stop := run(tr)
	var wg sync.WaitGroup
	for loop := range loops {
		wg.Go(func() {
			r := full()
			r.Loop = loop
			for range each {
				tr.Observe(r)
			}
		})
	}
	wg.Wait()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	exported, dropped := tr.Counts()
	if exported+dropped != loops*each*3 || int(exported) != e.count() || exported == 0 {
		t.Errorf("exported %d, dropped %d, arrived %d", exported, dropped, e.count())
	}
}

// A span is sent within the interval, and at once where its ring is half full.
func TestWhenSpansAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &taken{}
		tr := open(t, e, Options{Queue: 8})
		stop := run(tr)
		synctest.Wait()
		tr.Observe(full())
		synctest.Wait()
		if e.count() != 0 {
			t.Error("sent at once")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if e.count() != 3 {
			t.Errorf("%d spans after the interval", e.count())
		}
		for range 4 {
			tr.Observe(full())
		}
		synctest.Wait()
		if e.count() != 5*3 {
			t.Errorf("%d spans after half a ring", e.count())
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// A collector that fails costs spans, and two lines of the log, whatever it lasts.
func TestFailingCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		e := &taken{fail: errors.New("no room")}
		tr := open(t, e, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		stop := run(tr)
		for range 10 {
			tr.Observe(full())
			time.Sleep(time.Second)
		}
		e.answer(nil)
		tr.Observe(full())
		time.Sleep(2 * time.Second)
		if err := stop(); err != nil {
			t.Error(err)
		}
		exported, dropped := tr.Counts()
		if exported+dropped != 33 || dropped < 27 || int(exported) != e.count() || exported < 3 {
			t.Errorf("exported %d, dropped %d", exported, dropped)
		}
		if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "no room") {
			t.Errorf("%d lines:\n%s", n, log.String())
		}
	})
}

// A collector that is restarted costs nothing, where it is back within the timeout.
func TestCollectorThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &taken{fail: fmt.Errorf("post: %w", &net.OpError{Op: "dial", Err: errors.New("connection refused")})}
		tr := open(t, e, Options{})
		stop := run(tr)
		tr.Observe(full())
		time.Sleep(8 * time.Second)
		e.answer(nil)
		time.Sleep(2 * time.Second)
		if exported, dropped := tr.Counts(); exported != 3 || dropped != 0 || e.calls.Load() < 4 {
			t.Errorf("exported %d, dropped %d after %d calls", exported, dropped, e.calls.Load())
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// A collector that holds every answer back blocks nobody: the ring fills, and the end
// comes in time.
func TestHangingCollectorBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &taken{block: make(chan struct{})}
		tr := open(t, e, Options{Queue: 16})
		stop := run(tr)
		const all = 3000
		for range all {
			tr.Observe(full())
			time.Sleep(10 * time.Millisecond)
		}
		began := time.Now()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > lastFlush {
			t.Errorf("ended after %v", took)
		}
		if exported, dropped := tr.Counts(); exported != 0 || dropped != all*3 {
			t.Errorf("exported %d, dropped %d of %d", exported, dropped, all*3)
		}
	})
}

func TestObserveAllocatesNothing(t *testing.T) {
	tr := open(t, &taken{}, Options{Queue: 16})
	r := full()
	for range 16 {
		tr.Observe(r)
	}
	drain := func() {
		for q := tr.rings[0]; q.next() != nil; {
			q.release()
		}
	}
	if n := testing.AllocsPerRun(1000, func() { drain(); tr.Observe(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := newTracer(Options{}, &taken{}); err == nil {
		t.Error("no loops")
	}
}

// BenchmarkObserve is what an exchange costs its loop.
func BenchmarkObserve(b *testing.B) {
	for _, sampled := range []bool{false, true} {
		b.Run(fmt.Sprint("sampled ", sampled), func(b *testing.B) {
			tr := open(b, &taken{}, Options{})
			r := full()
			r.Trace.Sampled = sampled
			b.ReportAllocs()
			for b.Loop() {
				tr.Observe(r)
				if sampled {
					tr.rings[0].release()
				}
			}
		})
	}
}
