package accesslog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larboard-proxy/larboard/observability"
)

func open(t testing.TB, o Options) *Log {
	t.Helper()
	if o.Loops == 0 {
		o.Loops = 1
	}
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

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
	if got := seen + int(l.Dropped()); got != loops*each || seen == 0 {
		t.Errorf("%d lines and %d dropped, want %d in all", seen, l.Dropped(), loops*each)
	}
}

func TestFullRingDropsAndCounts(t *testing.T) {
	var out bytes.Buffer
	l := open(t, Options{Writer: &out, RingBytes: minRing})
	for range 100 { // nobody reads
		l.Observe(full())
	}
	kept := 100 - int(l.Dropped())
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

func TestFailingSinkLosesLinesAndRecovers(t *testing.T) {
	size := len(line(JSON, full()))
	w := &failing{budget: size + size/2}
	l := open(t, Options{Writer: w})
	for range 3 {
		l.Observe(full())
	}
	l.flush()
	if l.Dropped() != 2 {
		t.Errorf("%d dropped of 3, one and a half of which were taken", l.Dropped())
	}
	w.budget = 1 << 20
	l.Observe(full())
	l.flush()
	whole := 0
	for text := range strings.Lines(w.out.String()) {
		if json.Valid([]byte(text)) {
			whole++
		}
	}
	if whole != 2 || l.Dropped() != 2 {
		t.Errorf("%d whole lines, %d dropped:\n%s", whole, l.Dropped(), w.out.String())
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
		if l.Dropped() == 0 {
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

func TestFileAndReopen(t *testing.T) {
	dir := t.TempDir()
	path, rotated := filepath.Join(dir, "access.log"), filepath.Join(dir, "access.log.1")
	l := open(t, Options{Path: path})
	l.Observe(full())
	l.flush()
	if err := os.Rename(path, rotated); err != nil {
		t.Fatal(err)
	}
	l.Observe(full())
	l.flush() // still the old file
	for range 2 {
		if err := l.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	l.Observe(full())
	if err := run(l)(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{rotated: 2, path: 1} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Count(b, []byte("\n")); got != want {
			t.Errorf("%s: %d lines, want %d", name, got, want)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&^0o640 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestReopenFailureKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "d", "access.log")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{Path: path})
	moved := filepath.Join(dir, "moved")
	if err := os.Rename(filepath.Dir(path), moved); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err == nil {
		t.Fatal("no error")
	}
	l.Observe(full())
	if err := run(l)(); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(moved, "access.log")); len(b) == 0 || l.Dropped() != 0 {
		t.Errorf("%d bytes in the old file, %d dropped", len(b), l.Dropped())
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("no loops")
	}
	if _, err := New(Options{Loops: 1, Path: t.TempDir()}); err == nil {
		t.Error("a directory")
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	for _, f := range []Format{JSON, Text} {
		l := open(t, Options{Format: f, Writer: io.Discard})
		r := full()
		r.Path = []byte("/ä/x?token=abc&\x00")
		l.Observe(r)
		if n := testing.AllocsPerRun(1000, func() {
			l.Observe(r)
			l.flush()
		}); n != 0 {
			t.Errorf("format %d: %v allocations a line", f, n)
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
	for name, f := range map[string]Format{"json": JSON, "text": Text} {
		b.Run(name, func(b *testing.B) {
			l := open(b, Options{Format: f, Writer: io.Discard})
			r := full()
			r.Reason, r.Err = 0, nil
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
