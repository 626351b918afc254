//go:build larboard_debug

package engine

import (
	"bytes"
	"fmt"
	"runtime"
	"unsafe"
)

// The checks of the debug build panic where a rule of the package is broken, in the task
// that breaks it.

// checkPark is called wherever a task is about to give the loop away.
func checkPark(t *Task) {
	l := t.loop
	switch {
	case l.current != t:
		panic(fmt.Sprintf("engine: park of task %q by somebody else", t.Name()))
	case l.belowTLS:
		panic("engine: park below tls.Conn.Write, which holds a lock")
	case t.goroutine == 0:
		t.goroutine = goroutineID()
	case t.goroutine != goroutineID():
		panic(fmt.Sprintf("engine: park of task %q on a foreign goroutine", t.Name()))
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

// debugState is what the debug build adds to a task.
type debugState struct {
	goroutine uint64 // of its coroutine
}

// goroutineID reads the number from the header of a stack trace: slow, and only for this.
func goroutineID() (id uint64) {
	var b [64]byte
	fields := bytes.Fields(b[:runtime.Stack(b[:], false)])
	fmt.Sscanf(string(fields[1]), "%d", &id)
	return id
}
