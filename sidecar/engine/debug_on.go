//go:build larboard_debug

package engine

import (
	"fmt"
	"runtime"
	"unsafe"
)

// The checks of the debug build panic where a rule of the package is broken, in the task
// that breaks it.

// debugState is what the debug build adds to loops and tasks: the goroutine that runs them.
type debugState struct{ goroutine uint64 }

// checkPark is called wherever a task is about to give the loop away.
func checkPark(t *Task) {
	l := t.loop
	switch {
	case l.current != t:
		panic(fmt.Sprintf("engine: park of task %q by somebody else", t.Name()))
	case l.belowTLS:
		panic("engine: park below tls.Conn.Write, which holds a lock")
	case t.goroutine != goroutineID():
		panic(fmt.Sprintf("engine: park of task %q on a foreign goroutine", t.Name()))
	}
}

// checkStart notes the coroutine that runs a task.
func checkStart(t *Task) { t.goroutine = goroutineID() }

// checkTurn notes the goroutine that turns the loop.
func checkTurn(l *Loop) { l.goroutine = goroutineID() }

// checkCallback finds a callback that is run from inside a task.
func checkCallback(l *Loop) {
	if l.current != nil {
		panic(fmt.Sprintf("engine: callback inside task %q", l.current.Name()))
	}
}

// checkOwner finds a goroutine that touches what a loop owns.
func checkOwner(l *Loop) {
	owner := l.goroutine
	if l.current != nil {
		owner = l.current.goroutine
	}
	if owner != 0 && owner != goroutineID() && !l.draining.done {
		panic(fmt.Sprintf("engine: loop %d touched by a foreign goroutine", l.index))
	}
}

// checkRelease finds a buffer that is given back twice.
func checkRelease(c *bufferClass, b []byte) {
	for _, x := range c.free {
		if unsafe.SliceData(x) == unsafe.SliceData(b) {
			panic("engine: buffer released twice")
		}
	}
}

// goroutineID reads the number from the header of a stack trace: slow, and only for this.
func goroutineID() (id uint64) {
	var b [64]byte
	const prefix = len("goroutine ")
	for _, digit := range b[prefix:runtime.Stack(b[:], false)] {
		if digit < '0' || digit > '9' {
			break
		}
		id = id*10 + uint64(digit-'0')
	}
	return id
}
