package engine

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
)

// Sem bounds how much work is offloaded at once, over all loops. Make it with NewSem.
type Sem struct {
	mu      sync.Mutex
	free    int
	room    int // of the queue
	waiting []func()
}

// NewSem lets limit functions run at once and queue more wait; beyond, Offload returns
// ErrOverload.
func NewSem(limit, queue int) *Sem { return &Sem{free: max(limit, 1), room: max(queue, 0)} }

// enter starts run on a goroutine, now or when one before it has ended.
func (s *Sem) enter(run func()) error {
	if s == nil {
		go run()
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.free > 0:
		s.free--
		go s.work(run)
	case len(s.waiting) < s.room:
		s.waiting = append(s.waiting, run)
	default:
		return ErrOverload
	}
	return nil
}

// work runs one function and then starts the next, also if run ends in a Goexit.
func (s *Sem) work(run func()) {
	defer func() {
		if next := s.leave(); next != nil {
			go s.work(next)
		}
	}()
	run()
}

func (s *Sem) leave() func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		s.free++
		return nil
	}
	run := s.waiting[0]
	copy(s.waiting, s.waiting[1:])
	s.waiting[len(s.waiting)-1] = nil
	s.waiting = s.waiting[:len(s.waiting)-1]
	return run
}

// PanicError is what Offload returns when the function panicked or called runtime.Goexit.
type PanicError struct {
	Value any // nil for Goexit
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("engine: offloaded work panicked: %v", e.Value)
}

// Offload runs f on an ordinary goroutine, where it may block, and parks t until it has
// ended. f owns what it was given: after a cancellation of t its context ends, Offload
// returns the cancellation, and the result is dropped whenever it comes. sem may be nil.
func Offload[T any](t *Task, sem *Sem, f func(context.Context) (T, error)) (T, error) {
	var zero T
	if t.cancelled != nil {
		return zero, t.cancelled
	}
	ctx, cancel := context.WithCancel(t.loop.engine.ctx)
	defer cancel()
	type outcome struct {
		value T
		err   error
		done  bool
	}
	result := &outcome{} // written on the loop, by the post
	ref, l := t.Ref(), t.loop
	run := func() {
		o := outcome{done: true, err: &PanicError{}} // stays so if f calls Goexit
		defer l.engine.offloads.Done()
		defer func() { l.Post(func() { *result = o; ref.Wake() }) }()
		if o.err = ctx.Err(); o.err == nil {
			o.err = &PanicError{}
			o.value, o.err = protect(ctx, f)
		}
	}
	l.engine.offloads.Add(1)
	if err := sem.enter(run); err != nil {
		l.engine.offloads.Done()
		return zero, err
	}
	l.counts.offloads++
	defer func() { l.counts.offloads-- }()
	for !result.done {
		if err := t.Park("offload"); err != nil {
			return zero, err
		}
	}
	return result.value, result.err
}

// protect calls f and turns a panic into an error.
func protect[T any](ctx context.Context, f func(context.Context) (T, error)) (value T, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f(ctx)
}
