package file

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
)

// watched is a running source.
type watched struct {
	t       *testing.T
	path    string
	updates chan discovery.Update
}

func watch(t *testing.T, path string) *watched {
	t.Helper()
	w := &watched{t: t, path: path, updates: make(chan discovery.Update, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	source := New(Options{Path: path, Poll: 100 * time.Millisecond})
	go func() { done <- source.Run(ctx, func(u discovery.Update) { w.updates <- u }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != context.Canceled {
			t.Errorf("Run returned %v", err)
		}
	})
	return w
}

// until waits for an update that says so: the addresses, or the error.
func (w *watched) until(want string) discovery.Update {
	w.t.Helper()
	late := time.After(20 * time.Second)
	last := "nothing"
	for {
		select {
		case u := <-w.updates:
			var all []string
			for _, e := range u.Endpoints {
				all = append(all, e.Address)
			}
			last = strings.Join(all, " ")
			if u.Err != nil {
				last = u.Err.Error()
			}
			if last == want || u.Err != nil && strings.Contains(last, want) {
				return u
			}
		case <-late:
			w.t.Fatalf("waited for %q; the last was %q", want, last)
		}
	}
}

func (w *watched) write(text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) replace(text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path+".new", []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(w.path+".new", w.path); err != nil {
		w.t.Fatal(err)
	}
}

func TestFileThroughItsLife(t *testing.T) {
	w := watch(t, filepath.Join(t.TempDir(), "endpoints.yaml"))
	w.until("file: open " + w.path + ": no such file or directory")
	w.write("- 10.0.0.1:80\n")
	if u := w.until("10.0.0.1:80"); u.Index != 1 || u.Endpoints[0].Source != "file:"+w.path {
		t.Errorf("%+v", u)
	}
	w.replace("- 10.0.0.2:80\n")
	if u := w.until("10.0.0.2:80"); u.Index != 2 {
		t.Errorf("%+v", u)
	}
	w.write("endpoints:\n- 10.0.0.3:80\n- {address: 10.0.0.4:80, wait: 1}\n")
	w.until("file: " + w.path + `:3:26: unknown field "wait"`)
	w.write("")
	w.until("the file is empty")
	if err := os.Remove(w.path); err != nil {
		t.Fatal(err)
	}
	w.until("no such file")
	// The same content again is no new version, but says that the file is back.
	w.replace("- 10.0.0.2:80\n")
	if u := w.until("10.0.0.2:80"); u.Index != 2 {
		t.Errorf("%+v", u)
	}
	w.write("[]")
	w.until("")
}

// A file that does not change is told once, however often it is read.
func TestFileIsToldOnce(t *testing.T) {
	s := New(Options{Path: filepath.Join(t.TempDir(), "a.yaml")}).(*source)
	told := 0
	for range 5 {
		if err := os.WriteFile(s.options.Path, []byte("- 10.0.0.1:80\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.look(func(discovery.Update) { told++ })
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

// A ConfigMap in a pod: the file is a link through ..data, which is swapped.
func TestFileInAConfigMap(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "endpoints.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", "- 10.0.0.1:80\n")
	if err := os.Symlink("..data/endpoints.yaml", filepath.Join(dir, "endpoints.yaml")); err != nil {
		t.Fatal(err)
	}
	w := watch(t, filepath.Join(dir, "endpoints.yaml"))
	w.until("10.0.0.1:80")
	version("..2", "- 10.0.0.2:80\n")
	if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
		t.Fatal(err)
	}
	w.until("10.0.0.2:80")
}

// A link that leads out of its directory is seen by the poll.
func TestFileElsewhere(t *testing.T) {
	target := filepath.Join(t.TempDir(), "real.yaml")
	path := filepath.Join(t.TempDir(), "endpoints.yaml")
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	w := watch(t, path)
	w.until("no such file")
	if err := os.WriteFile(target, []byte("[10.0.0.1:80]"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.until("10.0.0.1:80")
}

func TestReadRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe, large := filepath.Join(dir, "pipe"), filepath.Join(dir, "large")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxSize+1); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{dir: "not a regular file", pipe: "not a regular file", large: "larger than 8 MiB", "/dev/null": "not a regular file"} {
		if _, err := read(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", path, err, want)
		}
	}
}
