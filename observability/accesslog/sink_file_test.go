package accesslog

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func countLines(t testing.TB, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte("\n"))
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
	for range 2 {
		if _, err := l.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	l.Observe(full())
	if err := run(l)(); err != nil {
		t.Fatal(err)
	}
	if old, fresh := countLines(t, rotated), countLines(t, path); old != 1 || fresh != 1 {
		t.Errorf("%d lines in the old file, %d in the new one", old, fresh)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&^0o640 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// Nobody has to tell: a file that is renamed, removed or replaced is opened anew.
func TestRenamedFileIsOpenedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "access.log")
		l := open(t, Options{Path: path})
		stop := run(l)
		step := func(change func() error) {
			t.Helper()
			l.Observe(full())
			time.Sleep(2 * lookInterval)
			synctest.Wait()
			if err := change(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * lookInterval)
			synctest.Wait()
		}
		step(func() error { return os.Rename(path, filepath.Join(dir, "1")) })
		step(func() error { return os.Remove(path) })
		step(func() error { // logrotate's `create`
			if err := os.Rename(path, filepath.Join(dir, "2")); err != nil {
				return err
			}
			return os.WriteFile(path, nil, 0o600)
		})
		step(func() error { return os.Truncate(path, 0) }) // its `copytruncate`
		l.Observe(full())
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"1", "2", "access.log"} {
			if n := countLines(t, filepath.Join(dir, name)); n != 1 {
				t.Errorf("%s: %d lines", name, n)
			}
		}
		if c := l.Counts(); c.Written != 5 || dropped(l) != 0 {
			t.Errorf("%+v", c)
		}
	})
}

// While the directory is away lines go to the old file.
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
	if _, err := l.Reopen(); err == nil {
		t.Fatal("no error")
	}
	l.Observe(full())
	if err := run(l)(); err != nil {
		t.Fatal(err)
	}
	if n := countLines(t, filepath.Join(moved, "access.log")); n != 1 || dropped(l) != 0 {
		t.Errorf("%d lines in the old file, %d dropped", n, dropped(l))
	}
}

// A line that was torn by a full disk is not continued in another file.
func TestTornLineDoesNotGoOnInAnotherFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "access.log")
	l := open(t, Options{Path: path})
	s := l.sink.(*fileSink)
	for range 3 {
		l.Observe(full())
	}
	p := l.producers[0]
	first, _, _ := p.ring.pending()
	half := len(first) / 2 // in the middle of the second line
	if n, err := s.write(first[:half], time.Now()); err != nil || n != half {
		t.Fatal(n, err)
	}
	p.ring.release(uint64(half))
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	l.flush()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(data); strings.Count(text, "\n") != 1 || !json.Valid(data) {
		t.Errorf("in the new file: %s", text)
	}
	if c := l.Counts(); c.Written != 2 || c.Failed != 1 {
		t.Errorf("%+v", c)
	}
}

// A named pipe is written to as long as somebody reads, and nobody waits for that.
func TestNamedPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Loops: 1, Format: preset(t, "json"), Path: path}); err == nil {
		t.Error("a pipe without a reader was opened")
	}
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l := open(t, Options{Path: path})
	l.Observe(full())
	if err := run(l)(); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil || !json.Valid(data) {
		t.Errorf("%v: %s", err, data)
	}
}

// A disk that is full costs lines once the ring is full, too, and is said once.
func TestFullDisk(t *testing.T) {
	var said lockedBuffer
	l := open(t, Options{Path: "/dev/full", RingBytes: minRing, Logger: textLogger(&said)})
	for range 100 {
		l.Observe(full())
		l.flush()
	}
	if c := l.Counts(); c.Written != 0 || c.Dropped < 80 || c.Failed != 0 {
		t.Errorf("%+v", c)
	}
	if n := strings.Count(said.String(), "access log sink fails"); n != 1 || !strings.Contains(said.String(), "no space left on device") {
		t.Errorf("said %d times:\n%s", n, said.String())
	}
	if err := run(l)(); err != nil {
		t.Fatal(err)
	}
	if c := l.Counts(); c.Dropped+c.Failed != 100 {
		t.Errorf("at the end %+v", c)
	}
}
