package engine

import (
	"context"
	"errors"
	"runtime"
	"testing"
)

func TestOffload(t *testing.T) {
	e := running(t, Options{})
	l := e.Loops()[1]
	cases := []struct {
		name  string
		f     func(context.Context) (int, error)
		value int
		check func(error) bool
	}{
		{"value", func(context.Context) (int, error) { return 7, nil }, 7, func(err error) bool { return err == nil }},
		{"error", func(context.Context) (int, error) { return 1, errTest }, 1, func(err error) bool { return err == errTest }},
		{"panic", func(context.Context) (int, error) { panic("x") }, 0, isPanic},
		{"goexit", func(context.Context) (int, error) { runtime.Goexit(); return 0, nil }, 0, isPanic},
	}
	for _, sem := range []*Sem{nil, NewSem(1, 1)} {
		for _, c := range cases {
			on(t, l, func(task *Task) {
				if v, err := Offload(task, sem, c.f); v != c.value || !c.check(err) {
					t.Errorf("%s: %d, %v", c.name, v, err)
				}
			})
		}
	}
}

func isPanic(err error) bool {
	var p *PanicError
	return errors.As(err, &p)
}

func TestOffloadIsDroppedAfterCancel(t *testing.T) {
	e := running(t, Options{})
	l := e.Loops()[0]
	started, release, result := make(chan *Task), make(chan struct{}), make(chan error, 1)
	ended := make(chan error, 1)
	l.Post(func() {
		l.Go("offloads", func(task *Task) {
			_, err := Offload(task, nil, func(ctx context.Context) (int, error) {
				started <- task
				<-release
				ended <- ctx.Err()
				return 1, nil
			})
			result <- err
		})
	})
	task := <-started
	l.Post(func() { task.Cancel(errTest) })
	if err := <-result; err != errTest {
		t.Errorf("returned %v", err)
	}
	close(release)
	if err := <-ended; err != context.Canceled {
		t.Errorf("context: %v", err)
	}
	on(t, l, func(*Task) {}) // the late result met a pooled task and did nothing
}

func TestSemBoundsAndRefuses(t *testing.T) {
	e := running(t, Options{})
	sem := NewSem(1, 1)
	inside, release := make(chan struct{}), make(chan struct{})
	results := make(chan error, 2)
	for i, l := range e.Loops() {
		l.Post(func() {
			l.Go("work", func(task *Task) {
				_, err := Offload(task, sem, func(context.Context) (int, error) {
					inside <- struct{}{}
					<-release
					return i, nil
				})
				results <- err
			})
		})
	}
	<-inside
	full := func() bool {
		sem.mu.Lock()
		defer sem.mu.Unlock()
		return len(sem.waiting) == 1
	}
	eventually(t, "the second to queue", full)
	on(t, e.Loops()[0], func(task *Task) {
		if _, err := Offload(task, sem, func(context.Context) (int, error) { return 0, nil }); err != ErrOverload {
			t.Errorf("third: %v", err)
		}
	})
	close(release)
	<-inside
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}
