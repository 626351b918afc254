package accesslog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/accesslog/template"
)

func open(t testing.TB, o Options) *Log {
	t.Helper()
	if o.Loops == 0 {
		o.Loops = 1
	}
	if o.Format == nil {
		o.Format = preset(t, "json")
	}
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func preset(t testing.TB, name string) *Format {
	t.Helper()
	f, err := Preset(name, Captures{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func dropped(l *Log) uint64 { c := l.Counts(); return c.Dropped + c.Failed }

// run runs l until the returned function is called, which returns what Run did.
func run(l *Log) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

func TestLinesOfAllLoopsArrive(t *testing.T) {
	const loops, each = 3, 20000
	var out bytes.Buffer
	l := open(t, Options{Loops: loops, Writer: &out, RingBytes: minRing})
	stop := run(l)
	var wg sync.WaitGroup
	for loop := range loops {
		wg.Go(func() {
			r := full()
			r.Loop, r.Listener = loop, fmt.Sprint(loop)
			for i := range each {
				r.BytesIn = int64(i)
				l.Observe(r)
			}
		})
	}
	wg.Wait()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// Every line is whole, those of one loop are in order, and what is not there was counted.
	last, seen := map[string]float64{}, 0
	lines := bufio.NewScanner(&out)
	for lines.Scan() {
		var v map[string]any
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatalf("%v: %s", err, lines.Bytes())
		}
		listener, n := v["listener"].(string), v["bytes_in"].(float64)
		if n < last[listener] {
			t.Fatalf("loop %s: %v after %v", listener, n, last[listener])
		}
		last[listener] = n
		seen++
	}
	if got := seen + int(dropped(l)); got != loops*each || seen == 0 {
		t.Errorf("%d lines and %d dropped, want %d in all", seen, dropped(l), loops*each)
	}
}

func TestFullRingDropsAndCounts(t *testing.T) {
	var out bytes.Buffer
	l := open(t, Options{Writer: &out, RingBytes: minRing})
	for range 100 { // nobody reads
		l.Observe(full())
	}
	kept := 100 - int(dropped(l))
	if kept < 1 || kept > 20 {
		t.Fatalf("%d kept in %d bytes", kept, minRing)
	}
	if err := run(l)(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), "\n"); got != kept {
		t.Errorf("%d lines written, %d kept", got, kept)
	}
}

// A line is written within flushInterval, and at once where the ring is half full.
func TestWhenLinesAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		l := open(t, Options{Writer: &out, RingBytes: minRing})
		stop := run(l)
		synctest.Wait()
		l.Observe(full())
		synctest.Wait()
		if out.String() != "" {
			t.Error("written at once")
		}
		time.Sleep(flushInterval)
		synctest.Wait()
		if got := strings.Count(out.String(), "\n"); got != 1 {
			t.Errorf("%d lines after the interval", got)
		}
		for range 4 { // over half the ring
			l.Observe(full())
		}
		synctest.Wait()
		if got := strings.Count(out.String(), "\n"); got < 3 {
			t.Errorf("%d lines after half a ring", got)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// lockedBuffer may be read while a log writes to it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// failing takes the bytes of budget, then fails, in the middle of a line.
type failing struct {
	out    bytes.Buffer
	budget int
}

var errDiskFull = errors.New("no space left on device")

func (f *failing) Write(p []byte) (int, error) {
	if len(p) <= f.budget {
		f.budget -= len(p)
		return f.out.Write(p)
	}
	n, _ := f.out.Write(p[:f.budget])
	f.budget = 0
	return n, errDiskFull
}

// Lines wait in the ring while the sink fails, and the one that was torn goes on where it was left
// off; what finds no room is lost.
func TestFailingSinkKeepsLinesAndRecovers(t *testing.T) {
	size := len(line(t, "json", full()))
	w := &failing{budget: size + size/2}
	l := open(t, Options{Loops: 2, Writer: w, RingBytes: minRing})
	other := full()
	other.Loop = 1
	l.Observe(other)
	for range 20 {
		l.Observe(full())
	}
	for range 3 {
		l.flush()
	}
	lost := dropped(l)
	if lost == 0 {
		t.Error("twenty lines found room in a ring for some four")
	}
	w.budget = 1 << 20
	l.flush()
	l.Observe(full())
	l.flush()
	whole := 0
	for text := range strings.Lines(w.out.String()) {
		if !json.Valid([]byte(text)) {
			t.Errorf("torn: %s", text)
		}
		whole++
	}
	if c := l.Counts(); whole+int(lost) != 22 || dropped(l) != lost || c.Written != uint64(whole) {
		t.Errorf("%d whole lines, %+v:\n%s", whole, c, w.out.String())
	}
}

func TestBlockedSinkBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe() // nobody reads
		l := open(t, Options{Writer: w, RingBytes: minRing})
		stop := run(l)
		for range 1000 {
			l.Observe(full())
			time.Sleep(time.Millisecond)
		}
		if dropped(l) == 0 {
			t.Error("nothing dropped")
		}
		start := time.Now()
		if err := stop(); err == nil {
			t.Error("no error from a blocked sink")
		}
		if took := time.Since(start); took > closeLimit {
			t.Errorf("stopped after %v", took)
		}
		r.Close() // lets the writer go
	})
}

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func TestNewRefuses(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("no loops")
	}
	if _, err := New(Options{Loops: 1}); err == nil {
		t.Error("no format")
	}
	if _, err := New(Options{Loops: 1, Format: preset(t, "json"), Path: t.TempDir()}); err == nil {
		t.Error("a directory")
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	for _, p := range template.Presets() {
		l := open(t, Options{Format: preset(t, p.Name), Writer: io.Discard})
		r := full()
		r.Path = []byte("/ä/x?token=abc&\x00")
		l.Observe(r)
		if n := testing.AllocsPerRun(1000, func() {
			l.Observe(r)
			l.flush()
		}); n != 0 {
			t.Errorf("%s: %v allocations a line", p.Name, n)
		}
	}
}

func TestRingKeepsItsBytes(t *testing.T) {
	r := newRing(64)
	var in, out []byte
	for i := range 1000 {
		text := bytes.Repeat([]byte{byte('a' + i%26)}, i%23+1)
		if r.put(text) {
			in = append(in, text...)
		}
		if i%3 == 0 {
			first, second, end := r.pending()
			out = append(append(out, first...), second...)
			r.release(end)
		}
	}
	first, second, _ := r.pending()
	if out = append(append(out, first...), second...); !bytes.Equal(in, out) {
		t.Error("bytes differ")
	}
	if r.put(make([]byte, 65)) {
		t.Error("a line longer than the ring was taken")
	}
}

func BenchmarkObserve(b *testing.B) {
	for _, p := range template.Presets() {
		b.Run(p.Name, func(b *testing.B) {
			l := open(b, Options{Format: preset(b, p.Name), Writer: io.Discard})
			r := full()
			r.Reason, r.Side, r.Err, r.Attempts, r.Tries = 0, 0, nil, 1, r.Tries[1:]
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				l.Observe(r)
				if i%256 == 0 {
					l.flush()
				}
			}
		})
	}
}

var _ observability.Observer = (*Log)(nil)
