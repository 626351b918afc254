//go:build !linux

package engine

// The engine stands on epoll. Off Linux the build stops here, with this name as the message.
func newPoller() (Poller, error) { return larboard_engine_needs_linux() }
