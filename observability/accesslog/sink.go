package accesslog

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"
)

// sink is where lines go. The writing goroutine alone calls it.
type sink interface {
	// tend is called at each flush, before the lines are written: for what a sink has to do
	// at times. An error keeps the lines where they are.
	tend(now time.Time) error
	// write takes bytes from the front of p, which are whole lines but where the last call
	// left off in one, and returns how many. With an error it took what it could; the rest is
	// offered again at the next flush, before anything else. p is valid during the call.
	write(p []byte, now time.Time) (taken int, err error)
	// close gives everything back; lines that it still holds are counted as failed.
	close()
}

// tally counts what a sink has done with lines.
type tally struct{ written, failed atomic.Uint64 }

// lines counts line ends.
func lines(p []byte) int { return bytes.Count(p, []byte{'\n'}) }

// writerSink writes to a writer that is there for good: standard output.
type writerSink struct {
	w     io.Writer
	tally *tally
}

func (s *writerSink) tend(time.Time) error { return nil }

func (s *writerSink) write(p []byte, _ time.Time) (int, error) { return s.tally.writeTo(s.w, p) }

func (s *writerSink) close() {}

// writeTo writes p and counts the lines that are whole with it.
func (t *tally) writeTo(w io.Writer, p []byte) (int, error) {
	n, err := w.Write(p)
	if n < len(p) && err == nil {
		err = io.ErrShortWrite
	}
	t.written.Add(uint64(lines(p[:n])))
	return n, err
}
