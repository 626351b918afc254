package engine

// NewEpoll gives the external tests the poller of Linux.
var NewEpoll = newPoller
