//go:build larboard_debug

package engine

import (
	"strings"
	"testing"
)

func TestDebugChecks(t *testing.T) {
	for _, c := range []struct {
		name string
		want string
		f    func(*Task, *Loop)
	}{
		{"park below TLS", "below tls.Conn.Write", func(task *Task, l *Loop) {
			l.belowTLS = true
			task.Yield()
		}},
		{"park of another task", "by somebody else", func(task *Task, l *Loop) {
			l.Go("other", func(*Task) {}).Park("x")
		}},
		{"foreign goroutine", "foreign goroutine", func(task *Task, l *Loop) {
			failed := make(chan any)
			go func() {
				defer func() { failed <- recover() }()
				l.Buffer(1)
			}()
			panic(<-failed)
		}},
		{"foreign park", "foreign goroutine", func(task *Task, l *Loop) {
			failed := make(chan any)
			go func() {
				defer func() { failed <- recover() }()
				task.Park("x")
			}()
			panic(<-failed)
		}},
		{"double release", "twice", func(_ *Task, l *Loop) {
			b := l.Buffer(1)
			l.Release(b)
			l.buffers.class[0].used++
			l.Release(b)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			_, l := stepped(t, Options{OnPanic: func(_ string, value any, _ []byte) { got, _ = value.(string) }})
			l.Go("breaks a rule", func(task *Task) { c.f(task, l) })
			settle(l)
			if !strings.Contains(got, c.want) {
				t.Errorf("panic %q, want %q", got, c.want)
			}
			l.buffers.class[0].used = 0
		})
	}
}
