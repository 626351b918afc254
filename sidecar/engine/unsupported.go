//go:build !unix

package engine

// The engine needs the sockets of a Unix. Elsewhere the build stops here, with this name as
// the message.
func newPoller() (Poller, error) { return larboard_engine_needs_a_unix_system() }

func newNetpoll() Poller { return nil }

const haveEpoll = false
