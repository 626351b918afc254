package child

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shell is a child that runs a script.
func shell(t *testing.T, script string) *Child {
	t.Helper()
	c, err := New(Options{Command: []string{"sh", "-c", script}, OwnGroup: true, Without: []string{"LARBOARD_HIDDEN"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

func (c *Child) await(t *testing.T) int {
	t.Helper()
	select {
	case <-c.Ended():
		return c.Code()
	case <-time.After(time.Minute):
		t.Fatal("does not end")
		return 0
	}
}

func TestCodes(t *testing.T) {
	t.Setenv("LARBOARD_HIDDEN", "x")
	t.Setenv("LARBOARD_SHOWN", "y")
	for script, want := range map[string]int{
		"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143, "kill -KILL $$": 137,
		`test -z "$LARBOARD_HIDDEN" && test "$LARBOARD_SHOWN" = y`: 0,
	} {
		c := shell(t, script)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if code := c.await(t); code != want || c.Running() || !c.Started() {
			t.Errorf("%s: code %d, want %d; running %v", script, code, want, c.Running())
		}
		c.Signal(syscall.SIGTERM) // to nobody
	}
}

// up runs a script that tells by a file that it is under way.
func up(t *testing.T, script string) *Child {
	t.Helper()
	file := filepath.Join(t.TempDir(), "up")
	c := shell(t, strings.ReplaceAll(script, "UP", "touch "+file))
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return c
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestSignals(t *testing.T) {
	const script = `trap 'exit 3' TERM; trap 'exit 4' INT; trap 'exit 5' USR1; UP; while :; do sleep 0.01; done`
	for name, c := range map[string]struct {
		do   func(*Child)
		want int
	}{
		"end":                               {(*Child).End, 3},
		"end with":                          {func(c *Child) { c.EndWith(syscall.SIGINT); c.End() }, 4},
		"signal":                            {func(c *Child) { c.Signal(syscall.SIGUSR1) }, 5},
		"kill":                              {(*Child).Kill, 137},
		"abandon does nothing to what runs": {func(c *Child) { c.Abandon(); c.End() }, 3},
	} {
		child := up(t, script)
		c.do(child)
		if code := child.await(t); code != c.want {
			t.Errorf("%s: code %d, want %d", name, code, c.want)
		}
	}
}

func TestNeverStarted(t *testing.T) {
	c := shell(t, "exit 1")
	c.Abandon()
	c.Abandon()
	<-c.Ended()
	if err := c.Start(); !errors.Is(err, ErrAbandoned) || c.Started() {
		t.Errorf("%v, started %v", err, c.Started())
	}
	if _, err := New(Options{Command: []string{"no-such-command"}}); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
