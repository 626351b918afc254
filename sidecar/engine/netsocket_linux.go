package engine

import "golang.org/x/sys/unix"

const (
	pollHalfClosed = unix.POLLRDHUP
	endsUnseen     = Ready(0)
	haveEpoll      = true
)
