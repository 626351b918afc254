package accesslog

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// lookInterval is how often a file is looked for under its name.
const lookInterval = flushInterval

// fileSink appends to a file. When the file is renamed or removed, it opens a new one of that
// name; the lines until then go to the old one.
type fileSink struct {
	path  string
	tally *tally
	// next is a file that reopen has opened. Set by any goroutine.
	next atomic.Pointer[os.File]

	// owned by the writing goroutine
	file   *os.File
	info   os.FileInfo // of file
	looked time.Time
	torn   bool // the last byte written did not end a line
}

func openFile(path string, t *tally) (*fileSink, error) {
	s := &fileSink{path: path, tally: t}
	f, err := openAppend(path)
	if err != nil {
		return nil, err
	}
	s.use(f)
	return s, nil
}

// openAppend does not wait for the reader of a named pipe: without one it is an error.
func openAppend(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o640)
}

// use goes on with f.
func (s *fileSink) use(f *os.File) {
	if s.file != nil {
		s.file.Close()
	}
	s.file = f
	s.info, _ = f.Stat() // nil: it is taken for another at the next look
}

// reopen hands a newly opened file to the writing goroutine. Any goroutine.
func (s *fileSink) reopen() error {
	f, err := openAppend(s.path)
	if err != nil {
		return err
	}
	if unused := s.next.Swap(f); unused != nil {
		unused.Close()
	}
	return nil
}

// tend opens the file anew where its name stands for another one, or for none. While that
// fails the old one stays in use, and the lines are in it.
func (s *fileSink) tend(now time.Time) error {
	if now.Sub(s.looked) < lookInterval || s.next.Load() != nil {
		return nil
	}
	s.looked = now
	there, err := os.Stat(s.path)
	switch {
	case err == nil && s.info != nil && os.SameFile(there, s.info):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil // who may not look may still write
	}
	if f, err := openAppend(s.path); err == nil && !s.next.CompareAndSwap(nil, f) {
		f.Close()
	}
	return nil
}

func (s *fileSink) write(p []byte, _ time.Time) (taken int, err error) {
	if f := s.next.Swap(nil); f != nil {
		if s.torn { // a new file does not begin with half a line
			taken = bytes.IndexByte(p, '\n') + 1
			s.tally.failed.Add(1)
			s.torn = false
		}
		s.use(f)
	}
	n, err := s.tally.writeTo(s.file, p[taken:])
	if n > 0 {
		s.torn = p[taken+n-1] != '\n'
	}
	return taken + n, err
}

func (s *fileSink) close() {
	if f := s.next.Swap(nil); f != nil {
		f.Close()
	}
	s.file.Close()
}
