package accesslog

import (
	"bytes"
	"io"
	"os"
	"sync/atomic"
)

// sink is where lines go: a file that can be reopened, or a writer. All but reopen
// is called by the writing goroutine.
type sink struct {
	path string // empty: a writer
	w    io.Writer
	file *os.File // w, where path is set
	next atomic.Pointer[os.File]
	torn bool // the last byte written did not end a line
}

func openSink(path string, w io.Writer) (*sink, error) {
	if path == "" {
		if w == nil {
			w = os.Stdout
		}
		return &sink{w: w}, nil
	}
	f, err := openAppend(path)
	if err != nil {
		return nil, err
	}
	return &sink{path: path, w: f, file: f}, nil
}

func openAppend(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
}

// reopen hands a newly opened file to the writing goroutine.
func (s *sink) reopen() error {
	if s.path == "" {
		return nil
	}
	f, err := openAppend(s.path)
	if err != nil {
		return err
	}
	if unused := s.next.Swap(f); unused != nil {
		unused.Close()
	}
	return nil
}

// write writes both pieces, which end with a whole line, and returns how many lines
// were lost to an error. Where a failure has torn a line, the next one begins on a
// line of its own.
func (s *sink) write(first, second []byte) (lost int, err error) {
	if f := s.next.Swap(nil); f != nil {
		s.file.Close()
		s.file, s.w, s.torn = f, f, false
	}
	if s.torn {
		if _, err = s.w.Write([]byte{'\n'}); err != nil {
			return lines(first) + lines(second), err
		}
		s.torn = false
	}
	n, err := s.put(first)
	if err != nil {
		return lines(first[n:]) + lines(second), err
	}
	n, err = s.put(second)
	return lines(second[n:]), err
}

func (s *sink) put(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.w.Write(p)
	if n < len(p) && err == nil {
		err = io.ErrShortWrite
	}
	if n > 0 {
		s.torn = p[n-1] != '\n'
	}
	return n, err
}

func (s *sink) close() {
	if f := s.next.Swap(nil); f != nil {
		f.Close()
	}
	if s.file != nil {
		s.file.Close()
	}
}

func lines(p []byte) int { return bytes.Count(p, []byte{'\n'}) }
