// Package engine stands for the real one: names and shapes, no behaviour.
package engine

import (
	"context"
	"sync"
	"time"
)

type Task struct{}

func (*Task) Park(why string) error     { return nil }
func (*Task) Yield() error              { return nil }
func (*Task) Sleep(time.Duration) error { return nil }

type Conn struct{ task *Task }

func (c *Conn) Read(p []byte) (int, error)  { return 0, c.wait() }      // want Read:"parks"
func (c *Conn) Write(p []byte) (int, error) { return 0, c.wait() }      // want Write:"parks"
func (c *Conn) wait() error                 { return c.task.Park("x") } // want wait:"parks"
func (c *Conn) Close() error                { return nil }

type Transport interface {
	Read([]byte) (int, error)
	Close() error
}

type Loop struct{ mu sync.Mutex }

func (*Loop) Dial() (*Conn, error)   { return nil, nil }
func (*Loop) Post(func())            {}
func (*Loop) Go(string, func(*Task)) {}

func Offload[T any](t *Task, f func(context.Context) (T, error)) (T, error) { // want Offload:"parks"
	var zero T
	return zero, t.Park("offload")
}

// The engine itself is not judged, only followed.
func (l *Loop) internal(t *Task) { // want internal:"parks"
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Park("x")
}
