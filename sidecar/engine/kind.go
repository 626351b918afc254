package engine

import (
	"errors"
	"fmt"
	"iter"
)

// Kind is what tasks and sockets of an engine stand on. Code on tasks cannot tell one
// from the other, but by what they cost.
type Kind uint8

const (
	// Native is Events where there is epoll, Goroutines elsewhere.
	Native Kind = iota
	// Events: tasks are coroutines, sockets are watched by epoll. Linux only.
	Events
	// Goroutines: each task is a goroutine that gets the loop as a baton, and each waiting
	// connection has one that waits in the runtime's own poller. Any Unix. Meant for other
	// systems, for tests that compare, and as a fallback.
	Goroutines
)

var kindNames = [...]string{Native: "native", Events: "events", Goroutines: "goroutines"}

func (k Kind) String() string { return kindNames[k] }

// ParseKind reads what String says; empty is Native.
func ParseKind(name string) (Kind, error) {
	if name == "" {
		return Native, nil
	}
	for k, n := range kindNames {
		if n == name {
			return Kind(k), nil
		}
	}
	return Native, fmt.Errorf("engine: kind %q: known are events and goroutines", name)
}

// Supported is nil where this system has what k stands on.
func (k Kind) Supported() error {
	if k == Events && !haveEpoll {
		return errors.New("the events engine needs epoll, which only Linux has")
	}
	return nil
}

// resolve turns Native into what it stands for.
func (k Kind) resolve() Kind {
	switch {
	case k != Native:
		return k
	case haveEpoll:
		return Events
	}
	return Goroutines
}

// pull makes the coroutine of a task out of its body, as iter.Pull does.
type pull func(iter.Seq[struct{}]) (next func() (struct{}, bool), stop func())

func (k Kind) pull() pull {
	if k == Goroutines {
		return pullGoroutine
	}
	return iter.Pull[struct{}]
}

func (k Kind) newPoller() (Poller, error) {
	if k == Goroutines {
		return newNetpoll(), nil
	}
	return newPoller()
}

// pullGoroutine is iter.Pull on an ordinary goroutine, which gets the baton over a channel
// and gives it back over another: only one of the two sides runs. A Goexit in body ends next
// and stop like the end of body, and is not passed on to their caller.
func pullGoroutine(body iter.Seq[struct{}]) (next func() (struct{}, bool), stop func()) {
	baton, back := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(back)
		if _, ok := <-baton; !ok {
			return
		}
		body(func(struct{}) bool {
			back <- struct{}{}
			_, ok := <-baton
			return ok
		})
	}()
	next = func() (struct{}, bool) {
		baton <- struct{}{}
		v, ok := <-back
		return v, ok
	}
	stop = func() {
		close(baton)
		for range back {
		}
	}
	return next, stop
}
