package engine

import (
	"errors"
	"net"
	"os"
)

// The errors that callers branch on. All of them reach a task as the result of a park.
var (
	// ErrClosed: the connection (or engine) was closed locally. It is also net.ErrClosed.
	ErrClosed error = &sentinel{text: "engine: closed", alias: net.ErrClosed}
	// ErrDrain: the engine's drain deadline has passed.
	ErrDrain error = &sentinel{text: "engine: drained"}
	// ErrPeerReset: the watched connection was reset by its peer (see Conn.WatchAbort).
	ErrPeerReset error = &sentinel{text: "engine: reset by peer"}
	// ErrTimeout: a deadline has passed. It is also os.ErrDeadlineExceeded and a net.Error.
	ErrTimeout error = &timeoutError{}
	// ErrOverload: a bounded queue of the engine is full.
	ErrOverload error = &sentinel{text: "engine: overloaded"}
	// ErrWouldBlock: the operation needs to wait, and there is no task to park.
	ErrWouldBlock error = &wouldBlockError{}
)

// errQueueFull ends a connection whose bounded output queue is full: only a peer that
// makes crypto/tls answer without ever reading gets there.
var errQueueFull = errors.New("engine: output queue full")

// errHandshakeBroken is the outcome of a handshake that a panic ended.
var errHandshakeBroken = errors.New("engine: handshake did not end")

type sentinel struct {
	text  string
	alias error
}

func (e *sentinel) Error() string        { return e.text }
func (e *sentinel) Is(target error) bool { return e.alias != nil && target == e.alias }

type timeoutError struct{}

func (*timeoutError) Error() string        { return "engine: deadline exceeded" }
func (*timeoutError) Timeout() bool        { return true }
func (*timeoutError) Temporary() bool      { return true }
func (*timeoutError) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// wouldBlockError is temporary, which is what makes crypto/tls keep what it has read so far
// (readRecordOrCCS stores only errors that are not temporary).
type wouldBlockError struct{}

func (*wouldBlockError) Error() string   { return "engine: would block" }
func (*wouldBlockError) Timeout() bool   { return false }
func (*wouldBlockError) Temporary() bool { return true }
