package filewatch

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	next := path + ".next"
	if err := os.Symlink(target, next); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// Each way in which files are replaced is seen without the poll.
func TestWatchSeesEachWayOfReplacing(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"..1", "..2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, version, "linked"), version)
	}
	link(t, "..1", filepath.Join(dir, "..data"))
	link(t, "..data/linked", filepath.Join(dir, "linked"))
	file := filepath.Join(dir, "file")
	linked := filepath.Join(dir, "linked")
	write(t, file, "one")

	ctx, cancel := context.WithCancel(t.Context())
	seen, done := make(chan string, 100), make(chan error, 1)
	go func() {
		done <- Watch(ctx, slog.New(slog.DiscardHandler), []string{file, linked}, time.Hour, func() {
			a, _ := os.ReadFile(file)
			b, _ := os.ReadFile(linked)
			seen <- string(a) + " " + string(b)
		})
	}()
	until := func(want string) {
		t.Helper()
		late := time.After(20 * time.Second)
		for {
			select {
			case got := <-seen:
				if got == want {
					return
				}
			case <-late:
				t.Fatalf("never saw %q", want)
			}
		}
	}
	until("one ..1")
	write(t, file, "two")
	until("two ..1")
	write(t, file+".new", "three")
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	until("three ..1")
	link(t, "..2", filepath.Join(dir, "..data"))
	until("three ..2")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	until(" ..2")
	cancel()
	if err := <-done; err != context.Canceled {
		t.Errorf("Watch returned %v", err)
	}
}

func TestSettlingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var quiet settling
		start := time.Now()
		for time.Since(start) < 2*settleMost {
			quiet.disturb(time.Now())
			select {
			case <-quiet.over:
				if got := time.Since(start); got < settleMost || got > settleMost+2*settle {
					t.Errorf("over after %v", got)
				}
				return
			case <-time.After(settle / 2):
			}
		}
		t.Error("a file that is never quiet is never read")
	})
}

func TestPollAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		calls := 0
		if err := pollOnly(ctx, 10*time.Second+time.Millisecond, func() { calls++ }); err != context.DeadlineExceeded || calls != 6 {
			t.Errorf("%d calls, %v", calls, err)
		}
	})
}
